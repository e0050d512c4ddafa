"""How far a run has got: a bar on a terminal, else a line now and then. Both on stderr."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

BAR_SECONDS = 0.25
LINE_SECONDS = 5.0


class Progress(AbstractContextManager["Progress"]):
    """`update` may be called at every step: it asks for the numbers at most four times a second."""

    def __init__(self, title: str, shown: bool = True) -> None:
        self.title = title
        self.shown = shown
        self.bar: Any = None
        self.task: Any = None
        self.wait = LINE_SECONDS
        self.next = time.monotonic() + LINE_SECONDS if shown else float("inf")
        if shown and sys.stderr.isatty():
            self._make_bar()

    def _make_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
        )
        # refreshed by hand: a thread of its own would run beside the steps that are timed
        self.bar = Bar(*columns, console=Console(stderr=True), auto_refresh=False, transient=True)
        self.task = self.bar.add_task(self.title, total=1.0, text="")
        self.wait, self.next = BAR_SECONDS, 0.0

    def update(self, numbers: Callable[[], tuple[float | None, str]]) -> None:
        """Show the share that is done, None if unknown, and a text."""
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + self.wait
        self._show(*numbers())

    def now(self, text: str) -> None:
        """Show `text` at once: what is done after the last step."""
        if self.shown:
            self._show(1.0, text)

    def _show(self, share: float | None, text: str) -> None:
        if self.bar is None:
            print(f"{self.title}: {text}", file=sys.stderr, flush=True)  # noqa: T201
            return
        self.bar.update(self.task, total=None if share is None else 1.0, completed=share or 0.0, text=text)
        self.bar.refresh()

    def __enter__(self) -> "Progress":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

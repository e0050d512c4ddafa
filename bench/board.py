"""How a sweep is getting on: a line for each cell that ends and, on a terminal, a live table below them."""

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from statistics import median
from types import TracebackType
from typing import Any

from bench.record import FINE, Record, finite, title

REFRESH_SECONDS = 1.0  # seldom: drawing takes time from the cell that is timed


@dataclass(frozen=True)
class Running:
    """A cell under way: its place in the sweep, seconds since it began, and the last that it said."""

    index: int
    seconds: float
    said: str


class Pace:
    """How long cells take, learnt from records: the median of the same solver on the same dataset, else of all."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def learn(self, record: Record) -> None:
        seconds = record["cost"].get("wall_seconds")
        if finite(seconds):
            self._seconds[_kind(title(record["config"]))].append(float(seconds))

    def guess(self, cell: str) -> float | None:
        """Seconds that the cell of this title will take; None if no record tells."""
        known = self._seconds.get(_kind(cell)) or [s for group in self._seconds.values() for s in group]
        return median(known) if known else None

    def left(self, waiting: Iterable[str], running: Iterable[tuple[str, float]], slots: int) -> float | None:
        """Seconds until all have ended, given the titles that wait, and title and seconds so far of those that run."""
        guesses = [(self.guess(cell), 0.0) for cell in waiting] + [(self.guess(cell), s) for cell, s in running]
        if any(guess is None for guess, _ in guesses):
            return None
        return sum(max(0.0, (guess or 0.0) - so_far) for guess, so_far in guesses) / slots


def _kind(cell: str) -> str:
    return cell.rpartition(" seed ")[0]


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def say(text: str) -> None:
    """A line to stdout, if it can be written."""
    _quiet_where_impossible(lambda: print(text, flush=True))  # noqa: T201


def _quiet_where_impossible(write: Callable[[], None]) -> None:
    """Write to stdout; where it cannot be written to, this process goes on and is quiet.

    Nobody reads it any more, as after `| head`, its terminal is gone, or the disk that it is kept on is full.
    """
    try:
        write()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Board(AbstractContextManager["Board"]):
    """`cells` are the titles of the sweep's cells in order. The table is drawn once a second, where there is one."""

    def __init__(self, cells: Sequence[str], slots: int = 1) -> None:
        self.cells, self.slots = cells, slots
        self.pace = Pace()
        self.counts: Counter[str] = Counter()
        self.waiting = set(range(len(cells)))
        self._live: Any = None
        self._running: Sequence[Running] = ()
        self._begun = False
        self._next = 0.0

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._live is None:
            say(text)
        else:
            put = partial(self._live.console.print, text, markup=False, highlight=False, soft_wrap=True)
            _quiet_where_impossible(put)

    def began(self, index: int) -> None:
        self.waiting.discard(index)
        self._running = [*self._running, Running(index, 0.0, "")]
        self._next = 0.0

    def ended(self, index: int, status: str, text: str, cached: bool) -> None:
        """The cell has a record with this line, or none and the line says why."""
        self.waiting.discard(index)
        self._running = [one for one in self._running if one.index != index]
        self.counts["cached" if cached else "done"] += 1
        self.counts["failed"] += status not in FINE
        width = len(str(len(self.cells)))
        end = " [cached]" if cached else "" if self._live else self._to_go()
        self.say(f"[{index + 1:{width}}/{len(self.cells)}] {text}{end}")
        self._next = 0.0

    def show(self, running: Sequence[Running]) -> None:
        """Draw the table if there is one and it is time; without one, say once how long all will take, if known."""
        self._running = running
        if self._live is None and not self._begun and running and self._seconds_left(running) is not None:
            self.say(self.summary(running))
        self._begun = True
        if self._live is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REFRESH_SECONDS
        _quiet_where_impossible(partial(self._live.update, self._table(running), refresh=True))

    def summary(self, running: Sequence[Running]) -> str:
        """`done 3, cached 2, failed 1, running 1, left 5, about 3 min to go`."""
        numbers = {**{name: self.counts[name] for name in ("done", "cached", "failed")}, "running": len(running)}
        parts = [f"{name} {number}" for name, number in {**numbers, "left": len(self.waiting)}.items()]
        seconds = self._seconds_left(running)
        return ", ".join(parts + ([] if seconds is None else [f"about {duration(seconds)} to go"]))

    def _to_go(self) -> str:
        """What a line without a table below it ends with while there are cells to run; empty if nobody knows."""
        seconds = self._seconds_left(self._running) if self.waiting or self._running else None
        return "" if seconds is None else f"; about {duration(seconds)} to go"

    def _seconds_left(self, running: Sequence[Running]) -> float | None:
        under_way = [(self.cells[one.index], one.seconds) for one in running]
        return self.pace.left([self.cells[i] for i in self.waiting], under_way, self.slots)

    def _table(self, running: Sequence[Running]) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for one in running:
            cell = self.cells[one.index]
            said = one.said.removeprefix(cell).removeprefix(":").strip()  # cells begin their lines with their title
            table.add_row(Text(cell, style="bold"), duration(one.seconds), Text(said, style="dim"))
        outer = Table.grid()
        outer.add_column(no_wrap=True, overflow="ellipsis")
        outer.add_row(Text(self.summary(running)))
        outer.add_row(table)
        return outer

    def __enter__(self) -> "Board":
        from rich.console import Console

        console = Console()
        if console.is_terminal:
            from rich.live import Live

            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            _quiet_where_impossible(self._live.stop)
            self._live = None

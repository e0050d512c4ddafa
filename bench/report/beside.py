"""A second process that reads and draws meanwhile: two cores shorten the report of thousands of records.

It is forked: it has all that this process has, without a copy. Where that is unsafe, or there is one core, everything
is done in turn.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

MANY = 2_000  # records, below which a second process costs more than it gives

Made = TypeVar("Made")


class Lost(Exception):
    """The second process has ended without a word."""


def worth(records: int) -> bool:
    """Whether a second process shortens the report of so many records."""
    return records > MANY and sys.platform == "linux" and (os.cpu_count() or 1) > 1


def begin(function: Callable[..., Made], *given: Any, beside: bool) -> Callable[[], Made]:
    """Begin function(*given) `beside` this process, else do it at once; what is returned waits for its result.

    The wait raises what the function raised, and Lost where its process was killed.
    """
    if not beside:
        made = function(*given)
        return lambda: made
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, given), daemon=True)
    process.start()
    theirs.close()

    def wait() -> Made:
        try:
            made, error = ours.recv()
        except EOFError:
            process.join()
            raise Lost(f"the process that reads or draws beside this one ended (status {process.exitcode})") from None
        process.join()
        if error is not None:
            raise error
        return made

    return wait


def _answer(pipe: Connection, function: Callable[..., Made], given: tuple[Any, ...]) -> None:
    try:
        pipe.send((function(*given), None))
    except Exception as error:
        error.add_note(traceback.format_exc())
        pipe.send((None, error))

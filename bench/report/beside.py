"""A second process that reads and draws meanwhile: two cores shorten the report of hundreds of records.

It is forked: it has all that this process has, without a copy. Where that is unsafe, or there is one core, everything
is done in turn.
"""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from bench.env import affinity
from bench.keeper import PR_SET_PDEATHSIG, prctl

WIDE = 4  # bytes of a number
MANY = 100  # records, up to which a second process costs more than it gives

Made = TypeVar("Made")


class Lost(Exception):
    """The second process has ended without a word."""


def worth(records: int) -> bool:
    """Whether a second process shortens the report of so many records."""
    return records > MANY and sys.platform == "linux" and len(affinity() or [0]) > 1


def begin(function: Callable[..., Made], *given: Any, beside: bool) -> Callable[[], Made]:
    """Begin function(*given) `beside` this process, else do it at once; what is returned waits for its result.

    The wait raises what the function raised, and Lost where its process was killed.
    """
    if not beside:
        made = function(*given)
        return lambda: made
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(os.getpid(), ours, theirs, function, given), daemon=True)
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


def share(jobs: Sequence[Callable[[], Made]], *, beside: bool) -> Callable[[], list[Made]]:
    """Begin the `jobs` as `begin` does; what is returned helps with those that are not begun.

    It gives what was made of each, in order.
    """
    if not beside:
        return begin(lambda: [job() for job in jobs], beside=False)
    numbers = _numbers(len(jobs))

    def work() -> dict[int, Made]:
        made: dict[int, Made] = {}
        while number := os.read(numbers, WIDE):
            i = int.from_bytes(number)
            made[i] = jobs[i]()
        os.close(numbers)
        return made

    theirs = begin(work, beside=True)

    def wait() -> list[Made]:
        made = work() | theirs()
        return [made[i] for i in range(len(jobs))]

    return wait


def _numbers(n: int) -> int:
    """A pipe to read 0, ..., n - 1 from, WIDE bytes each: of processes that share it, each number is one's alone.

    Unlike a lock, it is held by nobody who may be killed.
    """
    numbers, ours = os.pipe()
    with open(ours, "wb") as pipe:
        os.set_blocking(ours, False)  # raises for more than it holds, tens of thousands, and never waits
        pipe.writelines(i.to_bytes(WIDE) for i in range(n))
    return numbers


def _answer(
    parent: int, theirs: Connection, pipe: Connection, function: Callable[..., Made], given: tuple[Any, ...]
) -> None:
    theirs.close()  # or it would wait in `send` for itself to read, when its parent is gone
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return  # it has died meanwhile
    try:
        pipe.send((function(*given), None))
    except Exception as error:
        error.add_note(traceback.format_exc())
        pipe.send((None, error))

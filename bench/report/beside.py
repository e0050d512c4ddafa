"""A second process that reads and draws meanwhile: two cores halve the report of thousands of records."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any, TypeVar

MANY = 2_000  # records, below which a second process costs more than it gives

Item = TypeVar("Item")
Made = TypeVar("Made")


class InTurn(Executor):
    """Does what it is given at once, in this process; errors are raised where it is given."""

    def submit(self, function: Callable[..., Made], /, *given: Any, **named: Any) -> Future[Made]:
        """A future that is done."""
        future: Future[Made] = Future()
        future.set_result(function(*given, **named))
        return future


def helper(records: int) -> Executor:
    """Who reads and draws what so many `records` need: this process, or another beside it."""
    if records <= MANY or (os.cpu_count() or 1) < 2:
        return InTurn()
    # forked, it has imported all that this process has; elsewhere that is unsafe, and it imports anew
    method = "fork" if sys.platform == "linux" else None
    return ProcessPoolExecutor(1, multiprocessing.get_context(method))


def shared(other: Executor, function: Callable[[Item], Made], items: Sequence[Item]) -> Iterator[Made]:
    """`function` of each of `items`, in their order: `other` begins with the first, this process with the last."""
    begun = [other.submit(function, item) for item in items]
    own: list[Made] = []
    while begun and begun[-1].cancel():
        begun.pop()
        own.append(function(items[len(begun)]))
    for future in begun:
        yield future.result()
    yield from reversed(own)

"""Work against precision: seconds and error of a log-density over the effort of its integration.

Two solvers' inference times may be compared at equal accuracy: each at the least effort whose log-density stays within
TOLERANCE of a fine integration's, in the mean of the absolute differences over test points.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from statistics import median
from typing import Any

from torch import Generator

from bench.measure import repeat, rows_within
from bench.metrics import subset
from datasets.base import Points, Problem, Values
from solvers.base import Diverged, Fit

EFFORTS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of `Fit.transport`: 2 is twice the steps, or tolerances / 2**order
LEAST = 2.0**-10  # halved so far where the accuracy allows: no integrator here starts from a thousand steps
FINE = 4.0
TOLERANCE = 0.01  # nats
ROWS = 2000
SHARE = 0.05  # of the seconds that one evaluation may take: all of them, repeated, take about twenty times as long
SEED = 1804


def measure(fit: Fit, problem: Problem, seconds: float) -> dict[str, Any]:
    """The `accurate_` parts of a record's cost and `work_precision`; empty where there is no density.

    At ROWS test points at most, drawn from a fixed seed, or as many as get evaluated in `seconds` altogether.
    """
    test = subset(problem.test, ROWS, Generator(problem.test.device).manual_seed(SEED))
    density = fit.transport("test").log_prob
    if density is None:
        return {}
    with suppress(Diverged):
        rows, _ = rows_within(lambda n: density(test[:n]), len(test), SHARE * seconds, test.device)
        points = [*work_precision(fit, test[:rows])][::-1]
        found = accurate(points)
        return {
            "accurate_rows": rows,
            "accurate_effort": found and found["effort"],
            "accurate_seconds": found and found["seconds"],
            "work_precision": points,
        }
    return {}


def work_precision(fit: Fit, test: Points) -> Iterator[dict[str, float | None]]:
    """{effort, seconds, error} for each of EFFORTS, the last first, then for ever less effort while TOLERANCE holds.

    It is halved until the error exceeds that, or nothing changes, as of one step. The error is None where the
    integration broke down. A log-density that is the same at every effort, as one that integrates nothing, is one
    point of effort 1 and error 0. Raises Diverged where the fine one does.
    """
    truth = _density(fit, FINE)(test).detach().double()
    if _same(fit, truth, test):
        yield {"effort": 1.0, "seconds": _seconds(_density(fit, 1.0), test), "error": 0.0}
        return
    effort = EFFORTS[-1]
    before: float | None = None
    while effort >= LEAST:
        error, seconds = _at(_density(fit, effort), test, truth)
        if effort < EFFORTS[0] and error == before:
            return
        yield {"effort": effort, "seconds": seconds, "error": error}
        if effort <= EFFORTS[0] and not _within(error):
            return
        effort, before = effort / 2, error


def _at(density: Callable[[Points], Values], test: Points, truth: Values) -> tuple[float | None, float | None]:
    """Mean absolute error against the `truth`, and seconds; None for both where the integration breaks down."""
    try:
        error = (density(test).detach().double() - truth).abs().mean().item()
        return _finite(error), _seconds(density, test)
    except Diverged:
        return None, None


def accurate(points: list[dict[str, float | None]]) -> dict[str, float | None] | None:
    """The point of least effort from which on all errors are within TOLERANCE; None if the last one is not."""
    found = None
    for point in reversed(points):
        if not _within(point["error"]):
            break
        found = point
    return found


def _within(error: float | None) -> bool:
    return error is not None and error <= TOLERANCE


def _same(fit: Fit, truth: Values, test: Points) -> bool:
    """Whether effort changes nothing."""
    with suppress(Diverged):
        return bool((_density(fit, EFFORTS[0])(test).detach().double() == truth).all())
    return False


def _density(fit: Fit, effort: float) -> Callable[[Points], Values]:
    log_prob = fit.transport("test", effort).log_prob
    assert log_prob is not None, "a density at effort 1 but none at another"
    return log_prob


def _seconds(density: Callable[[Points], Values], test: Points) -> float:
    return median(repeat(lambda: density(test), test.device))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

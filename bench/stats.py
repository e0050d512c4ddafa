"""Statistics of runs: arrays and a numpy rng in, numbers out.

Seconds and losses: smaller is better throughout. "Strata" are a sequence of arrays, one a dataset, with one value
a seed each; a (datasets, seeds) matrix is one too. Intervals are percentile bootstrap intervals in which each
stratum is resampled by itself (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice", section
4.1). With three or four seeds they cannot reach beyond the smallest and largest value, and cover less than their
level says.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.floating]
Strata = Sequence[Array] | Array

DRAWS = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate and its confidence interval; `low` and `high` are NaN where there was one value a stratum."""

    value: float
    low: float
    high: float


def bootstrap(statistic: Callable[..., Array], strata: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """`statistic` of the strata with its percentile bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    `statistic(*strata)` takes arrays (DRAWS, n_i), one a stratum, and gives (DRAWS,).
    """
    rows = [_values(stratum) for stratum in strata]
    value = statistic(*(row[None] for row in rows)).item()
    if all(len(row) == 1 for row in rows):
        return Interval(value, math.nan, math.nan)
    resampled = (row[_indices(len(row), rng)] for row in rows)
    return Interval(value, *_ends(statistic(*resampled), level))


def of_medians(function: Callable[..., Array], strata: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """`bootstrap` of a function of the strata's medians, to the digit, without making the resamples.

    `function(*medians)` takes arrays (k,), one a stratum, and gives (k,).
    """
    rows = [_values(stratum) for stratum in strata]
    value = function(*(np.median(row, keepdims=True) for row in rows)).item()
    if all(len(row) == 1 for row in rows):
        return Interval(value, math.nan, math.nan)
    return Interval(value, *_ends(function(*(_resampled_medians(row, rng) for row in rows)), level))


def median(values: Array, rng: Generator, level: float = LEVEL) -> Interval:
    """Median of values (n,)."""
    return of_medians(lambda x: x, [values], rng, level)


def ratio_of_medians(a: Array, b: Array, rng: Generator, level: float = LEVEL) -> Interval:
    """median(a) / median(b) of independent a (n,) and b (m,), all positive: how many times slower a is."""
    return of_medians(lambda x, y: x / y, [_positive(a), _positive(b)], rng, level)


def paired_ratio(a: Array, b: Array, rng: Generator, level: float = LEVEL) -> Interval:
    """exp(median log(a_i / b_i)) of interleaved timings a and b, both (n,) and positive; pairs are resampled."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} timings against {len(b)}: pairs need as many of both")
    logs = np.log(_positive(a) / _positive(b))
    return of_medians(np.exp, [logs], rng, level)


def geometric_mean_ratio(a: Strata, b: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """exp(mean over datasets of log(median(a_d) / median(b_d))) of strata of positive numbers.

    The mean of Fleming and Wallace 1986: that of b over a is its reciprocal. Seeds are resampled within
    datasets, of a and b apart.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} datasets against {len(b)}: give the same datasets in the same order")

    def function(*medians: Array) -> Array:
        logs = np.log(medians)
        return np.exp(np.mean(logs[: len(a)], 0) - np.mean(logs[len(a) :], 0))

    return of_medians(function, [*map(_positive, a), *map(_positive, b)], rng, level)


def interquartile_mean(scores: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """Mean of all runs' scores without the lowest and highest floor(n / 4) of them (Agarwal et al. 2021, 4.3)."""

    def statistic(*rows: Array) -> Array:
        pooled = np.sort(np.concatenate(rows, -1), -1)
        cut = pooled.shape[-1] // 4
        return pooled[:, cut : pooled.shape[-1] - cut].mean(-1)

    return bootstrap(statistic, scores, rng, level)


def probability_of_improvement(a: Strata, b: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """Mean over datasets of P(a_d < b_d) + 1/2 P(a_d = b_d), over all pairs of seeds: how often a beats b.

    Agarwal et al. 2021, section 4.3 (there larger is better): Mann and Whitney's U over the number of pairs.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} datasets against {len(b)}: give the same datasets in the same order")

    def statistic(*rows: Array) -> Array:
        pairs = zip(rows[: len(a)], rows[len(a) :], strict=True)
        wins = [0.5 + 0.5 * np.sign(y[:, None, :] - x[:, :, None]).mean((1, 2)) for x, y in pairs]
        return np.mean(wins, 0)

    return bootstrap(statistic, [*a, *b], rng, level)


def performance_profile(seconds: Array, taus: Array) -> Array:
    """rho_s(tau), the share of problems p on which t_ps / min_s t_ps <= tau (Dolan and More 2002, eq. 2.1).

    `seconds` (solvers, problems) > 0, inf where a solver failed; `taus` (k,); gives (solvers, k). A problem that
    nobody solved counts as failed by all.
    """
    times = np.asarray(seconds, float)
    if np.isnan(times).any() or (times <= 0).any():
        raise ValueError("seconds must be positive; write a run that failed as inf")
    best = times.min(0)
    ratios = np.full_like(times, np.inf)
    np.divide(times, best, out=ratios, where=np.isfinite(times))
    return (ratios[:, :, None] <= np.asarray(taus)[None, None, :]).mean(1)


def time_to_target(seconds: Array, values: Array, target: float) -> float | None:
    """The step clock at the first of two successive validations <= target; None if there are no two.

    `seconds` and `values` (n,) are a run's validations in order; NaN is no success. Of a run with one validation, as a
    solver of one step has, that one is enough.
    """
    reached = np.asarray(values, float) <= target
    both = np.flatnonzero(reached if len(reached) == 1 else reached[:-1] & reached[1:])
    return float(seconds[both[0]]) if len(both) else None


def common_target(curves: Mapping[str, Sequence[Array]], slack: float = 0.02) -> float | None:
    """q = max over solvers of median over seeds of min over time of the validation NLL, + slack (nats).

    `curves` has a solver's validation losses (n,), one array a seed; a run without a finite one counts as inf. A
    solver most of whose runs are such sets no target: it has not reached it. None if all are.
    """
    medians = [np.median([_best(curve) for curve in runs]).item() for runs in curves.values() if len(runs)]
    reached = [value for value in medians if math.isfinite(value)]
    return max(reached) + slack if reached else None


def not_converged(seconds: Array, values: Array, gain: float = 0.02) -> bool:
    """Whether the best loss of a run fell by more than `gain` in the last quarter of its time, seconds[-1].

    `seconds` and `values` (n,) are a run's validations in order. True for a run with none before that quarter.
    """
    times, losses = np.asarray(seconds, float), np.asarray(values, float)
    best = _best(losses)
    return not math.isfinite(best) or _best(losses[times <= 0.75 * times[-1]]) - best > gain


def _ends(drawn: Array, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return low.item(), high.item()


def _indices(n: int, rng: Generator) -> NDArray[np.integer]:
    """Which of n values each resample takes, (DRAWS, n)."""
    return rng.integers(n, size=(DRAWS, n))


def _resampled_medians(row: Array, rng: Generator) -> Array:
    """Medians of the resamples of a row (n,), (DRAWS,): where the counts of its sorted values pass the half."""
    counts, rng.bit_generator.state = _counts(len(row), json.dumps(rng.bit_generator.state))
    order = np.argsort(row)
    passed = counts[order].astype(np.min_scalar_type(len(row)))
    for before, after in pairwise(passed):  # a cumulative sum; cumsum(0) takes ten times as long
        after += before
    middle = ((len(row) - 1) // 2, len(row) // 2)
    lower, upper = (row[order[(passed <= k).sum(0, dtype=passed.dtype)]] for k in middle)
    return (lower + upper) / 2


@lru_cache(maxsize=32)
def _counts(n: int, state: str) -> tuple[NDArray[np.integer], Mapping[str, Any]]:
    """How often each of n values is in each resample, (n, DRAWS), by an rng of that state, and its state thereafter.

    Cached, as a report's estimates all begin from one state and mostly are of as many seeds.
    """
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(state)
    flat = _indices(n, rng) * DRAWS + np.arange(DRAWS)[:, None]
    counts = np.bincount(flat.ravel(), minlength=n * DRAWS).reshape(n, DRAWS)
    return counts.astype(np.min_scalar_type(counts.max())), rng.bit_generator.state


def _best(curve: Array) -> float:
    losses = np.asarray(curve, float)
    return np.min(losses, initial=np.inf, where=np.isfinite(losses)).item()


def _values(stratum: Array) -> Array:
    row = np.asarray(stratum, float)
    if row.ndim != 1 or len(row) == 0 or np.isnan(row).any():
        raise ValueError(f"a stratum must be a non-empty row of numbers, not an array of shape {row.shape} or NaN")
    return row


def _positive(stratum: Array) -> Array:
    row = _values(stratum)
    if not ((row > 0) & np.isfinite(row)).all():
        raise ValueError("ratios need finite numbers above 0: penalise the runs that failed")
    return row

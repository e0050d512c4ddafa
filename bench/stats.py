"""Statistics of runs: arrays and a numpy rng in, numbers out.

Seconds and losses: smaller is better throughout. "Strata" are a sequence of arrays, one a dataset, with one value
a seed each; a (datasets, seeds) matrix is one too. Intervals are bootstrap intervals in which each stratum is resampled
by itself (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice", section 4.1), but where they fail:

- No resample of a median reaches beyond the smallest and largest value, so of three values it would cover 3/4 of the
  time. Below SMALL values a stratum, intervals of medians are Student's t, of logarithms where `log` says so.
- Resamples of n values scatter less than n values do, by (n - 1) / n. Intervals of means are expanded by that, and
  there is none below FREEDOM degrees of freedom: of one dataset with three or four seeds.
- Where no pair of seeds is the other way round, resamples of a probability of improvement have no spread at all: its
  interval is Newcombe's, which resamples nothing.

tests/bench/test_stats.py measures what they cover at 3, 5 and 10 seeds, of normal and lognormal values and of seconds
of which one in five is a penalty: 90 to 97 % at nominal 95 %. `ratio_of_medians` covers up to 98 %; of four datasets
`geometric_mean_ratio`, `interquartile_mean_ratio` and a bootstrapped ratio of sums up to 99.5 %, as medians of few
seeds are coarse, and a share of datasets 97 % and more. Datasets are held fixed.
"""

import json
import math
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import neg
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

Array = NDArray[np.floating]
Strata = Sequence[Array] | Array

DRAWS = 2000
LEVEL = 0.95
SMALL = 5  # values a stratum, from which on medians are bootstrapped
PAIRS = 256  # of runs of two solvers on a dataset
BLOCK = 100  # draws of them at a time
FREEDOM = 4  # degrees of freedom, from which on other statistics are
DEVIATIONS = 6.0  # so near the middle a resample's median is looked for first


class Interval(NamedTuple):
    """An estimate and its confidence interval; `low` and `high` are NaN where there are too few values for one."""

    value: float
    low: float
    high: float


def bootstrap(statistic: Callable[..., Array], strata: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """`statistic` of the strata with its expanded percentile interval (Hesterberg 2015, The American Statistician 69).

    `statistic(*strata)` takes arrays (DRAWS, n_i), one a stratum, and gives (DRAWS,). The tails cut are
    Phi(-sqrt(n / (n - 1)) t), with n the mean stratum and t the quantile of Student's t of sum(n_i - 1) degrees of
    freedom: those of the plain percentile interval as n grows.
    """
    rows = [_values(stratum) for stratum in strata]
    value = statistic(*(row[None] for row in rows)).item()
    return _expanded(value, rows, lambda: statistic(*(row[_indices(len(row), rng)] for row in rows)), level)


def bootstrap_of_medians(
    statistic: Callable[..., Array], strata: Strata, rng: Generator, level: float = LEVEL
) -> Interval:
    """`bootstrap` of a statistic that needs the medians of the strata only: it takes (DRAWS,) of each."""
    rows = [_values(stratum) for stratum in strata]
    value = statistic(*(np.median(row, keepdims=True) for row in rows)).item()
    return _expanded(value, rows, lambda: statistic(*(_resampled_medians(row, rng) for row in rows)), level)


def contrast(weights: Sequence[float], strata: Strata, rng: Generator, level: float = LEVEL, *, log: bool) -> Interval:
    """sum_i weights_i median(strata_i); with `log` prod_i median(strata_i)^weights_i, of positive values.

    From SMALL values a stratum its plain percentile bootstrap interval (Efron and Tibshirani 1993, 13.3). Below, that
    of the contrast of means, with `log` of logarithms, by Student's t with Welch and Satterthwaite's degrees of
    freedom, widened to hold the contrast of medians; strata of one value scatter like nothing.
    """
    rows = [(_positive if log else _values)(stratum) for stratum in strata]
    scale, back = (np.log, exp) if log else (np.asarray, float)

    def of(medians: Iterable[Any]) -> Array:
        return np.asarray(sum(w * scale(middle) for w, middle in zip(weights, medians, strict=True)))

    value = of(np.median(row) for row in rows).item()
    if all(len(row) == 1 for row in rows):
        low = high = math.nan
    elif min(len(row) for row in rows) < SMALL:
        low, high = _welch(weights, [scale(row) for row in rows], level)
        low, high = min(low, value), max(high, value)
    else:
        low, high = _ends(of(_resampled_medians(row, rng) for row in rows), (1 - level) / 2)
    return Interval(back(value), back(low), back(high))


def exp(value: float) -> float:
    """e^value, infinite where that is too large for a float."""
    return math.inf if value > math.log(sys.float_info.max) else math.exp(value)


def median(values: Array, rng: Generator, level: float = LEVEL, *, log: bool = False) -> Interval:
    """Median of values (n,); `log` keeps the interval of a few positive values positive."""
    return contrast([1.0], [values], rng, level, log=log)


def ratio_of_medians(a: Array, b: Array, rng: Generator, level: float = LEVEL) -> Interval:
    """median(a) / median(b) of independent a (n,) and b (m,), all positive: how many times slower a is."""
    return contrast([1.0, -1.0], [a, b], rng, level, log=True)


def paired_ratio(a: Array, b: Array, rng: Generator, level: float = LEVEL) -> Interval:
    """exp(median log(a_i / b_i)) of interleaved timings a and b, both (n,) and positive; pairs are resampled."""
    if len(a) != len(b):
        raise ValueError(f"{len(a)} timings against {len(b)}: pairs need as many of both")
    logs = np.log(_positive(a) / _positive(b))
    return Interval(*map(exp, contrast([1.0], [logs], rng, level, log=False)))


def geometric_mean_ratio(a: Strata, b: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """exp(mean over datasets of log(median(a_d) / median(b_d))) of strata of positive numbers.

    The mean of Fleming and Wallace 1986: that of b over a is its reciprocal. Seeds are resampled within
    datasets, of a and b apart.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} datasets against {len(b)}: give the same datasets in the same order")
    weights = [1 / len(a)] * len(a) + [-1 / len(a)] * len(a)
    return contrast(weights, [*a, *b], rng, level, log=True)


def interquartile_mean_ratio(a: Strata, b: Strata, rng: Generator, level: float = LEVEL) -> Interval:
    """exp of the mean of all log(a_di / b_dj) without the lowest and highest quarter of them.

    Over datasets d and pairs of runs (i, j) of positive numbers: what Agarwal et al. 2021 (4.3) do with scores, done
    with quotients. All pairs up to PAIRS a dataset, beyond that each run with some of the others. Seeds are resampled
    within datasets, of a and b apart.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} datasets against {len(b)}: give the same datasets in the same order")

    def middle(*rows: Array) -> Array:
        pairs = zip(rows[: len(a)], rows[len(a) :], strict=True)
        pooled = np.concatenate([_quotients(x, y) for x, y in pairs], 1)
        pooled.sort(-1)
        cut = pooled.shape[-1] // 4
        return pooled[:, cut : pooled.shape[-1] - cut].mean(-1)

    def drawn() -> Array:  # block by block: of ten thousand runs all draws are 160 MB, and their pairs as much
        def block() -> Array:
            return middle(*(row[rng.integers(len(row), size=(BLOCK, len(row)))] for row in rows))

        return np.concatenate([block() for _ in range(DRAWS // BLOCK)])

    rows = [np.log(_positive(row)) for row in (*a, *b)]
    value = middle(*(row[None] for row in rows)).item()
    return Interval(*map(exp, _expanded(value, rows, drawn, level)))


def _quotients(x: Array, y: Array) -> Array:
    """Differences of logarithms x (k, n) and y (k, m), (k, pairs): of run i and run i + s, for all s or some."""
    n, m = x.shape[1], y.shape[1]
    each, some = np.arange(max(n, m)), range(min(n, m, max(1, PAIRS // max(n, m))))
    if n < m:
        return np.concatenate([x[:, (each + s) % n] - y for s in some], 1)
    return np.concatenate([x - y[:, (each + s) % m] for s in some], 1)


def probability_of_improvement(a: Strata, b: Strata, level: float = LEVEL) -> Interval:
    """Mean over datasets of P(a_d < b_d) + 1/2 P(a_d = b_d), over all pairs of seeds: how often a beats b.

    Agarwal et al. 2021, section 4.3 (there larger is better): Mann and Whitney's U over the number of pairs. The
    interval is that of the theta with |theta - estimate| <= z sd(theta), sd^2 the mean of Newcombe's over the datasets
    (2006, Statistics in Medicine 25, part 2, method 5): as the variance of U is concave in theta, datasets that differ
    in theta make it too wide, not too narrow.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} datasets against {len(b)}: give the same datasets in the same order")
    pairs = [(_values(x), _values(y)) for x, y in zip(a, b, strict=True)]
    value = np.mean([0.5 + 0.5 * np.sign(y[None, :] - x[:, None]).mean() for x, y in pairs]).item()
    if all(len(x) == len(y) == 1 for x, y in pairs):
        return Interval(value, math.nan, math.nan)
    theta = np.linspace(0, 1, 10_001)
    more = (1 - theta) / (2 - theta) + theta / (1 + theta)
    variances = [theta * (1 - theta) * (1 + ((len(x) + len(y)) / 2 - 1) * more) / (len(x) * len(y)) for x, y in pairs]
    spread = -ndtri((1 - level) / 2) * np.sqrt(np.sum(variances, 0)) / len(pairs)
    likely = theta[np.abs(theta - value) <= spread + 1e-9]
    return Interval(value, min(likely[0].item(), value), max(likely[-1].item(), value))


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


def data_profile(costs: Array, budgets: Array) -> Array:
    """d_s(kappa), the share of problems that a solver has solved for at most kappa (More and Wild 2009, eq. 2.8).

    `costs` (solvers, problems) are in units of the problem's own (evaluations, or seconds of its cheapest solver's
    step), inf where a solver failed; `budgets` (k,); gives (solvers, k).
    """
    spent = np.asarray(costs, float)
    if np.isnan(spent).any():
        raise ValueError("costs must be numbers; write a run that failed as inf")
    return (spent[:, :, None] <= np.asarray(budgets)[None, None, :]).mean(1)


def mean_ranks(scores: Array, rng: Generator, level: float = LEVEL) -> list[Interval]:
    """Mean rank of each solver over problems, 1 the best, ties shared, with its interval over problems resampled.

    `scores` (solvers, problems), inf where a solver failed. The ranks of a critical-difference diagram (Demsar 2006,
    JMLR 7, section 3.2.2). With fewer than about ten problems, the interval is of these problems' kin and no others.
    """
    ranks = _ranks(np.asarray(scores, float))
    return [bootstrap(lambda drawn: drawn.mean(-1), [row], np.random.default_rng(rng.integers(2**63)), level)
            for row in ranks]  # fmt: skip


def critical_difference(solvers: int, problems: int, level: float = LEVEL) -> float:
    """What two mean ranks must differ by, after Nemenyi: q sqrt(k (k + 1) / (6 N)) (Demsar 2006, section 3.2.2)."""
    if solvers < 2 or problems < 1:
        raise ValueError(f"{solvers} solvers on {problems} problems have no ranking")
    z = np.linspace(-9, 9, 3601)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    low, high = 0.0, 20.0  # of the studentized range of that many normal numbers
    while high - low > 1e-9:
        q = (low + high) / 2
        below = solvers * (density * (ndtr(z) - ndtr(z - q)) ** (solvers - 1)).sum()
        low, high = (q, high) if below < level else (low, q)
    return q / math.sqrt(2) * math.sqrt(solvers * (solvers + 1) / (6 * problems))


class Stairs(NamedTuple):
    """The levels of a run (k,), falling, and at which validations each was held first (k,)."""

    at: NDArray[np.integer]
    levels: Array


def stairs(values: Array) -> Stairs:
    """The levels that two successive validations (n,) held, each lower than all before; NaN holds none.

    Of a run with one validation, as a solver of one step has, that one is enough.
    """
    losses = np.asarray(values, float)
    known = np.where(np.isfinite(losses), losses, np.inf)
    held = known if len(known) == 1 else np.maximum(known[:-1], known[1:])
    lowest = np.minimum.accumulate(held)
    lower = np.isfinite(held)
    lower[1:] &= held[1:] < lowest[:-1]
    at = np.flatnonzero(lower)
    return Stairs(at, held[at])


def first_at(run: Stairs, target: float) -> int | None:
    """The first of the two successive validations at or below the target; None if there are no two."""
    i = bisect_left(run.levels.data, -target, key=neg)  # whose items are plain floats: a third of the time
    return int(run.at[i]) if i < len(run.at) else None


def common_target(best: Mapping[str, Sequence[float]], slack: float = 0.02) -> float | None:
    """q = max over solvers of median over seeds of min over time of the validation NLL, + slack (nats).

    `best` has a solver's lowest validation losses, one a seed; NaN, of a run without a finite one, counts as inf. A
    solver most of whose runs are such sets no target: it has not reached it. None if all are.
    """
    medians = [np.median(np.where(np.isnan(runs), np.inf, runs)).item() for runs in best.values() if len(runs)]
    reached = [value for value in medians if math.isfinite(value)]
    return max(reached) + slack if reached else None


def not_converged(seconds: Array, values: Array, gain: float = 0.02) -> bool:
    """Whether the best loss of a run fell by more than `gain` in the last quarter of its time, seconds[-1].

    `seconds` and `values` (n,) are a run's validations in order. True for a run with none before that quarter.
    """
    times, losses = np.asarray(seconds, float), np.asarray(values, float)
    best = _best(losses)
    return not math.isfinite(best) or _best(losses[times <= 0.75 * times[-1]]) - best > gain


def _ranks(scores: Array) -> Array:
    """Rank of each solver on each problem, (solvers, problems): those below it, and half of those beside it."""
    if np.isnan(scores).any() or scores.ndim != 2 or scores.size == 0:
        raise ValueError("scores must be a matrix (solvers, problems) of numbers; write a run that failed as inf")
    below = (scores[None] < scores[:, None]).sum(1)
    beside = (scores[None] == scores[:, None]).sum(1)
    return below + (beside + 1) / 2


def _welch(weights: Sequence[float], rows: Sequence[Array], level: float) -> tuple[float, float]:
    """Ends of the interval of sum_i w_i mean(row_i) (Welch 1947)."""
    middle = sum(w * row.mean().item() for w, row in zip(weights, rows, strict=True))
    parts = [(w * w * row.var(ddof=1).item() / len(row), len(row) - 1) for w, row in zip(weights, rows, strict=True)
             if len(row) > 1]  # fmt: skip
    most = max((part for part, _ in parts), default=0.0)
    if most == 0:
        return middle, middle
    shares = [(part / most, n) for part, n in parts]  # squares of the parts themselves may leave what a float holds
    total = sum(share for share, _ in shares)
    freedom = total**2 / sum(share**2 / n for share, n in shares)
    half = float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(total) * math.sqrt(most)
    return middle - half, middle + half


def _expanded(value: float, rows: Sequence[Array], drawn: Callable[[], Array], level: float) -> Interval:
    """The interval of `bootstrap` around `value`, of the strata `rows`; `drawn` makes the draws where there is one."""
    freedom = sum(len(row) - 1 for row in rows)
    if freedom < FREEDOM:
        return Interval(value, math.nan, math.nan)
    tail = ndtr(stdtrit(freedom, (1 - level) / 2) * math.sqrt(1 + len(rows) / freedom))
    return Interval(value, *_ends(drawn(), float(tail)))


def _ends(drawn: Array, tail: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return low.item(), high.item()


def _indices(n: int, rng: Generator) -> NDArray[np.integer]:
    """Which of n values each resample takes, (DRAWS, n)."""
    return rng.integers(n, size=(DRAWS, n))


def _resampled_medians(row: Array, rng: Generator) -> Array:
    """Medians of the resamples of a row (n,), (DRAWS,): where the counts of its sorted values pass the half."""
    n = len(row)
    counts, rng.bit_generator.state = _counts(n, json.dumps(rng.bit_generator.state))
    order, middle = np.argsort(row), ((n - 1) // 2, n // 2)
    reach = 1 + int(DEVIATIONS * math.sqrt(n) / 2)
    while (ranks := _ranks_near(counts[order], middle, reach)) is None:
        reach *= 2
    lower, upper = (row[order[rank]] for rank in ranks)
    return (lower + upper) / 2


def _ranks_near(counts: NDArray[np.integer], middle: tuple[int, int], reach: int) -> list[NDArray[np.integer]] | None:
    """Where the sums of `counts` (n, DRAWS) along n pass each of `middle`, if all do within `reach` of the half."""
    n = len(counts)
    first, end = max(0, n // 2 - reach), min(n, n // 2 + reach)
    passed = counts[first:end].astype(np.min_scalar_type(n))
    passed[0] += counts[:first].sum(0, dtype=passed.dtype)
    for before, after in pairwise(passed):  # a cumulative sum; cumsum(0) takes ten times as long
        after += before
    if (first > 0 and passed[0].max() > middle[0]) or passed[-1].min() <= middle[1]:
        return None
    return [first + (passed <= k).sum(0, dtype=passed.dtype) for k in middle]


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

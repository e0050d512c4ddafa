"""Parameters at equal quality: of the sizes that a solver was run in, the smallest that reaches the target.

The NLL of a run is the lowest that two successive validations held, that of a size the median over its seeds. Imports
no torch.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench import stats
from bench.report import tables
from bench.report.tables import Comparison, Target
from bench.stats import Interval

Mean = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of (problems, k) over (problems, k): (k,)
Medians = Sequence[np.ndarray]  # (k,) of each stratum
RESAMPLES = 1000
TAIL = 0.025  # of resamples: what lies beyond an end of a 95 % interval


@dataclass(frozen=True)
class Search:
    """The search for the smallest size of two solvers: the NLLs held by each size, (seeds,), and the target.

    `margin` is what the target lies above the better of the sizes of the worse solver; never below 0, so that both
    have a size that reaches it. Where a resample leaves a solver without a finite median, it sets no target, and its
    largest size counts.
    """

    solver: Mapping[float, np.ndarray]
    reference: Mapping[float, np.ndarray]
    margin: float

    @property
    def strata(self) -> list[np.ndarray]:
        return [*self.solver.values(), *self.reference.values()]

    def found(self, medians: Medians) -> tuple[np.ndarray, np.ndarray]:
        """The smallest size of either solver that reaches the target, (k,), where these are the medians."""
        a, b = np.stack(medians[: len(self.solver)]), np.stack(medians[len(self.solver) :])
        best = np.stack([a.min(0), b.min(0)])
        q = np.max(np.where(np.isfinite(best), best, -np.inf), axis=0) + self.margin
        return _smallest(self.solver, a, q), _smallest(self.reference, b, q)

    def censored(self) -> tuple[float, float]:
        """The share of resamples of the seeds in which the smallest size of either reaches the target."""
        rng = np.random.default_rng(0)
        found = self.found([np.median(rng.choice(row, (RESAMPLES, len(row))), axis=1) for row in self.strata])
        return float(np.mean(found[0] <= min(self.solver))), float(np.mean(found[1] <= min(self.reference)))


@dataclass(frozen=True)
class Sizes(Comparison):
    """The sizes found on a problem, and the search that found them; none where nothing could be.

    `above` where the quotient may be greater than theirs, as the reference's smallest size reaches the target and
    smaller ones might; `below` where it may be less. That a smallest size does so in resamples is noted.
    """

    search: Search | None = None
    above: bool = False
    below: bool = False


def compare(solver: pd.DataFrame, reference: pd.DataFrame, goal: Target | None) -> Sizes:
    """The smallest size of each that reaches q, of all runs of two solvers on a problem.

    Unknown where a solver has one certified size, as nothing was searched, and where the smallest of both reaches the
    target: smaller ones might have, and the quotient may lie on either side. Where that of one does, it is a bound.
    """
    names = [str(runs["solver"].iloc[0]) for runs in (solver, reference)]
    held = [held_by(runs) for runs in (solver, reference)]
    if single := [name for name, sizes in zip(names, held, strict=True) if len(sizes) < 2]:
        return Sizes.unknown(f"no two certified sizes of {together(single)}")
    if goal is None:
        return Sizes.unknown("no target")
    best = [min(np.median(row).item() for row in sizes.values()) for sizes in held]
    if short := [name for name, value in zip(names, best, strict=True) if not value <= goal.q]:
        return Sizes.unknown(f"no certified size of {together(short)} reaches q")
    search = Search(held[0], held[1], goal.q - max(best))
    found = [size.item() for size in search.found([np.median(row, keepdims=True) for row in search.strata])]
    least = [size <= min(sizes) for size, sizes in zip(found, held, strict=True)]
    if all(least):
        return Sizes.unknown(_smallest_reaches(names))
    said = _edges(search, names, least)
    worse = best.index(max(best))
    if np.median([*held[worse].values()][-1]).item() == best[worse]:
        said.append(f"the largest tried of {names[worse]} sets q, and larger ones might lower it")
    seeds = min(len(row) for row in search.strata)
    a, b = (np.full(seeds, size) for size in found)
    below, above = least
    return Sizes(a, b, note="; ".join(said), search=search, above=above, below=below)


def _edges(search: Search, names: Sequence[str], least: Sequence[bool]) -> list[str]:
    """Whose smallest size reaches the target, as smaller ones might; and whose does so in resamples of the seeds."""
    said = []
    if sure := [name for name, one in zip(names, least, strict=True) if one]:
        said.append(_smallest_reaches(sure))
    shares = zip(names, least, search.censored(), strict=True)
    if edge := [name for name, one, share in shares if share > TAIL and not one]:
        said.append(f"in some resamples the smallest tried of {together(edge)} does")
    return said


def _smallest_reaches(solvers: Sequence[str]) -> str:
    return f"the smallest tried of {together(solvers)} reaches q, and less might"


def held_by(runs: pd.DataFrame) -> dict[float, np.ndarray]:
    """Parameters -> the NLL that each run held, (seeds,), the smallest first; inf of a run that failed or held none.

    Without the settings whose validations are not certified, and those of which no run ended well: no record has their
    parameters. Of two settings of one size the better counts, and none of fewer than tables.MIN_SEEDS seeds where
    others have them.
    """
    settings = [rows for _, rows in runs.groupby("label") if rows["parameters"].notna().any()]
    sound = [rows for rows in settings if not tables.is_void(rows, tables.TO_Q)]
    least = min(tables.MIN_SEEDS, max((len(rows) for rows in sound), default=0))
    found: dict[float, np.ndarray] = {}
    for rows in sound:
        levels = [curve.stairs.levels for curve in tables.validations(rows)]
        held = np.array([own[-1] if len(own) else math.inf for own in levels])
        size = float(rows["parameters"].max())
        if len(rows) >= least and (size not in found or np.median(held) < np.median(found[size])):
            found[size] = held
    return {size: found[size] for size in sorted(found)}


def mean(searches: Sequence[Search], of: Mean) -> Interval:
    """A mean over problems of the quotients of sizes; seeds are resampled through target and choice of size."""

    def statistic(*medians: np.ndarray) -> np.ndarray:
        a, b = zip(*_each(searches, medians), strict=True)
        return of(np.stack(a), np.stack(b))

    strata = [row for search in searches for row in search.strata]
    return stats.bootstrap_of_medians(statistic, strata, np.random.default_rng(0))


def _each(searches: Sequence[Search], medians: Medians) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    left = list(medians)
    for search in searches:
        own, left = left[: len(search.strata)], left[len(search.strata) :]
        yield search.found(own)


def _smallest(sizes: Mapping[float, np.ndarray], medians: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The first of the sizes whose medians (sizes, k) are at most q (k,): the smallest; the last where none is."""
    reached = medians <= q
    reached[-1] |= ~reached.any(0)
    return np.array(list(sizes))[np.argmax(reached, axis=0)]


def together(solvers: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(solvers))

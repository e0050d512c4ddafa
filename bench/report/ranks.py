"""Solvers across problems by their seconds to q: mean ranks with intervals, performance profiles and data profiles.

The page computes the same for any target and any choice of solvers; these are of the tables' own q, for print.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench import stats
from bench.report import lint, tables
from bench.report.axes import logarithmic
from bench.report.figures import WIDTH, Drawn, style
from bench.report.frame import by_reference
from bench.report.labels import name_lines
from bench.report.lint import Group
from bench.report.venues import NARROW

Block = tuple[set[str], set[str]]  # solvers, and problems that all of them ran

LEAST = 2  # solvers, and problems, below which there is nothing to rank


@dataclass(frozen=True)
class Standing:
    """Median seconds to q (solvers, problems): inf where a run does not reach it, or a failed certificate voids it.

    `absent` are solvers that did not run all of the problems, `refused` problems on which none may be ranked, with the
    reason.
    """

    solvers: Sequence[str]
    problems: Sequence[str]
    seconds: NDArray[np.floating]
    absent: Sequence[str]
    refused: Sequence[str]

    @property
    def told(self) -> str:
        """What it is of, as captions say it."""
        absent = f" Not run on all of them: {', '.join(self.absent)}." if self.absent else ""
        refused = f" Not ranked: {'; '.join(self.refused)}." if self.refused else ""
        return f"Problems: {', '.join(self.problems)}; what is not reached or void counts as failed.{absent}{refused}"


def all_of(group: Group, reference: str) -> Iterator[Drawn]:
    """The figures of a group; none where fewer than LEAST solvers ran the same LEAST problems."""
    if (found := standing(group, reference)) is None:
        return
    yield mean_ranks(found, group.suffix)
    if np.isfinite(found.seconds).any():
        yield profiles(found, reference, group.suffix)


def standing(group: Group, reference: str) -> Standing | None:
    """The solvers with a validation NLL, baselines aside, at their best settings, on the problems that all of them ran.

    Of those that did not all run the same, the choice with the most pairs of a solver and a problem.
    """
    frame = group.frame[~group.frame["solver"].isin(lint.BASELINES) & ~group.frame["status"].isin(lint.NEVER_RAN)]
    judged = {str(solver) for solver, runs in frame.groupby("solver") if _validated(runs)}
    parts = {str(name): part for name, part in frame.groupby("dataset") if _validated(part)}
    solvers, problems = block({name: judged & set(part["solver"]) for name, part in parts.items()})
    ordered = by_reference(solvers, reference)
    columns, refused = {}, []
    for name in sorted(problems):
        runs = _rivals(parts[name], ordered)
        mixed = [mix.name for mix in lint.unfair(pd.concat(runs)) if mix.name not in group.allowed]
        if mixed:
            refused.append(f"{name} (runs differ in {', '.join(mixed)})")
        else:
            columns[name] = _seconds(runs, parts[name])
    if min(len(ordered), len(columns)) < LEAST:
        return None
    seconds = np.array(list(columns.values())).T
    return Standing(ordered, list(columns), seconds, sorted(judged - solvers), refused)


def _validated(runs: pd.DataFrame) -> bool:
    return any(np.isfinite(curve.best) for curve in tables.validations(runs))


def block(ran: Mapping[str, set[str]]) -> Block:
    """Solvers and problems, LEAST of each, such that all solvers ran all problems: the most pairs of both.

    `ran` has the solvers of each problem. Empty where there are none. Of equals, the one with more solvers.
    """
    shared: set[frozenset[str]] = set()
    for one in map(frozenset, ran.values()):
        shared |= {one, *(one & other for other in shared)}
    blocks = [(set(solvers), {name for name, those in ran.items() if solvers <= those}) for solvers in shared]
    nothing: Block = (set(), set())
    fit = [one for one in blocks if min(map(len, one)) >= LEAST]
    return max(fit, key=lambda one: (len(one[0]) * len(one[1]), len(one[0]), sorted(one[0])), default=nothing)


def _rivals(part: pd.DataFrame, solvers: Sequence[str]) -> list[pd.DataFrame]:
    """The runs of each solver at its best setting, cut to the seeds that all have, if there are any."""
    runs = [tables.best_setting(part[part["solver"] == solver]) for solver in solvers]
    shared = set.intersection(*(set(one["seed"]) for one in runs))
    return [one[one["seed"].isin(shared)] for one in runs] if shared else runs


def _seconds(rivals: Sequence[pd.DataFrame], part: pd.DataFrame) -> list[float]:
    """Median seconds of each solver to the target of `part`, all runs on the problem; inf where a run misses it."""
    goal = tables.target(part)
    assert goal is not None
    times = [tables.times(runs, goal.q, part) for runs in rivals]
    solved = [
        time.reached.all() and not tables.is_void(runs, tables.DENSITY)
        for runs, time in zip(rivals, times, strict=True)
    ]
    return [float(np.median(time.seconds)) if ok else np.inf for time, ok in zip(times, solved, strict=True)]


def mean_ranks(found: Standing, suffix: str) -> Drawn:
    """A row per solver, the best at the top; in grey what is not told apart from it."""
    ranks = stats.mean_ranks(found.seconds, np.random.default_rng(0))
    k, n = found.seconds.shape
    order = sorted(range(k), key=lambda i: (ranks[i].value, found.solvers[i]))
    figure, axis = plt.subplots(figsize=(NARROW, 0.55 + 0.2 * k), layout="constrained")
    best = ranks[order[0]].value
    axis.axvspan(best, best + stats.critical_difference(k, n), color="0.92", linewidth=0, zorder=0)
    for row, i in enumerate(order):
        look = style(found.solvers[i])
        axis.plot(ranks[i][1:], [row, row], color=look.colour, linewidth=1.2)
        axis.plot(ranks[i].value, row, look.marker, color=look.colour, markersize=5)
    axis.set(xlim=(0.8, k + 0.2), ylim=(k - 0.5, -0.5), xlabel="mean rank by seconds to q")
    axis.set_yticks(range(k), [found.solvers[i] for i in order], parse_math=False)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    lines = "" if np.isnan(ranks[0].low) else f" Lines: {stats.LEVEL:.0%} intervals, problems resampled."
    caption = (
        f"Mean ranks over {n} problems, 1 the best, ties shared. Grey: not told apart from the first "
        f"(Nemenyi, {stats.LEVEL:.0%}).{lines} {found.told}"
    )
    return Drawn(f"ranks{suffix}", figure, caption, explored=True)


def profiles(found: Standing, reference: str, suffix: str) -> Drawn:
    """The performance profile (Dolan and More 2002) and the data profile (More and Wild 2009) beside each other."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.3), sharey=True, squeeze=False, layout="constrained")
    left, right = axes.flat
    known = found.seconds[:, np.isfinite(found.seconds).any(0)]
    taus = _reach(known / known.min(0))
    _steps(left, found.solvers, taus, stats.performance_profile(found.seconds, taus))
    left.set(xlabel="times the fastest", ylabel="share of problems", ylim=(-0.03, 1.05))
    budgets = _reach(known)
    before = budgets[0] / (budgets[-1] / budgets[0]) ** 0.05  # so that the first riser is seen
    budgets = np.concatenate(([before], budgets))
    _steps(right, found.solvers, budgets, stats.data_profile(found.seconds, budgets))
    right.set(xlabel="seconds to q")
    name_lines(figure, axes, reference)
    caption = (
        "Left: performance profile, the share of problems on which a solver takes at most so many times as long as "
        f"the fastest. Right: data profile, the share solved within so many seconds. {found.told}"
    )
    return Drawn(f"profiles{suffix}", figure, caption, explored=True)


def _reach(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Where a profile of `values` may rise, in order, and an end beyond the last."""
    jumps = np.unique(values[np.isfinite(values)])
    return np.append(jumps, 1.3 * max(jumps[-1], 2 * jumps[0]))


def _steps(axis: Axes, solvers: Sequence[str], at: NDArray[np.floating], shares: NDArray[np.floating]) -> None:
    """A staircase per solver, with a marker on each step of its own."""
    for solver, heights in zip(solvers, shares, strict=True):
        look = style(solver)
        rises = np.flatnonzero(np.diff(heights, prepend=0.0) > 0).tolist()
        axis.step(
            at,
            heights,
            where="post",
            color=look.colour,
            linestyle=look.line,
            linewidth=1.2,
            marker=look.marker,
            markersize=4,
            markevery=rises,
            clip_on=False,  # a marker at the edge is whole
            label=solver,
        )
    axis.set(xscale="log", xlim=(at[0], at[-1]))
    axis.grid(visible=True, which="major")
    logarithmic(axis.xaxis)

"""Solvers across problems by their seconds to q: mean ranks with intervals, performance profiles and data profiles.

The page draws the same for any target and any choice of solvers; these are of the tables' own q, for print.
"""

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bench import stats
from bench.report import standing
from bench.report.axes import logarithmic
from bench.report.figures import WIDTH, Drawn
from bench.report.labels import name_lines
from bench.report.lint import Group
from bench.report.standing import Standing
from bench.report.styles import style
from bench.report.venues import NARROW


def all_of(group: Group, reference: str) -> Iterator[Drawn]:
    """The figures of a group; none where nothing can be ranked."""
    if (found := standing.of(group, reference)) is None:
        return
    yield mean_ranks(found, group.suffix)
    if np.isfinite(found.seconds).any():
        yield profiles(found, reference, group.suffix)


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
    return Drawn(f"ranks{suffix}", figure, caption)


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

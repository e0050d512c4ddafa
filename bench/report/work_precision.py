"""Work and precision of log-densities (bench.accuracy): error against seconds."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.report import equal_accuracy, tables
from bench.report.axes import logarithmic
from bench.report.equal_accuracy import AIM, ROWS
from bench.report.figures import WIDTH, Drawn
from bench.report.frame import by_reference
from bench.report.labels import name_lines
from bench.report.lint import Group
from bench.report.styles import VOID, style

FLOOR = 1e-7  # nat: the least error that is told apart
OWN = 1.0  # the effort of a solver's own setting


def figures(group: Group, reference: str) -> Iterator[Drawn]:
    """The figure of a group, a panel for each problem on which any density is integrated; none without one."""
    shown = {str(name): part for name, part in group.frame.groupby("dataset") if _integrated(part)}
    if not shown:
        return
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    size = (WIDTH, 0.45 + (1.75 if columns == 2 else 2.4) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (name, part) in zip(axes.flat, shown.items(), strict=False):
        _panel(axis, part, reference)
        axis.set_title(name, parse_math=False)
    figure.supxlabel(f"seconds for {ROWS:,} points")
    figure.supylabel("error of the log-density (nat)")
    name_lines(figure, axes, reference)
    caption = (
        "Mean absolute error of the log-density against a fine integration over the seconds of its evaluation, at an "
        "eighth to twice the effort of the solver's own setting (filled); medians over seeds. Grey line: inference is "
        f"compared at {AIM} nat. At the bottom: densities that integrate nothing. Grey: failed a certificate."
    )
    yield Drawn(f"work_precision{group.suffix}", figure, caption, explored=True)


def curve(runs: pd.DataFrame) -> np.ndarray:
    """Effort, seconds for ROWS points and error, (k, 3): medians over runs, at efforts that none broke down at.

    Runs without a density, or of no points, do not count.
    """
    found = defaultdict(list)
    told = list(filter(None, equal_accuracy.measured(runs)))
    for points in told:
        for effort, seconds, error in points:
            found[effort].append((seconds, error))
    whole = [effort for effort in sorted(found) if len(found[effort]) == len(told)]
    return np.array([(effort, *np.median(found[effort], axis=0)) for effort in whole]).reshape(-1, 3)


def _integrated(part: pd.DataFrame) -> bool:
    """Whether any density of `part` depends on the effort."""
    return any(len(given) > 1 for given in part["work_precision"])


def _panel(axis: Axes, part: pd.DataFrame, reference: str) -> None:
    axis.set(xscale="log", yscale="log")
    axis.axhline(AIM, color="0.55", linewidth=0.8, zorder=1)
    for solver in by_reference(part["solver"], reference):
        runs = tables.best_setting(part[part["solver"] == solver])
        _solver(axis, runs[runs["status"] == "ok"], solver)
    axis.grid(visible=True, which="major")
    logarithmic(axis.xaxis, axis.yaxis)


def _solver(axis: Axes, runs: pd.DataFrame, solver: str) -> None:
    points = curve(runs)
    if not len(points):
        return
    look = style(solver)
    colour = VOID if tables.is_void(runs, tables.DENSITY) else look.colour
    effort, seconds, error = points[:, 0], points[:, 1], np.maximum(points[:, 2], FLOOR)
    own = effort == OWN
    shape: dict[str, Any] = {"marker": look.marker, "markersize": 4, "linestyle": look.line, "linewidth": 1}
    axis.plot(seconds, error, color=colour, fillstyle="none", label=solver, **shape)
    axis.plot(seconds[own], error[own], color=colour, **shape)

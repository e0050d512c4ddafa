"""The figure of quality against wall time."""

import math
from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import NullLocator

from bench.report import tables
from bench.report.figures import WIDTH, Drawn
from bench.report.frame import Curve, by_reference
from bench.report.labels import name_lines
from bench.report.lint import Group
from bench.report.styles import VOID, style
from bench.report.tables import Target

FLOOR = 0.01  # nat: half of the tolerance in q, below which curves are not told apart
THIN = 20  # so many runs of a solver at most are drawn each by itself


def figures(group: Group, reference: str) -> Iterator[Drawn]:
    """Validation NLL above the best against step seconds: a panel per dataset with any curve, a curve per solver."""
    datasets = [name for name, part in group.frame.groupby("dataset") if any(len(c.nll) > 1 for c in _curves(part))]
    if not datasets:
        return
    columns = 1 if len(datasets) == 1 else 2
    rows = math.ceil(len(datasets) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH, 0.45 + (1.75 if columns == 2 else 2.4) * rows),
        squeeze=False,
        layout="constrained",
    )
    for axis, name in zip(axes.flat, datasets, strict=False):
        part = group.frame[group.frame["dataset"] == name]
        _panel(axis, part, tables.target(tables.rivals(part, group.allowed)), reference)
        axis.set_title(str(name), parse_math=False)
    for axis in list(axes.flat)[len(datasets) :]:
        axis.set_visible(False)
    figure.supxlabel("seconds on the step clock")
    figure.supylabel("NLL above the best (nat)")
    name_lines(figure, axes, reference)
    caption = (
        f"Validation NLL above the lowest certified one of the panel, cut at {FLOOR} nat, against step seconds. Thick: "
        f"median over seeds; thin: a run each, {THIN} at most; grey line: the common target q; a lone marker is a "
        "solver of one step; grey curves: a failed certificate voids them."
    )
    yield Drawn(f"quality{group.suffix}", figure, caption, explored=True)


def _curves(part: pd.DataFrame) -> list[Curve]:
    return [c for c in part["curve"] if math.isfinite(c.best)]


def _panel(axis: Axes, part: pd.DataFrame, goal: Target | None, reference: str) -> None:
    void = {str(label): tables.is_void(runs, tables.TO_Q) for label, runs in part.groupby("label")}
    ended = [c for c in tables.validations(part[~part["label"].map(void)]) if math.isfinite(c.best)]
    best = min(c.best for c in ended or _curves(part))
    for label in by_reference(part["label"], reference):
        _solver(axis, [_above(c, best) for c in _curves(part[part["label"] == label])], label, void[label])
    if goal is not None:
        axis.axhline(goal.q - best, color="0.55", linewidth=0.8, zorder=1)
        axis.annotate("q", (0.01, goal.q - best), xycoords=("axes fraction", "data"), va="bottom", color="0.4")
    axis.set(xscale="log", yscale="log")
    axis.set_ylim(bottom=FLOOR * 0.8)
    axis.grid(visible=True, which="major")
    _drop_unseen_ticks(axis)


def _drop_unseen_ticks(axis: Axes) -> None:
    """No minor ticks where they only take time: they have no size, and no labels on an axis of more than a decade."""
    for one, (low, high) in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        if high > 10 * low:
            one.set_minor_locator(NullLocator())


def _above(curve: Curve, best: float) -> Curve:
    later = (curve.seconds > 0) & np.isfinite(curve.nll)
    return Curve(curve.step[later], curve.seconds[later], np.maximum(curve.nll[later] - best, FLOOR))


def _solver(axis: Axes, curves: Sequence[Curve], label: str, is_void: bool) -> None:
    curves = [c for c in curves if len(c.nll)]
    if not curves:
        return
    solver, _, setting = label.partition(" (")
    look = style(solver)
    colour = VOID if is_void else look.colour
    thin = [np.stack((c.seconds, c.nll), 1) for c in curves[:: math.ceil(len(curves) / THIN)]]
    axis.add_collection(LineCollection(thin, colors=colour, linewidths=0.5, alpha=0.35, zorder=2))
    seconds, middle = median_curve(curves)
    axis.plot(
        seconds,
        middle,
        color=colour,
        linestyle=look.line,
        linewidth=1.4,
        marker=look.marker,
        markersize=4,
        fillstyle="full" if setting in ("", "a)") else "none",
        markevery=max(1, len(seconds) // 5),
        label=label,
    )


def median_curve(curves: Sequence[Curve], points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Median over runs at seconds that all of them have seen; a run that has ended keeps its last value."""
    start, end = max(c.seconds[0] for c in curves), max(c.seconds[-1] for c in curves)
    if start >= end:
        return np.array([end]), np.array([np.median([c.nll[-1] for c in curves])])
    seconds = np.geomspace(start, end, points)
    seconds[-1] = end
    return seconds, np.median([np.interp(np.log(seconds), np.log(c.seconds), c.nll) for c in curves], axis=0)

"""What all figures share, and that of quality against wall time."""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import NullLocator

from bench.report import tables
from bench.report.frame import BASELINE, Curve, by_reference
from bench.report.lint import Group
from bench.report.render import tex
from bench.report.venues import TEXT, Venue

WIDTH = TEXT  # inches
FLOOR = 0.01  # nat: half of the tolerance in q, below which curves are not told apart
THIN = 20  # so many runs of a solver at most are drawn each by itself
RC = {
    "pdf.fonttype": 42,
    "svg.hashsalt": "cnf-ot-bench",  # or the names of clips would differ from run to run
    "font.size": 8,
    "figure.labelsize": "medium",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}

# seaborn's "colorblind" without its grey, which is what is void or published, and what is too light or too brown
PALETTE = ("#0173B2", "#D55E00", "#029E73", "#CC78BC", "#DE8F05", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.")
SOLVERS = [
    "otflow",
    "ffjord",
    "rnode",
    "otcfm",
    "cfm",
    "maf",
    "nsf",
    "exact",
    "sinkhorn",
    "neural_hjb",
    "eulerian",
    "enot",
    "identity",
    "constant",
    "otflow_warm",
]


@dataclass(frozen=True)
class Style:
    """How a solver looks in every figure."""

    colour: str
    marker: str
    line: str


@dataclass(frozen=True)
class Drawn:
    """A figure under its file name, and what it shows."""

    name: str
    figure: Figure
    caption: str
    explored: bool = False  # the page draws it itself, and better


def style(solver: str) -> Style:
    """The same colour, marker and line for a solver in all figures of all reports."""
    if solver == BASELINE:
        return Style("#000000", "*", ":")
    i = SOLVERS.index(solver) if solver in SOLVERS else zlib.crc32(solver.encode())
    return Style(PALETTE[i % 6], MARKERS[i % 7], LINES[i % 3])


def use_theme(venue: Venue | None = None) -> None:
    """Set what all figures share, and what those of a venue have of their own."""
    sns.set_theme(style="ticks", rc=RC | (dict(venue.rc) if venue else {}))


# Quality against wall time


def quality(group: Group, reference: str) -> Iterator[Drawn]:
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
        _panel(axis, group.frame[group.frame["dataset"] == name], reference)
        axis.set_title(str(name), parse_math=False)
    for axis in list(axes.flat)[len(datasets) :]:
        axis.set_visible(False)
    figure.supxlabel("seconds on the step clock")
    figure.supylabel("NLL above the best (nat)")
    legend(figure, axes, reference)
    caption = (
        f"Validation NLL above the lowest one of the panel, cut at {FLOOR} nat, against step seconds. Thick: median "
        f"over seeds; thin: a run each, {THIN} at most; grey line: the common target q; a lone marker is a solver of "
        "one step."
    )
    yield Drawn(f"quality{group.suffix}", figure, caption, explored=True)


def _curves(part: pd.DataFrame) -> list[Curve]:
    return [c for c in part["curve"] if math.isfinite(c.best)]


def _panel(axis: Axes, part: pd.DataFrame, reference: str) -> None:
    best = min(c.best for c in _curves(part))
    for label in by_reference(part["label"], reference):
        _solver(axis, [_above(c, best) for c in _curves(part[part["label"] == label])], label)
    if (goal := tables.target(part)) is not None:
        axis.axhline(goal.q - best, color="0.55", linewidth=0.8, zorder=1)
        axis.annotate("q", (1.005, goal.q - best), xycoords=("axes fraction", "data"), va="center", color="0.4")
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


def _solver(axis: Axes, curves: Sequence[Curve], label: str) -> None:
    curves = [c for c in curves if len(c.nll)]
    if not curves:
        return
    solver, _, setting = label.partition(" (")
    look = style(solver)
    thin = [np.stack((c.seconds, c.nll), 1) for c in curves[:: math.ceil(len(curves) / THIN)]]
    axis.add_collection(LineCollection(thin, colors=look.colour, linewidths=0.5, alpha=0.35, zorder=2))
    seconds, middle = median_curve(curves)
    axis.plot(
        seconds,
        middle,
        color=look.colour,
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


def legend(figure: Figure, axes: np.ndarray, reference: str) -> None:
    """One legend above all axes, in the order of tables."""
    found: dict[str, Artist] = {}
    for axis in axes.flat:
        handles, shown = axis.get_legend_handles_labels()
        found.update(zip(shown, handles, strict=True))
    names = by_reference(found, reference)
    handles = [found[name] for name in names]
    texts = [name.replace("$", r"\$") for name in names]  # no mathematics
    figure.legend(handles, texts, loc="outside upper center", ncols=min(5, len(names)), frameon=False)


def for_latex(figure: Figure) -> None:
    """Escape the texts of a figure that LaTeX will set; what matplotlib's own formatters write is LaTeX already."""
    for text in figure.findobj(Text):
        if (shown := text.get_text()) and "$\\math" not in shown:
            text.set_text("\n".join(map(tex, shown.replace(r"\$", "$").split("\n"))))


def close(figure: Figure) -> None:
    """Free a figure."""
    plt.close(figure)

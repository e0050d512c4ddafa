"""The figures: quality against wall time, and for two-dimensional problems densities, samples and trajectories."""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import NullLocator

from bench import pictures
from bench.pictures import Arrays
from bench.report import tables
from bench.report.axes import small
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


def all_of(group: Group, shown: "Shown", reference: str) -> list[Drawn]:
    """Every figure of a group that any problem has; `shown` holds its pictures."""
    plane = {name: row for name, row in shown.items() if all("box" in arrays for arrays in row.values())}
    made = [quality(group, reference), *_two_dimensional(plane, reference, group.suffix)]
    return [drawn for drawn in made if drawn is not None]


def use_theme(venue: Venue | None = None) -> None:
    """Set what all figures share, and what those of a venue have of their own."""
    sns.set_theme(style="ticks", rc=RC | (dict(venue.rc) if venue else {}))


# Quality against wall time


def quality(group: Group, reference: str) -> Drawn | None:
    """Validation NLL above the best against step seconds: a panel per dataset, a curve per solver."""
    datasets = [name for name, part in group.frame.groupby("dataset") if _curves(part)]
    if not datasets:
        return None
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
    return Drawn(f"quality{group.suffix}", figure, caption, explored=True)


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


# Two dimensions

Shown = dict[str, dict[str, Arrays]]  # dataset -> solver -> arrays


def pictures_of(frame: pd.DataFrame, reference: str) -> tuple[Shown, list[str]]:
    """For each dataset and solver, at its best setting, the picture of the run with the median NLL.

    And a line for each picture that could not be read.
    """
    shown: Shown = {}
    problems = []
    for dataset, part in frame.groupby("dataset"):
        for solver in by_reference(part["solver"], reference):
            try:
                arrays = _picture(tables.best_setting(part[part["solver"] == solver]))
            except (ValueError, OSError) as error:
                problems.append(str(error))
                continue
            if arrays is not None:
                shown.setdefault(str(dataset), {})[solver] = arrays
    return shown, problems


def _picture(runs: pd.DataFrame) -> Arrays | None:
    ok = runs[runs["status"] == "ok"].sort_values("nll")
    paths = [folder / f"{key}.npz" for folder, key in zip(ok["folder"], ok["key"], strict=True)]
    there = [path for path in paths if path.exists()]
    if not there:
        return None
    path = there[(len(there) - 1) // 2]
    try:
        arrays = {name: values.astype(float) for name, values in pictures.load(path).items()}
    except DAMAGED as error:
        raise ValueError(f"{path}: not a picture ({error!r})") from None
    _check(path, arrays)
    return arrays


# what reading an archive that is torn, encrypted or of another kind raises; ValueError is pictures.load's own
DAMAGED = (OSError, KeyError, TypeError, zlib.error, RuntimeError, MemoryError)  # NotImplementedError is a RuntimeError
SHAPES = {"box": (2, 2), "model": (-1, -1), "truth": (-1, -1), "test": (-1, 2), "generated": (-1, 2),
          "forward": (-1, 2), "paths": (-1, -1, 2), "potential": (-1, -1), "target_box": (2, 2), "pushed": (-1, -1),
          "target": (-1, -1), "decoded": (-1, -1, -1), "images": (-1, -1, -1)}  # fmt: skip


def _check(path: Path, arrays: Arrays) -> None:
    if "decoded" not in arrays and not {"box", "test"} <= set(arrays):
        raise ValueError(f"{path}: not a picture (it lacks box or test)")
    for name, values in arrays.items():
        shape = SHAPES.get(name, values.shape)
        fits = len(shape) == values.ndim and all(s in (-1, n) for s, n in zip(shape, values.shape, strict=True))
        if not fits or not np.isfinite(values).all():
            raise ValueError(f"{path}: not a picture ({name} is {values.shape} or not finite)")


def _two_dimensional(shown: Shown, reference: str, suffix: str) -> Iterator[Drawn]:
    if any("model" in a for row in shown.values() for a in row.values()):
        figure = _grid(shown, reference, "truth", _truth_density, _density, "model")
        yield Drawn(f"densities{suffix}", figure, "Densities, one colour scale a row: 0 to the highest of the truth.")
    if any("generated" in a for row in shown.values() for a in row.values()):
        figure = _grid(shown, reference, "test points", _test_points, _generated)
        yield Drawn(f"samples{suffix}", figure, "Test points, and as many points drawn from each model.")
    if any("paths" in a for row in shown.values() for a in row.values()):
        figure = _grid(shown, reference, None, None, _trajectories)
        yield Drawn(f"trajectories{suffix}", figure, "Paths of 64 test points (dots) to the target (crosses).")
    if any("pushed" in a for row in shown.values() for a in row.values()):
        figure = _grid(shown, reference, "target", _target_density, _pushed_density, "pushed")
        caption = "Densities of the source carried forward, one colour scale a row: 0 to the highest of the target."
        yield Drawn(f"push_forward{suffix}", figure, caption)
    if any("potential" in a for row in shown.values() for a in row.values()):
        figure = _grid(shown, reference, None, None, _potential)
        yield Drawn(
            f"potentials{suffix}", figure, "Potentials at t = 0, less their means: the velocity is down the slope."
        )


Draw = Callable[[Axes, Arrays, float], None]


def _grid(
    shown: Shown, reference: str, first: str | None, draw_first: Draw | None, draw: Draw, density: str = "model"
) -> Figure:
    """A row per dataset; columns: `first`, if any, then each solver. `density` sets the colour scale of a row."""
    names = by_reference((solver for row in shown.values() for solver in row), reference)
    columns = ([first] if first else []) + names
    side = min(1.5, (WIDTH - 0.3) / len(columns))
    figure, axes = plt.subplots(
        len(shown),
        len(columns),
        figsize=(0.3 + side * len(columns), 0.25 + side * len(shown)),
        squeeze=False,
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0),
    )
    for line, (dataset, row) in zip(axes, shown.items(), strict=True):
        one = next(iter(row.values()))
        top = _top(row, density)
        for axis, name in zip(line, columns, strict=True):
            _frame(axis, one["box"])
            if name == first and draw_first is not None:
                draw_first(axis, one, top)
            elif name in row:
                draw(axis, row[name], top)
            else:
                _missing(axis, "no picture")
        name = dataset.replace(" d=", "\nd = ")  # a row is not high
        line[0].set_ylabel(name, parse_math=False, fontsize="x-small")
    for axis, name in zip(axes[0], columns, strict=True):
        axis.set_title(name, parse_math=False)
    return figure


TRUTH = {"model": "truth", "pushed": "target"}  # what each density is held to


def _top(row: dict[str, Arrays], density: str) -> float:
    """The end of the colour scale: the truth's peak, else the 99.9 % quantile of the models."""
    for a in row.values():
        if TRUTH[density] in a:
            return float(a[TRUTH[density]].max())
    return max((float(np.quantile(a[density], 0.999)) for a in row.values() if density in a), default=1.0)


def _frame(axis: Axes, box: np.ndarray) -> None:
    axis.set(xlim=box[:, 0], ylim=box[:, 1], xticks=[], yticks=[], aspect="equal")
    for spine in axis.spines.values():
        spine.set(visible=True, linewidth=0.5, color="0.7")


def _missing(axis: Axes, why: str = "not given") -> None:
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", color="0.5", fontsize=small())


def _image(axis: Axes, density: np.ndarray | None, box: np.ndarray, top: float) -> None:
    if density is None:
        return _missing(axis)
    (left, bottom), (right, upper) = box
    axis.imshow(density.T, origin="lower", extent=(left, right, bottom, upper), vmin=0, vmax=top, cmap="viridis")


def _truth_density(axis: Axes, a: Arrays, top: float) -> None:
    _image(axis, a.get("truth"), a["box"], top)


def _density(axis: Axes, a: Arrays, top: float) -> None:
    _image(axis, a.get("model"), a["box"], top)


def _target_density(axis: Axes, a: Arrays, top: float) -> None:
    _inner(axis, a, "target", top)


def _pushed_density(axis: Axes, a: Arrays, top: float) -> None:
    _inner(axis, a, "pushed", top)


def _inner(axis: Axes, a: Arrays, name: str, top: float) -> None:
    """A density around the target's points."""
    if name not in a or "target_box" not in a:
        return _missing(axis)
    _frame(axis, a["target_box"])
    _image(axis, a[name], a["target_box"], top)


def _potential(axis: Axes, a: Arrays, top: float) -> None:
    if (values := a.get("potential")) is None:
        return _missing(axis)
    (left, bottom), (right, upper) = a["box"]
    axis.imshow(values.T, origin="lower", extent=(left, right, bottom, upper), cmap="cividis")
    axis.contour(values.T, levels=9, extent=(left, right, bottom, upper), colors="white", linewidths=0.4)


def _points(axis: Axes, points: np.ndarray | None) -> None:
    if points is None:
        return _missing(axis)
    axis.scatter(points[:, 0], points[:, 1], s=0.6, color="black", alpha=0.5, linewidths=0, rasterized=True)


def _test_points(axis: Axes, a: Arrays, top: float) -> None:
    _points(axis, a["test"])


def _generated(axis: Axes, a: Arrays, top: float) -> None:
    _points(axis, a.get("generated"))


def _trajectories(axis: Axes, a: Arrays, top: float) -> None:
    paths = a.get("paths")
    if paths is None:
        return _missing(axis)
    axis.plot(paths[:, :, 0], paths[:, :, 1], color="0.55", linewidth=0.4)
    axis.scatter(paths[0, :, 0], paths[0, :, 1], s=4, color=PALETTE[0], linewidths=0, zorder=3)
    axis.scatter(paths[-1, :, 0], paths[-1, :, 1], s=5, color=PALETTE[1], marker="x", linewidths=0.6, zorder=3)
    low, high = np.minimum(a["box"][0], paths.min((0, 1))), np.maximum(a["box"][1], paths.max((0, 1)))
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def for_latex(figure: Figure) -> None:
    """Escape the texts of a figure that LaTeX will set; what matplotlib's own formatters write is LaTeX already."""
    for text in figure.findobj(Text):
        if (shown := text.get_text()) and "$\\math" not in shown:
            text.set_text("\n".join(map(tex, shown.replace(r"\$", "$").split("\n"))))


def close(figure: Figure) -> None:
    """Free a figure."""
    plt.close(figure)

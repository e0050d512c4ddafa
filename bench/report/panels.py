"""A figure of small panels that all solvers on a problem have: a row per solver, below the data it is held to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.pictures import Arrays
from bench.report import tables
from bench.report.axes import small
from bench.report.render import NOTHING
from bench.report.venues import NARROW

LABELS = 0.3  # inches for the names of rows, and for those of columns
PANEL, HEIGHT = 1.0, 7.5  # inches: the most that a panel and that all rows have, so that a page holds them
LONGEST = 12  # characters that are as long as the lowest of rows is high
DATA = "data"  # the first row
NOT_GIVEN = "not given"
BESIDE = "0.93"  # the colour of where nothing was evaluated
TOLD = 0.01  # of the points may lie outside a panel before it says so
OUTSIDE = f"Outside: points beyond the frame, where they are over {TOLD:.0%}."

Draw = Callable[[Axes, Arrays], None]


@dataclass(frozen=True)
class Column:
    """How a solver's arrays are drawn, and in the first row what they are held to.

    Left out where no solver has one of the arrays that it `needs`.
    """

    title: str
    needs: tuple[str, ...]
    solver: Draw
    data: Draw | None = None
    caption: str = ""


def present(columns: Sequence[Column], rows: Mapping[str, Arrays]) -> list[Column]:
    """Those of `columns` for which any solver has arrays."""
    return [one for one in columns if any(name in arrays for arrays in rows.values() for name in one.needs)]


def grid(columns: Sequence[Column], data: Arrays, rows: Mapping[str, Arrays]) -> Figure:
    """A row for the data, then one for each of `rows`, whose keys are their names; as wide as a column of text."""
    n = 1 + len(rows)
    side = min(PANEL, (NARROW - LABELS) / len(columns), HEIGHT / n)
    figure, axes = plt.subplots(
        n,
        len(columns),
        figsize=(LABELS + side * len(columns), LABELS + side * n),
        squeeze=False,
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0),
    )
    for line, name in zip(axes, (DATA, *rows), strict=True):
        line[0].set_ylabel(name, parse_math=False, fontsize=small())
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(column.title, fontsize=small(), parse_math=False)
        if column.data is None:
            blank(axis)
        else:
            column.data(axis, data)
    for line, arrays in zip(axes[1:], rows.values(), strict=True):
        for axis, column in zip(line, columns, strict=True):
            column.solver(axis, arrays)
    return figure


def named(frame: pd.DataFrame, dataset: str, solver: str) -> str:
    """The name of a solver's row: its median test NLL at its best setting below it, if it has one."""
    runs = tables.best_setting(frame[(frame["dataset"] == dataset) & (frame["solver"] == solver)])
    found = tables.cell_of(runs, replace(tables.NLL, spread=False))
    title = solver if len(solver) <= LONGEST else solver.replace("_", "_\n", 1)
    return title if found == NOTHING else f"{title}\nNLL {found}"


def frame_to(axis: Axes, box: np.ndarray, alike: bool = True) -> None:
    """Show what lies in the box (2, 2), low and high corner, in a square without ticks.

    Where the axes are `alike`, a unit is as long on both: the box is widened to a square.
    """
    if alike:
        middle, half = box.mean(0), (box[1] - box[0]).max() / 2
        box = np.stack((middle - half, middle + half))
    axis.set(xlim=box[:, 0], ylim=box[:, 1], xticks=[], yticks=[])
    axis.set_box_aspect(1)
    for spine in axis.spines.values():
        spine.set(visible=True, linewidth=0.5, color="0.7")


def blank(axis: Axes, why: str = "") -> None:
    """An empty panel, or one that says why it is."""
    axis.set(xticks=[], yticks=[])
    axis.set_box_aspect(1)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", color="0.5", fontsize=small())


def image(axis: Axes, values: np.ndarray, box: np.ndarray, colours: str, peak: float | None = None) -> None:
    """Values on a grid over `box` in a map of colours, from 0 to `peak` where there is one, else over their range."""
    (left, bottom), (right, top) = box
    axis.imshow(
        values.T,
        origin="lower",
        extent=(left, right, bottom, top),
        cmap=colours,
        vmin=None if peak is None else 0.0,
        vmax=peak,
    )
    frame_to(axis, box)
    axis.set_facecolor(BESIDE)


def points(axis: Axes, found: np.ndarray, box: np.ndarray, alike: bool = True) -> None:
    """The points (n, 2) in the frame that `frame_to` makes of `box`, and how many are outside, if over TOLD."""
    frame_to(axis, box, alike)
    axis.scatter(found[:, 0], found[:, 1], s=0.6, color="black", alpha=0.5, linewidths=0, rasterized=True)
    low, high = np.transpose((axis.get_xlim(), axis.get_ylim()))
    if (outside := ((found < low) | (found > high)).any(1).mean()) > TOLD:
        axis.text(
            0.98,
            0.02,
            f"{100 * outside:.0f} %\noutside",
            transform=axis.transAxes,
            ha="right",
            va="bottom",
            fontsize=small(),
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )

"""The figures of transport problems: characteristics over each other, and errors against dimension."""

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from bench.report import transport
from bench.report.axes import logarithmic, small
from bench.report.figures import WIDTH, Drawn
from bench.report.frame import by_reference
from bench.report.labels import name_lines
from bench.report.lint import Group
from bench.report.shown import Shown
from bench.report.styles import VOID, style

CURVES = 24  # characteristics drawn of each solver

ERRORS = {  # column -> (label of the axis, factor to per cent)
    "l2_uvp": ("L2-UVP (%)", 1.0),
    "relaxed_uvp_2": ("L2-UVP of x1, x2,\nrelaxed (%)", 1.0),
    "estimate_gap": ("|cost gap| (%)", 100.0),
    "relaxed_objective_gap": ("|objective gap|,\nrelaxed (%)", 100.0),
}


def all_of(group: Group, shown: Shown, reference: str) -> Iterator[Drawn]:
    """Every figure of the transport problems of a group."""
    for dataset, row in shown.items():
        solvers = relaxed_solvers(group.frame, dataset)
        paths = {name: a["paths"] for name, a in row.items() if name in solvers and "paths" in a}
        if len(paths) > 1:
            yield characteristics(dataset, paths, reference, group.suffix)
    for family in transport.families(group.frame):
        yield against_dimension(group, family, reference)


def relaxed_solvers(frame: pd.DataFrame, dataset: str) -> set[str]:
    """Those that solve the relaxed problem of `dataset`: their characteristics are those of one optimal control."""
    return set(frame[(frame["dataset"] == dataset) & frame["relaxation"].notna()]["solver"])


def characteristics(dataset: str, paths: dict[str, np.ndarray], reference: str, suffix: str) -> Drawn:
    """The curves of each solver from the same points, over each other."""
    figure, axis = plt.subplots(figsize=(0.6 * WIDTH, 0.6 * WIDTH), layout="constrained")
    for name in by_reference(paths, reference):
        curves, look = paths[name][:, :CURVES], style(name)
        axis.plot(curves[:, :, 0], curves[:, :, 1], color=look.colour, linestyle=look.line, linewidth=0.8)
        axis.plot([], [], color=look.colour, linestyle=look.line, label=name)
        axis.plot(curves[-1, :, 0], curves[-1, :, 1], look.marker, color=look.colour, markersize=3, fillstyle="none")
    start = next(iter(paths.values()))[0, :CURVES]
    axis.plot(start[:, 0], start[:, 1], "o", color="0.3", markersize=2)
    axis.set(aspect="equal", xticks=[], yticks=[])
    figure.legend(loc="outside upper center", ncols=len(paths), frameon=False)
    caption = f"{dataset}: characteristics of the solvers of the relaxed problem from the same test points (dots)."
    return Drawn(f"characteristics_{dataset}{suffix}", figure, caption)


def against_dimension(group: Group, family: str, reference: str) -> Drawn:
    """Map and cost errors against dimension, a curve per solver, in grey what others published."""
    part = group.frame[group.frame["family"] == family]
    names = [name for name in ERRORS if part[name].notna().any()]
    columns = min(2, len(names))
    rows = math.ceil(len(names) / columns)
    size = (WIDTH * columns / 2, 0.4 + 1.8 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, names, strict=False):
        _errors(axis, part, name, reference)
        if family == transport.BENCHMARK and name == "l2_uvp":
            _published(axis, sorted({int(d) for d in part["dim"]}))
    name_lines(figure, axes, reference)
    caption = f"{family}: errors against dimension, medians over seeds. Grey: failed a certificate."
    return Drawn(f"{family}_dimension{group.suffix}", figure, caption)


def _errors(axis: Axes, part: pd.DataFrame, name: str, reference: str) -> None:
    label, factor = ERRORS[name]
    for solver in by_reference(part["solver"], reference):
        runs = part[(part["solver"] == solver) & (part["status"] == "ok")]
        best = [at for _, at in transport.chosen(runs).groupby("dim") if at[name].notna().any()]
        points = [(at["dim"].iloc[0], factor * at[name].abs().median()) for at in best]
        void = [any(set(transport.VOIDED_BY[name]) & set(names) for names in at["failed"]) for at in best]
        look = style(solver)
        sound = [point for point, failed in zip(points, void, strict=True) if not failed]
        if sound:
            axis.plot(
                *zip(*sound, strict=True),
                color=look.colour,
                linestyle=look.line,
                marker=look.marker,
                markersize=4,
                label=solver,
            )
        for point in (point for point, failed in zip(points, void, strict=True) if failed):
            axis.plot(*point, color=VOID, marker=look.marker, markersize=4, zorder=1)
    axis.set(xscale="log", yscale="log", xlabel="dimension", ylabel=label)
    logarithmic(axis.yaxis)
    dims = sorted(part["dim"].unique())
    axis.set_xticks(dims, [f"{d:.0f}" for d in dims])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(visible=True, which="major")


def _published(axis: Axes, dims: list[int]) -> None:
    """The published values in grey, the two best of the highest dimension with their names."""
    curves = []
    for method, cells in transport.published(dims):
        xs, ys = zip(*[(d, c.value) for d, c in zip(dims, cells, strict=True) if c.quoted], strict=True)
        axis.plot(xs, ys, color="0.75", linewidth=0.8, marker=".", markersize=3, zorder=1)
        if xs[-1] == dims[-1]:
            curves.append((ys[-1], method.removesuffix(" (published)")))
    for value, method in sorted(curves)[:2]:
        end = (dims[-1], value)
        axis.annotate(f" {method}", end, fontsize=small(), color="0.45", va="center", annotation_clip=False)

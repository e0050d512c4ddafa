"""The figures of the experiments on kernels: the exact trace, OT-Flow's step as it grows, the error of a gradient.

From the JSON that `bench.trace`, `bench.scaling` and `bench.gradient_error` write.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report import experiments
from bench.report.axes import logarithmic, small
from bench.report.experiments import Found
from bench.report.figures import RC, Drawn
from bench.report.published import PAPER
from bench.report.styles import PALETTE

PUBLISHED = PAPER / "otflow_trace.csv"


def panels(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def trace(found: Found, path: Path = PUBLISHED) -> Figure:
    """Seconds over those of the closed form, and relative error, against Hutchinson's vectors over d.

    Solid: `found`; dotted: the authors' own values, from a GPU that they do not name (Onken et al. 2021, figure 2).
    """
    figure, (cost, error) = panels(5.5, 2.3, 2)
    for source, line in ((found["rows"], "o-"), (published(path), "x:")):
        for colour, dim in zip(PALETTE, sorted({row["dim"] for row in source}), strict=False):
            of = [row for row in source if row["dim"] == dim]
            exact = next(row["seconds"] for row in of if row["method"] == "closed form")
            estimates = [row for row in of if row["vectors"]]
            shares = [row["vectors"] / dim for row in estimates]
            label = f"d = {dim}" if line == "o-" else None
            seconds = [row["seconds"] / exact for row in estimates]
            cost.plot(shares, seconds, line, color=colour, ms=3, lw=1, label=label)
            error.plot(shares, [row["relative_error"] for row in estimates], line, color=colour, ms=3, lw=1)
    cost.plot([], [], "x:", color="0.4", ms=3, lw=1, label="published")
    cost.set(ylabel="seconds / closed form's", yscale="log", xlabel="Hutchinson vectors / d")
    cost.axhline(1.0, color="0.5", lw=0.6)
    cost.legend(frameon=False, fontsize=small())
    error.set(ylabel="relative error of the trace", yscale="log", xlabel="Hutchinson vectors / d")
    logarithmic(cost.yaxis, error.yaxis)
    return figure


def published(path: Path = PUBLISHED) -> list[dict[str, Any]]:
    """The authors' seconds and errors as rows of `bench.trace`."""
    with path.open(newline="") as file:
        return [
            {
                "dim": int(line["dim"]),
                "method": "Hutchinson" if line["hutchinson_vectors"] else "closed form",
                "vectors": int(line["hutchinson_vectors"] or 0),
                "seconds": float(line["runtime_s_mean"]),
                "relative_error": float(line["rel_error_mean"]) if line["hutchinson_vectors"] else 0.0,
            }
            for line in csv.DictReader(file)
        ]


def scaling(found: Found) -> Figure:
    """Seconds against each size with its slope; and the roofline (Williams, Waterman and Patterson 2009)."""
    figure, (growth, roof) = panels(5.5, 2.5, 2)
    peak, bandwidth = (found["limits"][name] for name in ("flop_per_second", "bytes_per_second"))
    intensities = np.geomspace(0.5, 200)
    roof.plot(intensities, np.minimum(peak, intensities * bandwidth) * 1e-9, color="0.3", lw=1, label="limits measured")
    styles = zip(found["slopes"].items(), ("o-", "s--", "^-.", "D:"), PALETTE, strict=False)
    for (varied, slope), style, colour in styles:
        of = [row for row in found["rows"] if row["varied"] == varied]
        sizes = np.array([row["shape"][varied] for row in of])
        label = f"{varied}, slope {slope:.2f}"
        growth.plot(sizes / sizes[0], [row["seconds"] for row in of], style, color=colour, ms=3, lw=1, label=label)
        rates = [row["flop"] / row["seconds"] * 1e-9 for row in of]
        roof.plot([row["flop"] / row["bytes"] for row in of], rates, style[0], color=colour, ms=3, ls="")
    growth.set(xlabel="size / smallest", ylabel="seconds a step", xscale="log", yscale="log")
    roof.set(xlabel="FLOP / byte", ylabel="GFLOP/s", xscale="log", yscale="log")
    for axes in (growth, roof):
        axes.legend(frameon=False, fontsize=small(), loc="upper left" if axes is growth else "lower right")
        logarithmic(axes.xaxis, axes.yaxis)
    growth.set_ylim(top=growth.get_ylim()[1] * 12)  # room for the legend
    return figure


def gradient_error(found: Found) -> Figure:
    """Error of the gradient against seconds, for the direct backward pass and the adjoint."""
    figure, (axes,) = panels(3.3, 2.5, 1)
    pairs = [(method, adjoint) for method in ("dopri5", "rk4") for adjoint in (False, True)]
    for (method, adjoint), colour, marker in zip(pairs, PALETTE[:4], "osD^", strict=True):
        rows = [r for r in found["rows"] if (r["method"], r["adjoint"]) == (method, adjoint)]
        label = f"{method}, {'adjoint' if adjoint else 'direct'}"
        points = [r["seconds"] for r in rows], [r["error"] for r in rows]
        axes.loglog(*points, color=colour, marker=marker, ls="--" if adjoint else "-", ms=3.5, lw=1, label=label)
    axes.set(xlabel="seconds a gradient", ylabel="relative error of the gradient", title=found["dataset"])
    axes.legend(frameon=False, fontsize=small())
    logarithmic(axes.xaxis, axes.yaxis)
    return figure


DRAW: Mapping[str, Callable[[Found], Figure]] = {
    "trace": trace,
    "scaling": scaling,
    "gradient_error": gradient_error,
}


def all_of(records: Sequence[Path]) -> list[Drawn]:
    """The figures of the experiments beside `records`, drawn from what was measured."""
    drawn = []
    for experiment, path, measured in experiments.found(records):
        try:
            figure = DRAW[experiment.name](measured)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration, ZeroDivisionError):
            continue
        name = f"{experiment.name}-{experiments.machine(path)}-{path.stem}"
        drawn.append(Drawn(name, figure, f"{experiment.caption} ({experiments.machine(path)}, {path.stem})"))
    return drawn


def draw(name: str, found: Found, stem: Path) -> None:
    """The figure of experiment `name` as stem.pdf and stem.png, in the report's style."""
    import matplotlib.pyplot as plt

    with plt.rc_context(RC):  # type: ignore[arg-type]
        figure = DRAW[name](found)
        for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {})):
            figure.savefig(stem.with_suffix(suffix), dpi=200, metadata=metadata)

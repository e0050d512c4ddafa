"""The figure of a problem of stored rows: two-dimensional marginals of data, generated rows and latent points.

As the OT-Flow paper (Onken et al. 2021) shows them, of whichever coordinates come first.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from bench.pictures import MARGINAL, Arrays
from bench.report.figures import Drawn
from bench.report.frame import by_reference
from bench.report.lint import Group
from bench.report.panels import NOT_GIVEN, OUTSIDE, Column, blank, grid, named, points, present
from bench.report.shown import Shown

MOST = 0.99  # of the rows lie in the frame, in each coordinate: tabular sets have outliers
MARGIN = 0.15
CAPTION = (
    "marginals of the first coordinates, the data, then each solver with its test NLL (†: fails a certificate). "
    "Generated: rows of the model below test rows. Latent: test rows carried to the target, below points of it. "
    f"Frames are around the central {MOST:.0%} of the data in each coordinate. {OUTSIDE}"
)


def all_of(group: Group, shown: Shown, reference: str) -> Iterator[Drawn]:
    """A figure for each problem of which there are marginals."""
    for dataset, row in shown.items():
        rows = {name: row[name] for name in by_reference(row, reference) if f"{MARGINAL}test" in row[name]}
        if not rows or not (columns := _columns(rows)):
            continue
        data = next(iter(rows.values()))
        figure = grid(columns, data, {named(group.frame, dataset, name): arrays for name, arrays in rows.items()})
        yield Drawn(f"marginals_{dataset}{group.suffix}", figure, f"{dataset}: {CAPTION}")


def _columns(rows: Mapping[str, Arrays]) -> list[Column]:
    """Generated and latent points of each pair of coordinates that all arrays have."""
    data = next(iter(rows.values()))
    width = min(a[name].shape[1] for a in rows.values() for name in a if name.startswith(MARGINAL))
    columns = []
    for i in range(0, width - 1, 2):
        for title, solver, held_to in (("generated", "generated", "test"), ("latent", "forward", "target_points")):
            box = _box(data[f"{MARGINAL}{held_to}"][:, i : i + 2])
            draw, shown = (partial(_pair, name=f"{MARGINAL}{name}", first=i, box=box) for name in (solver, held_to))
            columns.append(Column(f"{title}\nx{i + 1}, x{i + 2}", (f"{MARGINAL}{solver}",), draw, shown))
    return present(columns, rows)


def _box(found: np.ndarray) -> np.ndarray:
    low, high = np.quantile(found, ((1 - MOST) / 2, (1 + MOST) / 2), axis=0)
    return np.stack((low - MARGIN * (high - low), high + MARGIN * (high - low)))


def _pair(axis: Axes, a: Arrays, *, name: str, first: int, box: np.ndarray) -> None:
    if name in a:
        points(axis, a[name][:, first : first + 2], box, alike=False)
    else:
        blank(axis, NOT_GIVEN)

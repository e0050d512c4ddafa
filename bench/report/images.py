"""The figure of a problem whose points are codes of images: test points and each model's points, decoded."""

import math
from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from bench.report.figures import WIDTH, Drawn
from bench.report.frame import by_reference
from bench.report.lint import Group
from bench.report.shown import Shown

COLUMNS = 4


def all_of(group: Group, shown: Shown, reference: str) -> Iterator[Drawn]:
    """A figure for each problem of images: a panel of test points, then one for each solver."""
    for dataset, row in shown.items():
        drawn = {name: row[name]["images"] for name in by_reference(row, reference) if "images" in row[name]}
        if drawn:
            first = {"test points": row[next(iter(drawn))]["decoded"]}
            yield _figure(dataset, first | drawn, group.suffix)


def _figure(dataset: str, panels: dict[str, np.ndarray], suffix: str) -> Drawn:
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    side = WIDTH / COLUMNS
    size = (side * columns, (side + 0.15) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, images) in zip(axes.flat, panels.items(), strict=False):
        _panel(axis, images)
        axis.set_title(name, parse_math=False)
    return Drawn(f"images_{dataset}{suffix}", figure, f"{dataset}: test points, and points of each model, decoded.")


def _panel(axis: Axes, images: np.ndarray) -> None:
    axis.imshow(tiled(images), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")


def tiled(images: np.ndarray) -> np.ndarray:
    """The first k^2 of the images (n, h, w), for the largest k, as one of (k h, k w), row by row."""
    k = math.isqrt(len(images))
    height, width = images.shape[1:]
    return images[: k * k].reshape(k, k, height, width).swapaxes(1, 2).reshape(k * height, k * width)

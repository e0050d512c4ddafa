"""The gallery of a problem of the plane: densities, samples, what becomes of the data, trajectories and potentials."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from bench.pictures import Arrays
from bench.report.figures import Drawn
from bench.report.frame import by_reference
from bench.report.lint import Group
from bench.report.panels import NOT_GIVEN, OUTSIDE, Column, blank, frame_to, grid, image, named, points, present
from bench.report.shown import Shown
from bench.report.styles import PALETTE

SHARED = ("box", "test", "truth", "target", "target_box", "target_points")  # arrays that all solvers on a problem share

Rows = Mapping[str, Arrays]


def all_of(group: Group, shown: Shown, reference: str) -> Iterator[Drawn]:
    """A gallery for each problem of the plane of which there are pictures."""
    for dataset, row in shown.items():
        rows = {name: row[name] for name in by_reference(row, reference) if "box" in row[name]}
        data = {name: arrays[name] for arrays in rows.values() for name in SHARED if name in arrays}
        if not (columns := present(_columns(rows, data), rows)):
            continue
        figure = grid(columns, data, {named(group.frame, dataset, name): arrays for name, arrays in rows.items()})
        said = " ".join(column.caption for column in columns)
        caption = (
            f"{dataset}: the data, then each solver with its test NLL (†: fails a certificate). {said} "
            f"Light grey: not evaluated. {OUTSIDE}"
        )
        yield Drawn(f"gallery_{dataset}{group.suffix}", figure, caption)


def _columns(rows: Rows, data: Arrays) -> list[Column]:
    if not rows:
        return []
    box, landing = data["box"], _landing(rows, data)
    peak, scale = _scale(rows, data, "truth", "model")
    aim, aim_scale = _scale(rows, data, "target", "pushed")
    aimed = bool({"target", "target_points"} & set(data))
    return [
        Column(
            "density",
            ("model",),
            partial(_density, name="model", within="box", peak=peak),
            partial(_density, name="truth", within="box", peak=peak) if "truth" in data else None,
            f"Density{scale}.",
        ),
        Column(
            "samples",
            ("generated",),
            partial(_points, name="generated", box=box),
            partial(_points, name="test", box=box),
            "Samples: as many as test points.",
        ),
        Column(
            "push-forward",
            ("pushed", "forward"),
            partial(_carried, density="pushed", found="forward", peak=aim, box=landing),
            partial(_carried, density="target", found="target_points", peak=aim, box=landing) if aimed else None,
            f"Push-forward: the data's density carried to the target{aim_scale}; test points where it is not known.",
        ),
        Column(
            "trajectories",
            ("paths",),
            _trajectories,
            caption="Trajectories: of 64 test points (dots) to the target (crosses); a map without a time has none.",
        ),
        Column(
            "potential",
            ("potential",),
            _potential,
            caption="Potential: at t = 0, less its mean; the velocity is down its slope.",
        ),
    ]


def _scale(rows: Rows, data: Arrays, truth: str, model: str) -> tuple[float, str]:
    """The end of the colour scale and how captions tell it: the truth's peak, else the models' 99.9 % quantile."""
    if truth in data:
        return float(data[truth].max()), f", in colours from 0 to the {truth}'s peak"
    found = [float(np.quantile(arrays[model], 0.999)) for arrays in rows.values() if model in arrays]
    return (max(found), ", in colours from 0 to the models' highest 99.9 % quantile") if found else (1.0, "")


def _landing(rows: Rows, data: Arrays) -> np.ndarray:
    """The box that points are carried into: the target's, else the middle one of those that hold a solver's points."""
    if "target_box" in data:
        return data["target_box"]
    clouds = [a["forward"] for a in rows.values() if "forward" in a] or [data["test"]]
    return np.median([(cloud.min(0), cloud.max(0)) for cloud in clouds], axis=0)


def _density(axis: Axes, a: Arrays, *, name: str, within: str, peak: float) -> None:
    if name in a and within in a:
        image(axis, a[name], a[within], "viridis", peak)
    else:
        blank(axis, NOT_GIVEN)


def _points(axis: Axes, a: Arrays, *, name: str, box: np.ndarray) -> None:
    if name in a:
        points(axis, a[name], box)
    else:
        blank(axis, NOT_GIVEN)


def _carried(axis: Axes, a: Arrays, *, density: str, found: str, peak: float, box: np.ndarray) -> None:
    if density in a:
        _density(axis, a, name=density, within="target_box", peak=peak)
    else:
        _points(axis, a, name=found, box=box)


def _trajectories(axis: Axes, a: Arrays) -> None:
    if (paths := a.get("paths")) is None:
        return blank(axis, NOT_GIVEN)
    frame_to(axis, np.stack((np.minimum(a["box"][0], paths.min((0, 1))), np.maximum(a["box"][1], paths.max((0, 1))))))
    axis.plot(paths[:, :, 0], paths[:, :, 1], color="0.55", linewidth=0.4)
    axis.scatter(paths[0, :, 0], paths[0, :, 1], s=2, color=PALETTE[0], linewidths=0, zorder=3)
    axis.scatter(paths[-1, :, 0], paths[-1, :, 1], s=3, color=PALETTE[1], marker="x", linewidths=0.4, zorder=3)


def _potential(axis: Axes, a: Arrays) -> None:
    if (values := a.get("potential")) is None:
        return blank(axis, NOT_GIVEN)
    image(axis, values, a["box"], "cividis")
    (left, bottom), (right, top) = a["box"]
    axis.contour(values.T, levels=9, extent=(left, right, bottom, top), colors="white", linewidths=0.4)

"""The experiments on kernels, as the report shows them: what `bench.trace`, `bench.scaling` and `bench.gradient_error`
left under results/ and, committed, in the folders of results/reference.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import convergence
from bench.report.render import Cell, Table

Found = Mapping[str, Any]  # what one of them measured


@dataclass(frozen=True)
class Experiment:
    """Its folder's name, and what its figures show."""

    name: str
    caption: str


EXPERIMENTS = (
    Experiment(
        "trace",
        "The exact trace in closed form against Hutchinson's estimate by AD: seconds over those "
        "of the closed form, and relative error, against the number of vectors (crosses: Onken et al. 2021, figure 2).",
    ),
    Experiment(
        "scaling",
        "OT-Flow's training step as one size grows, and its matrix-product rate beside the limits (roofline).",
    ),
    Experiment(
        "gradient_error",
        "Discretize-optimize (direct) against optimize-discretize (adjoint): error of the gradient against seconds.",
    ),
    Experiment("advection", "One control by upwinding and by characteristics."),
)


def folders(records: Sequence[Path]) -> Iterator[tuple[Experiment, Path]]:
    """Where experiments lie: beside each folder of records that is `runs`, and within the others."""
    for experiment in EXPERIMENTS:
        for folder in records:
            inside = (folder.parent if folder.name == "runs" else folder) / experiment.name
            if inside.is_dir():
                yield experiment, inside


def folders_of(name: str, records: Sequence[Path]) -> list[Path]:
    """Those of the experiment `name`."""
    return [folder for experiment, folder in folders(records) if experiment.name == name]


def found(records: Sequence[Path]) -> Iterator[tuple[Experiment, Path, Found]]:
    """What they left. A file that is not theirs is passed over."""
    for experiment, folder in folders(records):
        for path in sorted(folder.glob("*.json")):
            try:
                yield experiment, path, json.loads(path.read_text())
            except (OSError, ValueError):
                continue


def machine(path: Path) -> str:
    """The folder of results/reference that it lies in; `here` beside results/runs."""
    folder = path.parent.parent
    return "here" if folder.name == "results" else folder.name


def tables(records: Sequence[Path]) -> list[Table]:
    """All tables of the experiments beside `records`."""
    return [*slopes(records), *convergence.advections(folders_of("advection", records))]


def slopes(records: Sequence[Path]) -> list[Table]:
    """How seconds grow with each size: a row per device. A file that is not one is passed over."""
    rows: list[tuple[str, Sequence[Cell]]] = []
    names: list[str] = []
    for experiment, path, measured in found(records):
        if experiment.name != "scaling":
            continue
        try:
            cells = [Cell(f"{float(value):.2f}", float(value)) for value in measured["slopes"].values()]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if not names or list(measured["slopes"]) == names:
            names = list(measured["slopes"])
            rows.append((f"{machine(path)}, {path.stem}", cells))
    title = "OT-Flow's training step: slope of log seconds against log size"
    return [Table("scaling", title, "device", names, rows)] if rows else []

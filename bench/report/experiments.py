"""The experiments on kernels, as the report shows them: what `bench.trace`, `bench.scaling` and `bench.gradient_error`
left under results/ and, committed, in the folders of results/reference.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report.page import Picture
from bench.report.render import Cell, Table


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
)


def folders(records: Sequence[Path]) -> Iterator[tuple[Experiment, Path]]:
    """Where experiments lie: beside each folder of records that is `runs`, and within the others."""
    for experiment in EXPERIMENTS:
        for folder in records:
            inside = (folder.parent if folder.name == "runs" else folder) / experiment.name
            if inside.is_dir():
                yield experiment, inside


def pictures(records: Sequence[Path]) -> list[Picture]:
    """The figures of the experiments beside `records`."""
    return [
        Picture.read(path, f"{experiment.caption} ({path.stem})")
        for experiment, folder in folders(records)
        for path in sorted(folder.glob("*.png"))
    ]


def slopes(records: Sequence[Path]) -> list[Table]:
    """How seconds grow with each size: a row per device. A file that is not one is passed over."""
    rows: list[tuple[str, Sequence[Cell]]] = []
    names: list[str] = []
    for experiment, folder in folders(records):
        for path in sorted(folder.glob("*.json")) if experiment.name == "scaling" else ():
            try:
                found = json.loads(path.read_text())["slopes"]
                cells = [Cell(f"{float(value):.2f}", float(value)) for value in found.values()]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
            if not names or list(found) == names:
                names = list(found)
                rows.append((path.stem, cells))
    title = "OT-Flow's training step: slope of log seconds against log size"
    return [Table("scaling", title, "device", names, rows)] if rows else []

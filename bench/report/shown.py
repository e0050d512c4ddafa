"""The pictures that a report shows (bench.pictures): of each solver on each problem one run's."""

import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from bench import pictures
from bench.pictures import MARGINAL, Arrays
from bench.report import tables
from bench.report.frame import by_reference

Shown = dict[str, dict[str, Arrays]]  # dataset -> solver -> arrays


def pictures_of(frame: pd.DataFrame, reference: str) -> tuple[Shown, list[str]]:
    """For each dataset and solver, at its best setting, the picture of the run with the median NLL.

    And a line for each picture that could not be read.
    """
    shown: Shown = {}
    problems: list[str] = []
    there = {path for folder in frame["folder"].unique() for path in folder.glob("*.npz")}
    if not there:
        return shown, problems
    for dataset, part in frame.groupby("dataset"):
        for solver in by_reference(part["solver"], reference):
            try:
                arrays = _picture(tables.best_setting(part[part["solver"] == solver]), there)
            except (ValueError, OSError) as error:
                problems.append(str(error))
                continue
            if arrays is not None:
                shown.setdefault(str(dataset), {})[solver] = arrays
    return shown, problems


def _picture(runs: pd.DataFrame, there: Collection[Path]) -> Arrays | None:
    """The picture of the run with the median NLL, of those whose file is `there`."""
    ok = runs[runs["status"] == "ok"].sort_values("nll")
    paths = [folder / f"{key}.npz" for folder, key in zip(ok["folder"], ok["key"], strict=True)]
    found = [path for path in paths if path in there]
    if not found:
        return None
    path = found[(len(found) - 1) // 2]
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
          "target": (-1, -1), "target_points": (-1, 2), "decoded": (-1, -1, -1), "images": (-1, -1, -1),
          **{f"{MARGINAL}{name}": (-1, -1) for name in ("test", "forward", "target_points", "generated")}}  # fmt: skip
KINDS = ("box", "decoded", f"{MARGINAL}test")  # one of these is there
NEEDS = {"box": "test", "images": "decoded", f"{MARGINAL}test": f"{MARGINAL}target_points", "target": "target_box",
         "pushed": "target_box"}  # fmt: skip


def _check(path: Path, arrays: Arrays) -> None:
    if not any(name in arrays for name in KINDS):
        raise ValueError(f"{path}: not a picture (it lacks {', '.join(KINDS[:-1])} or {KINDS[-1]})")
    if lacking := sorted({needed for name, needed in NEEDS.items() if name in arrays and needed not in arrays}):
        raise ValueError(f"{path}: not a picture (it lacks {', '.join(lacking)})")
    for name, values in arrays.items():
        shape = SHAPES.get(name, values.shape)
        fits = len(shape) == values.ndim and all(s in (-1, n) for s, n in zip(shape, values.shape, strict=True))
        if not fits or not values.size or not np.isfinite(values).all():
            raise ValueError(f"{path}: not a picture ({name} is {values.shape} or not finite)")

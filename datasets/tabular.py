"""The five standard tabular sets of density estimation (Papamakarios et al. 2017), from their official files.

Fetch them with `python -m datasets.download NAME`. Each is checked against its published numbers of rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datasets import preprocess
from datasets.base import Problem
from datasets.download import find, remedy
from datasets.files import numbers, read_csv, read_hdf5, read_npy, reading, with_columns
from datasets.splits import Splits, as_problem
from datasets.unpickle import read_frame

GAS_TARGETS = ["Meth", "Eth", "Time"]  # columns of the file that are no sensors


@dataclass(frozen=True)
class Power:
    """POWER: electricity use of one household, minute by minute, d = 6 (UCI 235)."""

    version: ClassVar[int] = 1
    rows: tuple[int, int, int] = (1_659_917, 184_435, 204_928)
    columns: int = 8
    dim: int = 6

    def load(self, root: Path) -> Problem:
        (path,) = find(root, "power")
        with reading(path, remedy("power")):
            splits = preprocess.power(with_columns(read_npy(path), self.columns))
        return as_problem(str(path), splits, self.rows, self.dim, remedy("power"))


@dataclass(frozen=True)
class Gas:
    """GAS: sixteen sensors in mixtures of ethylene and CO, d = 8 (UCI 322).

    The official file is a pickle. It is read only if it came with an archive whose checksum held, and admits
    DataFrames only.
    """

    version: ClassVar[int] = 1
    rows: tuple[int, int, int] = (852_174, 94_685, 105_206)
    columns: int = 16
    dim: int = 8

    def load(self, root: Path) -> Problem:
        (path,) = find(root, "gas", recorded=True)
        frame = read_frame(path)
        with reading(path, remedy("gas")):
            splits = preprocess.gas(with_columns(numbers(frame.drop(columns=GAS_TARGETS).to_numpy()), self.columns))
        return as_problem(str(path), splits, self.rows, self.dim, remedy("gas"))


@dataclass(frozen=True)
class Hepmass:
    """HEPMASS: collisions that make a particle of mass 1000, d = 21 (UCI 347)."""

    version: ClassVar[int] = 1
    rows: tuple[int, int, int] = (315_123, 35_013, 174_987)
    columns: int = 28
    dim: int = 21

    def load(self, root: Path) -> Problem:
        train, test = find(root, "hepmass")
        with reading(train, remedy("hepmass")):
            raw_train = with_columns(read_csv(train), self.columns)
        with reading(test, remedy("hepmass")):
            raw_test = with_columns(read_csv(test), self.columns + 1)
            splits = preprocess.hepmass(raw_train, raw_test)
        return as_problem(str(train.parent), splits, self.rows, self.dim, remedy("hepmass"))


@dataclass(frozen=True)
class Miniboone:
    """MINIBOONE: electron neutrinos of the MiniBooNE experiment, d = 43 (UCI 199)."""

    version: ClassVar[int] = 1
    rows: tuple[int, int, int] = (29_556, 3_284, 3_648)
    dim: int = 43

    def load(self, root: Path) -> Problem:
        (path,) = find(root, "miniboone")
        with reading(path, remedy("miniboone")):
            splits = preprocess.miniboone(read_npy(path))
        return as_problem(str(path), splits, self.rows, self.dim, remedy("miniboone"))


@dataclass(frozen=True)
class BSDS300:
    """BSDS300: 8 x 8 patches of natural images, d = 63 (Arbelaez et al. 2011), preprocessed in the official file."""

    version: ClassVar[int] = 1
    rows: tuple[int, int, int] = (1_000_000, 50_000, 250_000)
    dim: int = 63

    def load(self, root: Path) -> Problem:
        (path,) = find(root, "bsds300")
        with reading(path, remedy("bsds300")):
            splits = Splits(*read_hdf5(path, ("train", "validation", "test")))
        return as_problem(str(path), splits, self.rows, self.dim, remedy("bsds300"))

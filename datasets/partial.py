"""Real tabular data that is close to the standard sets, but not them: each class says how it differs in its `note`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from datasets import preprocess
from datasets.base import Problem
from datasets.files import read_csv, read_npz, reading, with_columns
from datasets.patches import draw, read_grey
from datasets.splits import Splits, as_problem, last_tenth


def remedy(official: str) -> str:
    """What to do about a partial set that is missing or damaged."""
    return (
        "it has no download: let CNF_OT_DATA or data.root= name a data root that holds it, "
        f"or take dataset={official} after `python -m datasets.download {official}`"
    )


@dataclass(frozen=True)
class Power2007H1:
    """POWER's rows of 16 December 2006 to 30 June 2007, in the standard preprocessing, d = 6."""

    version: ClassVar[int] = 1
    note: ClassVar[str] = "278,861 of POWER's 2,049,280 rows: not comparable with published POWER numbers"
    rows: tuple[int, int, int] = (225_878, 25_097, 27_886)
    columns: int = 8
    dim: int = 6

    def load(self, root: Path) -> Problem:
        path = root / "power/power_2006-12-16_2007-06-30.npz"
        with reading(path, remedy("power")):
            splits = preprocess.power(with_columns(read_npz(path, "data"), self.columns))
        return as_problem(str(path), splits, self.rows, self.dim, remedy("power"))


@dataclass(frozen=True)
class MinibooneSmall:
    """MINIBOONE's official test split, d = 43; its validation split serves training and validation.

    Train: the first 1,523 official training rows and all but the last 500 validation rows, which validate.
    """

    version: ClassVar[int] = 1
    note: ClassVar[str] = "MINIBOONE's official test split, but 4,307 training rows for 29,556"
    rows: tuple[int, int, int] = (4_307, 500, 3_648)
    dim: int = 43

    def load(self, root: Path) -> Problem:
        path = root / "miniboone/miniboone_partial.npz"
        with reading(path, remedy("miniboone")):
            head, held, test = (read_npz(path, f"{name}_std") for name in ("train_head", "val", "test"))
            cut = len(held) - self.rows[1]
            splits = Splits(np.vstack((head, held[:cut])), held[cut:], test)
        return as_problem(str(path), splits, self.rows, self.dim, remedy("miniboone"))


@dataclass(frozen=True)
class BSDS300Redrawn:
    """Patches drawn anew from the images of BSDS300 by the standard recipe, d = 63.

    180 of the 200 training images, chosen by `seed`, give training patches and the other 20 validation patches. Test
    patches are a tenth of BSDS300's, and validation patches a hundredth: by all of them, two cores take half an hour to
    judge a flow, and an hour to validate it as it trains.
    """

    version: ClassVar[int] = 3
    note: ClassVar[str] = "the distribution of BSDS300's patches, but not its identical patches"
    patches: tuple[int, int, int] = (1_000_000, 500, 25_000)
    images: tuple[int, int, int] = (180, 20, 100)
    seed: int = 0
    dim: int = 63

    def load(self, root: Path) -> Problem:
        folder = root / "bsds300/images"
        rng = np.random.default_rng(self.seed)
        with reading(folder, remedy("bsds300")):
            known, test = (read_grey(folder / name, rng) for name in ("train", "test"))
            groups = known[: self.images[0]], known[self.images[0] :], test
            if tuple(map(len, groups)) != tuple(self.images):
                raise ValueError(f"{len(known)} training and {len(test)} test images where {self.images} belong")
            splits = Splits(*(draw(group, n, rng) for group, n in zip(groups, self.patches, strict=True)))
        return as_problem(str(folder), splits, self.patches, self.dim, remedy("bsds300"))


@dataclass(frozen=True)
class GasSample:
    """30,000 rows of GAS in 8 of its 16 sensors, standardised, split at random by others."""

    version: ClassVar[int] = 1
    note: ClassVar[str] = "a sample of GAS in 8 sensors that need not be the standard ones"
    rows: tuple[int, int, int] = (10_000, 10_000, 10_000)
    dim: int = 8

    def load(self, root: Path) -> Problem:
        parts = [_sample(root / f"gas/gas_{name}.csv", "gas") for name in ("train", "valid", "test")]
        return as_problem(str(root / "gas"), Splits(*parts), self.rows, self.dim, remedy("gas"))


@dataclass(frozen=True)
class HepmassSample:
    """9,930 rows of HEPMASS in 22 columns, standardised; the last tenth of its training rows validates."""

    version: ClassVar[int] = 1
    note: ClassVar[str] = "a sample of HEPMASS in 22 columns where the standard preprocessing keeps 21"
    rows: tuple[int, int, int] = (4_506, 500, 4_924)
    dim: int = 22

    def load(self, root: Path) -> Problem:
        files = (root / f"hepmass/hepmass_{name}_10k_preprocessed.csv" for name in ("train", "test"))
        train, test = (_sample(path, "hepmass") for path in files)
        splits = Splits(*last_tenth(train), test)
        return as_problem(str(root / "hepmass"), splits, self.rows, self.dim, remedy("hepmass"))


def _sample(path: Path, official: str) -> np.ndarray:
    with reading(path, remedy(official)):
        return read_csv(path)

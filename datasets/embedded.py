"""Two real sets that scikit-learn brings along, so that they need no network.

The protocol is this suite's own, not a standard of the literature: rows in a random order of fixed seed, 60 % to
train on, 20 % to validate, the rest to test; whitened by the training rows' mean m and covariance C (ddof 0):

    z = (x - m) V^-1/2 P^-1/2,   V = diag(C),   P = V^-1/2 C V^-1/2 the correlation matrix,

the ZCA-cor whitening of Kessy, Lewin and Strimmer 2018 (table 1). Among all W with W C W' = I it keeps each z_i
closest to x_i, does not depend on the units of x, and is unique: no signs or order of eigenvectors to choose.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.random import RandomState

from datasets.base import Problem
from datasets.splits import Array, Splits, as_problem

GREY_LEVELS = 17
REMEDY = "reinstall scikit-learn, which brings these data along"


@dataclass(frozen=True)
class Digits:
    """Handwritten digits of 8 x 8 pixels, d = 64: (x + u) / 17 with x in 0..16 and u uniform on [0, 1), whitened.

    The noise makes the density one of a continuous variable, and keeps the covariance of the pixels that are
    always 0 from being singular.
    """

    version: ClassVar[int] = 1
    note: ClassVar[str] = "the protocol is this suite's own, not a standard"
    rows: tuple[int, int, int] = (1_078, 359, 360)
    seed: int = 0
    dim: int = 64

    def load(self, root: Path) -> Problem:
        from sklearn.datasets import load_digits

        rng = RandomState(self.seed)
        pixels = load_digits().data
        splits = whitened(split((pixels + rng.random_sample(pixels.shape)) / GREY_LEVELS, rng))
        return as_problem("digits", splits, self.rows, self.dim, REMEDY)


@dataclass(frozen=True)
class BreastCancer:
    """Breast cancer Wisconsin (diagnostic): 30 measurements of the cell nuclei in each of 569 images, whitened."""

    version: ClassVar[int] = 1
    note: ClassVar[str] = "the protocol is this suite's own, not a standard"
    rows: tuple[int, int, int] = (341, 113, 115)
    seed: int = 0
    dim: int = 30

    def load(self, root: Path) -> Problem:
        from sklearn.datasets import load_breast_cancer

        splits = whitened(split(load_breast_cancer().data, RandomState(self.seed)))
        return as_problem("breast_cancer", splits, self.rows, self.dim, REMEDY)


def split(rows: Array, rng: RandomState) -> Splits:
    """The rows in a random order: the first 60 %, the next 20 %, both rounded down, and the rest."""
    n = len(rows)
    shuffled = rows[rng.permutation(n)]
    return Splits(*np.split(shuffled, [n * 3 // 5, n * 3 // 5 + n // 5]))


def whitened(splits: Splits) -> Splits:
    """The splits after the affine map of this module's docstring, learnt on the training rows."""
    mean, scale = splits.train.mean(axis=0), splits.train.std(axis=0)
    values, vectors = np.linalg.eigh(np.corrcoef(splits.train, rowvar=False))
    root = (vectors / np.sqrt(values)) @ vectors.T
    return Splits(*((part - mean) / scale @ root for part in splits))

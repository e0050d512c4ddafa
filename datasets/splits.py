"""Training, validation and test rows, and the density-estimation problem they make."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.base import Problem, Samples
from datasets.errors import DataError
from datasets.gaussians import standard_normal

Array = NDArray[np.floating]  # (n, d)


class Splits(NamedTuple):
    """Rows of shape (n, d) to train on, to validate on, and to test on."""

    train: Array
    valid: Array
    test: Array

    @property
    def rows(self) -> tuple[int, int, int]:
        return len(self.train), len(self.valid), len(self.test)


def tenths(rows: Array) -> Splits:
    """Test: the last tenth of `rows`, rounded down; validation: the last tenth of what is before; train: the rest."""
    rest, test = last_tenth(rows)
    return Splits(*last_tenth(rest), test)


def last_tenth(rows: Array) -> tuple[Array, Array]:
    """What is before the last floor(n / 10) of n rows, and these."""
    cut = len(rows) - len(rows) // 10
    return rows[:cut], rows[cut:]


def as_problem(name: str, splits: Splits, rows: tuple[int, int, int], dim: int, remedy: str) -> Problem:
    """Carry the training rows to N(0, I); in torch's default dtype.

    Raises DataError, which names `name` and `remedy`, unless the splits have `rows` rows of `dim` finite numbers.
    """
    if splits.rows != tuple(rows) or any(part.shape[1:] != (dim,) for part in splits):
        shapes = " / ".join(str(part.shape) for part in splits)
        raise DataError(f"{name} gives rows of shapes {shapes} where {tuple(rows)} of {dim} numbers belong: {remedy}")
    for part, values in splits._asdict().items():
        if not np.isfinite(values).all():
            raise DataError(f"{name}: the {part} rows hold NaN or infinity: {remedy}")
    train, valid, test = (_tensor(part) for part in splits)
    return Problem(source=Samples(train, valid), target=standard_normal(dim), test=test)


def _tensor(rows: Array) -> Tensor:
    return torch.tensor(rows, dtype=torch.get_default_dtype())

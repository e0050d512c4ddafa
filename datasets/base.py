"""Measures, problems and the conventions of the whole suite, written once.

Conventions
-----------
* Points are tensors of shape (n, d); values, such as log-densities, have shape (n,).
* Time runs over [0, 1] and vector fields are called f(t, x).
* `forward` carries the source to the target: data -> normal for density estimation.
* The cost of transport is c(x, y) = 1/2 |x - y|^2, so that the optimal cost is 1/2 W2^2.
* Log-densities are in nats, in the preprocessed coordinates, with no Jacobian of a scaling added.
* Randomness is an argument: every draw takes a `torch.Generator`, and lands on its device.
* Floating point numbers have torch's default dtype when a dataset is loaded; everything after that
  takes device and dtype from its inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from datasets.errors import DataError

Points = Tensor  # (n, d)
Values = Tensor  # (n,)
Map = Callable[[Points], Points]


@runtime_checkable
class Measure(Protocol):
    """A probability measure on R^dim that can be sampled."""

    @property
    def dim(self) -> int: ...

    def sample(self, n: int, rng: Generator) -> Points:
        """Draw n independent points, shape (n, dim), on the device of `rng`."""
        ...


@runtime_checkable
class Density(Measure, Protocol):
    """A measure whose log-density is known."""

    def log_prob(self, x: Points) -> Values:
        """The log-density at x in nats: (n, dim) -> (n,), in the dtype of x."""
        ...


@dataclass(frozen=True)
class Samples:
    """The empirical measure of `train` (n, d); `valid` (m, d) may serve early stopping."""

    train: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        for name, part in (("train", self.train), ("valid", self.valid)):
            if part.ndim != 2 or len(part) == 0 or not bool(torch.isfinite(part).all()):
                raise DataError(f"{name} must be a non-empty (n, d) array of finite numbers, not {tuple(part.shape)}")
        if self.train.shape[1] != self.valid.shape[1]:
            raise DataError(f"train has {self.train.shape[1]} columns and valid {self.valid.shape[1]}")

    @property
    def dim(self) -> int:
        return self.train.shape[1]

    def sample(self, n: int, rng: Generator) -> Points:
        """Draw n rows of `train` with replacement."""
        rows = torch.randint(len(self.train), (n,), generator=rng, device=rng.device)
        return self.train[rows]


@dataclass(frozen=True)
class Truth:
    """What is known exactly about a problem; None where nothing is.

    `cost` is 1/2 W2^2 between source and target, `map` the optimal map from source to target, `inverse` that from
    target to source, and `nll` the entropy of the source in nats: no model's expected negative log-likelihood is
    below it. `kl` is the divergence KL(map # source || target) which a relaxed truth (`Problem.relaxed`) leaves;
    of the transport problem itself it is 0. `velocity(t, x)` (n, d) is the optimal control, whose curves
    (1 - t) x + t map(x) are straight and run at constant speed, and `log_prob` (n,) the log-density of the target
    pulled back by `map`, that of the source itself where `kl` is 0.
    """

    cost: float | None = None
    map: Map | None = None
    nll: float | None = None
    inverse: Map | None = None
    kl: float | None = None
    velocity: Callable[[float, Points], Points] | None = None
    log_prob: Callable[[Points], Values] | None = None


@dataclass(frozen=True)
class Problem:
    """Carry `source` to `target`; judged on the points `test` (n, d) of the source.

    `relaxed(weight)`, where it is known, is the truth of the relaxed problem that mean-field-game solvers pose,
    min over T of 1/2 E|T(x) - x|^2 + weight KL(T # source || target), whose mass stops short of the target
    (Ruthotto et al. 2020): its `cost`, `map` and `kl`. Where points are codes of images, `decode(points)` are those:
    (n, height, width), grey levels in [0, 1], on the CPU.
    """

    source: Measure
    target: Measure
    test: Tensor
    truth: Truth = field(default_factory=Truth)
    relaxed: Callable[[float], Truth] | None = None
    decode: Callable[[Points], Tensor] | None = None

    def to(self, device: torch.device) -> "Problem":
        """The same problem with its stored points on `device` (analytic measures follow their rng)."""
        source = self.source
        if isinstance(source, Samples):
            source = Samples(source.train.to(device), source.valid.to(device))
        return replace(self, source=source, test=self.test.to(device))


class Dataset(Protocol):
    """A frozen dataclass of settings which loads a problem.

    `version` is raised whenever the numbers that `load` gives change; it is part of a record's key.
    """

    version: ClassVar[int]

    def load(self, root: Path) -> Problem:
        """Read or make the problem; `root` is the data root. Raises DataError with the remedy."""
        ...

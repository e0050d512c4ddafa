"""What masked autoregressive flows share: a transformation of zuko's, trained by maximum likelihood.

    -log q(x) = -log rho_1(T(x)) - log |det dT/dx|,

for any target density rho_1; T is triangular, so that the determinant costs nothing, and T^-1 takes d passes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Generator, Tensor, nn

from datasets.base import Density, Measure, Points, Values
from solvers.base import Diverged, Transport
from solvers.train import Schedule, Training, begin, unfit

ROWS = 2**14  # evaluated at a time, which bounds memory

Result = TypeVar("Result")


class Settings(Protocol):
    """The fields that the solvers here have, and the network they train."""

    @property
    def batch_size(self) -> int | None: ...
    @property
    def max_steps(self) -> int | None: ...
    @property
    def weight_decay(self) -> float: ...
    def schedule(self) -> Schedule: ...
    def network(self, dim: int) -> nn.Module:
        """A lazy transformation of zuko's on R^dim."""
        ...


@dataclass(frozen=True)
class Autoregressive:
    """`transforms` layers, each a masked network of `hidden` widths, the order of the coordinates reversed between
    them. The fields that begin with lr are those of solvers.train.Schedule.
    """

    transforms: int = 5
    hidden: tuple[int, ...] = (64, 64)
    batch_size: int | None = None
    lr: float = 1e-3
    lr_drop_factor: float = 10.0
    lr_drop_steps: int | None = None
    lr_patience: int | None = 1000
    lr_max_drops: int = 2
    weight_decay: float = 0.0
    max_steps: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a configuration gives a list
        if min(self.transforms, *self.hidden, len(self.hidden)) < 1:
            raise ValueError("transforms and every width in hidden must be 1 or more")
        self.schedule()

    def schedule(self) -> Schedule:
        return Schedule(self.lr, self.lr_drop_factor, self.lr_drop_steps, self.lr_patience, self.lr_max_drops)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        return unfit(source, target, self.batch_size)


def start(solver: Settings, source: Measure, target: Measure, rng: Generator) -> "AutoregressiveFit":
    """Begin a fit of the solver's network. Raises ImportError where zuko is missing."""
    assert isinstance(target, Density)
    network, training = begin(
        lambda: solver.network(source.dim),
        source,
        rng,
        solver.batch_size,
        solver.schedule(),
        solver.max_steps,
        solver.weight_decay,
    )
    return AutoregressiveFit(network, target, training)


class AutoregressiveFit:
    """A flow under training."""

    def __init__(self, network: nn.Module, target: Density, training: Training) -> None:
        self.network = network
        self.target = target
        self.training = training

    @property
    def done(self) -> bool:
        return self.training.done

    def step(self) -> Mapping[str, float]:
        return self.training.step(lambda x: (-self._log_prob(x).mean(), {}))

    def _log_prob(self, x: Points) -> Values:
        z, logdet = self.network().call_and_ladj(x)
        return self.target.log_prob(z) + logdet

    def validated(self, loss: float) -> None:
        self.training.validated(loss)

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """Nothing is integrated: `use` and `effort` change nothing."""
        return Transport(
            forward=partial(self._by_rows, lambda x: self.network()(x)),
            inverse=partial(self._by_rows, lambda z: self.network().inv(z)),
            log_prob=partial(self._by_rows, self._log_prob),
            parameters=self.training.parameters,
        )

    def _by_rows(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        dtype = next(self.network.parameters()).dtype
        with torch.inference_mode(not x.requires_grad):
            values = torch.cat([f(rows) for rows in x.to(dtype).split(ROWS)]).to(x.dtype)
        if not math.isfinite(float(values.detach().abs().max())):
            raise Diverged("the flow is not finite")
        return values

    def state_dict(self) -> dict[str, Any]:
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.training.load_state_dict(state)

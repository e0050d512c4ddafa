"""What masked autoregressive flows share: a transformation of zuko's, trained by maximum likelihood.

    -log q(x) = -log rho_1(T(x)) - log |det dT/dx|,

for any target density rho_1; T is triangular, so that the determinant costs nothing, and T^-1 takes d passes.
"""

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Generator, Tensor, nn

from datasets.base import Density, Map, Measure, Points, Values
from solvers.base import Diverged, Transport
from solvers.rows import ROWS, by_rows
from solvers.train import MakeOptimizer, Recipe, Trained, Training, adamw


@dataclass(frozen=True)
class Autoregressive(Recipe, ABC):
    """`transforms` layers, each a masked network of `hidden` widths, the order of the coordinates reversed between
    them. With the `optimizer` "adamw" weights decay apart from the gradient. The other fields are those of
    solvers.train.Recipe.
    """

    transforms: int = 5
    hidden: tuple[int, ...] = (64, 64)
    optimizer: Literal["adam", "adamw"] = "adam"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a configuration gives a list
        if min(self.transforms, *self.hidden, len(self.hidden)) < 1:
            raise ValueError("transforms and every width in hidden must be 1 or more")
        if self.optimizer not in ("adam", "adamw"):
            raise ValueError(f'optimizer must be "adam" or "adamw", not {self.optimizer!r}')
        super().__post_init__()

    def make_optimizer(self) -> MakeOptimizer:
        return adamw(self.weight_decay) if self.optimizer == "adamw" else super().make_optimizer()

    @abstractmethod
    def network(self, dim: int) -> nn.Module:
        """A lazy transformation of zuko's on R^dim."""

    def start(self, source: Measure, target: Measure, rng: Generator) -> "AutoregressiveFit":
        """Begin a fit. Raises ImportError where zuko is missing."""
        assert isinstance(target, Density)
        return AutoregressiveFit(*self.begin(lambda: self.network(source.dim), source, rng), target)


class AutoregressiveFit(Trained):
    """A flow under training."""

    def __init__(self, network: nn.Module, training: Training, target: Density) -> None:
        super().__init__(training)
        self.network = network
        self.target = target

    def step(self) -> Mapping[str, float]:
        return self.training.step(lambda x: (-self._log_prob(x).mean(), {}))

    def _log_prob(self, x: Points) -> Values:
        z, logdet = self.network().call_and_ladj(x)
        return self.target.log_prob(z) + logdet

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """Nothing is integrated: `use` and `effort` change nothing. Its functions raise Diverged."""
        return Transport(
            forward=self._checked(lambda x: self.network()(x)),
            inverse=self._checked(self._inverse, max(1, ROWS // self.target.dim)),
            log_prob=self._checked(self._log_prob),
            parameters=self.training.parameters,
        )

    def _inverse(self, z: Points) -> Points:
        """Each of its d passes through each layer leaves a cycle of references behind, with tensors as large as z.

        They are collected at once, since clocks keep the collector off: judging d = 63 took over 11 GB.
        """
        x = self.network().inv(z)
        gc.collect(0)
        return x

    def _checked(self, f: Callable[[Tensor], Tensor], rows: int = ROWS) -> Map:
        def finite(x: Tensor) -> Tensor:
            values = f(x)
            if not bool(values.isfinite().all()):
                raise Diverged("the flow is not finite")
            return values

        return by_rows(finite, next(self.network.parameters()).dtype, rows)

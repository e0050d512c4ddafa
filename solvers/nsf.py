"""NSF: an autoregressive neural spline flow (Durkan et al. 2019, arXiv 1906.04032), by zuko."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from solvers.autoregressive import Autoregressive


@dataclass(frozen=True)
class NSF(Autoregressive):
    """Layers of monotonic rational-quadratic splines with `bins` bins on [-5, 5], the identity outside.

    The splines' knots and slopes at x_i depend on x_<i; the other fields are those of Autoregressive.
    """

    bins: int = 8

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins < 2:
            raise ValueError(f"bins must be 2 or more, not {self.bins}")

    def network(self, dim: int) -> nn.Module:
        from zuko import flows  # an extra: `pip install zuko`

        return flows.NSF(dim, bins=self.bins, transforms=self.transforms, hidden_features=self.hidden).transform

"""MAF: a masked autoregressive flow (Papamakarios, Pavlakou and Murray 2017, arXiv 1705.07057), by zuko."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from solvers.autoregressive import Autoregressive


@dataclass(frozen=True)
class MAF(Autoregressive):
    """Layers z_i = (x_i - mu_i(x_<i)) exp(-alpha_i(x_<i)); the fields are those of Autoregressive."""

    version: ClassVar[int] = 2

    def network(self, dim: int) -> nn.Module:
        from zuko import flows  # an extra: `pip install zuko`

        return flows.MAF(dim, transforms=self.transforms, hidden_features=self.hidden).transform

"""Problems from a map: by Brenier's theorem the gradient of a convex function is optimal from any P to its image T # P.

So any such T gives a pair of measures with a known optimal map (Korotin et al. 2021, section 4).
"""

from dataclasses import dataclass

import torch
from torch import Generator

from datasets.base import Map, Measure, Points

ROWS = 2**14  # mapped at a time, which bounds memory


@dataclass(frozen=True, eq=False)
class PushForward:
    """The law of map(x), x ~ source: a measure to sample, without a density."""

    source: Measure
    map: Map

    @property
    def dim(self) -> int:
        return self.source.dim

    @torch.no_grad()
    def sample(self, n: int, rng: Generator) -> Points:
        return self.map(self.source.sample(n, rng))


def mean_cost(source: Measure, transport: Map, n: int, rng: Generator) -> tuple[float, float]:
    """The mean of 1/2 |T(x) - x|^2 over n draws of the source, and its standard error."""
    costs = []
    for rows in torch.arange(n).split(ROWS):
        x = source.sample(len(rows), rng)
        costs.append(0.5 * (transport(x) - x).square().sum(1).double())
    each = torch.cat(costs)
    return each.mean().item(), each.std().item() / n**0.5

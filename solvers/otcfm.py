"""OT-CFM: conditional flow matching whose pairs are those of an optimal coupling of each batch.

Tong et al., Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (TMLR 2024, arXiv
2302.00482), section 3.2: as batches grow, the paths straighten and the flow approaches the optimal transport. Of two
equally large samples an optimal coupling is a permutation, which is taken whole where the authors draw pairs from it.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from datasets.base import Points
from solvers.base import Diverged
from solvers.cfm import CFM
from solvers.exact import network_simplex


def permutation(x: Points, y: Points) -> Tensor:
    """The row of y (n, d) that each row of x (n, d) is coupled with, by the network simplex on |x - y|^2.

    Raises Diverged where the library fails or warns, and where its plan is no permutation.
    """
    plan = network_simplex(x, y)
    whole = plan.mass > 0.5 / len(x)  # a vertex of the polytope has entries 0 and 1/n, up to rounding
    rows, columns = plan.rows[whole], plan.columns[whole]
    each = torch.arange(len(x), device=x.device)
    if not (torch.equal(rows, each) and torch.equal(columns.sort().values, each)):
        raise Diverged(f"emd: the plan between two samples of {len(x)} is no permutation")
    return columns


@dataclass(frozen=True)
class OTCFM(CFM):
    """Hyperparameters of OT-CFM: those of CFM."""

    version: ClassVar[int] = 1

    def partners(self, x: Points, y: Points) -> Points:
        return y[permutation(x, y)]

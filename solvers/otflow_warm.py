"""OT-Flow from a warm start: its potential is first fitted to the displacements of optimally coupled batches. Ours.

Along an optimal flow -grad Phi(t, (1 - t) x + t y) = y - x for the pairs (x, y) of the optimal coupling. So the first
steps minimise what OT-CFM does (Tong et al. 2024, arXiv 2302.00482), with a field that is a gradient,

    alpha_nll E |grad_x Phi(t, (1 - t) x + t y) + y - x|^2,   t ~ U[0, 1],

which takes one evaluation of the potential a step and no Laplacian; then OT-Flow's own loss takes over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Density, Measure
from solvers.otcfm import permutation
from solvers.otflow import OTFlow, OTFlowFit
from solvers.potential import Potential
from solvers.train import Pairs


@dataclass(frozen=True)
class OTFlowWarm(OTFlow):
    """Hyperparameters: those of OT-Flow, and `warm_steps` steps of regression on at most `warm_rows` rows each.

    Of the former it picks up OT-Flow's own for a dataset: bench/conf/tuned/otflow_warm_* are links to those.
    """

    warm_steps: int = 300
    warm_rows: int = 256

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.warm_steps < 0 or self.warm_rows < 1:
            raise ValueError(
                f"warm_steps must be 0 or more and warm_rows 1 or more, not {self.warm_steps} and {self.warm_rows}"
            )
        super().__post_init__()

    def start(self, source: Measure, target: Measure, rng: Generator) -> "OTFlowWarmFit":
        assert isinstance(target, Density)
        batches = Pairs(source, target, self.batch_size, rng)
        settings = self.width, self.depth, self.rank
        potential, training = self.begin(lambda: Potential(source.dim, *settings), source, rng, batches)
        return OTFlowWarmFit(self, potential, target, training)


class OTFlowWarmFit(OTFlowFit):
    """An OT-Flow under training, from pairs of batches."""

    solver: OTFlowWarm

    def step(self) -> Mapping[str, float]:
        if self.training.steps < self.solver.warm_steps:
            self._clamp()
            return self.training.step(self._regression) | {"nfe_forward": 1, "nfe_backward": 0}
        if self.training.steps == self.solver.warm_steps:
            self.training.optimizer.state.clear()  # moments of another loss
        return super().step()

    def _regression(self, batch: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        x, y = batch[:, : self.solver.warm_rows]
        y = y[permutation(x, y)]
        t = torch.rand(len(x), 1, generator=self.training.batches.rng, dtype=x.dtype, device=x.device)
        gradient = self.potential.gradient(torch.cat([torch.lerp(x, y, t), t], dim=1))[:, :-1]
        misfit = (gradient + y - x).square().sum(1).mean()
        return self.solver.alpha_nll * misfit, {"misfit": misfit.item()}

    def _loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        return super()._loss(batch[0])

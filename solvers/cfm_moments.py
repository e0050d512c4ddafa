"""Conditional flow matching after the optimal map between the moments of source and target. Ours.

Columns that are strongly correlated, or of very different scales, make a free field stiff, and most of what it learns
is a linear map that has a closed form. So with B of `moments`, which carries mean and covariance of the source to those
of the target (Gelbrich 1990), a flow f is found by flow matching between B # source and the target. The map is f o B:

    log q(x) = log q_f(B(x)) + log |det B|,   log |det B| = 1/2 log det S_1 - 1/2 log det S_0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Map, Measure, Points, Values
from datasets.gaussians import Gaussian, transport_map
from solvers.base import Transport
from solvers.cfm import CFM, CFMFit
from solvers.ffjord import Flow
from solvers.moments import Moments, MomentsFit
from solvers.train import Training

LogProb = Callable[[Points], Values]


@dataclass(frozen=True)
class CFMMoments(CFM):
    """Hyperparameters: those of CFM, whose settings for a dataset it picks up (links in bench/conf/tuned)."""

    version: ClassVar[int] = 1

    def unfit(self, source: Measure, target: Measure) -> str | None:
        return super().unfit(source, target) or Moments().unfit(source, target)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "CFMMomentsFit":
        moments = Moments().start(source, target, rng)
        fit = super().start(source, target, rng)
        return CFMMomentsFit(self, fit.flow, target, fit.training, moments)


@dataclass(frozen=True)
class Affine:
    """B, its inverse, and log |det B|."""

    forward: Map
    inverse: Map
    log_det: float

    @classmethod
    def between(cls, source: Gaussian, target: Gaussian) -> "Affine":
        """The optimal map; B S_0 B' = S_1, so that its determinant is in the entropies."""
        there, back = transport_map(source, target), transport_map(target, source)
        return cls(there, back, target.entropy - source.entropy)

    def then(self, log_prob: LogProb | None) -> LogProb | None:
        """The density pulled back by B: x -> log_prob(B(x)) + log |det B|; None where there is none."""
        return None if log_prob is None else lambda x: log_prob(self.forward(x)) + self.log_det


IDENTITY = Affine(lambda x: x, lambda x: x, 0.0)


class CFMMomentsFit(CFMFit):
    """A flow-matching model under training. Its first step takes the moments too; before it B is the identity."""

    def __init__(self, solver: CFM, flow: Flow, target: Measure, training: Training, moments: MomentsFit) -> None:
        super().__init__(solver, flow, target, training)
        self.moments = moments
        self.affine = IDENTITY

    def step(self) -> Mapping[str, float]:
        if not self.moments.done:
            self.moments.step()
            self._fit()
        return super().step()

    def _fit(self) -> None:
        if self.moments.gaussians is not None:
            self.affine = Affine.between(*self.moments.gaussians)

    def _loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        x, y = batch
        return super()._loss(torch.stack([self.affine.forward(x), y]))

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """As that of CFM, but without a path, velocity and energy: B is a map and no curve."""
        flow, affine, dim = super().transport(use, effort), self.affine, self.flow.dim
        onward, back = flow.forward, flow.inverse
        assert onward is not None
        assert back is not None
        return Transport(
            forward=lambda x: onward(affine.forward(x)),
            inverse=lambda y: affine.inverse(back(y)),
            log_prob=affine.then(flow.log_prob),
            log_prob_estimate=affine.then(flow.log_prob_estimate),
            parameters=self.training.parameters + dim + dim * (dim + 1) // 2,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"flow": super().state_dict(), "moments": self.moments.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.moments.load_state_dict(state["moments"])
        self._fit()
        super().load_state_dict(state["flow"])

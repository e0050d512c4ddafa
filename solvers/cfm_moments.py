"""Conditional flow matching after the optimal map between the moments of source and target. Ours.

Where columns are strongly correlated or of very different scales, much of what carries the source to the target is a
linear map, which has a closed form. With B of `moments`, that takes mean and covariance of the source to those of the
target (Gelbrich 1990), a flow f is found by flow matching between B # source and the target. The map is f o B:

    log q(x) = log q_f(B(x)) + log |det B|,   log |det B| = 1/2 log det S_1 - 1/2 log det S_0.

Where the data are white already and the target is N(0, I), B is the identity, and this is CFM.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
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
    """Hyperparameters: those of CFM, whose settings for a dataset it picks up (links in bench/conf/tuned).

    `n_points` are the draws that moments are taken of, as in Moments.
    """

    n_points: int = 100_000

    version: ClassVar[int] = 1  # raised with that of Moments too

    def __post_init__(self) -> None:
        Moments(self.n_points)
        super().__post_init__()

    def moments(self) -> Moments | None:
        """What finds the map that comes first; None for none."""
        return Moments(self.n_points)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        first = self.moments()
        return super().unfit(source, target) or (first.unfit(source, target) if first else None)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "CFMMomentsFit":
        fit, first = super().start(source, target, rng), self.moments()
        moments = first.start(source, target, rng) if first else None
        return CFMMomentsFit(self, fit.flow, target, fit.training, moments)


@dataclass(frozen=True)
class Affine:
    """B, the optimal map between two Gaussians: computed in float64, given in the dtype of x."""

    source: Gaussian
    target: Gaussian

    @cached_property
    def _there(self) -> Map:
        return transport_map(self.source, self.target)

    @cached_property
    def _back(self) -> Map:
        return transport_map(self.target, self.source)

    @property
    def log_det(self) -> float:
        """log |det B| for B S_0 B' = S_1, so that the entropies have it."""
        return self.target.entropy - self.source.entropy

    def forward(self, x: Points) -> Points:
        return self._there(x.double()).to(x)

    def inverse(self, y: Points) -> Points:
        return self._back(y.double()).to(y)

    def pulled_back(self, log_prob: LogProb | None) -> LogProb | None:
        """x -> log_prob(B(x)) + log |det B|; None where there is no density."""
        return None if log_prob is None else lambda x: log_prob(self.forward(x)) + self.log_det


class CFMMomentsFit(CFMFit):
    """A flow-matching model under training. Its first step takes the moments too."""

    def __init__(
        self, solver: CFM, flow: Flow, target: Measure, training: Training, moments: MomentsFit | None
    ) -> None:
        super().__init__(solver, flow, target, training)
        self.moments = moments
        self.affine: Affine | None = None

    def step(self) -> Mapping[str, float]:
        if self.moments is not None and not self.moments.done:
            self.moments.step()
            self._take(self.moments)
        return super().step()

    def _take(self, moments: MomentsFit) -> None:
        gaussians = moments.gaussians
        self.affine = None if gaussians is None else Affine(*gaussians)

    def _loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        if self.moments is None:
            return super()._loss(batch)
        assert self.affine is not None
        x, y = batch
        return super()._loss(torch.stack([self.affine.forward(x), y]))

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """As that of CFM, after a first map without path, velocity and energy: B is a map and no curve."""
        flow, affine = super().transport(use, effort), self.affine
        if affine is None:
            return flow
        onward, back, dim = flow.forward, flow.inverse, self.flow.dim
        assert onward is not None
        assert back is not None
        return Transport(
            forward=lambda x: onward(affine.forward(x)),
            inverse=lambda y: affine.inverse(back(y)),
            log_prob=affine.pulled_back(flow.log_prob),
            log_prob_estimate=affine.pulled_back(flow.log_prob_estimate),
            parameters=self.training.parameters + dim + dim * (dim + 1) // 2,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"flow": super().state_dict(), "moments": self.moments and self.moments.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.moments is not None:
            self.moments.load_state_dict(state["moments"])
            self._take(self.moments)
        super().load_state_dict(state["flow"])

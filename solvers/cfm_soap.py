"""Conditional flow matching, trained quickly: SOAP, averaged weights, and times that are denser near the data. Ours.

The regression of solvers.cfm has a noisy gradient, as each row comes with another time and another partner, and its
likelihood is decided close to the source, where the structure of the data is finest. So

    t = u^warp, u stratified over the batch: the minimiser at each t is the same, more of the batch is close to t = 0;
    the weights go by SOAP (solvers.soap), and the flow that is used has their average w instead,
    w_1 = weights_1,  w_k = w_{k-1} + (1 - beta_k) (weights_k - w_{k-1}),  beta_k = min(averaging, k / (k + 9)),

after steps k = 1, 2, ... (Polyak and Juditsky 1992 for the average, Ho et al. 2020 for one that forgets). With `whiten`
the closed-form map of the moments comes first, as in solvers.cfm_moments.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Measure, Points
from solvers.cfm_moments import CFMMoments, CFMMomentsFit
from solvers.ffjord import Flow
from solvers.moments import Moments, MomentsFit
from solvers.soap import SOAP
from solvers.train import Annealing, MakeOptimizer, Schedule, Training


@dataclass(frozen=True)
class CFMSoap(CFMMoments):
    """Hyperparameters: those of CFMMoments, but for the weights' decay, which SOAP does not have.

    The rate rises to `lr` over `lr_warm_up` steps; it drops where validation no longer improves, as that of CFM.
    """

    batch_size: int | None = 512
    lr: float = 0.02
    lr_warm_up: int = 100
    warp: float = 1.5
    averaging: float = 0.998
    whiten: bool = True

    version: ClassVar[int] = 1  # raised with that of Moments too

    def __post_init__(self) -> None:
        if self.weight_decay:
            raise ValueError("weight_decay must be 0: SOAP does not decay weights")
        if not self.warp > 0:
            raise ValueError(f"warp must be above 0, not {self.warp}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must lie in [0, 1), not {self.averaging}")
        if self.lr_warm_up < 1:
            raise ValueError(f"lr_warm_up must be 1 or more, not {self.lr_warm_up}")
        super().__post_init__()

    def moments(self) -> Moments | None:
        return super().moments() if self.whiten else None

    def schedule(self) -> Schedule:
        return replace(super().schedule(), annealing=Annealing(1, 1.0, self.lr_warm_up))  # of which the warm-up alone

    def make_optimizer(self) -> MakeOptimizer:
        return partial(SOAP, min_side=2)

    def times(self, x: Points, rng: Generator) -> Tensor:
        """t (n,) = u^warp with a u of its own in each n-th of [0, 1]; rows come in random order."""
        u = torch.rand(len(x), generator=rng, dtype=x.dtype, device=x.device)
        return u.add_(torch.arange(len(x), dtype=x.dtype, device=x.device)).div_(len(x)).pow_(self.warp)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "CFMSoapFit":
        fit = super().start(source, target, rng)
        return CFMSoapFit(self, fit.flow, target, fit.training, fit.moments)


class CFMSoapFit(CFMMomentsFit):
    """A flow-matching model under training, whose transport is that of the average of its weights."""

    def __init__(
        self, solver: CFMSoap, flow: Flow, target: Measure, training: Training, moments: MomentsFit | None
    ) -> None:
        super().__init__(solver, flow, target, training, moments)
        self.averaging = solver.averaging
        self.flow = copy.deepcopy(flow)

    def step(self) -> Mapping[str, float]:
        told = super().step()
        k = self.training.steps
        beta = min(self.averaging, k / (k + 9)) if k > 1 else 0.0
        with torch.no_grad():
            average, weights = (list[Tensor](model.parameters()) for model in (self.flow, self.training.model))
            torch._foreach_lerp_(average, weights, 1 - beta)
        return told

    def state_dict(self) -> dict[str, Any]:
        return {"fit": super().state_dict(), "average": self.flow.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state["fit"])
        self.flow.load_state_dict(state["average"])

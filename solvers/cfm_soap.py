"""Conditional flow matching, trained quickly: SOAP, averaged weights, and times that are denser near the data. Ours.

The regression of solvers.cfm has a noisy gradient, as each row comes with another time and another partner, and its
likelihood is decided close to the source, where the structure of the data is finest. So

    t = u^warp, u stratified over the batch: the minimiser at each t is the same, more of the batch is close to t = 0;
    the weights go by SOAP (solvers.soap) at a constant rate, which need not fall, as the flow that is used has
    w <- w + (1 - beta_k) (weights - w),  beta_k = min(averaging, (1 + k) / (10 + k)), after step k

(Polyak and Juditsky 1992 for the average, Ho et al. 2020 for one that forgets). With `whiten` the closed-form map of
the moments comes first, as in solvers.cfm_moments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.optim.swa_utils import AveragedModel

from datasets.base import Measure, Points
from solvers.cfm_moments import CFMMoments, CFMMomentsFit
from solvers.ffjord import Flow
from solvers.moments import Moments
from solvers.soap import SOAP
from solvers.train import Annealing, MakeOptimizer, Schedule


@dataclass(frozen=True)
class CFMSoap(CFMMoments):
    """Hyperparameters: those of CFMMoments, but for the weights' decay, which SOAP does not have.

    The rate rises to `lr` over `lr_warm_up` steps.
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
        super().__post_init__()

    def moments(self) -> Moments | None:
        return super().moments() if self.whiten else None

    def schedule(self) -> Schedule:
        plain = super().schedule()
        return Schedule(
            self.lr,
            plain.drop_factor,
            plain.drop_every,
            plain.patience,
            plain.max_drops,
            annealing=Annealing(1, 1.0, self.lr_warm_up),
        )

    def make_optimizer(self) -> MakeOptimizer:
        return partial(SOAP, min_side=2)

    def times(self, x: Points, rng: Generator) -> Tensor:
        """t (n,) = u^warp with a u of its own in each n-th of [0, 1]; rows come in random order."""
        u = torch.rand(len(x), generator=rng, dtype=x.dtype, device=x.device)
        return u.add_(torch.arange(len(x), dtype=x.dtype, device=x.device)).div_(len(x)).pow_(self.warp)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "CFMSoapFit":
        return CFMSoapFit(super().start(source, target, rng), self.averaging)


class CFMSoapFit(CFMMomentsFit):
    """A flow-matching model under training, whose transport is that of the average of its weights."""

    def __init__(self, fit: CFMMomentsFit, averaging: float) -> None:
        super().__init__(fit.solver, fit.flow, fit.target, fit.training, fit.moments)
        self.average = AveragedModel(self.flow, multi_avg_fn=partial(_lerp, averaging))
        assert isinstance(self.average.module, Flow)
        self.flow = self.average.module

    def step(self) -> Mapping[str, float]:
        told = super().step()
        self.average.update_parameters(self.training.model)
        return told

    def state_dict(self) -> dict[str, Any]:
        return {"fit": super().state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state["fit"])
        self.average.load_state_dict(state["average"])


def _lerp(averaging: float, average: list[Tensor], weights: list[Tensor], k: Tensor) -> None:
    """The average after one more step, in place; `k` steps are in it."""
    beta = min(averaging, (1 + k.item()) / (10 + k.item()))
    torch._foreach_lerp_(average, weights, 1 - beta)

"""OT-Flow whose trace is estimated while it is trained: what the exact one is held against.

The control experiment of Onken et al. (AAAI 2021, arXiv 2006.00104v5, figure 3). In training the Laplacian gives way to
Hutchinson's estimate by automatic differentiation, as in FFJORD (Grathwohl et al. 2019, eq. 7 and 8),

    e . Hess_x Phi e,   E[e e'] = I,

with one direction e a row for a whole integration, drawn anew for each step of the optimiser. Everything else is
OT-Flow's: its loss, its Runge-Kutta steps, and after each training step the exact trace.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from datasets.base import Density
from solvers.divergence import directions
from solvers.integrate import integrate as runge_kutta
from solvers.otflow import OTFlow, OTFlowFit
from solvers.potential import Potential
from solvers.train import Training


def integrate(potential: Potential, x: Tensor, n_steps: int, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As solvers.otflow.integrate from 0 to 1, with noise . Hess_x Phi noise in place of the Laplacian.

    `noise` (n, d) is held fixed, so that logdet is unbiased for that of the exact trace where E[noise noise'] = I.
    Differentiable by AD.
    """

    def rates(t: float, x: Tensor) -> tuple[Tensor, ...]:
        s = torch.cat([x, x.new_full((len(x), 1), t)], dim=1)
        s = s if s.requires_grad else s.requires_grad_()  # the first evaluation's is a leaf
        (gradient,) = torch.autograd.grad(potential(s).sum(), s, create_graph=True)
        velocity = -gradient[:, :-1]
        (product,) = torch.autograd.grad((velocity * noise).sum(), s, create_graph=True)
        kinetic = 0.5 * velocity.square().sum(1)
        return velocity, (product[:, :-1] * noise).sum(1), kinetic, (gradient[:, -1] - kinetic).abs()

    z, logdet, cost, hjb = runge_kutta(rates, x, n_steps)
    return z, logdet, cost, hjb


@dataclass(frozen=True)
class OTFlowHutchinson(OTFlow):
    """Hyperparameters: those of OT-Flow, and the law of the directions, "rademacher" or "gaussian".

    It picks up OT-Flow's own for a dataset: bench/conf/tuned/otflow_hutchinson_* are links to those.
    """

    noise: Literal["rademacher", "gaussian"] = "rademacher"

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.noise not in ("rademacher", "gaussian"):
            raise ValueError(f'noise is "rademacher" or "gaussian", not {self.noise!r}')
        if self.trace_dtype is not None:
            raise ValueError("trace_dtype is that of the exact trace, which this solver does not train with")
        super().__post_init__()

    def _fit(self, potential: Potential, target: Density, training: Training) -> "OTFlowHutchinsonFit":
        return OTFlowHutchinsonFit(self, potential, target, training)


class OTFlowHutchinsonFit(OTFlowFit):
    """An OT-Flow under training with the estimate."""

    solver: OTFlowHutchinson

    def _carry(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        noise = directions(x, self.solver.noise, self.training.batches.rng)
        return integrate(self.potential, x, self.solver.n_steps, noise)

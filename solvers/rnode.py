"""RNODE: FFJORD regularised towards flows that are easy to integrate.

Finlay, Jacobsen, Nurbekyan and Oberman, How to Train Your Neural ODE: the World of Jacobian and Kinetic
Regularization (ICML 2020, arXiv 2002.02798). To FFJORD's loss it adds

    kinetic E int_0^T |f(t, z(t))|^2 dt + jacobian E int_0^T |grad f(t, z(t))|_F^2 dt,

integrated beside the flow, which makes a few steps of a fixed method enough to train with. The Frobenius norm is
estimated by |J e|^2 along the direction e of Hutchinson's estimate e . J e: one product gives both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Measure, Points
from solvers.adaptive import Evaluations, Integrator, Rates
from solvers.concatsquash import ConcatSquash
from solvers.divergence import Differentiable, directions
from solvers.ffjord import FFJORD, FFJORDFit, RatesOf, carry


def penalised(field: Differentiable, v: Tensor) -> Rates:
    """Rates of the state (x, logdet, kinetic, jacobian): f, div f, |f|^2 and |grad f|_F^2.

    `v` are directions (k, n, d), or (k, 1, d) for the same ones at all rows: for the last and the second rate one
    random direction with E[v v^T] = I gives an unbiased estimate, the d unit vectors the exact values.
    """

    def rates(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        f, Jv = field.tangents(t, state[0], v)
        divergence, jacobian = (v * Jv).sum((0, 2)), Jv.square().sum((0, 2))
        rows = len(f)  # where J is constant, one value is for all rows
        return f, divergence.expand(rows), f.square().sum(1), jacobian.expand(rows)

    return rates


@dataclass(frozen=True)
class RNODE(FFJORD):
    """Hyperparameters of RNODE: those of FFJORD, and the weights `kinetic` and `jacobian` of the penalties, in nats.

    A fixed `method` trains and validates; after training the flow is integrated by dopri5 to `test_atol` and
    `test_rtol`, or `atol` and `rtol`, whatever it was trained with.
    """

    divergence: str = "hutchinson"
    method: str = "rk4"
    n_steps: int | None = 8
    adjoint: bool = False
    kinetic: float = 0.01
    jacobian: float = 0.01

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kinetic", "jacobian"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: set it to 0 or more")

    def integrator(self, use: str) -> Integrator:
        found = super().integrator(use)
        return replace(found, method="dopri5", n_steps=None) if use == "test" and found.n_steps else found

    def start(self, source: Measure, target: Measure, rng: Generator) -> "RNODEFit":
        return RNODEFit(*self.begun(source, target, rng))


class RNODEFit(FFJORDFit):
    """An RNODE under training."""

    solver: RNODE

    def loss(self, x: Points, evaluations: Evaluations) -> tuple[Tensor, Mapping[str, float]]:
        zero = x.new_zeros(len(x))
        state = carry(self.flow, self._rates_of(x), (x, zero, zero, zero), self.solver.integrator("train"), evaluations)
        z, logdet, kinetic, jacobian = state
        nll = -(self.target.log_prob(z) + logdet).mean()
        kinetic, jacobian = self.solver.kinetic * kinetic.mean(), self.solver.jacobian * jacobian.mean()
        terms = {"nll": nll.item(), "kinetic": kinetic.item(), "jacobian": jacobian.item()}
        return nll + kinetic + jacobian, terms

    def _rates_of(self, x: Points) -> RatesOf:
        if self.solver.divergence == "exact":
            basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).unsqueeze(1)
            return lambda field: penalised(field, basis)

        def estimated(field: ConcatSquash) -> Rates:
            return penalised(field, directions(x, self.solver.noise, self.training.batches.rng).unsqueeze(0))

        return estimated

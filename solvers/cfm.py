"""Conditional flow matching: a free vector field that is found by regression, with nothing integrated in training.

Lipman, Chen, Ben-Hamu, Nickel and Le, Flow Matching for Generative Modeling (ICLR 2023, arXiv 2210.02747), and Tong
et al., Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (TMLR 2024, arXiv
2302.00482), eq. (14) and (15): with x ~ source and y ~ target, here independent ("I-CFM"), minimise

    E |f(t, z) - (y - x)|^2,   z = (1 - t) x + t y + sigma e,   t ~ U[0, 1],   e ~ N(0, I).

The flow of the minimiser carries the source to the target, both smoothed by N(0, sigma^2 I).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Measure, Points
from solvers.adaptive import Integrator
from solvers.base import Transport
from solvers.concatsquash import ACTIVATIONS, ConcatSquash
from solvers.ffjord import EXACT_DIM, Flow, transport
from solvers.train import MakeOptimizer, Pairs, Recipe, Trained, Training, adamw, mismatch, too_few


def regression(field: ConcatSquash, x: Points, y: Points, t: Tensor, noise: Points) -> Tensor:
    """E |f(t, z) - (y - x)|^2 with z = (1 - t) x + t y + noise, the mean over rows; t (n,) has a time for each."""
    z = torch.lerp(x, y, t[:, None]) + noise
    return (field.scattered(t, z) - (y - x)).square().sum(1).mean()


@dataclass(frozen=True)
class CFM(Recipe):
    """Hyperparameters of conditional flow matching.

    `hidden` and `nonlinearity` are those of FFJORD's network, `sigma` the width of the smoothing. The flow found is
    integrated by dopri5 with `atol` and `rtol` in validation, `test_atol` and `test_rtol` after training; a pass with
    more than `max_evaluations` evaluations is given up as diverged. The other fields are those of
    solvers.train.Recipe, but for the weights' decay, which is AdamW's.
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    nonlinearity: str = "tanh"
    sigma: float = 0.0
    atol: float = 1e-5
    rtol: float = 1e-5
    test_atol: float = 1e-6
    test_rtol: float = 1e-6
    max_evaluations: int = 20_000
    batch_size: int | None = 256
    lr_patience: int | None = 4000

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a configuration gives a list
        if self.nonlinearity not in ACTIVATIONS:
            raise ValueError(f"unknown nonlinearity {self.nonlinearity!r}: choose one of {', '.join(ACTIVATIONS)}")
        if min((self.max_evaluations, *self.hidden)) < 1:
            raise ValueError("hidden and max_evaluations must be 1 or more")
        if not self.sigma >= 0:
            raise ValueError(f"sigma must be 0 or more, not {self.sigma}")
        for use in ("valid", "test"):
            self.integrator(use)
        super().__post_init__()

    def integrator(self, use: str) -> Integrator:
        atol, rtol = {"valid": (self.atol, self.rtol), "test": (self.test_atol, self.test_rtol)}[use]
        return Integrator("dopri5", atol, rtol)

    def make_optimizer(self) -> MakeOptimizer:
        return adamw(self.weight_decay)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        return mismatch(source, target) or too_few(source, self.batch_size) or too_few(target, self.batch_size)

    def partners(self, x: Points, y: Points) -> Points:
        """The rows of y in the order in which those of x are coupled with them: here as they were drawn."""
        return y

    def times(self, x: Points, rng: Generator) -> Tensor:
        """Times in [0, 1] (n,), one for each row of x."""
        return torch.rand(len(x), generator=rng, dtype=x.dtype, device=x.device)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "CFMFit":
        batches = Pairs(source, target, self.batch_size, rng)
        flow, training = self.begin(
            lambda: Flow(source.dim, self.hidden, self.nonlinearity, 1, 1.0), source, rng, batches
        )
        return CFMFit(self, flow, target, training)


class CFMFit(Trained):
    """A flow-matching model under training: `field` is trained, `flow` is what it is used as."""

    def __init__(self, solver: CFM, flow: Flow, target: Measure, training: Training) -> None:
        super().__init__(training)
        self.solver = solver
        self.field = flow.blocks[0]
        self.flow = flow
        self.target = target

    def step(self) -> Mapping[str, float]:
        return self.training.step(self._loss) | {"nfe_forward": 1, "nfe_backward": 0}

    def _loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        x, y = batch
        rng = self.training.batches.rng
        t = self.solver.times(x, rng)
        noise = self.solver.sigma * torch.randn(x.shape, generator=rng, dtype=x.dtype, device=x.device)
        return regression(self.field, x, self.solver.partners(x, y), t, noise), {}

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """As that of FFJORD; without a density where the target has none."""
        dtype = next(self.flow.parameters()).dtype
        integrator = self.solver.integrator(use).refined(effort, dtype)
        exact = use == "test" or self.flow.dim <= EXACT_DIM
        return transport(self.flow, self.target, integrator, self.solver.max_evaluations, "rademacher", exact)

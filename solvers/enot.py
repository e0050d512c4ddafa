"""ENOT: neural optimal transport through its dual, with Kantorovich potentials held conjugate by expectile regression.

Buzun, Bobrin and Dylov, ENOT: Expectile Regularization for Fast and Accurate Training of Neural Optimal Transport
(NeurIPS 2024, arXiv 2403.03777), algorithm 1, for c(x, y) = 1/2 |x - y|^2 in its correlation form, which the authors
use on the Wasserstein-2 benchmark: with u = 1/2 |x|^2 - f and v = 1/2 |y|^2 - g the dual is

    1/2 W2^2 = 1/2 E|x|^2 + 1/2 E|y|^2 - min over v of E_P v*(x) + E_Q v(y),   v*(x) = max over y of x . y - v(y),

the maximum is sought at y = T(x) = grad u(x), and v is pressed towards v** by the expectile loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from datasets.base import Measure, Points
from solvers.base import Transport, probe
from solvers.brenier import BrenierPotential
from solvers.moments import Moments
from solvers.rows import by_rows
from solvers.soap import SOAP
from solvers.train import Annealing, MakeOptimizer, Pairs, Schedule, Training, seeded, too_few

COST_SEED = 0xD0A1  # far from the seeds of runs
COST_ROWS = 2**16


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """expectile d^2 where d >= 0 and (1 - expectile) d^2 elsewhere, elementwise; eq. (10)."""
    return torch.where(difference >= 0, expectile, 1 - expectile) * difference.square()


def loss(
    u: BrenierPotential, v: BrenierPotential, x: Points, y: Points, expectile: float, weight: float
) -> tuple[Tensor, Mapping[str, float]]:
    """Algorithm 1's loss in the direction x ~ P -> y ~ Q, the sum of three terms over the pairs of the batch:

    * dual: E v(y) + E[x . T - v(T)], for v alone;
    * amortisation: -E[x . T - v(T)], for u alone, whose gradient T = grad u(x) is to attain v*;
    * expectile: weight E L(d) twice, for either part of d = v(T) - x . T + x . y - v(y), the other held fixed. With
      v convex and T its argmax d <= 0 by the Fenchel-Young inequality: d > 0 is a violation, which weighs
      `expectile`.

    The value is that of dual + amortisation + expectile, the gradient Algorithm 1's, of one backward pass.
    """
    T = u.gradient(x)
    at = T.detach()
    value_at_y, value_at_T = v.value(torch.cat([y, at])).split([len(y), len(at)])
    conjugate = (x * at).sum(1) - value_at_T
    with torch.no_grad():
        slope = v.gradient(at) - x  # of v(T) - x . T in T
    amortisation = (slope * (T - at)).sum(1).mean() - conjugate.detach().mean()
    dual = value_at_y.mean() + conjugate.mean()
    correlation = (x * y).sum(1)
    parts = (correlation - value_at_y - conjugate.detach(), correlation - value_at_y.detach() - conjugate)
    regression = weight * sum((expectile_loss(d, expectile).mean() for d in parts), torch.zeros_like(dual))
    terms = {"dual": dual.item(), "amortisation": amortisation.item(), "expectile": regression.item()}
    return dual + amortisation + regression, terms


@dataclass(frozen=True)
class ENOT:
    """Hyperparameters of ENOT.

    `hidden` are the widths of both potentials, which begin as the optimal quadratics between Gaussians with the
    moments of `n_moments` draws. `expectile` and `expectile_weight` are the paper's tau and lambda. `optimizer` is
    "soap" or the authors' "adam"; its rate falls from `lr` to `lr_end` lr along a cosine of `max_steps` steps. Odd
    steps train the direction from source to target, even steps the other, with the potentials exchanged.
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    expectile: float = 1.0
    expectile_weight: float = 0.5
    batch_size: int = 1024
    optimizer: str = "soap"
    lr: float = 3e-3
    lr_end: float = 0.01
    lr_warm_up: int = 100
    beta1: float = 0.9
    beta2: float = 0.99
    max_steps: int = 20_000
    n_moments: int = 2**15

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a configuration gives a list
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be widths of 1 or more, not {self.hidden}")
        if not 0.5 <= self.expectile <= 1 or self.expectile_weight < 0:
            raise ValueError(
                "expectile must lie in [0.5, 1] and expectile_weight not be negative; "
                f"they are {self.expectile} and {self.expectile_weight}"
            )
        if self.optimizer not in ("soap", "adam"):
            raise ValueError(f'optimizer must be "soap" or "adam", not {self.optimizer!r}')
        if not all(0 <= beta < 1 for beta in (self.beta1, self.beta2)):
            raise ValueError(f"beta1 and beta2 must lie in [0, 1), not {self.beta1} and {self.beta2}")
        if self.n_moments < 2:
            raise ValueError(f"n_moments must be 2 or more, not {self.n_moments}")
        self.schedule()

    def schedule(self) -> Schedule:
        return Schedule(self.lr, annealing=Annealing(self.max_steps, self.lr_end, self.lr_warm_up))

    def make_optimizer(self) -> MakeOptimizer:
        betas = (self.beta1, self.beta2)
        return partial(SOAP, betas=betas) if self.optimizer == "soap" else partial(_adam, betas=betas)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        few = too_few(source, self.batch_size) or too_few(target, self.batch_size)
        return few or Moments(self.n_moments).unfit(source, target)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "ENOTFit":
        like = probe(source, rng)
        fitted = Moments(self.n_moments).start(source, target, rng)
        fitted.step()
        assert fitted.gaussians is not None
        P, Q = fitted.gaussians
        with seeded(rng):
            pair = Potentials(*(BrenierPotential.between(a, b, self.hidden) for a, b in ((P, Q), (Q, P))))
        pair.to(device=like.device, dtype=like.dtype)
        batches = Pairs(source, target, self.batch_size, rng)
        training = Training(pair, batches, self.schedule(), self.max_steps, optimizer=self.make_optimizer())
        return ENOTFit(self, pair, training, source, target)


def _adam(parameters: Any, lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=True)


class Potentials(nn.Module):
    """u, whose gradient carries the source to the target, and v for the way back."""

    def __init__(self, u: BrenierPotential, v: BrenierPotential) -> None:
        super().__init__()
        self.u, self.v = u, v


class ENOTFit:
    """A pair of potentials under training."""

    def __init__(self, solver: ENOT, pair: Potentials, training: Training, source: Measure, target: Measure) -> None:
        self.solver = solver
        self.u, self.v = pair.u, pair.v
        self.training = training
        self.source, self.target = source, target

    @property
    def done(self) -> bool:
        return self.training.done

    def step(self) -> Mapping[str, float]:
        return self.training.step(self._loss)

    def _loss(self, batch: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        x, y = batch
        settings = self.solver.expectile, self.solver.expectile_weight
        if self.training.steps % 2 == 0:
            return loss(self.u, self.v, x, y, *settings)
        return loss(self.v, self.u, y, x, *settings)

    def validated(self, loss: float) -> None:
        pass

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        dtype = self.u.b.dtype
        return Transport(
            forward=by_rows(self.u.gradient, dtype),
            inverse=by_rows(self.v.gradient, dtype),
            cost=self._cost() if use == "test" else None,
            parameters=self.training.parameters,
        )

    @torch.no_grad()
    def _cost(self) -> float:
        """The dual value 1/2 E|x|^2 + 1/2 E|y|^2 - E[x . T - v(T)] - E v(y) over COST_ROWS draws of fixed seed."""
        rng = Generator(self.training.batches.rng.device).manual_seed(COST_SEED)
        total = 0.0
        for rows in torch.arange(COST_ROWS).split(2**14):
            x, y = (measure.sample(len(rows), rng).to(self.u.b) for measure in (self.source, self.target))
            T = self.u.gradient(x)
            values = 0.5 * (x.square() + y.square()).sum(1) - (x * T).sum(1) + self.v.value(T) - self.v.value(y)
            total += values.double().sum().item()
        return total / COST_ROWS

    def state_dict(self) -> dict[str, Any]:
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.training.load_state_dict(state)

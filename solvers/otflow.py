"""OT-Flow: a continuous normalizing flow whose velocity is minus the gradient of a potential.

Onken, Wu Fung, Li and Ruthotto, OT-Flow: Fast and Accurate Continuous Normalizing Flows via Optimal Transport
(AAAI 2021, arXiv 2006.00104). Trained discretize-then-optimize with RK4; training minimises, eq. (8),

    J = alpha_nll C + L + alpha_hjb R,   C = E[-log rho_1(z(1)) - logdet],
    L = E int 1/2 |v|^2 dt,   R = E int |Phi_t - 1/2 |grad_x Phi|^2| dt,   v = -grad_x Phi.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Density, Map, Measure
from solvers.base import Transport
from solvers.integrate import integrate as runge_kutta
from solvers.potential import Evaluation, Potential
from solvers.train import Schedule, Training, begin, unfit

ROWS = 2**14  # evaluated at a time, which bounds memory


def integrate(
    potential: Potential, x: Tensor, n_steps: int, t0: float = 0.0, t1: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Carry x (n, d) along the flow with RK4: returns z (n, d) and logdet, cost, hjb (n,) each.

    dx/dt = -grad_x Phi, dlogdet/dt = -Laplacian, cost = int 1/2 |grad_x Phi|^2 dt and
    hjb = int |Phi_t - 1/2 |grad_x Phi|^2| dt, all from t0 to t1; eq. (2), (5) and (7).
    """
    evaluation = Evaluation(potential)

    def rates(t: float, x: Tensor) -> tuple[Tensor, ...]:
        gradient, laplacian = evaluation.gradient_and_laplacian(_at(x, t))
        velocity = -gradient[:, :-1]
        kinetic = 0.5 * velocity.square().sum(1)
        return velocity, -laplacian, kinetic, (gradient[:, -1] - kinetic).abs()

    z, logdet, cost, hjb = runge_kutta(rates, x, n_steps, t0, t1)
    return z, logdet, cost, hjb


def advect(potential: Potential, x: Tensor, n_steps: int, t0: float = 0.0, t1: float = 1.0) -> Tensor:
    """The points alone (n, d), which takes no Laplacian."""
    evaluation = Evaluation(potential)
    (z,) = runge_kutta(lambda t, x: (-evaluation.gradient(_at(x, t))[:, :-1],), x, n_steps, t0, t1)
    return z


def _at(x: Tensor, t: float) -> Tensor:
    return torch.cat([x, x.new_full((len(x), 1), t)], dim=1)


@dataclass(frozen=True)
class OTFlow:
    """Hyperparameters of OT-Flow; alpha_nll and alpha_hjb are the paper's alpha_C and alpha_R.

    `n_steps` are the RK4 steps of training, `n_steps_valid` and `n_steps_test` those of validation and of
    everything after training. The fields that begin with lr are those of solvers.train.Schedule. `clamp` keeps every
    weight within [-clamp, clamp], as the authors' code does on tabular data (at 1.5).
    """

    width: int = 32
    depth: int = 2
    rank: int = 10
    n_steps: int = 8
    n_steps_valid: int = 12
    n_steps_test: int = 16
    alpha_nll: float = 100.0
    alpha_hjb: float = 5.0
    batch_size: int | None = None
    lr: float = 0.02
    lr_drop_factor: float = 10.0
    lr_drop_steps: int | None = None
    lr_patience: int | None = 400
    lr_max_drops: int = 3
    weight_decay: float = 0.0
    clamp: float | None = None
    max_steps: int | None = None

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("width", "rank", "n_steps", "n_steps_valid", "n_steps_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.depth < 2:
            raise ValueError(f"depth must be 2 or more, not {self.depth}")
        if min(self.alpha_nll, self.alpha_hjb) < 0:
            raise ValueError("alpha_nll and alpha_hjb must not be negative")
        if self.clamp is not None and not self.clamp > 0:
            raise ValueError(f"clamp must be positive, or null, not {self.clamp}")
        self.schedule()

    def schedule(self) -> Schedule:
        return Schedule(self.lr, self.lr_drop_factor, self.lr_drop_steps, self.lr_patience, self.lr_max_drops)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        return unfit(source, target, self.batch_size)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "OTFlowFit":
        assert isinstance(target, Density)
        potential, training = begin(
            lambda: Potential(source.dim, self.width, self.depth, self.rank),
            source,
            rng,
            self.batch_size,
            self.schedule(),
            self.max_steps,
            self.weight_decay,
        )
        return OTFlowFit(self, potential, target, training)


class OTFlowFit:
    """An OT-Flow under training."""

    def __init__(self, solver: OTFlow, potential: Potential, target: Density, training: Training) -> None:
        self.solver = solver
        self.potential = potential
        self.target = target
        self.training = training

    @property
    def done(self) -> bool:
        return self.training.done

    def step(self) -> Mapping[str, float]:
        evaluations = 4 * self.solver.n_steps
        self._clamp()
        return self.training.step(self._loss) | {"nfe_forward": evaluations, "nfe_backward": 0}

    @torch.no_grad()
    def _clamp(self) -> None:
        if (bound := self.solver.clamp) is not None:
            for weights in self.potential.parameters():
                weights.clamp_(-bound, bound)

    def _loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        z, logdet, cost, hjb = integrate(self.potential, x, self.solver.n_steps)
        nll, cost, hjb = -(self.target.log_prob(z) + logdet).mean(), cost.mean(), hjb.mean()
        loss = self.solver.alpha_nll * nll + cost + self.solver.alpha_hjb * hjb
        return loss, {"nll": nll.item(), "transport": cost.item(), "hjb": hjb.item()}

    def validated(self, loss: float) -> None:
        self.training.validated(loss)

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        steps = {"valid": self.solver.n_steps_valid, "test": self.solver.n_steps_test}[use]
        n_steps = max(1, math.ceil(steps * effort))
        potential, target = self.potential, self.target

        def log_prob(x: Tensor) -> Tensor:
            z, logdet, _, _ = integrate(potential, x, n_steps)
            return target.log_prob(z) + logdet

        def path(x: Tensor, t: float) -> Tensor:
            return x if t <= 0.0 else advect(potential, x, max(1, math.ceil(n_steps * t)), 0.0, t)

        dtype = potential.A.dtype
        return Transport(
            forward=by_rows(lambda x: advect(potential, x, n_steps), dtype),
            inverse=by_rows(lambda z: advect(potential, z, n_steps, 1.0, 0.0), dtype),
            log_prob=by_rows(log_prob, dtype),
            path=lambda x, t: by_rows(lambda rows: path(rows, t), dtype)(x),
            parameters=self.training.parameters,
        )

    def state_dict(self) -> dict[str, Any]:
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.training.load_state_dict(state)


def by_rows(f: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Map:
    """`f` in `dtype` on at most ROWS rows at a time, in inference mode unless the derivative in x is wanted."""

    def chunked(x: Tensor) -> Tensor:
        with torch.inference_mode(not x.requires_grad):
            return torch.cat([f(rows) for rows in x.to(dtype).split(ROWS)]).to(x.dtype)

    return chunked

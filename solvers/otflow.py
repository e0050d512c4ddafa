"""OT-Flow: a continuous normalizing flow whose velocity is minus the gradient of a potential.

Onken, Wu Fung, Li and Ruthotto, OT-Flow: Fast and Accurate Continuous Normalizing Flows via Optimal Transport
(AAAI 2021, arXiv 2006.00104). Trained discretize-then-optimize with RK4; training minimises, eq. (8),

    J = alpha_nll C + L + alpha_hjb R,   C = E[-log rho_1(z(1)) - logdet],
    L = E int 1/2 |v|^2 dt,   R = E int |Phi_t - 1/2 |grad_x Phi|^2| dt,   v = -grad_x Phi.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from datasets.base import Density, Measure
from solvers.base import Transport
from solvers.evaluation import Buffers, Evaluation, Record, Weights
from solvers.integrate import RK4, pull_back
from solvers.integrate import integrate as runge_kutta
from solvers.once import once_differentiable
from solvers.potential import Potential
from solvers.rows import by_rows
from solvers.train import Recipe, Trained, Training

TraceDtype = Literal["bfloat16"] | None


def integrate(
    potential: Potential,
    x: Tensor,
    n_steps: int,
    t0: float = 0.0,
    t1: float = 1.0,
    buffers: Buffers | None = None,
    trace_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Carry x (n, d) along the flow with RK4: returns z (n, d) and logdet, cost, hjb (n,) each.

    dx/dt = -grad_x Phi, dlogdet/dt = -Laplacian, cost = int 1/2 |grad_x Phi|^2 dt and
    hjb = int |Phi_t - 1/2 |grad_x Phi|^2| dt, all from t0 to t1; eq. (2), (5) and (7).

    Differentiable once in weights and points, at least cost where the loss takes logdet in by its mean or sum alone.
    Between steps of a training, `buffers` keep the memory; each call with the same ones overwrites what the backward
    pass of the one before needs. `trace_dtype` is that of solvers.evaluation.Evaluation.
    """
    weights = potential.weights()
    course = _Course(n_steps, t0, t1, weights.factored, True, buffers or Buffers(), trace_dtype)
    z, logdet, cost, hjb = course.run(x, weights)
    return z, logdet - (t1 - t0) * potential.trace(), cost, hjb


def advect(potential: Potential, x: Tensor, n_steps: int, t0: float = 0.0, t1: float = 1.0) -> Tensor:
    """The points alone (n, d), which takes no Laplacian."""
    weights = potential.weights()
    return _Course(n_steps, t0, t1, weights.factored, False, Buffers(), None).run(x, weights)[0]


@dataclass(frozen=True)
class _Course:
    """From t0 to t1 in `n_steps` steps, with the accumulators or without."""

    n_steps: int
    t0: float
    t1: float
    factored: bool
    accumulates: bool
    buffers: Buffers
    trace_dtype: torch.dtype | None

    def run(self, x: Tensor, weights: Weights) -> tuple[Tensor, ...]:
        inputs = (x, *weights.tensors)
        records = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
        results: tuple[Tensor, ...] = _Flow.apply(self, records, *inputs)
        return results


class _Flow(torch.autograd.Function):
    """x (n, d) -> z and, where they are asked for, logdet less that of the quadratic term, cost and hjb.

    Discretize-then-optimize: backward is the adjoint of the very steps of forward. Points are (d, n) within.
    The products of the Laplacian's gradient in the weights are formed on the way forth, with those of its value, as
    if all rows had the same upstream gradient of logdet; where they have not, backward forms them anew.
    """

    @staticmethod
    def forward(ctx: Any, course: _Course, records: bool, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        evaluation = Evaluation(Weights(weights, course.factored), course.buffers, course.trace_dtype)
        stages: list[tuple[Record, Tensor, Tensor | None]] = []
        course.buffers.turn += records  # before the first of them is overwritten: this call may be interrupted
        shares = [(course.t1 - course.t0) / course.n_steps * b for b in RK4.b]

        def rates(t: float, x: Tensor) -> tuple[Tensor, ...]:
            keep, share = (len(stages), shares[len(stages) % len(shares)]) if records else (None, 0.0)
            S = course.buffers.empty(("S", keep), (len(x) + 2, x.shape[1]), x)
            S[:-2], S[-2], S[-1] = x, t, 1.0
            gradient, laplacian, record = evaluation.forward(S, course.accumulates, keep, share)
            if records:
                stages.append((record, gradient, None))
            velocity = -gradient[:-1]
            if laplacian is None:
                return (velocity,)
            kinetic = 0.5 * velocity.square().sum(0)
            residual = gradient[-1] - kinetic
            if records:
                stages[-1] = record, gradient, residual.sign()
            return velocity, laplacian.neg_(), kinetic, residual.abs_()

        z, *totals = runge_kutta(rates, x.T, course.n_steps, course.t0, course.t1)
        if records:
            ctx.course, ctx.evaluation, ctx.stages, ctx.turn = course, evaluation, stages, course.buffers.turn
            ctx.save_for_backward(*weights)
            ctx.set_materialize_grads(False)
        return z.T.contiguous(), *totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_z: Tensor | None, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        weights, course = ctx.saved_tensors, ctx.course  # the former raises where a weight has changed
        if ctx.turn != course.buffers.turn:
            raise RuntimeError("the buffers have been used since: call backward before the next integrate")
        n = ctx.stages[0][0].S.shape[1]
        zero = weights[0].new_zeros(n)
        logdet, cost, hjb = (zero if grad is None else grad for grad in grads) if grads else (zero, zero, zero)
        alike = bool((logdet == logdet[0]).all())

        def pullback(i: int, v: Tensor, weight: float) -> Tensor:
            record, gradient, sign = ctx.stages[i]
            G = course.buffers.empty("G", (len(v) + 1, n), v)
            G[:-1], G[-1] = -v, 0.0
            if sign is None:
                return ctx.evaluation.backward(record, G, None)[:-1]
            torch.mul(sign, weight * hjb, out=G[-1])
            G[:-1].addcmul_(weight * cost - G[-1], gradient[:-1])
            return ctx.evaluation.backward(record, G, -weight * logdet, alike)[:-1]

        start = grad_z.T if grad_z is not None else zero.new_zeros(weights[0].shape[1] - 1, n)
        grad_x = pull_back(pullback, start, course.n_steps, course.t0, course.t1)
        scale = -logdet[0] if alike and course.accumulates else None
        return None, None, grad_x.T, *ctx.evaluation.weight_gradients(scale)


@dataclass(frozen=True)
class OTFlow(Recipe):
    """Hyperparameters of OT-Flow; alpha_nll and alpha_hjb are the paper's alpha_C and alpha_R.

    `n_steps` are the RK4 steps of training, `n_steps_valid` and `n_steps_test` those of validation and of
    everything after training. `clamp` keeps every weight within [-clamp, clamp], as the authors' code does on tabular
    data (at 1.5). `trace_dtype` "bfloat16" forms the trace's matrix products in training, and no others, in bfloat16:
    see solvers.evaluation.Evaluation. The other fields are those of solvers.train.Recipe.
    """

    width: int = 32
    depth: int = 2
    rank: int = 10
    n_steps: int = 8
    n_steps_valid: int = 12
    n_steps_test: int = 16
    alpha_nll: float = 100.0
    alpha_hjb: float = 5.0
    lr: float = 0.02
    lr_patience: int | None = 400
    lr_max_drops: int = 3
    clamp: float | None = None
    trace_dtype: TraceDtype = None

    version: ClassVar[int] = 2

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
        if self.trace_dtype not in (None, "bfloat16"):
            raise ValueError(f'trace_dtype is "bfloat16" or null, not {self.trace_dtype!r}')
        super().__post_init__()

    def start(self, source: Measure, target: Measure, rng: Generator) -> "OTFlowFit":
        assert isinstance(target, Density)
        potential, training = self.begin(lambda: Potential(source.dim, self.width, self.depth, self.rank), source, rng)
        return self._fit(potential, target, training)

    def _fit(self, potential: Potential, target: Density, training: Training) -> "OTFlowFit":
        return OTFlowFit(self, potential, target, training)


class OTFlowFit(Trained):
    """An OT-Flow under training."""

    def __init__(self, solver: OTFlow, potential: Potential, target: Density, training: Training) -> None:
        super().__init__(training)
        self.solver = solver
        self.potential = potential
        self.target = target
        self._buffers = Buffers()

    def step(self) -> Mapping[str, float]:
        evaluations = 4 * self.solver.n_steps
        self._clamp()
        return self.training.step(self._loss) | {"nfe_forward": evaluations, "nfe_backward": 0}

    @torch.no_grad()
    def _clamp(self) -> None:
        if (bound := self.solver.clamp) is not None:
            for weights in self.potential.parameters():
                weights.clamp_(-bound, bound)

    def _carry(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The points x (n, d) at the end, and logdet, cost and hjb, as `integrate` gives them."""
        dtype = torch.bfloat16 if self.solver.trace_dtype else None
        return integrate(self.potential, x, self.solver.n_steps, buffers=self._buffers, trace_dtype=dtype)

    def _loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        z, logdet, cost, hjb = self._carry(x)
        nll, cost, hjb = -(self.target.log_prob(z) + logdet).mean(), cost.mean(), hjb.mean()
        loss = self.solver.alpha_nll * nll + cost + self.solver.alpha_hjb * hjb
        return loss, {"nll": nll.item(), "transport": cost.item(), "hjb": hjb.item()}

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        steps = {"valid": self.solver.n_steps_valid, "test": self.solver.n_steps_test}[use]
        return transport(self.potential, self.target, max(1, math.ceil(steps * effort)))


def transport(potential: Potential, target: Density, n_steps: int) -> Transport:
    """The flow of -grad Phi as a transport to `target`, in `n_steps` RK4 steps either way."""
    dtype = potential.A.dtype

    def log_prob(x: Tensor) -> Tensor:
        z, logdet, _, _ = integrate(potential, x, n_steps)
        return target.log_prob(z) + logdet

    def velocity(t: float, x: Tensor) -> Tensor:
        return -potential.gradient(torch.cat([x, x.new_full((len(x), 1), t)], dim=1))[:, :-1]

    def path(x: Tensor, t: float) -> Tensor:
        return x if t <= 0.0 else advect(potential, x, max(1, math.ceil(n_steps * t)), 0.0, t)

    return Transport(
        forward=by_rows(lambda x: advect(potential, x, n_steps), dtype),
        inverse=by_rows(lambda z: advect(potential, z, n_steps, 1.0, 0.0), dtype),
        log_prob=by_rows(log_prob, dtype),
        path=lambda x, t: by_rows(lambda rows: path(rows, t), dtype)(x),
        velocity=lambda t, x: by_rows(lambda rows: velocity(t, rows), dtype)(x),
        energy=by_rows(lambda x: integrate(potential, x, n_steps)[2], dtype),
        parameters=sum(p.numel() for p in potential.parameters() if p.requires_grad),
    )

"""FFJORD: a continuous normalizing flow with a free vector field, integrated by an adaptive method.

Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, FFJORD: Free-form Continuous Dynamics for Scalable Reversible
Generative Models (ICLR 2019, arXiv 1810.01367). Training minimises -E log p(x), where by its eq. (3)

    log p(x) = log N(z(T); 0, I) + int_0^T div f(t, z(t)) dt,   dz/dt = f(t, z),   z(0) = x,

the divergence exact or, eq. (8), estimated by one random direction a row, the same throughout a block.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self, cast

import torch
from torch import Generator, Tensor, nn

from datasets.base import Density, Measure, Points, Values
from solvers.adaptive import Evaluations, Integrator, Rates, State
from solvers.base import Diverged, Transport
from solvers.concatsquash import ACTIVATIONS, ConcatSquash
from solvers.divergence import directions, hutchinson
from solvers.train import Schedule, Training, begin, unfit

EXACT_DIM = 64  # up to here validation takes the exact divergence
ELEMENTS = 2**22  # rows x dim x width evaluated at a time, which bounds memory
LEAST_ROWS = 512

RatesOf = Callable[[ConcatSquash], Rates]


class Flow(nn.Module):
    """Fields in sequence, each integrated over its own [0, `time_length`]."""

    def __init__(self, dim: int, hidden: tuple[int, ...], nonlinearity: str, n_blocks: int, time_length: float) -> None:
        super().__init__()
        self.dim = dim
        fields = [ConcatSquash(dim, hidden, nonlinearity) for _ in range(n_blocks)]
        self.blocks = cast(Sequence[ConcatSquash], nn.ModuleList(fields))
        self.time_length = time_length


def carry(
    flow: Flow,
    rates_of: RatesOf,
    state: State,
    integrator: Integrator,
    evaluations: Evaluations,
    start: float = 0.0,
    end: float = 1.0,
) -> State:
    """`state` at `end`, from `state` at `start`, on a clock where block k of n takes [k/n, (k+1)/n].

    `rates_of(block)` gives the rates of the points and of any accumulators along a block. Raises Diverged.
    """
    n = len(flow.blocks)
    order = range(n) if start <= end else reversed(range(n))
    for k in order:
        t0, t1 = (flow.time_length * min(max(n * t - k, 0.0), 1.0) for t in (start, end))
        if t0 != t1:
            block = flow.blocks[k]
            state = integrator.solve(rates_of(block), state, t0, t1, evaluations, tuple(block.parameters()))
    return state


def motion(field: ConcatSquash) -> Rates:
    """Rates of the state (x,)."""
    return lambda t, state: (field(t, state[0]),)


def exact_density(field: ConcatSquash) -> Rates:
    """Rates of the state (x, logdet): dx/dt = f, dlogdet/dt = div f."""
    return lambda t, state: field.divergence(t, state[0])


def estimated_density(like: Points, noise: str, rng: Generator) -> RatesOf:
    """As `exact_density`, with Hutchinson's estimate along directions of the shape of `like`, new for each block."""

    def rates_of(field: ConcatSquash) -> Rates:
        fixed = directions(like, noise, rng)
        return lambda t, state: hutchinson(field, t, state[0], fixed)

    return rates_of


@dataclass(frozen=True)
class FFJORD:
    """Hyperparameters of FFJORD.

    `divergence` is that of training; `noise` ("rademacher", "gaussian") the directions of "hutchinson". `method`,
    `atol`, `rtol` and `n_steps` are those of solvers.adaptive.Integrator, for each block;
    `test_atol` and `test_rtol`, where given, replace the tolerances after training. `adjoint` solves backward for
    the gradient, in memory that does not grow with the steps; without it the gradient is taken through the stored
    steps, and no evaluation is counted as backward. A pass, its adjoint included, with more than `max_evaluations`
    evaluations is given up as diverged. The fields that begin with lr are those of solvers.train.Schedule, with the
    authors' rule: the first drop takes `lr_patience` steps without improvement, the second twice as many, and the
    end, after `lr_max_drops` of them, once more.
    """

    hidden: tuple[int, ...] = (64, 64, 64)
    nonlinearity: str = "tanh"
    n_blocks: int = 1
    time_length: float = 1.0
    divergence: str = "exact"
    noise: str = "rademacher"
    method: str = "dopri5"
    atol: float = 1e-5
    rtol: float = 1e-5
    test_atol: float | None = None
    test_rtol: float | None = None
    n_steps: int | None = None
    adjoint: bool = True
    max_evaluations: int = 20_000
    batch_size: int | None = None
    lr: float = 1e-3
    lr_drop_factor: float = 10.0
    lr_drop_steps: int | None = None
    lr_patience: int | None = 2000
    lr_max_drops: int = 2
    weight_decay: float = 0.0
    max_steps: int | None = None

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # a configuration gives a list
        for name, choices in (
            ("nonlinearity", tuple(ACTIVATIONS)),
            ("divergence", ("exact", "hutchinson")),
            ("noise", ("rademacher", "gaussian")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(choices)}")
        if min(self.n_blocks, self.max_evaluations, *self.hidden) < 1 or not self.time_length > 0:
            raise ValueError("hidden, n_blocks and max_evaluations must be 1 or more, and time_length positive")
        self.integrator("train")
        self.integrator("test")
        self.schedule()

    def schedule(self) -> Schedule:
        return Schedule(
            self.lr, self.lr_drop_factor, self.lr_drop_steps, self.lr_patience, self.lr_max_drops, cumulative=True
        )

    def integrator(self, use: str) -> Integrator:
        """The integrator of `use`: "train", or one of those of `FFJORDFit.transport`."""
        integrator = Integrator(self.method, self.atol, self.rtol, self.n_steps, self.adjoint)
        if use in ("train", "valid"):
            return integrator
        atol = self.atol if self.test_atol is None else self.test_atol
        rtol = self.rtol if self.test_rtol is None else self.test_rtol
        return replace(integrator, atol=atol, rtol=rtol)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        return unfit(source, target, self.batch_size)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "FFJORDFit":
        return FFJORDFit(*self.begun(source, target, rng))

    def begun(self, source: Measure, target: Measure, rng: Generator) -> tuple[Self, Flow, Density, Training]:
        """What a fit is made of."""
        assert isinstance(target, Density)
        flow, training = begin(
            lambda: Flow(source.dim, self.hidden, self.nonlinearity, self.n_blocks, self.time_length),
            source,
            rng,
            self.batch_size,
            self.schedule(),
            self.max_steps,
            self.weight_decay,
        )
        return self, flow, target, training


class FFJORDFit:
    """An FFJORD under training."""

    def __init__(self, solver: FFJORD, flow: Flow, target: Density, training: Training) -> None:
        self.solver = solver
        self.flow = flow
        self.target = target
        self.training = training

    @property
    def done(self) -> bool:
        return self.training.done

    def step(self) -> Mapping[str, float]:
        evaluations = Evaluations(self.solver.max_evaluations)
        forward = 0

        def loss_of(x: Tensor) -> tuple[Tensor, Mapping[str, float]]:
            nonlocal forward
            loss, terms = self.loss(x, evaluations)
            forward = evaluations.count
            return loss, terms

        with evaluations.watched():
            result = self.training.step(loss_of)
        return result | {"nfe_forward": forward, "nfe_backward": evaluations.count - forward}

    def loss(self, x: Points, evaluations: Evaluations) -> tuple[Tensor, Mapping[str, float]]:
        estimated = estimated_density(x, self.solver.noise, self.training.batches.rng)
        rates_of = exact_density if self.solver.divergence == "exact" else estimated
        z, logdet = carry(self.flow, rates_of, (x, x.new_zeros(len(x))), self.solver.integrator("train"), evaluations)
        nll = -(self.target.log_prob(z) + logdet).mean()
        return nll, {"nll": nll.item()}

    def validated(self, loss: float) -> None:
        self.training.validated(loss)

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """As solvers.base.Fit says; the density's divergence is exact, except in validation beyond EXACT_DIM.

        `log_prob_estimate` has an estimated divergence, the way the authors time their densities: its directions
        come from a fixed seed. `effort` divides the tolerances by effort**order, down to the precision of the dtype.
        Rows are evaluated in chunks, each of which has its own error norm. Raises Diverged.
        """
        assert use in ("valid", "test")
        first, dim = next(self.flow.parameters()), self.flow.dim
        integrator = replace(self.solver.integrator(use).refined(effort, first.dtype), adjoint=False)
        exact = use == "test" or dim <= EXACT_DIM
        rng = Generator(first.device).manual_seed(0)
        rows = max(LEAST_ROWS, ELEMENTS // (dim * max(self.solver.hidden, default=1)))

        def chunked(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            with torch.inference_mode(not x.requires_grad):
                return torch.cat([f(part).to(x.dtype) for part in x.to(first.dtype).split(rows)])

        def carried(rates_of: RatesOf, state: State, start: float, end: float) -> State:
            evaluations = Evaluations(self.solver.max_evaluations)
            state = carry(self.flow, rates_of, state, integrator, evaluations, start, end)
            if not all(bool(part.isfinite().all()) for part in state):
                raise Diverged(f"the flow is not finite: {evaluations}")
            return state

        def moved(x: Points, start: float, end: float) -> Points:
            return chunked(lambda part: carried(motion, (part,), start, end)[0], x)

        def density(x: Points, rates_of: RatesOf) -> Values:
            z, logdet = carried(rates_of, (x, x.new_zeros(len(x))), 0.0, 1.0)
            return self.target.log_prob(z) + logdet

        def estimate(x: Points) -> Values:
            return density(x, estimated_density(x, self.solver.noise, rng))

        return Transport(
            forward=lambda x: moved(x, 0.0, 1.0),
            inverse=lambda z: moved(z, 1.0, 0.0),
            log_prob=lambda x: chunked(partial(density, rates_of=exact_density) if exact else estimate, x),
            log_prob_estimate=lambda x: chunked(estimate, x),
            path=lambda x, t: moved(x, 0.0, t),
            parameters=self.training.parameters,
        )

    def state_dict(self) -> dict[str, Any]:
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.training.load_state_dict(state)

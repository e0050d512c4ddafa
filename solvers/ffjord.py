"""FFJORD: a continuous normalizing flow with a free vector field, integrated by an adaptive method.

Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, FFJORD: Free-form Continuous Dynamics for Scalable Reversible
Generative Models (ICLR 2019, arXiv 1810.01367). Training minimises -E log p(x), where by its eq. (3)

    log p(x) = log N(z(T); 0, I) + int_0^T div f(t, z(t)) dt,   dz/dt = f(t, z),   z(0) = x,

the divergence exact or, eq. (8), estimated by one random direction a row, the same throughout a block.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self, cast

from torch import Generator, Tensor, nn

from datasets.base import Density, Map, Measure, Points, Values
from solvers.adaptive import Evaluations, Integrator, Rates, State
from solvers.base import Diverged, Transport
from solvers.concatsquash import ACTIVATIONS, ConcatSquash
from solvers.divergence import directions, hutchinson
from solvers.rows import by_rows
from solvers.train import Recipe, Schedule, Trained, Training

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


def kinetic(field: ConcatSquash) -> Rates:
    """Rates of the state (x, energy): dx/dt = f, denergy/dt = |f|^2."""

    def rates(t: Tensor, state: State) -> State:
        f = field(t, state[0])
        return f, f.square().sum(1)

    return rates


def exact_density(field: ConcatSquash) -> Rates:
    """Rates of the state (x, logdet): dx/dt = f, dlogdet/dt = div f."""
    return lambda t, state: field.divergence(t, state[0])


def estimated_density(like: Points, noise: str, rng: Generator) -> RatesOf:
    """As `exact_density`, with Hutchinson's estimate along directions of the shape of `like`, new for each block."""

    def rates_of(field: ConcatSquash) -> Rates:
        fixed = directions(like, noise, rng)
        return lambda t, state: hutchinson(field, t, state[0], fixed)

    return rates_of


def transport(
    flow: Flow, target: Measure, integrator: Integrator, max_evaluations: int, noise: str, exact: bool = True
) -> Transport:
    """The flow as a transport to `target`; without a density where the target has none.

    The density's divergence is that of `exact_density` or, where not `exact`, estimated with a fixed seed; it is
    always in `log_prob_estimate`, the way the authors of FFJORD time their densities. Rows are evaluated in chunks,
    each of which has its own error norm and `max_evaluations`. All raise Diverged.
    """
    first, n, T = next(flow.parameters()), len(flow.blocks), flow.time_length
    rng = Generator(first.device).manual_seed(0)
    rows = max(LEAST_ROWS, ELEMENTS // (flow.dim * max(flow.blocks[0].widths[:-1], default=1)))

    def carried(rates_of: RatesOf, state: State, start: float = 0.0, end: float = 1.0) -> State:
        evaluations = Evaluations(max_evaluations)
        state = carry(flow, rates_of, state, integrator, evaluations, start, end)
        if not all(bool(part.isfinite().all()) for part in state):
            raise Diverged(f"the flow is not finite: {evaluations}")
        return state

    def moved(start: float, end: float) -> Map:
        return by_rows(lambda x: carried(motion, (x,), start, end)[0], first.dtype, rows)

    def velocity(t: float, x: Points) -> Points:
        k = min(int(n * t), n - 1)
        return n * T * flow.blocks[k](x.new_tensor(T * (n * t - k)), x)

    def energy(x: Points) -> Values:
        # f is dx/ds on a clock s of n T in all, so that v = n T f and dt = ds / (n T)
        return n * T / 2 * carried(kinetic, (x, x.new_zeros(len(x))))[1]

    def density(x: Points, rates_of: RatesOf) -> Values:
        assert isinstance(target, Density)
        z, logdet = carried(rates_of, (x, x.new_zeros(len(x))))
        return target.log_prob(z) + logdet

    estimate = by_rows(lambda x: density(x, estimated_density(x, noise, rng)), first.dtype, rows)
    log_prob = by_rows(partial(density, rates_of=exact_density), first.dtype, rows) if exact else estimate
    known = isinstance(target, Density)
    return Transport(
        forward=moved(0.0, 1.0),
        inverse=moved(1.0, 0.0),
        log_prob=log_prob if known else None,
        log_prob_estimate=estimate if known else None,
        path=lambda x, t: moved(0.0, t)(x),
        velocity=lambda t, x: by_rows(partial(velocity, t), first.dtype, rows)(x),
        energy=by_rows(energy, first.dtype, rows),
        parameters=sum(p.numel() for p in flow.parameters() if p.requires_grad),
    )


@dataclass(frozen=True)
class FFJORD(Recipe):
    """Hyperparameters of FFJORD.

    `divergence` is that of training; `noise` ("rademacher", "gaussian") the directions of "hutchinson". `method`,
    `atol`, `rtol` and `n_steps` are those of solvers.adaptive.Integrator, for each block;
    `test_atol` and `test_rtol`, where given, replace the tolerances after training. `adjoint` solves backward for
    the gradient, in memory that does not grow with the steps; without it the gradient is taken through the stored
    steps, and no evaluation is counted as backward. A pass, its adjoint included, with more than `max_evaluations`
    evaluations is given up as diverged. The other fields are those of solvers.train.Recipe, with the
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
    lr_patience: int | None = 2000

    version: ClassVar[int] = 3

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
        super().__post_init__()

    def schedule(self) -> Schedule:
        return replace(super().schedule(), cumulative=True)

    def integrator(self, use: str) -> Integrator:
        """The integrator of `use`: "train", or one of those of `FFJORDFit.transport`."""
        integrator = Integrator(self.method, self.atol, self.rtol, self.n_steps, self.adjoint)
        if use in ("train", "valid"):
            return integrator
        atol = self.atol if self.test_atol is None else self.test_atol
        rtol = self.rtol if self.test_rtol is None else self.test_rtol
        return replace(integrator, atol=atol, rtol=rtol)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "FFJORDFit":
        return FFJORDFit(*self.begun(source, target, rng))

    def begun(self, source: Measure, target: Measure, rng: Generator) -> tuple[Self, Flow, Density, Training]:
        """What a fit is made of."""
        assert isinstance(target, Density)
        settings = self.hidden, self.nonlinearity, self.n_blocks, self.time_length
        flow, training = self.begin(lambda: Flow(source.dim, *settings), source, rng)
        return self, flow, target, training


class FFJORDFit(Trained):
    """An FFJORD under training."""

    def __init__(self, solver: FFJORD, flow: Flow, target: Density, training: Training) -> None:
        super().__init__(training)
        self.solver = solver
        self.flow = flow
        self.target = target

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

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """As solvers.base.Fit says; the density's divergence is exact, except in validation beyond EXACT_DIM.

        `effort` divides the tolerances by effort**order, down to the precision of the dtype.
        """
        assert use in ("valid", "test")
        dtype = next(self.flow.parameters()).dtype
        integrator = replace(self.solver.integrator(use).refined(effort, dtype), adjoint=False)
        exact = use == "test" or self.flow.dim <= EXACT_DIM
        return transport(self.flow, self.target, integrator, self.solver.max_evaluations, self.solver.noise, exact)

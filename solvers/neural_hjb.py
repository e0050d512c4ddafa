"""Neural optimal transport through the Hamilton-Jacobi-Bellman equation.

Ruthotto, Osher, Li, Nurbekyan and Wu Fung, A machine learning framework for solving high-dimensional mean field game
and mean field control problems (PNAS 117(17), 2020, arXiv 1912.01825). A potential network Phi gives the velocity
v = -grad_x Phi / alpha1; along its characteristics z(t), with the log-determinant logdet of x -> z(1), minimise

    J = alpha1 L + alpha3 KL + alpha4 C_HJ + alpha5 C_HJfinal,
    L = E int 1/2 |v|^2 dt,   KL = E[r],   r = log rho_0(x) - logdet - log rho_1(z(1)),
    C_HJ = E int |Phi_t - |grad_x Phi|^2 / (2 alpha1)| dt,   C_HJfinal = E|Phi(z(1), 1) - alpha3 (1 + r)|.

Here Psi = Phi / alpha1 is learnt, so that v = -grad_x Psi and, with R and F the penalties of Psi,

    J / alpha1 = L + (alpha3/alpha1) KL + alpha4 R + alpha5 F,
    R = E int |Psi_t - 1/2 |grad_x Psi|^2| dt,   F = E|Psi(z(1), 1) - (alpha3/alpha1) (1 + r)|.

KL stands in place of the constraint that the target be reached: the truth is that of the relaxed problem.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from datasets.base import Density, Measure
from solvers import otflow
from solvers.base import Diverged, Transport, faulty, probe
from solvers.bfgs import BFGS, Point, minimise
from solvers.evaluation import Buffers
from solvers.potential import Potential
from solvers.rows import by_rows
from solvers.train import Loss, Schedule, Training, seeded

# The authors' numbers of samples, level by level, for d = 2, 10, 50 and 100 (MFGnet.jl, runMultilevel.sh).
LEVELS = {2: (32**2, 48**2), 10: (64**2, 80**2), 50: (112**2, 128**2), 100: (160**2, 192**2)}
COST_SEED = 0xC057  # far from the seeds of runs, so that no run trains on these points
COST_ROWS = 2**16


@dataclass(frozen=True)
class NeuralHJB:
    """Hyperparameters of the method; the defaults are the authors', but for float64 (the run's dtype decides).

    `n_steps` are the RK4 steps of training, `n_steps_valid` and `n_steps_test` those of validation and of everything
    after training. `n_train` are the numbers of samples, level by level, None the authors' for the next larger of
    their dimensions; each level takes `level_steps` steps, and every `resample_every` of them the samples are drawn
    anew. `optimizer` is "bfgs", of at most `memory` pairs, or "adam" with the rate `lr`, divided by `lr_drop_factor`
    every `lr_drop_steps`. Where the weights are many beside the samples (d = 50 and more), BFGS fits the samples'
    own covariance between two draws, which ADAM with new samples every step averages out.
    """

    width: int = 16
    depth: int = 2
    n_steps: int = 2
    n_steps_valid: int = 8
    n_steps_test: int = 16
    alpha1: float = 2.0
    alpha3: float = 5.0
    alpha4: float = 3.0
    alpha5: float = 3.0
    n_train: tuple[int, ...] | None = None
    level_steps: int = 500
    resample_every: int = 25
    optimizer: Literal["bfgs", "adam"] = "bfgs"
    memory: int = 300
    lr: float = 0.01
    lr_drop_factor: float = 2.0
    lr_drop_steps: int | None = None

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        sizes = ("width", "n_steps", "n_steps_valid", "n_steps_test", "level_steps", "resample_every", "memory")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.depth < 2:
            raise ValueError(f"depth must be 2 or more, not {self.depth}")
        if not (self.alpha1 > 0 and self.alpha3 > 0 and self.alpha4 >= 0 and self.alpha5 >= 0):
            raise ValueError("alpha1 and alpha3 must be positive, alpha4 and alpha5 not negative")
        if self.n_train is not None:
            object.__setattr__(self, "n_train", tuple(self.n_train))  # lists come from YAML, and would not hash
            if not self.n_train or min(self.n_train) < 1:
                raise ValueError(f"n_train must be one or more numbers of samples, or null, not {self.n_train}")
        if self.optimizer not in ("bfgs", "adam"):
            raise ValueError(f'optimizer is "bfgs" or "adam", not {self.optimizer!r}')
        self.schedule()

    def schedule(self) -> Schedule:
        return Schedule(self.lr, self.lr_drop_factor, self.lr_drop_steps)

    @property
    def relaxation(self) -> float:
        """The weight of KL where that of the cost is 1."""
        return self.alpha3 / self.alpha1

    def levels(self, dim: int) -> tuple[int, ...]:
        """The numbers of samples, level by level."""
        if self.n_train is not None:
            return self.n_train
        return LEVELS[min((d for d in LEVELS if d >= dim), default=max(LEVELS))]

    def unfit(self, source: Measure, target: Measure) -> str | None:
        if why := faulty(source, target):
            return why
        for name, measure in (("source", source), ("target", target)):
            if not isinstance(measure, Density):
                return f"KL takes the log-density of the {name}, and it has none: take a dataset that is given by one"
        return None

    def start(self, source: Measure, target: Measure, rng: Generator) -> "NeuralHJBFit":
        assert isinstance(source, Density)
        assert isinstance(target, Density)
        like = probe(source, rng)
        with seeded(rng):
            potential = initial(source.dim, self.width, self.depth).to(device=like.device, dtype=like.dtype)
        draws = Draws(source, self.levels(source.dim), self.level_steps, self.resample_every, rng)
        training: Training | QuasiNewton
        if self.optimizer == "bfgs":
            training = QuasiNewton(potential, draws, BFGS(self.memory))
        else:
            training = Training(potential, draws, self.schedule(), draws.total)
        return NeuralHJBFit(self, potential, source, target, training)


def initial(dim: int, width: int, depth: int) -> Potential:
    """The authors' initial potential: weights from 0.01 N(0, 1), biases from 0.1 N(0, 1), w = 1, A, b and c = 0."""
    potential = Potential(dim, width, depth, quadratic="symmetric")
    for layer in potential.N.layers:
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.normal_(layer.bias, std=0.1)
    return potential


class Draws:
    """The samples of a training: sizes[level] of them, drawn anew every `every` steps of a level."""

    def __init__(self, source: Measure, sizes: tuple[int, ...], level_steps: int, every: int, rng: Generator) -> None:
        self.source, self.sizes, self.level_steps, self.every = source, sizes, level_steps, every
        self.rng = rng
        self.steps = 0
        self.before = rng.get_state()  # the samples in use come from
        self.x: Tensor | None = None

    @property
    def total(self) -> int:
        """The steps of all levels."""
        return self.level_steps * len(self.sizes)

    @property
    def due(self) -> bool:
        """Whether the next step takes new samples."""
        return self.steps % self.level_steps % self.every == 0

    def next(self) -> Tensor:
        """The samples of the next step (n, d)."""
        if self.due:
            self.before = self.rng.get_state()
        if self.due or self.x is None:
            level = min(self.steps // self.level_steps, len(self.sizes) - 1)
            self.x = self.source.sample(self.sizes[level], self.rng)
        self.steps += 1
        return self.x

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.get_state() if self.due else self.before, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.before = state["rng"].cpu()
        self.rng.set_state(self.before)
        self.steps = state["steps"]
        self.x = None  # drawn again, from the same state


class QuasiNewton:
    """BFGS on a model, over samples that change now and then: what `solvers.train.Training` is to ADAM.

    Every pair (s, y) is taken on one set of samples. Pairs are kept when the samples change: the curvature that they
    show is, up to sampling error, that of the expectation.
    """

    def __init__(self, model: nn.Module, batches: Draws, bfgs: BFGS) -> None:
        self.model = model
        self.batches = batches
        self.bfgs = bfgs
        self.weights = list(model.parameters())
        self.point: Point | None = None
        self.evaluations = 0

    @property
    def done(self) -> bool:
        return self.batches.steps >= self.batches.total

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(p.numel() for p in self.weights)

    def step(self, loss_of: Loss) -> dict[str, float]:
        """One iteration: a direction and a line search along it. Raises Diverged where the loss is not finite."""
        fresh = self.batches.due
        x = self.batches.next()
        self.evaluations = 0

        def evaluate(weights: Tensor) -> Point:
            self.evaluations += 1
            vector_to_parameters(weights, self.weights)
            loss, terms = loss_of(x)
            gradients = torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True)
            gradient = torch.cat([part.reshape(-1) for part in gradients])
            return Point(weights, loss.item(), gradient, {"loss": loss.item(), **terms})

        start = self.point
        if start is None or fresh:
            start = evaluate(parameters_to_vector(self.weights).detach())
        if not math.isfinite(start.value):
            raise Diverged(f"the loss is {start.value} at step {self.batches.steps - 1}")
        self.point = minimise(evaluate, start, self.bfgs)
        vector_to_parameters(self.point.x, self.weights)
        return dict(self.point.terms)

    def validated(self, loss: float) -> None:
        """The schedule does not depend on validation."""

    def state_dict(self) -> dict[str, Any]:
        at = self.point
        return {
            "model": self.model.state_dict(),
            "bfgs": self.bfgs.state_dict(),
            "batches": self.batches.state_dict(),
            "point": None if at is None else (at.x, at.value, at.gradient, dict(at.terms)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.bfgs.load_state_dict(state["bfgs"])
        self.batches.load_state_dict(state["batches"])
        self.point = None if state["point"] is None else Point(*state["point"])


class NeuralHJBFit:
    """A potential under training."""

    def __init__(
        self,
        solver: NeuralHJB,
        potential: Potential,
        source: Density,
        target: Density,
        training: Training | QuasiNewton,
    ) -> None:
        self.solver = solver
        self.potential = potential
        self.source = source
        self.target = target
        self.training = training
        self.buffers = Buffers()

    @property
    def done(self) -> bool:
        return self.training.done

    def step(self) -> Mapping[str, float]:
        terms = self.training.step(self._loss)
        evaluations = self.training.evaluations if isinstance(self.training, QuasiNewton) else 1
        return terms | {"nfe_forward": 4 * self.solver.n_steps * evaluations, "nfe_backward": 0}

    def _loss(self, x: Tensor) -> tuple[Tensor, Mapping[str, float]]:
        """J, and L, KL, R and F by name."""
        solver = self.solver
        cost, kl, hjb, final = (values.mean() for values in self._terms(x, solver.n_steps))
        loss = solver.alpha1 * (cost + solver.alpha4 * hjb + solver.alpha5 * final) + solver.alpha3 * kl
        return loss, {"transport": cost.item(), "kl": kl.item(), "hjb": hjb.item(), "hjb_final": final.item()}

    def _terms(self, x: Tensor, n_steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What L, KL, R and F are the means of, point by point (n,)."""
        z, logdet, cost, hjb = otflow.integrate(self.potential, x, n_steps, buffers=self.buffers)
        ratio = self.source.log_prob(x) - logdet - self.target.log_prob(z)
        if self.solver.alpha5 == 0:  # left out: its weight has no gradient to pay for
            return cost, ratio, hjb, torch.zeros_like(cost)
        end = self.potential(torch.cat([z, torch.ones_like(z[:, :1])], dim=1))
        return cost, ratio, hjb, (end - self.solver.relaxation * (1.0 + ratio)).abs()

    def validated(self, loss: float) -> None:
        self.training.validated(loss)

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """`cost` and `kl` are L and KL on COST_ROWS points of a fixed seed; validation minimises L + relaxation KL."""
        steps = {"valid": self.solver.n_steps_valid, "test": self.solver.n_steps_test}[use]
        n_steps = max(1, math.ceil(steps * effort))
        dtype = self.potential.A.dtype
        cost, kl = self._estimates(n_steps) if use == "test" else (None, None)

        def at(f: Callable[[Tensor], Tensor], t: float, x: Tensor) -> Tensor:
            return by_rows(lambda rows: f(torch.cat([rows, rows.new_full((len(rows), 1), t)], dim=1)), dtype)(x)

        def objective(x: Tensor) -> Tensor:
            z, logdet, cost, _ = otflow.integrate(self.potential, x, n_steps)
            return cost + self.solver.relaxation * (self.source.log_prob(x) - logdet - self.target.log_prob(z))

        return replace(
            otflow.transport(self.potential, self.target, n_steps),
            velocity=lambda t, x: at(lambda s: -self.potential.gradient(s)[:, :-1], t, x),
            potential=lambda t, x: at(self.potential, t, x),
            hjb=by_rows(lambda x: otflow.integrate(self.potential, x, n_steps)[3], dtype),
            relaxation=self.solver.relaxation,
            cost=cost,
            kl=kl,
            objective=by_rows(objective, dtype),
        )

    def _estimates(self, n_steps: int) -> tuple[float, float]:
        """L and KL."""
        rng = Generator(self.training.batches.rng.device).manual_seed(COST_SEED)
        sums = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for rows in torch.arange(COST_ROWS).split(2**12):
                cost, kl, _, _ = self._terms(self.source.sample(len(rows), rng).to(self.potential.A), n_steps)
                sums += torch.stack((cost.double().sum(), kl.double().sum())).cpu()
        cost, kl = (sums / COST_ROWS).tolist()
        return cost, kl

    def state_dict(self) -> dict[str, Any]:
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.training.load_state_dict(state)

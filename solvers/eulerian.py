"""The Eulerian judge: dynamic optimal transport with a relaxed target, solved on a grid of two coordinates.

    minimise  alpha1 int int |m|^2 / (2 rho) dx dt + alpha3 KL(rho(1) || target)
    subject to  rho_t + div m = 0,  rho(0) = source,  no flux through the boundary,

as Ruthotto et al. (2020, arXiv 1912.01825) posed it for the solver that their neural one is compared with. Values are
of the objective divided by alpha1: transport L + weight KL, weight = alpha3 / alpha1. Discretised in
solvers/dynamic.py; solved on successively finer grids by the primal-dual method of Chambolle and Pock (2011) with
diagonal step sizes (Pock and Chambolle 2011), as Papadakis, Peyre and Oudet (2014) solve Benamou and Brenier's
problem: continuity by a Poisson solve in space-time, the rest cell by cell.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from scipy.special import wrightomega
from torch import Generator, Tensor

from datasets.base import Density, Measure, Points, Values
from solvers.base import Transport, faulty
from solvers.dynamic import Dynamic, Path
from solvers.integrate import integrate
from solvers.poisson import SpaceTimePoisson
from solvers.spline import Axis, Spline
from solvers.staggered import Faces, Grid, cell_sums, face_means, gradient, time_means

UNRESOLVED = 0.01  # share of the mass by which the midpoint rule on the finest grid may err
OUTSIDE = 0.05  # share of the mass that may lie outside the domain, before it is another problem
DRAWS = 2**14  # tell the mass within the domain, to a fifth of UNRESOLVED, however narrow the density
NEWTON_STEPS = 5
RELAXATION = 1.9  # of the iterates, below 2

GAP_LIMIT, MASS_LIMIT, LOST_LIMIT = 1e-3, 1e-10, 1e-3
CURVES_LIMIT = 0.02  # of the objective: what the map may be worse than the path on the grid that certifies it


@dataclass(frozen=True)
class Eulerian:
    """Solve on cells x cells x intervals, twice as fine in each coordinate on each of `levels` grids.

    A level ends at a relative duality gap of `tolerance`, or after `max_iterations`; a step is a `block` of
    iterations. `dual_step` is the step size of the dual variables, and `kl_step`, in multiples of it and of the
    number of intervals, that of the final density's: they change the speed, not the solution. `n_steps` of RK4 follow
    characteristics.
    """

    alpha1: float = 2.0
    alpha3: float = 5.0
    half_width: float = 6.5
    levels: int = 4
    cells: int = 16
    intervals: int = 8
    tolerance: float = 5e-4
    max_iterations: int = 1000
    block: int = 50
    dual_step: float = 50.0
    kl_step: float = 60.0
    n_steps: int = 32

    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        for name in ("alpha1", "alpha3", "half_width", "tolerance", "dual_step", "kl_step"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {getattr(self, name)}")
        for name, least in (
            ("levels", 1),
            ("cells", 4),
            ("intervals", 4),
            ("max_iterations", 1),
            ("block", 1),
            ("n_steps", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, not {getattr(self, name)}")

    @property
    def weight(self) -> float:
        return self.alpha3 / self.alpha1

    def grid(self, level: int) -> Grid:
        return Grid(self.half_width, self.cells << level, self.intervals << level)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        if source.dim != 2 or target.dim != 2:
            return f"it needs a grid of the plane: dimension 2, not {source.dim} and {target.dim}"
        if why := faulty(source, target):
            return why
        finest, rng = self.grid(self.levels - 1), Generator().manual_seed(0)
        for name, measure in (("source", source), ("target", target)):
            if not isinstance(measure, Density):
                return f"the {name} has no density to put on a grid: give a Density, not samples"
            inside = (measure.sample(DRAWS, rng).abs() <= self.half_width).all(1)
            mass = inside.double().mean().item()
            if mass < 1 - OUTSIDE:
                return f"{100 * (1 - mass):.0f} % of the {name} lies outside half_width {self.half_width:g}: raise it"
            sampled = finest.at_centres(measure).sum().item() * finest.h**2
            if abs(sampled - mass) > UNRESOLVED:
                return (
                    f"a cell of {finest.h:.2g} is too coarse for the {name}: its mass is {sampled:.3f} at the centres"
                    f" of {finest.n} x {finest.n} cells; raise levels or cells"
                )
        return None

    def start(self, source: Measure, target: Measure, rng: Generator) -> "EulerianFit":
        assert isinstance(source, Density)
        assert isinstance(target, Density)
        return EulerianFit(self, source, target, rng.device)


@dataclass(frozen=True)
class Iterate:
    """Primal densities (N, n, n) after the first and fluxes, their extrapolations, and the dual variables.

    On each kind of face the dual (a, b) of (rho_f, m) satisfies a + b^2 / 2 <= 0; `kl` (n, n) is that of rho^N, and
    `phi` (N, n, n) the potential, multiplier of the continuity equation.
    """

    rho: Tensor
    m_x: Tensor
    m_y: Tensor
    a_x: Tensor
    b_x: Tensor
    a_y: Tensor
    b_y: Tensor
    kl: Tensor
    phi: Tensor

    @property
    def m(self) -> Faces:
        return self.m_x, self.m_y


class PrimalDual:
    """Chambolle and Pock's iteration for a `Dynamic` problem."""

    def __init__(self, problem: Dynamic, dual_step: float, kl_step: float) -> None:
        self.problem = problem
        self.sigma = dual_step
        self.sigma_kl = dual_step * kl_step * problem.grid.intervals
        # each density enters two kinds of faces with weights of sum 2, the last one half as often, and the divergence
        self.tau_m = 1 / dual_step
        tau = problem.source.new_full((problem.grid.intervals,), 1 / (2 * dual_step))
        tau[-1] = 1 / (dual_step + self.sigma_kl)
        self.tau = tau[:, None, None]
        self.poisson = SpaceTimePoisson(problem.grid, tau, self.tau_m)

    def begin(self) -> Iterate:
        """From the straight line between the densities, with fluxes to match, and duals of 0."""
        p = self.problem
        t = torch.arange(1, p.grid.intervals + 1).to(p.source) / p.grid.intervals
        rho = torch.lerp(p.source, p.target, t[:, None, None])
        n, N = p.grid.n, p.grid.intervals
        x, y = rho.new_zeros(N, n - 1, n), rho.new_zeros(N, n, n - 1)
        return self.resume(rho, (x, y), (x, x), (y, y), rho.new_zeros(n, n))

    def resume(self, rho: Tensor, m: Faces, dual_x: Faces, dual_y: Faces, kl: Tensor) -> Iterate:
        """From any state, made to satisfy the continuity equation."""
        rho, (x, y), phi = self.project(rho, m)
        return Iterate(rho, x, y, *paraboloid(*dual_x), *paraboloid(*dual_y), kl, phi)

    def project(self, rho: Tensor, m: Faces) -> tuple[Tensor, Faces, Tensor]:
        """The nearest densities and fluxes, in the norm of the step sizes, with rho_t + div m = 0; the multiplier."""
        grid = self.problem.grid
        p = self.poisson.solve(self.problem.residual(rho, m))
        backward = torch.cat([p, p.new_zeros(1, grid.n, grid.n)]).diff(dim=0) / grid.dt
        x, y = (face + self.tau_m * slope for face, slope in zip(m, gradient(p, grid.h), strict=True))
        return rho + self.tau * backward, (x, y), -p

    def advance(self, s: Iterate) -> Iterate:
        """One iteration: primal from dual, dual from the extrapolated primal, and both over-relaxed (Condat 2013)."""
        sigma = self.sigma
        pull = cell_sums((s.a_x, s.a_y)) / 4  # half of a mean of space, half of one of time
        pull[:-1] += pull[1:].clone()
        pull[-1] += s.kl
        flux = s.m_x - self.tau_m * s.b_x, s.m_y - self.tau_m * s.b_y
        rho, (m_x, m_y), phi = self.project(s.rho - self.tau * pull, flux)
        ahead = 2 * rho - s.rho
        on_x, on_y = face_means(time_means(self.problem.levels(ahead)))
        a_x, b_x = paraboloid(s.a_x + sigma * on_x, s.b_x + sigma * (2 * m_x - s.m_x))
        a_y, b_y = paraboloid(s.a_y + sigma * on_y, s.b_y + sigma * (2 * m_y - s.m_y))
        kl = self._kl(s.kl + self.sigma_kl * ahead[-1])
        found = Iterate(rho, m_x, m_y, a_x, b_x, a_y, b_y, kl, phi)
        return Iterate(
            *(torch.lerp(a, b, RELAXATION) for a, b in zip(vars(s).values(), vars(found).values(), strict=True))
        )

    def _kl(self, z: Tensor) -> Tensor:
        """The resolvent of the conjugate of (weight / dt) KL(. || target).

        By Moreau's identity z - sigma r, where r solves sigma r + g (log(r / target) + 1) = z for g = weight / dt:
        r = (g / sigma) omega(z / g - 1 + log(target sigma / g)) with Wright's omega + log omega = its argument.
        """
        g = self.problem.weight / self.problem.grid.dt
        argument = z / g - 1 + self.problem.log_target + math.log(self.sigma_kl / g)
        return z - g * torch.from_numpy(wrightomega(argument.cpu().numpy())).to(z)


def paraboloid(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest point with a + b^2 / 2 <= 0: (a - lambda, b / s), s = 1 + lambda, s^2 (s - 1 - a) = b^2 / 2.

    By Newton's method for s, from above the root, where the cubic is convex and increasing.
    """
    half = b.square() / 2
    c = 1 + a
    s = c.clamp_min(0) + half.pow(1 / 3)
    for _ in range(NEWTON_STEPS):
        s = s - ((s - c) * s * s - half) / ((3 * s - 2 * c) * s).clamp_min(1e-300)
    s = torch.where(a + half > 0, s.clamp_min(1), 1.0)
    return a + 1 - s, b / s


def between(old: Tensor, new: Tensor) -> Tensor:
    """The matrix of interpolation by natural splines from equidistant nodes `old` to points `new`."""
    return Axis(float(old[0]), float(old[1] - old[0]), len(old)).interpolation(new)


def refined(coarse: Dynamic, s: Iterate, fine: PrimalDual) -> Iterate:
    """The iterate of a coarse level, interpolated to one that is twice as fine."""
    centres = between(coarse.grid.centres(), fine.problem.grid.centres()).to(s.rho)
    halves = between(coarse.grid.half_times(), fine.problem.grid.half_times()).to(s.rho)
    faces = between(coarse.grid.faces(), fine.problem.grid.faces()).to(s.rho)
    times = between(coarse.grid.times(), fine.problem.grid.times()).to(s.rho)

    def across(t: Tensor, x: Tensor, y: Tensor, values: Tensor) -> Tensor:
        return x @ torch.tensordot(t, values, 1) @ y.T

    rho = across(times, centres, centres, coarse.levels(s.rho))[1:]
    m_x, a_x, b_x = (across(halves, faces, centres, v) for v in (s.m_x, s.a_x, s.b_x))
    m_y, a_y, b_y = (across(halves, centres, faces, v) for v in (s.m_y, s.a_y, s.b_y))
    kl = 2 * centres @ s.kl @ centres.T  # in units of 1 / dt
    return fine.resume(rho, (m_x, m_y), (a_x, b_x), (a_y, b_y), kl)


class EulerianFit:
    """A solve under way on one of the levels."""

    def __init__(self, solver: Eulerian, source: Density, target: Density, device: torch.device) -> None:
        self.solver, self.source, self.target = solver, source, target
        self.finest = solver.grid(solver.levels - 1)
        averages = [self.finest.averages(measure, device) for measure in (source, target)]
        masses = [values.sum().item() * self.finest.h**2 for values in averages]
        self.lost = 1 - min(masses)
        self.averages = [values / mass for values, mass in zip(averages, masses, strict=True)]
        self.done = False
        self._enter(0)
        self.iterate = self.method.begin()

    def _enter(self, level: int) -> None:
        solver = self.solver
        self.level, self.iterations = level, 0
        side = 1 << (solver.levels - 1 - level)
        source, target = (torch.nn.functional.avg_pool2d(values[None], side)[0] for values in self.averages)
        self.problem = Dynamic(solver.grid(level), source, target, solver.weight)
        self.method = PrimalDual(self.problem, solver.dual_step, solver.kl_step)

    def step(self) -> Mapping[str, float]:
        """A block of iterations. `loss` is the objective over alpha1, `bound` a lower bound of it, `gap` relative."""
        solver = self.solver
        for _ in range(solver.block):
            self.iterate = self.method.advance(self.iterate)
        self.iterations += solver.block
        s, problem = self.iterate, self.problem
        transport, kl = problem.kinetic(s.rho, s.m), problem.kl(s.rho[-1])
        objective, bound = transport + solver.weight * kl, problem.bound(s.phi)
        gap = abs(objective - bound) / max(abs(objective), 1e-12)
        terms = {"loss": objective, "transport": transport, "kl": kl, "bound": bound, "gap": gap, "level": self.level}
        if gap <= solver.tolerance or self.iterations >= solver.max_iterations:
            self._next()
        return terms

    def _next(self) -> None:
        if self.level == self.solver.levels - 1:
            self.done = True
            return
        coarse, s = self.problem, self.iterate
        self._enter(self.level + 1)
        self.iterate = refined(coarse, s, self.method)

    def validated(self, loss: float) -> None:
        pass

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """The flow of the potential: x' = -grad Phi, with Phi a spline through `phi`, C2 in the plane and in time.

        Without a density in use "valid": the best of the states that the harness keeps would be the one with the
        least KL, which is not that of the least objective.
        """
        solver, s = self.solver, self.iterate
        n_steps = max(1, math.ceil(solver.n_steps * effort))
        flow = Flow(field(self.problem.grid, s.phi), n_steps)
        verified = Verified(self.problem, s)
        return Transport(
            forward=flow.forward,
            inverse=flow.inverse,
            log_prob=None if use == "valid" else lambda x: flow.log_prob(x, self.target),
            path=flow.path,
            velocity=flow.velocity,
            potential=flow.potential.value,
            hjb=flow.hjb,
            cost=verified.path.transport if use == "test" else None,
            kl=verified.path.kl if use == "test" else None,
            relaxation=solver.weight,
            certificates={
                "duality_gap": lambda: (verified.gap, GAP_LIMIT),
                "mass": lambda: (verified.mass_error, MASS_LIMIT),
                "lost_mass": lambda: (self.lost, LOST_LIMIT),
                "levels_left": lambda: (solver.levels - 1.0 - self.level, 0.0),  # a budget can end on a coarse grid
                "curves": lambda: (abs(self._along(flow) / verified.objective - 1), CURVES_LIMIT),
            },
        )

    def _along(self, flow: "Flow") -> float:
        """L + weight KL of the characteristics from the centres of the cells, each with the mass of its cell."""
        grid, density = self.problem.grid, self.problem.source.flatten()
        axis = grid.centres().to(density)
        held = density > 0
        x, mass = torch.cartesian_prod(axis, axis)[held], density[held] * grid.h**2
        z, logdet, cost = flow.follow(x)
        kl = self.source.log_prob(x) - logdet - self.target.log_prob(z)
        return (mass @ (cost + self.solver.weight * kl)).item()

    def state_dict(self) -> dict[str, Any]:
        return {
            "level": self.level,
            "iterations": self.iterations,
            "done": self.done,
            "iterate": {**vars(self.iterate)},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._enter(state["level"])
        self.iterations, self.done = state["iterations"], state["done"]
        self.iterate = Iterate(**{name: values.to(self.problem.source) for name, values in state["iterate"].items()})


def field(grid: Grid, phi: Tensor) -> Spline:
    """The potential as a smooth function of time and place."""
    time = Axis(grid.dt / 2, grid.dt, grid.intervals)
    return Spline(time, Axis(grid.h / 2 - grid.half_width, grid.h, grid.n), phi)


@dataclass(frozen=True, eq=False)
class Flow:
    """Characteristics of a potential, x' = -grad Phi(t, x), by `n_steps` of RK4."""

    potential: Spline
    n_steps: int

    def velocity(self, t: float, x: Points) -> Points:
        return -self.potential.derivatives(t, x)[1]

    def _follow(self, x: Points, t0: float, t1: float) -> Points:
        return integrate(lambda t, x: (self.velocity(t, x),), x, self.n_steps, t0, t1)[0]

    def forward(self, x: Points) -> Points:
        return self._follow(x, 0.0, 1.0)

    def inverse(self, x: Points) -> Points:
        return self._follow(x, 1.0, 0.0)

    def path(self, x: Points, t: float) -> Points:
        return x if t == 0 else self._follow(x, 0.0, t)

    def follow(self, x: Points) -> tuple[Points, Values, Values]:
        """z(1), logdet with dlogdet/dt = -Laplacian Phi, and int 1/2 |grad Phi|^2 dt, from z(0) = x."""

        def rates(t: float, x: Points) -> tuple[Tensor, ...]:
            _, slope, laplacian = self.potential.derivatives(t, x)
            return -slope, -laplacian, slope.square().sum(1) / 2

        z, logdet, cost = integrate(rates, x, self.n_steps)
        return z, logdet, cost

    def log_prob(self, x: Points, target: Density) -> Values:
        """log target(z(1)) + logdet."""
        z, logdet, _ = self.follow(x)
        return target.log_prob(z) + logdet

    def hjb(self, x: Points) -> Values:
        """int |Phi_t - 1/2 |grad Phi|^2| dt along the characteristic from x."""

        def rates(t: float, x: Points) -> tuple[Tensor, ...]:
            rate, slope, _ = self.potential.derivatives(t, x)
            return -slope, (rate - slope.square().sum(1) / 2).abs()

        return integrate(rates, x, self.n_steps)[1]


@dataclass(frozen=True, eq=False)
class Verified:
    """What an iterate proves: a feasible path above the optimum of its level, a feasible potential below."""

    problem: Dynamic
    iterate: Iterate

    @cached_property
    def path(self) -> Path:
        return self.problem.feasible(self.iterate.rho)

    @property
    def objective(self) -> float:
        """J(path) = L + weight KL."""
        return self.path.transport + self.problem.weight * self.path.kl

    @property
    def gap(self) -> float:
        """(J(path) - D(potential)) / J(path), of the discrete problem."""
        return (self.objective - self.problem.bound(self.iterate.phi)) / self.objective

    @property
    def mass_error(self) -> float:
        """The largest, over the steps of time, of sum_cells h^2 |rho^{k+1} - rho^k + dt div m| and of |mass - 1|."""
        grid = self.problem.grid
        created = self.problem.residual(self.path.rho[1:], self.path.m).abs().sum((1, 2)) * grid.h**2 * grid.dt
        masses = self.path.rho.sum((1, 2)) * grid.h**2
        return max(created.max().item(), (masses - 1).abs().max().item())

"""Optimal transport from a ring-like density in the plane to a Gaussian at its centre, by Newton's method.

By Brenier's theorem the optimal map from rho to a measure mu is the gradient of a convex u, and

    log det D^2 u + log mu(grad u) = log rho                                                   (Monge-Ampère).

mu is N(0, s I) itself, or the minimiser of 1/2 W2^2(rho, mu) + weight KL(mu || N(0, s I)). There the derivative of
the cost by mu, 1/2 |y|^2 - u*(y), and that of the divergence balance, so that, with u*(grad u) = x . grad u - u,

    log mu = log N(0, s I) + (u* - 1/2 |y|^2) / weight + c,

which a weight of infinity turns into the former. u(0) = 0 leaves c to be found; without relaxation it is 0.

A solution comes with its proof. Any convex u is feasible in both the primal problem, through its gradient, and the
dual one, through (1/2 |x|^2 - u, 1/2 |y|^2 - u*): their values bound the optimum from either side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline, make_interp_spline

Array = npt.NDArray[np.float64]

DEGREE = 7
CENTRE = 1e-9  # the radius at which polar coordinates are taken to begin
FURTHEST = 1e-6  # what the bounds of an optimum may be apart


def frame(partial: Callable[[int, int], Array], r: Array) -> tuple[Array, ...]:
    """(u, u_r, u_a / r) and the Hessian's (rr, aa, ra) in the orthonormal frame of polar coordinates.

    `partial(i, j)` is the i-th derivative by the radius of the j-th by the angle; all is linear in it.
    """
    u, u_r, u_a = partial(0, 0), partial(1, 0), partial(0, 1)
    return u, u_r, u_a / r, partial(2, 0), u_r / r + partial(0, 2) / r**2, partial(1, 1) / r - u_a / r**2


def half_square(knots: Array) -> Array:
    """The coefficients of the spline r^2 / 2."""
    points = greville(knots)
    coefficients: Array = make_interp_spline(points, points**2 / 2, DEGREE, knots).c
    return coefficients


def greville(knots: Array) -> Array:
    """Greville's points, the means of DEGREE successive knots: one a coefficient."""
    return np.array([knots[i + 1 : i + DEGREE + 1].mean() for i in range(len(knots) - DEGREE - 1)])


def splines(knots: Array, coefficients: Array, r: Array, order: int) -> Array:
    """The derivative of that order of the splines with coefficients (m, k), at radii (n,): (n, k)."""
    return BSpline(knots, coefficients, DEGREE)(r, nu=order)


def cosines(frequencies: Array, angle: Array, order: int) -> Array:
    """The derivative of that order of cos(frequency angle): (n, k)."""
    return frequencies**order * np.cos(angle[:, None] * frequencies + order * math.pi / 2)


@dataclass(frozen=True, eq=False)
class Potential:
    """sum_k f_k(r) cos(frequencies_k a), f_k the spline with coefficients[:, k], beyond its knots a parabola."""

    knots: Array
    frequencies: Array
    coefficients: Array

    def polar(self, r: Array, angle: Array) -> tuple[Array, ...]:
        """Value, gradient and Hessian as `frame` has them, at points given in polar coordinates."""
        inside = np.minimum(r, self.knots[-1])
        beyond = (r - inside)[:, None]
        f, slope, bend = (splines(self.knots, self.coefficients, inside, order) for order in range(3))
        radial = f + beyond * slope + beyond**2 / 2 * bend, slope + beyond * bend, bend

        def partial(i: int, j: int) -> Array:
            return (radial[i] * cosines(self.frequencies, angle, j)).sum(1)

        return frame(partial, r)

    def gradient(self, x: Array) -> Array:
        """grad u at points (n, 2), the optimal map."""
        e, f, (_, along, across, *_) = self._framed(x)
        return along[:, None] * e + across[:, None] * f

    def log_det(self, x: Array) -> Array:
        """log det D^2 u at points (n, 2): (n,)."""
        *_, rr, aa, ra = self._framed(x)[2]
        return np.asarray(np.log(rr * aa - ra**2))

    def displaced(self, t: float) -> "Potential":
        """(1 - t) |x|^2 / 2 + t u, whose gradient is where the curve from x is at time t (McCann 1997)."""
        still = np.zeros_like(self.coefficients)
        still[:, 0] = half_square(self.knots)
        return replace(self, coefficients=(1 - t) * still + t * self.coefficients)

    def inverse(self, y: Array) -> Array:
        """The x (n, 2) with grad u(x) = y, by Newton's method, its steps halved until the residual falls.

        It starts where the mean of u over the angle would have it. Raises ArithmeticError where it does not arrive.
        """
        radii = np.linspace(0, self.knots[-1], 2000)
        slopes = splines(self.knots, self.coefficients[:, :1], radii, 1)[:, 0]
        length = np.hypot(*y.T)
        r = np.interp(length, slopes, radii) + np.maximum(length - slopes[-1], 0)
        x = y * (r / np.maximum(length, CENTRE))[:, None]
        residual, step = self._newton(x, y)
        size, left = np.ones(len(y)), np.arange(len(y))
        for _ in range(300):
            left = left[np.hypot(*residual[left].T) > 1e-12 * (1 + length[left])]
            if len(left) == 0:
                return x
            tried = x[left] + size[left, None] * step[left]
            remaining, onward = self._newton(tried, y[left])
            better = np.hypot(*remaining.T) < np.hypot(*residual[left].T)
            size[left] = np.where(better, 1.0, size[left] / 2)
            good = left[better]
            x[good], residual[good], step[good] = tried[better], remaining[better], onward[better]
        raise ArithmeticError(f"no inverse of the optimal map found at {y[left[0]]}")

    def _newton(self, x: Array, y: Array) -> tuple[Array, Array]:
        """y - grad u at points x, and Newton's step (D^2 u)^-1 (y - grad u) from there, (n, 2) each."""
        e, f, (_, along, across, rr, aa, ra) = self._framed(x)
        a, b, det = (y * e).sum(1) - along, (y * f).sum(1) - across, rr * aa - ra**2
        step = ((aa * a - ra * b) / det)[:, None] * e + ((rr * b - ra * a) / det)[:, None] * f
        return a[:, None] * e + b[:, None] * f, step

    def _framed(self, x: Array) -> tuple[Array, Array, tuple[Array, ...]]:
        """The unit vectors (n, 2) along the radius of points x and across it, and `polar` there."""
        r, angle = np.maximum(np.hypot(*x.T), CENTRE), np.arctan2(x[:, 1], x[:, 0])
        e = plane(np.ones_like(angle), angle)
        return e, np.stack((-e[:, 1], e[:, 0]), 1), self.polar(r, angle)


@dataclass(frozen=True, eq=False)
class Optimum:
    """An optimal map's potential, its `cost` 1/2 E|grad u - x|^2 and `kl`, and bounds of min cost + weight kl.

    Of the exact problem the bounds are those of 1/2 W2^2.
    """

    potential: Potential
    cost: float
    kl: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class RingTransport:
    """From a density as symmetric as a regular polygon of `folds` corners, one of them at angle 0, to N(0, variance I).

    `log_density` takes points (n, 2) to (n,); its mass beyond `radius` must not matter. u is expanded in `waves` + 1
    cosines, their factors splines of degree 7 over `cells` cells; the equation is collocated at Greville's points.
    At the radius u_rr = 1, as if mass there moved without stretching. An error h of u that this makes obeys
    d/dr (h_r exp(-T^2 / (2 variance))) = 0 there: it is felt within about variance / radius of the edge only.
    """

    log_density: Callable[[Array], Array]
    variance: float
    folds: int
    radius: float
    cells: int = 60
    waves: int = 12

    def optimum(self, weight: float = math.inf) -> Optimum:
        """The optimum of the relaxed problem of that weight, of the exact one if it is infinite.

        Raises ArithmeticError where Newton's method fails or the bounds are further apart than 1e-6.
        """
        # every relaxed problem is solved from the exact one
        unknowns = self._exact if weight == math.inf else self._system.solve(self._exact, 1 / weight)
        found = self.judge(self._system.potential(unknowns), weight)
        if not abs(found.upper - found.lower) < FURTHEST:
            raise ArithmeticError(f"bounds of the optimum at weight {weight}: {found.lower} and {found.upper}")
        return found

    def judge(self, potential: Potential, weight: float) -> Optimum:
        """Cost, divergence and bounds of a convex potential, by Gauss' rule in radius and the trapezoid's in angle.

        With (phi, psi) the dual pair of the module's docstring, the lower bound is E phi + min over mu of
        (integral of psi dmu + weight KL(mu || target)) = E phi - weight log integral exp(-psi / weight) dtarget, for
        an infinite weight E phi + integral of psi dtarget; y = grad u(x) turns all into integrals over x. The exact
        problem's upper bound goes from the image mu to the target by Talagrand's inequality,
        W2^2(mu, target) <= 2 variance KL. Raises ArithmeticError unless u is convex at all nodes.
        """
        nodes, weights = np.polynomial.legendre.leggauss(DEGREE)
        edges = np.linspace(0, self.radius, self.cells + 1)
        widths = np.diff(edges)[:, None] / 2
        radii, angles = (edges[:-1, None] + widths * (nodes + 1)).ravel(), sector(self.folds, 4 * (self.waves + 1))
        r, angle = (part.ravel() for part in np.meshgrid(radii, angles, indexing="ij"))
        area = np.repeat((widths * weights).ravel() * radii * 2 * math.pi / len(angles), len(angles))

        u, along, across, rr, aa, ra = potential.polar(r, angle)
        det = rr * aa - ra**2
        if not (det.min() > 0 and rr.min() > 0):
            raise ArithmeticError("the potential found for the optimal map is not convex")
        log_rho = self.log_density(plane(r, angle))
        image, product = (along**2 + across**2) / 2, r * along  # 1/2 |T|^2 and x . T
        log_target = -image / self.variance - math.log(2 * math.pi * self.variance)
        rho, target = area * np.exp(log_rho), area * np.exp(log_target) * det

        cost = float(rho @ (r**2 / 2 - product + image))
        kl = float(rho @ (log_rho - np.log(det) - log_target))
        conjugate = product - u - image  # u* - 1/2 |y|^2 at y = T(x)
        lower = float(rho @ (r**2 / 2 - u))
        if weight < math.inf:
            lower -= weight * math.log(target @ np.exp(conjugate / weight))
            return Optimum(potential, cost, kl, lower, cost + weight * kl)
        lower -= float(target @ conjugate)
        upper = (math.sqrt(2 * cost) + math.sqrt(2 * self.variance * max(kl, 0.0))) ** 2 / 2
        return Optimum(potential, cost, kl, lower, upper)

    @cached_property
    def _system(self) -> "_Collocation":
        return _Collocation(self)

    @cached_property
    def _exact(self) -> Array:
        return self._system.solve(self._system.identity, 0.0)


def sector(folds: int, n: int) -> Array:
    """Midpoints of n parts of the angle between a corner and the middle of a side: all others are its mirrors."""
    return (np.arange(n) + 0.5) * math.pi / (folds * n)


def plane(r: Array, angle: Array) -> Array:
    """The points (n, 2) with those polar coordinates."""
    return np.stack((r * np.cos(angle), r * np.sin(angle)), 1)


class _Collocation:
    """The equation at collocation points, linear operators as matrices on the unknowns: free coefficients, then c."""

    def __init__(self, problem: RingTransport) -> None:
        self.variance = problem.variance
        edges = np.linspace(0, problem.radius, problem.cells + 1)
        self.knots = np.r_[[0.0] * DEGREE, edges, [problem.radius] * DEGREE]
        self.frequencies = problem.folds * np.arange(problem.waves + 1.0)
        n = len(self.knots) - DEGREE - 1
        points = greville(self.knots)
        # f_0 = r^2 and f_k = r^3 to leading order make u twice differentiable at the centre, u(0) = 0
        self.free = np.ones((n, problem.waves + 1), dtype=bool)
        self.free[:2] = self.free[2, 1:] = False
        self.identity = np.r_[self._restrict(half_square(self.knots)), 0.0]

        angles = sector(problem.folds, problem.waves + 1)
        r, angle = (part.ravel() for part in np.meshgrid(points[3:-1], angles, indexing="ij"))
        # two more points for the coefficient that f_0 alone has, and for c
        self.r, angle = np.r_[points[1:3], r], np.r_[angles[:1], angles[:1], angle]
        self.log_density = problem.log_density(plane(self.r, angle))
        self.operators = frame(lambda i, j: self._matrix(self.r, angle, i, j), self.r[:, None])
        self.edge = self._matrix(np.full_like(angles, problem.radius), angles, 2, 0)

    def _matrix(self, r: Array, angle: Array, i: int, j: int) -> Array:
        radial = splines(self.knots, np.eye(len(self.free)), r, i)
        return (radial[:, :, None] * cosines(self.frequencies, angle, j)[:, None])[:, self.free]

    def _restrict(self, radial: Array) -> Array:
        """The free coefficients of a radial function."""
        coefficients = np.zeros(self.free.shape)
        coefficients[:, 0] = radial
        return coefficients[self.free]

    def potential(self, unknowns: Array) -> Potential:
        coefficients = np.zeros(self.free.shape)
        coefficients[self.free] = unknowns[:-1]
        return Potential(self.knots, self.frequencies, coefficients)

    def residual(self, unknowns: Array, pull: float) -> tuple[Array, Array] | None:
        """The equation's residual and Jacobian with 1 / weight = pull; None where u is not convex."""
        u, along, across, rr, aa, ra = (A @ unknowns[:-1] for A in self.operators)
        det = rr * aa - ra**2
        if not (det.min() > 0 and rr.min() > 0):
            return None
        decay = 1 / self.variance + pull
        equation = np.log(det / (2 * math.pi * self.variance)) - decay * (along**2 + across**2) / 2
        equation += pull * (self.r * along - u) + unknowns[-1] - self.log_density
        factors = (0 * u - pull, pull * self.r - decay * along, -decay * across, aa / det, rr / det, -2 * ra / det)
        jacobian = sum(factor[:, None] * A for factor, A in zip(factors, self.operators, strict=True))
        edge = np.c_[self.edge, np.zeros(len(self.edge))]
        return (
            np.r_[equation, self.edge @ unknowns[:-1] - 1],
            np.r_[np.c_[jacobian, np.ones(len(equation))], edge],
        )

    def solve(self, unknowns: Array, pull: float) -> Array:
        """Newton's method with steps halved until u is convex and the residual falls."""
        state = self.residual(unknowns, pull)
        assert state is not None, "the start is convex"
        for _ in range(40):
            residual, jacobian = state
            if np.abs(residual).max() < 1e-9:
                return unknowns
            step = np.linalg.solve(jacobian, -residual)
            for size in 0.5 ** np.arange(10):
                following = self.residual(unknowns + size * step, pull)
                if following and np.linalg.norm(following[0]) < (1 - size / 10) * np.linalg.norm(residual):
                    break
            else:
                break
            unknowns, state = unknowns + size * step, following
        raise ArithmeticError(f"Newton's method stalls at 1 / weight = {pull}: take a larger weight")

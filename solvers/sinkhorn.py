"""Entropic optimal transport between two finite samples by Sinkhorn's iteration, with epsilon scaling."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import torch

from datasets.base import Measure, Points, Values
from solvers.base import Diverged, points_of
from solvers.discrete import MARGINAL_LIMIT, Audit, Coupling, Discrete, blocks, mean_cost, pot, strictly
from solvers.entropic import Entropic, project, softmin

Potentials = tuple[Values, Values]
Level = tuple[float, int, float]  # epsilon, most iterations, L1 tolerance

BACKENDS = ("pot", "geomloss", "blocks")
TOLERANCE = {dtype: limit / 2 for dtype, limit in MARGINAL_LIMIT.items()}  # 1e-9 is out of float32's reach
WARM_ITERATIONS, WARM_TOLERANCE = 10, 1e-2  # of the levels before the last
PAIR_NUMBERS = {"pot": 6, "geomloss": 8, "blocks": 0}  # held for a pair of points; of POT 5.05 were measured
POINT_NUMBERS = 50  # and for a point
MANY, COARSER = 10_000, 8
NEAR, FAR = 0.1, 1.0  # L1 errors of a marginal


@dataclass(frozen=True)
class Sinkhorn(Discrete):
    """min over P of <P, c> + epsilon KL(P || uniform) between `n_points` draws of each measure (Cuturi 2013).

    epsilon is `reg` times the mean cost of all pairs of centred points, so that no problem is too large or too small
    for the default: the means are moved apart from the rest, to whose cost 1/2 |m_x - m_y|^2 is added. epsilon is
    approached from above in steps of `scaling` (Schmitzer 2019), each from the potentials of the last.
    `backend` says who iterates: "blocks", the default, by blocks of rows in O(n) memory, over-relaxed (Lehmann et al.
    2022), which takes several times fewer iterations; "pot" is POT's log-domain iteration on a stored cost matrix;
    "geomloss" the symmetric iteration of GeomLoss (Feydy et al. 2019; an extra: pip install geomloss), one a level,
    for the debiased divergence, its potentials then iterated on as those of "blocks" are. `max_iter` bounds the
    iterations of the last level, which end when the L1 error of the marginals is below half its limit for the
    dtype. Where rounding leaves more than that in float32, "blocks" and "geomloss" go on in float64, for as many again;
    "pot" ends there. More than `max_gib` GiB are refused.

    The cost is <P, c>, P rounded to exact marginals, and that of GeomLoss
    S = OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2. Outside the sample the map is the entropic one; debiased,
    T(p) = p + T_xy(p) - T_xx(p) (Pooladian, Cuturi and Niles-Weed 2022). The certificate duality_gap holds the cost
    against bounds of the *unregularised* cost: too large a `reg` fails it as much as too few iterations do.
    """

    n_points: int = 2000
    reg: float = 5e-3
    scaling: float = 0.5
    backend: str = "blocks"
    max_iter: int = 2000
    overrelaxation: float = 1.9
    max_gib: float = 4.0

    version: ClassVar[int] = 3
    gap_limit: ClassVar[float] = 1e-2

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {self.backend!r}")
        if self.n_points < 2 or self.max_iter < 1:
            raise ValueError(f"n_points must be 2 or more and max_iter 1 or more, not {self.n_points}, {self.max_iter}")
        if not (self.reg > 0 and self.max_gib > 0):
            raise ValueError(f"reg and max_gib must be above 0, not {self.reg} and {self.max_gib}")
        if not 0 < self.scaling < 1:
            raise ValueError(f"scaling must lie in (0, 1), not {self.scaling}")
        if not 1 <= self.overrelaxation < 2:
            raise ValueError(f"overrelaxation must lie in [1, 2), not {self.overrelaxation}")

    def memory(self, n: int, m: int, dim: int) -> tuple[int, str]:
        itemsize = torch.finfo(torch.get_default_dtype()).bits // 8
        pairs = max(n, m) ** 2 if self.backend == "geomloss" else n * m  # which couples each sample with itself too
        bytes_ = itemsize * (PAIR_NUMBERS[self.backend] * pairs + (POINT_NUMBERS + 4 * dim) * (n + m))
        return bytes_, "set n_points lower" if self.backend == "blocks" else "set backend=blocks, or n_points lower"

    def unfit(self, source: Measure, target: Measure) -> str | None:
        if why := super().unfit(source, target):
            return why
        if all(bool((x == x[0]).all()) for x in map(points_of, (source, target))):
            return "all points of the source are one, and all of the target: reg has no scale; take exact"
        return None

    def couple(self, x: Points, y: Points) -> "Smoothed":
        centres = torch.stack([x.mean(0), y.mean(0)])
        x0, y0 = x - centres[0], y - centres[1]
        scale = mean_cost(x0.double(), y0.double())
        if not scale > 0:
            raise Diverged("neither sample has two points that differ: reg has no scale, and a translation is optimal")
        epsilon = self.reg * scale
        levels = list(self._levels(x0, y0, epsilon))
        if self.backend == "geomloss":
            return _debiased(x, y, centres, *self._geomloss(x0, y0, levels[-1]))
        solve = self._pot if self.backend == "pot" else self._blocks
        pair = finite(Entropic(x0, y0, *solve(x0, y0, levels), epsilon))
        cost = pair.audit().upper + _translation(centres)
        return Smoothed(x, y, cost, centres, epsilon, pair.f, pair.g)

    def restore(self, state: Mapping[str, Any]) -> Coupling:
        return Smoothed(**state)

    def _levels(self, x: Points, y: Points, epsilon: float) -> Iterator[tuple[float, int, float]]:
        """epsilon, most iterations and L1 tolerance of each level, from about the largest cost down."""
        level = largest = 2 * max(x.square().sum(1).max().item(), y.square().sum(1).max().item())
        while (level := level * self.scaling) > epsilon:
            yield level, WARM_ITERATIONS, WARM_TOLERANCE
        # potentials of the size of the largest cost are rounded, and P with them
        rounding = torch.finfo(x.dtype).eps * largest / epsilon
        yield epsilon, self.max_iter, max(TOLERANCE[x.dtype], rounding)

    def _pot(self, x: Points, y: Points, levels: Iterable[Level]) -> Potentials:
        ot = pot()
        n, m = len(x), len(y)
        cost = torch.cat([part.clone() for _, part in blocks(x, y)])
        a, b = x.new_full((n,), 1 / n), x.new_full((m,), 1 / m)
        f, g = x.new_zeros(n), x.new_zeros(m)
        for epsilon, most, tolerance in levels:
            start = f / epsilon - math.log(n), g / epsilon - math.log(m)
            # no warning of the cap: the marginals' certificates see it; and POT's norm is L2, at least L1 / sqrt(m)
            options = {"log": True, "warn": False, "warmstart": start}
            solve = partial(ot.bregman.sinkhorn_log, a, b, cost, epsilon, most, tolerance / math.sqrt(m), **options)
            _, log = strictly("sinkhorn_log", solve)
            f, g = epsilon * (log["log_u"] + math.log(n)), epsilon * (log["log_v"] + math.log(m))
        return f, g

    def _blocks(self, x: Points, y: Points, levels: Sequence[Level]) -> Potentials:
        """Through all levels on every COARSER-th point, where there are many, and then the last on all."""
        if min(len(x), len(y)) > MANY:
            coarse = x[::COARSER], y[::COARSER]
            *before, (epsilon, iterations, _) = levels
            f, _ = self._blocks(*coarse, [*before, (epsilon, iterations, WARM_TOLERANCE)])
            g = softmin(y, coarse[0], f, epsilon)
            return solved(x, y, g, levels[-1], self.overrelaxation)
        g = y.new_zeros(len(y))
        for level in levels[:-1]:
            _, g = iterate(x, y, g, *level)
        return solved(x, y, g, levels[-1], self.overrelaxation)

    def _geomloss(self, x: Points, y: Points, last: Level) -> tuple[Entropic, Entropic, Entropic]:
        """The couplings of x with y, x with x and y with y."""
        from geomloss import SamplesLoss

        epsilon = last[0]
        reach = 2 * max(x.norm(dim=1).max().item(), y.norm(dim=1).max().item())
        solve = SamplesLoss(
            "sinkhorn", p=2, blur=math.sqrt(epsilon), diameter=reach, scaling=math.sqrt(self.scaling),
            debias=False, potentials=True, backend="tensorized",
        )  # fmt: skip
        found = []
        with torch.no_grad():  # which also restores the mode that GeomLoss sets
            for a, b in ((x, y), (x, x), (y, y)):
                _, g = strictly("geomloss", partial(solve, a, b))
                potentials = solved(a, b, g.flatten(), last, self.overrelaxation)
                found.append(finite(Entropic(a, b, *potentials, epsilon)))
        return found[0], found[1], found[2]


def solved(x: Points, y: Points, g: Values, last: Level, overrelaxation: float) -> Potentials:
    """`iterate` at the last level; on in double precision where rounding left more than the dtype's TOLERANCE."""
    potentials = iterate(x, y, g, *last, overrelaxation)
    epsilon, most, tolerance = last
    if tolerance <= (aim := TOLERANCE[x.dtype]):
        return potentials
    return iterate(x.double(), y.double(), potentials[1].double(), epsilon, most, aim, overrelaxation)


def iterate(
    x: Points, y: Points, g: Values, epsilon: float, most: int, tolerance: float, overrelaxation: float = 1.0
) -> Potentials:
    """Sinkhorn's iteration from g, until the L1 error of the rows' marginal is below `tolerance`.

    Over-relaxed, f <- f + w (softmin(c - g) - f), and g likewise (Thibault et al. 2021; Lehmann et al. 2022), once
    that error is below NEAR and no longer halved by each plain iteration, until it is above FAR: it converges from
    near the solution, and need not from afar.
    """
    f, weight, previous = softmin(x, y, g, epsilon), 1.0, math.inf
    for _ in range(most):
        g = torch.lerp(g, softmin(y, x, f, epsilon), weight)
        exact = softmin(x, y, g, epsilon)
        error = ((f - exact).div_(epsilon).exp_() - 1).abs().mean().item()
        if error < tolerance:
            return exact, g
        if error >= FAR:
            weight = 1.0
        elif error <= NEAR and error > previous / 2:
            weight = overrelaxation
        previous = error
        f = torch.lerp(f, exact, weight)
    return softmin(x, y, g, epsilon), g


def finite(pair: Entropic) -> Entropic:
    """`pair`. Raises Diverged where its potentials are not finite."""
    if not bool(pair.f.isfinite().all() and pair.g.isfinite().all()):
        raise Diverged(f"the potentials are not finite at epsilon = {pair.epsilon:.3g}: raise reg")
    return pair


def _translation(centres: Points) -> float:
    """What it costs to move one mean (2, d) to the other: the cost is that of the centred points and this."""
    return (centres[0].double() - centres[1].double()).square().sum().item() / 2


def _debiased(x: Points, y: Points, centres: Points, pair: Entropic, own_x: Entropic, own_y: Entropic) -> "Smoothed":
    """Of the three couplings, with S = OT(x, y) - OT(x, x) / 2 - OT(y, y) / 2 from their potentials."""
    cost = ((pair.f - own_x.f).double().mean() + (pair.g - own_y.g).double().mean()).item() + _translation(centres)
    return Smoothed(x, y, cost, centres, pair.epsilon, pair.f, pair.g, own_x.g, own_y.g)


@dataclass(frozen=True, eq=False)
class Smoothed:
    """The entropic coupling of x and y, each less its mean of `centres` (2, d); debiased by potentials of their own."""

    x: Points
    y: Points
    cost: float
    centres: Points
    epsilon: float
    f: Values
    g: Values
    own_x: Values | None = None
    own_y: Values | None = None

    @cached_property
    def pair(self) -> Entropic:
        return Entropic(self.x - self.centres[0], self.y - self.centres[1], self.f, self.g, self.epsilon)

    def forward(self, points: Points) -> Points:
        here, there = self.centres.to(points)
        return self._map(points - here, self.pair.y, self.g, self.pair.x, self.own_x) + there

    def inverse(self, points: Points) -> Points:
        there, here = self.centres.to(points)
        return self._map(points - here, self.pair.x, self.f, self.pair.y, self.own_y) + there

    def _map(self, points: Points, there: Points, h: Values, here: Points, own: Values | None) -> Points:
        moved = project(points, there, h, self.epsilon)
        return moved if own is None else points + moved - project(points, here, own, self.epsilon)

    def audit(self) -> Audit:
        found, translation = self.pair.audit(), _translation(self.centres)
        return replace(found, upper=found.upper + translation, lower=found.lower + translation)

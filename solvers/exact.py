"""Optimal transport between two finite samples by the network simplex."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datasets.base import Points, Values
from solvers.base import Diverged
from solvers.discrete import Audit, Coupling, Discrete, blocks, dual_bound, pot, strictly

MAX_ITER = 10_000_000
DENSE_BYTES = 44  # a pair of points takes, of POT's dense network simplex with its plan; 41 were measured
LAZY_BYTES = 500  # a point


@dataclass(frozen=True)
class Exact(Discrete):
    """The optimal coupling of `n_points` draws of each measure, by POT's network simplex (Bonneel et al. 2011).

    A linear program in O(n^2) memory, or, `lazy`, in O(n), where costs are computed as they are asked for; its time
    grows faster than n^2. More than `max_gib` GiB are refused. The cost is 1/2 W2^2 between the samples, which is
    above that between the measures by a bias O(n^(-2/d)) where d > 4 (Manole and Niles-Weed 2024, Annals of Applied
    Probability 34, for smooth costs): `same_law_cost` shows it. The map is the
    barycentric projection of the coupling on the sample, and moves every other point as it moves the nearest one of
    the sample (Manole et al. 2024, the one-nearest-neighbour estimator, here of the displacement).
    """

    n_points: int = 5000
    lazy: bool = False
    max_iter: int = MAX_ITER
    max_gib: float = 4.0

    version: ClassVar[int] = 2
    gap_limit: ClassVar[float] = 1e-6

    def __post_init__(self) -> None:
        for name in ("n_points", "max_iter"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not self.max_gib > 0:
            raise ValueError(f"max_gib must be above 0, not {self.max_gib}")

    def memory(self, n: int, m: int, dim: int) -> tuple[int, str]:
        if self.lazy:
            return LAZY_BYTES * (n + m), "set n_points lower"
        return DENSE_BYTES * n * m, "set lazy=true, or n_points lower"

    def couple(self, x: Points, y: Points) -> "Plan":
        return network_simplex(x, y, self.lazy, self.max_iter)

    def restore(self, state: Mapping[str, Any]) -> Coupling:
        return Plan(**state)


@dataclass(frozen=True, eq=False)
class Plan:
    """The coupling sum_k mass_k delta(x_rows_k, y_columns_k), and the dual potential g (m,) on y."""

    x: Points
    y: Points
    cost: float
    rows: Tensor
    columns: Tensor
    mass: Values
    g: Values

    def forward(self, points: Points) -> Points:
        return _moved(points, self.x, self._projected(self.rows, self.columns, len(self.x), self.y))

    def inverse(self, points: Points) -> Points:
        return _moved(points, self.y, self._projected(self.columns, self.rows, len(self.y), self.x))

    def _projected(self, here: Tensor, there: Tensor, n: int, points: Points) -> Points:
        """The barycentric projection (n, d): the mean of the `points` that each of n points is coupled with."""
        total = points.new_zeros(n, points.shape[1], dtype=torch.float64)
        total.index_add_(0, here, self.mass[:, None] * points[there].double())
        return (total / _sums(here, self.mass, n)[:, None]).to(points)

    def audit(self) -> Audit:
        x, y, n, m = self.x.double(), self.y.double(), len(self.x), len(self.y)
        cost = (self.mass * (x[self.rows] - y[self.columns]).square().sum(1)).sum().item() / 2
        return Audit(
            source=(_sums(self.rows, self.mass, n) - 1 / n).abs().sum().item(),
            target=(_sums(self.columns, self.mass, m) - 1 / m).abs().sum().item(),
            mass=abs(self.mass.sum().item() - 1),
            upper=cost,
            lower=dual_bound(*centred(x, y), self.g),
        )


def centred(x: Points, y: Points) -> tuple[Points, Points]:
    """Both, less the mean of x: costs stay, and their rounding errors shrink."""
    return x - x.mean(0), y - x.mean(0)


def network_simplex(x: Points, y: Points, lazy: bool = False, max_iter: int = MAX_ITER) -> Plan:
    """The optimal coupling of the rows of x (n, d) and y (m, d), computed in float64 on the CPU.

    Raises Diverged where a number is not finite (POT's answer would be 0) or `max_iter` is reached.
    """
    for name, points in (("source", x), ("target", y)):
        if len(points) == 0 or not bool(points.isfinite().all()):
            raise Diverged(f"the {name}'s sample must be one or more rows of finite numbers")
    ot = pot()
    a, b = (points.detach().cpu().double().numpy() for points in centred(x, y))
    if lazy:
        cost, log = strictly("emd2_lazy", lambda: ot.lp.emd2_lazy(a, b, numItermax=max_iter, log=True))
        plan = log["G"].tocoo()
        rows, columns, mass = plan.row, plan.col, plan.data
    else:
        plan, log = strictly("emd", lambda: ot.emd([], [], ot.dist(a, b), numItermax=max_iter, log=True))
        cost, (rows, columns) = log["cost"], plan.nonzero()
        mass = plan[rows, columns]
    if log["warning"] is not None:
        raise Diverged(f"emd: {str(log['warning']).splitlines()[0]}")
    if not 0 <= float(cost) < float("inf"):
        raise Diverged(f"emd: the cost is {float(cost)}")
    found = (torch.as_tensor(part, device=x.device) for part in (rows, columns, mass, log["v"] / 2))
    rows, columns, mass, g = found
    return Plan(x, y, float(cost) / 2, rows.long(), columns.long(), mass, g)


def empirical_cost(x: Points, y: Points) -> float:
    """1/2 W2^2 between the rows of x (n, d) and of y (m, d), equally heavy each. Raises Diverged."""
    return network_simplex(x, y).cost


def _sums(labels: Tensor, values: Values, n: int) -> Values:
    return values.new_zeros(n).index_add_(0, labels, values)


def _moved(points: Points, sites: Points, images: Points) -> Points:
    """Each of `points` moved as the nearest of `sites` (n, d) moves to its image."""
    origin, centre = sites.to(points), sites.mean(0).to(points)
    nearest = torch.cat([cost.argmin(1) for _, cost in blocks(points - centre, origin - centre)])
    return points + (images - sites).to(points)[nearest]

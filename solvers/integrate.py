"""Explicit Runge-Kutta methods with fixed steps: the tableau is data, the state has accumulators."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Rates = Callable[[float, Tensor], tuple[Tensor, ...]]  # (t, x) -> (dx/dt, the accumulators' rates)


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method: stages k_i = f(t + c_i h, x + h sum_j a_ij k_j), x + h sum_i b_i k_i.

    Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, eq. (II.1.8).
    """

    order: int
    a: tuple[tuple[float, ...], ...]  # row i holds a_i0 .. a_i,i-1
    b: tuple[float, ...]
    c: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.a) == len(self.b) == len(self.c)
        assert math.isclose(sum(self.b), 1.0), "the weights b must sum to 1"
        for i, (row, node) in enumerate(zip(self.a, self.c, strict=True)):
            assert len(row) == i, "an explicit method has a strictly lower triangular a"
            assert math.isclose(sum(row), node, abs_tol=1e-15), "each row of a must sum to its node c"


RK4 = Tableau(
    order=4,
    a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    c=(0.0, 0.5, 0.5, 1.0),
)


def integrate(
    rates: Rates, x: Tensor, n_steps: int, t0: float = 0.0, t1: float = 1.0, method: Tableau = RK4
) -> tuple[Tensor, ...]:
    """Integrate x' = f(t, x) from t0 to t1 (backwards where t1 < t0) in equal steps.

    `rates(t, x)` returns dx/dt (n, d) and the rates of any number of accumulators, which start at 0 and on which
    the rates do not depend. Returns x(t1) and the accumulators' integrals from t0 to t1.
    """
    assert n_steps >= 1
    h = (t1 - t0) / n_steps
    totals: tuple[Tensor, ...] = ()
    for i in range(n_steps):
        x, increments = _step(rates, x, t0 + i * h, h, method)
        totals = tuple(a + b for a, b in zip(totals, increments, strict=True)) if totals else increments
    return x, *totals


def pull_back(
    pullback: Callable[[int, Tensor, float], Tensor],
    grad: Tensor,
    n_steps: int,
    t0: float = 0.0,
    t1: float = 1.0,
    method: Tableau = RK4,
) -> Tensor:
    """The adjoint of `integrate`: from the gradient of a loss in x(t1) to that in x(t0), by the chain rule.

    `pullback(i, v, weight)` gives, for the i-th evaluation of the rates f(t, x), the gradient in x of
    <v, dx/dt> + weight <g, the accumulators' rates>, where g is the loss's gradient in the accumulators. It is called
    once an evaluation, the last one first.
    """
    h = (t1 - t0) / n_steps
    stages = len(method.b)
    for step in reversed(range(n_steps)):
        found: list[Tensor] = []  # of stages - 1, stages - 2, ...
        total = grad
        for i in reversed(range(stages)):
            uses = [method.a[j][i] for j in reversed(range(i + 1, stages))]
            v = _combine(grad * (h * method.b[i]), h, tuple(uses), found)
            found.append(pullback(step * stages + i, v, h * method.b[i]))
            total = total + found[-1]
        grad = total
    return grad


def _step(rates: Rates, x: Tensor, t: float, h: float, method: Tableau) -> tuple[Tensor, tuple[Tensor, ...]]:
    stages: list[tuple[Tensor, ...]] = []
    for row, node in zip(method.a, method.c, strict=True):
        moved = [k[0] for k in stages]
        stages.append(rates(t + node * h, _combine(x, h, row, moved)))
    parts = list(zip(*stages, strict=True))
    increments = tuple(_weighted(h, method.b, list(part)) for part in parts[1:])
    return _combine(x, h, method.b, list(parts[0])), increments


def _combine(x: Tensor, h: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x.add(slope, alpha=h * weight)
    return x


def _weighted(h: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = slopes[0] * (h * weights[0])
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total.add(slope, alpha=h * weight)
    return total

"""BFGS with a line search for functions that need not be smooth, one iteration at a time, and resumable.

Nocedal and Wright, Numerical Optimization (2006), chapters 6 and 7. The inverse Hessian approximation

    H_{k+1} = (I - rho s y') H_k (I - rho y s') + rho s s',   s = x_{k+1} - x_k,   y = g_{k+1} - g_k,   rho = 1/(y.s)

is kept as its pairs (s, y) and applied by the two-loop recursion (algorithm 7.4). H_0 = (y.s / y.y) I comes from the
first pair and stays, so that this is BFGS itself until `memory` pairs are full, and then forgets the oldest. (L-BFGS
proper takes H_0 from the newest pair, which where absolute values have kinks is far too small.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SUFFICIENT = 1e-4  # the share of the predicted decrease that a step must reach
FLATTER = 0.9  # the share of the slope that may be left
CURVATURE = 1e-10  # pairs with y.s / (|y| |s|) below it are rounding
TRIALS = 20


class BFGS:
    """The quasi-Newton directions of a sequence of points and gradients (p,)."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.scale: float | None = None  # of H_0

    def direction(self, gradient: Tensor) -> Tensor:
        """-H g (p,), a direction of descent. Before the first pair, -g of length 1 at most in the 1-norm."""
        if self.scale is None:
            return -gradient / max(1.0, gradient.abs().sum().item())
        q = gradient.clone()
        weights = []
        for s, y in reversed(self.pairs):
            weights.append(torch.dot(s, q) / torch.dot(s, y))
            q.sub_(weights[-1] * y)
        q.mul_(self.scale)
        for s, y in self.pairs:
            q.add_((weights.pop() - torch.dot(y, q) / torch.dot(s, y)) * s)
        return q.neg_()

    def update(self, s: Tensor, y: Tensor) -> None:
        """Learn from a step s and the change y of the gradient along it, unless they show no curvature."""
        curvature = torch.dot(s, y).item()
        if not curvature > CURVATURE * (s.norm() * y.norm()).item():
            return
        if self.scale is None:
            self.scale = curvature / torch.dot(y, y).item()
        self.pairs = [*self.pairs, (s, y)][-self.memory :]

    def forget(self) -> None:
        """Begin anew, with steepest descent."""
        self.pairs, self.scale = [], None

    def state_dict(self) -> dict[str, Any]:
        return {"pairs": list(self.pairs), "scale": self.scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.pairs = [(s, y) for s, y in state["pairs"]]
        self.scale = state["scale"]


@dataclass(frozen=True)
class Point:
    """Where a function was evaluated: x (p,), its value and gradient (p,), and what else came out, by name."""

    x: Tensor
    value: float
    gradient: Tensor
    terms: Mapping[str, float]


def line_search(evaluate: Callable[[Tensor], Point], start: Point, direction: Tensor) -> Point:
    """A point x + t d that satisfies the weak Wolfe conditions, by bisection (Lewis and Overton 2013, algorithm 2.6).

    f(x + t d) <= f(x) + SUFFICIENT t d.g and d.grad f(x + t d) >= FLATTER d.g: they can be met, and give y.s > 0,
    where f has kinks too. After TRIALS evaluations it is the best point of sufficient decrease, or else `start`.
    """
    slope = torch.dot(start.gradient, direction).item()
    low, high, t = 0.0, float("inf"), 1.0
    best = start
    for _ in range(TRIALS):
        trial = evaluate(start.x + t * direction)
        if not trial.value <= start.value + SUFFICIENT * t * slope:  # also where it is not a number
            high = t
        else:
            best = trial
            if torch.dot(trial.gradient, direction).item() >= FLATTER * slope:
                break
            low = t
        t = (low + high) / 2 if high < float("inf") else 2 * low
    return best


def minimise(evaluate: Callable[[Tensor], Point], start: Point, bfgs: BFGS) -> Point:
    """One iteration from `start`. A line search that finds nothing makes `bfgs` forget, and returns `start`."""
    direction = bfgs.direction(start.gradient)
    if not torch.dot(direction, start.gradient).item() < 0:  # rounding: H is positive definite
        bfgs.forget()
        direction = bfgs.direction(start.gradient)
    found = line_search(evaluate, start, direction)
    if found is start:
        bfgs.forget()
    else:
        bfgs.update(found.x - start.x, found.gradient - start.gradient)
    return found

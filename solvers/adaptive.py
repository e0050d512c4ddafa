"""The border to torchdiffeq: integrate a tuple of tensors, count evaluations, call a breakdown by its name."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchdiffeq import odeint, odeint_adjoint

from solvers.base import Diverged

State = tuple[Tensor, ...]  # points (n, d), then accumulators, each starting at 0
Rates = Callable[[Tensor, State], State]  # (t, state) -> d state / dt

ORDER = {"dopri5": 5, "dopri8": 8, "bosh3": 3, "adaptive_heun": 2, "euler": 1, "midpoint": 2, "rk4": 4}
FIXED = {"euler", "midpoint", "rk4"}

BREAKDOWNS = ("underflow in dt", "non-finite values in state")  # how torchdiffeq's assertions begin


class Evaluations:
    """Counts the function evaluations of one pass; beyond `limit` of them the pass ends as Diverged."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.t = torch.zeros(())

    def add(self, t: Tensor) -> None:
        if self.count >= self.limit:
            raise Diverged(f"the integrator needs too many steps: {self}")
        self.count += 1
        self.t = t.detach()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within, a breakdown of torchdiffeq is raised as Diverged."""
        try:
            yield
        except AssertionError as error:
            if not str(error).startswith(BREAKDOWNS):
                raise
            raise Diverged(f"{str(error).split(':')[0]}: {self}") from error

    def __str__(self) -> str:
        return f"{self.count} function evaluations, last at t = {self.t.item():.6g}"


@dataclass(frozen=True)
class Integrator:
    """How to integrate: a method of torchdiffeq, with tolerances, or with `n_steps` if its steps are fixed.

    An adaptive method accepts a step where for each tensor of the state (and, in the adjoint's backward solve, each
    parameter's gradient) the root mean square of error / (atol + rtol |value|) is at most 1. The norm is over all
    rows, so that a row's result depends, within the tolerance, on the rows beside it.
    """

    method: str = "dopri5"
    atol: float = 1e-5
    rtol: float = 1e-5
    n_steps: int | None = None
    adjoint: bool = False

    def __post_init__(self) -> None:
        if self.method not in ORDER:
            raise ValueError(f"unknown method {self.method!r}: choose one of {', '.join(ORDER)}")
        if (self.method in FIXED) != (self.n_steps is not None):
            raise ValueError(f"n_steps is for {', '.join(sorted(FIXED))}, which need it; the method is {self.method}")
        if self.n_steps is not None and self.n_steps < 1:
            raise ValueError(f"n_steps is {self.n_steps}: set it to 1 or more")
        if not (self.atol > 0 and self.rtol > 0):
            raise ValueError("atol and rtol must be positive")

    def refined(self, effort: float, dtype: torch.dtype) -> "Integrator":
        """Tolerances / effort**order, or effort times the fixed steps.

        They go no lower than the machine precision of `dtype` (1.2e-7 in float32), below which nothing is gained.
        """
        if self.n_steps is not None:
            return replace(self, n_steps=max(1, math.ceil(self.n_steps * effort)))
        shrink = effort ** ORDER[self.method]
        eps = torch.finfo(dtype).eps
        atol, rtol = (max(tolerance / shrink, min(tolerance, eps)) for tolerance in (self.atol, self.rtol))
        return replace(self, atol=atol, rtol=rtol)

    def solve(
        self,
        rates: Rates,
        state: State,
        t0: float,
        t1: float,
        evaluations: Evaluations,
        parameters: Sequence[Tensor] = (),
    ) -> State:
        """The state at t1, from `state` at t0 (backwards where t1 < t0); raises Diverged.

        `evaluations` counts the calls of `rates`: here those of the forward solve, and with the adjoint those of
        the backward solve while the gradient is taken. `parameters` are what the adjoint differentiates besides the
        state; anything else in `rates` is constant to it.
        """

        def counted(t: Tensor, state: State) -> State:
            evaluations.add(t)
            return rates(t, state)

        times = torch.tensor([t0, t1], dtype=torch.float64, device=state[0].device)
        options = {} if self.n_steps is None else {"grid_constructor": self._grid}
        settings: dict[str, Any] = {
            "method": self.method,
            "atol": self.atol,
            "rtol": self.rtol,
            "options": options,
        }
        with evaluations.watched():
            if self.adjoint and torch.is_grad_enabled():
                ends = odeint_adjoint(counted, state, times, adjoint_params=tuple(parameters), **settings)
            else:
                ends = odeint(counted, state, times, **settings)
        return tuple(end[-1] for end in ends)

    def _grid(self, rates: Rates, state: Tensor, times: Tensor) -> Tensor:
        assert self.n_steps is not None
        start, end = times[0].item(), times[-1].item()
        return torch.linspace(start, end, self.n_steps + 1, dtype=times.dtype, device=times.device)

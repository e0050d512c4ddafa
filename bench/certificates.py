"""What makes a number void: each certificate is {value, limit, ok}, and a failed one greys the numbers beside it.

A value of None (with ok False) is one that is not finite, or whose computation broke down (then a transport's own
certificate has no limit either). What a transport cannot give is not certified, and left out.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Generator

from bench.grid import box_around, density_on, integral
from bench.metrics import MAX_ROWS, subset
from datasets.base import Points, Problem, Values
from solvers.base import Diverged, Fit, Transport

NON_FINITE_LIMIT = 0.0
NLL_LIMIT = 0.01  # nats
INVERSE_LIMIT = 1e-2
INTEGRAL_LIMIT = 1e-3
BIAS_LIMIT = 0.05
STRAIGHT_LIMIT = 0.02

ROWS = 2000
CELLS = {1: 4096, 2: 160}  # a side, by dimension
DOUBLINGS = 2
MARGIN = 0.2

Certificate = dict[str, Any]


def certify(problem: Problem, fit: Fit, transport: Transport, rng: Generator) -> dict[str, Certificate]:
    """All certificates that `transport`, which `fit` gave at effort 1, can be asked for, by name.

    * finite: share of the numbers in forward(x), inverse(forward(x)) and log_prob(x) that are not finite, over at
      most ROWS test points (bench.metrics looks at all of them).
    * inverse: max |inverse(forward(x)) - x| over the same, where there is a density: of a transport without one, such
      as that of a coupling of samples, the two maps are two estimates, neither the inverse of the other.
    * nll_effort: |NLL at effort 1 - NLL at effort 2| in nats over the same.
    * nll_valid: |NLL at effort 1 - NLL as validations have it| in nats over the same, where validations go by the NLL
      and have one: they set the target q and the seconds to it by an integration of their own.
    * density_integral: |integral of exp(log_prob) - 1| in one and two dimensions.
    * sampling_bias: same_law_cost() / cost, the share of a cost between samples that two samples of one law have too.
    * straightness: E int 1/2 |v|^2 dt / E 1/2 |forward(x) - x|^2 - 1 over the same test points, where the transport
      has curves and a cost: 0 for straight lines at even speed, as an optimal one has. A cost estimated along longer
      ones is above that of the map.
    * the transport's own, under their names.
    """
    test = subset(problem.test, ROWS, rng)
    forward, inverse, log_prob = transport.forward, transport.inverse, transport.log_prob
    certificates = {"finite": _judge(lambda: _share_non_finite(transport, test), NON_FINITE_LIMIT)}
    if forward is not None and inverse is not None and log_prob is not None:
        certificates["inverse"] = _judge(lambda: _inverse_error(transport, test), INVERSE_LIMIT)
    if log_prob is not None:
        usual = cache(lambda: _nll(log_prob, test))
        certificates["nll_effort"] = _judge(lambda: _nll_change(usual, fit, test, "test", 2.0), NLL_LIMIT)
        if transport.objective is None and fit.transport("valid").log_prob is not None:
            certificates["nll_valid"] = _judge(lambda: _nll_change(usual, fit, test, "valid", 1.0), NLL_LIMIT)
        if problem.source.dim in CELLS:
            certificates["density_integral"] = _judge(
                lambda: abs(mass(problem, transport, log_prob, rng) - 1), INTEGRAL_LIMIT
            )
    if (same_law_cost := transport.same_law_cost) is not None and (cost := transport.cost) is not None:
        certificates["sampling_bias"] = _judge(lambda: _share(same_law_cost(), cost), BIAS_LIMIT)
    if transport.cost is not None and forward is not None and (energy := transport.energy) is not None:
        certificates["straightness"] = _judge(lambda: _excess(energy(test), forward(test) - test), STRAIGHT_LIMIT)
    return certificates | {name: _judged(measure) for name, measure in transport.certificates.items()}


def _judge(measure: Callable[[], float], limit: float) -> Certificate:
    return {**_judged(lambda: (measure(), limit)), "limit": limit}


def _judged(measure: Callable[[], tuple[float, float]]) -> Certificate:
    """The certificate of the value and the limit that `measure` gives; without a limit where it breaks down."""
    try:
        value, limit = measure()
    except Diverged:
        return {"value": None, "limit": None, "ok": False}
    known = math.isfinite(value)
    return {"value": value if known else None, "limit": limit, "ok": known and value <= limit}


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _excess(energy: Values, moved: Points) -> float:
    least = moved.detach().double().square().sum(1).mean().item() / 2
    return _share(energy.detach().double().mean().item(), least) - 1


def _share_non_finite(transport: Transport, test: Points) -> float:
    outputs = []
    if transport.log_prob is not None:
        outputs.append(transport.log_prob(test))
    if transport.forward is not None:
        outputs.append(transport.forward(test))
        if transport.inverse is not None:
            outputs.append(transport.inverse(outputs[-1]))
    if not outputs:
        return 0.0
    numbers = torch.cat([output.detach().flatten() for output in outputs])
    return (~numbers.isfinite()).double().mean().item()


def _inverse_error(transport: Transport, test: Points) -> float:
    assert transport.forward is not None
    assert transport.inverse is not None
    back = transport.inverse(transport.forward(test))
    return (back - test).detach().double().norm(dim=1).max().item()


def _nll(log_prob: Callable[[Points], Values], test: Points) -> float:
    return -log_prob(test).detach().double().mean().item()


def _nll_change(usual: Callable[[], float], fit: Fit, test: Points, use: str, effort: float) -> float:
    first = usual()  # before the other is asked for: the transports of one fit may share its weights and buffers
    other = fit.transport(use, effort).log_prob
    assert other is not None, f"a density for {use} at effort {effort} is missing"
    return abs(first - _nll(other, test))


def mass(problem: Problem, transport: Transport, log_prob: Callable[[Points], Values], rng: Generator) -> float:
    """The integral of exp(log_prob) by the trapezoid rule on a box around generated and test points.

    The number of cells a side is doubled, at most DOUBLINGS times, while every other grid point gives another
    integral by more than the limit. For a smooth density this overestimates the error by far, see
    `bench.grid.integral`.
    """
    points = [problem.test]
    if transport.inverse is not None:
        points.append(transport.inverse(problem.target.sample(MAX_ROWS, rng)).detach())
    box = box_around(torch.cat(points), MARGIN)
    for doubling in range(DOUBLINGS + 1):
        density = density_on(box, CELLS[problem.source.dim] << doubling, log_prob)
        coarse = density[(slice(None, None, 2),) * density.ndim]
        if abs(integral(density, box) - integral(coarse, box)) <= INTEGRAL_LIMIT:
            break
    return integral(density, box)

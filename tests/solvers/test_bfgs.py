"""BFGS against scipy's, and its line search where a function has kinks."""

import itertools

import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der

from solvers.bfgs import BFGS, SUFFICIENT, Point, line_search, minimise

START = torch.tensor([-1.2, 1.0, -0.5, 0.8], dtype=torch.float64)


def rosenbrock(x: torch.Tensor) -> Point:
    return Point(x, float(rosen(x.numpy())), torch.as_tensor(rosen_der(x.numpy())), {})


def quadratic(x: torch.Tensor) -> Point:
    scales = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    return Point(x, float((scales * x * x).sum()) / 2, scales * x, {})


def kinked(x: torch.Tensor) -> Point:
    """|x_0| + sum of w_i x_i^2: the least value 0 lies on a kink."""
    weights = torch.tensor([0.0, 1.0, 3.0, 9.0])
    gradient = 2 * weights * x
    gradient[0] = x[0].sign()
    return Point(x, float(x[0].abs() + (weights * x * x).sum()), gradient, {})


def solve(function, steps: int, memory: int = 100, x: torch.Tensor = START) -> list[Point]:
    bfgs, points = BFGS(memory), [function(x)]
    for _ in range(steps):
        points.append(minimise(function, points[-1], bfgs))
    return points


def test_finds_rosenbrocks_minimum_in_about_as_many_iterations_as_scipy():
    theirs = minimize(rosen, START.numpy(), jac=rosen_der, method="BFGS", options={"gtol": 1e-7})
    needed = next(i for i, p in enumerate(solve(rosenbrock, 100)) if p.gradient.abs().max() < 1e-7)
    assert needed <= 1.5 * theirs.nit
    assert torch.allclose(solve(rosenbrock, needed)[-1].x, torch.ones(4), atol=1e-6)


def test_directions_are_those_of_the_full_matrix():
    """The recursion of the module's docstring, eq. (6.17) of Nocedal and Wright, written with matrices."""
    bfgs, eye = BFGS(100), torch.eye(4)
    H, point = None, rosenbrock(START)
    for _ in range(20):
        after = minimise(rosenbrock, point, bfgs)
        s, y = after.x - point.x, after.gradient - point.gradient
        rho = 1 / torch.dot(s, y)
        H = eye / (rho * torch.dot(y, y)) if H is None else H
        left = eye - rho * torch.outer(s, y)
        H = left @ H @ left.T + rho * torch.outer(s, s)
        assert torch.allclose(bfgs.direction(after.gradient), -H @ after.gradient, rtol=1e-6, atol=1e-12)
        point = after


def test_a_short_memory_keeps_the_newest_pairs_and_still_descends():
    points = solve(rosenbrock, 60, memory=3)
    assert points[-1].value < 1e-6
    bfgs = BFGS(2)
    for k in range(1, 5):
        bfgs.update(torch.full((4,), float(k)), torch.ones(4))
    assert [s[0].item() for s, _ in bfgs.pairs] == [3.0, 4.0]


def test_every_step_satisfies_the_weak_wolfe_conditions_on_a_smooth_function():
    points = solve(quadratic, 30)
    for before, after in itertools.pairwise(points):
        d = after.x - before.x
        if d.norm() == 0:
            continue
        slope = torch.dot(before.gradient, d)
        assert after.value <= before.value + SUFFICIENT * slope
        assert torch.dot(after.gradient, d) >= 0.9 * slope
    assert points[-1].value < 1e-10


def test_kinks_do_not_stop_it():
    assert solve(kinked, 60)[-1].value < 1e-6


def test_trials_that_are_not_finite_are_backed_away_from():
    def walled(x: torch.Tensor) -> Point:
        value = float("nan") if x[0] > 0.3 else float(-x[0])
        return Point(x, value, torch.tensor([-1.0, 0.0, 0.0, 0.0]), {})

    start = walled(torch.zeros(4))
    found = line_search(walled, start, -start.gradient)
    assert 0 < found.x[0] <= 0.3


def test_a_search_that_finds_nothing_stays_and_forgets():
    """A gradient that points the wrong way, as rounding makes it."""

    def wrong(x: torch.Tensor) -> Point:
        return Point(x, float(x.sum()), -torch.ones(4), {})

    bfgs = BFGS(5)
    bfgs.update(torch.ones(4), torch.ones(4))
    start = wrong(torch.zeros(4))
    assert minimise(wrong, start, bfgs) is start
    assert bfgs.pairs == []
    assert bfgs.scale is None


def test_resumes_from_its_state_dict(tmp_path):
    bfgs, point = BFGS(5), rosenbrock(START)
    for _ in range(8):
        point = minimise(rosenbrock, point, bfgs)
    torch.save(bfgs.state_dict(), tmp_path / "bfgs.pt")
    other = BFGS(5)
    other.load_state_dict(torch.load(tmp_path / "bfgs.pt", weights_only=True))
    assert torch.equal(other.direction(point.gradient), bfgs.direction(point.gradient))


def test_pairs_without_curvature_are_left_out():
    bfgs = BFGS(5)
    bfgs.update(torch.ones(4), -torch.ones(4))
    bfgs.update(torch.ones(4), torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert bfgs.direction(torch.full((4,), 0.1)).tolist() == pytest.approx([-0.1] * 4)

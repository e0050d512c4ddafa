"""Upwinding against exact motions of Gaussians."""

import math

import pytest
import torch

from bench.metrics import METRICS, Evaluation
from bench.upwind import advect, compare, upwind, velocities
from datasets.base import Problem, Samples
from datasets.gaussians import Gaussian
from solvers.base import Diverged, Transport
from solvers.staggered import Grid


def gaussian(mean, xx, yy=None, xy=0.0):
    return Gaussian(torch.tensor(mean), torch.tensor([[xx, xy], [xy, yy or xx]]))


def moving(t, x):
    """An accelerated translation by (1, -1/2)."""
    return (2 * t * torch.tensor([1.0, -0.5])).to(x).expand_as(x)


def turning(t, x):
    """Faster and faster around the origin: by pi / 2 in all, anticlockwise."""
    return math.pi * t * torch.stack([-x[:, 1], x[:, 0]], 1)


def run(velocity, source, target, n, steps=None):
    grid = Grid(5.0, n, steps or 2 * n)
    found = compare(source, target, Transport(velocity=velocity), torch.float64, grid)
    assert found is not None
    return grid, *found


CASES = {
    "translation": (moving, gaussian([-0.5, 0.5], 0.5), gaussian([0.5, 0.0], 0.5), 2 * (1.25) / 3),
    # int 1/2 (pi t)^2 E|x|^2 dt with E|x|^2 = 1 + 1.3
    "rotation": (turning, gaussian([1.0, 0.0], 0.9, 0.4), gaussian([0.0, 1.0], 0.4, 0.9), math.pi**2 / 6 * 2.3),
}


@pytest.mark.parametrize("name", CASES)
def test_converges_to_the_exact_motion_with_first_order_in_both_directions(name):
    velocity, source, target, cost = CASES[name]
    errors = {}
    for n in (32, 64, 128):
        grid, forward, backward = run(velocity, source, target, n)
        assert forward.mass_error < 1e-12
        assert backward.mass_error < 1e-12
        assert forward.end.min() >= 0
        off = [
            (part.end - grid.averages(end)).abs().sum().item() * grid.h**2
            for part, end in ((forward, target), (backward, source))
        ]
        errors[n] = torch.tensor([*off, abs(forward.cost - cost), abs(backward.cost - cost)])
    orders = (errors[64] / errors[128]).log2()
    assert (errors[128][:2] < 0.25).all()  # of a distance of at most 2
    assert (errors[128][2:] < 0.06 * cost).all()
    assert (orders[:2] > 0.6).all(), orders
    assert (orders[:2] < 1.3).all(), orders
    # on a grid of both kinds of error the slower one shows
    assert (errors[128] < errors[64]).all()
    assert (errors[64] < errors[32]).all()


def test_backward_runs_through_the_times_from_the_last_to_the_first():
    """Shifted by (1, 0) and then turned by pi / 2: from the origin to (0, 1), and back only in the other order."""

    def shift_then_turn(t, x):
        shift = torch.tensor([2.0, 0.0]).expand_as(x)
        return shift if t < 0.5 else math.pi * torch.stack([-x[:, 1], x[:, 0]], 1)

    grid, forward, backward = run(shift_then_turn, gaussian([0.0, 0.0], 0.4), gaussian([0.0, 1.0], 0.4), 64)
    axis = grid.centres()
    for part, place in ((forward, (0.0, 1.0)), (backward, (0.0, 0.0))):
        mean = [(part.end * axis[:, None]).sum() * grid.h**2, (part.end * axis).sum() * grid.h**2]
        assert torch.allclose(torch.stack(mean), torch.tensor(place), atol=0.1)


def test_the_divergence_at_the_end_is_that_of_the_densities():
    """Nothing moves: both divergences are those of the Gaussians, 1/2 |m|^2 / s for equal variances."""
    source, target = gaussian([0.0, 0.0], 0.4), gaussian([0.6, 0.0], 0.4)
    _, forward, backward = run(lambda t, x: torch.zeros_like(x), source, target, 128, 4)
    assert forward.cost == backward.cost == 0
    assert forward.kl == pytest.approx(0.36 / 0.8, rel=2e-3)  # a cell's width h adds h^2 / 12 to 0.4
    assert backward.kl == pytest.approx(0.36 / 0.8, rel=2e-3)


def test_kinetic_energy_has_both_ends_halved():
    """A speed of t while the density hardly moves: int t^2 / 2 dt by the trapezoid rule is 1/6 + dt^2 / 12."""
    grid = Grid(5.0, 32, 4)
    frames = torch.linspace(0, 1, 5)[:, None, None, None] * torch.stack([torch.ones(32, 32), torch.zeros(32, 32)])
    rho = grid.averages(gaussian([0.0, 0.0], 0.4))
    assert advect(frames, rho / (rho.sum() * grid.h**2), rho, grid).cost == pytest.approx(1 / 6 + 1 / 16 / 12, rel=1e-6)


def test_a_flux_comes_from_upstream():
    rho = torch.arange(9.0).reshape(3, 3)
    x, y = upwind(rho, (torch.full((2, 3), 2.0), torch.full((3, 2), -1.0)))
    assert torch.equal(x, 2 * rho[:2])
    assert torch.equal(y, -rho[:, 1:])


def test_steps_are_divided_where_the_velocity_needs_it_and_refused_beyond():
    source, target = gaussian([-0.5, 0.5], 0.5), gaussian([0.5, 0.0], 0.5)
    _, forward, _ = run(moving, source, target, 64, 8)  # up to 2.4 cells a step
    assert forward.end.min() >= 0
    assert forward.mass_error < 1e-12
    with pytest.raises(Diverged, match=r"at time 0 the velocity crosses 6\d\d cells a step"):
        run(lambda t, x: torch.full_like(x, 400.0), source, target, 64, 8)


def test_a_velocity_that_is_not_finite_is_said():
    with pytest.raises(Diverged, match="not finite"):
        velocities(Transport(velocity=lambda t, x: x / 0), Grid(5.0, 8, 4), torch.float32, 2, "cpu")


def test_is_left_out_where_it_has_no_sense():
    g = gaussian([0.0, 0.0], 0.4)
    still = Transport(velocity=lambda t, x: torch.zeros_like(x))
    grid = Grid(5.0, 16, 4)
    rows = g.sample(10, torch.Generator().manual_seed(0))
    assert compare(g, g, Transport(), torch.float64, grid) is None
    assert compare(Samples(rows, rows), g, still, torch.float64, grid) is None
    assert compare(g, gaussian([6.0, 0.0], 0.4), still, torch.float64, grid) is None
    assert compare(Gaussian(torch.zeros(3), torch.eye(3)), g, still, torch.float64, grid) is None


@pytest.mark.parametrize(
    ("mean", "variance", "n", "lost"),
    [
        (0.0, 0.4, 16, 1e-9),
        (3.0, 0.4, 16, 7.8e-4),  # the share beyond 5
        (3.2, 0.4, 16, None),  # 2.2e-3
        (0.0, 0.005, 128, 1e-6),  # cells of one standard deviation
        (0.0, 1e-5, 128, None),  # of twenty: the quadrature finds another mass
    ],
)
def test_mass_that_the_grid_does_not_hold_is_recorded_or_refused_never_made_up_for(mean, variance, n, lost):
    still, ours = Transport(velocity=lambda t, x: torch.zeros_like(x)), gaussian([mean, 0.0], variance)
    for pair in ((ours, gaussian([0.0, 0.0], 0.4)), (gaussian([0.0, 0.0], 0.4), ours)):
        found = compare(*pair, still, torch.float64, Grid(5.0, n, 4))
        assert (found is None) == (lost is None)
        if found is not None:
            assert [part.lost_mass for part in found] == pytest.approx([lost, lost], rel=0.05, abs=2e-6)


def test_metrics_are_of_relaxed_transports_alone(rng, monkeypatch):
    monkeypatch.setattr("bench.metrics.compare", lambda *given, device: run(moving, *CASES["translation"][1:3], 32)[1:])
    p = Problem(gaussian([0.0, 0.0], 0.4), gaussian([0.6, 0.0], 0.4), torch.zeros(3, 2))
    names = [name for name in METRICS if name.startswith("upwind")]
    assert all(METRICS[name](Evaluation(p, Transport(velocity=moving), rng)) is None for name in names)
    e = Evaluation(p, Transport(velocity=moving, relaxation=2.5), rng)
    values = {name: METRICS[name](e) for name in names}
    assert values["upwind_objective"] == pytest.approx(values["upwind_cost"] + 2.5 * values["upwind_kl"])
    back = values["upwind_cost_backward"] + 2.5 * values["upwind_kl_backward"]
    assert values["upwind_objective_backward"] == pytest.approx(back)
    assert values["upwind_mass_error"] < 1e-12

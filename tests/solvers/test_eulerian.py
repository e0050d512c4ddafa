"""The Eulerian judge against relaxed optima of Gaussians in closed form, and each part against its definition."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import Gaussian, divergence, relaxed_target, transport_cost, transport_map
from solvers.dynamic import Dynamic
from solvers.eulerian import GAP_LIMIT, MASS_LIMIT, Eulerian, PrimalDual, Verified, between, paraboloid
from solvers.poisson import SpaceTimePoisson
from solvers.spline import Axis, Spline
from solvers.staggered import Grid, cell_sums, face_means, gradient
from solvers.staggered import divergence as outflow

SOURCE = Gaussian(torch.tensor([-0.8, 0.3]).double(), torch.tensor([[0.6, 0.2], [0.2, 0.5]]).double())
TARGET = Gaussian(torch.tensor([0.7, 0.0]).double(), torch.tensor([[0.4, -0.1], [-0.1, 0.7]]).double())
WEIGHT = 2.5
PAIR = {"half_width": 4.5, "tolerance": 5e-4, "max_iterations": 400}


def truth():
    reached = relaxed_target(SOURCE, TARGET, WEIGHT)
    return reached, transport_cost(SOURCE, reached), divergence(reached, TARGET)


def solved(**settings):
    fit = Eulerian(**PAIR | settings).start(SOURCE, TARGET, torch.Generator())
    while not fit.done:
        terms = fit.step()
    return fit, terms


@pytest.fixture(scope="module")
def pair():
    return solved(levels=2)


def test_values_and_map_are_near_the_relaxed_optimum(pair):
    fit, terms = pair
    reached, cost, kl = truth()
    assert terms["bound"] == pytest.approx(cost + WEIGHT * kl, rel=0.02)
    assert terms["transport"] == pytest.approx(cost, rel=0.02)
    assert terms["kl"] == pytest.approx(kl, rel=0.1)
    transport = fit.transport()
    assert transport.cost == pytest.approx(terms["transport"], rel=0.01)  # of the feasible path, not of the iterate
    assert transport.kl == pytest.approx(terms["kl"], rel=0.05)
    assert transport.relaxation == WEIGHT
    x = SOURCE.sample(2000, torch.Generator().manual_seed(0))
    T = transport_map(SOURCE, reached)(x)
    assert (transport.forward(x) - T).square().sum(1).mean() < 5e-3 * T.var(0).sum()
    assert (transport.inverse(T) - x).square().sum(1).mean() < 5e-3 * x.var(0).sum()
    # the density of the source is that of the target where the mass ends, up to what the penalty leaves
    assert (SOURCE.log_prob(x) - transport.log_prob(x)).mean() == pytest.approx(kl, rel=0.25)
    assert transport.hjb(x).mean() < 0.05 * cost
    halfway = transport.path(x, 0.5)
    assert (halfway - (x + T) / 2).norm(dim=1).mean() < 0.05
    v = transport.velocity(0.5, halfway)
    assert (v - (T - x)).norm(dim=1).mean() < 0.1
    at = halfway[:50].requires_grad_()
    (slope,) = torch.autograd.grad(transport.potential(0.5, at).sum(), at)
    assert torch.allclose(-slope, v[:50])


def test_a_budget_that_ends_on_a_coarse_grid_fails_a_certificate():
    fit = Eulerian(**PAIR | {"levels": 3, "block": 1}).start(SOURCE, TARGET, torch.Generator())
    fit.step()
    value, limit = fit.transport().certificates["levels_left"]()
    assert value == 2 > limit


def test_a_map_that_does_not_do_what_the_grid_says_fails_a_certificate(pair):
    """The path on the grid can be sound, and what its potential moves otherwise."""
    fit, _ = pair
    value, limit = fit.transport().certificates["curves"]()
    assert value < 1.5 * limit  # 0.004 on a grid that is twice as fine
    off = copy.copy(fit)
    off.iterate = dataclasses.replace(fit.iterate, phi=1.1 * fit.iterate.phi)
    assert off.transport().certificates["curves"]()[0] > value + 0.01
    coarse, _ = solved(levels=1)
    assert coarse.transport().certificates["curves"]()[0] > 5 * limit


def test_a_solve_that_was_stopped_or_a_domain_that_is_too_small_fails_its_certificate():
    early = Eulerian(**PAIR | {"levels": 1, "block": 1}).start(SOURCE, TARGET, torch.Generator())
    early.step()
    value, limit = early.transport().certificates["duality_gap"]()
    assert value > 10 * limit
    cut, _ = solved(levels=1, half_width=2.6)
    assert cut.solver.unfit(SOURCE, TARGET) is None
    value, limit = cut.transport().certificates["lost_mass"]()
    assert value > limit


@pytest.mark.parametrize(("flow", "mass"), [(1.001, 1.0), (1.001, 1.001)], ids=["continuity", "total"])
def test_a_path_that_does_not_conserve_mass_fails_its_certificate(pair, flow, mass):
    fit, _ = pair
    verified = Verified(fit.problem, fit.iterate)
    assert verified.mass_error <= MASS_LIMIT
    path = verified.path
    broken = Verified(dataclasses.replace(fit.problem, source=mass * fit.problem.source), fit.iterate)
    broken.__dict__["path"] = dataclasses.replace(path, rho=mass * path.rho, m=(flow * path.m[0], flow * path.m[1]))
    assert broken.mass_error > 100 * MASS_LIMIT


def test_certificates_bound_the_optimum_from_both_sides(pair):
    fit, _ = pair
    values = {name: certificate() for name, certificate in fit.transport().certificates.items()}
    assert 0 <= values["duality_gap"][0] <= values["duality_gap"][1] == GAP_LIMIT
    assert values["mass"][0] < 1e-12
    assert values["levels_left"] == (0, 0)
    assert 0 < values["lost_mass"][0] < 1e-5
    verified = Verified(fit.problem, fit.iterate)
    assert verified.path.rho.min() >= 0
    assert verified.path.rho[0].equal(fit.problem.source)
    assert fit.problem.residual(verified.path.rho[1:], verified.path.m).abs().max() < 1e-10
    assert fit.problem.kinetic(verified.path.rho[1:], verified.path.m) == pytest.approx(
        verified.path.transport, rel=1e-3
    )


@pytest.mark.slow
def test_converges_with_second_order():
    _, cost, kl = truth()
    errors = []
    for levels in (1, 2, 3):
        fit, _ = solved(levels=levels, tolerance=2e-4, max_iterations=1000)
        verified = Verified(fit.problem, fit.iterate)
        assert verified.gap < 3e-4
        errors.append(torch.tensor([verified.path.transport - cost, verified.path.kl - kl]).abs())
    coarse, fine = ((a / b).log2() for a, b in pairwise(errors))
    assert (coarse > 1.1).all(), coarse
    assert (fine > 1.6).all(), fine


def random_problem():
    grid = Grid(2.0, 6, 5)
    rng = torch.Generator().manual_seed(1)
    source, target = (torch.rand(6, 6, generator=rng) + 0.2 for _ in range(2))
    return Dynamic(grid, *(d / (d.sum() * grid.h**2) for d in (source, target)), WEIGHT), rng


@pytest.mark.parametrize("size", [0.0, 0.1, 3.0])
def test_every_potential_bounds_every_path_from_below(size):
    problem, rng = random_problem()
    for _ in range(20):
        path = problem.feasible(torch.rand(5, 6, 6, generator=rng))
        phi = size * torch.randn(5, 6, 6, generator=rng)
        repaired = problem.repaired(phi)
        assert (
            repaired.diff(dim=0) / problem.grid.dt - problem.hamiltonian(repaired).unfold(0, 2, 1).mean(-1)
        ).min() > -1e-9
        assert problem.bound(phi) <= path.transport + WEIGHT * path.kl
        assert problem.bound(phi + 7) == pytest.approx(problem.bound(phi), rel=1e-9)


def test_the_bounds_meet():
    """Solved tightly: the gap closes, so that the dual is that of the primal."""
    problem, _ = random_problem()
    method = PrimalDual(problem, 20.0, 1.0)
    s = method.begin()
    for _ in range(1500):
        s = method.advance(s)
    assert 0 <= Verified(problem, s).gap < 1e-4
    # best fluxes follow the potential where there is mass
    rho_x = face_means((problem.levels(s.rho)[1:] + problem.levels(s.rho)[:-1]) / 2)[0]
    assert torch.allclose(s.m_x, -rho_x * gradient(s.phi, problem.grid.h)[0], atol=1e-3)


def test_fluxes_are_those_of_least_energy():
    """Adding a circulation to the fluxes of a path keeps it feasible and raises its energy."""
    problem, rng = random_problem()
    path = problem.feasible(torch.rand(5, 6, 6, generator=rng) + 0.1)
    corner = torch.zeros(5, 7, 7)
    corner[:, 1:-1, 1:-1] = torch.randn(5, 5, 5, generator=rng)
    circulation = corner[:, 1:-1].diff(dim=2), -corner[:, :, 1:-1].diff(dim=1)
    for size in (-0.1, 0.1):
        m = tuple(a + size * b for a, b in zip(path.m, circulation, strict=True))
        assert problem.residual(path.rho[1:], m).abs().max() < 1e-12
        assert problem.kinetic(path.rho[1:], m) > path.transport


def test_operators_are_adjoint(rng):
    cells, x, y = (torch.randn(3, *shape, generator=rng) for shape in ((5, 5), (4, 5), (5, 4)))
    inner = sum((a * b).sum() for a, b in zip(gradient(cells, 0.3), (x, y), strict=True))
    assert (outflow((x, y), 0.3) * cells).sum() == pytest.approx(-inner.item())
    means = sum((a * b).sum() for a, b in zip(face_means(cells), (x, y), strict=True))
    assert (cell_sums((x, y)) * cells).sum() == pytest.approx(2 * means.item())


def test_poisson_solves_its_equation(rng):
    grid = Grid(1.5, 6, 4)
    w = torch.rand(4, generator=rng) + 0.5
    p = SpaceTimePoisson(grid, w, 0.7).solve(f := torch.randn(4, 6, 6, generator=rng))
    back = w[:, None, None] * torch.cat([p, torch.zeros(1, 6, 6)]).diff(dim=0) / grid.dt  # -W D' p
    forth = torch.cat([torch.zeros(1, 6, 6), back]).diff(dim=0) / grid.dt
    assert torch.allclose(-forth - 0.7 * outflow(gradient(p, grid.h), grid.h), f)


def test_projection_onto_the_paraboloid(rng):
    a, b = 3 * torch.randn(1000, generator=rng), 10 * torch.randn(1000, generator=rng)
    p, q = paraboloid(a, b)
    inside = a + b.square() / 2 <= 0
    assert torch.allclose(p[inside], a[inside])
    assert torch.equal(q[inside], b[inside])
    p, q, a, b = (v[~inside] for v in (p, q, a, b))
    assert torch.allclose(p + q.square() / 2, torch.zeros_like(p), atol=1e-6)
    # the way there is along the normal (1, q)
    assert torch.allclose((a - p) * q, b - q, atol=1e-9)


def test_resolvent_of_the_divergence():
    problem, rng = random_problem()
    method = PrimalDual(problem, 3.0, 2.0)
    z = 50 * torch.randn(6, 6, generator=rng)
    kl = method._kl(z)
    r = (z - kl) / method.sigma_kl
    # kl is the slope of (weight / dt) KL at r
    assert torch.allclose(kl, WEIGHT / problem.grid.dt * ((r / problem.target).log() + 1))


def test_spline_and_its_derivatives(rng):
    space, time = Axis(-1.0, 0.1, 21), Axis(0.0, 0.1, 11)
    t, axis = torch.linspace(0, 1, 11), torch.linspace(-1, 1, 21)
    f = lambda t, x, y: torch.exp(t) * torch.sin(x) * torch.cos(0.7 * y)  # noqa: E731
    spline = Spline(time, space, f(t[:, None, None], axis[:, None], axis))
    x = 0.8 * torch.rand(200, 2, generator=rng) - 0.4  # away from the ends, where the second derivative is made 0
    rate, slope, laplacian = spline.derivatives(0.47, x)
    assert torch.allclose(spline.value(0.47, x), f(torch.tensor(0.47), x[:, 0], x[:, 1]), atol=1e-5)
    exact = f(torch.tensor(0.47), x[:, 0], x[:, 1])
    assert torch.allclose(rate, exact, atol=1e-3)
    assert torch.allclose(slope[:, 1], -0.7 * exact * torch.tan(0.7 * x[:, 1]), atol=1e-3)
    assert torch.allclose(laplacian, -1.49 * exact, atol=1e-2)
    everywhere = (3 * torch.rand(50, 2, generator=rng) - 1.5).requires_grad_()  # beyond the ends too
    _, slope, laplacian = spline.derivatives(0.47, everywhere)
    second = [torch.autograd.grad(slope[:, i].sum(), everywhere, retain_graph=True)[0][:, i] for i in (0, 1)]
    assert torch.allclose(sum(second), laplacian, atol=1e-9)


def test_spline_goes_through_its_values_and_on_straight():
    values = torch.tensor([0.0, 2.0, -1.0, 3.0, 1.0])
    R = between(torch.arange(5.0), torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7, -1, -2]))
    found = R @ values
    assert torch.allclose(found[:5], values)
    assert abs(found[4] - found[5]) > 0.1
    assert found[6] - found[5] == pytest.approx((found[5] - found[4]).item())
    assert found[7] - found[6] == pytest.approx((found[6] - found[5]).item())
    assert found[9] - found[8] == pytest.approx((found[8] - found[0]).item())


def test_what_does_not_fit_is_said():
    solver = Eulerian()
    solid, rows = Gaussian(torch.zeros(3), torch.eye(3)), SOURCE.sample(9, torch.Generator())
    assert solver.unfit(SOURCE, TARGET) is None
    assert "dimension 2, not 3 and 3" in solver.unfit(solid, solid)
    assert "source has no density" in solver.unfit(Samples(rows, rows), TARGET)
    assert "target has no density" in solver.unfit(SOURCE, Samples(rows, rows))
    far = Gaussian(torch.tensor([6.0, 0.0]), torch.eye(2))
    assert solver.unfit(far, TARGET).startswith("31 % of the source lies outside half_width 6.5")
    for variance in (1e-3, 1e-4, 1e-8):  # between the points of any quadrature too
        narrow = Gaussian(torch.tensor([0.1, 0.03]), variance * torch.eye(2))
        assert "too coarse for the target" in solver.unfit(SOURCE, narrow)


@pytest.mark.parametrize("field", ["alpha1", "half_width", "levels", "cells", "block", "tolerance"])
def test_settings_are_checked(field):
    with pytest.raises(ValueError, match=field):
        Eulerian(**{field: 0})

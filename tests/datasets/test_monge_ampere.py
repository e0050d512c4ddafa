"""The Newton solver of the planar transport problem, against closed forms, its equation and another method."""

import math

import numpy as np
import pytest
import torch

from datasets.mixtures import plane_optimum, plane_transport, ring
from datasets.monge_ampere import Potential, RingTransport
from tests import oracles

WEIGHTS = (1.0, 2.5, 10.0, 100.0, math.inf)


def log_ring(x):
    return ring(4.0, 0.3).log_prob(torch.from_numpy(x)).numpy()


def log_normal(x, variance=0.3):
    return -(x**2).sum(1) / (2 * variance) - math.log(2 * math.pi * variance)


def points(n=400):
    """Points of the ring, in all its sectors, and some of the gap at its centre and of its outskirts."""
    rng = torch.Generator().manual_seed(1)
    return np.r_[ring(4.0, 0.3).sample(n, rng).numpy(), 1.8 * torch.randn(n // 4, 2, generator=rng).numpy()]


def jacobian(f, x, h=1e-3):
    """Central differences of fourth order: (n, 2) -> (n, 2, 2), derivatives by the last axis."""
    columns = [
        (8 * (f(x + h * e) - f(x - h * e)) - (f(x + 2 * h * e) - f(x - 2 * h * e))) / (12 * h) for e in np.eye(2)
    ]
    return np.stack(columns, -1)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_primal_and_dual_values_meet(weight):
    found = plane_optimum(weight)
    assert abs(found.upper - found.lower) < 2e-9
    if weight < math.inf:
        assert found.upper == pytest.approx(found.cost + weight * found.kl)
    else:
        assert found.kl == pytest.approx(0.0, abs=1e-12)
        assert found.cost == pytest.approx(found.lower, abs=2e-9)


@pytest.mark.parametrize("weight", [2.5, math.inf])
def test_values_of_any_convex_potential_are_bounds_and_their_gap_is_of_second_order(weight):
    problem, best = plane_transport(), plane_optimum(weight)
    u = best.potential
    # a smooth change of all modes at r of about 4, where the mass is, in proportion: u must stay convex in the gap
    bump = np.exp(-((np.linspace(0, 8, len(u.coefficients)) - 4) ** 2))[:, None] * 0.5 ** np.arange(len(u.frequencies))

    def judged(size):
        return problem.judge(Potential(u.knots, u.frequencies, u.coefficients * (1 + size * bump)), weight)

    for size in (4e-3, -4e-3):
        whole, half = judged(size), judged(size / 2)
        assert whole.lower < half.lower < best.upper
        assert whole.upper > half.upper > best.lower
        assert (best.lower - whole.lower) / (best.lower - half.lower) == pytest.approx(4, rel=0.1)
        if weight < math.inf:
            assert (whole.upper - best.upper) / (half.upper - best.upper) == pytest.approx(4, rel=0.1)
            # the objective is convex with modulus 1 + weight / variance along such maps: a bound of the map's error
            assert whole.cost == pytest.approx(best.cost, abs=4 * math.sqrt(whole.upper - whole.lower))
    with pytest.raises(ArithmeticError, match="not convex"):
        judged(-9.0)


def test_exact_map_satisfies_its_equation_everywhere():
    T, x = plane_optimum(math.inf).potential.gradient, points()
    D = jacobian(T, x)
    np.testing.assert_allclose(D, D.transpose(0, 2, 1), atol=1e-7)
    balance = log_ring(x) - log_normal(T(x))
    # in the gap D^2 u is too small for differences: there its determinant itself is compared
    np.testing.assert_allclose(np.linalg.det(D), np.exp(balance), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("weight", [1.0, 2.5, 10.0])
def test_relaxed_map_balances_the_pull_of_cost_and_divergence(weight):
    T, x = (
        plane_optimum(weight).potential.gradient,
        ring(4.0, 0.3).sample(200, torch.Generator().manual_seed(2)).numpy(),
    )
    x = x[np.abs(np.hypot(*x.T) - 4) < 1]  # where second differences are accurate

    def log_ratio(x):
        """log (mu / target) at T(x), by change of variables."""
        return log_ring(x) - np.linalg.slogdet(jacobian(T, x))[1] - log_normal(T(x))

    # by y = T(x):  weight grad log (mu / target) = x - y
    h = 1e-2
    slope = np.stack([(log_ratio(x + h * e) - log_ratio(x - h * e)) / (2 * h) for e in np.eye(2)], -1)
    by_image = np.linalg.solve(jacobian(T, x), slope[:, :, None])[:, :, 0]
    np.testing.assert_allclose(weight * by_image, x - T(x), atol=0.02 * weight)


def test_potentials_are_feasible_for_the_dual_at_all_pairs():
    u = plane_optimum(math.inf).potential
    x, y = points(300), 0.3**0.5 * torch.randn(300, 2, generator=torch.Generator().manual_seed(3)).numpy()

    def value(x):
        return u.polar(np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0]))[0]

    back = u.inverse(y)
    conjugate = (back * y).sum(1) - value(back)
    slack = value(x)[:, None] + conjugate - x @ y.T
    assert slack.min() > -1e-10
    assert slack.min() < 1e-2  # and tight where y is about T(x)


@pytest.mark.parametrize("weight", [0.1, 2.5, math.inf])
def test_inverse_undoes_the_map_beyond_the_disc_too(weight):
    u = plane_optimum(weight).potential
    x = np.r_[points(), [[0.0, 0.0], [0.0, 1e-3], [7.99, 0.0], [-8.5, 3.0], [20.0, 5.0]]]
    y = u.gradient(x)
    np.testing.assert_allclose(u.gradient(u.inverse(y)), y, atol=1e-9)
    far = np.hypot(*x.T) > 2  # nearer, points differ by far more than their images
    np.testing.assert_allclose(u.inverse(y)[far], x[far], atol=1e-7)


def test_value_gradient_and_hessian_agree_beyond_the_disc_too():
    u = plane_optimum(2.5).potential
    x = np.array([[3.0, 1.0], [-3.5, 2.0], [8.5, 0.5], [-7.0, 6.0]])

    def value(x):
        return u.polar(np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0]))[0]

    np.testing.assert_allclose(jacobian(lambda x: value(x)[:, None], x)[:, 0], u.gradient(x), atol=1e-8)
    _, _, _, rr, aa, ra = u.polar(np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0]))
    np.testing.assert_allclose(np.linalg.det(jacobian(u.gradient, x)), rr * aa - ra**2, rtol=1e-6)


def test_jacobian_is_that_of_the_residual():
    system, pull = plane_transport()._system, 0.4
    here, there = (np.r_[plane_optimum(w).potential.coefficients[system.free], c] for w, c in ((2.5, 0.3), (1.0, 1.3)))
    unknowns, step = (here + system.identity) / 2, 1e-5 * (there - here)  # convex, with every wave in them
    ahead, behind = (system.residual(unknowns + s * step, pull)[0] for s in (1, -1))
    np.testing.assert_allclose((ahead - behind) / 2e-5, system.residual(unknowns, pull)[1] @ step / 1e-5, atol=1e-4)


@pytest.mark.parametrize("weight", [0.5, 2.5, math.inf])
def test_a_round_gaussian_has_its_closed_form(weight):
    found = RingTransport(lambda x: log_normal(x, 0.8), 0.3, 8, 7.0, cells=40, waves=2).optimum(weight)
    variance = 0.3 if weight == math.inf else oracles.relaxed_normal(0.0, 0.8, 0.0, 0.3, weight)[1]
    ratio = variance / 0.3
    assert found.cost == pytest.approx((math.sqrt(variance) - math.sqrt(0.8)) ** 2, abs=1e-7)
    assert found.kl == pytest.approx(ratio - 1 - math.log(ratio), abs=1e-7)
    x = points()[:100] / 3
    np.testing.assert_allclose(found.potential.gradient(x), x * math.sqrt(variance / 0.8), atol=1e-5)


def test_a_weight_too_small_for_the_method_is_refused():
    with pytest.raises(ArithmeticError, match="larger weight"):
        plane_optimum(1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weight", [2.5, math.inf])
def test_values_converge_with_the_discretisation(weight):
    """In radius at 8th order or so, in angle at once.

    Much finer grids are no better a test: Newton's path from the identity to their optimum hangs on rounding.
    """
    x, usual = points(), plane_optimum(weight)

    def errors(cells, waves):
        other = RingTransport(log_ring, 0.3, 8, 8.0, cells=cells, waves=waves).optimum(weight)
        gradients = other.potential.gradient(x) - usual.potential.gradient(x)
        return abs(other.cost - usual.cost), abs(other.kl - usual.kl), np.abs(gradients).max()

    coarse, middle = errors(40, 12), errors(50, 12)
    assert max(coarse) < 1e-7
    assert max(middle) < 1.5e-8
    assert middle[0] < coarse[0] / 4
    assert middle[2] < coarse[2] / 4
    few, many = errors(60, 8), errors(60, 15)
    assert max(few[:2]) < 1e-12
    assert max(many[:2]) < 1e-12
    assert many[2] < few[2] / 100 < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1.0, 2.5, math.inf])
def test_entropic_transport_on_a_grid_tends_to_the_same_values(weight):
    """Independent of all above: Sinkhorn's algorithm, its regularisation extrapolated to none."""
    found = plane_optimum(weight)
    axis = np.arange(-66, 67) * 0.1
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    a, b = (np.exp(log(x)).reshape(len(axis), -1) for log in (log_ring, log_normal))
    values = [oracles.grid_sinkhorn(axis, a / a.sum(), b / b.sum(), e, weight) for e in (0.4, 0.2, 0.1)]
    cost, kl = (v[0] / 3 - 2 * v[1] + v[2] * 8 / 3 for v in np.array(values).T)
    assert cost == pytest.approx(found.cost, rel=2e-3)
    assert kl == pytest.approx(found.kl, abs=2e-3)

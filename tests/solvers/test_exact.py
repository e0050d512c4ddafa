"""The network simplex against closed forms, and every way in which POT is known to be wrong in silence."""

import math
import os
from pathlib import Path

import pytest
import torch
from torch import Generator

from datasets.base import Samples
from datasets.gaussians import Gaussian, Gaussians, random_gaussian, standard_normal, transport_cost
from solvers.base import Diverged
from solvers.discrete import CELLS, Audit, Discrete, blocks, draw, dual_bound, mean_cost
from solvers.exact import Exact, empirical_cost, network_simplex
from solvers.sinkhorn import Sinkhorn

LAZY = pytest.mark.parametrize("lazy", [False, True], ids=["dense", "lazy"])


def solved(solver: Discrete, source, target, seed: int = 0):
    fit = solver.start(source, target, Generator().manual_seed(seed))
    fit.step()
    return fit


def certificates(transport) -> dict[str, bool]:
    return {name: value <= limit for name, (value, limit) in ((n, c()) for n, c in transport.certificates.items())}


@LAZY
def test_a_permutation_is_found(lazy, rng):
    x = torch.randn(60, 3, generator=rng)
    order = torch.randperm(60, generator=rng)
    y = x[order] + 1e-3 * torch.randn(60, 3, generator=rng)
    plan = network_simplex(x, y, lazy)
    assert torch.equal(plan.rows[plan.columns.argsort()], order)
    assert torch.allclose(plan.forward(x)[order], y, atol=1e-12)
    assert torch.allclose(plan.inverse(y), x[order], atol=1e-12)
    assert plan.cost == pytest.approx((x[order] - y).square().sum(1).mean().item() / 2, rel=1e-9)


@LAZY
def test_a_translation_costs_its_square_and_holds_beyond_the_sample(lazy, rng):
    x, shift = torch.randn(50, 2, generator=rng), torch.tensor([30.0, -40.0])
    plan = network_simplex(x, x + shift, lazy)
    assert plan.cost == pytest.approx(50**2 / 2)
    new = torch.randn(9, 2, generator=rng)
    assert torch.allclose(plan.forward(new), new + shift)
    assert torch.allclose(plan.inverse(new), new - shift)


def test_on_a_line_the_sorted_points_are_coupled(rng):
    x, y = torch.randn(80, 1, generator=rng), torch.rand(80, 1, generator=rng) * 3
    plan = network_simplex(x, y)
    assert plan.cost == pytest.approx((x.sort(0).values - y.sort(0).values).square().mean().item() / 2)
    assert torch.allclose(plan.forward(x.sort(0).values), y.sort(0).values)


def test_unequal_samples_split_their_mass_and_project_to_the_mean():
    """0 and 1 to 0, 1 and 2: the quantile coupling, (1/3, 1/6, 1/6, 1/3)."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0], [2.0]])
    plan = network_simplex(x, y)
    assert plan.cost == pytest.approx((1 / 6 * 1 + 1 / 6 * 0 + 1 / 3 * 1) / 2)
    assert torch.allclose(plan.forward(x), torch.tensor([[1 / 3], [5 / 3]]))
    assert torch.allclose(plan.inverse(y), torch.tensor([[0.0], [0.5], [1.0]]))
    audit = plan.audit()
    assert max(audit.source, audit.target, audit.mass, abs(audit.gap(plan.cost))) < 1e-12


def test_duplicate_points_are_no_trouble(rng):
    x = torch.randn(10, 2, generator=rng).repeat(3, 1)
    plan = network_simplex(x, x.flip(0))
    assert plan.cost == pytest.approx(0, abs=1e-12)
    assert network_simplex(x[:1], x[:1] + 2).cost == pytest.approx(4)


def test_the_bounds_close_on_the_cost_and_a_wrong_plan_fails(rng):
    x, y = torch.randn(70, 4, generator=rng), torch.randn(90, 4, generator=rng) + 1
    plan = network_simplex(x, y)
    assert dual_bound(x, y, torch.zeros(90)) < plan.cost
    assert plan.audit().gap(plan.cost) < 1e-10
    assert plan.audit().gap(1.01 * plan.cost) > 9e-3
    assert plan.audit().gap(0.99 * plan.cost) > 9e-3
    wrong = type(plan)(x, y, plan.cost, plan.rows, plan.columns.flip(0), plan.mass, plan.g).audit()
    assert wrong.gap(plan.cost) > 0.05
    assert wrong.target > 0.01
    assert wrong.source < 1e-12
    wrong = type(plan)(x, y, plan.cost, plan.rows.flip(0), plan.columns, plan.mass, plan.g).audit()
    assert wrong.source > 0.01
    assert wrong.target < 1e-12
    wrong = type(plan)(x, y, plan.cost, plan.rows, plan.columns, 1.1 * plan.mass, plan.g).audit()
    assert wrong.mass == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(3))
def test_gaussians_on_the_plane_cost_what_bures_says(seed, rng):
    """An average over five pairs of samples: one pair scatters by more than the bias."""
    source, target = random_gaussian(2, rng), random_gaussian(2, rng)
    costs = [empirical_cost(source.sample(500, rng), target.sample(500, rng)) for _ in range(5)]
    mean, error = sum(costs) / 5, 4 * torch.tensor(costs).std().item() / math.sqrt(5)
    bias = empirical_cost(target.sample(500, rng), target.sample(500, rng))
    assert abs(mean - transport_cost(source, target)) < error + bias


def test_two_samples_of_one_law_in_ten_dimensions(rng):
    """The issue's figure: 1.67 at n = 3,000; at 500 it is larger still."""
    costs = [empirical_cost(*standard_normal(10).sample(2 * n, rng).split(n)) for n in (250, 500, 1000)]
    assert costs == sorted(costs, reverse=True)
    assert 1.67 < costs[-1] < 2.6


def test_the_fit_says_what_it_is_worth(rng):
    source, target = random_gaussian(10, rng), standard_normal(10)
    fit = solved(Exact(n_points=200), source, target)
    transport = fit.transport()
    assert all(certificates(transport).values())
    assert set(certificates(transport)) == {"finite_input", "marginal_source", "marginal_target", "mass", "duality_gap"}
    bias = transport.same_law_cost()
    assert bias == transport.same_law_cost()
    assert bias / transport.cost > 0.05  # so that the harness fails sampling_bias


def test_stored_rows_are_drawn_once_each_and_the_terms_say_of_how_many(rng):
    stored = Samples(torch.arange(2000.0)[:, None], torch.zeros(1, 1))
    fit = Exact(n_points=100).start(stored, standard_normal(1), rng)
    terms = fit.step()
    assert (terms["source_rows"], terms["target_rows"], terms["source_stored"]) == (100, 100, 2000)
    assert "target_stored" not in terms
    assert len(fit.coupling.x.unique()) == 100
    assert fit.coupling.x.max() > 1800  # from all of them
    assert torch.equal(draw(stored, 5000, rng), stored.train)
    assert solved(Exact(n_points=5000), Samples(stored.train[:50], stored.valid), stored).transport().cost > 0


@pytest.mark.parametrize("wide_first", [True, False])
def test_the_bias_is_what_the_cost_is_too_high_by_however_much_wider_one_law_is(wide_first, rng):
    """1/2 W2^2 between N(0, I) and N(0, 0.01 I) is d (1 - 0.1)^2 / 2; the target's own bias would be 10 times off."""
    pair = [Gaussian(torch.zeros(30), scale * torch.eye(30)) for scale in (1.0, 0.01)]
    fit = solved(Exact(n_points=300), *(pair if wide_first else reversed(pair)))
    x, y = fit.coupling.x, fit.coupling.y
    lengths = (x.square().sum(1).mean() + y.square().sum(1).mean()).item() / 2  # as drawn, which would scatter more
    assert fit.transport().same_law_cost() == pytest.approx(fit.transport().cost - (lengths - 30 * 0.1), rel=0.1)


def test_a_bias_that_is_no_number_is_none_of_zero(monkeypatch, rng):
    fit = solved(Exact(n_points=20), standard_normal(2), standard_normal(2))
    monkeypatch.setattr(fit, "_own_cost", lambda measure, rng: math.nan)
    assert math.isnan(fit.transport().same_law_cost())
    monkeypatch.setattr(fit, "_own_cost", lambda measure, rng: -1e-9)
    fit.__dict__.pop("bias")
    assert fit.transport().same_law_cost() == 0


def test_the_bias_of_stored_targets_comes_from_disjoint_halves(rng):
    points = torch.randn(60, 2, generator=rng)
    fit = solved(Exact(n_points=60), standard_normal(2), Samples(points, points))
    assert fit.transport().same_law_cost() > 0.01  # 0 if both halves were the same points
    sorted_ = Samples(torch.arange(200.0)[:, None], torch.zeros(1, 1))  # whose halves, in their order, cost 100^2 / 2
    assert solved(Exact(n_points=200), sorted_, sorted_).transport().same_law_cost() < 500


def test_a_bound_that_is_not_a_number_proves_nothing():
    for lower, upper, cost in ((math.nan, 1.0, 1.0), (1.0, math.nan, 1.0), (1.0, 1.0, math.nan)):
        assert math.isnan(Audit(0.0, 0.0, 0.0, upper, lower).gap(cost))


class Bad:
    """A measure with some points that no coupling can take."""

    def __init__(self, dim: int, value: float, row: int = 3) -> None:
        self.dim, self.value, self.row = dim, value, row

    def sample(self, n, rng):
        x = torch.randn(n, self.dim, generator=rng)
        x[self.row] = self.value
        return x


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite_is_one_clear_line(value, rng):
    """POT's emd2 returns 0 on a cost matrix with NaN."""
    with pytest.raises(Diverged, match="1 of 20 points of a sample are not finite"):
        Exact(n_points=20).start(Bad(2, value), standard_normal(2), rng).step()
    x = torch.full((5, 2), value)
    for pair in ((x, torch.zeros(5, 2)), (torch.zeros(5, 2), x)):
        with pytest.raises(Diverged, match="sample must be one or more rows of finite numbers"):
            network_simplex(*pair)


def test_empty_or_misshapen_samples_are_one_clear_line(rng):
    with pytest.raises(Diverged, match="the source's sample must be one or more rows"):
        network_simplex(torch.zeros(0, 2), torch.zeros(3, 2))

    class Few:
        dim = 2

        def sample(self, n, rng):
            return torch.zeros(0, 2)

    with pytest.raises(Diverged, match=r"a sample of 5000 points in 2 dimensions has the shape \(0, 2\)"):
        Exact().start(standard_normal(2), Few(), rng).step()


@LAZY
def test_the_iteration_cap_is_divergence(lazy, rng):
    """POT only warns, and returns a cost that is far too low."""
    x, y = torch.randn(200, 2, generator=rng), torch.randn(200, 2, generator=rng) + 3
    with pytest.raises(Diverged, match="numItermax"):
        network_simplex(x, y, lazy, max_iter=10)


def test_measures_that_cannot_be_coupled_are_unfit():
    assert "dimension 2 and the target 3" in Exact().unfit(standard_normal(2), standard_normal(3))
    why = Exact(n_points=50_000).unfit(standard_normal(2), standard_normal(2))
    assert "max_gib=4" in why
    assert "lazy=true" in why
    assert Exact(n_points=50_000, lazy=True).unfit(standard_normal(2), standard_normal(2)) is None
    few = Samples(torch.randn(100, 2), torch.randn(1, 2))
    assert Exact(n_points=50_000).unfit(few, standard_normal(2)) is None  # 100 x 50,000
    assert Exact().unfit(standard_normal(2), standard_normal(2)) is None
    for field, value in (("n_points", 0), ("max_iter", 0), ("max_gib", 0.0)):
        with pytest.raises(ValueError, match=field):
            Exact(**{field: value})


def test_pot_is_imported_without_other_frameworks():
    network_simplex(torch.zeros(1, 1), torch.ones(1, 1))
    assert os.environ["POT_BACKEND_DISABLE_JAX"]
    assert os.environ["POT_BACKEND_DISABLE_TENSORFLOW"]


def test_single_precision_points_give_single_precision_maps(rng):
    torch.set_default_dtype(torch.float32)
    far = Gaussian(torch.full((2,), 1000.0), torch.eye(2))
    fit = solved(Exact(n_points=100), far, far)
    transport = fit.transport()
    assert transport.forward(far.sample(5, rng)).dtype == torch.float32
    assert all(certificates(transport).values())
    assert transport.cost < 0.5


def test_blocks_are_the_cost_matrix(rng, monkeypatch):
    x, y = torch.randn(37, 3, generator=rng), torch.randn(11, 3, generator=rng)
    monkeypatch.setattr("solvers.discrete.CELLS", 5 * 11)
    parts = [(part.stop - part.start, cost.clone()) for part, cost in blocks(x, y)]
    assert [height for height, _ in parts] == [5] * 7 + [2]
    whole = torch.cdist(x, y) ** 2 / 2
    assert torch.allclose(torch.cat([cost for _, cost in parts]), whole)
    assert mean_cost(x, y) == pytest.approx(whole.mean().item())
    assert CELLS > 1000


def test_points_that_are_no_numbers_fail_their_certificate(rng):
    """`draw` lets none pass; a state that was kept elsewhere may have some."""
    fit = solved(Exact(n_points=20), standard_normal(2), standard_normal(2))
    assert certificates(fit.transport())["finite_input"]
    state = fit.state_dict()
    state["coupling"]["x"] = state["coupling"]["x"].clone().fill_(math.nan)
    fit.load_state_dict(state)
    value, limit = fit.transport().certificates["finite_input"]()
    assert value == 0.5 > limit


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", [Exact(n_points=5000), Sinkhorn(n_points=5000)], ids=["exact", "sinkhorn"])
def test_near_bures_at_5000_points(solver, seed):
    """Exact within 2 %. Entropic transport by its default reg = 5e-3 is up to 2.2 % off (seed 0); within 2 % it is at
    reg = 1e-3, which takes 13 times as long and is in suite=transport.
    """
    problem = Gaussians(dim=2).load(Path())
    transport = solved(solver, problem.source, problem.target, seed).transport()
    assert all(certificates(transport).values())
    assert transport.cost == pytest.approx(problem.truth.cost, rel=0.02 if isinstance(solver, Exact) else 0.025)

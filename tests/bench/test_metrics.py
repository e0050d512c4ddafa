"""Metrics against the closed forms of Gaussians and linear maps."""

import math
from dataclasses import replace

import ot
import pytest
import torch
from torch import Generator, Tensor

from bench.metrics import MAX_ROWS, METRICS, Evaluation, evaluate, subset
from datasets.base import Problem, Samples, Truth
from datasets.gaussians import Gaussian, random_gaussian, standard_normal, transport_cost, transport_map
from solvers.base import Diverged, Transport
from tests import oracles

EXACT = {"nll_gap", "inverse_error_mean", "inverse_error_max", "l2_uvp"}


def isotropic(mean: Tensor, variance: float) -> Gaussian:
    return Gaussian(mean, variance * torch.eye(len(mean)))


def linear(a: Gaussian, b: Gaussian) -> Transport:
    """The optimal transport from a to b."""
    return Transport(transport_map(a, b), transport_map(b, a), a.log_prob)


def problem(source: Gaussian, n: int, rng: Generator, truth: bool = True) -> Problem:
    target = standard_normal(source.dim)
    known = Truth(transport_cost(source, target), transport_map(source, target)) if truth else Truth()
    return Problem(source, target, source.sample(n, rng), known)


def generating(model: Gaussian, source: Gaussian, n: int, rng: Generator) -> Evaluation:
    """A transport whose generated points have the law `model`, on test points of the law `source`."""
    return Evaluation(problem(source, n, rng), linear(model, standard_normal(source.dim)), rng)


def test_the_exact_transport_is_judged_exact(rng):
    source = random_gaussian(3, rng)
    values = evaluate(p := problem(source, 4000, rng), linear(source, p.target), rng)
    assert set(values) == set(METRICS)
    assert abs(values["nll"] - source.entropy) < 4 * values["nll_stderr"]
    assert all(abs(values[name]) < 1e-12 for name in EXACT)
    assert values["cosine"] == pytest.approx(1, abs=1e-12)
    assert abs(values["cost_gap"]) < 0.1
    # the entropy's scatter: -log p = entropy - d/2 + chi^2_d / 2, of variance d / 2
    assert values["nll_stderr"] == pytest.approx(math.sqrt(3 / 2 / 4000), rel=0.1)


def test_a_wrong_density_has_the_divergence_as_its_gap(rng):
    source, model = isotropic(torch.tensor([0.2, 0.0]), 1.0), isotropic(torch.zeros(2), 1.25)
    e = generating(model, source, 10_000, rng)
    gap, gap_stderr, stderr = (METRICS[name](e) for name in ("nll_gap", "nll_gap_stderr", "nll_stderr"))
    divergence = 0.5 * (2 / 1.25 + 0.04 / 1.25 - 2 + 2 * math.log(1.25))  # KL of Gaussians
    assert abs(gap - divergence) < 4 * gap_stderr
    assert gap_stderr < 0.1 * divergence
    assert gap_stderr < 0.5 * stderr


@pytest.mark.parametrize(("name", "gamma"), [("mmd", 1.0), ("mmd_otflow", 0.5)])
def test_mmd_of_gaussians(name, gamma, rng):
    source, model = (
        isotropic(torch.tensor([0.5, 0.0]), 1.0),
        Gaussian(torch.zeros(2), torch.tensor([[2, 0.5], [0.5, 1]])),
    )
    n = 200
    runs = torch.tensor([METRICS[name](generating(model, source, n, rng)) for _ in range(200)])
    exact = oracles.gaussian_mmd(model.mean, model.covariance, source.mean, source.covariance, gamma)
    if name == "mmd_otflow":  # the diagonal's 1 in place of the kernel's mean
        zero = torch.zeros(2)
        within = [oracles.gaussian_kernel_mean(zero, 2 * g.covariance, gamma) for g in (source, model)]
        exact += sum(1 - k for k in within) / n
    stderr = runs.std() / math.sqrt(len(runs))
    assert stderr < 0.05 * exact
    assert abs(runs.mean() - exact) < 4 * stderr


@pytest.mark.parametrize("dim", [1, 3])
def test_energy_distance_of_gaussians(dim, rng):
    source, model = isotropic(torch.ones(dim), 1.0), isotropic(torch.zeros(dim), 2.0)
    runs = torch.tensor([METRICS["energy_distance"](generating(model, source, 100, rng)) for _ in range(200)])
    exact = oracles.isotropic_energy_distance(math.sqrt(dim), 2.0, 1.0, dim)
    stderr = runs.std() / math.sqrt(len(runs))
    assert stderr < 0.05 * exact
    assert abs(runs.mean() - exact) < 4 * stderr


def test_distances_of_two_points_to_two_by_hand(rng):
    """Model points 0 and 1, test points 0 and 2: distances 1 and 2 within, 0, 2, 1, 1 between."""
    p = Problem(standard_normal(1), standard_normal(1), torch.tensor([[0.0], [2.0]]))
    e = Evaluation(p, Transport(inverse=lambda z: torch.tensor([[0.0], [1.0]])), rng)
    k, wide = (lambda d: math.exp(-(d**2))), (lambda d: math.exp(-(d**2) / 2))
    assert METRICS["mmd"](e) == pytest.approx(k(1) + k(2) - 2 * (1 + k(2) + 2 * k(1)) / 4)
    assert METRICS["mmd_otflow"](e) == pytest.approx(
        (2 + 2 * wide(1)) / 4 + (2 + 2 * wide(2)) / 4 - 2 * (1 + wide(2) + 2 * wide(1)) / 4
    )
    assert METRICS["energy_distance"](e) == pytest.approx(2 * (0 + 2 + 1 + 1) / 4 - 1 - 2)
    assert METRICS["sliced_wasserstein"](e) == pytest.approx(math.sqrt(1 / 2))


def test_mean_norm_on_a_line_is_that_of_the_folded_normal():
    m, s = 0.7, 1.3
    folded = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))
    assert oracles.mean_norm(m, s**2, 1) == pytest.approx(folded, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 4])
def test_sliced_wasserstein_of_gaussians(dim, rng):
    source, model = isotropic(torch.full((dim,), 2.0), 1.0), isotropic(torch.zeros(dim), 4.0)
    found = METRICS["sliced_wasserstein"](generating(model, source, 10_000, rng))
    exact = oracles.isotropic_sliced_w2(2 * math.sqrt(dim), 1.0, 4.0, dim)
    assert found == pytest.approx(exact, rel=0.1 if dim > 1 else 0.03)  # 200 directions scatter by 4 %


def test_sliced_wasserstein_agrees_with_pot(rng):
    e = generating(isotropic(torch.zeros(3), 2.0), isotropic(torch.ones(3), 1.0), 300, rng)
    e.generated, e.held_out  # noqa: B018  # drawn before the directions are
    state = rng.clone_state()
    found = METRICS["sliced_wasserstein"](e)
    theta = torch.randn(3, 200, generator=state)
    expected = ot.sliced_wasserstein_distance(e.generated, e.held_out, projections=theta / theta.norm(dim=0), p=2)
    assert found == pytest.approx(expected.item(), rel=1e-9)


def test_distances_vanish_where_the_model_is_right(rng):
    source = isotropic(torch.zeros(2), 1.0)
    e = generating(source, source, 2000, rng)
    values = [METRICS[name](e) for name in ("mmd", "mmd_otflow", "energy_distance", "sliced_wasserstein")]
    assert all(abs(value) < limit for value, limit in zip(values, (2e-3, 4e-3, 1e-2, 0.15), strict=True))


def test_distances_do_not_depend_on_the_chunks(rng, monkeypatch):
    e = generating(isotropic(torch.zeros(2), 2.0), isotropic(torch.ones(2), 1.0), 100, rng)
    whole = METRICS["mmd"](e)
    again = Evaluation(e.problem, e.transport, e.rng)
    again.__dict__.update(generated=e.generated, held_out=e.held_out)
    monkeypatch.setattr("bench.metrics.CHUNK", 7)
    assert METRICS["mmd"](again) == pytest.approx(whole, rel=1e-12)


def test_costs_and_errors_of_a_shift(rng):
    p = Problem(
        standard_normal(2), standard_normal(2), torch.randn(50, 2, generator=rng), Truth(cost=2.0, map=lambda x: 2 * x)
    )
    shift = torch.tensor([3.0, 4.0])
    values = evaluate(p, Transport(lambda x: x + shift, lambda z: z - 0.9 * shift), rng)
    assert values["transport_cost"] == pytest.approx(12.5)
    assert values["cost_gap"] == pytest.approx(5.25)
    assert values["inverse_error_mean"] == pytest.approx(0.5)
    assert values["inverse_error_max"] == pytest.approx(0.5)
    missed = (shift - p.test).square().sum(1).mean() / (4 * p.test.var(0, correction=0).sum())
    assert values["l2_uvp"] == pytest.approx(100 * missed.item())
    angle = (p.test @ shift).mean() / (5 * p.test.square().sum(1).mean().sqrt())
    assert values["cosine"] == pytest.approx(angle.item())


def test_the_largest_inverse_error_is_not_the_mean(rng):
    p = problem(standard_normal(1), 10, rng, truth=False)
    values = evaluate(p, Transport(lambda x: x, lambda z: z + (z == p.test.max())), rng)
    assert values["inverse_error_max"] == pytest.approx(1)
    assert values["inverse_error_mean"] == pytest.approx(0.1)


def test_what_a_transport_cannot_give_is_none(rng):
    p = problem(random_gaussian(2, rng), 100, rng, truth=False)
    assert set(evaluate(p, Transport(), rng).values()) == {None}
    only_density = evaluate(p, Transport(log_prob=p.source.log_prob), rng)
    assert {n for n, v in only_density.items() if v is not None} == {"nll", "nll_stderr", "nll_gap", "nll_gap_stderr"}
    samples = Problem(Samples(p.test, p.test), p.target, p.test)
    assert evaluate(samples, linear(p.source, p.target), rng)["nll_gap"] is None
    identity = evaluate(problem(random_gaussian(2, rng), 100, rng), Transport(lambda x: x), rng)
    assert identity["cosine"] is None


def test_a_single_test_point_gives_no_scatter(rng):
    p = problem(standard_normal(2), 1, rng)
    values = evaluate(p, Transport(lambda x: x, lambda z: z, p.source.log_prob), rng)
    assert values["nll_stderr"] is None
    assert values["mmd"] is None
    assert values["l2_uvp"] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["forward", "inverse", "log_prob"])
def test_one_number_that_is_not_finite_is_divergence(part, bad, rng):
    p = problem(standard_normal(2), 50, rng)

    def spoilt(function):
        def call(x: Tensor) -> Tensor:
            values = function(x).clone()
            values[7] = bad
            return values

        return call

    maps = {"forward": lambda x: x, "inverse": lambda z: z, "log_prob": p.source.log_prob}
    with pytest.raises(Diverged, match=f"{part} is not finite at 1 of 50 points"):
        evaluate(p, Transport(**maps | {part: spoilt(maps[part])}), rng)


def test_a_metric_that_overflows_is_named(rng):
    p = problem(standard_normal(2), 50, rng)
    with pytest.raises(Diverged, match="metric transport_cost is inf"):
        evaluate(p, Transport(lambda x: x + 1e200), rng)


def test_each_part_is_computed_once(rng):
    p = problem(random_gaussian(2, rng), 50, rng)
    exact, calls = linear(p.source, p.target), []

    def counted(name: str):
        function = getattr(exact, name)
        return lambda x: calls.append(name) or function(x)

    evaluate(p, Transport(**{name: counted(name) for name in ("forward", "inverse", "log_prob")}), rng)
    assert sorted(calls) == ["forward", *3 * ["inverse"], "log_prob"]  # back, generated, and of the images


def test_the_same_seed_gives_the_same_numbers(rng):
    p = problem(random_gaussian(2, rng), 100, rng)
    transport = linear(p.source, p.target)
    first, again, other = (evaluate(p, transport, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first["mmd"] != other["mmd"]


def test_single_precision_points_get_single_precision_maps(rng):
    p = problem(random_gaussian(2, rng), 3000, rng)
    exact = evaluate(p, linear(p.source, p.target), rng.clone_state())
    torch.set_default_dtype(torch.float32)
    single = Problem(p.source, p.target, p.test.float(), p.truth)
    maps = linear(p.source, p.target)

    def picky(function):
        def call(x: Tensor) -> Tensor:
            assert x.dtype == torch.float32
            return function(x)

        return call

    values = evaluate(single, Transport(picky(maps.forward), picky(maps.inverse), picky(maps.log_prob)), rng)
    assert values["nll"] == pytest.approx(exact["nll"], abs=1e-5)
    assert 0 < values["inverse_error_max"] < 1e-5  # the maps ran in float32


def test_rows_beyond_the_cap_are_drawn_at_random(rng):
    x = torch.arange(100.0)[:, None]
    chosen = subset(x, 40, rng)
    assert len(chosen.unique()) == 40
    assert torch.equal(chosen, subset(x, 40, Generator().manual_seed(0)))
    assert chosen.max() > 60
    assert subset(x, 100, rng) is x
    e = Evaluation(problem(standard_normal(1), MAX_ROWS + 1, rng), Transport(inverse=lambda z: z), rng)
    assert len(e.generated) == len(e.held_out) == MAX_ROWS


def shifted(weight: float) -> Truth:
    """The relaxed truth of a problem on the line that stops 1 / weight short of a shift by 2."""
    stop = 2 - 1 / weight
    return Truth(cost=stop**2 / 2, map=lambda x: x + stop, kl=1 / (2 * weight**2))


def test_what_a_transport_says_of_itself_is_recorded(rng):
    p = problem(standard_normal(2), 50, rng, truth=False)
    said = Transport(cost=1.5, relaxation=2.5, same_law_cost=lambda: 0.25, hjb=lambda x: x.square().sum(1))
    values = evaluate(p, said, rng)
    names = ("cost_estimate", "relaxation", "same_law_cost")
    assert [values[name] for name in names] == [1.5, 2.5, 0.25]
    assert values["hjb_residual"] == pytest.approx(p.test.square().sum(1).mean().item())


def test_a_same_law_cost_that_breaks_down_leaves_the_other_metrics(rng):
    def breaks():
        raise Diverged("no convergence")

    p = problem(standard_normal(2), 50, rng, truth=False)
    values = evaluate(p, Transport(cost=1.5, same_law_cost=breaks), rng)
    assert values["same_law_cost"] is None
    assert values["cost_estimate"] == 1.5


def test_the_bound_of_gaussians_is_their_cost_and_that_of_others_comes_from_moments(rng):
    source, target = random_gaussian(3, rng), random_gaussian(3, rng)
    p = Problem(source, target, source.sample(5000, rng))
    exact = transport_cost(source, target)
    said = Transport(cost=1.0)
    assert evaluate(p, said, rng)["cost_bound"] == pytest.approx(exact, rel=1e-12)
    stored = Problem(Samples(p.test, p.test), target, p.test)
    found = evaluate(stored, said, rng)["cost_bound"]
    assert found != exact
    assert found == pytest.approx(exact, rel=0.05)
    drawn = Problem(Samples(p.test, p.test), Samples(target.sample(50_000, rng), p.test), p.test)
    assert evaluate(drawn, said, rng)["cost_bound"] == pytest.approx(found, rel=0.05)
    assert evaluate(Problem(source, target, p.test[:3]), said, rng)["cost_bound"] is None
    assert evaluate(p, Transport(log_prob=source.log_prob), rng)["cost_bound"] is None


def test_the_inverse_map_is_judged_on_the_images_of_the_test_points_where_only_the_map_is_known(rng):
    source = standard_normal(2)
    x = source.sample(1000, rng)
    p = Problem(source, Gaussian(torch.zeros(2), 4 * torch.eye(2)), x, Truth(map=lambda x: 2 * x + x**3))
    seen = []
    values = evaluate(p, Transport(inverse=lambda y: seen.append(y) or y / 2), rng)
    assert any(torch.equal(y, 2 * x + x**3) for y in seen)
    error = (x + x**3 / 2 - x).square().sum(1).mean() / x.var(0, correction=0).sum()
    assert values["l2_uvp_inverse"] == pytest.approx(100 * error.item())


@pytest.mark.slow
def test_the_inverse_map_is_judged_on_points_of_the_target(rng):
    source, target = random_gaussian(3, rng), random_gaussian(3, rng)
    back = transport_map(target, source)
    p = Problem(source, target, source.sample(20_000, rng), Truth(inverse=back))
    exact = evaluate(p, Transport(inverse=back), rng)
    assert exact["l2_uvp_inverse"] == pytest.approx(0, abs=1e-12)
    assert exact["cosine_inverse"] == pytest.approx(1)
    shift = torch.tensor([1.0, -2.0, 2.0])
    off = evaluate(p, Transport(inverse=lambda z: back(z) + shift), rng)
    assert off["l2_uvp_inverse"] == pytest.approx(100 * 9 / source.covariance.trace().item(), rel=0.02)
    still = evaluate(p, Transport(inverse=lambda z: z + shift), rng)["cosine_inverse"]
    moved = back(y := target.sample(20_000, rng)) - y
    assert still == pytest.approx(((moved @ shift).mean() / (3 * moved.square().sum(1).mean().sqrt())).item(), rel=0.05)
    assert evaluate(p, Transport(lambda x: x), rng)["l2_uvp_inverse"] is None


def test_uvp_2_looks_at_two_coordinates(rng):
    deviations = torch.tensor([1.0, 2.0, 3.0, 4.0])
    p = Problem(
        standard_normal(4), standard_normal(4), torch.randn(100, 4, generator=rng), Truth(map=lambda x: deviations * x)
    )
    off = torch.tensor([0.1, 0.2, 100.0, 100.0])
    values = evaluate(p, Transport(lambda x: deviations * x + off), rng)
    scatter = (deviations * p.test).var(0, correction=0)
    assert values["uvp_2"] == pytest.approx(100 * 0.05 / scatter[:2].sum().item())
    assert values["l2_uvp"] == pytest.approx(100 * 20000.05 / scatter.sum().item())


def test_a_relaxed_transport_is_held_against_the_relaxed_truth(rng):
    target = isotropic(torch.tensor([2.0]), 4.0)
    p = Problem(standard_normal(1), target, torch.randn(5000, 1, generator=rng), Truth(2.0), relaxed=shifted)
    # a density whose every gap to the source's is 0.1 nat
    density = lambda x: p.source.log_prob(x) - 0.1  # noqa: E731
    solved = Transport(lambda x: x + 1.75, log_prob=density, relaxation=2.0, cost=1.25, kl=0.2)
    values = evaluate(p, solved, rng)
    assert values["transport_cost"] == pytest.approx(1.75**2 / 2)
    assert values["relaxed_cost_gap"] == pytest.approx(1.75**2 / 1.5**2 - 1)
    assert values["relaxed_kl_gap"] == pytest.approx(1 / 8 - 0.1)
    assert values["relaxed_l2_uvp"] == pytest.approx(100 * 0.25**2 / 4)  # the target's own variance
    assert values["relaxed_uvp_2"] == values["relaxed_l2_uvp"]
    assert values["kl_estimate"] == 0.2
    assert values["relaxed_estimate_gap"] == pytest.approx(1.25 / (1.5**2 / 2) - 1)
    assert values["relaxed_objective_gap"] == pytest.approx((1.25 + 2 * 0.2) / (1.5**2 / 2 + 2 / 8) - 1)
    assert values["estimate_gap"] == pytest.approx(1.25 / 2 - 1)
    assert values["cost_gap"] == pytest.approx(1.75**2 / 4 - 1)  # the exact truth keeps its own
    names = {name for name in METRICS if name.startswith("relaxed_")}
    for bare in (Transport(lambda x: x + 1.75), Transport(relaxation=2.0)):
        assert {evaluate(p, bare, rng)[name] for name in names} == {None}


def test_without_a_truth_the_cost_gap_is_held_against_a_coupling(rng):
    source, target = isotropic(torch.zeros(2), 1.0), isotropic(torch.tensor([3.0, 0.0]), 1.0)
    p = Problem(Samples(x := source.sample(2500, rng), x), target, x)
    shift = torch.tensor([3.0, 0.0])
    gap = evaluate(p, Transport(lambda x: x + shift), rng)["cost_gap"]
    assert abs(gap) < 0.03
    twice = evaluate(p, Transport(lambda x: x + 2 * shift), rng)["cost_gap"]
    assert twice == pytest.approx(4 * (1 + gap) - 1)
    high = standard_normal(4)
    assert evaluate(problem(high, 50, rng, truth=False), Transport(lambda x: x), rng)["cost_gap"] is None


def test_the_energy_of_a_detour_and_its_share_of_the_distance(rng):
    """Along a half circle of diameter |a| the energy is (pi/2)^2 that of the straight line."""
    a = torch.tensor([3.0, 4.0])
    source, target = standard_normal(2), isotropic(a, 1.0)
    straight = Transport(lambda x: x + a, energy=lambda x: x.new_full((len(x),), 12.5))
    detour = Transport(lambda x: x + a, energy=lambda x: x.new_full((len(x),), 12.5 * (math.pi / 2) ** 2))
    known = Problem(source, target, source.sample(500, rng), Truth(12.5))
    found = [evaluate(known, transport, rng) for transport in (straight, detour)]
    assert [values["kinetic_energy"] for values in found] == pytest.approx([12.5, 12.5 * (math.pi / 2) ** 2])
    assert [values["normalized_path_energy"] for values in found] == pytest.approx([0, (math.pi / 2) ** 2 - 1])
    unknown = Problem(source, target, known.test)
    assert evaluate(unknown, straight, rng)["normalized_path_energy"] == pytest.approx(0, abs=0.06)
    assert evaluate(unknown, detour, rng)["normalized_path_energy"] == pytest.approx((math.pi / 2) ** 2 - 1, rel=0.1)
    short = Transport(lambda x: x + a / 2, energy=lambda x: x.new_full((len(x),), 12.5 / 4))  # misses, with less
    assert evaluate(known, short, rng)["normalized_path_energy"] == pytest.approx(0.75)
    assert evaluate(known, Transport(lambda x: x + a), rng)["normalized_path_energy"] is None


def test_the_2_wasserstein_distance_of_what_arrives_from_the_target(rng):
    source, target = standard_normal(2), isotropic(torch.tensor([1.0, 0.0]), 1.0)
    p = Problem(source, target, source.sample(2500, rng))
    miss = torch.tensor([0.0, 2.0])
    found = [evaluate(p, Transport(lambda x, m=m: x + target.mean + m), rng)["wasserstein_2"] for m in (0 * miss, miss)]
    assert 0 < found[0] < 0.2  # between samples of one law
    floors = [evaluate(p, Transport(lambda x, m=m: x + m), rng)["wasserstein_2_floor"] for m in (0 * miss, miss)]
    assert floors[0] == floors[1] == pytest.approx(found[0], rel=0.5)
    assert floors[0] > 0
    assert found[1] == pytest.approx(2, rel=0.05)
    high = standard_normal(4)
    beyond = evaluate(problem(high, 50, rng), Transport(lambda x: x), rng)
    assert beyond["wasserstein_2"] is beyond["wasserstein_2_floor"] is None


def test_backward_values_are_those_of_the_inverse_over_the_target(rng):
    """Shifted by 1/2 where the optimum shifts by 1: the target, pulled back, is a Gaussian at a known distance."""
    source, target = Gaussian(torch.tensor([1.0, 0.0]), torch.eye(2)), Gaussian(torch.zeros(2), torch.eye(2))
    shift = torch.tensor([-0.5, 0.0])
    transport = Transport(lambda x: x + shift, lambda y: y - shift, lambda x: target.log_prob(x + shift))
    problem = Problem(source, target, source.sample(20_000, rng))
    e = Evaluation(problem, replace(transport, relaxation=2.5), rng)
    assert METRICS["cost_backward"](e) == pytest.approx(0.125)
    assert METRICS["kl_backward"](e) == pytest.approx(0.125, abs=4 * 0.5 / 20_000**0.5)
    assert METRICS["cost_backward"](Evaluation(problem, transport, rng)) is None
    assert METRICS["kl_backward"](Evaluation(problem, transport, rng)) is None

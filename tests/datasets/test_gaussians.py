import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from datasets.gaussians import (
    Gaussian,
    Gaussians,
    divergence,
    monge_matrix,
    random_gaussian,
    relaxed_target,
    standard_normal,
    transport_cost,
)
from tests import oracles

CONF = Path(__file__).parents[2] / "bench/conf/dataset"
DIMS = (1, 2, 7)


@pytest.fixture(params=DIMS)
def problem(request, tmp_path):
    return Gaussians(dim=request.param).load(tmp_path)


def test_log_density_is_that_of_torch_distributions(problem, rng):
    x = 3 * torch.randn(50, problem.source.dim, generator=rng)
    for g in (problem.source, problem.target):
        law = torch.distributions.MultivariateNormal(g.mean, g.covariance)
        torch.testing.assert_close(g.log_prob(x), law.log_prob(x))
        assert g.entropy == pytest.approx(law.entropy().item())


def test_samples_have_mean_and_covariance(problem, rng):
    g, n = problem.source, 200_000
    x = g.sample(n, rng)
    scale = g.covariance.diagonal().max().item() / math.sqrt(n)
    torch.testing.assert_close(x.mean(0), g.mean, rtol=0, atol=6 * math.sqrt(2) / math.sqrt(n))
    torch.testing.assert_close(x.T.cov().reshape(g.covariance.shape), g.covariance, rtol=0, atol=8 * scale)
    log_p = g.log_prob(x)
    assert abs(log_p.mean().item() + problem.truth.nll) < 5 * log_p.std().item() / math.sqrt(n)


def test_the_pair_is_well_conditioned_and_does_not_commute(tmp_path):
    for dim in (2, 7):
        problem = Gaussians(dim=dim).load(tmp_path)
        A, B = problem.source.covariance, problem.target.covariance
        assert max(torch.linalg.cond(A), torch.linalg.cond(B)) < 4.001
        assert (A @ B - B @ A).abs().max() > 0.1
        assert all((C - C.diag().diag()).abs().max() > 0.1 for C in (A, B))


def test_map_is_the_gradient_of_a_convex_function_onto_the_target(problem):
    a, b, T = problem.source, problem.target, problem.truth.map
    M = torch.autograd.functional.jacobian(lambda x: T(x[None])[0], a.mean)
    torch.testing.assert_close(M, M.T)
    assert (torch.linalg.eigvalsh(M) > 0).all()
    torch.testing.assert_close(M @ a.covariance @ M.T, b.covariance)
    torch.testing.assert_close(T(a.mean[None])[0], b.mean)


def test_cost_is_the_mean_cost_of_the_map(problem):
    a, b, T = problem.source, problem.target, problem.truth.map
    # x - T(x) is affine: E 1/2 |x - T(x)|^2 in closed form, from the map alone
    D = torch.eye(a.dim) - torch.autograd.functional.jacobian(lambda x: T(x[None])[0], a.mean)
    mean = (a.mean - b.mean).square().sum() + (D @ a.covariance @ D.T).trace()
    assert problem.truth.cost == pytest.approx(mean.item() / 2)
    costs = (problem.test - T(problem.test)).square().sum(1) / 2
    assert abs(costs.mean().item() - problem.truth.cost) < 5 * costs.std().item() / math.sqrt(len(costs))


def test_cost_of_commuting_covariances_by_hand():
    a = Gaussian(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 9.0]).diag())
    b = Gaussian(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 25.0]).diag())
    # 1/2 (|(1, -2)|^2 + (2 - 1)^2 + (3 - 5)^2)
    assert transport_cost(a, b) == pytest.approx(5.0)
    torch.testing.assert_close(monge_matrix(a.covariance, b.covariance), torch.tensor([1 / 2, 5 / 3]).diag())
    assert transport_cost(a, a) == pytest.approx(0.0, abs=1e-12)


def test_inverse_undoes_the_map(problem):
    for truth in (problem.truth, problem.relaxed(2.5)):
        torch.testing.assert_close(truth.inverse(truth.map(problem.test)), problem.test)
        torch.testing.assert_close(truth.map(truth.inverse(problem.test)), problem.test)


def test_divergence_is_that_of_torch_distributions(problem):
    laws = [torch.distributions.MultivariateNormal(g.mean, g.covariance) for g in (problem.source, problem.target)]
    expected = torch.distributions.kl_divergence(*laws).item()
    assert divergence(problem.source, problem.target) == pytest.approx(expected)
    assert problem.truth.kl == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("weight", [0.1, 2.5, 40.0])
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_relaxed_truth_is_what_minimising_over_affine_maps_finds(dim, weight, tmp_path):
    problem = Gaussians(dim=dim, seed=3).load(tmp_path)
    a, b, truth = problem.source, problem.target, problem.relaxed(weight)
    identity = torch.eye(dim)
    # over all affine maps x -> shift + matrix x, of which none but the optimal one need be symmetric
    shift = torch.zeros(dim, requires_grad=True)
    matrix = identity.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [shift, matrix], max_iter=2000, tolerance_grad=1e-11, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def objective():
        optimiser.zero_grad()
        value = oracles.relaxed_objective(shift, matrix, a.mean, a.covariance, b.mean, b.covariance, weight)
        value.backward()
        return value

    optimiser.step(objective)
    assert truth.cost + weight * truth.kl == pytest.approx(objective().item(), abs=1e-9)
    x = problem.test[:50]
    torch.testing.assert_close(truth.map(x), x @ matrix.detach().T + shift.detach(), rtol=0, atol=1e-4)


def test_relaxed_truth_is_stationary_and_least_in_every_direction(rng):
    a, b, weight = random_gaussian(4, rng), random_gaussian(4, rng), 2.5
    best = relaxed_target(a, b, weight)

    def objective(m, S):
        mu = Gaussian(m, S)
        return transport_cost(a, mu) + weight * divergence(mu, b)

    least = objective(best.mean, best.covariance)
    for _ in range(20):
        dm, dS = torch.randn(4, generator=rng), torch.randn(4, 4, generator=rng)
        dS = dS + dS.T
        rises = [objective(best.mean + h * dm, best.covariance + h * dS) - least for h in (1e-3, -1e-3, 2e-3, -2e-3)]
        assert min(rises) > 0
        # twice the step, four times the rise: no term of first order
        assert (rises[2] + rises[3]) / (rises[0] + rises[1]) == pytest.approx(4, rel=0.01)
        assert abs(rises[0] - rises[1]) < 0.1 * (rises[0] + rises[1])


@pytest.mark.parametrize("weight", [2.5, None])
@pytest.mark.parametrize("dim", [2, 5])
def test_truths_have_the_control_of_straight_curves_and_the_density_they_reach(weight, dim, tmp_path):
    problem = Gaussians(dim=dim).load(tmp_path)
    truth = problem.truth if weight is None else problem.relaxed(weight)
    x = problem.test[:200]
    y = truth.map(x)
    for t in (0.0, 0.3, 1.0):
        torch.testing.assert_close(truth.velocity(t, torch.lerp(x, y, t)), y - x, rtol=0, atol=1e-9)
    log_det = torch.autograd.functional.jacobian(truth.map, x[0]).logdet()
    torch.testing.assert_close(truth.log_prob(x), problem.target.log_prob(y) + log_det)


def test_relaxed_truth_of_commuting_covariances_and_its_limits():
    a = Gaussian(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([4.0, 9.0, 0.3]).diag())
    b = Gaussian(torch.tensor([0.0, 2.0, -2.0]), torch.tensor([1.0, 25.0, 0.3]).diag())
    for weight in (1e-6, 0.3, 2.5, 1e7):
        mu = relaxed_target(a, b, weight)
        for i in range(3):
            mean, variance = oracles.relaxed_normal(
                a.mean[i].item(), a.covariance[i, i].item(), b.mean[i].item(), b.covariance[i, i].item(), weight
            )
            assert mu.mean[i].item() == pytest.approx(mean)
            assert mu.covariance[i, i].item() == pytest.approx(variance)
    for weight, limit in ((1e-6, a), (1e7, b)):
        mu = relaxed_target(a, b, weight)
        torch.testing.assert_close(mu.mean, limit.mean, rtol=0, atol=1e-4)
        torch.testing.assert_close(mu.covariance, limit.covariance, rtol=1e-4, atol=1e-5)


def test_relaxed_cost_and_divergence_rise_and_fall_with_the_weight(problem):
    truths = [problem.relaxed(weight) for weight in (0.01, 0.3, 2.5, 30.0, 1e4)]
    costs, divergences = [t.cost for t in truths], [t.kl for t in truths]
    assert costs == sorted(costs)
    assert divergences == sorted(divergences, reverse=True)
    assert costs[-1] == pytest.approx(problem.truth.cost, rel=1e-3)
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive and finite"):
            problem.relaxed(weight)


def test_standard_normal(rng):
    assert standard_normal(3).log_prob(torch.tensor([[1.0, 2.0, 2.0]])).item() == pytest.approx(
        -4.5 - 1.5 * math.log(2 * math.pi)
    )


def test_draws_depend_on_their_generator_only_and_seeds_differ(tmp_path):
    before = torch.random.get_rng_state()
    first, again, other = (Gaussians(seed=s).load(tmp_path) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.test, again.test)
    assert first.truth.cost == again.truth.cost
    assert abs(first.truth.cost - other.truth.cost) > 1e-3
    assert first.source.sample(1, torch.Generator()).shape == (1, 2)


def test_single_precision_stays_single(tmp_path, rng):
    double = Gaussians().load(tmp_path)
    torch.set_default_dtype(torch.float32)
    problem = Gaussians().load(tmp_path)
    x = problem.source.sample(5, rng)
    assert {x.dtype, problem.test.dtype, problem.truth.map(x).dtype, problem.source.log_prob(x).dtype} == {
        torch.float32
    }
    assert problem.truth.cost == double.truth.cost
    assert problem.source.log_prob(x.double()).dtype == torch.float64


def test_configuration_and_bad_input(tmp_path):
    dataset = instantiate(OmegaConf.load(CONF / "gaussians.yaml"), n_test=7)
    assert dataset.load(tmp_path).test.shape == (7, 2)
    with pytest.raises(ValueError, match="set dim"):
        Gaussians(dim=0)
    with pytest.raises(ValueError, match="set dim"):
        Gaussians(n_test=0)
    with pytest.raises(ValueError, match="symmetric 2 x 2"):
        Gaussian(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]))


def test_what_is_kept_in_inference_mode_serves_training_too(rng):
    gaussian = random_gaussian(3, rng)
    x = gaussian.sample(5, rng)
    with torch.inference_mode():
        gaussian.log_prob(x)
    gaussian.log_prob(x.requires_grad_()).sum().backward()
    assert x.grad.abs().max() > 0

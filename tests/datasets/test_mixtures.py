import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from datasets.mixtures import Mixture, MixtureToGaussian, plane_optimum, ring

CONF = Path(__file__).parents[2] / "bench/conf/dataset"


@pytest.fixture
def mixture() -> Mixture:
    """Unequal weights and skew covariances, overlapping."""
    factors = torch.tensor([[[1.0, 0.0], [0.7, 0.5]], [[0.6, 0.0], [-0.9, 1.1]], [[0.8, 0.0], [0.1, 0.4]]])
    means = torch.tensor([[0.0, 1.0], [-2.0, 0.5], [3.0, -1.0]])
    return Mixture(torch.tensor([0.2, 0.5, 0.3]), means, factors @ factors.mT)


def test_log_density_is_that_of_torch_distributions(mixture, rng):
    x = 3 * torch.randn(100, 2, generator=rng)
    parts = torch.distributions.MultivariateNormal(mixture.means, mixture.covariances)
    law = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(mixture.weights), parts)
    torch.testing.assert_close(mixture.log_prob(x), law.log_prob(x))


def test_samples_have_the_mixture_s_moments(mixture, rng):
    n = 400_000
    x = mixture.sample(n, rng)
    w, m = mixture.weights, mixture.means
    mean = w @ m
    second = (w[:, None, None] * (mixture.covariances + m[:, :, None] * m[:, None])).sum(0)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=5 * 2.2 / math.sqrt(n))
    torch.testing.assert_close(x.T @ x / n, second, rtol=0, atol=5 * 6 / math.sqrt(n))
    third = sum(w[k] * (m[k, 0] ** 3 + 3 * m[k, 0] * mixture.covariances[k, 0, 0]) for k in range(3))
    assert abs((x[:, 0] ** 3).mean() - third) < 5 * (x[:, 0] ** 3).std() / math.sqrt(n)


def test_ring_in_the_plane_integrates_to_one_and_has_the_stated_entropy():
    h = 0.2  # below half a standard deviation, at which the trapezoidal rule is exact to rounding for a Gaussian
    axis = torch.arange(-40, 41) * h
    log_p = ring(4.0, 0.3).log_prob(torch.cartesian_prod(axis, axis))
    assert (log_p.exp().sum() * h * h).item() == pytest.approx(1.0, abs=1e-10)
    entropy = -(log_p.exp() * log_p).sum().item() * h * h
    assert entropy == pytest.approx(MixtureToGaussian.plane_entropy, abs=1e-5)


@pytest.mark.parametrize("dim", [2, 5, 10])
def test_problem_in_any_dimension(dim, tmp_path):
    problem = MixtureToGaussian(dim=dim).load(tmp_path)
    x = problem.test
    assert x.shape == (2**14, dim)
    log_p = problem.source.log_prob(x)
    assert abs(log_p.mean().item() + problem.truth.nll) < 4 * log_p.std().item() / 2**7
    # the centres: cov = (8 + 0.3) in the plane, 0.3 elsewhere
    covariance = torch.tensor([8.3, 8.3] + [0.3] * (dim - 2))
    torch.testing.assert_close(x.T.cov().diagonal(), covariance, rtol=0.1, atol=0)
    assert problem.target.log_prob(torch.zeros(1, dim)).item() == pytest.approx(-dim / 2 * math.log(2 * math.pi * 0.3))
    centre = torch.zeros(1, dim)
    centre[0, 0] = centre[0, 1] = 4 / math.sqrt(2)
    peak = -math.log(8) - dim / 2 * math.log(2 * math.pi * 0.3)
    assert problem.source.log_prob(centre).item() == pytest.approx(peak, abs=1e-6)


def test_stated_cost_is_the_exact_one_and_loading_does_not_wait_for_the_maps(tmp_path):
    solved = plane_optimum.cache_info().currsize
    problem = MixtureToGaussian().load(tmp_path)
    assert plane_optimum.cache_info().currsize == solved
    assert problem.truth.cost == pytest.approx(plane_optimum(math.inf).cost, abs=1e-6)


@pytest.mark.parametrize("weight", [2.5, None])
@pytest.mark.parametrize("dim", [2, 5])
def test_truths_in_any_dimension(weight, dim, tmp_path):
    problem = MixtureToGaussian(dim=dim).load(tmp_path)
    x, truth = problem.test, problem.truth if weight is None else problem.relaxed(weight)
    y = truth.map(x)
    assert torch.equal(y[:, 2:], x[:, 2:])
    torch.testing.assert_close(truth.inverse(y)[:, 2:], x[:, 2:])
    torch.testing.assert_close(truth.map(truth.inverse(y)), y, rtol=0, atol=1e-9)
    costs = (x - y).square().sum(1) / 2
    assert abs(costs.mean() - truth.cost) < 4 * costs.std() / 2**7
    # an eighth of a turn maps the source to itself
    turn = torch.eye(dim)
    turn[0, 0] = turn[1, 1] = turn[1, 0] = math.sqrt(0.5)
    turn[0, 1] = -math.sqrt(0.5)
    torch.testing.assert_close(truth.map(x @ turn.T), y @ turn.T, rtol=0, atol=1e-8)
    norms = y[:, :2].square().sum(1) / 0.3  # chi-squared with two degrees of freedom where nothing is relaxed
    if weight is None:
        assert abs(norms.mean() - 2) < 4 * 2 / 2**7
        assert abs((norms < 2 * math.log(2)).double().mean() - 0.5) < 4 * 0.5 / 2**7
        assert truth.kl == 0
    else:
        # among all laws with this mean square the scaled target has the least divergence
        ratio = norms.mean().item() / 2
        assert 0.9 * (ratio - 1 - math.log(ratio)) < truth.kl
        assert truth.cost + weight * truth.kl < problem.truth.cost


@pytest.mark.parametrize("weight", [2.5, None])
@pytest.mark.parametrize("dim", [2, 3])
def test_truths_have_the_control_of_straight_curves_and_the_density_they_reach(weight, dim, tmp_path):
    problem = MixtureToGaussian(dim=dim).load(tmp_path)
    truth = problem.truth if weight is None else problem.relaxed(weight)
    x = problem.test[:200]
    y = truth.map(x)
    for t in (0.0, 0.3, 1.0):
        torch.testing.assert_close(truth.velocity(t, torch.lerp(x, y, t)), y - x, rtol=0, atol=1e-8)
    h, columns = 1e-5, []
    for i in range(dim):
        step = h * torch.eye(dim)[i]
        columns.append((truth.map(x + step) - truth.map(x - step)) / (2 * h))
    log_det = torch.stack(columns, 2).logdet()
    tolerance = (
        1e-5 if weight else 1e-4
    )  # the exact log_prob is the source's own, which the map reaches up to its error
    torch.testing.assert_close(truth.log_prob(x), problem.target.log_prob(y) + log_det, rtol=0, atol=tolerance)
    gaps = problem.source.log_prob(problem.test) - truth.log_prob(problem.test)
    assert abs(gaps.mean() - truth.kl) < 4 * gaps.std() / 2**7 + 1e-12


def test_relaxed_weight_must_be_positive(tmp_path):
    problem = MixtureToGaussian().load(tmp_path)
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive and finite"):
            problem.relaxed(weight)


def test_draws_depend_on_their_generator_only(mixture, tmp_path):
    before = torch.random.get_rng_state()
    first, again = (mixture.sample(10, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(MixtureToGaussian().load(tmp_path).test, MixtureToGaussian().load(tmp_path).test)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert mixture.sample(1, torch.Generator()).shape == (1, 2)


def test_single_precision_stays_single_and_far_away_is_finite(mixture, rng, tmp_path):
    assert mixture.log_prob(torch.tensor([[1e3, -1e3]])).isfinite().all()
    torch.set_default_dtype(torch.float32)
    x = mixture.sample(1000, rng)
    assert x.dtype == torch.float32
    assert mixture.log_prob(x).dtype == torch.float32
    torch.testing.assert_close(mixture.log_prob(x).double(), mixture.log_prob(x.double()), rtol=1e-4, atol=1e-4)
    truth = MixtureToGaussian(dim=3).load(tmp_path).truth
    x = torch.tensor([[3.0, 2.0, 1.0]])
    assert truth.map(x).dtype == truth.inverse(x).dtype == torch.float32
    torch.testing.assert_close(truth.map(x).double(), truth.map(x.double()))


def test_configuration_and_bad_input(tmp_path):
    dataset = instantiate(OmegaConf.load(CONF / "mixture_to_gaussian.yaml"), dim=3, n_test=7)
    assert dataset.load(tmp_path).test.shape == (7, 3)
    with pytest.raises(ValueError, match="dim to 2"):
        MixtureToGaussian(dim=1)
    with pytest.raises(ValueError, match="sum to 1"):
        Mixture(torch.ones(2), torch.zeros(2, 1), torch.ones(2, 1, 1))
    with pytest.raises(ValueError, match="need"):
        Mixture(torch.ones(1), torch.zeros(2, 1), torch.ones(2, 1, 1))

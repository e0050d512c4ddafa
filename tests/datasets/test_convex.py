from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from datasets.convex import ConvexGradients, RidgeMap, random_ridge_map
from datasets.gaussians import random_gaussian
from datasets.pushforward import PushForward, mean_cost
from solvers.exact import empirical_cost

CONF = Path(__file__).parents[2] / "bench/conf/dataset"


@pytest.fixture(params=[1, 2, 7])
def pair(request, rng):
    source = random_gaussian(request.param, rng)
    return source, random_ridge_map(source, 3 * request.param, rng)


def test_the_map_is_the_gradient_of_the_potential_and_that_is_convex(pair, rng):
    source, T = pair
    x = source.sample(20, rng).requires_grad_()
    (gradient,) = torch.autograd.grad(T.potential(x).sum(), x)
    torch.testing.assert_close(T(x), gradient)
    for row in x.detach()[:5]:
        H = torch.autograd.functional.jacobian(lambda r: T(r[None])[0], row)
        torch.testing.assert_close(H, H.T)
        assert torch.linalg.eigvalsh(H)[0] >= torch.linalg.eigvalsh(T.A)[0] - 1e-12
        assert torch.linalg.eigvalsh(T.steepest - H)[0] >= -1e-12
    at_mean = torch.autograd.functional.jacobian(lambda r: T(r[None])[0], source.mean)
    torch.testing.assert_close(at_mean, T.steepest)


def test_the_cost_is_that_of_the_samples(pair, rng):
    source, T = pair
    mean, error = mean_cost(source, T, 200_000, rng)
    assert abs(T.cost(source.covariance) - mean) < 4 * error
    assert error < 0.01 * mean


def test_the_inverse_undoes_the_map(pair, rng):
    source, T = pair
    x = 2 * source.sample(300, rng)  # far points too
    torch.testing.assert_close(T.inverse(T(x)), x, rtol=0, atol=1e-10)
    back = T.inverse(T(x).float())
    assert back.dtype == torch.float32
    torch.testing.assert_close(back.double(), x, rtol=0, atol=1e-3)


def test_the_problem(tmp_path):
    problem = ConvexGradients(dim=3, n_test=500).load(tmp_path)
    x, truth = problem.test, problem.truth
    assert x.shape == (500, 3)
    y = problem.target.sample(100_000, torch.Generator().manual_seed(1))
    images = truth.map(problem.source.sample(100_000, torch.Generator().manual_seed(1)))
    torch.testing.assert_close(y, images)
    torch.testing.assert_close(truth.inverse(truth.map(x)), x)
    # nothing affine comes near the map: the part of its variance that regression on x leaves
    centred = torch.cat([x, torch.ones(500, 1)], 1)
    fit = torch.linalg.lstsq(centred, truth.map(x)).solution
    unexplained = (truth.map(x) - centred @ fit).square().sum() / (truth.map(x) - truth.map(x).mean(0)).square().sum()
    assert unexplained > 0.03
    # no map with this image costs less: the network simplex finds no better coupling of these points with it
    displaced = 0.5 * (truth.map(x) - x).square().sum(1).mean().item()
    assert empirical_cost(x, truth.map(x)) == pytest.approx(displaced, rel=1e-9)


def test_problems_differ_by_seed_and_the_global_generator_is_left_alone(tmp_path):
    before = torch.random.get_rng_state()
    first, again, other = (ConvexGradients(seed=s).load(tmp_path) for s in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.truth.cost == again.truth.cost != other.truth.cost
    assert torch.equal(first.truth.map(first.test), again.truth.map(again.test))


def test_single_precision_stays_single(tmp_path):
    torch.set_default_dtype(torch.float32)
    problem = ConvexGradients(n_test=10).load(tmp_path)
    y = problem.target.sample(10, torch.Generator().manual_seed(0))
    assert y.dtype == problem.truth.map(problem.test).dtype == problem.truth.inverse(y).dtype == torch.float32


def test_configuration_and_bad_input(tmp_path):
    assert instantiate(OmegaConf.load(CONF / "convex_gradients.yaml"), dim=4, n_test=7).load(tmp_path).test.shape == (
        7,
        4,
    )
    with pytest.raises(ValueError, match="ridges"):
        ConvexGradients(ridges=0)
    with pytest.raises(ValueError, match="positive"):
        RidgeMap(torch.zeros(1), torch.zeros(1), torch.eye(1), torch.ones(1, 1), -torch.ones(1))
    assert PushForward(random_gaussian(2, torch.Generator()), lambda x: x).dim == 2

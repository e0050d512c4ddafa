"""The problems of flow matching, against the formulas of its authors' code."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from datasets import monge_ampere
from datasets.flow_matching import Moons, MoonsToEightGaussians, NormalToEightGaussians, eight_gaussians
from datasets.monge_ampere import RingTransport
from solvers.exact import empirical_cost

CONF = Path(__file__).parents[2] / "bench/conf/dataset"


def test_eight_gaussians_have_the_square_root_of_a_tenth_as_their_variance(rng):
    x = eight_gaussians().sample(200_000, rng)
    angle = torch.atan2(x[:, 1], x[:, 0])
    nearest = (angle / (math.pi / 4)).round() * math.pi / 4
    noise = x - 5 * torch.stack((nearest.cos(), nearest.sin()), 1)
    torch.testing.assert_close(noise.T.cov(), math.sqrt(0.1) * torch.eye(2), rtol=0, atol=0.005)
    assert noise.mean(0).abs().max() < 0.01


def test_the_cost_is_that_of_the_monge_ampere_equation_on_the_way_back(monkeypatch):
    monkeypatch.setattr(monge_ampere, "FURTHEST", 1e-3)  # of the upper bound, by a divergence lost in rounding
    law = eight_gaussians()
    found = RingTransport(lambda x: law.log_prob(torch.from_numpy(x)).numpy(), 1.0, 8, 8.5, 50, 16).optimum()
    assert found.cost == pytest.approx(NormalToEightGaussians.cost, abs=1e-6)
    assert found.lower == pytest.approx(NormalToEightGaussians.cost, abs=1e-6)


def test_the_cost_is_that_between_samples(tmp_path, rng):
    problem = NormalToEightGaussians(n_test=1500).load(tmp_path)
    assert problem.truth.nll == pytest.approx(math.log(2 * math.pi * math.e))
    cost = empirical_cost(problem.test, problem.target.sample(1500, rng))
    assert cost == pytest.approx(problem.truth.cost, rel=0.04)


def test_moons_are_their_arcs_moved_along_the_diagonal(rng):
    x = (Moons().sample(4000, rng) + 1) / 3
    # less a shift u (1, 1) with 0 <= u <= 0.2 every point lies on one of the two half circles
    u = torch.linspace(0, 0.2, 401)
    moved = x[:, None] - u[:, None]
    outer = ((moved.norm(dim=2) - 1).abs() + (-moved[..., 1]).clamp_min(0)).amin(1)
    other = torch.tensor([1.0, 0.5]) - moved
    inner = ((other.norm(dim=2) - 1).abs() + (-other[..., 1]).clamp_min(0)).amin(1)
    assert torch.minimum(outer, inner).max() < 1e-3
    # the centre (1/2, 1/4), about which the arcs are each other's image, and the shift's mean
    torch.testing.assert_close(x.mean(0), torch.tensor([0.6, 0.35]), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", ["normal_to_8gaussians", "moons_to_8gaussians"])
def test_the_configurations_load(name, tmp_path):
    problem = instantiate(OmegaConf.load(CONF / f"{name}.yaml"), n_test=7).load(tmp_path)
    assert problem.test.shape == (7, 2)
    assert torch.isfinite(problem.target.log_prob(problem.test)).all()


@pytest.mark.parametrize("kind", [NormalToEightGaussians, MoonsToEightGaussians])
def test_bad_settings_are_named(kind):
    with pytest.raises(ValueError, match="n_test"):
        kind(n_test=0)

"""The Gaussian map against closed forms."""

import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import Gaussian, Gaussians, standard_normal
from solvers.base import Diverged
from solvers.moments import Moments


def fitted(source, target, **settings):
    fit = Moments(**settings).start(source, target, torch.Generator().manual_seed(0))
    assert not fit.done
    fit.step()
    assert fit.done
    return fit


def test_is_exact_between_gaussians(tmp_path):
    problem = Gaussians(dim=3).load(tmp_path)
    transport = fitted(problem.source, problem.target).transport()
    x = problem.test[:50]
    assert torch.allclose(transport.forward(x), problem.truth.map(x))
    assert torch.allclose(transport.inverse(transport.forward(x)), x)
    assert torch.allclose(transport.log_prob(x), problem.source.log_prob(x))
    assert transport.cost == problem.truth.cost
    assert torch.allclose(transport.path(x, 0.25), 0.75 * x + 0.25 * problem.truth.map(x))
    assert transport.parameters == 3 + 6


def test_log_density_is_the_change_of_variables_and_the_image_is_white():
    rows = torch.randn(500, 3, generator=torch.Generator().manual_seed(1)) @ torch.randn(3, 3) + 2
    transport = fitted(Samples(rows, rows[:5]), standard_normal(3)).transport()
    z = transport.forward(rows)
    assert torch.allclose(z.mean(0), torch.zeros(3), atol=1e-9)
    assert torch.allclose(z.T @ z / len(z), torch.eye(3), atol=1e-9)
    J = torch.autograd.functional.jacobian(lambda x: transport.forward(x[None])[0], rows[0])
    assert torch.allclose(J, J.T)
    expected = standard_normal(3).log_prob(z[:1]) + torch.linalg.slogdet(J).logabsdet
    assert torch.allclose(transport.log_prob(rows[:1]), expected)


def test_moments_of_an_analytic_source_are_sampled():
    class Shifted:
        dim = 2

        def sample(self, n, rng):
            return torch.rand(n, 2, generator=rng) + 3

    few = fitted(Shifted(), standard_normal(2), n_points=100).gaussians[0]
    many = fitted(Shifted(), standard_normal(2), n_points=100_000).gaussians[0]
    assert (many.mean - 3.5).abs().max() < 0.01 < (few.mean - many.mean).abs().max()


def test_state_survives_saving(tmp_path):
    source = Gaussian(torch.ones(2), 2 * torch.eye(2))
    fit = fitted(source, standard_normal(2))
    torch.save(fit.state_dict(), tmp_path / "state.pt")
    other = Moments().start(source, standard_normal(2), torch.Generator())
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.done
    assert other.transport().cost == fit.transport().cost


def test_what_has_no_gaussian_is_said():
    flat = torch.randn(20, 2) @ torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    fit = Moments().start(Samples(flat, flat), standard_normal(2), torch.Generator())
    with pytest.raises(Diverged, match="singular"):
        fit.step()
    assert "must agree" in Moments().unfit(standard_normal(2), standard_normal(3))
    assert "singular" in Moments().unfit(Samples(flat[:2], flat[:2]), standard_normal(2))
    assert "singular" in Moments().unfit(standard_normal(2), Samples(flat[:2], flat[:2]))

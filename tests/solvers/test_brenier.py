import pytest
import torch

from datasets.gaussians import random_gaussian, transport_map
from solvers.brenier import BrenierPotential


@pytest.fixture
def u(rng) -> BrenierPotential:
    """Every part at work, A not symmetric."""
    mean, scale = torch.randn(3, generator=rng), 0.5 + torch.rand(3, generator=rng)
    return BrenierPotential((7, 5), mean, scale, torch.randn(3, 3, generator=rng), torch.randn(3, generator=rng))


def test_the_value_is_the_formula(u, rng):
    x = 3 * torch.randn(20, 3, generator=rng)
    a = (x - u.mean) / u.scale
    for layer in u.layers:
        a = torch.nn.functional.elu(a @ layer.weight.T + layer.bias)
    M = (u.A + u.A.T) / 2
    torch.testing.assert_close(u.value(x), 0.5 * torch.einsum("ni,ij,nj->n", x, M, x) + x @ u.b + a @ u.w)


def test_the_gradient_is_that_of_the_value(u, rng):
    x = (3 * torch.randn(20, 3, generator=rng)).requires_grad_()
    (gradient,) = torch.autograd.grad(u.value(x).sum(), x)
    torch.testing.assert_close(u.gradient(x), gradient)


def test_both_are_differentiated_in_weights_and_points(u, rng):
    x = 3 * torch.randn(2, 3, generator=rng)
    names = [name for name, _ in u.named_parameters()]

    def of(method):
        def f(x, *parameters):
            with torch.nn.utils.stateless._reparametrize_module(u, dict(zip(names, parameters, strict=True))):
                return method(x)

        return f

    arguments = [x, *u.parameters()]
    arguments = [a.detach().clone().requires_grad_() for a in arguments]
    for method in (u.value, u.gradient):
        assert torch.autograd.gradcheck(of(method), arguments, check_undefined_grad=False)


def test_it_begins_near_the_optimal_map_between_gaussians(rng):
    a, b = random_gaussian(3, rng), random_gaussian(3, rng)
    u = BrenierPotential.between(a, b, (8, 8))
    x = a.sample(50, rng)
    with torch.no_grad():
        u.w.zero_()
        torch.testing.assert_close(u.gradient(x), transport_map(a, b)(x))
    torch.testing.assert_close(u.mean, a.mean)
    torch.testing.assert_close(u.scale, a.covariance.diagonal().sqrt())

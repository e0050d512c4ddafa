"""The closed forms of OT-Flow's potential against automatic differentiation of its value."""

import pytest
import torch

from solvers.potential import Potential, log_2_cosh


def random_potential(dim: int, width: int = 12, **kwargs) -> Potential:
    torch.manual_seed(dim)
    potential = Potential(dim, width, **kwargs)
    with torch.no_grad():
        for p in potential.parameters():  # no term at 0 or 1
            p += 0.5 * torch.randn_like(p) / p.shape[-1] ** 0.5
    return potential


def by_autograd(potential: Potential, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    def value(row):
        return potential(row[None])[0]

    gradients = [torch.autograd.functional.jacobian(value, row) for row in s]
    hessians = [torch.autograd.functional.hessian(value, row) for row in s]
    return torch.stack(gradients), torch.stack([h.diagonal()[:-1].sum() for h in hessians])


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b).norm() / b.norm()).item()


@pytest.mark.parametrize("quadratic", ["gram", "symmetric"])
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("dim", [1, 2, 5, 43, 64])
def test_gradient_and_laplacian_equal_autograd(dim, depth, quadratic):
    potential = random_potential(dim, depth=depth, quadratic=quadratic)
    s = torch.randn(4, dim + 1)
    gradient, laplacian = by_autograd(potential, s)
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        g, l = potential.to(dtype).gradient_and_laplacian(s.to(dtype))  # noqa: E741
        assert g.dtype == l.dtype == dtype
        assert relative(g, gradient) < limit
        assert relative(l, laplacian) < limit
        assert relative(potential.gradient(s.to(dtype)), gradient) < limit


@pytest.mark.parametrize("depth", [2, 3])
def test_gradient_and_laplacian_are_differentiable(depth):
    potential = random_potential(3, width=4, depth=depth)
    names = [name for name, _ in potential.named_parameters()]

    def evaluate(s, *values):
        swapped = dict(zip(names, values, strict=True))
        return torch.func.functional_call(potential, swapped, (), {"s": s})

    potential.forward = potential.gradient_and_laplacian  # functional_call calls forward
    values = [p.detach().clone().requires_grad_() for p in potential.parameters()]
    s = torch.randn(3, 4, requires_grad=True)
    assert torch.autograd.gradcheck(evaluate, (s, *values))


@pytest.mark.parametrize(("dim", "expected"), [(2, 365), (10, 613), (50, 3773), (100, 12223)])
def test_number_of_parameters_of_the_mean_field_game_potential(dim, expected):
    potential = Potential(dim, 16, quadratic="symmetric")
    assert sum(p.numel() for p in potential.parameters()) == expected


def test_names_and_shapes_are_those_of_the_authors_weights():
    shapes = {name: tuple(p.shape) for name, p in Potential(4, 7, depth=3, rank=10).named_parameters()}
    assert shapes == {
        "A": (5, 5), "w.weight": (1, 7), "c.weight": (1, 5), "c.bias": (1,),
        "N.layers.0.weight": (7, 5), "N.layers.0.bias": (7,),
        "N.layers.1.weight": (7, 7), "N.layers.1.bias": (7,),
        "N.layers.2.weight": (7, 7), "N.layers.2.bias": (7,),
    }  # fmt: skip


def test_the_activation_does_not_overflow():
    a = torch.tensor([-800.0, -1.0, 0.0, 1.0, 800.0])
    assert torch.allclose(log_2_cosh(a), torch.logaddexp(a, -a))


@pytest.mark.parametrize("sizes", [(0, 4, 2, 1), (2, 0, 2, 1), (2, 4, 1, 1), (2, 4, 2, 0)])
def test_sizes_that_make_no_network_are_refused(sizes):
    with pytest.raises(ValueError, match="need dim"):
        Potential(*sizes)

"""Tangents and divergences against autograd."""

import pytest
import torch

from solvers.concatsquash import ConcatSquash
from solvers.divergence import autograd, directions, exact, hutchinson

T = torch.tensor(0.3)
SHAPES = [(2, (5,)), (3, (7, 4)), (2, (6, 5, 4)), (4, ()), (5, (8, 3, 4, 6))]


def field(dim: int, hidden: tuple[int, ...], nonlinearity: str = "tanh") -> ConcatSquash:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ConcatSquash(dim, hidden, nonlinearity)


def points(n: int, dim: int) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1))


def jacobian(f: ConcatSquash, x: torch.Tensor) -> torch.Tensor:
    """df_i/dx_j at each row (n, d, d)."""
    return torch.stack([torch.autograd.functional.jacobian(lambda r: f(T, r[None])[0], row) for row in x])


def test_the_layer_is_the_formula():
    f = field(3, ())
    (layer,) = f.layers
    x = points(4, 3)
    gate = torch.sigmoid(f.gate.weight[:, 0] * T + f.gate.bias)
    assert torch.allclose(f(T, x), (x @ layer.weight.T + layer.bias) * gate + f.shift.weight[:, 0] * T)


@pytest.mark.parametrize(("dim", "hidden"), SHAPES)
@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus"])
def test_derivatives_are_those_of_autograd(dim, hidden, nonlinearity):
    f, x = field(dim, hidden, nonlinearity), points(6, dim)
    J = jacobian(f, x)
    v = points(7 * 6, dim).reshape(7, 6, dim)
    value, Jv = f.tangents(T, x, v)
    assert torch.allclose(value, f(T, x), rtol=1e-12, atol=1e-13)
    assert torch.allclose(Jv, torch.einsum("nij,knj->kni", J, v), rtol=1e-12, atol=1e-13)
    trace = torch.einsum("nii->n", J)
    for value, divergence in (f.divergence(T, x), exact(f, T, x), autograd(f, T, x)):
        assert torch.allclose(value, f(T, x), rtol=1e-12, atol=1e-13)
        assert torch.allclose(divergence, trace, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("hidden", [(7, 4), (6, 5, 4)])
@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus"])
def test_the_divergence_has_the_gradient_of_autograd(hidden, nonlinearity):
    f, x = field(3, hidden, nonlinearity), points(6, 3)
    weights = points(6, 1)[:, 0]

    def gradient(divergence):
        return torch.autograd.grad((weights * divergence).sum(), list(f.parameters()), allow_unused=True)

    pairs = zip(gradient(f.divergence(T, x)[1]), gradient(autograd(f, T, x)[1]), strict=True)
    for mine, theirs in pairs:
        if theirs is not None:  # the last layer's bias and the shifts of the last layer take no part
            assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("dim", "hidden"), SHAPES)
@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus"])
@pytest.mark.parametrize("rows", [1, 3])
def test_tangents_have_the_gradient_of_autograd(dim, hidden, nonlinearity, rows):
    f, x = field(dim, hidden, nonlinearity), points(3, dim).requires_grad_()
    t = torch.tensor(0.3).requires_grad_()
    v = points(2 * rows, dim).reshape(2, rows, dim).requires_grad_()

    def value_and_product(t, x, v, *_):
        return f.tangents(t, x, v)

    assert torch.autograd.gradcheck(value_and_product, (t, x, v, *f.parameters()), fast_mode=True)


@pytest.mark.parametrize(
    ("dim", "hidden", "nonlinearity", "estimated"),
    [
        (43, (860, 860), "softplus", True),
        (43, (128, 128), "softplus", False),
        (2, (64, 64, 64), "tanh", False),
        (6, (60, 60, 60), "tanh", True),
    ],
)
def test_gradients_in_float32_are_those_of_autograd_in_float64(dim, hidden, nonlinearity, estimated):
    f, x, v = field(dim, hidden, nonlinearity), points(40, dim), points(41, dim)[1:]
    weights = points(40, dim + 1)

    def gradient(divergence):
        value, trace = divergence
        loss = (weights[:, 1:].to(value) * value).sum() + (weights[:, 0].to(value) * trace).sum()
        return torch.autograd.grad(loss, list(f.parameters()))

    def by_autograd(x):
        x.requires_grad_()
        if not estimated:
            return autograd(f, T, x)
        value, product = torch.autograd.functional.jvp(lambda x: f(T, x), x, v, create_graph=True)
        return value, (v * product).sum(1)

    truth = gradient(by_autograd(x.clone()))
    f, x, v = f.float(), x.float(), v.float()
    t = T.float()
    for mine, theirs in zip(gradient(hutchinson(f, t, x, v) if estimated else f.divergence(t, x)), truth, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() < 1e-5 * theirs.norm()


def test_without_a_gradient_the_numbers_are_the_same():
    f, x, v = field(3, (6, 5, 4)), points(6, 3), points(12, 3).reshape(2, 6, 3)
    with torch.no_grad():
        bare = f.tangents(T, x, v)
    assert all(torch.equal(p, q) for p, q in zip(bare, f.tangents(T, x, v), strict=True))


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased(noise, rng):
    f = field(3, (6, 5))
    x = points(1, 3).expand(20_000, 3)
    value, estimates = hutchinson(f, T, x, directions(x, noise, rng))
    truth = f.divergence(T, x[:1])[1].item()
    standard_error = estimates.std().item() / len(x) ** 0.5
    assert torch.allclose(value, f(T, x))
    assert standard_error > 0
    assert abs(estimates.mean().item() - truth) < 5 * standard_error


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_directions_have_mean_0_and_covariance_1(noise, rng):
    v = directions(torch.zeros(20_000, 3), noise, rng)
    assert v.mean(0).abs().max() < 5 / 20_000**0.5
    assert torch.allclose(v.T @ v / len(v), torch.eye(3), atol=5 * (2 / 20_000) ** 0.5)
    assert (v.abs() == 1).all() == (noise == "rademacher")


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_directions_are_the_same_numbers_in_every_dtype(noise):
    single, double = (
        directions(torch.zeros(5, 3, dtype=dtype), noise, torch.Generator().manual_seed(0))
        for dtype in (torch.float32, torch.float64)
    )
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.equal(single.double(), double)


def test_float32_stays_float32_and_is_close():
    f, x = field(8, (16, 16, 16)), points(5, 8)
    expected = f.divergence(T, x)[1]
    value, divergence = f.float().divergence(T.float(), x.float())
    assert value.dtype == divergence.dtype == torch.float32
    assert ((divergence - expected) / expected).abs().max() < 1e-4


def test_a_second_derivative_is_refused_and_not_lost():
    f, x = field(3, (6, 5)), points(6, 3).requires_grad_()
    for divergence in (f.divergence(T, x), exact(f, T, x)):
        with pytest.raises(RuntimeError, match="once"):
            torch.autograd.grad(divergence[1].sum(), x, create_graph=True)

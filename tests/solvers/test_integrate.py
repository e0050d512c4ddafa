"""Runge-Kutta against x' = (1+t) A x, whose flow is exp((t + t^2/2) A): no term of it vanishes."""

import itertools
import math

import pytest
import torch

from solvers.integrate import RK4, Tableau, integrate, pull_back

A = torch.tensor([[0.3, -0.8], [0.5, 0.4]], dtype=torch.float64)  # trace 0.7, not symmetric
X = torch.tensor([[1.0, 2.0], [-0.5, 0.3], [0.7, -1.1]], dtype=torch.float64)
MIDPOINT = Tableau(order=2, a=((), (0.5,)), b=(0.0, 1.0), c=(0.0, 0.5))

THREE_EIGHTHS = Tableau(  # no entry of a is 0
    order=4,
    a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
    b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    c=(0.0, 1 / 3, 2 / 3, 1.0),
)


def rates(t: float, x: torch.Tensor):
    velocity = (1 + t) * x @ A.T
    divergence = (1 + t) * torch.trace(A) * torch.ones(len(x))
    return velocity, divergence, 0.5 * velocity.square().sum(1)


def exact(t: float) -> torch.Tensor:
    return X @ torch.linalg.matrix_exp((t + t * t / 2) * A).T


@pytest.mark.parametrize("method", [RK4, MIDPOINT], ids=["rk4", "midpoint"])
def test_converges_at_its_order_with_its_accumulators(method):
    fine = integrate(rates, X, 1024)
    errors = []
    for n_steps in (32, 64, 128):
        x, divergence, kinetic = integrate(rates, X, n_steps, method=method)
        assert torch.allclose(divergence, 1.5 * torch.trace(A) * torch.ones(3))
        errors.append(((x - exact(1.0)).norm().item(), (kinetic - fine[2]).norm().item()))
    for coarse, finer in itertools.pairwise(errors):
        for a, b in zip(coarse, finer, strict=True):
            assert math.log2(a / b) == pytest.approx(method.order, abs=0.2)


def test_runs_between_any_two_times_and_back():
    there, *_ = integrate(rates, X, 64, 0.2, 0.9)
    back, divergence, _ = integrate(rates, there, 64, 0.9, 0.2)
    growth = (0.9 + 0.405) - (0.2 + 0.02)
    assert torch.allclose(there, X @ torch.linalg.matrix_exp(growth * A).T, atol=1e-7)
    assert torch.allclose(back, X, atol=1e-7)
    assert torch.allclose(divergence, -growth * torch.trace(A) * torch.ones(3))


def test_leaves_its_input_alone():
    before = X.clone()
    integrate(rates, X, 2)
    assert torch.equal(X, before)


def test_a_tableau_checks_itself():
    with pytest.raises(AssertionError, match="weights"):
        Tableau(order=1, a=((),), b=(0.9,), c=(0.0,))
    with pytest.raises(AssertionError, match="node"):
        Tableau(order=2, a=((), (0.4,)), b=(0.0, 1.0), c=(0.0, 0.5))


@pytest.mark.parametrize("method", [RK4, THREE_EIGHTHS], ids=["rk4", "three eighths"])
def test_pull_back_is_the_adjoint_of_integrate(method):
    A, weights = torch.randn(2, 2), torch.randn(5)

    def rates(t, x):
        v = torch.tanh(x @ A) * (1 + t)
        return v, (x * v).sum(1) * (2 - t), (x[:, 0] + t).cos()

    x = torch.randn(5, 2, requires_grad=True)
    stages = []

    def recorded(t, x):
        stages.append((t, x.detach()))
        return rates(t, x)

    z, a, b = integrate(recorded, x, 3, 0.3, 1.1, method)
    expected, grad_z = torch.autograd.grad((z**3).sum() + (a * weights).sum() + b.sum(), (x, z))

    def pullback(i, v, weight):
        t, point = stages[i]
        point = point.requires_grad_()
        velocity, first, second = rates(t, point)
        total = (velocity * v).sum() + weight * ((first * weights).sum() + second.sum())
        return torch.autograd.grad(total, point)[0]

    assert torch.allclose(pull_back(pullback, grad_z, 3, 0.3, 1.1, method), expected, rtol=1e-12)

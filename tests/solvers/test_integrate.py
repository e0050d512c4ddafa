"""Runge-Kutta against x' = (1+t) A x, whose flow is exp((t + t^2/2) A): no term of it vanishes."""

import itertools
import math

import pytest
import torch

from solvers.integrate import RK4, Tableau, integrate

A = torch.tensor([[0.3, -0.8], [0.5, 0.4]], dtype=torch.float64)  # trace 0.7, not symmetric
X = torch.tensor([[1.0, 2.0], [-0.5, 0.3], [0.7, -1.1]], dtype=torch.float64)
MIDPOINT = Tableau(order=2, a=((), (0.5,)), b=(0.0, 1.0), c=(0.0, 0.5))


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

"""RNODE's penalties against closed forms, and RNODE against FFJORD."""

from dataclasses import asdict

import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import standard_normal
from solvers.adaptive import Evaluations, Integrator
from solvers.concatsquash import ConcatSquash
from solvers.divergence import directions
from solvers.ffjord import FFJORD
from solvers.rnode import RNODE, RNODEFit, penalised
from tests.solvers.test_ffjord import LINEAR, Linear, rows

BASIS = torch.eye(2, dtype=torch.float64).unsqueeze(1)


def trained(steps: int = 2, **settings) -> RNODEFit:
    solver = RNODE(**({"hidden": (6, 5), "batch_size": 16, "lr": 0.05, "n_steps": 4} | settings))
    fit = solver.start(Samples(rows(), rows()[:8]), standard_normal(2), torch.Generator().manual_seed(0))
    for _ in range(steps):
        fit.step()
    return fit


def penalties(field, v, x, n_steps=40):
    zero = x.new_zeros(len(x))
    return Integrator("rk4", n_steps=n_steps).solve(
        penalised(field, v), (x, zero, zero, zero), 0.0, 1.0, Evaluations(10_000)
    )


def test_the_penalties_of_a_linear_field():
    """x' = (1 + t) A x with A = a I + b R, R a rotation by 90 degrees: |x| = |x(0)| exp(a (t + t^2/2))."""
    a, b = 0.4, 0.7
    A = torch.tensor([[a, b], [-b, a]])
    x = rows(5)
    _, logdet, kinetic, jacobian = penalties(Linear(A), BASIS, x)
    # |f|^2 = (1 + t)^2 (a^2 + b^2) |x|^2 at quadrature nodes; |grad f|^2 = (1 + t)^2 2 (a^2 + b^2)
    nodes = torch.linspace(0, 1, 20_001)
    integrand = (1 + nodes) ** 2 * torch.exp(2 * a * (nodes + nodes**2 / 2))
    expected = (a**2 + b**2) * x.square().sum(1) * torch.trapezoid(integrand, nodes)
    assert torch.allclose(kinetic, expected, rtol=1e-6)
    assert torch.allclose(jacobian, torch.full((5,), 7 / 3 * 2 * (a**2 + b**2)), rtol=1e-9)
    assert torch.allclose(logdet, torch.full((5,), 1.5 * 2 * a), rtol=1e-9)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_one_direction_estimates_divergence_and_frobenius_norm_without_bias(noise, rng):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        field = ConcatSquash(3, (6, 5), "tanh")
    x, t = torch.randn(1, 3, generator=rng).expand(20_000, 3), torch.tensor(0.3)
    zero = x.new_zeros(len(x))
    J = torch.autograd.functional.jacobian(lambda r: field(t, r[None])[0], x[0])
    estimates = penalised(field, directions(x, noise, rng).unsqueeze(0))(t, (x, zero, zero, zero))
    exact = penalised(field, torch.eye(3).unsqueeze(1))(t, (x, zero, zero, zero))
    for k, truth in ((1, J.trace()), (3, J.square().sum())):
        assert torch.allclose(exact[k], truth)
        standard_error = estimates[k].std() / len(x) ** 0.5
        assert standard_error > 0
        assert (estimates[k].mean() - truth).abs() < 5 * standard_error
    assert torch.allclose(exact[2], exact[0].square().sum(1))


def test_the_gradient_of_the_penalties_is_the_difference_quotient():
    h, x = 1e-5, rows(8)

    def value(A):
        _, logdet, kinetic, jacobian = penalties(Linear(A), BASIS, x, n_steps=5)
        return (0.3 * kinetic + 0.2 * jacobian - logdet).mean()

    field = Linear(LINEAR)
    _, logdet, kinetic, jacobian = penalties(field, BASIS, x, n_steps=5)
    (0.3 * kinetic + 0.2 * jacobian - logdet).mean().backward()
    steps = h * torch.eye(4).reshape(4, 2, 2)
    quotients = torch.stack([(value(LINEAR + d) - value(LINEAR - d)) / (2 * h) for d in steps])
    assert torch.allclose(field.A.grad.flatten(), quotients, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize("adjoint", [False, True])
def test_without_penalties_it_is_ffjord(divergence, adjoint):
    settings = {"hidden": (6, 5), "batch_size": 16, "divergence": divergence, "adjoint": adjoint, "lr": 0.05}
    settings |= {"method": "rk4", "n_steps": 4}
    mine = trained(3, kinetic=0.0, jacobian=0.0, **settings)
    theirs = FFJORD(**settings).start(Samples(rows(), rows()[:8]), standard_normal(2), torch.Generator().manual_seed(0))
    for _ in range(3):
        theirs.step()
    for p, q in zip(mine.flow.parameters(), theirs.flow.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["kinetic", "jacobian"])
@pytest.mark.parametrize(
    "method", [{}, {"method": "dopri5", "n_steps": None, "adjoint": True, "atol": 1e-2, "rtol": 1e-2}]
)
def test_each_penalty_takes_effect_and_is_reported(name, method):
    weights = {"kinetic": 0.0, "jacobian": 0.0, "batch_size": 64, "divergence": "exact"} | method
    free, held = trained(15, **weights), trained(15, **weights | {name: 5.0})
    terms = held.step()
    assert terms["loss"] == pytest.approx(terms["nll"] + terms["kinetic"] + terms["jacobian"])
    assert terms[name] > 0
    probe = {"kinetic": 2.0, "jacobian": 2.0}
    measured = [trained(0, **weights | probe) for _ in range(2)]
    for fit, other in zip(measured, (free, held), strict=True):
        fit.flow.load_state_dict(other.flow.state_dict())
    without, with_penalty = (fit.step()[name] for fit in measured)
    assert with_penalty < 0.7 * without


def test_training_lowers_the_likelihood_term():
    first, *_, last = [terms["nll"] for fit in [trained(0)] for terms in [fit.step() for _ in range(40)]]
    assert last < first - 0.5


def test_after_training_the_flow_is_integrated_adaptively():
    solver = RNODE(test_rtol=1e-7)
    assert (solver.integrator("test").method, solver.integrator("test").rtol) == ("dopri5", 1e-7)
    assert solver.integrator("valid") == solver.integrator("train")
    assert solver.integrator("train").n_steps == 8
    fit, x = trained(5, n_steps=1), rows(8)
    assert torch.allclose(fit.transport().inverse(fit.transport().forward(x)), x, atol=1e-3)
    assert not torch.allclose(fit.transport("valid").forward(x), fit.transport().forward(x), atol=1e-4)


def test_its_fields_are_ffjords_and_two():
    assert set(asdict(RNODE())) == {*asdict(FFJORD()), "kinetic", "jacobian"}


@pytest.mark.parametrize("settings", [{"kinetic": -1.0}, {"jacobian": float("nan")}, {"n_steps": None}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        RNODE(**settings)

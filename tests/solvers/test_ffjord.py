"""FFJORD against closed forms and autograd, and what its fit promises."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from datasets.base import Samples
from datasets.gaussians import standard_normal
from datasets.toy import Moons
from solvers.adaptive import Evaluations, Integrator
from solvers.base import Diverged
from solvers.concatsquash import ACTIVATIONS
from solvers.divergence import exact
from solvers.ffjord import FFJORD, FFJORDFit, Flow, carry, exact_density, motion

TUNED = Path(__file__).parents[2] / "bench" / "conf" / "tuned"
TIGHT = Integrator(atol=1e-10, rtol=1e-10)
FIXED = Integrator("rk4", n_steps=40)
LINEAR = torch.tensor([[0.5, 0.8], [-0.6, 0.3]], dtype=torch.float64)


class Linear(torch.nn.Module):
    """x' = (1 + t) A x: the flow from 0 to t is exp((t + t^2/2) A), its log-determinant (t + t^2/2) tr A."""

    def __init__(self, A: torch.Tensor) -> None:
        super().__init__()
        self.A = torch.nn.Parameter(A.clone())
        self.calls = 0

    def forward(self, t, x):
        return self.tangents(t, x, x)[0]

    def tangents(self, t, x, v):
        return (1 + t) * x @ self.A.T, (1 + t) * v @ self.A.T

    def divergence(self, t, x):
        self.calls += 1
        return exact(self, t, x)


def linear_flow(*matrices: torch.Tensor, time_length: float = 1.0) -> Flow:
    flow = Flow(2, (), "tanh", 1, time_length)
    flow.blocks = torch.nn.ModuleList(Linear(A) for A in matrices)
    return flow


def density(flow: Flow, x: torch.Tensor, integrator: Integrator, start: float = 0.0, end: float = 1.0):
    return carry(flow, exact_density, (x, x.new_zeros(len(x))), integrator, Evaluations(10_000), start, end)


def rows(n: int = 64) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(5)) * torch.tensor([2.0, 0.5]) + 1


def trained(steps: int = 2, seed: int = 0, **settings) -> FFJORDFit:
    solver = FFJORD(**({"hidden": (6, 5), "batch_size": 16, "lr": 0.05} | settings))
    fit = solver.start(Samples(rows(), rows()[:8]), standard_normal(2), torch.Generator().manual_seed(seed))
    for _ in range(steps):
        fit.step()
    return fit


@pytest.mark.parametrize("integrator", [TIGHT, FIXED])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.7), (0.9, 0.2)])
def test_a_linear_field_gives_the_matrix_exponential(integrator, start, end):
    x = rows(5)
    z, logdet = density(linear_flow(LINEAR), x, integrator, start, end)
    s = (end + end**2 / 2) - (start + start**2 / 2)
    assert torch.allclose(z, x @ torch.linalg.matrix_exp(s * LINEAR).T, rtol=1e-6)
    assert torch.allclose(logdet, (s * LINEAR.trace()).expand(5), rtol=1e-7)


def test_blocks_follow_one_another_each_on_its_own_clock():
    A, B, T = LINEAR, LINEAR.T * 0.7 + 0.1, 0.5
    flow, x = linear_flow(A, B, time_length=T), rows(5)

    def along(matrix: torch.Tensor, t: float) -> torch.Tensor:
        return torch.linalg.matrix_exp((t + t**2 / 2) * matrix)

    z, logdet = density(flow, x, TIGHT)
    assert torch.allclose(z, x @ along(A, T).T @ along(B, T).T)
    assert torch.allclose(logdet, ((T + T**2 / 2) * (A.trace() + B.trace())).expand(5))
    assert torch.allclose(density(flow, x, TIGHT, 0.0, 0.5)[0], x @ along(A, T).T)
    assert torch.allclose(density(flow, x, TIGHT, 0.0, 0.8)[0], x @ along(A, T).T @ along(B, 0.6 * T).T)
    back, undone = density(flow, z, TIGHT, 1.0, 0.0)
    assert torch.allclose(back, x)
    assert torch.allclose(undone, -logdet)


@pytest.mark.parametrize("settings", [{}, {"n_blocks": 2, "time_length": 0.5, "nonlinearity": "softplus"}])
def test_log_density_is_the_change_of_variables(settings):
    transport = trained(atol=1e-8, rtol=1e-8, **settings).transport()
    x = rows(3)
    J = torch.stack([torch.autograd.functional.jacobian(lambda r: transport.forward(r[None])[0], row) for row in x])
    z = transport.forward(x)
    expected = standard_normal(2).log_prob(z) + torch.linalg.slogdet(J).logabsdet
    assert not torch.allclose(z, x, atol=1e-2)
    assert torch.allclose(transport.log_prob(x), expected, atol=1e-6)
    assert torch.allclose(transport.inverse(z), x, atol=1e-6)
    assert torch.allclose(transport.path(x, 1.0), z)
    assert torch.equal(transport.path(x, 0.0), x)
    assert not torch.allclose(transport.path(x, 0.4), x, atol=1e-3)


def test_the_density_integrates_to_1():
    transport = trained(3, atol=1e-7, rtol=1e-7).transport()
    axis = torch.linspace(-12, 12, 121)
    mass = transport.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-4)


def gradient(integrator: Integrator) -> torch.Tensor:
    """d mean log p / d A of the linear flow."""
    flow = linear_flow(LINEAR)
    z, logdet = density(flow, rows(8), integrator)
    (standard_normal(2).log_prob(z) + logdet).mean().backward()
    return flow.blocks[0].A.grad


@pytest.mark.parametrize("integrator", [TIGHT, FIXED])
def test_the_adjoint_gradient_is_the_direct_one(integrator):
    adjoint = gradient(replace(integrator, adjoint=True))
    assert torch.allclose(adjoint, gradient(integrator), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_both_ways_give_the_same_gradient_for_all_parameters(divergence):
    fits = [trained(1, n_blocks=2, divergence=divergence, adjoint=a, atol=1e-9, rtol=1e-9) for a in (True, False)]
    for p, q in zip(*(fit.flow.parameters() for fit in fits), strict=True):
        assert q.grad.abs().max() > 1e-6
        assert torch.allclose(p.grad, q.grad, atol=1e-7)


def test_the_gradient_is_the_difference_quotient():
    h, integrator = 1e-5, Integrator("rk4", n_steps=5)

    def value(A: torch.Tensor) -> float:
        z, logdet = density(linear_flow(A), rows(8), integrator)
        return (standard_normal(2).log_prob(z) + logdet).mean().item()

    steps = h * torch.eye(4).reshape(4, 2, 2)
    quotients = torch.tensor([(value(LINEAR + d) - value(LINEAR - d)) / (2 * h) for d in steps])
    assert torch.allclose(gradient(integrator).flatten(), quotients, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("integrator", [TIGHT, replace(TIGHT, adjoint=True), replace(FIXED, adjoint=True)])
def test_evaluations_are_counted_forward_and_backward(integrator):
    flow = linear_flow(LINEAR)
    field = flow.blocks[0]
    evaluations = Evaluations(10_000)
    x = rows(8)
    z, logdet = carry(flow, exact_density, (x, x.new_zeros(8)), integrator, evaluations)
    forward = evaluations.count
    assert forward == field.calls
    assert forward == 160 if integrator.n_steps else forward % 6 == 2  # dopri5: 2 to begin, 6 a step
    (z.sum() + logdet.sum()).backward()
    assert evaluations.count == field.calls
    assert (evaluations.count > forward) == integrator.adjoint


def test_a_step_reports_its_evaluations():
    assert trained(adjoint=True).step()["nfe_backward"] > 8
    terms = trained(adjoint=False).step()
    assert terms["nfe_backward"] == 0
    assert terms["nfe_forward"] > 8
    assert terms["nll"] == terms["loss"]
    assert trained(method="rk4", n_steps=3, n_blocks=2, adjoint=False).step()["nfe_forward"] == 24


def test_the_loss_is_minus_the_mean_log_density():
    fit = trained(divergence="exact", batch_size=64)  # a batch is all rows, in another order
    expected = -fit.transport("valid").log_prob(rows()).mean().item()
    assert fit.step()["loss"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
def test_hutchinson_log_densities_scatter_about_the_exact_one(noise):
    fit = trained(5, noise=noise, lr=0.1, atol=1e-6, rtol=1e-6)
    x = rows(1).expand(2000, 2)
    estimates = fit.transport().log_prob_estimate(x)
    standard_error = estimates.std().item() / 2000**0.5
    assert standard_error > 1e-4
    assert abs((estimates.mean() - fit.transport().log_prob(x[:1])).item()) < 5 * standard_error


def test_effort_divides_the_tolerances_and_makes_the_error_small():
    refined = Integrator(atol=1e-5, rtol=1e-5).refined(2.0, torch.float64)
    assert (refined.atol, refined.rtol) == (pytest.approx(1e-5 / 32), pytest.approx(1e-5 / 32))
    assert Integrator(rtol=1e-6).refined(8.0, torch.float32).rtol == torch.finfo(torch.float32).eps
    assert Integrator(rtol=1e-9).refined(1.0, torch.float32).rtol == 1e-9
    assert Integrator(atol=1e-9).refined(2.0, torch.float32).atol == 1e-9
    assert Integrator("rk4", n_steps=3).refined(2.0, torch.float64).n_steps == 6

    fit, x = trained(5, atol=1e-3, rtol=1e-3), rows(8)
    truth = fit.transport(effort=30.0).log_prob(x)
    errors = [(fit.transport(effort=e).log_prob(x) - truth).abs().max() for e in (1.0, 4.0)]
    assert errors[1] < errors[0] / 20


def test_tolerances_after_training_are_those_of_their_use():
    solver = FFJORD(test_atol=1e-8, test_rtol=1e-7)
    assert (solver.integrator("test").atol, solver.integrator("test").rtol) == (1e-8, 1e-7)
    assert solver.integrator("valid") == solver.integrator("train") == FFJORD().integrator("test")


def test_chunks_agree_within_the_tolerance(monkeypatch):
    fit, x = trained(5), rows(60)
    whole = fit.transport()
    expected = [whole.log_prob(x), whole.forward(x), whole.inverse(x)]
    monkeypatch.setattr("solvers.ffjord.ELEMENTS", 1)
    monkeypatch.setattr("solvers.ffjord.LEAST_ROWS", 7)
    parts = fit.transport()
    for mine, other in zip(expected, [parts.log_prob(x), parts.forward(x), parts.inverse(x)], strict=True):
        assert not torch.equal(mine, other)
        assert torch.allclose(mine, other, atol=1e-3)


def test_results_have_the_dtype_of_the_points():
    fit = trained()
    x = rows(4).float()
    assert fit.transport().forward(x).dtype == fit.transport().log_prob(x).dtype == torch.float32
    samples = Samples(rows().float(), rows().float())
    small = FFJORD(hidden=(4,)).start(samples, standard_normal(2), torch.Generator().manual_seed(0))
    assert math.isfinite(small.step()["loss"])
    assert small.transport().log_prob(rows(4).float()).dtype == torch.float32
    assert {p.dtype for p in small.flow.parameters()} == {torch.float32}


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_training_lowers_the_loss(divergence):
    fit = trained(0, divergence=divergence, adjoint=False, atol=1e-3, rtol=1e-3)
    first, *_, last = [fit.step()["nll"] for _ in range(40)]
    assert last < first - 0.5


def test_resumes_along_the_same_trajectory(tmp_path: Path):
    fit = trained(3, divergence="hutchinson")
    torch.save(fit.state_dict(), tmp_path / "state.pt")
    expected = [fit.step() for _ in range(3)]
    other = trained(0, seed=9, divergence="hutchinson")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [other.step() for _ in range(3)] == expected


def test_same_seed_same_numbers_whatever_the_global_generator():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    fit = trained(divergence="hutchinson")
    first = fit.state_dict()["model"]
    fit.transport().log_prob_estimate(rows(3))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second = trained(divergence="hutchinson").state_dict()["model"]
    other = trained(seed=1, divergence="hutchinson").state_dict()["model"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_evaluating_leaves_the_training_alone():
    fit, other = trained(divergence="hutchinson"), trained(divergence="hutchinson")
    fit.transport().log_prob_estimate(rows(3))
    fit.transport().forward(rows(3))
    assert fit.step() == other.step()


class Explosive(Linear):
    """x' = x^2, which is infinite at t = 1/x(0)."""

    def tangents(self, t, x, v):
        return x.square(), 2 * x * v


def test_a_field_that_explodes_diverges():
    flow = linear_flow(LINEAR)
    flow.blocks = torch.nn.ModuleList([Explosive(LINEAR)])
    with pytest.raises(Diverged, match=r"\d+ function evaluations, last at t = 0.5"):
        density(flow, torch.full((2, 2), 2.0), Integrator())


def test_a_solve_that_needs_too_many_evaluations_diverges():
    with pytest.raises(Diverged, match="too many steps: 20 function evaluations"):
        trained(0, max_evaluations=20, atol=1e-9, rtol=1e-9).step()


@pytest.mark.parametrize("adjoint", [True, False])
def test_a_breakdown_in_the_backward_solve_diverges(adjoint):
    fit = trained(0, adjoint=adjoint, max_evaluations=40, atol=1e-7, rtol=1e-7)
    forward = trained(0, adjoint=adjoint, atol=1e-7, rtol=1e-7).step()["nfe_forward"]
    assert forward <= 40
    if not adjoint:
        fit.step()
        return
    with pytest.raises(Diverged, match="40 function evaluations"):
        fit.step()


@pytest.mark.parametrize("settings", [{}, {"method": "rk4", "n_steps": 4}])
def test_a_field_that_is_not_finite_diverges(settings):
    fit = trained(1, **settings)
    with torch.no_grad():
        fit.flow.blocks[0].layers[0].bias.fill_(math.nan)
    transport = fit.transport()
    for f in (fit.step, lambda: transport.log_prob(rows(3)), lambda: transport.forward(rows(3))):
        with pytest.raises(Diverged):
            f()


def test_our_own_assertions_are_not_called_divergence():
    with pytest.raises(AssertionError, match="ours"), Evaluations(5).watched():
        raise AssertionError("ours")


def configured(name: str) -> FFJORD:
    """FFJORD as bench/conf/tuned/`name`.yaml sets it."""
    return FFJORD(**OmegaConf.to_object(OmegaConf.load(TUNED / f"{name}.yaml"))["solver"])


@pytest.mark.parametrize(
    ("dataset", "dim", "parameters"),
    [
        ("8gaussians", 2, 9_224),
        ("power", 6, 43_320),
        ("gas", 8, 278_560),
        ("hepmass", 21, 546_840),
        ("miniboone", 43, 820_612),
        ("bsds300", 63, 6_698_664),
    ],
)
def test_parameter_counts_of_the_paper(dataset, dim, parameters):
    samples = Samples(torch.randn(8, dim), torch.randn(8, dim))
    fit = configured(f"ffjord_{dataset}").start(samples, standard_normal(dim), torch.Generator().manual_seed(0))
    assert fit.transport().parameters == parameters


def test_what_it_cannot_take_has_a_reason():
    samples = Samples(rows(10), rows(10))
    assert "batch_size 11 exceeds the 10 training rows" in FFJORD(batch_size=11).unfit(samples, standard_normal(2))
    assert "log-density" in FFJORD().unfit(samples, samples)
    assert "dimension 2 and the target 3" in FFJORD().unfit(samples, standard_normal(3))
    assert FFJORD().unfit(samples, standard_normal(2)) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"nonlinearity": "relu"},
        {"divergence": "exakt"},
        {"noise": "uniform"},
        {"method": "dopri"},
        {"method": "rk4"},
        {"n_steps": 8},
        {"n_steps": 0, "method": "rk4"},
        {"atol": 0.0},
        {"test_rtol": -1.0},
        {"hidden": (64, 0)},
        {"n_blocks": 0},
        {"time_length": 0.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings)).removeprefix("test_")):
        FFJORD(**settings)


def test_points_alone_move_as_they_do_with_their_density():
    flow, x = linear_flow(LINEAR), rows(5)
    (z,) = carry(flow, motion, (x,), TIGHT, Evaluations(10_000))
    assert torch.allclose(z, density(flow, x, TIGHT)[0])


def test_the_log_density_is_that_of_zuko_on_the_same_weights():
    """zuko has an integrator, a trace and an error norm of its own; the field, trained a little, is ours."""
    transforms = pytest.importorskip("zuko", reason="zuko is an extra").transforms
    target = standard_normal(2)
    solver = FFJORD(hidden=(16, 16), time_length=0.8, batch_size=64, lr=0.05, test_atol=1e-11, test_rtol=1e-11)
    fit = solver.start(Moons(), target, torch.Generator().manual_seed(0))
    for _ in range(20):
        fit.step()
    field = fit.flow.blocks[0]
    theirs = transforms.FreeFormJacobianTransform(field, 0.0, 0.8, field.parameters(), atol=1e-11, rtol=1e-11)
    x = Moons().sample(50, torch.Generator().manual_seed(1))
    z, logdet = theirs.call_and_ladj(x)
    found = fit.transport()
    assert logdet.abs().max() > 0.1
    assert (found.log_prob(x) - (target.log_prob(z) + logdet)).abs().max() < 1e-8
    assert (found.forward(x) - z).abs().max() < 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_activation_is_tanh_with_a_gradient_and_without(dtype):
    z = torch.linspace(-8, 8, 101, dtype=dtype, requires_grad=True)
    value = ACTIVATIONS["tanh"].value
    with torch.no_grad():
        kept = z.clone()
        assert torch.allclose(value(z), torch.tanh(z), rtol=0, atol=4 * torch.finfo(dtype).eps)
        assert torch.equal(z, kept)
    (slope,) = torch.autograd.grad(value(z).sum(), z)
    assert torch.allclose(slope, 1 - torch.tanh(z) ** 2, rtol=0, atol=8 * torch.finfo(dtype).eps)

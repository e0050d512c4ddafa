"""The neural HJB solver: its objective against autograd, its samples, its optimisers, what it reaches."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import Gaussian, Gaussians
from datasets.mixtures import MixtureToGaussian
from solvers.neural_hjb import COST_SEED, Draws, NeuralHJB, initial
from solvers.potential import Potential

SMALL = NeuralHJB(width=6, n_train=(64, 128), level_steps=6, resample_every=4)


def begin(solver: NeuralHJB = SMALL, seed: int = 0, dim: int = 2):
    problem = Gaussians(dim=dim, n_test=500).load(Path())
    return problem, solver.start(problem.source, problem.target, torch.Generator().manual_seed(seed))


def stirred(fit) -> None:
    """Weights in which no term of the objective vanishes."""
    rng = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weights in fit.potential.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=rng))


def authors_objective(solver: NeuralHJB, psi: Potential, source, target, x: torch.Tensor) -> torch.Tensor:
    """J of the paper for Phi = alpha1 Psi by autograd alone: derivatives of the value, RK4 written out, eq. (13).

    The rates of (z, logdet, L, C_HJ) are (-grad Phi / alpha1, -lap Phi / alpha1, |grad Phi|^2 / (2 alpha1^2),
    |Phi_t - |grad Phi|^2 / (2 alpha1)|).
    """
    a1 = solver.alpha1

    def phi(s: torch.Tensor) -> torch.Tensor:
        return a1 * psi(s[None])[0]

    def rates(t: float, z: torch.Tensor) -> list[torch.Tensor]:
        s = torch.cat([z, z.new_full((len(z), 1), t)], 1)
        g = torch.stack([torch.func.grad(phi)(row) for row in s])
        laplacian = torch.stack([torch.trace(torch.func.hessian(phi)(row)[:-1, :-1]) for row in s])
        grad = g[:, :-1]
        speed = grad.square().sum(1)
        return [-grad / a1, -laplacian / a1, speed / (2 * a1**2), (g[:, -1] - speed / (2 * a1)).abs()]

    zero = torch.zeros(len(x))
    state, h = [x, zero, zero, zero], 1 / solver.n_steps
    for i in range(solver.n_steps):
        t, z = i * h, state[0]
        k1 = rates(t, z)
        k2 = rates(t + h / 2, z + h / 2 * k1[0])
        k3 = rates(t + h / 2, z + h / 2 * k2[0])
        k4 = rates(t + h, z + h * k3[0])
        state = [y + h / 6 * (a + 2 * b + 2 * c + d) for y, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)]
    z, logdet, cost, hjb = state
    ratio = source.log_prob(x) - logdet - target.log_prob(z)
    final = (torch.stack([phi(torch.cat([row, torch.ones(1)])) for row in z]) - solver.alpha3 * (1 + ratio)).abs()
    return (a1 * cost + solver.alpha3 * ratio + solver.alpha4 * hjb + solver.alpha5 * final).mean()


def test_the_loss_is_the_authors_objective():
    solver = dataclasses.replace(SMALL, alpha1=1.7, alpha3=4.0, alpha4=0.6, alpha5=0.9)
    problem, fit = begin(solver)
    stirred(fit)
    x = problem.test[:3]
    loss, terms = fit._loss(x)
    assert min(abs(value) for value in terms.values()) > 1e-2
    expected = authors_objective(solver, fit.potential, problem.source, problem.target, x)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize(("dim", "parameters"), [(2, 365), (10, 613), (50, 3_773), (100, 12_223)])
def test_numbers_of_parameters(dim, parameters):
    _, fit = begin(NeuralHJB(), dim=dim)
    assert fit.transport("valid").parameters == parameters


@pytest.mark.parametrize(
    ("dim", "sizes"), [(1, (1_024, 2_304)), (2, (1_024, 2_304)), (3, (4_096, 6_400)), (50, (12_544, 16_384)),
                       (100, (25_600, 36_864)), (200, (25_600, 36_864))]
)  # fmt: skip
def test_sample_sizes_are_the_authors(dim, sizes):
    assert NeuralHJB().levels(dim) == sizes


def test_the_initial_potential_is_the_authors():
    potential = initial(40, 30, 2)
    first, second = potential.N.layers
    for layer in (first, second):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert layer.bias.std().item() == pytest.approx(0.1, rel=0.3)
    assert potential.w.weight.eq(1).all()
    assert not any(p.any() for p in (potential.A, potential.c.weight, potential.c.bias))


def drawn(steps: int, draws: Draws) -> list[torch.Tensor]:
    return [draws.next() for _ in range(steps)]


def draws(seed: int = 0) -> Draws:
    source = MixtureToGaussian().load(Path()).source
    return Draws(source, (3, 5), 5, 2, torch.Generator().manual_seed(seed))


def test_samples_are_held_drawn_anew_and_more_on_the_next_level():
    x = drawn(10, draws())
    assert [len(rows) for rows in x] == [3] * 5 + [5] * 5
    same = [torch.equal(a, b) for a, b in itertools.pairwise(x) if a.shape == b.shape]
    assert same == [True, False, True, False, True, False, True, False]


@pytest.mark.parametrize("steps", range(10))
def test_samples_resume(steps):
    whole = drawn(10, draws())
    first, other = draws(), draws(9)
    other.next()
    drawn(steps, first)
    other.load_state_dict(first.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(drawn(10 - steps, other), whole[steps:], strict=True))


@pytest.mark.parametrize("optimizer", ["bfgs", "adam"])
@pytest.mark.parametrize("steps", [3, 4, 6])
def test_resumes_along_the_same_trajectory(optimizer, steps, tmp_path):
    solver = dataclasses.replace(SMALL, optimizer=optimizer)
    _, fit = begin(solver)
    for _ in range(steps):
        fit.step()
    torch.save(fit.state_dict(), tmp_path / "state.pt")
    expected = [fit.step() for _ in range(5)]
    _, other = begin(solver, seed=9)
    other.step()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [other.step() for _ in range(5)] == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_short_training_gets_near_the_relaxed_optimum(dtype):
    torch.set_default_dtype(dtype)
    problem, fit = begin(NeuralHJB(n_train=(256,), level_steps=40))
    truth = problem.relaxed(fit.solver.relaxation)
    best = truth.cost + fit.solver.relaxation * truth.kl
    objective = fit.transport().objective
    before = objective(problem.test).mean().item()
    while not fit.done:
        terms = fit.step()
    after = fit.transport().objective(problem.test).mean().item()
    assert terms["nfe_forward"] % 8 == 0
    assert before > 1.5 * best
    assert best * 0.95 < after < best * 1.1


def test_a_pair_of_curvature_never_mixes_two_samples():
    """Where the samples change, y is the difference of gradients on the new ones."""
    _, fit = begin(dataclasses.replace(SMALL, resample_every=1))
    for _ in range(4):
        fit.step()
    s, y = fit.training.bfgs.pairs[-1]
    x, after = fit.training.batches.x, fit.training.point
    weights = list(fit.potential.parameters())

    def gradient(at: torch.Tensor) -> torch.Tensor:
        torch.nn.utils.vector_to_parameters(at, weights)
        found = torch.autograd.grad(fit._loss(x)[0], weights)
        return torch.nn.utils.parameters_to_vector(found)

    assert torch.allclose(gradient(after.x) - gradient(after.x - s), y, atol=1e-9)


def test_evaluations_of_the_line_search_are_counted(monkeypatch):
    _, fit = begin()
    calls = []
    loss_of = fit._loss
    monkeypatch.setattr(fit, "_loss", lambda x: calls.append(1) or loss_of(x))
    for _ in range(6):
        calls.clear()
        assert fit.step()["nfe_forward"] == 8 * len(calls)


def test_the_transport_tells_velocity_residual_relaxation_and_cost():
    problem, fit = begin()
    stirred(fit)
    transport = fit.transport(effort=2.0)
    x = problem.test
    assert transport.relaxation == 2.5
    h = 1e-3
    slope = (transport.path(x[:5], 0.5 + h) - transport.path(x[:5], 0.5 - h)) / (2 * h)
    assert torch.allclose(transport.velocity(0.5, transport.path(x[:5], 0.5)), slope, atol=1e-3)
    y = x[:5].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(transport.potential(0.5, y).sum(), y)
    assert torch.allclose(transport.velocity(0.5, x[:5]), -gradient)
    assert transport.hjb(x).min() >= 0
    kl = (problem.source.log_prob(x) - transport.log_prob(x)).mean()
    cost = transport.objective(x).mean() - 2.5 * kl
    assert transport.cost == pytest.approx(cost.item(), rel=0.1)
    assert transport.kl == pytest.approx(kl.item(), rel=0.1)
    seen = fit.training.batches.next()
    assert not torch.isin(seen, problem.source.sample(len(seen), torch.Generator().manual_seed(COST_SEED))).any()
    assert fit.transport("valid").cost is None


def test_without_hjb_terms_the_constant_is_left_alone():
    _, fit = begin(dataclasses.replace(SMALL, alpha4=0.0, alpha5=0.0))
    terms = fit.step()
    assert terms["hjb_final"] == 0
    assert terms["loss"] == pytest.approx(2 * terms["transport"] + 5 * terms["kl"])
    assert fit.potential.c.bias.item() == 0


def test_adams_rate_drops():
    solver = dataclasses.replace(SMALL, optimizer="adam", lr=0.04, lr_drop_steps=2, lr_drop_factor=4.0)
    _, fit = begin(solver)
    for _ in range(5):
        fit.step()
    assert fit.training.optimizer.param_groups[0]["lr"] == pytest.approx(0.04 / 16)


def test_a_source_without_a_density_is_unfit():
    rows = torch.randn(10, 2)
    target = Gaussian(torch.zeros(2), torch.eye(2))
    assert "log-density of the source" in SMALL.unfit(Samples(rows, rows), target)
    assert "dimension" in SMALL.unfit(Gaussian(torch.zeros(3), torch.eye(3)), target)
    assert SMALL.unfit(target, target) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 0), ("depth", 1), ("n_steps", 0), ("alpha1", 0.0), ("alpha4", -1.0), ("n_train", ()), ("memory", 0),
     ("optimizer", "sgd"), ("lr", 0.0), ("resample_every", 0)],
)  # fmt: skip
def test_settings_that_make_no_solver_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        NeuralHJB(**{name: value})

from pathlib import Path

import pytest
import torch
from scipy.stats import expectile

from datasets.base import Samples
from datasets.convex import ConvexGradients
from datasets.gaussians import Gaussian, Gaussians, random_gaussian, transport_map
from solvers.brenier import BrenierPotential
from solvers.enot import ENOT, expectile_loss, loss
from solvers.train import Annealing, Schedule


@pytest.fixture
def gaussians(rng) -> tuple[Gaussian, Gaussian]:
    return random_gaussian(2, rng), random_gaussian(2, rng)


def optimal_pair(P: Gaussian, Q: Gaussian) -> tuple[BrenierPotential, BrenierPotential]:
    """u and its conjugate v for the optimal map between Gaussians: u(x) = 1/2 x . M x + b . x."""
    u, v = BrenierPotential.between(P, Q, (4, 4)), BrenierPotential.between(Q, P, (4, 4))
    for potential in (u, v):
        torch.nn.init.zeros_(potential.w)
    return u, v


def formula(u: BrenierPotential, x: torch.Tensor) -> torch.Tensor:
    """u(x), which autograd can differentiate twice."""
    a = (x - u.mean) / u.scale
    for layer in u.layers:
        a = torch.nn.functional.elu(layer(a))
    return a @ u.w + 0.5 * ((x @ u.A) * x).sum(1) + x @ u.b


def gradients(value, *potentials):
    parameters = [p for potential in potentials for p in potential.parameters()]
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def test_expectile_loss_is_minimal_at_the_expectile():
    d = torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0])
    torch.testing.assert_close(expectile_loss(d, 0.9), torch.tensor([0.4, 0.025, 0.0, 0.9, 8.1]))
    x = torch.distributions.Exponential(1.0).sample((1000,))
    m = torch.tensor(expectile(x.numpy(), 0.9), requires_grad=True)
    (slope,) = torch.autograd.grad(expectile_loss(x - m, 0.9).mean(), m)
    assert slope.item() == pytest.approx(0, abs=1e-9)


def test_the_gradient_is_that_of_algorithm_1_term_by_term(gaussians, rng):
    """Against autograd through the formula with its stop-gradients written out, double backward included."""
    P, Q = gaussians
    u, v = BrenierPotential.between(P, Q, (5, 4)), BrenierPotential.between(Q, P, (5, 4))
    x, y = P.sample(50, rng), Q.sample(50, rng)
    tau, weight = 0.8, 0.7
    found = gradients(loss(u, v, x, y, tau, weight)[0], u, v)

    leaf = x.clone().requires_grad_()
    (T,) = torch.autograd.grad(formula(u, leaf).sum(), leaf, create_graph=True)
    for_u = gradients(-((x * T).sum(1) - v.value(T)).mean(), u)
    at = T.detach()
    g_star, g = v.value(at) - (x * at).sum(1), -v.value(y)
    cost = -(x * y).sum(1)
    violations = [(g_star - cost).detach() + g, (g - cost).detach() + g_star]
    assert (violations[0] > 0).any()
    assert (violations[0] < 0).any()
    regression = sum((torch.where(d >= 0, tau, 1 - tau) * d**2).mean() for d in violations)
    for_v = gradients(weight * regression - (g + g_star).mean(), v)
    for a, b in zip(found, [*for_u, *for_v], strict=True):
        torch.testing.assert_close(a, b)


def test_at_the_truth_nothing_is_violated_and_the_gradient_vanishes(gaussians, rng):
    P, Q = gaussians
    u, v = optimal_pair(P, Q)
    x = P.sample(100_000, rng)
    y = transport_map(P, Q)(x)  # the very same mass, so that only conjugacy is at stake
    shuffled = y[torch.randperm(len(y), generator=rng)]
    value, terms = loss(u, v, x, shuffled, 1.0, 1.0)
    assert terms["expectile"] == pytest.approx(0, abs=1e-12)  # Fenchel-Young holds for every pair
    assert max(g.abs().max().item() for g in gradients(value, u, v)) < 1e-9
    # and is an equality on the coupled ones, whatever the expectile
    assert loss(u, v, x, y, 0.6, 1.0)[1]["expectile"] == pytest.approx(0, abs=1e-12)
    near = y + 0.05 * torch.randn(y.shape, generator=rng)
    assert loss(u, v, x, near, 1.0, 1.0)[1]["expectile"] == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        v.b += 0.1
    assert loss(u, v, x, near, 1.0, 1.0)[1]["expectile"] > 1e-6
    assert max(g.abs().max().item() for g in gradients(loss(u, v, x, y, 1.0, 1.0)[0], u, v)) > 0.05


def trained(problem, steps: int, seed: int = 0, **settings):
    solver = ENOT(
        hidden=(16, 16), batch_size=256, max_steps=max(steps, 1), lr_warm_up=10, lr=1e-2, n_moments=4000, **settings
    )
    fit = solver.start(problem.source, problem.target, torch.Generator().manual_seed(seed))
    for _ in range(steps):
        fit.step()
    return fit


def unexplained(found, optimal, x) -> float:
    y = optimal(x)
    return (100 * (found(x) - y).square().sum(1).mean() / y.var(0).sum()).item()


@pytest.mark.parametrize("optimizer", ["soap", "adam"])
def test_training_finds_the_map_its_inverse_and_the_cost(optimizer, tmp_path):
    problem = ConvexGradients(n_test=2000).load(tmp_path)
    truth, x = problem.truth, problem.test
    y = truth.map(x)
    start, end = (trained(problem, n, optimizer=optimizer) for n in (0, 400))
    before, after = (unexplained(fit.transport().forward, truth.map, x) for fit in (start, end))
    assert before > 5  # the linear map's
    share = {"soap": 0.15, "adam": 0.7}[optimizer]
    assert after < share * before
    assert unexplained(end.transport().inverse, truth.inverse, y) < share * before
    assert end.transport().cost == pytest.approx(truth.cost, rel={"soap": 0.02, "adam": 0.05}[optimizer])
    assert end.transport("valid").cost is None
    assert end.done
    assert not start.done


def test_gaussians_are_solved_from_the_start(tmp_path):
    problem = Gaussians().load(tmp_path)
    fit = trained(problem, 0)
    torch.nn.init.zeros_(fit.u.w)
    torch.nn.init.zeros_(fit.v.w)
    transport = fit.transport()
    assert unexplained(transport.forward, problem.truth.map, problem.test) < 1e-10
    assert transport.cost == pytest.approx(problem.truth.cost, rel=0.02)


def test_resumes_along_the_same_trajectory(tmp_path: Path):
    rows, others = torch.randn(2, 1024, 2, generator=torch.Generator().manual_seed(5))
    solver = ENOT(hidden=(8, 8), batch_size=300, max_steps=40, n_moments=500)
    start = lambda seed: solver.start(Samples(rows, rows), Samples(others, others), torch.Generator().manual_seed(seed))  # noqa: E731
    fit = start(0)
    for _ in range(16):  # within an epoch of three batches
        fit.step()
    torch.save(fit.state_dict(), tmp_path / "state.pt")
    expected = [fit.step() for _ in range(12)]
    other = start(9)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [other.step() for _ in range(12)] == expected


def test_directions_alternate(gaussians):
    solver = ENOT(hidden=(4,), batch_size=8, max_steps=10, n_moments=100, lr_warm_up=1, expectile_weight=0.0)
    fit = solver.start(*gaussians, torch.Generator().manual_seed(0))
    seen = []
    fit.u.gradient = lambda x, f=fit.u.gradient: seen.append(("u", x.requires_grad)) or f(x)
    fit.v.gradient = lambda x, f=fit.v.gradient: seen.append(("v", x.requires_grad)) or f(x)
    fit.step()
    fit.step()
    assert [name for name, _ in seen] == ["u", "v", "v", "u"]


def test_the_rate_follows_a_cosine():
    annealing = Annealing(steps=100, end=0.1, warm_up=4)
    assert annealing.share(0) == pytest.approx(0.25)
    assert annealing.share(50) == pytest.approx(0.55)
    assert annealing.share(100) == annealing.share(1000) == pytest.approx(0.1)
    schedule = Schedule(0.2, drop_factor=2.0, annealing=annealing)
    assert schedule.rate(50, 1) == pytest.approx(0.1 * 0.55)
    problem = Gaussians().load(Path())
    fit = trained(problem, 20, lr_end=0.1)
    assert fit.training.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_what_it_cannot_take(gaussians):
    P, Q = gaussians
    rows = torch.randn(10, 2)
    assert "exceeds the 10 training rows" in ENOT(batch_size=11).unfit(Samples(rows, rows), Q)
    assert "exceeds the 10 training rows" in ENOT(batch_size=11).unfit(P, Samples(rows, rows))
    assert "dimension 2 and the target 3" in ENOT().unfit(P, random_gaussian(3, torch.Generator()))
    assert ENOT().unfit(P, Q) is None
    assert "batch_size" in ENOT(batch_size=0).unfit(P, Q)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden", ()),
        ("expectile", 0.4),
        ("expectile_weight", -1.0),
        ("optimizer", "sgd"),
        ("beta2", 1.0),
        ("n_moments", 1),
        ("max_steps", 0),
        ("lr_end", 2.0),
        ("lr_warm_up", 0),
        ("lr", 0.0),
    ],
)
def test_settings_that_make_no_solver_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ENOT(**{field: value})

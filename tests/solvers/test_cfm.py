"""Flow matching against closed forms; what every solver promises is tested in test_contract.py."""

import math
import warnings

import ot
import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import Gaussian, standard_normal
from solvers.base import Diverged
from solvers.cfm import CFM, regression
from solvers.concatsquash import ConcatSquash
from solvers.exact import empirical_cost
from solvers.ffjord import FFJORD
from solvers.otcfm import OTCFM, permutation
from solvers.train import Pairs

SMALL = {"hidden": (16, 16), "batch_size": 64}


def field(dim: int = 2, nonlinearity: str = "tanh") -> ConcatSquash:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return ConcatSquash(dim, (6, 5), nonlinearity)


@pytest.mark.parametrize("nonlinearity", ["tanh", "softplus"])
def test_a_time_for_each_row_is_that_time_for_all_of_them(nonlinearity, rng):
    f, x, t = field(3, nonlinearity), torch.randn(7, 3, generator=rng), torch.rand(7, generator=rng)
    together = f.scattered(t, x)
    one_by_one = torch.cat([f(time, row[None]) for time, row in zip(t, x, strict=True)])
    torch.testing.assert_close(together, one_by_one)
    assert (together - f(t[0], x)).abs().max() > 1e-3


def test_the_loss_is_the_regression_of_the_displacement(rng):
    f = field()
    x, y, noise = torch.randn(3, 9, 2, generator=rng)
    t = torch.rand(9, generator=rng)
    by_hand = 0.0
    for i in range(9):
        z = (1 - t[i]) * x[i] + t[i] * y[i] + noise[i]
        by_hand += (f(t[i], z[None])[0] - (y[i] - x[i])).square().sum().item() / 9
    assert regression(f, x, y, t, noise).item() == pytest.approx(by_hand)


def test_sigma_is_the_width_of_the_smoothing(rng):
    """At f(t, z) = z the loss grows by E|sigma e|^2 = 2 sigma^2."""
    source = target = standard_normal(2)
    found = {}
    for sigma in (0.0, 2.0):
        fit = CFM(hidden=(), sigma=sigma, batch_size=200_000).start(source, target, rng.clone_state())
        linear = fit.flow.blocks[0]
        with torch.no_grad():
            for weights in linear.parameters():
                weights.zero_()
            linear.layers[0].weight.copy_(2 * torch.eye(2))  # times sigmoid(0) = 1/2
        found[sigma] = fit.step()["loss"]
    # E|z - (y - x)|^2 = 2 E[(2 - t)^2 + (1 - t)^2] with z = (1 - t) x + t y
    assert found[0.0] == pytest.approx(2 * (7 / 3 + 1 / 3), rel=0.01)
    assert found[2.0] - found[0.0] == pytest.approx(2 * 2.0**2, rel=0.02)


def test_between_gaussians_the_least_loss_is_the_one_in_closed_form(rng):
    """With x ~ N(0, 1) and y ~ N(m, s^2) independent, E[y - x | z] = m + c / v (z - t m), where c = t s^2 - (1 - t) and
    v = (1 - t)^2 + t^2 s^2. What is left is 1 + s^2 - c^2 / v.
    """
    m, s, t, n = 1.0, 0.5, 0.3, 400_000
    c, v = t * s**2 - (1 - t), (1 - t) ** 2 + t**2 * s**2
    linear = ConcatSquash(1, (), "tanh")
    with torch.no_grad():
        for weights in linear.parameters():
            weights.zero_()
        linear.layers[0].weight.fill_(2 * c / v)  # times sigmoid(0) = 1/2
        linear.layers[0].bias.fill_(2 * m * (1 - c / v * t))
    x, y = torch.randn(n, 1, generator=rng), m + s * torch.randn(n, 1, generator=rng)
    loss = regression(linear, x, y, torch.full((n,), t), torch.zeros(n, 1))
    assert loss.item() == pytest.approx(1 + s**2 - c**2 / v, rel=0.01)
    loss.backward()
    assert all(weights.grad.abs().max() < 0.01 for weights in linear.layers.parameters())


@pytest.mark.parametrize("kind", [CFM, OTCFM])
def test_the_flow_leads_from_the_source_to_the_target(kind, rng):
    source, target = standard_normal(1), Gaussian(torch.tensor([3.0]), torch.tensor([[1.0]]))
    fit = kind(hidden=(), batch_size=64, lr=0.05).start(source, target, rng)
    for _ in range(250):
        fit.step()
    found = fit.transport()
    x = torch.linspace(-1, 1, 5)[:, None]
    assert (found.forward(x).mean() - 3).abs() < 0.6
    assert found.inverse(x + 3).mean().abs() < 0.6
    assert (found.log_prob(x) - source.log_prob(x)).abs().mean() < 0.4


def test_velocity_and_energy_belong_to_the_path(rng):
    for solver in (
        CFM(**SMALL),
        FFJORD(**SMALL, n_blocks=3, time_length=0.7, lr=0.05, test_atol=1e-8, test_rtol=1e-8),
    ):
        fit = solver.start(standard_normal(2), Gaussian(torch.ones(2), torch.eye(2)), rng)
        for _ in range(5):
            fit.step()
        found = fit.transport(effort=2.0)
        x, h = torch.randn(4, 2, generator=rng), 1e-3
        speeds = []
        nodes = (torch.arange(24) + 0.5) / 24
        for t in nodes.tolist():
            quotient = (found.path(x, t + h) - found.path(x, t - h)) / (2 * h)
            v = found.velocity(t, found.path(x, t))
            assert (quotient - v).abs().max() < 5e-3 * (1 + v.abs().max())
            speeds.append(v.square().sum(1))
        torch.testing.assert_close(found.energy(x), torch.stack(speeds).mean(0) / 2, rtol=5e-3, atol=1e-6)
        assert found.energy(x).min() > 0


def test_the_optimal_partners_beat_every_exchange(rng):
    x, y = torch.randn(40, 3, generator=rng), torch.randn(40, 3, generator=rng) + 1
    order = permutation(x, y)
    assert sorted(order.tolist()) == list(range(40))
    assert not torch.equal(order, torch.arange(40))
    cost = torch.cdist(x, y[order]).square()
    exchanged = cost + cost.T - cost.diag()[:, None] - cost.diag()
    assert exchanged.min() > -1e-12
    assert cost.diag().mean().item() == pytest.approx(ot.emd2([], [], ot.dist(x.numpy(), y.numpy())))


def test_ties_leave_a_permutation():
    x = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
    assert sorted(permutation(x, x).tolist()) == [0, 1, 2, 3]


def test_the_optimal_coupling_is_what_is_trained_on(rng):
    """OT-CFM's loss at a zero field is the batch's W2^2, below CFM's E|y - x|^2."""
    source, target = standard_normal(2), Gaussian(torch.tensor([3.0, 0.0]), torch.eye(2))
    losses = {}
    for solver in (CFM(**SMALL), OTCFM(**SMALL)):
        fit = solver.start(source, target, rng.clone_state())
        with torch.no_grad():
            for weights in fit.flow.parameters():
                weights.zero_()
        x, y = Pairs(source, target, 64, fit.training.batches.rng.clone_state()).next()
        losses[type(solver)] = fit.step()["loss"]
    assert losses[CFM] == pytest.approx((y - x).square().sum(1).mean().item())
    assert losses[OTCFM] == pytest.approx(2 * empirical_cost(x, y))
    assert losses[OTCFM] < 0.9 * losses[CFM]


@pytest.mark.parametrize("complaint", [UserWarning("numItermax reached"), RuntimeWarning("infeasible")])
def test_a_warning_of_the_library_is_an_error_never_another_plan(complaint, rng, monkeypatch):
    def warning_emd(*args, **kwargs):
        warnings.warn(complaint, stacklevel=1)
        return torch.full((64, 64), 1 / 64**2).numpy(), {"warning": None, "cost": 1.0, "v": torch.zeros(64).numpy()}

    monkeypatch.setattr(ot, "emd", warning_emd)
    fit = OTCFM(**SMALL).start(standard_normal(2), standard_normal(2), rng)
    with pytest.raises(Diverged, match=str(complaint)):
        fit.step()


def test_a_plan_that_is_no_permutation_is_an_error(rng, monkeypatch):
    def uniform(*args, **kwargs):
        return torch.full((64, 64), 1 / 64**2).numpy(), {"warning": None, "cost": 1.0, "v": torch.zeros(64).numpy()}

    monkeypatch.setattr(ot, "emd", uniform)
    fit = OTCFM(**SMALL).start(standard_normal(2), standard_normal(2), rng)
    with pytest.raises(Diverged, match="no permutation"):
        fit.step()


@pytest.mark.parametrize("rows", [(300, 100), (100, 300)])
def test_without_a_batch_size_both_batches_are_of_the_smaller_set(rows, rng):
    source, target = (Samples(torch.randn(n, 2, generator=rng), torch.zeros(1, 2)) for n in rows)
    fit = CFM(hidden=(8,), batch_size=None).start(source, target, rng)
    assert math.isfinite(fit.step()["loss"])
    assert Pairs(source, target, None, rng).next().shape == (2, 100, 2)


def test_a_target_of_samples_is_enough_and_has_no_density(rng):
    rows = torch.randn(100, 2, generator=rng)
    fit = OTCFM(**SMALL).start(standard_normal(2), Samples(rows, rows), rng)
    assert math.isfinite(fit.step()["loss"])
    found = fit.transport()
    assert found.log_prob is None
    assert found.log_prob_estimate is None
    assert found.forward(rows).shape == rows.shape


def test_why_it_cannot():
    rows = torch.randn(10, 2)
    P, few = standard_normal(2), Samples(rows, rows)
    assert CFM().unfit(P, P) is None
    assert "dimension" in CFM().unfit(P, standard_normal(3))
    assert "exceeds the 10" in CFM(batch_size=11).unfit(few, P)
    assert "exceeds the 10" in CFM(batch_size=11).unfit(P, few)


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden", (0,)), ("nonlinearity", "selu"), ("sigma", -1.0), ("atol", 0.0), ("test_rtol", 0.0), ("lr", 0.0),
     ("weight_decay", -1.0), ("max_evaluations", 0)],
)  # fmt: skip
def test_bad_hyperparameters_are_named(field, value):
    with pytest.raises(ValueError, match=field.removeprefix("test_")):
        CFM(**{field: value})

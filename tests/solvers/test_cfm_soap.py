"""Flow matching by SOAP with averaged weights; what every solver promises is tested in test_contract.py."""

import copy

import pytest
import torch

from datasets.gaussians import Gaussian, standard_normal
from datasets.toy import Moons
from solvers.cfm_moments import CFMMoments
from solvers.cfm_soap import CFMSoap
from solvers.soap import SOAP

SMALL = {"hidden": (8, 8), "batch_size": 64}
WIDE = Gaussian(torch.tensor([3.0, -1.0]).double(), torch.tensor([[4.0, 0.9], [0.9, 0.5]]).double())


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("warp", [1.0, 1.5, 3.0])
def test_each_part_of_the_unit_interval_has_one_time_before_the_warp(warp, rng):
    n = 1000
    t = CFMSoap(warp=warp).times(torch.zeros(n, 2, dtype=torch.float64), rng)
    u = t ** (1 / warp) * n
    assert torch.equal(u.floor().long(), torch.arange(n))
    assert 0.4 < (u - u.floor()).mean() < 0.6, "anywhere in its part"


def test_the_flow_is_the_average_of_the_weights_after_each_step(rng):
    """beta_k = min(averaging, k / (k + 9)), of the first the weights: both sides of the minimum count."""
    fit = CFMSoap(**SMALL, averaging=0.3).start(WIDE, standard_normal(2), rng)
    average = None
    for k in range(1, 9):
        fit.step()
        found = weights(fit.training.model)
        beta = min(0.3, k / (k + 9))
        average = found if average is None else [beta * a + (1 - beta) * w for a, w in zip(average, found, strict=True)]
    for ours, theirs in zip(weights(fit.flow), average, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert any(not torch.equal(ours, last) for ours, last in zip(weights(fit.flow), found, strict=True))


def test_a_state_has_the_weights_and_their_average(rng):
    """Without whitening, as test_contract.py has it only with."""
    fit = CFMSoap(**SMALL, whiten=False).start(WIDE, standard_normal(2), rng.clone_state())
    for _ in range(4):
        fit.step()
    state = copy.deepcopy(fit.state_dict())
    again = CFMSoap(**SMALL, whiten=False).start(WIDE, standard_normal(2), rng)
    again.load_state_dict(state)
    for one in (fit, again):
        one.step()
    for ours, theirs in zip(weights(again.flow), weights(fit.flow), strict=True):
        assert torch.equal(ours, theirs)


def test_the_transport_is_that_of_the_average(rng):
    fit = CFMSoap(**SMALL).start(WIDE, standard_normal(2), rng)
    for _ in range(5):
        fit.step()
    x = WIDE.sample(50, rng)
    before = fit.transport().forward(x)
    with torch.no_grad():
        for p in fit.training.model.parameters():
            p.add_(1.0)
    assert torch.equal(fit.transport().forward(x), before)
    with torch.no_grad():
        for p in fit.flow.parameters():
            p.add_(1.0)
    assert not torch.allclose(fit.transport().forward(x), before)


def test_without_whitening_it_is_a_flow_with_a_path(rng):
    plain = CFMSoap(**SMALL, whiten=False).start(Moons(), standard_normal(2), rng)
    first = CFMSoap(**SMALL).start(Moons(), standard_normal(2), rng)
    for fit in (plain, first):
        fit.step()
    assert plain.transport().velocity is not None
    assert first.transport().velocity is None
    assert first.transport().parameters == plain.transport().parameters + 2 + 3
    assert plain.transport().parameters == sum(p.numel() for p in plain.flow.parameters())


def test_the_optimiser_takes_no_basis_of_a_column(rng):
    """The gates' weights are (widths, 1): their basis would cost more than those of all layers."""
    fit = CFMSoap(**SMALL).start(WIDE, standard_normal(2), rng)
    fit.step()
    optimizer = fit.training.optimizer
    assert isinstance(optimizer, SOAP)
    field = fit.training.model.blocks[0]
    assert "L" not in optimizer.state[field.gate.weight]
    assert "L" in optimizer.state[field.layers[0].weight]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * 2 / 100)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weight_decay": 0.1}, "weight_decay must be 0"),
        ({"warp": 0.0}, "warp must be above 0"),
        ({"averaging": 1.0}, r"averaging must lie in \[0, 1\)"),
        ({"lr_warm_up": 0}, "^lr_warm_up must be 1 or more, not 0"),
        ({"n_points": 0, "whiten": False}, "n_points must be"),
    ],
)
def test_bad_settings(given, said):
    with pytest.raises(ValueError, match=said):
        CFMSoap(**given)


def test_its_version_is_raised_with_that_of_the_moments():
    assert (CFMMoments.version, CFMSoap.version) == (1, 1)

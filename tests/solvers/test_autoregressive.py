"""Masked autoregressive and spline flows; what every solver promises is tested in test_contract.py."""

import gc
import sys

import pytest
import torch

from datasets.gaussians import Gaussian, standard_normal
from solvers.maf import MAF
from solvers.nsf import NSF

pytest.importorskip("zuko", reason="the solvers are an extra")

SMALL = {"hidden": (16, 16), "transforms": 2, "batch_size": 64}


def correlated() -> Gaussian:
    return Gaussian(torch.tensor([1.0, -0.5]), torch.tensor([[1.0, 0.8], [0.8, 2.0]]))


@pytest.mark.parametrize("solver", [MAF(**SMALL), NSF(**SMALL)], ids=["maf", "nsf"])
def test_log_density_is_that_of_the_target_carried_back(solver, rng):
    source, target = correlated(), correlated()  # a target that is no standard normal
    fit = solver.start(source, target, rng)
    for _ in range(3):
        fit.step()
    x = source.sample(4, rng)
    transport = fit.transport()
    J = torch.stack([torch.autograd.functional.jacobian(lambda r: transport.forward(r[None])[0], row) for row in x])
    expected = target.log_prob(transport.forward(x)) + torch.linalg.slogdet(J).logabsdet
    torch.testing.assert_close(transport.log_prob(x), expected)
    assert (J[:, 0, 1] * J[:, 1, 0]).abs().max() > 1e-6  # two layers in both orders: no triangle is left


def test_one_affine_layer_is_all_that_a_gaussian_needs(rng):
    source, target = correlated(), standard_normal(2)
    fit = MAF(transforms=1, hidden=(16,), batch_size=1024, lr=0.02, lr_drop_steps=150).start(source, target, rng)
    for _ in range(400):
        fit.step()
    x = source.sample(2000, rng)
    gap = (source.log_prob(x) - fit.transport().log_prob(x)).mean()
    assert 0 <= gap < 0.01


def test_the_loss_is_the_negative_log_likelihood_of_the_batch(rng):
    fit = MAF(**SMALL).start(correlated(), standard_normal(2), rng)
    before = fit.transport()
    batch = correlated().sample(64, fit.training.batches.rng.clone_state())
    expected = -before.log_prob(batch).mean().item()
    assert fit.step()["loss"] == pytest.approx(expected)


def test_an_inverse_with_the_collector_off_leaves_no_tensors_behind(rng):
    """Its passes' cycles held over 11 GB of bsds300_redrawn, as clocks keep the collector off."""
    fit = MAF(batch_size=64).start(standard_normal(8), standard_normal(8), rng)
    inverse, z = fit.transport().inverse, standard_normal(8).sample(9000, rng)
    inverse(z)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(one) is torch.Tensor for one in gc.get_objects())
        x = inverse(z)
        assert sum(type(one) is torch.Tensor for one in gc.get_objects()) <= before + 2
    finally:
        gc.enable()
    torch.testing.assert_close(x[:10], inverse(z[:10]))


def test_adamw_shrinks_the_weights_apart_from_the_gradient(rng):
    """After one step the weights of both differ by lr weight_decay times what they were."""
    after, before = {}, {}
    for decay in (0.0, 0.5):
        solver = MAF(**SMALL, optimizer="adamw", weight_decay=decay, lr=0.01)
        fit = solver.start(correlated(), standard_normal(2), rng.clone_state())
        before = {name: p.detach().clone() for name, p in fit.network.named_parameters()}
        fit.step()
        after[decay] = dict(fit.network.named_parameters())
    for name, weights in before.items():
        torch.testing.assert_close(after[0.0][name] - after[0.5][name], 0.01 * 0.5 * weights)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "sgd"),
        ("weight_decay", -1.0),
        ("transforms", 0),
        ("hidden", ()),
        ("hidden", (0,)),
        ("lr", 0.0),
        ("bins", 1),
    ],
)
def test_bad_hyperparameters_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        NSF(**{field: value})


def test_a_missing_package_is_an_import_error(monkeypatch, rng):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError) as error:
        MAF(**SMALL).start(correlated(), standard_normal(2), rng)
    assert error.value.name == "zuko"

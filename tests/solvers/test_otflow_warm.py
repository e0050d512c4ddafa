"""The warm start of OT-Flow; what every solver promises is tested in test_contract.py."""

import pytest
import torch

from datasets.gaussians import Gaussian, standard_normal
from datasets.toy import Moons
from solvers.exact import empirical_cost
from solvers.otflow import OTFlow
from solvers.otflow_warm import OTFlowWarm
from solvers.train import Pairs

SMALL = {"width": 8, "batch_size": 64, "n_steps": 2, "n_steps_test": 4}


def test_the_first_loss_is_that_of_the_regression(rng):
    """With grad Phi = 0 it is alpha_nll W2^2 between the rows of the batch."""
    target = Gaussian(torch.tensor([3.0, 0.0]), torch.eye(2))
    fit = OTFlowWarm(**SMALL, warm_rows=40, alpha_nll=7.0).start(standard_normal(2), target, rng)
    with torch.no_grad():
        for weights in fit.potential.parameters():
            weights.zero_()
    x, y = Pairs(standard_normal(2), target, 64, fit.training.batches.rng.clone_state()).next()
    assert fit.step()["loss"] == pytest.approx(7 * 2 * empirical_cost(x[:40], y[:40]))


def test_a_shift_is_learnt_by_the_regression_alone(rng):
    target = Gaussian(torch.tensor([2.0, -1.0]), torch.eye(2))
    fit = OTFlowWarm(**SMALL, warm_steps=200, lr=0.05).start(standard_normal(2), target, rng)
    for _ in range(200):
        terms = fit.step()
    assert terms["nfe_forward"] == 1
    x = standard_normal(2).sample(100, rng)
    assert (fit.transport().forward(x) - (x + target.mean)).norm(dim=1).mean() < 0.3


def test_then_it_is_ot_flow(rng):
    warm = OTFlowWarm(**SMALL, warm_steps=2).start(Moons(), standard_normal(2), rng.clone_state())
    for _ in range(2):
        warm.step()
    cold = OTFlow(**SMALL).start(Moons(), standard_normal(2), rng.clone_state())
    cold.potential.load_state_dict(warm.potential.state_dict())
    x = Pairs(Moons(), standard_normal(2), 64, warm.training.batches.rng.clone_state()).next()[0]
    expected = cold.training.step(lambda _: cold._loss(x))
    found = warm.step()
    assert found["loss"] == pytest.approx(expected["loss"])
    assert found["nfe_forward"] == 8
    for a, b in zip(warm.potential.parameters(), cold.potential.parameters(), strict=True):
        torch.testing.assert_close(a, b)  # the first step of a fresh ADAM


@pytest.mark.parametrize(("field", "value"), [("warm_steps", -1), ("warm_rows", 0), ("width", 0)])
def test_bad_hyperparameters_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        OTFlowWarm(**{field: value})

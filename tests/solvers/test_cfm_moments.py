"""Flow matching after the map of the moments; what every solver promises is tested in test_contract.py."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.base import Samples
from datasets.gaussians import Gaussian, standard_normal, transport_map
from datasets.toy import Moons
from solvers.cfm import CFM
from solvers.cfm_moments import CFMMoments
from solvers.moments import Moments

SMALL = {"hidden": (8, 8), "batch_size": 64}
NARROW = Gaussian(torch.tensor([3.0, -1.0]).double(), torch.tensor([[2e-4, 9e-3], [9e-3, 0.5]]).double())


@dataclass(frozen=True, eq=False)
class Fixed:
    """A measure whose draws are the first n of these points, whatever the generator."""

    points: Tensor
    dim: int = 2

    def sample(self, n, rng):
        return self.points[:n]


def still(fit):
    """The fit with a field that is zero everywhere."""
    with torch.no_grad():
        for weights in fit.flow.parameters():
            weights.zero_()
    return fit


def test_without_a_flow_it_is_the_map_of_the_moments(rng):
    """A shift, a shear, and scales that are 50 apart: no term of log |det B| vanishes."""
    target = Gaussian(torch.tensor([0.5, 2.0]).double(), torch.tensor([[2.0, 0.3], [0.3, 1.0]]).double())
    fit = CFMMoments(**SMALL).start(NARROW, target, rng)
    fit.step()
    found = still(fit).transport()
    x = NARROW.sample(500, rng)
    torch.testing.assert_close(found.forward(x), transport_map(NARROW, target)(x))
    torch.testing.assert_close(found.inverse(found.forward(x)), x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.log_prob(x), NARROW.log_prob(x), rtol=1e-4, atol=1e-3)
    assert found.parameters == sum(p.numel() for p in fit.flow.parameters()) + 2 + 3


@pytest.mark.parametrize("stored", [True, False], ids=["rows", "draws"])
def test_it_is_flow_matching_of_what_the_moments_carry(rng, stored):
    """Weights after five steps are those of CFM on points that numpy's moments have whitened."""
    rows = NARROW.sample(400, rng).float()
    source = Samples(rows, rows[:10]) if stored else Fixed(rows)
    fit = CFMMoments(**SMALL, n_points=400).start(source, standard_normal(2), rng.clone_state())
    values, vectors = np.linalg.eigh(np.cov(rows.double().numpy().T, bias=True))
    root = torch.tensor(vectors / np.sqrt(values) @ vectors.T)
    white = ((rows.double() - rows.double().mean(0)) @ root).float()
    plain = CFM(**SMALL).start(
        Samples(white, white[:10]) if stored else Fixed(white), standard_normal(2), rng.clone_state()
    )
    for _ in range(5):
        fit.step()
        plain.step()
    for ours, theirs in zip(fit.flow.parameters(), plain.flow.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_samples_are_a_target_too(rng):
    """A target without a density, whose moments are those of its rows; the flow alone is left where they agree."""
    rows = NARROW.sample(300, rng)
    fit = CFMMoments(**SMALL).start(Moons(), Samples(rows, rows[:5]), rng)
    fit.step()
    found = still(fit).transport()
    carried = found.forward(Moons().sample(20_000, rng))
    torch.testing.assert_close(carried.mean(0), rows.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(carried.T.cov(), rows.T.cov(), rtol=0.05, atol=1e-3)
    assert found.log_prob is None


def test_a_state_from_before_the_first_step_has_no_moments(rng):
    fit = CFMMoments(**SMALL).start(Moons(), standard_normal(2), rng)
    state = copy.deepcopy(fit.state_dict())
    x = Moons().sample(50, rng)
    before = fit.transport().forward(x)
    fit.step()
    fit.load_state_dict(state)
    torch.testing.assert_close(fit.transport().forward(x), before)


def test_a_version_of_the_moments_is_one_of_these():
    """Records of this solver are of that version: where it is raised, raise CFMMoments.version too."""
    assert Moments.version == 1


def test_a_column_that_depends_on_others_is_named(rng):
    x = NARROW.sample(100, rng).float()
    source = Samples(torch.cat([x, x.sum(1, keepdim=True)], 1), torch.zeros(5, 3))
    assert "covariance is singular" in CFMMoments(**SMALL).unfit(source, standard_normal(3))

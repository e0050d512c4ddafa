"""Flow matching after the map of the moments; what every solver promises is tested in test_contract.py."""

import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import Gaussian, standard_normal, transport_map
from datasets.toy import Moons
from solvers.cfm import CFM
from solvers.cfm_moments import Affine, CFMMoments

SMALL = {"hidden": (8, 8), "batch_size": 64}
NARROW = Gaussian(torch.tensor([3.0, -1.0]).double(), torch.tensor([[2e-4, 9e-3], [9e-3, 0.5]]).double())


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


def test_the_density_is_that_of_the_map(rng):
    """log q(x) = log p_1(T(x)) + log det DT(x), the determinant by central differences, of a flow that moves."""
    fit = CFMMoments(**SMALL, lr=0.05).start(Moons(), standard_normal(2), rng)
    for _ in range(20):
        fit.step()
    found = fit.transport()
    x = Moons().sample(5, rng)
    h = 1e-3
    columns = [(found.forward(x + h * e) - found.forward(x - h * e)) / (2 * h) for e in torch.eye(2).to(x)]
    log_det = torch.linalg.slogdet(torch.stack(columns, dim=2)).logabsdet
    expected = standard_normal(2).log_prob(found.forward(x)) + log_det
    torch.testing.assert_close(found.log_prob(x), expected, rtol=0, atol=2e-2)


def test_it_is_flow_matching_of_what_the_moments_carry(rng):
    source = Samples(NARROW.sample(200, rng).float(), NARROW.sample(10, rng).float())
    fit = CFMMoments(**SMALL).start(source, standard_normal(2), rng.clone_state())
    plain = CFM(**SMALL).start(source, standard_normal(2), rng.clone_state())
    first = fit.step()["loss"]
    carried = Affine.between(*fit.moments.gaussians).forward
    plain.training.batches.parts[0].source = Samples(carried(source.train), carried(source.valid))
    assert plain.step()["loss"] == pytest.approx(first)


def test_a_column_that_depends_on_others_is_named():
    x = torch.randn(100, 2)
    source = Samples(torch.cat([x, x.sum(1, keepdim=True)], 1), torch.randn(5, 3))
    assert "covariance is singular" in CFMMoments(**SMALL).unfit(source, standard_normal(3))

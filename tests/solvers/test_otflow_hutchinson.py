"""OT-Flow with an estimated trace; what every solver promises is tested in test_contract.py."""

from itertools import product

import pytest
import torch

from datasets.gaussians import standard_normal
from datasets.toy import Moons
from solvers import otflow
from solvers.otflow_hutchinson import OTFlowHutchinson, integrate
from solvers.potential import Potential

SMALL = {"width": 8, "batch_size": 64, "n_steps": 2, "n_steps_test": 4}


@pytest.fixture
def potential(rng):
    made = Potential(2, 6, 3).double()
    with torch.no_grad():
        for weights in made.parameters():
            weights.copy_(0.5 * torch.randn(weights.shape, generator=rng, dtype=torch.float64))
    return made


def test_over_all_signs_it_is_the_exact_flow_and_so_is_its_gradient(potential, rng):
    """In the plane E[e e'] = I over the four vectors of signs, and logdet is linear in e e'."""
    x = torch.randn(7, 2, generator=rng, dtype=torch.float64)
    exact = otflow.integrate(potential, x, 3)
    signs = [torch.tensor(e, dtype=torch.float64).expand(7, 2) for e in product((-1.0, 1.0), repeat=2)]
    found = [integrate(potential, x, 3, e) for e in signs]
    for e in found:
        for a, b in zip((e[0], *e[2:]), (exact[0], *exact[2:]), strict=True):
            torch.testing.assert_close(a, b)
    assert (found[0][1] - found[1][1]).abs().min() > 1e-3, "off the diagonal is not nothing"
    mean = torch.stack([e[1] for e in found]).mean(0)
    torch.testing.assert_close(mean, exact[1])
    weights = [w for name, w in potential.named_parameters() if name != "c.bias"]  # which no derivative has
    share = torch.linspace(0.5, 2.0, 7, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((share * mean).sum() + found[0][2].sum(), weights),
        torch.autograd.grad((share * exact[1]).sum() + exact[2].sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_each_step_draws_directions_of_its_own_from_the_fits_generator(rng):
    fit = OTFlowHutchinson(**SMALL).start(Moons(), standard_normal(2), rng)
    x = Moons().sample(64, rng)
    first, second = (fit._loss(x)[1]["nll"] for _ in range(2))
    assert first != second
    a, b = (OTFlowHutchinson(**SMALL).start(Moons(), standard_normal(2), rng.clone_state()) for _ in range(2))
    assert a.step() == b.step()


def test_its_density_is_exact(rng):
    fit = OTFlowHutchinson(**SMALL).start(Moons(), standard_normal(2), rng)
    fit.step()
    x = Moons().sample(5, rng)
    exact = otflow.transport(fit.potential, standard_normal(2), 4).log_prob(x)
    torch.testing.assert_close(fit.transport().log_prob(x), exact)


@pytest.mark.parametrize(
    ("field", "value"), [("noise", "uniform"), ("trace_dtype", "bfloat16"), ("width", 0), ("n_steps", 0)]
)
def test_bad_hyperparameters_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        OTFlowHutchinson(**{field: value})

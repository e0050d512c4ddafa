"""Identity and constant maps, and what the metrics say of them."""

import pytest
import torch

from bench.metrics import evaluate
from datasets.base import Problem, Samples, Truth
from datasets.gaussians import random_gaussian, transport_cost, transport_map
from solvers.base import Diverged
from solvers.baselines import Constant, Identity


def problem(rng) -> Problem:
    a, b = random_gaussian(3, rng), random_gaussian(3, rng)
    truth = Truth(transport_cost(a, b), transport_map(a, b), inverse=transport_map(b, a))
    return Problem(a, b, a.sample(2000, rng), truth)


def transport(solver, p: Problem, rng):
    fit = solver.start(p.source, p.target, rng)
    fit.step()
    assert fit.done
    return fit.transport()


def test_the_constant_map_leaves_all_of_the_variance_unexplained(rng):
    p = problem(rng)
    values = evaluate(p, transport(Constant(), p, rng), rng)
    assert values["l2_uvp"] == pytest.approx(100, abs=1)
    assert values["l2_uvp_inverse"] == pytest.approx(100, abs=1)
    assert 0 < values["cosine"] < 1


def test_the_identity_moves_nothing(rng):
    p = problem(rng)
    found = transport(Identity(), p, rng)
    x = p.test[:5]
    assert torch.equal(found.forward(x), x)
    assert torch.equal(found.inverse(x), x)
    values = evaluate(p, found, rng)
    assert values["transport_cost"] == 0
    assert values["cost_gap"] == -1
    assert values["cosine"] is None
    missed = (p.truth.map(p.test) - p.test).square().sum(1).mean() / p.truth.map(p.test).var(0, correction=0).sum()
    assert values["l2_uvp"] == pytest.approx(100 * missed.item())


def test_bad_input_is_one_clear_line(rng):
    with pytest.raises(ValueError, match="n_points"):
        Constant(n_points=0)
    p = problem(rng)
    assert "dimension 3 and the target 2" in Identity().unfit(p.source, random_gaussian(2, rng))

    class Bad:
        dim = 3

        def sample(self, n, rng):
            return torch.full((n, 3), torch.nan)

    with pytest.raises(Diverged, match="not finite"):
        Constant().start(p.source, Bad(), rng).step()
    stored = Samples(torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.zeros(1, 2))
    fit = Constant().start(stored, stored, rng)
    fit.step()
    assert fit.transport().forward(torch.zeros(2, 2)).tolist() == [[2, 4], [2, 4]]

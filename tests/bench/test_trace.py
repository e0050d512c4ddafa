"""Exact and estimated traces of a small potential."""

import pytest
import torch

from bench.trace import AUTOGRAD, CLOSED, HUTCHINSON, by_autograd, hutchinson, measure
from solvers.potential import Potential


def test_exact_methods_agree_and_estimates_err_as_the_root_of_their_number():
    rows = list(measure(9, width=8, n=256))
    errors = {row.vectors: row.relative_error for row in rows if row.method == HUTCHINSON}
    assert [row.method for row in rows[:2]] == [CLOSED, AUTOGRAD]
    assert all(row.relative_error < 1e-5 for row in rows[:2])
    assert all(row.seconds > 0 for row in rows)
    assert sorted(errors) == [1, 3, 4, 6, 7, 9]
    assert errors[1] / errors[9] == pytest.approx(3, rel=0.3)


def test_the_estimate_is_exact_of_a_diagonal_hessian_and_leaves_time_out(rng):
    potential = Potential(3, 4, quadratic="symmetric")
    with torch.no_grad():
        potential.w.weight.zero_()
        potential.A.copy_(torch.diag(torch.tensor([1.0, 2.0, 3.0, 50.0])))
    s = torch.randn(5, 4)
    assert torch.allclose(hutchinson(potential, s, 1, rng), torch.full((5,), 6.0))
    assert torch.allclose(by_autograd(potential, s), torch.full((5,), 6.0))

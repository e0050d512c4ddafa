"""The gradient's error, both ways."""

import pytest
import torch

from bench import gradient_error
from bench.gradient_error import REFERENCE, compare, faster_at, gradient
from datasets.base import Samples
from datasets.gaussians import standard_normal
from solvers.ffjord import FFJORD, FFJORDFit


def fit(divergence: str = "exact") -> FFJORDFit:
    rows = torch.randn(32, 2, generator=torch.Generator().manual_seed(5)) * 2 + 1
    solver = FFJORD(hidden=(6, 5), batch_size=16, lr=0.05, divergence=divergence)
    found = solver.start(Samples(rows, rows[:8]), standard_normal(2), torch.Generator().manual_seed(0))
    found.step()
    return found


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_the_reference_is_what_both_ways_tend_to(monkeypatch, divergence):
    monkeypatch.setattr(gradient_error, "TOLERANCES", (1e-2, 1e-8))
    monkeypatch.setattr(gradient_error, "STEPS", (1, 16))
    trained = fit(divergence)
    rows = compare(trained, trained.training.batches.next(), repeats=1)
    assert len(rows) == 8
    for coarse, fine in zip(rows[::2], rows[1::2], strict=True):
        assert coarse["adjoint"] == fine["adjoint"]
        assert fine["error"] < 1e-5
        assert fine["error"] < coarse["error"] / 10
        assert fine["nfe_forward"] > coarse["nfe_forward"]
        assert (fine["nfe_backward"] > 0) == fine["adjoint"]
        assert fine["seconds"] > 0


def test_a_gradient_leaves_the_fit_as_it_was():
    trained, other = fit("hutchinson"), fit("hutchinson")
    x = trained.training.batches.next()
    other.training.batches.next()
    first, *_ = gradient(trained, x, REFERENCE)
    again, *_ = gradient(trained, x, REFERENCE)
    assert all(torch.equal(p, q) for p, q in zip(first, again, strict=True))
    assert trained.step() == other.step()


def test_the_faster_way_is_judged_at_equal_error():
    rows = [
        {"adjoint": False, "error": 1e-2, "seconds": 1.0},
        {"adjoint": False, "error": 1e-4, "seconds": 3.0},
        {"adjoint": True, "error": 1e-3, "seconds": 2.0},
    ]
    assert faster_at(rows, 1e-2) == {"direct": 1.0, "adjoint": 2.0}
    assert faster_at(rows, 1e-3) == {"direct": 3.0, "adjoint": 2.0}
    assert faster_at(rows, 1e-4) == {"direct": 3.0, "adjoint": None}


def test_what_is_not_tuned_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gradient_error", "nothing"])
    with pytest.raises(SystemExit):
        gradient_error.main()
    assert "FFJORD is not tuned for nothing" in capsys.readouterr().err

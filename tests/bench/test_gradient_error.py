"""The gradient's error, both ways."""

import pytest
import torch

from bench import gradient_error
from bench.gradient_error import REFERENCE, compare, faster_at, gradient
from datasets.base import Samples
from datasets.gaussians import standard_normal
from solvers.ffjord import FFJORD, FFJORDFit


def fit(divergence: str = "exact", noise: str = "rademacher") -> FFJORDFit:
    rows = torch.randn(32, 2, generator=torch.Generator().manual_seed(5)) * 2 + 1
    solver = FFJORD(hidden=(6, 5), batch_size=16, lr=0.05, divergence=divergence, noise=noise)
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


def test_in_float32_the_error_is_that_of_the_same_directions(monkeypatch):
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(gradient_error, "TOLERANCES", (1e-6,))
    monkeypatch.setattr(gradient_error, "STEPS", (8,))
    trained = fit("hutchinson", "gaussian")
    assert all(row["error"] < 1e-4 for row in compare(trained, trained.training.batches.next(), repeats=1))


def test_the_flow_is_copied_for_the_reference_alone_and_not_on_the_clock(monkeypatch):
    copied = []

    def counted(flow):
        copied.append(flow)
        return copy(flow)

    copy = gradient_error.copy.deepcopy
    monkeypatch.setattr(gradient_error.copy, "deepcopy", counted)
    monkeypatch.setattr(gradient_error, "TOLERANCES", (1e-2,))
    monkeypatch.setattr(gradient_error, "STEPS", (1,))
    trained = fit()
    compare(trained, trained.training.batches.next(), repeats=2)
    assert [id(flow) for flow in copied] == [id(trained.flow)]


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


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("nothing", "FFJORD is not tuned for nothing: choose from 2spirals, 8gaussians, "),
        ("published", "FFJORD is not tuned for published: choose from 2spirals, 8gaussians, "),
        ("gas", "ethylene_CO.pickle is missing: fetch it with `python -m datasets.download gas`"),
    ],
)
def test_what_is_not_there_is_one_line_before_any_work(dataset, said, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CNF_OT_DATA", str(tmp_path))
    monkeypatch.setattr(gradient_error, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(gradient_error, "experiment", lambda *given: pytest.fail("work was done"))
    monkeypatch.setattr("sys.argv", ["gradient_error", "8gaussians", dataset])
    with pytest.raises(SystemExit) as exit:
        gradient_error.main()
    assert exit.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m bench.gradient_error: error: ")
    assert said in line
    assert not list(tmp_path.iterdir())

"""What the transport solvers make of bad input, through the harness: one clear line before any work is done."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from omegaconf import DictConfig, open_dict
from torch import Generator, Tensor

from bench.run import BadInput, run_cell
from datasets.base import Measure, Points, Problem, Samples
from datasets.gaussians import Gaussian
from tests.bench.test_run import cell, records
from tests.stubs import Normal

CLASSES = {
    "identity": "solvers.baselines.Identity",
    "constant": "solvers.baselines.Constant",
    "exact": "solvers.exact.Exact",
    "sinkhorn": "solvers.sinkhorn.Sinkhorn",
    "moments": "solvers.moments.Moments",
    "enot": "solvers.enot.ENOT",
    "neural_hjb": "solvers.neural_hjb.NeuralHJB",
    "eulerian": "solvers.eulerian.Eulerian",
}


@dataclass(frozen=True)
class Holed:
    """A normal law some of whose draws are no numbers."""

    dim: int = 2

    def sample(self, n: int, rng: Generator) -> Points:
        return torch.randn(n, self.dim, generator=rng).index_fill_(0, torch.arange(min(3, n)), torch.nan)

    def log_prob(self, x: Points) -> Tensor:
        return Normal().log_prob(x)


def stored(points: Tensor) -> Samples:
    return Samples(points, points)


def spread() -> Tensor:
    return torch.randn(40, 2, generator=Generator().manual_seed(0))


CASES: dict[str, Callable[[], tuple[Measure, Measure]]] = {
    "dimensions": lambda: (Normal(dim=2), Normal(dim=3)),
    "empty": lambda: (stored(torch.zeros(0, 2)), Normal()),
    "holed": lambda: (Normal(), Holed()),
    "points": lambda: (stored(torch.ones(40, 2)), stored(torch.zeros(40, 2))),
    "line": lambda: (stored(spread() * torch.tensor([1.0, 0.0])), Normal()),
    "doubled": lambda: (stored(spread().repeat(2, 1)), stored(1 + spread().repeat(2, 1))),
    "samples": lambda: (stored(spread()), Normal()),
    "far": lambda: (Normal(20.0), Normal()),
    "narrow": lambda: (Normal(), Gaussian(torch.zeros(2), 1e-4 * torch.eye(2))),
}


@dataclass(frozen=True)
class Given:
    """The pair of CASES of that name."""

    case: str
    version: ClassVar[int] = 1

    def load(self, root: Path) -> Problem:
        source, target = CASES[self.case]()
        return Problem(source, target, torch.randn(50, source.dim, generator=Generator().manual_seed(1)))


def given(tmp_path: Path, solver: str, case: str, **settings: Any) -> DictConfig:
    cfg = cell(tmp_path, solver={"_target_": CLASSES[solver], **settings})
    with open_dict(cfg):
        cfg.dataset = {"_target_": "tests.bench.test_bad_input.Given", "case": case}
    return cfg


UNFIT = [
    *((name, "dimensions", "dimension 2 and the target 3") for name in CLASSES if name != "eulerian"),
    ("eulerian", "dimensions", "dimension 2, not 2 and 3"),
    *((name, "holed", "3 of 1000 points of the target are not finite") for name in CLASSES),
    ("sinkhorn", "points", "reg has no scale"),
    *((name, case, "covariance is singular") for name in ("moments", "enot") for case in ("points", "line")),
    *((name, "samples", "source") for name in ("neural_hjb", "eulerian")),
    ("eulerian", "far", "% of the source lies outside half_width 6.5"),
    ("eulerian", "narrow", "too coarse for the target"),
]  # fmt: skip


@pytest.mark.parametrize(("solver", "case", "line"), UNFIT, ids=[f"{s}-{c}" for s, c, _ in UNFIT])
def test_what_a_solver_cannot_take_is_unfit_before_any_work(solver: str, case: str, line: str, tmp_path: Path) -> None:
    settings = {"batch_size": 16} if solver == "enot" else {}
    assert run_cell(given(tmp_path, solver, case, **settings)) != 0
    (made,) = records(tmp_path)
    assert made["status"] == "unfit"
    assert line in made["reason"]
    assert "\n" not in made["reason"]
    assert made["metrics"] == made["certificates"] == {}
    assert not made["cost"].get("steps")


@pytest.mark.parametrize("solver", CLASSES)
def test_empty_samples_are_refused_when_they_are_loaded(solver: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"non-empty \(n, d\) array of finite numbers, not \(0, 2\)$"):
        run_cell(given(tmp_path, solver, "empty"))
    assert records(tmp_path) == []


@pytest.mark.parametrize("solver", ["exact", "sinkhorn", "moments"])
def test_duplicate_points_are_taken(solver: str, tmp_path: Path) -> None:
    assert run_cell(given(tmp_path, solver, "doubled")) == 0
    (made,) = records(tmp_path)
    assert made["status"] == "ok"
    assert made["metrics"]["cost_estimate"] == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("case", ["points", "line"])
def test_exact_takes_degenerate_samples(case: str, tmp_path: Path) -> None:
    assert run_cell(given(tmp_path, "exact", case, n_points=40)) == 0
    (made,) = records(tmp_path)
    assert made["certificates"]["duality_gap"]["ok"]
    if case == "points":
        assert made["metrics"]["cost_estimate"] == pytest.approx(1)

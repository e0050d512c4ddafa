"""Work against precision on a density whose error per effort is known."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from bench import accuracy
from datasets.base import Problem, Truth
from datasets.gaussians import standard_normal
from solvers.base import Diverged, Transport


@dataclass
class Fit:
    """A density off by `slip` / effort**4, the order of RK4; diverges below `least`; one step is of effort `step`."""

    slip: float
    least: float = 0.0
    step: float = 0.0
    asked: list[float] = field(default_factory=list)

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        self.asked.append(effort)

        def log_prob(x: Tensor) -> Tensor:
            if effort < self.least:
                raise Diverged("too coarse")
            signs = torch.where(torch.arange(len(x)) % 2 == 0, 1.0, -1.0)  # the mean error is 0, not so the errors
            return -x.square().sum(1) + signs * self.slip / max(effort, self.step) ** 4

        return Transport(log_prob=log_prob)


def problem(rows: int = 100) -> Problem:
    return Problem(standard_normal(2), standard_normal(2), torch.randn(rows, 2), Truth())


def test_errors_are_those_of_the_rows_against_the_finest() -> None:
    found = accuracy.measure(Fit(slip=1e-3), problem(), 100.0)  # type: ignore[arg-type]
    errors = {point["effort"]: point["error"] for point in found["work_precision"]}
    assert errors == pytest.approx({e: 1e-3 / e**4 - 1e-3 / 4.0**4 for e in accuracy.EFFORTS})
    assert all(point["seconds"] > 0 for point in found["work_precision"])


@pytest.mark.parametrize(
    ("slip", "effort"), [(1e-9, 0.03125), (1e-6, 0.125), (1e-4, 0.5), (1e-3, 1.0), (5e-2, 2.0), (1.0, None)]
)
def test_the_coarsest_effort_within_the_tolerance_is_found(slip: float, effort: float | None) -> None:
    found = accuracy.measure(Fit(slip), problem(), 100.0)  # type: ignore[arg-type]
    assert found["accurate_effort"] == effort
    assert found["accurate_rows"] == 100
    seconds = {point["effort"]: point["seconds"] for point in found["work_precision"]}
    assert found["accurate_seconds"] == (None if effort is None else seconds[effort])


def test_less_effort_than_usual_is_tried_until_one_errs_or_nothing_changes() -> None:
    errs = accuracy.measure(Fit(1e-9), problem(), 100.0)["work_precision"]  # type: ignore[arg-type]
    assert [point["effort"] for point in errs] == [1 / 64, 1 / 32, 1 / 16, *accuracy.EFFORTS]
    assert [point["error"] > accuracy.TOLERANCE for point in errs] == [True, *[False] * 7]
    one_step = accuracy.measure(Fit(1e-9, step=1 / 16), problem(), 100.0)  # type: ignore[arg-type]
    assert [point["effort"] for point in one_step["work_precision"]] == [1 / 16, *accuracy.EFFORTS]
    assert one_step["accurate_effort"] == 1 / 16


def test_a_lucky_coarse_effort_does_not_count() -> None:
    points = [{"effort": e, "seconds": e, "error": error} for e, error in ((0.5, 0.001), (1.0, 0.02), (2.0, 0.005))]
    assert accuracy.accurate(points) == points[2]


def test_where_the_coarse_ones_break_down_the_others_still_count() -> None:
    found = accuracy.measure(Fit(1e-6, least=0.5), problem(), 100.0)  # type: ignore[arg-type]
    assert [point["error"] is None for point in found["work_precision"]] == [True, True, False, False, False]
    assert found["accurate_effort"] == 0.5


def test_what_integrates_nothing_is_one_point() -> None:
    found = accuracy.measure(Fit(0.0), problem(), 100.0)  # type: ignore[arg-type]
    assert [(p["effort"], p["error"]) for p in found["work_precision"]] == [(1.0, 0.0)]
    assert found["accurate_effort"] == 1.0


def test_no_density_and_no_fine_integration_leave_nothing() -> None:
    @dataclass
    class Mute(Fit):
        def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
            return replace(super().transport(use, effort), log_prob=None)

    assert accuracy.measure(Mute(0.0), problem(), 100.0) == {}  # type: ignore[arg-type]
    assert accuracy.measure(Fit(0.0, least=9.0), problem(), 100.0) == {}  # type: ignore[arg-type]


def test_a_large_test_set_is_cut() -> None:
    found = accuracy.measure(Fit(1e-3), problem(5000), 100.0)  # type: ignore[arg-type]
    assert found["accurate_rows"] == accuracy.ROWS

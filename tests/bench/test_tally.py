import math
from itertools import pairwise

import pytest

from bench.tally import KEPT, Tally, finite


def test_means_are_since_the_last_validation() -> None:
    tally = Tally()
    for loss in (1.0, 2.0, 6.0):
        tally.add({"loss": loss, "nfe_forward": 4.0}, 0.5)
    assert tally.means() == {"loss": 3.0, "nfe_forward": 4.0}
    tally.add({"loss": 8.0, "nfe_forward": 6.0}, 0.5)
    assert tally.means() == {"loss": 8.0, "nfe_forward": 6.0}
    cost = tally.cost()
    assert (cost["steps"], cost["fit_seconds"]) == (4, 2.0)
    assert (cost["nfe_forward"], cost["nfe_forward_max"], cost["nfe_backward"]) == (4.5, 6.0, 0.0)


def test_durations_are_spread_evenly_however_long_the_run() -> None:
    tally = Tally()
    for step in range(10_000):
        tally.add({"loss": 0.0}, float(step))
        assert len(tally.durations) <= KEPT
    kept = tally.durations
    assert len(kept) > KEPT // 2
    assert {b - a for a, b in pairwise(kept)} == {kept[1]}
    assert kept[0] == 0
    assert kept[-1] + kept[1] >= 10_000


def test_a_solver_that_counts_no_evaluations_has_none() -> None:
    tally = Tally()
    tally.add({"loss": 1.0}, 0.1)
    assert tally.cost()["nfe_forward"] is None
    assert tally.cost()["nfe_backward"] is None


@pytest.mark.parametrize(("value", "expected"), [(1, 1.0), (math.nan, None), (-math.inf, None), (None, None)])
def test_finite(value: float | None, expected: float | None) -> None:
    assert finite(value) == expected

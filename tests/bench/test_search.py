"""Search spaces and what is drawn from them."""

import math
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bench.names import CONF
from bench.record import BadInput
from bench.search import Choice, LogUniform, Tuning, draw, space_of

FLOWS = [
    *("cfm", "cfm_moments", "cfm_soap", "ffjord", "maf", "nsf"),
    *("otcfm", "otflow", "otflow_hutchinson", "otflow_warm", "rnode"),
]


def test_every_flow_has_a_space() -> None:
    assert sorted(path.stem for path in (CONF / "tune").glob("*.yaml")) == FLOWS


@pytest.mark.parametrize("solver", FLOWS)
def test_what_is_drawn_builds_the_solver_and_changes_it(solver: str) -> None:
    space, plain = space_of(solver), OmegaConf.load(CONF / "solver" / f"{solver}.yaml")
    drawn = [draw(space, 0, k) for k in range(20)]
    built = [instantiate(OmegaConf.merge(plain, one), _convert_="all") for one in drawn]
    for name in space:
        assert len({str(getattr(one, name)) for one in built}) > 1


def test_a_draw_does_not_hang_on_how_many_others_there_are() -> None:
    space = {"lr": LogUniform(1e-3, 1e-1), "width": Choice((8, 16, 32))}
    few, many = ([draw(space, 7, k) for k in range(n)] for n in (3, 9))
    assert few == many[:3]
    assert draw(space, 8, 0) != few[0] != few[1]


def test_the_logarithm_is_uniform_and_choices_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    values = [LogUniform(1e-4, 1.0).draw(rng) for _ in range(4000)]
    shares = np.histogram([math.log10(v) for v in values], bins=4, range=(-4, 0))[0] / 4000
    assert shares == pytest.approx([0.25] * 4, abs=0.03)  # four standard errors
    assert all(float(f"{v:.3g}") == v for v in values)
    assert mean(Choice((0, 1, 2, 3)).draw(rng) == 3 for _ in range(4000)) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lr: {log_uniform: [0, 1]}", "0 < low < high"),
        ("lr: {log_uniform: [2, 1]}", "0 < low < high"),
        ("lr: {log_uniform: [1, .inf]}", "0 < low < high"),
        ("lr: {log_uniform: [1]}", "a setting is {choice"),
        ("lr: {uniform: [1, 2]}", "a setting is {choice"),
        ("lr: {choice: [1], log_uniform: [1, 2]}", "a setting is {choice"),
        ("lr: {choice: []}", "a choice between nothing"),
        ("lr: 3", "a setting is {choice"),
        ("[1, 2]", "settings by name"),
    ],
)
def test_a_space_that_is_none(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "otflow.yaml").write_text(given)
    with pytest.raises(BadInput, match=said) as caught:
        space_of("otflow", tmp_path)
    assert "otflow.yaml" in str(caught.value)


def test_solvers_without_a_space() -> None:
    with pytest.raises(BadInput, match=r"^no solver otflaw: choose from cfm, cfm_moments, cfm_soap, constant"):
        space_of("otflaw")
    with pytest.raises(
        BadInput, match=r"^moments has no search space in .*: choose from cfm, cfm_moments, cfm_soap, ffjord"
    ):
        space_of("moments")


@pytest.mark.parametrize("trials", [0, -1, 1.5, True, None])
def test_a_budget_without_trials(trials: object) -> None:
    with pytest.raises(ValueError, match="whole number of 1 or more"):
        Tuning(trials, 30.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf, None, "30"])
def test_a_budget_without_seconds(seconds: object) -> None:
    with pytest.raises(ValueError, match="number above 0"):
        Tuning(20, seconds)  # type: ignore[arg-type]

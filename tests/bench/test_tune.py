"""The command that tunes: on records made up, and once from end to end."""

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

from bench import record, search, tune
from bench.names import CONF
from bench.record import BadInput
from bench.run import build, identify, lenient
from bench.search import Tuning
from tests.bench import fake_records

SPACE = "width: {choice: [4, 6]}\nlr: {log_uniform: [1.0e-3, 1.0e-2]}\n"
QUICK = ["dataset=breast_cancer", "threads=1", "solver.max_steps=2", "validation.rows=20"]


def config_of(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return identify(compose("config", [word for given in overrides for word in lenient(given)]))


def trial(number: int, best: float, test: float, status: str = "ok", lr: float = 0.01) -> tune.Trial:
    trace = [{"step": i, "seconds": float(i), "valid_nll": value} for i, value in enumerate((best + 1, best, best + 2))]
    made = fake_records.make(status=status, metrics={"nll": test}, trace=trace, settings={"lr": lr})
    return tune.Trial(number, SimpleNamespace(config=made["config"]), made)  # type: ignore[arg-type]


def study(*draws: Mapping[str, Any]) -> tune.Search:
    return tune.Search("otflow", "8gaussians", Tuning(len(draws), 30), 0, draws)


def test_the_best_is_by_validation_whatever_the_test_says(capsys: pytest.CaptureFixture[str]) -> None:
    fine = [trial(0, 2.5, test=9.0), trial(1, 2.4, test=9.9, lr=0.02), trial(3, 2.6, test=0.1)]
    trials = [*fine, trial(2, 2.3, 1.0, "diverged")]
    made = tune.table(study({}, {"lr": 0.02}, {"lr": 1.0}, {"lr": 0.5}), trials)
    assert [label for label, _ in made.rows] == ["2", "1", "4", "3"]
    assert [cells[-3].text for _, cells in made.rows] == ["2.4000", "2.5000", "2.6000", "–"]
    assert [cells[-3].best for _, cells in made.rows] == [True, False, False, False]
    assert tune.conclude(study({}, {"lr": 0.02}, {"lr": 1.0}, {"lr": 0.5}), trials, [], "", Console(width=200)) == 0
    assert "solver.lr=0.02 tuning.trials=4 tuning.seconds=30 " in capsys.readouterr().out


def test_no_best_without_a_finite_run_or_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    failed = trial(0, 2.5, 9.0, "diverged")
    assert failed.nll == math.inf
    assert tune.conclude(study({"lr": 1.0}), [failed], [], "", Console()) == 1
    void = trial(1, 1.0, 9.0)
    assert void.record is not None
    void.record["certificates"] = {"nll_valid": {"value": 1.0, "limit": 0.01, "ok": False}}
    assert (void.nll, void.status) == (math.inf, "ok, but for nll_valid")
    missing = tune.Trial(1, failed.job, None)
    assert tune.conclude(study({}, {"lr": 1.0}), [trial(0, 2.5, 9.0), missing], [], "", Console()) == 1
    assert "bench.run" not in capsys.readouterr().out


def test_the_command_makes_the_trial_with_its_budget_and_other_seeds() -> None:
    found = study({}, {"lr": 0.02, "width": 6, "alpha_nll": 30.0})
    words = shlex.split(found.command(1, ["dtype=float64"]))
    assert words[:4] == ["python", "-m", "bench.run", "-m"]
    assert words[-2:] == ["budget.seconds=30", "seed=1,2,3"]
    config = config_of(*(word for word in words[4:] if not word.startswith("seed=")))
    assert config["tuning"] == {"trials": 2, "seconds": 30.0}
    assert (config["solver"]["lr"], config["solver"]["width"], config["dtype"]) == (0.02, 6, "float64")
    plain = config_of("solver=otflow", "dataset=8gaussians", "seed=0")
    assert config["solver"]["n_steps_test"] == plain["solver"]["n_steps_test"] == 24, "published settings stay"
    assert "tuning" not in plain, "records made before tuning keep their keys"


def test_a_list_survives_the_shell() -> None:
    drawn = {"hidden": [8, 4], "nonlinearity": "softplus"}
    command = tune.Search("ffjord", "moons", Tuning(1, 1), 0, (drawn,)).command(0, [])
    assert " 'solver.hidden=[8,4]' solver.nonlinearity=softplus " in command
    solver = config_of(*shlex.split(command)[4:-1])["solver"]
    assert {name: solver[name] for name in drawn} == drawn


def test_a_setting_on_the_command_line_is_not_searched() -> None:
    found = tune.Search.of("otflow", "moons", Tuning(3, 1), 0, ["solver.lr=0.5"])
    assert found.trials[0] == {}
    assert all(set(drawn) == set(search.space_of("otflow")) - {"lr"} for drawn in found.trials[1:])


def test_more_trials_begin_with_those_there_are() -> None:
    few, many = (tune.Search.of("maf", "moons", Tuning(n, 1), 3, []) for n in (3, 5))
    assert few.trials == many.trials[:3]


def test_settings_that_are_written(tmp_path: Path) -> None:
    config = config_of("solver=otflow", "dataset=miniboone", "solver.lr=0.015", "dtype=float64")
    best = tune.Trial(1, SimpleNamespace(config=config), None)  # type: ignore[arg-type]
    found = tune.Search("otflow", "miniboone", Tuning(4, 2.5), 0, ({}, {"lr": 0.015}))
    others = ["dtype=float64", "tuned=otflow_miniboone"]
    path = tune.written(found, best, others, tmp_path)
    assert path.name == "otflow_miniboone_4x2.5s.yaml"
    given = OmegaConf.load(path)
    assert path.read_text().startswith("# @package _global_\n")
    assert given.tuning == {"trials": 4, "seconds": 2.5}
    assert given.validation.every == 20, "what the published settings say beside the solver's"
    built = instantiate({"_target_": "solvers.otflow.OTFlow", **given.solver}, _convert_="all")
    assert record.describe(built) == config["solver"]
    assert tune.written(found, best, others, tmp_path) == path, "the same again"
    assert "every" not in tune.written(found, best, ["tuned=none"], tmp_path / "none").read_text()
    path.write_text("another")
    with pytest.raises(BadInput, match="there already"):
        tune.written(found, best, others, tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to tune"),
        (["solver=otflow"], "trials of a tuning must be a whole number of 1 or more, not 0"),
        (["solver=otflow", "trials=0", "seconds=3"], "whole number of 1 or more, not 0"),
        (["solver=otflow", "trials=2", "seconds=0"], "number above 0, not 0.0"),
        (["solver=otflow", "trials=2.5", "seconds=1"], "invalid literal"),
        (["solver=otflaw", "trials=2", "seconds=1"], "no solver otflaw: choose from"),
        (["solver=moments", "trials=2", "seconds=1"], "moments has no search space"),
        (["solver=otflow", "dataset=nowhere", "trials=2", "seconds=1"], "no dataset nowhere: choose from"),
        (["solver=otflow", "trials=2", "seconds=1", "budget.seconds=9"], "cannot use budget.seconds=9"),
        (["solver=otflow", "trials=2", "seconds=1", "budget.steps=9"], "cannot use budget.steps=9"),
        (["solver=otflow", "trials=2", "seconds=1", "solver.depht=9"], "OTFlow has no such field"),
        (["solver=otflow", "trials=2", "seconds=1", "solver._target_=tests.stubs.Decay"], "cannot use solver._target_"),
        (["solver=otflow", "trials=2", "seconds=1", "nonsense=9"], "nonsense"),
        (["solver=otflow", "trials=2", "seconds=1", "plan=True"], "plan is true or false, not 'True'"),
    ],
)
def test_bad_input_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert tune.main([*words, f"results={tmp_path}"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["tuning.trials=0", "tuning.seconds=1"], ["tuning.trials=2"], ["tuning.seconds=1"]])
def test_a_cell_refuses_half_a_budget_and_one_of_nothing(words: list[str]) -> None:
    with pytest.raises(BadInput, match=r"^tuning: the .* of a tuning must be"):
        config_of(*words)


def test_a_plan_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["solver=otflow,maf", "trials=3", "seconds=30", "plan=true", f"results={tmp_path}", "dataset=moons"]
    assert tune.main(words) == 0
    assert "cells 6: left 6" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_search_starts_from_the_defaults_unless_told() -> None:
    assert tune.started(["dtype=float64"]) == ["dtype=float64", "tuned=none"]
    assert tune.started(["tuned=ffjord_published"]) == ["tuned=ffjord_published"]


def test_a_search_from_the_defaults_keeps_tolerances_which_are_not_ranked_with_others() -> None:
    def of(*others: str) -> tune.Search:
        return tune.Search.of("cfm", "miniboone_small", Tuning(2, 1), 0, others)

    kept = {"test_atol": 1e-5, "test_rtol": 1e-5}
    assert of("tuned=none").trials[0] == kept
    assert of("tuned=none").trials[1] == kept | of("tuned=cfm_miniboone_small").trials[1]
    assert of("tuned=none", "solver.test_atol=1e-6").trials[0] == {"test_rtol": 1e-5}
    assert of("tuned=cfm_miniboone_small").trials[0] == {}
    assert tune.Search.of("maf", "miniboone_small", Tuning(2, 1), 0, ["tuned=none"]).trials[0] == {}


def test_solvers_take_turns() -> None:
    one, two = study({}, {"lr": 1.0}), study({}, {"lr": 2.0})
    assert tune.in_turn([one, two]) == [(one, 0), (two, 0), (one, 1), (two, 1)]


@pytest.mark.slow
def test_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "otflow.yaml").write_text(SPACE)
    monkeypatch.setattr(tune, "space_of", lambda solver: search.space_of(solver, tmp_path / "tune"))
    words = ["solver=otflow", "trials=2", "seconds=20", f"results={tmp_path}", *QUICK]
    assert tune.main(words) == 0
    out = capfd.readouterr().out
    found = {path: json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*.json")}
    assert len(found) == 2
    for one in found.values():
        assert (one["status"], one["config"]["budget"]["seconds"], one["config"]["seed"]) == ("ok", 20.0, 0)
        assert "tuning" not in one["config"], "a trial itself is not tuned"
    defaults = config_of("solver=otflow", "tuned=none", *QUICK)["solver"]
    assert defaults in [one["config"]["solver"] for one in found.values()]
    assert config_of("solver=otflow", *QUICK)["solver"] != defaults, "or nothing is tested"
    best = min(found.values(), key=lambda one: min(entry["valid_nll"] for entry in one["trace"]))
    command = next(line for line in out.splitlines() if line.startswith("python -m bench.run"))
    won = config_of(*(word for word in shlex.split(command)[4:] if not word.startswith("seed=")))
    assert won["solver"] == best["config"]["solver"]
    assert won["tuning"] == {"trials": 2, "seconds": 20.0}

    before = {path: path.stat().st_mtime_ns for path in found}
    assert tune.main(words) == 0
    again = capfd.readouterr().out
    assert again.count("[cached]") == 2
    assert command in again
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*.json")} == before


def test_what_the_best_is_built_of_is_what_ran(tmp_path: Path) -> None:
    cell = tune.Search.of("otflow", "breast_cancer", Tuning(2, 1), 0, []).cell(1)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        solver, _ = build(compose("config", cell))
    drawn = search.draw(search.space_of("otflow"), 0, 1)
    assert {name: getattr(solver, name) for name in drawn} == drawn

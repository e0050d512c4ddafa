import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

from bench import lease, loop, record, run
from bench.run import BadInput, identify, inference, lenient, one_line, run_cell
from datasets.base import Problem
from solvers.base import Diverged, Transport
from tests.stubs import Normal, Shifted

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def cell(tmp_path: Path, *overrides: str, solver: Any = (), dataset: Any = ()) -> DictConfig:
    """The stub's cell, five steps long."""
    few = ("budget.steps=5", "validation.rows=50", "threads=1", "dtype=float64", "progress=false")
    with initialize_config_dir(str(ROOT / "bench" / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=["tuned=none", f"results='{tmp_path}'", *few, *overrides])
    with open_dict(cfg):
        cfg.solver = {"_target_": "tests.stubs.Decay", **dict(solver)}
        cfg.dataset = {"_target_": "tests.stubs.Shifted", **dict(dataset)}
    return cfg


def records(tmp_path: Path) -> list[record.Record]:
    found, problems = record.read_all([tmp_path / "runs"])
    assert problems == []
    return found


def test_a_cell_becomes_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = cell(tmp_path)
    assert run_cell(cfg) == 0
    (made,) = records(tmp_path)
    assert made["status"] == "ok"
    assert made["reason"] == "budget.steps"
    assert made["config"] == identify(cfg)
    assert made["config"]["solver"]["rate"] == 0.1, "defaults are part of the key"
    assert set(made["cost"]) == set(record.COST)
    assert made["cost"]["steps"] == 5
    assert made["cost"]["parameters"] == 2
    assert made["cost"]["evaluate_rows"] == made["cost"]["test_rows"] == 50
    assert made["cost"]["estimate_seconds"] is made["cost"]["estimate_spread"] is None
    assert len(made["cost"]["evaluate_repeats"]) >= 3
    assert made["cost"]["wall_seconds"] > made["cost"]["fit_seconds"]
    assert made["metrics"]["nll"] > 2
    assert made["certificates"]["inverse"]["ok"]
    assert made["env"]["launcher"] == "none"
    assert set(made["env"]["noise"]) == {"cpu_pressure", "steal", "switches_per_second"}
    line, where = capsys.readouterr().out.splitlines()
    assert line.startswith("stubs shifted seed 0: ok, test NLL ")
    assert where == f"record {made['key']}: {tmp_path}/runs/{made['key']}.json"
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {f"{made['key']}.json", f"{made['key']}.npz", "leases"}, "no checkpoint, no temporary file"


def test_a_cell_with_a_record_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cell(cell(tmp_path)) == 0
    monkeypatch.setattr(loop, "run", lambda *a: pytest.fail("run again"))
    assert run_cell(cell(tmp_path, "progress=true", "data.root=elsewhere")) == 0, "these are not part of the key"
    _, _, line, where = capsys.readouterr().out.splitlines()
    assert line.endswith(" [cached]")
    assert where == f"record {records(tmp_path)[0]['key']}: {next((tmp_path / 'runs').glob('*.json'))}"


def test_a_cell_that_another_process_computes_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = cell(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(lease, "_locked", lambda *given: False)
        patch.setattr(loop, "run", lambda *a: pytest.fail("run twice at once"))
        assert run_cell(cfg) == lease.HELD == 4
    assert f"another process computes stubs shifted seed 0 into {tmp_path}" in capsys.readouterr().err
    assert records(tmp_path) == []
    assert run_cell(cfg) == 0
    monkeypatch.setattr(lease, "_locked", lambda *given: False)
    assert run_cell(cfg) == 0, "its record is there, whoever still holds it"


def test_a_cell_is_held_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg, answers = cell(tmp_path), []
    look = f"""
from pathlib import Path
from bench import lease
raise SystemExit(lease.held(Path({str(tmp_path)!r}), {record.key(identify(cfg))!r}))
"""
    real = loop.run

    def looked_at(*given: Any) -> Any:
        answers.append(subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode)
        return real(*given)

    monkeypatch.setattr(loop, "run", looked_at)
    assert run_cell(cfg) == 0
    answers.append(subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode)
    assert answers == [1, 0]


def test_what_is_part_of_the_key(tmp_path: Path) -> None:
    keys = [
        record.key(identify(cell(tmp_path, *overrides, solver=solver)))
        for overrides, solver in (
            ((), {}),
            (("seed=1",), {}),
            (("dtype=float32",), {}),
            (("threads=2",), {}),
            (("budget.steps=6",), {}),
            (("validation.rows=60",), {}),
            (("validation.every=9",), {}),
            (("evaluate.seconds=9",), {}),
            ((), {"rate": 0.2}),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == record.key(identify(cell(tmp_path / "elsewhere", solver={"rate": 0.1})))
    assert keys[0] == record.key(identify(cell(tmp_path, "budget.steps=5.0", "evaluate.seconds=300.0")))


@pytest.mark.parametrize(
    ("mode", "status"),
    [("diverge", "diverged"), ("memory", "oom"), ("crash", "crash"), ("missing", "not_installed"), ("unfit", "unfit")],
)
def test_a_failed_run_is_a_record_too(
    mode: str, status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = cell(tmp_path, solver={"mode": mode})
    assert run_cell(cfg) == 1
    (made,) = records(tmp_path)
    assert made["status"] == status
    assert made["reason"]
    assert made["metrics"] == {}
    assert capsys.readouterr().out.splitlines()[0] == f"stubs shifted seed 0: {status} ({made['reason']})"
    assert run_cell(cfg) == 1, "still failed when it is only looked up"
    assert not list((tmp_path / "checkpoints").glob("*"))


@pytest.mark.parametrize(("error", "status"), [(MemoryError("pairwise distances"), "oom"), (SystemExit(2), "crash")])
def test_failures_while_judging(
    error: BaseException, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise error

    monkeypatch.setattr("bench.metrics.evaluate", fail)
    assert run_cell(cell(tmp_path)) == 1
    (made,) = records(tmp_path)
    assert made["status"] == status
    assert made["trace"], "what training found is kept"


def test_numbers_that_are_not_finite_become_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.metrics.evaluate", lambda *given: {"nll": float("nan"), "mmd": 0.5, "cost_gap": None})
    assert run_cell(cell(tmp_path)) == 0
    assert records(tmp_path)[0]["metrics"] == {"nll": None, "mmd": 0.5, "cost_gap": None}


def test_ctrl_c_keeps_the_checkpoint_and_the_same_command_resumes(tmp_path: Path) -> None:
    cfg = cell(tmp_path / "a", solver={"mode": "interrupt", "marker": str(tmp_path / "marker")})
    with pytest.raises(KeyboardInterrupt):
        run_cell(cfg)
    assert len(list((tmp_path / "a" / "checkpoints").iterdir())) == 1
    assert records(tmp_path / "a") == []
    assert run_cell(cfg) == 0
    assert run_cell(cell(tmp_path / "b")) == 0
    (broken,), (whole,) = records(tmp_path / "a"), records(tmp_path / "b")
    assert broken["metrics"] == whole["metrics"]
    assert [entry["valid_nll"] for entry in broken["trace"]] == [entry["valid_nll"] for entry in whole["trace"]]
    assert not list((tmp_path / "a" / "checkpoints").iterdir())


# -- writing


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    link = os.link

    def full(source: Path, target: Path) -> None:
        if target.suffix == ".json":  # there was room when the run began
            raise OSError(28, "No space left on device")
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", full)
        assert run_cell(cell(tmp_path)) == run.NOT_WRITTEN
    assert "error: the record was not written (No space left on device)" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    monkeypatch.setattr("tests.stubs.DecayFit.step", lambda self: pytest.fail("solved again"))
    assert run_cell(cell(tmp_path)) == 0, "with room again, nothing is lost"


def test_the_first_of_two_writers_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = cell(tmp_path)
    rival = record.new(identify(cfg), "ok", "the rival's", "2000-01-01")
    begin = loop.run

    def slow(*given: Any) -> Any:
        record.write(tmp_path / "runs", rival)
        return begin(*given)

    monkeypatch.setattr(loop, "run", slow)
    assert run_cell(cfg) == 0
    assert records(tmp_path) == [json.loads(json.dumps(rival))]
    assert not list((tmp_path / "runs").glob("*.npz")), "a picture of another run"
    assert "another process was first" in capsys.readouterr().out


def test_an_unwritable_folder_is_found_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").touch()
    monkeypatch.setattr(loop, "run", lambda *a: pytest.fail("run first"))
    assert run_cell(cell(tmp_path)) == run.NOT_WRITTEN
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert "cannot be written to" in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


def test_an_old_picture_does_not_stay_beside_a_new_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: object) -> None:
        raise KeyError("weights")

    cfg = cell(tmp_path)
    picture = tmp_path / "runs" / f"{record.key(identify(cfg))}.npz"
    picture.parent.mkdir()
    picture.write_bytes(b"old")
    monkeypatch.setattr("bench.pictures._plane", fail)
    assert run_cell(cfg) == 0
    assert not picture.exists()
    assert capsys.readouterr().err == "warning: no picture: KeyError: 'weights'\n"


def test_a_run_that_is_killed_while_it_is_drawn_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*given: object) -> None:
        raise SystemExit(9)

    cfg = cell(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("bench.pictures.save", killed)
        with pytest.raises(SystemExit):
            run_cell(cfg)
    (made,) = records(tmp_path)
    assert made["status"] == "ok"
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {f"{made['key']}.json"}
    monkeypatch.setattr(loop, "run", lambda *a: pytest.fail("run again"))
    assert run_cell(cfg) == 0


def test_judging_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cell(cell(tmp_path, "progress=true")) == 0
    assert capsys.readouterr().err == "stubs shifted seed 0: judging\n"


def test_a_file_in_the_records_place_is_named_and_kept(tmp_path: Path) -> None:
    cfg = cell(tmp_path)
    path = tmp_path / "runs" / f"{record.key(identify(cfg))}.json"
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(BadInput, match="move it away"):
        run_cell(cfg)
    assert path.read_text() == "{}"


# -- bad input


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["budget.seconds=0"], r"budget\.seconds is 0: it must be more than 0"),
        (["budget.steps=-2"], r"budget\.steps is -2"),
        (["budget.seconds=soon"], r"budget\.seconds must be a number"),
        (["validation.spacing=1.5"], r"validation\.spacing must lie in \(0, 1\]"),
        (["validation.rows=0"], r"validation\.rows"),
        (["validation.every=0"], r"validation\.every"),
        (["+validation.colour=red"], "colour"),
        (["dtype=float16"], "dtype must be one of float32, float64"),
        (["device=tpu"], "device must be cpu, cuda"),
        (["device=cuda:99"], "CUDA devices here: use device=cpu"),
        (["threads=0"], "threads must be a whole number of 1 or more"),
        (["seed=-1"], "seed must be a whole number of 0 or more"),
        (["seed=9223372036854775808"], r"seed must be less than 2\^63, not 9223372036854775808"),
        (["evaluate.seconds=0"], r"evaluate\.seconds"),
    ],
)
def test_settings_that_cannot_be(overrides: Sequence[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=words):
        run_cell(cell(tmp_path, *overrides))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("solver", "words"),
    [
        ({"raet": 0.1}, r"solver\.raet: tests\.stubs\.Decay has no such field: choose from mode, at, rate"),
        ({"_target_": "tests.stubs.Nobody"}, "Nobody"),
        ({"_target_": "nowhere.Solver"}, "nowhere"),
        ({"_target_": "tests.broken.Solver"}, "the reason"),
        ({"_target_": "builtins.dict"}, "not a dataclass"),
        ({"_target_": None}, r"solver\._target_ is missing"),
        ({"_target_": "tests.stubs.touch", "path": "called"}, "touch is not a dataclass"),
        ({"marker": {"_target_": "tests.stubs.touch", "path": "called"}}, "touch is not a dataclass"),
        ({"marker": {"x": [{"_target_": "tests.stubs.touch", "path": "called"}]}}, "touch is not a dataclass"),
    ],
)
def test_a_solver_that_cannot_be_built(
    solver: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=words) as caught:
        run_cell(cell(tmp_path, solver=solver))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing is called"


def test_missing_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.base import DataError

    def load(self: Shifted, root: Path) -> Problem:
        assert root == tmp_path / "data"
        raise DataError("power is missing:\n  fetch it")

    monkeypatch.setattr(Shifted, "load", load)
    with pytest.raises(BadInput, match=r"^power is missing: fetch it$"):
        run_cell(cell(tmp_path, f"data.root='{tmp_path}/data'"))
    assert records(tmp_path) == []


def test_overrides_of_fields_that_the_configuration_leaves_out() -> None:
    assert lenient("solver.width=3") == ["++solver.width=3"]
    assert lenient("dataset.dim=1,2") == ["++dataset.dim=1,2"]
    assert lenient("solver=otflow") == ["solver=otflow"]
    assert lenient("budget.steps=3") == ["budget.steps=3"]
    assert lenient("solver._target_=a.B") == ["~solver", "tuned=none", "++solver._target_=a.B"]
    with pytest.raises(BadInput, match=r"no tuned nonsense: choose from .*otflow_8gaussians"):
        lenient("tuned=nonsense")


# -- timing of inference


def problem(rows: int) -> Problem:
    return Shifted(rows).load(Path())


def test_inference_is_timed_over_the_whole_test_set() -> None:
    asked: list[int] = []

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        return Normal().log_prob(x)

    found = inference(problem(500), Transport(log_prob=log_prob, inverse=lambda z: z), 300.0)
    assert found["evaluate_rows"] == 500
    assert asked[-len(found["evaluate_repeats"]) :] == [500] * len(found["evaluate_repeats"])
    assert found["sample_seconds"] > 0


def test_inference_is_cut_where_it_would_take_too_long() -> None:
    import time

    slow = Transport(log_prob=lambda x: time.sleep(0.002 * len(x)))  # type: ignore[arg-type, return-value]
    found = inference(problem(500), slow, 0.4)
    assert 40 <= found["evaluate_rows"] <= 200
    assert found["evaluate_seconds"] >= 0.002 * found["evaluate_rows"]
    assert found["sample_seconds"] is None


def test_an_estimate_is_timed_and_its_spread_known() -> None:
    def estimate(x: torch.Tensor) -> torch.Tensor:
        return Normal().log_prob(x) + 0.5 * (2 * (torch.arange(len(x)) % 2) - 1)

    found = inference(problem(500), Transport(log_prob=Normal().log_prob, log_prob_estimate=estimate), 300.0)
    assert found["estimate_seconds"] > 0
    assert len(found["estimate_repeats"]) >= 3
    assert found["estimate_spread"] == pytest.approx(0.5)
    without = inference(problem(500), Transport(log_prob=Normal().log_prob), 300.0)
    assert {without[f"estimate_{name}"] for name in ("seconds", "repeats", "spread")} == {None}


def test_inference_of_what_breaks_down_is_none() -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise Diverged("underflow")

    found = inference(problem(9), Transport(log_prob=fail, inverse=lambda z: z), 1.0)
    assert found["evaluate_seconds"] is None
    assert found["sample_seconds"] > 0


# -- the command line


def command(*words: str, results: Path | None = None) -> "subprocess.CompletedProcess[str]":
    where = [] if results is None else [f"results='{results}'"]
    script = [sys.executable, "-m", "bench.run", *where, *words]
    return subprocess.run(script, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["suite=quick", "--cfg", "hydra"]])
def test_help_and_configuration_do_without_torch(words: list[str]) -> None:
    script = [sys.executable, "-X", "importtime", "-m", "bench.run", *words]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "budget" in done.stdout or "sweeper" in done.stdout
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "bench.record" in imported
    assert not {"torch", "pandas", "solvers.base", "datasets.base"} & imported


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solver=nobody"], "error: no solver nobody: choose from cfm, cfm_moments, cfm_soap, constant, "),
        (["dataset=nothing"], "error: no dataset nothing: choose from "),
        (["suite=nothing"], "error: no suite nothing: choose from discretize, mnist_latent, paper, quick, tabular, "),
        (["tuned=nothing"], "error: no tuned nothing: choose from "),
        (["colour=red"], "error: no colour: choose from hydra, seed, dtype, device, threads, budget, "),
        (["budget.second=3"], "error: no budget.second: choose from seconds, steps, evaluations, target\n"),
        (["-m", "hydra.launcher.slot=2"], "error: no hydra.launcher.slot: choose from "),
        (["-m", "hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=8G"], "error: hydra.launcher.mem_gb must be "),
        (["-m", "suite=quick,tabular"], "error: suite takes one name"),
        (["-m", "solver=otflow,nobody"], "error: no solver nobody: choose from "),
        (["-m", "budget.seconds=0"], "error: budget.seconds is 0: it must be more than 0"),
        (["-m", "dtype=float16"], "error: dtype must be one of float32, float64"),
        (["solver=cfm_soap", "solver.whiten=no"], "error: solver.whiten must be true or false, not 'no'\n"),
        (["-m", "solver.lr=abc"], "error: solver.lr must be a number, not 'abc'\n"),
        (["solver=ffjord", "solver.hidden=64"], "error: solver.hidden must be a list, as in [64,64], not 64\n"),
        (["-m", "solver.typo=1"], "error: solver.typo: solvers.otflow.OTFlow has no such field"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = command(*words, results=tmp_path / "results")
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "results").exists()


def test_one_line_of_an_error_without_options() -> None:
    assert one_line(ValueError("first\nsecond")) == "first"
    assert one_line(ValueError()) == "ValueError"


STUB = ["solver._target_=tests.stubs.Decay", "dataset._target_=tests.stubs.Shifted", "budget.steps=5", "threads=1"]


@pytest.mark.parametrize("words", [["-m", "seed=0,1"], ["seed=0"]])
def test_a_plan_is_told_and_nothing_runs(words: list[str], tmp_path: Path) -> None:
    done = command(*words, *STUB, "plan=true", results=tmp_path / "results")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    n = 2 if "-m" in words else 1
    assert [line.split() for line in lines[:-1]] == [
        ["solver", "dataset", "cells", "done", "failed", "to", "go", "time"],
        ["stubs", "shifted", f"{n}", "0", "0", f"{n}", f"{n}", "of", "unknown", "time"],
    ]
    assert lines[-1] == f"cells {n}: left {n}; {n} of unknown time to go, 1 at a time"
    assert not (tmp_path / "results").exists()


def test_a_solver_from_outside_on_a_path_with_spaces(tmp_path: Path) -> None:
    results = tmp_path / "my results é"
    done = command(*STUB, "solver.rate=0.2", results=results)
    assert done.returncode == 0
    *before, last = done.stderr.splitlines()
    assert last == "stubs shifted seed 0: judging"
    assert all(line.startswith("stubs shifted seed 0: ") for line in before), "a slow machine says how far it is"
    (made,) = records(results)
    assert made["config"]["solver"] == {
        "_target_": "tests.stubs.Decay",
        "version": 1,
        "mode": "ok",
        "at": 3,
        "rate": 0.2,
        "max_steps": None,
        "seconds": 0.0,
        "marker": "",
    }


@pytest.mark.slow
def test_ctrl_c_on_the_command_line(tmp_path: Path) -> None:
    words = [*STUB, "solver.mode=interrupt", f"solver.marker='{tmp_path}/marker'"]
    done = command(*words, results=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "interrupted: the same command resumes")
    assert done.stdout == ""
    assert records(tmp_path) == []
    assert command(*words, results=tmp_path).returncode == 0
    assert len(records(tmp_path)) == 1


SWEEP = ["-m", "hydra.launcher.module=tests.stub_job", "seed=0,1,2"]


def test_a_sweep_and_the_same_again(tmp_path: Path) -> None:
    done = command(*SWEEP, results=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        f"[{i + 1}/3] stub none seed {i}" for i in range(3)
    ]
    assert len(records(tmp_path)) == 3
    again = command(*SWEEP, results=tmp_path)
    assert again.returncode == 0
    assert again.stdout.count("[cached]") == 3
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "started", ".sweep"}


def test_a_sweep_with_a_failure_goes_on_and_says_so(tmp_path: Path) -> None:
    done = command(*SWEEP, "++mode=diverged,exit,killed,unfit,ok", "seed=0", results=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "3 of 5 cells failed"
    assert sorted(made["status"] for made in records(tmp_path)) == ["crash", "diverged", "ok", "unfit"]


def test_a_sweep_that_meets_what_does_not_fit_succeeds(tmp_path: Path) -> None:
    assert command(*SWEEP, "++mode=unfit,ok", "seed=0", results=tmp_path).returncode == 0


def test_the_launchers_limit(tmp_path: Path) -> None:
    done = command(*SWEEP, "++mode=hang", "seed=0", "hydra.launcher.limit_seconds=2", results=tmp_path)
    assert done.returncode == 1
    assert records(tmp_path)[0]["status"] == "timeout"


@pytest.mark.slow
def test_a_sweep_of_the_real_module(tmp_path: Path) -> None:
    done = command("-m", *STUB, "seed=0,1", "++solver.mode=ok,crash", results=tmp_path)
    assert done.returncode == 1
    assert sorted(made["status"] for made in records(tmp_path)) == ["crash", "crash", "ok", "ok"]
    assert {made["env"]["launcher"] for made in records(tmp_path) if made["status"] == "ok"} == {"isolated"}
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.slow
def test_an_interrupted_job_of_a_sweep_is_resumed_by_the_next(tmp_path: Path) -> None:
    words = ["-m", *STUB, "solver.mode=interrupt", f"solver.marker='{tmp_path}/marker'"]
    done = command(*words, results=tmp_path)
    assert done.returncode == 1
    assert "no record (interrupted: the same command resumes)" in done.stdout
    assert records(tmp_path) == []
    assert command(*words, results=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["moments", "otflow", "ffjord"])
def test_real_solvers_resume_to_the_same_record(solver: str, tmp_path: Path) -> None:
    small = [f"solver={solver}", "dataset=moons", "budget.steps=6", "validation.rows=100", "dtype=float64", "threads=1"]
    small += [] if solver == "moments" else ["solver.batch_size=100"]
    whole = command(*small, results=tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    script = f"""
import os, runpy, signal, sys
from bench import loop
loop.CHECKPOINT_SECONDS = 0.0
save, saves = loop._Loop._save, []
def dying(self, fit):
    save(self, fit)
    saves.append(1)
    if len(saves) == 4 or self.tally.ended: os.kill(os.getpid(), signal.SIGKILL)
loop._Loop._save = dying
sys.argv[1:] = {[f"results='{tmp_path}/broken'", *small]!r}
runpy.run_module("bench.run", run_name="__main__", alter_sys=True)
"""
    killed = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=200, check=False)
    assert killed.returncode == -9
    assert command(*small, results=tmp_path / "broken").returncode == 0
    (a,), (b,) = records(tmp_path / "whole"), records(tmp_path / "broken")
    assert a["key"] == b["key"]
    assert a["metrics"] == b["metrics"]
    assert [entry["valid_nll"] for entry in a["trace"]] == [entry["valid_nll"] for entry in b["trace"]]

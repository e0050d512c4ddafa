import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from bench import lease, record, rerun
from bench.record import BadInput
from bench.run import identify
from tests.bench import fake_records

ROOT = Path(__file__).parents[2]
CONF = str(ROOT / "bench" / "conf")


def config_of(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(CONF, version_base="1.3"):
        return identify(compose("config", list(overrides)))


def crashed(results: Path, *overrides: str) -> record.Record:
    made = record.new(config_of(*overrides), "crash", "as it was", "2000-01-01")
    record.write(results / "runs", made)
    return made


@pytest.mark.parametrize(
    "overrides",
    [
        ("solver=otflow", "dataset=moons", "budget.seconds=0.5", "threads=1", "dtype=float64"),
        ("solver=ffjord", "dataset=digits", "seed=3", "validation.rows=7", "evaluate.seconds=1e-5"),
        ("solver=moments", "dataset=gaussians", "dataset.dim=3", "budget.target=-2.5"),
        ("tuning.trials=20", "tuning.seconds=30"),
        ("tuned=none", "~solver", "++solver._target_=tests.stubs.Decay", "++solver.marker='a \\'b\\' {c}, é'"),
    ],
)
def test_a_record_makes_its_own_cell_again(overrides: tuple[str, ...]) -> None:
    config = json.loads(json.dumps(config_of(*overrides)))
    assert record.key(config_of(*rerun.words(config))) == record.key(config)


def test_which_cells_are_wanted() -> None:
    ok, oom = fake_records.make(), fake_records.make(seed=1, status="oom")
    asked = [{"failed": "true"}, {"status": "oom,crash"}, {"key": ok["key"]}, {"status": "ok"}, {"status": "crash"}]
    assert [(rerun.wanted(ok, own), rerun.wanted(oom, own)) for own in asked] == [
        (False, True), (False, True), (True, False), (True, False), (False, False)]  # fmt: skip
    assert not rerun.wanted(fake_records.make(status="unfit"), {"failed": "true"})
    for own, words in (({}, "say which"), ({"status": "bad"}, "no status bad"), ({"failed": "1"}, "true or false")):
        with pytest.raises(BadInput, match=words):
            rerun.wanted(ok, own)


def test_nothing_is_lost_when_a_record_is_superseded(tmp_path: Path) -> None:
    runs, fresh = tmp_path / "runs", tmp_path / "fresh"
    one = fake_records.make(reason="0")
    path = runs / f"{one['key']}.json"
    record.write(runs, one)
    second = path.with_name(f"{path.name}.tmp.{record.machine()}.999999999")
    os.link(path, second)  # of a process that was killed before it removed this
    (runs / f"{one['key']}.npz").write_text("old")
    for n in (1, 2):
        record.write(fresh, {**one, "reason": str(n)})
        (fresh / f"{one['key']}.npz").write_text(str(n))
        rerun.aside(path)  # as if a crash had come in between
        rerun.supersede_all(fresh, runs)
        assert (runs / f"{one['key']}.npz").read_text() == str(n)
    reasons = [
        json.loads(Path(f"{path}{suffix}").read_text())["reason"] for suffix in (".superseded.1", ".superseded.2", "")
    ]
    assert reasons == ["0", "1", "2"]
    record.sweep_stale(runs)
    assert len(list(runs.iterdir())) == 4
    assert list(fresh.iterdir()) == []
    assert len(record.read_all([runs])[0]) == 1


@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("cut_off", range(6))
def test_cut_off_anywhere_no_picture_lies_beside_another_runs_record(
    drawn: bool, cut_off: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, fresh = tmp_path / "runs", tmp_path / "fresh"
    one = fake_records.make(reason="old")
    name = one["key"]
    fake_records.store(runs, [one])
    fake_records.store(fresh, [{**one, "reason": "new"}])
    (runs / f"{name}.npz").write_text("old")
    if drawn:
        (fresh / f"{name}.npz").write_text("new")
    calls = []

    def dying(real: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == cut_off + 1:
                raise KeyboardInterrupt
            return real(*given, **named)

        return call

    with monkeypatch.context() as patch:
        for function in ("link", "replace", "unlink"):
            patch.setattr(os, function, dying(getattr(os, function)))
        with suppress(KeyboardInterrupt):
            rerun.supersede_all(fresh, runs)
    picture, record_there = runs / f"{name}.npz", record.read(runs / f"{name}.json")
    assert not picture.exists() or picture.read_text() == record_there["reason"]
    rerun.supersede_all(fresh, runs)
    record.sweep_stale(runs)
    kept = {path.name for path in runs.iterdir()}
    assert kept == {f"{name}.json", f"{name}.json.superseded.1", *([f"{name}.npz"] if drawn else [])}
    assert record.read(runs / f"{name}.json")["reason"] == "new"
    assert json.loads((runs / f"{name}.json.superseded.1").read_text())["reason"] == "old"
    assert not drawn or picture.read_text() == "new"
    assert list(fresh.iterdir()) == []


def test_a_cell_that_cannot_be_made_any_more_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    swept: list[Any] = []
    monkeypatch.setattr("bench.launcher.sweep", lambda jobs, *given, **named: swept.extend(jobs) or ["ok"] * len(jobs))
    made = crashed(tmp_path, "tuned=none", "threads=1")
    config = made["config"]
    odd = [{**config, "budget": {**config["budget"], "second": 3}}, {**config, "solver": {**config["solver"], "x": 1}}]
    keys = [record.key(one) for one in odd]
    for one in odd:
        record.write(tmp_path / "runs", record.new(one, "crash", "", "2000-01-01"))
    assert rerun.main([f"results={tmp_path}", "failed=true"]) == 0
    assert [record.key(job.config) for job in swept] == [made["key"]]
    said = capsys.readouterr().out
    assert f"{keys[0]} cannot be made any more (no budget.second: choose from seconds, " in said
    assert f"{keys[1]} cannot be made any more (solver.x: solvers.otflow.OTFlow has no such field" in said
    assert rerun.main([f"results={tmp_path}", f"key={keys[0]}"]) == 2, "none is left"


def test_failed_cells_run_again(tmp_path: Path) -> None:
    results = tmp_path / "my results"
    stub = ("tuned=none", "~solver", "++solver._target_=tests.stubs.Decay", "~dataset",
            "++dataset._target_=tests.stubs.Shifted", "budget.steps=3", "threads=1", "dtype=float64")  # fmt: skip
    mended, still = crashed(results, *stub), crashed(results, *stub, "++solver.mode=crash", "++solver.at=1")
    gone = record.new({**mended["config"], "solver": {**mended["config"]["solver"], "version": 0}}, "oom", "", "2000")
    record.write(results / "runs", gone)
    command = [sys.executable, "-m", "bench.rerun", "failed=true", f"results={results}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    assert f"{gone['key']} (stubs shifted seed 0) is another cell by now, {mended['key']}" in done.stdout
    found = {path.name: json.loads(path.read_text()) for path in (results / "runs").glob("*.json*")}
    assert found[f"{mended['key']}.json"]["status"] == "ok"
    assert found[f"{still['key']}.json"]["reason"] == "KeyError: 'weights'"
    assert {found[f"{one['key']}.json.superseded.1"]["reason"] for one in (mended, still)} == {"as it was"}
    assert len(found) == 5
    assert list((results / ".rerun" / "runs").iterdir()) == []


def test_cells_run_again_on_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def sweep(jobs: Any, module: str, request: Any) -> list[str]:
        seen.update(words=jobs[0].overrides, request=request)
        return ["ok"]

    monkeypatch.setattr("bench.cluster.sweep", sweep)
    crashed(tmp_path, "tuned=none", "threads=1")
    given = ["hydra/launcher=submitit_slurm", "+hydra.launcher.parameters.partition=long"]
    assert rerun.main([f"results={tmp_path}", "failed=true", *given]) == 0
    assert seen["request"].parameters["partition"] == "long"
    assert not [word for word in seen["words"] if "launcher" in word]


ANOTHER = """
import sys
from pathlib import Path
from bench import lease
with lease.alone(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    input()
"""


def test_a_second_one_says_so_and_leaves_the_records_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = crashed(tmp_path, "tuned=none")
    fresh = tmp_path / ".rerun" / "runs"
    record.write(fresh, {**made, "reason": "of the first"})
    asked = [f"results={tmp_path}", "status=oom"]
    command = [sys.executable, "-c", ANOTHER, str(tmp_path / ".rerun" / "lock")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "True\n"
        assert rerun.main(asked) == 2
        first.communicate("\n")
    said = capsys.readouterr().err
    assert said == f"error: another bench.rerun is at work in {tmp_path / '.rerun'}: run this once it has ended\n"
    assert len(list(fresh.iterdir())) == 1
    assert rerun.main(asked) == 0
    assert record.read(tmp_path / "runs" / f"{made['key']}.json")["reason"] == "of the first"


def test_it_holds_the_lock_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashed(tmp_path, "tuned=none", "threads=1")
    command = [sys.executable, "-c", ANOTHER, str(tmp_path / ".rerun" / "lock")]
    answers = []

    def sweep(jobs: Any, *given: Any, **named: Any) -> list[str]:
        lease.held(jobs[0].runs.parent, record.key(jobs[0].config))  # as a sweep does: it drops locks of its own file
        done = subprocess.run(command, cwd=ROOT, input="\n", capture_output=True, text=True, check=True)
        answers.append(done.stdout)
        return ["ok"]

    monkeypatch.setattr("bench.launcher.sweep", sweep)
    assert rerun.main([f"results={tmp_path}", "failed=true"]) == 0
    assert answers == ["False\n"]


def test_a_strangers_record_calls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**config_of("tuned=none"), "solver": {"_target_": "tests.stubs.touch", "path": str(tmp_path / "called")}}
    record.write(tmp_path / "runs", record.new(config, "crash", "", "2000-01-01"))
    assert rerun.main([f"results={tmp_path}", "failed=true"]) == 2
    assert "tests.stubs.touch is not a dataclass of settings" in capsys.readouterr().err
    assert not (tmp_path / "called").exists()


def test_bad_input_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crashed(tmp_path, "tuned=none")
    assert rerun.main([f"results={tmp_path}"]) == 2
    assert capsys.readouterr().err == "error: say which cells to run again: failed=true, status=... or key=...\n"
    assert rerun.main([f"results={tmp_path}", "status=oom"]) == 0
    assert capsys.readouterr().out == "nothing to run again\n"
    assert rerun.main([f"results={tmp_path}", "key=0123"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'runs'} has no record 0123\n"

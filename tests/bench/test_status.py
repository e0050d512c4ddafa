import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import plan, record, status, why
from tests.bench import fake_records

ROOT = Path(__file__).parents[2]


def planned(results: Path, records: list[record.Record], started: str = "2026-01-01T00:00:00+00:00") -> plan.Plan:
    cells = tuple(plan.Cell(one["key"], record.title(one["config"]), ("seed=0",)) for one in records)
    made = plan.Plan(started, "isolated", cells)
    plan.write(results, made)
    return made


def told(results: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = status.main([f"results={results}", *words])
    return code, "".join(capsys.readouterr())


def test_what_is_done_running_failed_and_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [fake_records.make(seed=seed) for seed in range(5)]
    made.append(fake_records.make("ffjord", status="oom", reason="9 GB asked for"))
    one = planned(tmp_path, made)
    fake_records.store(tmp_path / "runs", [*made[:2], made[-1], fake_records.make("moments")])
    plan.note(tmp_path, one, {made[2]["key"]: "2026-01-01T00:00:00+00:00"})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{made[3]['key']}.pt").touch()
    code, text = told(tmp_path, capsys=capsys)
    assert code == 1
    assert "cells 6, done 3, failed 1, running 1, left 2" in text
    assert "running\n  otflow 8gaussians seed 2, for" in text
    assert "failed: 1 oom\n  ffjord 8gaussians seed 0: oom (9 GB asked for)" in text
    assert "begun, to be resumed\n  otflow 8gaussians seed 3\n" in text
    assert "to go" in text
    plan.note(tmp_path, one, {})
    assert "running 0, left 3" in told(tmp_path, capsys=capsys)[1]


def test_the_sweep_started_last_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = planned(tmp_path, [fake_records.make()], "2026-01-01T00:00:00+00:00")
    new = planned(tmp_path, [fake_records.make(seed=1)], "2026-01-02T00:00:00+00:00")
    code, text = told(tmp_path, capsys=capsys)
    assert code == 0
    assert f"sweep {new.id}" in text
    assert f"sweep {old.id}" not in text
    assert f"other sweeps of the folder (sweep=ID, all=true)\n  {old.id}, started {old.started}: 1 cells\n" in text
    text = told(tmp_path, "all=true", capsys=capsys)[1]
    assert text.index(f"sweep {new.id}") < text.index(f"sweep {old.id}")
    assert "other sweeps" not in text


def test_a_sweep_is_chosen_by_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = planned(tmp_path, [fake_records.make()], "2026-01-01T00:00:00+00:00")
    new = planned(tmp_path, [fake_records.make(seed=1)], "2026-01-02T00:00:00+00:00")
    text = told(tmp_path, f"sweep={old.id[:6]}", capsys=capsys)[1]
    assert f"sweep {old.id}" in text
    assert f"sweep {new.id}" not in text
    code, text = told(tmp_path, "sweep=nowhere", capsys=capsys)
    assert (code, text) == (1, f"bench.status: no sweep nowhere: choose from {new.id}, {old.id}\n")


def test_files_that_are_none_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned(tmp_path, [fake_records.make()])
    (tmp_path / ".sweep" / "0123.json").write_text('{"cells": 3}')
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "foreign.json").write_text("[]")
    code, text = told(tmp_path, capsys=capsys)
    assert code == 2
    assert "0123.json: not the plan of a sweep" in text
    assert "foreign.json: not a JSON object" in text


def test_nothing_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(tmp_path, capsys=capsys) == (1, f"bench.status: no sweep has been started in {tmp_path}\n")
    assert told(tmp_path, "wrong=1", capsys=capsys)[1].startswith(
        "bench.status: cannot use wrong: give results=..., sweep=..., all="
    )


def test_what_a_dead_launcher_ran_is_not_running(tmp_path: Path) -> None:
    one = planned(tmp_path, [fake_records.make()])
    left = tmp_path / ".sweep" / f"{one.id}.now.{record.machine()}.999999999.json"
    left.write_text('{"x": "y"}')
    assert plan.running(tmp_path, one) == {}
    assert not left.exists()


def test_what_a_launcher_of_another_machine_runs_is_believed_for_a_day(tmp_path: Path) -> None:
    one = planned(tmp_path, [fake_records.make()])
    left = tmp_path / ".sweep" / f"{one.id}.now.{'0' * 8}.999999999.json"
    left.write_text('{"x": "y"}')
    assert plan.running(tmp_path, one) == {"x": "y"}
    os.utime(left, (1e9, 1e9))
    assert plan.running(tmp_path, one) == {}
    assert not left.exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"cells": [3]}', b'{"cells":[],"started":"","launcher":"","schema":9}']
)
def test_what_is_no_plan(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(plan.PlanError, match=r"a\.json"):
        plan.read(path)


def test_why_two_keys_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = fake_records.make(), fake_records.make(settings={"width": 64, "extra": [1]}, seed=1)
    fake_records.store(tmp_path, [one, two])
    assert why.main([one["key"][:8], two["key"], f"records={tmp_path}"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()[2:]) == [
        "  seed: 0 | 1",
        "  solver.extra: (absent) | [1]",
        "  solver.width: 32 | 64",
    ]
    assert why.main([one["key"], str(tmp_path / f"{one['key']}.json"), f"records={tmp_path}"]) == 1
    assert why.main([str(tmp_path / one["key"][:8]), two["key"], f"records={tmp_path}"]) == 0
    assert why.main([str(tmp_path / "nothing"), two["key"], f"records={tmp_path}"]) == 2
    assert f"no record nothing in {tmp_path}: " in capsys.readouterr().err
    assert why.main([one["key"], "nothing", f"records={tmp_path}"]) == 2
    assert why.main(["", "", f"records={tmp_path}"]) == 2
    assert "begins 2 keys" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["bench.status", "bench.rerun", "bench.why", "bench.tune"])
def test_help_is_quick_and_without_torch(module: str) -> None:
    heavy = "{'torch', 'pandas', 'hydra', 'solvers', 'datasets'}"
    code = f"import {module} as m, sys; m.main(['--help']); sys.exit(bool({heavy} & set(sys.modules)))"
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert time.monotonic() - begin < 5, "a second on an idle machine"
    assert f"python -m {module}" in done.stdout


def test_a_long_sweep_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [fake_records.make(seed=seed, status="crash", reason=str(os.getpid())) for seed in range(30)]
    planned(tmp_path, made)
    fake_records.store(tmp_path / "runs", made)
    assert "and 10 more" in told(tmp_path, capsys=capsys)[1]

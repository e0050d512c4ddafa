import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import env, launcher, record
from bench.launcher import Exit, Job, explain, sweep
from tests.stub_job import config_of

ROOT = Path(__file__).parents[2]
STUB = "tests.stub_job"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups and parent-death signals of Linux")


def job(results: Path, mode: str = "ok", seed: int = 0, limit: float | None = 60.0) -> Job:
    config = config_of(mode, seed)
    overrides = (f"results={results}", f"mode={mode}", f"seed={seed}")
    return Job(config, overrides, results / "runs", results / "checkpoints" / f"{record.key(config)}.pt", limit)


def run(*jobs: Job) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return sweep(jobs, STUB, said.append), said


def started(results: Path) -> list[list[str]]:
    path = results / "started"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_each_job_leaves_a_record_and_a_line(tmp_path: Path) -> None:
    statuses, said = run(job(tmp_path, seed=0), job(tmp_path, "diverged"), job(tmp_path, seed=2))
    assert statuses == ["ok", "diverged", "ok"]
    assert said == [
        "[1/3] stub none seed 0: ok, test NLL 1.5000, 0.25 s",
        "[2/3] stub none seed 0: diverged (by its nature)",
        "[3/3] stub none seed 2: ok, test NLL 1.5000, 0.25 s",
    ]
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_jobs_run_in_processes_of_their_own_one_after_the_other(tmp_path: Path) -> None:
    run(job(tmp_path, seed=0), job(tmp_path, seed=1))
    (_, _, a, parent), (_, _, b, _) = started(tmp_path)
    assert len({a, b, str(os.getpid())}) == 3
    assert parent == str(os.getpid())


def test_a_job_with_a_record_is_not_started(tmp_path: Path) -> None:
    run(job(tmp_path, seed=0))
    statuses, said = run(job(tmp_path, seed=0), job(tmp_path, seed=1), job(tmp_path, seed=1))
    assert statuses == ["ok"] * 3
    assert [line.endswith("[cached]") for line in said] == [True, False, True]
    assert len(started(tmp_path)) == 2


@pytest.mark.parametrize(
    ("mode", "status", "reason"),
    [
        ("exit", "crash", "exit status 7 without a record"),
        ("raise", "crash", "exit status 1 without a record: ValueError: what was to be shown"),
        ("segfault", "crash", "ended by SIGSEGV"),
    ],
)
def test_a_job_that_dies_gets_a_record_and_spares_the_others(
    mode: str, status: str, reason: str, tmp_path: Path
) -> None:
    dying = job(tmp_path, mode)
    dying.checkpoint.parent.mkdir(parents=True)
    dying.checkpoint.touch()
    statuses, _ = run(dying, job(tmp_path))
    assert statuses == [status, "ok"]
    made = record.read(dying.path)
    assert (made["status"], made["reason"]) == (status, reason)
    assert set(made["env"]) == {*env.describe("cpu", "", 1), "noise"}
    assert (made["env"]["launcher"], made["env"]["slots"], made["env"]["noise"]) == ("isolated", 1, None)
    assert made["config"] == dying.config
    assert set(made["cost"]) == set(record.COST)
    assert not dying.checkpoint.exists(), "its record is final"


@pytest.mark.parametrize("mode", ["killed", "bad"])
def test_a_job_that_may_do_better_next_time_gets_no_record(mode: str, tmp_path: Path) -> None:
    statuses, said = run(job(tmp_path, mode), job(tmp_path))
    assert statuses == ["error", "ok"]
    assert not job(tmp_path, mode).path.exists()
    assert ("SIGKILL from outside" if mode == "killed" else "error: no such thing") in said[0]


@pytest.mark.parametrize("mode", ["hang", "fork"])
def test_the_limit_is_kept(mode: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    statuses, _ = run(job(tmp_path, mode, limit=2.0), job(tmp_path))
    assert time.monotonic() - begin < 2 + 60
    assert statuses == ["timeout", "ok"]
    reason = record.read(job(tmp_path, mode).path)["reason"]
    assert reason == ("killed after 2 s: about to hang" if mode == "hang" else "killed after 2 s")
    if mode == "fork":
        assert not alive(int((tmp_path / "grandchild").read_text()))


def test_what_a_job_leaves_running_is_killed(tmp_path: Path) -> None:
    assert run(job(tmp_path, "orphan"))[0] == ["ok"]
    wait_for(lambda: not alive(int((tmp_path / "grandchild").read_text())))


def test_a_job_may_print_without_end(tmp_path: Path) -> None:
    assert run(job(tmp_path, "loud"))[0] == ["ok"]


def test_a_file_that_is_no_record_is_named_and_kept(tmp_path: Path) -> None:
    path = job(tmp_path).path
    path.parent.mkdir(parents=True)
    path.write_text("{")
    statuses, said = run(job(tmp_path))
    assert statuses == ["error"]
    assert str(path) in said[0]
    assert path.read_text() == "{"


def test_a_full_disk_is_said_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    statuses, said = run(job(tmp_path, "exit"))
    assert statuses == ["error"]
    assert said[0].endswith("and no record: No space left on device")
    assert list((tmp_path / "runs").iterdir()) == []


def test_killed_for_want_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([3, 4])
    monkeypatch.setattr(launcher, "_oom_kills", lambda: next(counts))
    assert run(job(tmp_path, "killed"))[0] == ["oom"]


def test_oom_kills_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 9\noom_kill 2\noom_group_kill 5\n")
    monkeypatch.setattr(launcher, "OOM_COUNTERS", (events, tmp_path / "missing"))
    assert launcher._oom_kills() == 2


def test_the_reason_is_the_last_thing_said_and_not_long() -> None:
    status, reason = explain(Exit(1, False, False, "a\n" + "b" * 10_000 + "\n\n"), None)
    assert status == "crash"
    assert reason.endswith("bbb")
    assert len(reason) < 400


# -- a launcher that is interrupted or killed

SCRIPT = """
import sys
from pathlib import Path
from bench import launcher
from tests.bench.test_launcher import job, STUB
jobs = [job(Path(sys.argv[1]), mode, int(seed)) for mode, seed in (word.split(":") for word in sys.argv[2:])]
try:
    launcher.sweep(jobs, STUB, lambda text: print(text, flush=True))
except launcher.Stopped:
    sys.exit(130)
"""


def begin_sweep(results: Path, *jobs: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SCRIPT, str(results), *jobs]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: started(results))
    return process


def test_a_job_dies_with_its_launcher(tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, "hang:0")
    pid = int(started(tmp_path)[0][2])
    assert alive(pid)
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(pid))
    assert not (tmp_path / "runs").exists()


def test_one_ctrl_c_finishes_the_running_job(tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, "slow:0", "ok:1")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.count("\n") == 1
    assert "seed 0: ok" in out
    assert "finishing the running job" in err
    assert len(started(tmp_path)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_twice_stops_now(number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = begin_sweep(tmp_path, "fork:0", "ok:1")
    wait_for((tmp_path / "grandchild").exists)
    begin = time.monotonic()
    process.send_signal(number)
    if number == signal.SIGINT:
        time.sleep(0.2)
        process.send_signal(number)
    process.communicate(timeout=30)
    assert time.monotonic() - begin < 60, "its jobs sleep for 600"
    assert process.returncode == 130
    assert not any(alive(int(row[2])) for row in started(tmp_path))
    wait_for(lambda: not alive(int((tmp_path / "grandchild").read_text())))
    assert not (tmp_path / "runs").exists(), "the same command resumes"

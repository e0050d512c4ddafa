import errno
import io
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from bench import env, keeper, launcher, lease, plan, process, record
from bench.board import Board
from bench.launcher import Job, cpu_sets, explain, sweep
from bench.process import Exit, Limits, Process
from bench.record import BadInput
from tests.bench import fake_records
from tests.bench.test_lease import begin as begin_holder
from tests.bench.test_lease import end as end_holder
from tests.stub_job import config_of

ROOT = Path(__file__).parents[2]
STUB = "tests.stub_job"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups and parent-death signals of Linux")


def job(results: Path, mode: str = "ok", seed: int = 0, limit: float | None = 60.0, memory: float | None = None) -> Job:
    config = config_of(mode, seed)
    overrides = (f"results={results}", f"mode={mode}", f"seed={seed}")
    checkpoint = results / "checkpoints" / f"{record.key(config)}.pt"
    return Job(config, overrides, results / "runs", checkpoint, Limits(limit, memory))


def run(*jobs: Job, slots: int = 1) -> tuple[list[str], list[str]]:
    """The statuses of a sweep, and the lines that it says."""
    said = io.StringIO()
    with redirect_stdout(said):
        statuses = sweep(jobs, STUB, slots)
    return statuses, said.getvalue().splitlines()


def started(results: Path) -> list[list[str]]:
    path = results / "started"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    for _ in range(int(seconds / 0.02)):  # counted, not timed: a machine that stops us for a while stops the others too
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited in vain")


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
    (a, parent), (b, other) = (row[2:] for row in started(tmp_path))
    assert len({a, b, parent, other, str(os.getpid())}) == 5


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
        *((f"exit{n}", "crash", f"exit status {n} without a record") for n in (0, 2, 3, 4, 130)),  # as bench.run's own
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


@pytest.mark.parametrize(
    ("command", "code", "excused"),
    [
        (["-m", "bench.run", "solver=nobody"], 2, True),
        (["-c", "import sys; sys.stderr.write('error: no solver nobody\\n'); sys.exit(2)"], 2, False),
        (["-c", "from bench import process; print('step 3', end='', flush=True); process.excuse(); exit(3)"], 3, True),
        (["-c", "import os; print(os.environ, flush=True); os._exit(2)"], 2, False),
    ],
)
def test_a_crash_is_told_from_an_end_without_a_result(command: list[str], code: int, excused: bool) -> None:
    """Whatever the exit status, and whatever was printed before."""
    one = Process([sys.executable, *command], Limits(), {})
    ended = one.wait(60.0)
    assert ended is not None
    assert (ended.code, ended.excused) == (code, excused)
    assert explain(ended)[0] == (None if excused else "crash")
    assert "by design" not in ended.tail


def within(seconds: float, results: Path, first: Job, *others: Job, limit: float | None = None) -> list[str]:
    """The statuses of a sweep whose first job ends at most `seconds` after its limit, from its start to its record.

    Tried three times: a machine that is stopped for a while is late once, a launcher that is late is so each time.
    """
    limit = limit or first.limits.seconds
    assert limit is not None
    took = []
    for _ in range(3):
        first.path.unlink(missing_ok=True)
        statuses, _ = run(first, *others)
        took.append(record.read(first.path)["cost"]["wall_seconds"])
        assert took[-1] > 0.1
        if took[-1] < limit + seconds:
            return statuses
    raise AssertionError(f"ended {took} s after its start, with a limit of {limit} s")


@pytest.mark.parametrize("mode", ["hang", "fork", "escape"])
def test_the_limit_is_kept(mode: str, tmp_path: Path) -> None:
    statuses = within(5.0, tmp_path, job(tmp_path, mode, limit=2.0), job(tmp_path))
    assert statuses == ["timeout", "ok"]
    reason = record.read(job(tmp_path, mode).path)["reason"]
    assert reason == ("killed after 2 s: about to hang" if mode == "hang" else "killed after 2 s")
    if mode != "hang":
        assert not alive(int((tmp_path / "grandchild").read_text()))


@pytest.mark.parametrize("mode", ["orphan", "daemon"])
def test_what_a_job_leaves_running_is_killed(mode: str, tmp_path: Path) -> None:
    assert run(job(tmp_path, mode))[0] == ["ok"]
    assert not alive(int((tmp_path / "grandchild").read_text()))


def test_a_job_of_a_keeper_that_is_killed_dies(tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, "hang:0")
    pid, parent = map(int, started(tmp_path)[0][2:])
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: not alive(pid), seconds=2.0)
    out, _ = process.communicate(timeout=30)
    assert "ended by SIGKILL from outside" in out


@pytest.mark.parametrize("mode", ["fork", "escape"])
def test_what_the_job_of_a_killed_keeper_has_forked_dies_and_no_other(mode: str, tmp_path: Path) -> None:
    killed, other = tmp_path / "killed", tmp_path / "other"
    jobs = [
        Process([sys.executable, "-m", STUB, f"results={folder}", f"mode={mode}", "seed=0"], Limits(), {})
        for folder in (killed, other)
    ]
    try:
        wait_for(lambda: all((folder / "grandchild").exists() for folder in (killed, other)))
        pids = {folder: [int(started(folder)[0][2]), int((folder / "grandchild").read_text())] for folder in
                (killed, other)}  # fmt: skip
        os.kill(int(started(killed)[0][3]), signal.SIGKILL)
        ended = jobs[0].wait(20.0)
        assert ended is not None
        assert ended.code == -signal.SIGKILL
        assert not any(map(alive, pids[killed]))
        assert jobs[1].wait(0.1) is None
        assert all(map(alive, pids[other]))
    finally:
        for one in jobs:
            one.kill()
    assert not any(map(alive, pids[other]))


def test_a_job_may_print_without_end(tmp_path: Path) -> None:
    assert run(job(tmp_path, "loud"))[0] == ["ok"]


def test_memory_without_end(tmp_path: Path) -> None:
    statuses = within(5.0, tmp_path, job(tmp_path, "allocate", memory=3e8), job(tmp_path), limit=2.0)
    assert statuses == ["oom", "ok"]
    reason = record.read(job(tmp_path, "allocate").path)["reason"]
    assert reason.startswith("killed at 0.") and reason.endswith("above its limit of 0.30 GB")  # noqa: PT018


def test_memory_of_what_a_job_has_forked_counts(tmp_path: Path) -> None:
    statuses, _ = run(job(tmp_path, "share", memory=3e8), job(tmp_path))
    assert statuses == ["oom", "ok"]


@pytest.mark.skipif(sys.platform != "linux", reason="names and states of processes are read where there is /proc")
def test_processes_whose_names_are_no_text_are_no_matter() -> None:
    """The system cuts a name at 15 bytes, in the middle of a character too."""
    name = "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xd0', 0, 0, 0); print(flush=True); input()"
    own = [sys.executable, "-S", "-c", name]
    with subprocess.Popen(own, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as odd:
        assert odd.stdout is not None
        odd.stdout.readline()
        assert odd.pid in keeper.descendants(os.getpid())
        assert record.alive(str(odd.pid))
        command = [sys.executable, "-I", "-S", keeper.__file__, "/bin/sh", "-c", "exit 75"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as kept:
            assert kept.wait(20) == 75
        odd.communicate(b"\n")


def test_a_command_that_is_not_there_is_named() -> None:
    command = [sys.executable, "-I", "-S", keeper.__file__, "/no/such/command"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as kept:
        assert kept.wait(20) == 127
        assert kept.stderr is not None
        assert b"/no/such/command" in kept.stderr.read()


def keep(injected: str, *command: str) -> "subprocess.Popen[bytes]":
    """A keeper of `command` in which `injected`, Python, comes first."""
    script = f"import os, signal, sys\nfrom bench import keeper\n{injected}\nkeeper.main(sys.argv[1:])"
    words = [sys.executable, "-c", script, *command]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_group_is_killed_while_its_number_is_its_own() -> None:
    """Once its leader's end has been asked for, the number may be given to another."""
    injected = """
def checked(group, number, killpg=os.killpg):
    print(os.path.exists(f"/proc/{group}"), flush=True)
    killpg(group, number)
os.killpg = checked
"""
    with keep(injected, "/bin/sh", "-c", "sleep 600 & exit 75") as kept:
        assert kept.wait(20) == 75
        assert kept.stdout is not None
        assert set(kept.stdout.read().split()) == {b"True"}


@pytest.mark.parametrize("option", ["PR_SET_CHILD_SUBREAPER", "PR_SET_PDEATHSIG"], ids=["keeper", "child"])
def test_a_command_that_is_not_there_yet_is_ended_by_sigterm(option: str) -> None:
    """The signal comes just before the fork, or just before the command takes the place of the keeper's child."""
    injected = f"""
def interrupted(option, value, prctl=keeper.prctl):
    prctl(option, value)
    if option == keeper.{option}:
        os.kill(os.getpid(), signal.SIGTERM)
keeper.prctl = interrupted
"""
    with keep(injected, "/bin/sleep", "600") as kept:
        try:
            assert kept.wait(10) == -signal.SIGTERM
        finally:
            assert kept.stdin is not None
            kept.stdin.close()


@pytest.mark.parametrize(
    ("injected", "command"),
    [
        (
            "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
            [sys.executable, "-S", "-c", "import signal as s, sys; sys.exit(75 * (not s.getsignal(s.SIGCHLD)))"],
        ),
        ("del os.waitid", ["/bin/sh", "-c", "while sleep 0.1; do kill -CONT $$; done & kill -STOP $$; exit 75"]),
    ],
    ids=["ignored", "stopped"],
)
def test_the_end_of_a_command_is_heard_and_nothing_else_is_taken_for_it(injected: str, command: list[str]) -> None:
    """SIGCHLD that the keeper inherits as ignored; a command that is stopped for a while, where there is no waitid."""
    with keep(injected, *command) as kept:
        try:
            assert kept.wait(10) == 75
        finally:
            kept.kill()


def test_memory_is_read_from_the_system() -> None:
    mine = process.resident([os.getpid()])
    with mmap.mmap(-1, 50_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:  # new pages: no freed heap
        for start in range(0, len(block), mmap.PAGESIZE):
            block[start] = 1
        grown = process.resident([os.getpid(), 999_999_999]) - mine
    assert 40e6 < grown < 70e6
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid in keeper.descendants(os.getpid())
    assert os.getpid() in keeper.descendants(os.getppid())
    child.communicate(b"\n")
    assert 1e8 < (process.memory_allowed() or 0) < 1e14


def test_slots_run_side_by_side_on_processors_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "cpu_sets", lambda slots: [frozenset({0}), frozenset(range(1, os.cpu_count() or 2))])
    jobs = [job(tmp_path, "slow", seed) for seed in range(4)]
    statuses, said = run(*jobs, job(tmp_path, "slow", 0), slots=2)
    assert statuses == ["ok"] * 5
    assert sum(line.endswith("[cached]") for line in said) == 1, "the same cell twice runs once"
    assert len(started(tmp_path)) == 4
    made = [record.read(one.path)["env"] for one in jobs]
    spans = [(env["begin"], env["end"]) for env in made]
    assert max(a for a, _ in spans[:2]) < min(b for _, b in spans[:2]), "two at once"
    assert all(sum(a < b2 and a2 < b for a2, b2 in spans) <= 2 + 1 for a, b in spans)
    assert {tuple(env["affinity"]) for env in made} == {(0,), tuple(range(1, os.cpu_count() or 2))}
    assert {(env["slots"], env["launcher"]) for env in made} == {(2, "isolated")}


def test_a_crash_in_a_slot_is_recorded_with_its_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "cpu_sets", lambda slots: [frozenset({0}), frozenset({1})])
    run(job(tmp_path, "exit"), slots=2)
    env = record.read(job(tmp_path, "exit").path)["env"]
    assert (env["slots"], env["affinity"]) == (2, [0])


def test_processors_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 3, 5, 6})
    assert cpu_sets(1) == [None]
    assert cpu_sets(2) == [{1, 2}, {3, 5}]
    for wrong, words in (
        (6, "may use 5 processors"),
        (0, "whole number"),
        (True, "whole number"),
        ("2", "whole number"),
    ):
        with pytest.raises(BadInput, match=words):
            cpu_sets(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cores", "slots", "sets"),
    [
        (["0,4", "1,5", "2,6", "3,7"], 2, [{0, 4, 1, 5}, {2, 6, 3, 7}]),
        (["0-1", "2-3"], 2, [{0, 1}, {2, 3}]),
        (["0,3", "1,4", "2,5"], 2, [{0, 3}, {1, 4}]),
        (["0-1", "2-3", "4", "5"], 2, [{0, 1}, {4, 5}]),
        (["0-1", "2"], 2, [{0}, {2}]),
        (["0,2", "1,3"], 3, [{0}, {2}, {1}]),
    ],
)
def test_slots_share_no_core_while_there_are_enough(
    cores: list[str], slots: int, sets: list[set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for core in cores:
        for cpu in re.findall(r"\d+", core):  # no range has more than two
            path = tmp_path / f"cpu{cpu}" / "topology" / "thread_siblings_list"
            path.parent.mkdir(parents=True)
            path.write_text(f"{core}\n")
    monkeypatch.setattr(launcher, "TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {int(path.name[3:]) for path in tmp_path.iterdir()})
    assert cpu_sets(slots) == sets


def test_a_sweep_says_what_it_does(tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, "hang:0", "ok:1")
    (made,), problems = plan.read_all(tmp_path)
    assert problems == []
    assert [cell.title for cell in made.cells] == ["stub none seed 0", "stub none seed 1"]
    wait_for(lambda: plan.running(tmp_path, made))
    assert list(plan.running(tmp_path, made)) == [made.cells[0].key]
    process.kill()
    process.communicate()
    assert plan.running(tmp_path, made) == {}
    run(job(tmp_path, seed=1))
    assert [path.name for path in (tmp_path / ".sweep").iterdir() if path.name.startswith(made.id)] == [
        f"{made.id}.json"
    ]


def test_a_job_that_finds_its_cell_computed_elsewhere_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process was faster by the blink between a look and a start."""
    holder = begin_holder(tmp_path, record.key(config_of("ok", 0)))
    leave = launcher._Sweep._leave

    def left(self: Any, index: int) -> None:
        leave(self, index)
        end_holder(holder)

    monkeypatch.setattr(launcher._Sweep, "_leave", left)
    monkeypatch.setattr(lease, "held", lambda results, key: False)
    monkeypatch.setattr(launcher, "SETTLE_SECONDS", 0.1)
    statuses, said = run(job(tmp_path), job(tmp_path, seed=1))
    assert statuses == ["ok", "ok"]
    assert said[0] == "stub none seed 0: computed by another process, which is waited for"
    assert [row[1] for row in started(tmp_path)] == ["1", "0"]


def test_ctrl_c_ends_the_wait_for_another_process(tmp_path: Path) -> None:
    holder = begin_holder(tmp_path, record.key(config_of("ok", 0)))
    process = begin_sweep(tmp_path, "ok:1", "ok:0")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    end_holder(holder)
    assert len(started(tmp_path)) == 1


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
    assert said[-1].endswith("and no record: No space left on device")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("name", ["with spaces", "ünï cödé 漢"])
def test_any_path_will_do(name: str, tmp_path: Path) -> None:
    assert run(job(tmp_path / name), job(tmp_path / name, "exit"))[0] == ["ok", "crash"]


def test_a_folder_that_cannot_be_written_to_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    (tmp_path / ".sweep").write_text("another")
    statuses, said = run(job(tmp_path, "exit"))
    assert statuses == ["error"]
    assert said == [
        "warning: bench.status will not see this sweep (File exists)",
        "[1/1] stub none seed 0: crash (exit status 7 without a record), and no record: File exists",
    ]


def test_killed_for_want_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = chain([3], repeat(4))
    monkeypatch.setattr(process, "oom_kills", lambda: next(counts))
    monkeypatch.setattr(process, "RESCAN_SECONDS", 1e9)  # no look in between, however slow the machine is
    assert run(job(tmp_path, "killed"))[0] == ["oom"]


def test_what_the_system_killed_long_before_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = chain([3], repeat(4))
    monkeypatch.setattr(process, "oom_kills", lambda: next(counts))
    monkeypatch.setattr(process, "RESCAN_SECONDS", 0.0)
    monkeypatch.setattr(launcher, "POLL_SECONDS", 1e-3)  # many looks before a fresh interpreter has begun
    assert run(job(tmp_path, "killed"))[0] == ["error"]


def test_oom_kills_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 9\noom_kill 2\noom_group_kill 5\n")
    monkeypatch.setattr(process, "OOM_COUNTERS", (events, tmp_path / "missing"))
    assert process.oom_kills() == 2


def test_the_reason_is_the_last_thing_said_and_not_long() -> None:
    status, reason = explain(Exit(1, None, "a\n" + "b" * 10_000 + "\n\n"))
    assert status == "crash"
    assert reason.endswith("bbb")
    assert len(reason) < 400


def test_a_signal_without_a_name() -> None:
    assert explain(Exit(-40, None, "")) == ("crash", "ended by signal 40")


def test_what_is_no_record_does_not_stop_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "gone.json").symlink_to("nowhere")
    for seed, wrong in enumerate(({"config": {}}, {"cost": {"wall_seconds": 10**400}})):
        made = {**fake_records.make(seed=seed, trace=[]), **wrong}
        (tmp_path / "runs" / f"{made['key']}.json").write_text(json.dumps(made))
    assert run(job(tmp_path))[0] == ["ok"]


def test_under_nohup_a_sweep_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launcher.interrupts("") as presses:
            os.kill(os.getpid(), signal.SIGHUP)
            assert presses == []
    finally:
        signal.signal(signal.SIGHUP, before)


# -- a launcher that is interrupted or killed

SCRIPT = """
import sys
from pathlib import Path
from bench import launcher
from tests.bench.test_launcher import job, STUB
jobs = [job(Path(sys.argv[1]), mode, int(seed)) for mode, seed in (word.split(":") for word in sys.argv[2:])]
try:
    launcher.sweep(jobs, STUB)
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
    wait_for(lambda: not alive(pid), seconds=2.0)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("mode", ["fork", "escape"])
def test_what_a_job_has_forked_dies_with_the_launcher(mode: str, tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, f"{mode}:0")
    wait_for((tmp_path / "grandchild").exists)
    pids = [int(started(tmp_path)[0][2]), int((tmp_path / "grandchild").read_text())]
    assert all(map(alive, pids))
    process.kill()
    wait_for(lambda: not any(map(alive, pids)), seconds=2.0)
    process.communicate()


def test_one_ctrl_c_finishes_the_running_job(tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, "slow:0", "ok:1")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.count("\n") == 1
    assert "seed 0: ok" in out
    assert "finishing what runs" in err
    assert len(started(tmp_path)) == 1


def test_ctrl_z_stops_no_sweep_and_says_why(tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, "slow:0", "ok:1")
    process.send_signal(signal.SIGTSTP)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.split("\n") == ["", launcher.NO_PAUSE, ""]
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_sweep_whose_lines_nobody_reads_goes_on(tmp_path: Path) -> None:
    process = begin_sweep(tmp_path, "ok:0", "exit:0", "ok:1")
    assert process.stdout is not None
    process.stdout.close()  # as `| head` does
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_a_line_that_no_disk_has_room_for_stops_nothing() -> None:
    code = "from bench.board import say; say('a'); say('b')"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_that_cannot_be_started_spares_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = launcher._Sweep._start

    def scarce(self: Any, one: launcher.Job, cpus: Any) -> process.Process:
        if one.config["seed"] == 1:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return start(self, one, cpus)

    monkeypatch.setattr(launcher._Sweep, "_start", scarce)
    statuses, said = run(job(tmp_path), job(tmp_path, seed=1), job(tmp_path, seed=2))
    assert statuses == ["ok", "error", "ok"]
    assert any("seed 1: not started (Resource temporarily unavailable)" in line for line in said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_twice_stops_now(number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = begin_sweep(tmp_path, "escape:0", "ok:1")
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


def test_the_time_to_go_is_learnt_of_runs_of_the_same_budget(tmp_path: Path) -> None:
    longer = {"budget": {"seconds": 90.0, "steps": None, "evaluations": None, "target": None}}
    for seed, wall, config in ((0, 300.0, longer), (1, 300.0, longer), (2, 10.0, None)):
        record.write(tmp_path, fake_records.make("otflow", "moons", seed, cost={"wall_seconds": wall}, config=config))
    wanted = Job(fake_records.make("otflow", "moons", 3)["config"], (), tmp_path, tmp_path / "x.pt", Limits(None, None))
    board = Board([wanted.title])
    launcher.learn(board, [wanted])
    assert board.pace.guess(wanted.title) == 10.0

"""Sweeps that are killed at any moment, and stores that are written to by many or cannot be written to at all.

Once the same command has run again to its end, there must be exactly what an undisturbed sweep leaves.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bench import plan, record, status
from tests.bench import fake_records
from tests.bench.test_launcher import SCRIPT, alive, started, wait_for

ROOT = Path(__file__).parents[2]
STEPS = 6  # of a stub's work
SLOW_STEP_SECONDS = 0.05  # of a sweep that is to be disturbed: it must not end before

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups and /proc of Linux")


def begin(results: Path, cells: int, step_seconds: float = 0.01) -> "subprocess.Popen[str]":
    environment = {**os.environ, "STUB_STEP_SECONDS": str(step_seconds)}
    command = [sys.executable, "-c", SCRIPT, str(results), *(f"work:{seed}" for seed in range(cells))]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


def finish(results: Path, cells: int) -> None:
    process = begin(results, cells)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")


def outcome(results: Path, cells: int) -> dict[str, Any]:
    """Status and metrics by key, when there is nothing in the folders but those records."""
    found, problems = record.read_all([results / "runs"])
    assert problems == []
    assert len(found) == len(list((results / "runs").iterdir())) == cells
    assert list((results / "checkpoints").iterdir()) == []
    assert {path.suffix for path in (results / ".sweep").iterdir()} == {".json", ""}, "the plan, the leases"
    assert len(list((results / ".sweep").iterdir())) == 2
    return {one["key"]: (one["status"], one["metrics"]) for one in found}


def steps(results: Path) -> Counter[str]:
    path = results / "steps"
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def kill_at_random(victims: str, results: Path, cells: int, rng: random.Random) -> None:
    """Kill job, launcher or both while the sweep runs, and see that what they left dies with them.

    Up to one and a half jobs' work after the start of any job but the last; a job dies once one is there to be killed.
    """
    share, delay = rng.random(), rng.uniform(0.0, 1.5 * STEPS * SLOW_STEP_SECONDS)
    before, done = len(started(results)), len(list(results.glob("runs/*.json")))
    assert cells - done >= 2
    nth = 1 + int(share * (cells - done - 1))
    process = begin(results, cells, SLOW_STEP_SECONDS)
    wait_for(lambda: len(started(results)) >= before + nth)
    time.sleep(delay)
    if "job" in victims:
        wait_for(lambda: killed(int(started(results)[-1][2])))
    if "launcher" in victims:
        process.kill()
    process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if "launcher" in victims else 0)
    pids = [int(row[2]) for row in started(results)]
    wait_for(lambda: not any(map(alive, pids)), seconds=2.0)


def killed(pid: int) -> bool:
    """Kill the process; whether it was there."""
    if there := alive(pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return there


@pytest.mark.parametrize(
    ("victims", "cells", "seed"),
    [
        *((victims, 4, 0) for victims in ("job", "launcher", "job and launcher")),
        *(
            pytest.param(("job", "launcher", "job and launcher")[seed % 3], 12, seed, marks=pytest.mark.slow)
            for seed in range(1, 21)
        ),
    ],
)
def test_killed_at_a_random_moment(victims: str, cells: int, seed: int, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(whole, cells)
    kill_at_random(victims, broken, cells, random.Random(seed))
    done = {path.stem for path in (broken / "runs").glob("*.json")}
    before = steps(broken)
    finish(broken, cells)
    assert outcome(broken, cells) == outcome(whole, cells)
    again = steps(broken) - before
    assert not {line.split()[0] for line in again} & done, "finished work is not repeated"
    assert sum(n - 1 for n in steps(broken).values()) <= 1, "and of the rest no more than the step that was cut off"
    assert len(steps(whole)) == STEPS * cells


def test_three_kills_in_one_sweep(tmp_path: Path) -> None:
    rng = random.Random(39)  # strikes twice soon after a first start, so that two cells or more are left each time
    for victims in ("launcher", "job and launcher", "job"):
        kill_at_random(victims, tmp_path / "broken", 4, rng)
    finish(tmp_path / "broken", 4)
    finish(tmp_path / "whole", 4)
    assert outcome(tmp_path / "broken", 4) == outcome(tmp_path / "whole", 4)


# -- two launchers on one folder


def test_two_launchers_share_the_work(tmp_path: Path) -> None:
    both = [begin(tmp_path / "shared", 4) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [(process.returncode, err) for process, (_, err) in zip(both, said, strict=True)] == [(0, "")] * 2
    finish(tmp_path / "whole", 4)
    assert outcome(tmp_path / "shared", 4) == outcome(tmp_path / "whole", 4)
    assert set(steps(tmp_path / "shared").values()) == {1}, "no step is taken twice"
    assert [out.count(": ok, ") for out, _ in said] == [4, 4]


def test_what_a_killed_launcher_computed_the_other_goes_on_with(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first = begin(shared, 2, step_seconds=2.0)
    wait_for(lambda: steps(shared))
    second = begin(shared, 1)  # the cell that runs
    assert second.stdout is not None
    assert second.stdout.readline() == "stub none seed 0: computed by another process, which is waited for\n"
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "")
    assert "[cached]" not in out
    assert set(steps(shared)) == {f"{key} {n}" for key in outcome_keys(shared) for n in range(1, STEPS + 1)}
    assert sum(n - 1 for n in steps(shared).values()) <= 1


def outcome_keys(results: Path) -> list[str]:
    return [path.stem for path in (results / "runs").glob("*.json")]


# -- stores that many write to, or nobody can


def _write_all(folder: Path, writer: int) -> list[str]:
    rng = random.Random(writer)
    keys = rng.sample(range(64), 64)
    return [str(seed) for seed in keys if record.write(folder, fake_records.make(seed=seed, reason=str(writer)))]


def test_sixteen_writers_on_64_keys(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(16) as pool:
        wins = [
            seed for won in pool.starmap(_write_all, [(tmp_path, n) for n in range(16)], chunksize=1) for seed in won
        ]
    assert sorted(map(int, wins)) == list(range(64)), "each key has one writer"
    records, problems = record.read_all([tmp_path])
    assert (len(records), problems) == (64, [])
    assert len(list(tmp_path.iterdir())) == 64


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this process may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full(mounted: Path) -> None:
    filler = mounted / "filler"
    kept = fake_records.make(seed=1)
    record.write(mounted / "runs", kept)
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 1_000_000)
    with pytest.raises(OSError, match="No space left"):
        record.write(mounted / "runs", fake_records.make())
    assert [path.stem for path in (mounted / "runs").iterdir()] == [kept["key"]]
    assert record.read_all([mounted / "runs"])[1] == []
    filler.unlink()
    assert record.write(mounted / "runs", fake_records.make())


def test_a_sweep_on_a_full_or_read_only_disk_and_again(mounted: Path) -> None:
    (mounted / "started").touch()
    with pytest.raises(OSError, match="No space left"):
        (mounted / "filler").write_bytes(b"x" * 1_000_000)
    for remount in ([], ["mount", "-o", "remount,ro", str(mounted)]):
        if remount:
            subprocess.run(remount, check=True)
        process = begin(mounted, 2)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), "the caller learns of it from the statuses"
        assert ["and no record: " in line for line in out.splitlines()[-2:]] == [True, True]
        assert not list(mounted.glob("runs/*"))
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
    (mounted / "filler").unlink()
    finish(mounted, 2)
    assert set(dict(outcome(mounted, 2).values())) == {"ok"}


# -- ten thousand records

MEASURED = """
import atexit, os, re, runpy, sys, threading, time

def held(process):  # what is shared counts once
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:
            return int(re.search(r"^Pss:\\s+(\\d+)", file.read(), re.M)[1])
    except (OSError, TypeError):  # it has ended
        return 0

def watch():
    while True:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            peaks.append(held("self") + sum(map(held, file.read().split())))
        time.sleep(0.05)

def measured():
    print(sum(os.times()[:4]), time.monotonic() - begin, max(peaks) / 1000, file=sys.stderr)

begin, peaks = time.monotonic(), [0]
threading.Thread(target=watch, daemon=True).start()
atexit.register(measured)
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand records of a size that is usual: 10 datasets, 3 solvers, 334 seeds."""
    results = tmp_path_factory.mktemp("many")
    (results / "runs").mkdir()
    cells = []
    for dataset in [*fake_records.ENTROPY, *(f"set{n}" for n in range(6))]:
        for solver in fake_records.SOLVERS:
            for seed in range(334):
                one = fake_records.make(solver, dataset, seed)
                (results / "runs" / f"{one['key']}.json").write_text(record.dumps(one))
                cells.append(plan.Cell(one["key"], record.title(one["config"]), (f"seed={seed}",)))
    plan.write(results, plan.Plan("2026-01-01T00:00:00+00:00", "isolated", tuple(cells)))
    return results


@pytest.mark.slow
@pytest.mark.parametrize("words", ["bench.status results={}", "bench.report records={}/runs out={}/report"])
def test_ten_thousand_records_fit_into_memory(words: str, many: Path, record_property: Callable[..., None]) -> None:
    """Either is to take under 10 seconds too, which a busy machine cannot tell: --junitxml=FILE notes them."""
    command = [sys.executable, "-c", MEASURED, *(word.format(many) for word in words.split())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    processor, wall, peak = map(float, done.stderr.split()[-3:])
    record_property("processor seconds", processor)
    record_property("seconds", wall)
    assert "10020" in done.stdout.replace(",", ""), done.stdout[-2000:] + done.stderr
    assert peak < 500.0, f"{peak} MB"


def test_status_reads_each_record_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_records.store(tmp_path, [fake_records.make(seed=seed) for seed in range(5)])
    read, opened = record.read, []

    def counted(path: Path) -> record.Record:
        opened.append(path)
        return read(path)

    monkeypatch.setattr(record, "read", counted)
    assert len(status.look(tmp_path, {path.stem for path in made.glob("*.json")}).lines) == 5
    assert sorted(opened) == sorted(made.glob("*.json"))

"""Sweeps on a real Slurm, whose nodes are killed under them. The outcome is that of an undisturbed sweep."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import record
from tests.slurm.cluster import NODES, Cluster, missing

ROOT = Path(__file__).parents[2]
SEEDS = 4
QUICK, LONG = 0.02, 5.0  # seconds a step: six steps of LONG outlast the time that Slurm takes to miss a node

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if why := missing():
        pytest.skip(why)
    root = Path(tempfile.mkdtemp(prefix="slurm"))  # a socket's path may have 107 characters
    made = Cluster(root)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster; a node that a test killed comes back after it."""
    yield cluster
    cluster.client("scancel", "--me")
    for node in NODES:
        if node not in cluster.daemons:
            cluster.start_node(node)
    wait_for(cluster.idle)


def begin(
    cluster: Cluster, results: Path, seconds: float, *words: str, program: Sequence[str] = ("-m", "bench.run")
) -> "subprocess.Popen[str]":
    seeds = ",".join(map(str, range(SEEDS)))
    sweep = [
        "-m",
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.timeout_min=10",
        "hydra.launcher.module=tests.stub_job",
        f"results='{results}'",
    ]
    own = words if any(word.startswith("++mode") for word in words) else ("++mode=work", f"seed={seeds}", *words)
    command = [sys.executable, *program, *sweep, *own]
    environment = {**cluster.environment, "STUB_STEP_SECONDS": str(seconds), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def sweep(cluster: Cluster, results: Path, seconds: float, *words: str) -> tuple[int, str]:
    process = begin(cluster, results, seconds, *words)
    out, _ = process.communicate(timeout=300)
    return process.returncode, out


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def quality(results: Path) -> dict[str, Any]:
    """The metrics by key; there is nothing but whole records and, beside the logs, no file left over."""
    found, problems = record.read_all([results / "runs"])
    assert problems == []
    assert len(list((results / "runs").iterdir())) == len(found)
    assert list((results / "checkpoints").iterdir()) == []
    assert not list(results.rglob("*.tmp.*"))
    assert {one["env"]["launcher"] for one in found} == {"submitit_slurm"}
    return {one["key"]: one["metrics"] for one in found}


def steps(results: Path) -> list[str]:
    path = results / "steps"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    results = tmp_path_factory.mktemp("undisturbed") / "my results é"
    code, out = sweep(cluster, results, QUICK)
    assert code == 0, out
    found = quality(results)
    assert len(found) == SEEDS
    assert len(set(steps(results))) == len(steps(results)) == 6 * SEEDS
    begin = time.monotonic()
    code, out = sweep(cluster, results, QUICK)
    assert (code, out.count("[cached]")) == (0, SEEDS)
    assert time.monotonic() - begin < 60
    assert len(steps(results)) == 6 * SEEDS
    return found


@pytest.mark.parametrize("jobs_too", [True, False], ids=["with its jobs", "alone"])
def test_a_node_dies_in_mid_job(jobs_too: bool, nodes: Cluster, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    process = begin(nodes, tmp_path, LONG)
    wait_for(lambda: len(steps(tmp_path)) >= 3)
    victim = next(node for node in NODES if nodes.tasks(node))
    nodes.kill_node(victim, jobs_too)
    out, _ = process.communicate(timeout=300)
    code = process.returncode
    if code != 0:
        code, out = sweep(nodes, tmp_path, LONG)
    assert code == 0, out
    wait_for(lambda: not nodes.client("squeue", "--noheader"))
    wait_for(lambda: not any(nodes.tasks(node) for node in NODES))  # the second of two at once
    assert quality(tmp_path) == undisturbed
    repeated = len(steps(tmp_path)) - len(set(steps(tmp_path)))
    assert repeated <= int(jobs_too), "it went on from its checkpoint, or waited for the process that lived on"


def test_a_job_that_dies_spares_the_others(nodes: Cluster, tmp_path: Path) -> None:
    code, out = sweep(nodes, tmp_path, QUICK, "++mode=exit,diverged,ok", "seed=0")
    assert code == 1
    assert out.splitlines()[-1] == "2 of 3 cells failed"
    found, _ = record.read_all([tmp_path / "runs"])
    assert sorted(one["status"] for one in found) == ["crash", "diverged", "ok"]
    assert next(one for one in found if one["status"] == "crash")["reason"] == "exit status 7 without a record"


def test_a_sweep_started_again_adopts_what_is_in_the_queue(
    nodes: Cluster, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    process = begin(nodes, tmp_path, 1.0)
    wait_for(lambda: steps(tmp_path))
    process.kill()
    process.communicate()
    before = set((nodes.client("squeue", "--noheader", "--array", "--format=%i") or "").split())
    code, out = sweep(nodes, tmp_path, 1.0)
    assert code == 0, out
    assert quality(tmp_path) == undisturbed
    assert len(set(steps(tmp_path))) == len(steps(tmp_path)) == 6 * SEEDS, "nothing was submitted twice"
    assert len(before) == SEEDS
    assert len(list((tmp_path / ".sweep" / "slurm").glob("[0-9]*"))) == 1


SUBMIT_AND_DIE = """
import os, runpy, signal, sys
import submitit
real = submitit.SlurmExecutor.map_array
def dying(*given):
    real(*given)
    os.kill(os.getpid(), signal.SIGKILL)
submitit.SlurmExecutor.map_array = dying
runpy.run_module("bench.run", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("seeds", [SEEDS, 1], ids=["an array", "a single job"])
def test_a_launcher_killed_before_it_has_booked_what_it_submitted(seeds: int, nodes: Cluster, tmp_path: Path) -> None:
    words = ("++mode=work", f"seed={','.join(map(str, range(seeds)))}")
    process = begin(nodes, tmp_path, 1.0, *words, program=("-c", SUBMIT_AND_DIE))
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    code, out = sweep(nodes, tmp_path, 1.0, *words)
    assert code == 0, out
    assert len(quality(tmp_path)) == seeds
    assert len(steps(tmp_path)) == len(set(steps(tmp_path))) == 6 * seeds
    assert len(list((tmp_path / ".sweep" / "slurm").glob("[0-9]*"))) == 1, "nothing was submitted twice"


def test_submitted_twice_all_the_same_each_cell_is_computed_once(nodes: Cluster, tmp_path: Path) -> None:
    """A second launcher that knows nothing of the first, on another machine say."""
    first = begin(nodes, tmp_path, 1.0)
    wait_for(lambda: steps(tmp_path))
    (book,) = (tmp_path / ".sweep").glob("*.slurm")
    book.unlink()
    code, out = sweep(nodes, tmp_path, 1.0)
    assert code == 0, out
    out, _ = first.communicate(timeout=300)
    assert first.returncode == 0, out
    assert len(list((tmp_path / ".sweep" / "slurm").glob("[0-9]*"))) == 2
    wait_for(lambda: not nodes.client("squeue", "--noheader"))
    assert len(quality(tmp_path)) == SEEDS
    assert len(steps(tmp_path)) == len(set(steps(tmp_path))) == 6 * SEEDS


def test_what_slurm_refuses_is_said_in_a_line(nodes: Cluster, tmp_path: Path) -> None:
    code, out = sweep(nodes, tmp_path, QUICK, "+hydra.launcher.parameters.partition=nowhere")
    assert code == 2
    assert "invalid partition" in out.lower()
    assert "\nerror: sbatch: " in out, "after what sbatch itself says"
    assert os.listdir(tmp_path) == [".sweep"]

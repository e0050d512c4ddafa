"""A job without torch for tests of the launcher: `python -m tests.stub_job results=DIR mode=MODE seed=N`."""

import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import attempt, env, lease, process, record

STEPS = 6
STEP_SECONDS = float(os.environ.get("STUB_STEP_SECONDS", "0.01"))


def identify(cfg: Any) -> dict[str, Any]:
    return config_of(cfg.get("mode", "ok"), cfg.seed)


def folders(cfg: Any, key: str) -> tuple[Path, Path]:
    results = Path(cfg["results"])
    return results / "runs", attempt.path(results, key)


def config_of(mode: str, seed: int) -> dict[str, Any]:
    solver = {"_target_": "tests.stub.Stub", "mode": mode}
    return {"solver": solver, "dataset": {"_target_": "tests.None"}, "seed": seed}


def main(arguments: Sequence[str]) -> int:
    given = dict(word.lstrip("+").split("=", 1) for word in arguments if "=" in word)
    mode, results = given.get("mode", "ok"), Path(given["results"].strip("'"))
    config = config_of(mode, int(given["seed"]))
    results.mkdir(parents=True, exist_ok=True)
    with lease.hold(results, record.key(config)) as mine:
        if (results / "runs" / f"{record.key(config)}.json").exists():
            return 0
        if mine:
            return run(mode, results, config)
        process.excuse()
        return lease.HELD


def run(mode: str, results: Path, config: dict[str, Any]) -> int:
    with open(results / "started", "a") as file:
        file.write(f"{mode} {config['seed']} {os.getpid()} {os.getppid()}\n")
    begin = time.time()
    misbehave(mode, results)
    metrics = {"nll": work(results, record.key(config)) if mode == "work" else 1.5}
    status = mode if mode in record.STATUSES else "ok"
    where = {**env.describe("cpu", "", 1), "begin": begin, "end": time.time()}
    cost = {"fit_seconds": 0.25}
    made = record.new(config, status, "by its nature", "2000-01-01", metrics=metrics, cost=cost, env=where)
    record.write(results / "runs", made)
    attempt.discard(folders({"results": results}, made["key"])[1])
    return 0 if status == "ok" else 1


def work(results: Path, key: str) -> float:
    """Steps whose result tells whether one was left out or taken twice; resumes from a checkpoint."""
    checkpoint = folders({"results": results}, key)[1]
    attempt.adopt(checkpoint)
    step, value = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, 1.0)
    while step < STEPS:
        step, value = step + 1, math.sin(value + step + int(key, 16) % 1000)
        time.sleep(STEP_SECONDS)
        with open(results / "steps", "a") as file:
            file.write(f"{key} {step}\n")
        record.write_over(checkpoint, json.dumps([step, value]).encode())
    return value


def misbehave(mode: str, results: Path) -> None:
    match mode:
        case "raise":
            raise ValueError("what was to be shown")
        case "exit" | "exit0" | "exit2" | "exit3" | "exit4" | "exit130":
            os._exit(int(mode.removeprefix("exit") or 7))
        case "bad":
            process.excuse()
            sys.stderr.write("error: no such thing\n")
            sys.exit(2)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            os.write(1, b"about to hang\n")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            ctypes.CDLL(None).sleep(600)
        case "fork" | "escape":
            leave(results, escape=mode == "escape")
            time.sleep(600)
        case "orphan" | "daemon":
            leave(results, escape=mode == "daemon")
        case "loud":
            line = b"x" * 99_999 + b"\n"
            for _ in range(1000):
                os.write(1, line)
        case "allocate":
            kept = []
            while True:
                kept.append(b"x" * 10_000_000)
        case "share":
            script = "kept = b'x' * 200_000_000; import time; time.sleep(600)"
            command = [sys.executable, "-S", "-c", script]
            children = [subprocess.Popen(command, start_new_session=escape) for escape in (False, True)]
            children[0].wait()
        case "slow":
            time.sleep(1.0)


def leave(results: Path, escape: bool) -> None:
    """Start a process that sleeps; `escape`: in a session of its own, its parent gone, as daemons do."""
    fork = "os.fork() and os._exit(0); " if escape else ""
    script = f"import os, time; {fork}print(os.getpid(), flush=True); time.sleep(600)"
    command = [sys.executable, "-S", "-c", script]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=escape)
    assert child.stdout is not None
    record.write_over(results / "grandchild", child.stdout.readline())
    if escape:
        child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

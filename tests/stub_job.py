"""A job without torch for tests of the launcher: `python -m tests.stub_job results=DIR mode=MODE seed=N`."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import record


def identify(cfg: Any) -> dict[str, Any]:
    return config_of(cfg.get("mode", "ok"), cfg.seed)


def folders(cfg: Any, key: str) -> tuple[Path, Path]:
    return Path(cfg.results) / "runs", Path(cfg.results) / "checkpoints" / f"{key}.pt"


def config_of(mode: str, seed: int) -> dict[str, Any]:
    solver = {"_target_": "tests.stub.Stub", "mode": mode}
    return {"solver": solver, "dataset": {"_target_": "tests.None"}, "seed": seed}


def main(arguments: Sequence[str]) -> int:
    given = dict(word.lstrip("+").split("=", 1) for word in arguments if "=" in word)
    mode, results = given.get("mode", "ok"), Path(given["results"].strip("'"))
    config = config_of(mode, int(given["seed"]))
    results.mkdir(parents=True, exist_ok=True)
    with open(results / "started", "a") as file:
        file.write(f"{mode} {given['seed']} {os.getpid()} {os.getppid()}\n")
    misbehave(mode, results)
    status = mode if mode in record.STATUSES else "ok"
    made = record.new(config, status, "by its nature", "2000-01-01", metrics={"nll": 1.5}, cost={"fit_seconds": 0.25})
    record.write(results / "runs", made)
    return 0 if status == "ok" else 1


def misbehave(mode: str, results: Path) -> None:
    match mode:
        case "raise":
            raise ValueError("what was to be shown")
        case "exit":
            os._exit(7)
        case "bad":
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
        case "fork":
            child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
            (results / "grandchild").write_text(str(child.pid))
            time.sleep(600)
        case "orphan":
            child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
            (results / "grandchild").write_text(str(child.pid))
        case "loud":
            line = b"x" * 1023 + b"\n"
            for _ in range(20_000):
                os.write(1, line)
        case "slow":
            time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

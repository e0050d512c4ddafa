"""Runs the jobs of a sweep, each in a fresh process that can be killed, and sees to it that each leaves a record.

Torch-free, but for what the job's module imports to name a cell.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

from bench import env, record

TAIL_BYTES = 64 * 1024
REASON_CHARACTERS = 300
GRACE_SECONDS = 5.0  # a job that is asked to stop gets this long for its checkpoint
POLL_SECONDS = 0.1
OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NO_RESULT = {2: "bad input", 3: "record not written", 130: "interrupted"}  # exit statuses of bench.run
FINE = ("ok", "unfit")  # what a sweep may hold and still have succeeded


@dataclass(frozen=True)
class Job:
    """A cell to run: the `config` of its record, its overrides on the command line, its limit in seconds."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    runs: Path
    checkpoint: Path
    limit: float | None

    @property
    def path(self) -> Path:
        return self.runs / f"{record.key(self.config)}.json"


@dataclass(frozen=True)
class Exit:
    """How a job's process ended: its return code as subprocess has it, whether we ended it, and its last words."""

    code: int
    timed_out: bool
    out_of_memory: bool
    tail: str


class Stopped(KeyboardInterrupt):
    """The user ended the sweep."""


def sweep(jobs: Sequence[Job], module: str, say: Callable[[str], None]) -> list[str]:
    """Run `jobs` one after the other; the status of each, `error` for one without a record. Raises Stopped.

    Jobs that have a record are skipped, unfinished ones resume. Ctrl-C once lets the running job finish, twice
    stops it.
    """
    statuses = []
    with _interrupts() as presses:
        for index, job in enumerate(jobs, 1):
            head = f"[{index:{len(str(len(jobs)))}}/{len(jobs)}] "
            cached = job.path.exists()
            status, text = _look(job) if cached else _run(job, module, presses, head)
            statuses.append(status)
            say(head + text + (" [cached]" if cached else ""))
            if presses:
                raise Stopped
    return statuses


def _run(job: Job, module: str, presses: list[int], head: str) -> tuple[str, str]:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    ended = execute(module, job.overrides, job.limit, presses, head + record.title(job.config))
    if not job.path.exists():
        status, reason = explain(ended, job.limit)
        if status is None:
            return "error", f"{record.title(job.config)}: no record ({reason})"
        try:
            record.write(job.runs, record.new(job.config, status, reason, started, env=_environment(job)))
        except OSError as error:
            return "error", f"{record.title(job.config)}: {status} ({reason}), and no record: {error.strerror}"
        job.checkpoint.unlink(missing_ok=True)
    return _look(job)


def _environment(job: Job) -> dict[str, Any]:
    """The environment that the job had, as it would have recorded it, but for the noise that it would have read."""
    device = job.config.get("device", "cpu")
    threads = job.config.get("threads", env.threads_allowed())
    return {**env.describe(device, _device_model(device), threads), "launcher": "isolated", "slots": 1, "noise": None}


def _device_model(device: str) -> str:
    """Asked of another process: a CUDA context in this one would stay on the device."""
    if device != "cuda":
        return ""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.get_device_name())"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _look(job: Job) -> tuple[str, str]:
    """Status and line of the record that is there."""
    try:
        found = record.read(job.path)
    except (record.RecordError, OSError) as error:
        return "error", str(error)
    return found["status"], record.line(found)


def explain(ended: Exit, limit: float | None) -> tuple[str | None, str]:
    """Status and reason of a process that left no record; the status is None where running again may mend it."""
    lines = [line.strip() for line in ended.tail.splitlines() if line.strip()]
    last = lines[-1][:REASON_CHARACTERS] if lines else ""
    said = f": {last}" if last else ""
    if ended.timed_out:
        return "timeout", f"killed after {limit:g} s{said}"
    if ended.out_of_memory:
        return "oom", f"killed by the system for want of memory{said}"
    if ended.code < 0:
        name = signal.Signals(-ended.code).name
        if -ended.code in FROM_OUTSIDE:
            return None, f"ended by {name} from outside; the same command resumes it"
        return "crash", f"ended by {name}{said}"
    if ended.code in NO_RESULT:
        return None, last or NO_RESULT[ended.code]
    return "crash", f"exit status {ended.code} without a record{said}"


def execute(module: str, arguments: Sequence[str], limit: float | None, presses: list[int], title: str = "") -> Exit:
    """Run `python -m module arguments` in a process group of its own; kill all of it beyond `limit` seconds.

    A second press of Ctrl-C asks it to stop, and kills it when it does not. A terminal shows what it says last,
    under `title`.
    """
    tether = Path(__file__).with_name("tether.py")
    python = [sys.executable, "-m", module, *arguments]
    killed_before = _oom_kills()
    process = subprocess.Popen(
        [sys.executable, "-S", str(tether), str(os.getpid()), *python],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, env.LAUNCHER: "isolated", env.SLOTS: "1", "PYTHONUNBUFFERED": "1"},
        process_group=0,  # Ctrl-C reaches us alone, and a job that forks is killed whole
    )
    assert process.stdout is not None
    tail = _Tail(process.stdout)
    try:
        timed_out = _wait(process, limit, presses, tail, title)
    finally:
        _kill_group(process)
        _show("", "")
    tail.close()
    out_of_memory = process.returncode == -signal.SIGKILL and not timed_out and _oom_kills() > killed_before
    return Exit(process.returncode, timed_out, out_of_memory, tail.text)


def _wait(
    process: "subprocess.Popen[bytes]", limit: float | None, presses: list[int], tail: "_Tail", title: str
) -> bool:
    """Wait for the process to end; whether it was for its time limit."""
    deadline = None if limit is None else time.monotonic() + limit
    asked: float | None = None
    shown: str | None = None
    while True:
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            if deadline is not None and now > deadline:
                return True
            if asked is None and len(presses) >= 2:
                asked = now
                process.terminate()
            if asked is not None and now > asked + GRACE_SECONDS:
                return False
            if tail.last != shown:
                shown = tail.last
                _show(title, shown)
        else:
            return False


def _show(title: str, text: str) -> None:
    """On a terminal, put `title` and `text` in the place of the last line shown."""
    if not sys.stderr.isatty():
        return
    width = shutil.get_terminal_size().columns - 1
    said = text.removeprefix(title.split("] ")[-1])  # jobs begin their lines with the same title
    print(f"\r\033[K{(title + said)[:width]}", end="", file=sys.stderr, flush=True)  # noqa: T201


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of the job: itself and all that it forked."""
    with suppress(ProcessLookupError, PermissionError):  # nobody left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Tail:
    """Reads a pipe to its end, so that the writer never blocks, and keeps the last TAIL_BYTES."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.kept = b""
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        while chunk := os.read(self.pipe.fileno(), TAIL_BYTES):
            self.kept = (self.kept + chunk)[-TAIL_BYTES:]

    def close(self) -> None:
        self.thread.join(GRACE_SECONDS)  # a process that left the group may hold the pipe open
        if not self.thread.is_alive():
            self.pipe.close()

    @property
    def last(self) -> str:
        """The latest full line."""
        lines = self.kept.rsplit(b"\n", 2)
        return lines[-2].decode(errors="replace").strip() if len(lines) > 1 else ""

    @property
    def text(self) -> str:
        return self.kept.decode(errors="replace").replace("\r", "\n")


def _oom_kills() -> int:
    """Processes that the system has killed for want of memory, as far as it tells."""
    found = 0
    for path in OOM_COUNTERS:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        found += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return found


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Within, each Ctrl-C is noted in the list; SIGTERM and SIGHUP count twice: stop now."""
    presses: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        first = not presses
        presses.extend([number] * (1 if number == signal.SIGINT else 2))
        if first and number == signal.SIGINT:
            os.write(2, b"\nfinishing the running job; Ctrl-C again stops it now\n")  # print is not reentrant

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield presses
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Runs the jobs of a sweep, each in a fresh process that can be killed, and sees to it that each leaves a record.

Torch-free, but for what the job's module imports to name a cell.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from bench import attempt, env, lease, plan, record
from bench.board import Board, Running
from bench.process import Exit, Limits, Process
from bench.record import BadInput

REASON_CHARACTERS = 300
FINISHING = "finishing what runs; Ctrl-C again stops it now"
NO_PAUSE = "Ctrl-Z pauses no sweep, whose jobs would go on without limits: Ctrl-C, and later the same command resumes"
POLL_SECONDS = 0.1
SETTLE_SECONDS = 3.0  # a launcher writes the record of a job that died so long after its lease is free
PAST_RECORDS = 200  # so many of a folder's latest tell how long a cell takes
TOPOLOGY = Path("/sys/devices/system/cpu")
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """A cell to run: the `config` of its record, its overrides on the command line, its limits."""

    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    runs: Path
    checkpoint: Path
    limits: Limits

    @property
    def path(self) -> Path:
        return self.runs / f"{record.key(self.config)}.json"

    @property
    def title(self) -> str:
        return record.title(self.config)


class Stopped(KeyboardInterrupt):
    """The user ended the sweep."""


def cpu_sets(slots: int) -> list[frozenset[int] | None]:
    """The processors of each slot, disjoint and equally many; [None], all of them, for one slot. Raises BadInput.

    No two slots share a core where there are as many cores as slots.
    """
    if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
        raise BadInput(f"hydra.launcher.slots must be a whole number of 1 or more, not {slots!r}")
    if slots == 1:
        return [None]
    if not hasattr(os, "sched_getaffinity"):
        raise BadInput("hydra.launcher.slots above 1 needs Linux, which can tie a process to processors")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < slots:
        raise BadInput(
            f"hydra.launcher.slots={slots}: this process may use {len(allowed)} processors: take at most those"
        )
    cores = cores_of(allowed)
    if len(cores) < slots:
        cores = [[cpu] for core in cores for cpu in core]
    each = len(cores) // slots
    blocks = [[cpu for core in cores[i * each : (i + 1) * each] for cpu in core] for i in range(slots)]
    least = min(map(len, blocks))
    return [frozenset(block[:least]) for block in blocks]


def cores_of(cpus: Sequence[int]) -> list[list[int]]:
    """`cpus` by the core that they are hardware threads of, each a core of its own where the system does not tell."""
    cores: defaultdict[str, list[int]] = defaultdict(list)
    for cpu in cpus:
        siblings = f"cpu{cpu}"
        with suppress(OSError):
            siblings = (TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
        cores[siblings].append(cpu)
    return list(cores.values())


def sweep(
    jobs: Sequence[Job],
    module: str,
    slots: int = 1,
    launcher: str = "isolated",
    announced: bool = True,
    beside: int | None = None,
) -> list[str]:
    """Run `jobs`, `slots` at a time; the status of each, `error` for one without a record. Raises Stopped and BadInput.

    Jobs that have a record are skipped, unfinished ones resume. Ctrl-C once lets the running jobs finish, twice
    stops them. `launcher` goes to the records, and `beside`, the most that may run side by side, as their slots where
    that is not `slots` alone; unless `announced`, bench.status hears nothing of this sweep.
    """
    clear(jobs)
    with unpaused(), interrupts(FINISHING) as presses, Board([job.title for job in jobs], slots) as board:
        word = Word(jobs, launcher, board) if announced else None
        return _Sweep(jobs, module, cpu_sets(slots), board, launcher, word, beside or slots).run(presses)


def clear(jobs: Sequence[Job]) -> None:
    """Remove what processes that were killed have left half-written."""
    folders = {(job.runs, job.checkpoint.parent, plan.folder(job.runs.parent)) for job in jobs}
    for folder in {folder for several in folders for folder in several}:
        record.sweep_stale(folder)


@dataclass(frozen=True)
class _Slot:
    """A job under way."""

    job: Job
    process: Process
    started: str
    cpus: frozenset[int] | None


class _Sweep:
    def __init__(
        self,
        jobs: Sequence[Job],
        module: str,
        cpus: list[frozenset[int] | None],
        board: Board,
        launcher: str,
        word: "Word | None",
        beside: int,
    ) -> None:
        self.jobs, self.module, self.free, self.board, self.launcher = jobs, module, cpus, board, launcher
        self.word = word
        self.beside = beside
        self.waiting = list(range(len(jobs)))
        self.running: dict[int, _Slot] = {}
        self.statuses: dict[int, str] = {}
        self.elsewhere: dict[int, float] = {}  # cells that another process computes: when that was last seen

    def run(self, presses: list[int]) -> list[str]:
        learn(self.board, self.jobs)
        for device in {str(job.config.get("device", "cpu")) for job in self.jobs if not job.path.exists()}:
            _device_model(device)  # now: it takes seconds, in which no limit would be looked after
        try:
            while self.running or (self.waiting and not presses):
                if not presses:
                    self._begin()
                if len(presses) >= 2:
                    for slot in self.running.values():
                        slot.process.ask()
                self._look_after()
                if not self.running:
                    time.sleep(POLL_SECONDS)  # what is left is computed by others
        finally:
            for slot in self.running.values():
                slot.process.kill()
            self.running.clear()
            self._note()
        if presses:
            raise Stopped
        return [self.statuses[index] for index in range(len(self.jobs))]

    def _begin(self) -> None:
        """Pass over what has a record and start as many jobs as there are free slots."""
        for index in list(self.waiting):
            job = self.jobs[index]
            if any(slot.job.path == job.path for slot in self.running.values()):
                continue  # the same cell twice in one sweep
            if job.path.exists():
                status, text = look(job)
                if status != "error":
                    attempt.discard(job.checkpoint)  # its process was killed between the two
                self._end(index, status, text, cached=True)
            elif self.free and not self._computed_elsewhere(index):
                try:
                    process = self._start(job, self.free[0])
                except OSError as error:  # no process or memory to be had
                    self._end(index, "error", f"{job.title}: not started ({error.strerror})", cached=False)
                    continue
                self.waiting.remove(index)
                self.running[index] = _Slot(job, process, now(), self.free.pop(0))
                self.board.began(index)
                self._note()
            if not self.free:
                return

    def _computed_elsewhere(self, index: int) -> bool:
        """Whether another process computes the cell, or did a moment ago and may be about to leave its record."""
        job = self.jobs[index]
        if lease.held(job.runs.parent, record.key(job.config)):
            self._leave(index)
        return time.monotonic() < self.elsewhere.get(index, -math.inf) + SETTLE_SECONDS

    def _leave(self, index: int) -> None:
        """Another process computes the cell: its record, or its end, is waited for."""
        if index not in self.elsewhere:
            self.board.say(f"{self.jobs[index].title}: computed by another process, which is waited for")
        self.elsewhere[index] = time.monotonic()

    def _start(self, job: Job, cpus: frozenset[int] | None) -> Process:
        environment = {env.LAUNCHER: self.launcher, env.SLOTS: str(self.beside), "PYTHONUNBUFFERED": "1"}
        if cpus is not None:
            environment["OMP_NUM_THREADS"] = str(job.config.get("threads", len(cpus)))
        return Process([sys.executable, "-m", self.module, *job.overrides], job.limits, environment, cpus)

    def _look_after(self) -> None:
        """Give the running jobs a moment; those that ended get their record, if they left none."""
        for index, slot in list(self.running.items()):
            ended = slot.process.wait(POLL_SECONDS / len(self.running))
            if ended is not None:
                del self.running[index]
                self.free.append(slot.cpus)
                self._note()
                if ended.excused and ended.code == lease.HELD and not slot.job.path.exists():
                    self._leave(index)  # it was faster than we
                    self.waiting.append(index)
                else:
                    self._end(index, *self._kept(slot, ended), cached=False)
        self.board.show([Running(i, slot.process.seconds, slot.process.said) for i, slot in self.running.items()])

    def _end(self, index: int, status: str, text: str, cached: bool) -> None:
        if index in self.waiting:
            self.waiting.remove(index)
        self.statuses[index] = status
        self.board.ended(index, status, text, cached)

    def _kept(self, slot: _Slot, ended: Exit) -> tuple[str, str]:
        """Status and line of the job's record; one is written where it left none."""
        job = slot.job
        if not job.path.exists():
            status, reason = explain(ended)
            if status is None:
                return "error", f"{job.title}: no record ({reason})"
            made = record.new(
                job.config,
                status,
                reason,
                slot.started,
                cost={"wall_seconds": ended.seconds},
                env=self._environment(slot),
            )
            try:
                record.write(job.runs, made)
            except OSError as error:
                return "error", f"{job.title}: {status} ({reason}), and no record: {error.strerror}"
            attempt.discard(job.checkpoint)
        status, text = look(job)
        if status != "error":
            self.board.pace.learn(record.read(job.path))
        return status, text

    def _environment(self, slot: _Slot) -> dict[str, Any]:
        """The environment that the job had, as it would have recorded it, but for the noise that it would have read."""
        device = slot.job.config.get("device", "cpu")
        threads = slot.job.config.get("threads", env.threads_allowed())
        found = env.describe(device, _device_model(device), threads)
        own = {} if slot.cpus is None else {"affinity": sorted(slot.cpus)}
        return {**found, "launcher": self.launcher, "slots": self.beside, **own, "noise": None}

    def _note(self) -> None:
        if self.word is not None:
            self.word.leave({record.key(slot.job.config): slot.started for slot in self.running.values()})


class Word:
    """The word that a sweep leaves for bench.status. A sweep goes on where it cannot be written."""

    def __init__(self, jobs: Sequence[Job], launcher: str, board: Board) -> None:
        self.plan = plan.of([(job.config, job.overrides) for job in jobs], launcher, now())
        self.results = jobs[0].runs.parent if jobs else None
        if self.results is None:
            return
        try:
            plan.write(self.results, self.plan)
            plan.running(self.results, self.plan)  # removes what dead launchers have left
        except OSError as error:
            board.say(f"warning: bench.status will not see this sweep ({error.strerror})")

    def leave(self, running: Mapping[str, str]) -> None:
        """The cells that run, key -> when each began."""
        if self.results is not None:
            with suppress(OSError):
                plan.note(self.results, self.plan, running)


def learn(board: Board, jobs: Sequence[Job]) -> None:
    """Tell the board how long the latest cells took that had a budget of these jobs."""
    ages = []
    budgets = [job.config.get("budget") for job in jobs]
    for path in (path for folder in {job.runs for job in jobs} for path in folder.glob("*.json")):
        with suppress(OSError):  # moved away since, or a link to nowhere
            ages.append((path.stat().st_mtime, path))
    for _, path in sorted(ages)[-PAST_RECORDS:]:
        try:
            found = record.read(path)
        except (record.RecordError, OSError):
            continue
        if found["config"].get("budget") in budgets:
            board.pace.learn(found)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _device_model(device: str) -> str:
    """Asked of another process: a CUDA context in this one would stay on the device."""
    if device != "cuda":
        return ""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.get_device_name())"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def look(job: Job) -> tuple[str, str]:
    """Status and line of the record that is there; status `error` where it is not one."""
    try:
        found = record.read(job.path)
    except (record.RecordError, OSError) as error:
        return "error", str(error)
    return found["status"], record.line(found)


def explain(ended: Exit) -> tuple[str | None, str]:
    """Status and reason of a process that left no record; the status is None where running again may mend it."""
    lines = [line.strip() for line in ended.tail.splitlines() if line.strip()]
    last = lines[-1][:REASON_CHARACTERS] if lines else ""
    said = f": {last}" if last else ""
    if ended.verdict is not None:
        status, reason = ended.verdict
        return status, reason + said
    if ended.excused:
        return None, last
    if ended.code < 0:
        names = {number.value: number.name for number in signal.Signals}
        name = names.get(-ended.code, f"signal {-ended.code}")  # those between the first and last real-time have none
        if -ended.code in FROM_OUTSIDE:
            return None, f"ended by {name} from outside; the same command resumes it"
        return "crash", f"ended by {name}{said}"
    return "crash", f"exit status {ended.code} without a record{said}"


@contextmanager
def interrupts(message: str) -> Iterator[list[int]]:
    """Within, the first Ctrl-C says `message`; each is noted in the list; SIGTERM and SIGHUP count twice: stop now.

    A SIGHUP that is ignored stays so: under nohup the sweep outlives its terminal.
    """
    presses: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        first = not presses
        presses.extend([number] * (1 if number == signal.SIGINT else 2))
        if first and number == signal.SIGINT:
            os.write(2, f"\n{message}\n".encode())  # print is not reentrant

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield presses
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def unpaused() -> Iterator[None]:
    """Within, Ctrl-Z says NO_PAUSE and does no more: jobs, which have groups of their own, are not stopped by it."""
    before = signal.signal(signal.SIGTSTP, lambda *_: os.write(2, f"\n{NO_PAUSE}\n".encode()))
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)

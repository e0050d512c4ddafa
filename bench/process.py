"""One command under a keeper (bench.keeper), killed with all that it has forked beyond a limit of time or memory."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench import keeper
from bench.keeper import PROC

TAIL_BYTES = 64 * 1024
GRACE_SECONDS = 5.0  # a command that is asked to stop gets this long for its checkpoint
RESCAN_SECONDS = 1.0
GIGABYTE = 1e9
OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
MARK = "CNF_OT_PROCESS"  # of the environment, which whatever a command forks inherits: unlike any other command's
KEEPER = (sys.executable, "-I", "-S", keeper.__file__)


@dataclass(frozen=True)
class Limits:
    """What a command may use, None for as much as it likes: seconds, and bytes of memory (watched on Linux only)."""

    seconds: float | None = None
    bytes: float | None = None


@dataclass(frozen=True)
class Exit:
    """How a command ended: its return code as subprocess has it, why it was killed if it was, and its last words.

    `verdict` is a status of a record and a reason, None where the command ended by itself or was asked to. `excused`:
    it has said by `excuse` that it ends without a result by design.
    """

    code: int
    verdict: tuple[str, str] | None
    tail: str
    seconds: float = 0.0
    excused: bool = False


class Process:
    """A command under way. It ends within a second of this process's death, and with it all that it has forked.

    Where the keeper is killed, this process finds by MARK what the command has forked; nobody does where both are.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits,
        environment: Mapping[str, str],
        cpus: frozenset[int] | None = None,
    ) -> None:
        self.limits = limits
        self.begun = time.monotonic()
        self.asked: float | None = None
        self._kills = [oom_kills()] * 2  # at the last two looks: of this moment, not of hours ago
        self._members: list[int] = []
        self._scanned = 0.0
        self._mark = uuid.uuid4().hex
        with _affinity(cpus):
            self._keeper = subprocess.Popen(
                [*KEEPER, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, MARK: self._mark},
                process_group=0,  # Ctrl-C reaches us alone
            )
        assert self._keeper.stdout is not None
        self._tail = _Tail(self._keeper.stdout)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.begun

    @property
    def said(self) -> str:
        """Its latest full line."""
        return self._tail.last

    def wait(self, seconds: float) -> Exit | None:
        """Give it `seconds` to end, and see to its limits; how it ended, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(seconds)
        verdict = None
        if self._keeper.poll() is None:
            self._look()
            verdict = self._broken()
            if verdict is None and (self.asked is None or time.monotonic() < self.asked + GRACE_SECONDS):
                return None
        self.kill()
        if self._keeper.returncode == -signal.SIGKILL and verdict is None and oom_kills() > self._kills[0]:
            verdict = "oom", "killed by the system for want of memory"
        text, excuse = self._tail.text, _excuse_of(self._mark)
        excused = excuse in text.splitlines()
        return Exit(self._keeper.returncode, verdict, text.replace(excuse, ""), self.seconds, excused)

    def ask(self) -> None:
        """Ask it to stop; it is killed GRACE_SECONDS later."""
        if self.asked is None:
            self.asked = time.monotonic()
            self._keeper.terminate()

    def kill(self) -> None:
        """Kill what is left: the command and all that it forked."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # something that cannot be killed
            self._keeper.wait(GRACE_SECONDS)
        self._keeper.kill()
        self._keeper.wait()
        self._kill_marked()
        self._tail.close()

    def _kill_marked(self) -> None:
        """Kill what a keeper that was killed has left, within GRACE_SECONDS."""
        end = time.monotonic() + GRACE_SECONDS
        while (left := marked(self._mark)) and time.monotonic() < end:  # until there is none: they may fork meanwhile
            keeper.kill_each(left)
            time.sleep(0.01)

    def _look(self) -> None:
        """Once a RESCAN_SECONDS, see what there is of it, and whom the system has killed."""
        if time.monotonic() > self._scanned + RESCAN_SECONDS:
            if self.limits.bytes is not None:
                self._members = keeper.descendants(self._keeper.pid)
            self._kills, self._scanned = [self._kills[1], oom_kills()], time.monotonic()

    def _broken(self) -> tuple[str, str] | None:
        """Status and reason where a limit is broken."""
        seconds, most = self.limits.seconds, self.limits.bytes
        if seconds is not None and self.seconds > seconds:
            return "timeout", f"killed after {seconds:g} s"
        if most is None:
            return None
        if (used := resident(self._members)) <= most:
            return None
        return "oom", f"killed at {used / GIGABYTE:.2f} GB of memory, above its limit of {most / GIGABYTE:.2f} GB"


def excuse() -> None:
    """Tell the Process that this is the command of, if any, that it ends without a result by design.

    An exit status cannot tell: what the command calls may end it with any.
    """
    if mark := os.environ.get(MARK):
        sys.stderr.write(f"\n{_excuse_of(mark)}\n")  # a line of its own, whatever was written before
        sys.stderr.flush()


def _excuse_of(mark: str) -> str:
    return f"no result, by design: {mark}"


def marked(mark: str) -> list[int]:
    """This user's processes in whose environment MARK is `mark`; none where there is no /proc."""
    entry = f"{MARK}={mark}".encode()
    found = []
    for path in PROC.glob("[0-9]*/environ"):
        with suppress(OSError):  # another user's, or it has just ended
            if entry in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def resident(processes: Iterable[int]) -> int:
    """Bytes of memory that `processes` hold together; what they share counts once, as the most that one of them has."""
    own = shared = 0
    for process in processes:
        with suppress(OSError, IndexError, ValueError):
            _, all_pages, shared_pages, *_ = map(int, (PROC / str(process) / "statm").read_text().split())
            own += all_pages - shared_pages
            shared = max(shared, shared_pages)
    return (own + shared) * os.sysconf("SC_PAGE_SIZE")


def memory_allowed() -> float | None:
    """Bytes of memory that this machine or its container has; None where the system does not tell."""
    found = []
    with suppress(OSError, IndexError, ValueError):
        found.append(1024.0 * int((PROC / "meminfo").read_text().split()[1]))
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            found.append(float(int(path.read_text())))
    return min(found, default=None)


def oom_kills() -> int:
    """Processes that the system has killed for want of memory, as far as it tells."""
    found = 0
    for path in OOM_COUNTERS:
        with suppress(OSError):
            lines = path.read_text().splitlines()
            found += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return found


@contextmanager
def _affinity(cpus: frozenset[int] | None) -> Iterator[None]:
    """Within, this thread runs on `cpus`, and so will the processes that it starts."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


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

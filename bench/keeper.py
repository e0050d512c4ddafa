"""Runs a command, and when it ends kills all that it has left running:   python keeper.py COMMAND [ARGUMENT...]

Started by bench.process with a pipe at its stdin; stands alone, so that it starts quickly. It is the subreaper
(prctl(2), Linux) of what the command forks, which stays below it though it leaves its process group or session. When
the pipe closes, because its launcher says so or is dead, the command is killed too. SIGTERM is passed on to the
command. The keeper ends as the command does: with its exit status, or by its signal. Killed itself, it takes the
command along; what that has forked is left to bench.process.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

PROC = Path("/proc")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
CLOSED = signal.SIGUSR1  # says that the pipe is


def main(command: Sequence[str]) -> NoReturn:
    """Run `command` and end as it does."""
    heard = {signal.SIGTERM, signal.SIGCHLD, CLOSED}
    signal.signal(signal.SIGCHLD, lambda *_: None)  # inherited as ignored, none would come; exec resets it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # none is lost: they wait for sigwait
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    process = _start(command, before)
    threading.Thread(target=_watch, daemon=True).start()
    status = None
    while status is None:
        match signal.sigwait(heard):
            case signal.SIGTERM:
                os.kill(process, signal.SIGTERM)
            case signal.SIGCHLD:
                status = _status(process)
            case _:
                kill(process)
    with suppress(ChildProcessError):  # until there is none; what was forked meanwhile is ours when its parent is dead
        while True:
            kill_each(descendants(os.getpid()))
            os.wait()
    _end(os.waitstatus_to_exitcode(status))


def kill(group: int) -> None:
    """Kill the process group, and what is below this process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)  # all that can be known where there is no /proc
    kill_each(descendants(os.getpid()))


def kill_each(processes: Iterable[int]) -> None:
    """Kill those of `processes` that are there, and ours."""
    for process in processes:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def descendants(process: int) -> list[int]:
    """The children of `process`, and theirs, and so on; none where there is no /proc."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for path in PROC.glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):  # it has just ended; names are bytes, cut anywhere
            children[int(path.read_bytes().rpartition(b")")[2].split()[1])].append(int(path.parent.name))
    found = list(children[process])
    for child in found:  # which grows
        found += children[child]
    return found


def _start(command: Sequence[str], mask: Iterable[int]) -> int:
    """The number of the command, which leads a group of its own and dies with the keeper, should that be killed.

    The signals in `mask` are blocked in it.
    """
    keeper = os.getpid()
    process = os.fork()
    if process:
        return process
    try:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if os.getppid() == keeper:  # else it died before that, and there is no signal to come
            os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _status(process: int) -> int | None:
    """How the command has ended, None if it has not; others of ours that have are reaped.

    What it has left is killed first: once it is reaped its number, and its group's, may be another's.
    """
    if not hasattr(os, "waitid"):  # macOS before Python 3.13, where there are no others
        ended, status = os.waitpid(process, os.WNOHANG)
        if not ended:  # it has been stopped
            return None
        kill(process)  # late by a moment: there is no asking without reaping
        return status
    while (child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if child.si_pid == process:
            kill(process)
            return os.waitpid(process, 0)[1]
        os.waitpid(child.si_pid, 0)
    return None


def _watch() -> None:
    """Wait for the end of the pipe."""
    os.read(0, 1)
    os.kill(os.getpid(), CLOSED)


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)


def _end(code: int) -> NoReturn:
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's own is enough
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        signal.raise_signal(-code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])

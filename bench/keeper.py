"""Runs a command, and when it ends kills all that it has left running:   python keeper.py COMMAND [ARGUMENT...]

Started by bench.process with a pipe at its stdin; stands alone, so that it starts quickly. It is the subreaper
(prctl(2), Linux) of what the command forks, which stays below it though it leaves its process group or session. When
the pipe closes, because its launcher says so or is dead, the command is killed too. SIGTERM is passed on to the
command. The keeper ends as the command does: with its exit status, or by its signal.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

PROC = Path("/proc")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


def main(command: Sequence[str]) -> NoReturn:
    """Run `command` and end as it does."""
    begun: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in begun:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process, number)

    signal.signal(signal.SIGTERM, pass_on)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    begun.append(process := _start(command))
    threading.Thread(target=_watch, args=(process,), daemon=True).start()
    ended, status = os.wait()
    while ended != process:  # some that it has left behind
        ended, status = os.wait()
    begun.clear()
    with suppress(ChildProcessError):  # until there is none; what was forked meanwhile is ours when its parent is dead
        while True:
            kill(process)
            os.wait()
    _end(os.waitstatus_to_exitcode(status))


def kill(group: int) -> None:
    """Kill the process group, and what is below this process."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)  # all that can be known where there is no /proc
    for process in descendants(os.getpid()):
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


def _start(command: Sequence[str]) -> int:
    """The number of the command, which leads a group of its own and dies with the keeper, should that be killed."""
    keeper = os.getpid()
    process = os.fork()
    if process:
        return process
    try:
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if os.getppid() == keeper:  # else it died before that, and there is no signal to come
            os.execvp(command[0], list(command))
    except OSError as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _watch(process: int) -> None:
    """Wait for the end of the pipe."""
    os.read(0, 1)
    kill(process)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)


def _end(code: int) -> NoReturn:
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's own is enough
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        signal.raise_signal(-code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])

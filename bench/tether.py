"""Run a command that dies with its parent: `python tether.py <parent's pid> command...`.

On Linux, that is; elsewhere it just runs.
A job whose launcher was killed would otherwise compute beside the next sweep and spoil its timings.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # survives the exec below
        if os.getppid() != parent:
            sys.exit("the launcher is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()

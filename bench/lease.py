"""One process at a time computes a cell: a lock that the system drops when its holder dies, however it dies.

<results>/.sweep/leases stays empty; who computes a cell has locked the byte of it that the cell's key counts to. These
are POSIX record locks. On NFS the server keeps them (version 4, or 3 with lockd) and drops those of a client that it
has lost for its lease time, usually 90 s. Where a file system has none, or keeps them to one machine (the mount options
nolock and local_lock), two machines may compute a cell at once: the first record stands all the same.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HELD = 4  # exit status of a process that found its cell computed by another
TRIES = 3
PAUSE_SECONDS = 0.05  # whoever only looks, as `held` does, holds a lease for a moment


@contextmanager
def hold(results: Path, key: str, tries: int = TRIES) -> Iterator[bool]:
    """Within, no other process computes the cell `key`; False where one does already."""
    folder = results / ".sweep"
    with suppress(OSError):  # the record will tell
        folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / "leases", int(key, 16) % 2**62, tries) as mine:
        yield mine


@contextmanager
def alone(path: Path, byte: int = 0, tries: int = TRIES) -> Iterator[bool]:
    """Within, no other process has `byte` of the file `path`, which stays; False where one has already.

    True where there is no folder for it, a read-only one, or a file system without locks.
    """
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    if descriptor is None:
        yield True
        return
    try:
        yield _locked(descriptor, byte, tries)
    finally:
        os.close(descriptor)  # which drops the lock, and this process's others of the file


def held(results: Path, key: str) -> bool:
    """Whether another process computes the cell `key`. Not to be asked by one that holds a lease: it would drop it."""
    if not (results / ".sweep" / "leases").exists():
        return False
    with hold(results, key, tries=1) as mine:
        return not mine


def _locked(descriptor: int, byte: int, tries: int) -> bool:
    for left in reversed(range(tries)):
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # the two that POSIX allows
            time.sleep(PAUSE_SECONDS if left else 0.0)
        except OSError:  # no locks here
            return True
        else:
            return True
    return False

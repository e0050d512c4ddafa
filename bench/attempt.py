"""Where the checkpoint of a cell is. Slurm can run a job twice at once, so each of its attempts has a file of its own.

<results>/checkpoints/<key>.pt, or <key>.<job>-<restart>.pt under Slurm. Imports no torch.
"""

import os
from contextlib import suppress
from pathlib import Path

from bench.record import write_over


def path(results: Path, key: str) -> Path:
    """The checkpoint that this process writes for the cell `key`."""
    job, restart = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
    return results / "checkpoints" / (f"{key}.pt" if job is None else f"{key}.{job}-{restart}.pt")


def adopt(checkpoint: Path) -> None:
    """Go on from what any attempt wrote last: another's may be later than this one's of before. Raises OSError."""
    latest = max(everyone(checkpoint), key=lambda one: one.stat().st_mtime, default=checkpoint)
    if latest != checkpoint:
        write_over(checkpoint, latest.read_bytes())


def discard(checkpoint: Path) -> None:
    """Remove the checkpoints of all attempts: the record is there."""
    for other in everyone(checkpoint):
        with suppress(OSError):
            other.unlink(missing_ok=True)


def everyone(checkpoint: Path) -> list[Path]:
    """The checkpoints of all attempts at the cell."""
    return list(checkpoint.parent.glob(f"{checkpoint.name.partition('.')[0]}.*pt"))

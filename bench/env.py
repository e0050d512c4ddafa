"""Where a run took place, as plain data: versions, device, processor, threads, commit. No host name and no path."""

import ctypes
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchdiffeq", "numpy", "scipy", "scikit-learn", "pandas", "hydra-core", "POT")
CODE = ("bench", "datasets", "solvers", "hydra_plugins")  # where a file that git does not know is code that may run
LAUNCHER = "CNF_OT_LAUNCHER"  # how a launcher tells its jobs what they run under
SLOTS = "CNF_OT_SLOTS"


KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}  # of glibc's malloc, as it reads them
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # the same, of mallopt(3)


def keep_memory() -> None:
    """Let this process, and those that it starts, keep freed memory instead of giving it back to the system.

    Otherwise large temporaries are faulted in anew at each step, up to half of a timing on a CPU. Does nothing where
    the environment sets the allocator already, or where the C library is not glibc.
    """
    if allocator():
        return
    try:
        set_option = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    if set_option(M_MMAP_MAX, 0) and set_option(M_TRIM_THRESHOLD, -1):
        os.environ.update(KEEP_MEMORY)  # read by the processes that this one starts, and by `allocator`


def threads_allowed() -> int:
    """As many threads as this process may use: OMP_NUM_THREADS, else the processors it may run on."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def affinity() -> list[int] | None:
    """The processors that this process may run on, as the system numbers them; None where it does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def describe(device: str, device_name: str, threads: int) -> dict[str, Any]:
    """The environment of a run on `device`, whose model is `device_name`."""
    return {
        "versions": {"python": platform.python_version(), **versions()},
        "device": device if device == "cpu" else f"{device} {device_name}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "launcher": os.environ.get(LAUNCHER, "none"),
        "slots": int(os.environ.get(SLOTS, "1")),
        "affinity": affinity(),
        "allocator": allocator(),
        "platform": f"{platform.system()} {platform.machine()}",
        **commit(),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that are installed, without importing one."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model name, with its family and model number, as far as the system tells.

    The numbers tell machines apart whose names do not: under a hypervisor, processors of several generations are all
    called "AMD EPYC", and one of them may be twice as fast as another.
    """
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    fields: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        fields.setdefault(name.strip(), value.strip())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    numbers = [f"{word} {fields[key]}" for word, key in (("family", "cpu family"), ("model", "model")) if key in fields]
    return f"{fields['model name']} ({', '.join(numbers)})" if numbers else fields["model name"]


def allocator() -> dict[str, str]:
    """What changes the allocator: it can be half of a timing on a CPU. Libraries by their file names only."""
    found = {name: value for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_")}
    if preload := os.environ.get("LD_PRELOAD"):
        found["LD_PRELOAD"] = " ".join(Path(library).name for library in preload.replace(":", " ").split())
    return found


def commit() -> dict[str, Any]:
    """The commit of this checkout, and whether files of it have changed or code was added to it; None without git."""
    root = Path(__file__).parents[1]
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        added = _git(root, "ls-files", "--others", "--exclude-standard", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": bool(changed or added)}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

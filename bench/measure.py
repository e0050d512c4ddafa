"""What a run costs: a clock that synchronises, peak memory, work counters, and the noise of the machine."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
PRESSURE = Path("/proc/pressure/cpu")
STAT = Path("/proc/stat")

MOST = 30  # repeats


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock:
    """Adds up the seconds of the blocks under `timed`; `last` is the latest block's."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.last = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Time the block, with the device idle at both ends and the garbage collector off.

        A block that raises is timed too.
        """
        collecting = gc.isenabled()
        gc.disable()
        synchronize(self.device)
        begin = time.perf_counter_ns()
        try:
            yield
        finally:
            try:
                synchronize(self.device)
            finally:
                self.last = (time.perf_counter_ns() - begin) * 1e-9
                self.seconds += self.last
                if collecting:
                    gc.enable()


def repeat(f: Callable[[], Any], device: torch.device, least: int = 3, seconds: float = 0.5) -> list[float]:
    """Seconds of each call of f: at least `least` of them, and more until they add up to `seconds` or are MOST.

    Warm f up first.
    """
    clock = Clock(device)
    found: list[float] = []
    while len(found) < least or (clock.seconds < seconds and len(found) < MOST):
        with clock.timed():
            f()
        found.append(clock.last)
    return found


def rows_within(f: Callable[[int], Any], rows: int, seconds: float, device: torch.device) -> tuple[int, float]:
    """How many of `rows` rows f(n) gets through in `seconds`, and the seconds predicted for them; warms f up.

    Takes twice as many rows each time until a call is long enough to predict from, or has taken all rows.
    """
    clock = Clock(device)
    n = min(rows, 64)
    f(n)
    while True:
        with clock.timed():
            f(n)
        if n == rows or clock.last > 0.1:
            break
        n = min(rows, 2 * n)
    predicted = clock.last * rows / n
    if predicted <= seconds:
        return rows, predicted
    fitting = max(1, int(rows * seconds / predicted))
    return fitting, clock.last * fitting / n


def flops_of(func: OpOverload) -> Callable[..., int] | None:
    """What counts the FLOPs of an operation; torch's registry knows addmm, and not that addmm_ is the same work."""
    packet = func._overloadpacket
    known = flop_registry.get(packet)
    if known is None and packet.__name__.endswith("_"):
        known = flop_registry.get(getattr(torch.ops.aten, packet.__name__.removesuffix("_"), None))
    return known


class Work(TorchDispatchMode):
    """Counts, within the block, the aten calls and the FLOPs of matrix-matrix products, backward passes included.

    torch's own FlopCounterMode fails on torchdiffeq's odeint_adjoint (pytorch#131753).
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        count = flops_of(func)
        if count is None and torch.is_inference_mode_enabled():
            with self:  # composite operations arrive whole in inference mode
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        self.calls += 1
        if count is not None:
            self.flops += int(count(*args, **kwargs, out_val=out))
        return out


def reset_peak(device: torch.device) -> None:
    """Begin to look for the peak of memory anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return  # the peak is then that of the process, which is fresh for each run of a sweep


def peak_bytes(device: torch.device) -> int | None:
    """The most memory held since `reset_peak`: of the device, or of the process on a CPU; None where unknown.

    getrusage's ru_maxrss will not do: it is inherited through exec.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found else None


class Noise:
    """What else the machine did since this was made."""

    def __init__(self) -> None:
        self.begin = (time.monotonic(), _pressure(), _stat(), _switches())

    def read(self) -> dict[str, float | None]:
        """Shares of the time in which some task waited for a CPU and in which the hypervisor took the CPU away,

        and involuntary context switches a second; None where the system does not say.
        """
        now, pressure, stat, switches = time.monotonic(), _pressure(), _stat(), _switches()
        then, pressure0, stat0, switches0 = self.begin
        seconds = max(now - then, 1e-9)
        found: dict[str, float | None] = {"cpu_pressure": None, "steal": None, "switches_per_second": None}
        if pressure is not None and pressure0 is not None:
            found["cpu_pressure"] = (pressure - pressure0) * 1e-6 / seconds
        if stat is not None and stat0 is not None:
            found["steal"] = (stat[1] - stat0[1]) / max(stat[0] - stat0[0], 1)
        if switches is not None and switches0 is not None:
            found["switches_per_second"] = (switches - switches0) / seconds
        return found


def _pressure() -> int | None:
    """Microseconds in which some task waited for a CPU."""
    try:
        some = PRESSURE.read_text().splitlines()[0]
        return int(some.rsplit("total=", 1)[1])
    except (OSError, IndexError, ValueError):
        return None


def _stat() -> tuple[int, int] | None:
    """Ticks of all kinds, and of those the stolen ones."""
    try:
        ticks = [int(word) for word in STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, IndexError, ValueError):
        return None
    return (sum(ticks), ticks[7]) if len(ticks) == 8 else None


def _switches() -> int | None:
    """Involuntary context switches of this process."""
    try:
        import resource  # not on every system
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

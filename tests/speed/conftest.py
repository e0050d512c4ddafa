"""What the measurements share: `make speed` runs them, other test runs skip them, and nothing here asserts a speed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.env import keep_memory
from bench.yardstick import Comparison, Yardstick, interleaved, stopwatch


@pytest.fixture(autouse=True)
def _float32(_float64) -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True, scope="session")
def _kept_memory() -> None:
    keep_memory()


@pytest.fixture
def over(benchmark) -> Callable[..., Comparison]:
    """over(f, base, ...) notes how many times the time of `base` that of `f` is, measured in turn.

    `base` is a Yardstick, or another computation.
    """

    def compare(
        f: Callable[[], Any],
        base: Yardstick | Callable[[], Any],
        must: float | None = None,
        aim: float | None = None,
        pairs: int = 9,
    ) -> Comparison:
        found = interleaved(stopwatch(f), base.seconds if isinstance(base, Yardstick) else stopwatch(base), pairs)
        value, low, high = found.ratio()
        benchmark.pedantic(f, rounds=1)  # pytest-benchmark keeps no test without a run of its own
        benchmark.extra_info.update(value=value, interval=(low, high), must=must, aim=aim)
        benchmark.extra_info.update(threads=torch.get_num_threads())
        benchmark.extra_info.update(seconds=sorted(found.a)[pairs // 2], a=found.a, b=found.b)
        if isinstance(base, Yardstick):
            gflop = base.flop * 1e-9
            benchmark.extra_info.update(gflop=gflop, gflop_per_second=gflop / sorted(found.b)[pairs // 2])
        return found

    return compare

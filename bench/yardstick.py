"""The yardstick of speed: how long the matrix products of a computation take by themselves, on this machine, now.

    make speed      runs tests/speed and prints the table that `python -m bench.yardstick FILE` makes of their JSON

Exit status 1 where a figure is above what it must reach, or none was measured; those above are named.

A computation's time over its yardstick's is comparable between machines; 1 is what no code that forms those
products at those shapes can beat. Both are measured in turn, so that what the machine does meanwhile meets both.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.measure import Clock
from bench.stats import Interval, paired_ratio

BURST = 1e9  # FLOP of one product measured at a time: some milliseconds


@dataclass(frozen=True)
class Product:
    """`count` products of an (m, k) and a (k, n) matrix."""

    m: int
    k: int
    n: int
    count: int = 1

    @property
    def flop(self) -> int:
        """Of all of them, an addition and a multiplication being two."""
        return 2 * self.m * self.k * self.n * self.count


class Yardstick:
    """Seconds that matrix products take: each distinct one by torch.mm into kept buffers, times its count."""

    def __init__(self, products: Iterable[Product], dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        self.products = list(products)
        self.clock = Clock(torch.device(device))
        rng = torch.Generator(device).manual_seed(0)
        self.buffers = [
            (
                torch.randn(p.m, p.k, generator=rng, device=device).to(dtype),
                torch.randn(p.k, p.n, generator=rng, device=device).to(dtype),
                torch.empty(p.m, p.n, dtype=dtype, device=device),
            )
            for p in self.products
        ]

    @property
    def flop(self) -> int:
        return sum(p.flop for p in self.products)

    def seconds(self) -> float:
        """Measured now; call once to warm up."""
        return sum(map(self._product, self.products, self.buffers))

    def _product(self, product: Product, buffers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> float:
        a, b, out = buffers
        repeats = min(product.count, max(1, round(BURST * product.count / product.flop)))
        with self.clock.timed():
            for _ in range(repeats):
                torch.mm(a, b, out=out)
        return self.clock.last * product.count / repeats


@dataclass(frozen=True)
class Comparison:
    """Seconds of two computations measured in turn, A B B A ..."""

    a: Sequence[float]
    b: Sequence[float]

    def ratio(self) -> Interval:
        """Median of a / b with its bootstrap interval, by pairs."""
        return paired_ratio(np.asarray(self.a), np.asarray(self.b), np.random.default_rng(0))


def interleaved(a: Callable[[], float], b: Callable[[], float], pairs: int) -> Comparison:
    """`pairs` measurements of each; `a` and `b` measure themselves and give seconds. Both run once before, unheeded."""
    a(), b()
    found = [(a(), b()) if i % 2 == 0 else (b(), a())[::-1] for i in range(pairs)]
    return Comparison([x for x, _ in found], [y for _, y in found])


def stopwatch(f: Callable[[], Any], device: torch.device | None = None) -> Callable[[], float]:
    """`f` as `interleaved` takes it: runs it and gives its seconds."""
    clock = Clock(device or torch.device("cpu"))

    def seconds() -> float:
        with clock.timed():
            f()
        return clock.last

    return seconds


COLUMNS = ("measured", "value", "interval", "must reach", "aim", "GFLOP", "GFLOP/s of yardstick", "seconds")


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table of a pytest-benchmark file, from what tests/speed left in `extra_info`."""
    found: list[tuple[str, ...]] = []
    for result in results["benchmarks"]:
        info = result["extra_info"]
        if "value" not in info:
            continue
        found.append(
            (
                result["name"].removeprefix("test_"),
                f"{info['value']:.3g}{info.get('unit', '')}",
                _interval(info.get("interval")),
                _number(info.get("must")),
                _number(info.get("aim")),
                _number(info.get("gflop")),
                _number(info.get("gflop_per_second")),
                _number(info.get("seconds")),
            )
        )
    return found


def missed(results: Mapping[str, Any]) -> list[str]:
    """The figures above what they must reach, as lines."""
    given = [(result["name"], result["extra_info"]) for result in results["benchmarks"]]
    return [
        f"{name.removeprefix('test_')}: {info['value']:.3g}, and must reach {info['must']:g}"
        for name, info in given
        if info.get("must") is not None and not info["value"] <= info["must"]
    ]


def threads(results: Mapping[str, Any]) -> str:
    """With how many threads the measurements of a file were made."""
    found = {result["extra_info"]["threads"] for result in results["benchmarks"] if "threads" in result["extra_info"]}
    return ", ".join(map(str, sorted(found))) or "unknown"


def _interval(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.3g} to {interval[1]:.3g}" if interval else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def main() -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m bench.yardstick", description="print the table of `make speed`")
    parser.add_argument("file", type=Path, help="JSON that pytest-benchmark wrote")
    path = parser.parse_args().file
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"{path}: {error}; `make speed` writes it")
    machine, commit = results["machine_info"], results["commit_info"]
    cpu = machine["cpu"].get("brand_raw", machine["machine"])
    table = Table(*COLUMNS, title=f"{cpu}, threads {threads(results)}, commit {commit['id'][:12]}")
    found, above = rows(results), missed(results)
    for row in found:
        table.add_row(*map(escape, row))
    console = Console(width=140)
    console.print(table)
    for line in above or ([] if found else ["nothing was measured"]):
        console.print(line, markup=False, highlight=False, style="red")
    return int(bool(above) or not found)


if __name__ == "__main__":
    sys.exit(main())

"""How OT-Flow's training step grows with dimension, width, batch and steps, and how near the machine's limits it is.

    python -m bench.scaling          writes results/scaling/<device>.json and a figure

Slopes are those of log seconds against log size by least squares, one size varied at a time. The roofline (Williams,
Waterman and Patterson 2009): a step's matrix-product FLOP/s against its FLOP per byte that its operations read and
write, as if nothing stayed in cache, beside the measured rate of a large matrix product and of a large copy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves

from bench.commandline import options
from bench.env import keep_memory
from bench.measure import Clock, Work, repeat
from bench.record import write_json
from bench.report import kernels
from bench.trace import usable, where
from bench.yardstick import Product, Yardstick
from datasets.base import Samples
from datasets.gaussians import standard_normal
from solvers.otflow import OTFlow, OTFlowFit

OUT = Path(__file__).parents[1] / "results" / "scaling"


@dataclass(frozen=True)
class Shape:
    """Of a training step at depth 2."""

    d: int = 32
    width: int = 128
    batch: int = 1024
    steps: int = 2


SIZES: Mapping[str, Sequence[int]] = {
    "d": (8, 16, 32, 64, 128),
    "width": (128, 256, 512),
    "batch": (512, 1024, 2048, 4096),
    "steps": (1, 2, 4, 8),
}


ROUNDS = 7


@dataclass(frozen=True)
class Row:
    """Median seconds of a step, its matrix-product FLOP, and the bytes that all its operations read and write."""

    varied: str
    shape: Shape
    seconds: float
    flop: int
    bytes: int


class Traffic(Work):
    """Counts bytes of what operations take and give as well, views aside."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if not func.is_view:
            targets = {one.name for one in func._schema.arguments if one.is_out}  # written alone, and in `out` besides
            read = {name: value for name, value in (kwargs or {}).items() if name not in targets}
            tensors = (leaf for leaf in tree_leaves((args, read, out)) if isinstance(leaf, Tensor))
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def measure(shapes: Sequence[tuple[str, Shape]], device: str = "cpu", rounds: int = ROUNDS) -> list[Row]:
    """Training steps on standard normal rows, float32; all shapes are timed in turn, as a machine's speed drifts."""
    fits = [begin(shape, device) for _, shape in shapes]
    works = [work_of(fit) for fit in fits]
    clock = Clock(torch.device(device))
    seconds: list[list[float]] = [[] for _ in fits]
    for _ in range(rounds):
        for fit, kept in zip(fits, seconds, strict=True):
            with clock.timed():
                fit.step()
            kept.append(clock.last)
    return [
        Row(varied, shape, float(np.median(kept)), work.flops, work.bytes)
        for (varied, shape), kept, work in zip(shapes, seconds, works, strict=True)
    ]


def begin(shape: Shape, device: str) -> OTFlowFit:
    rng = Generator(device).manual_seed(0)
    rows = torch.randn(shape.batch, shape.d, generator=rng, device=device, dtype=torch.float32)
    solver = OTFlow(width=shape.width, n_steps=shape.steps, batch_size=shape.batch)
    return solver.start(Samples(rows, rows[:8]), standard_normal(shape.d), rng)


def work_of(fit: OTFlowFit) -> Traffic:
    """Of a step that is not the first: buffers are there."""
    fit.step()
    with Traffic() as traffic:
        fit.step()
    return traffic


def slope(rows: Sequence[Row], varied: str) -> float:
    """Of log seconds against log size."""
    of = [row for row in rows if row.varied == varied]
    sizes = [getattr(row.shape, varied) for row in of]
    return float(np.polyfit(np.log(sizes), np.log([row.seconds for row in of]), 1)[0])


def limits(device: str = "cpu") -> dict[str, float]:
    """FLOP/s of a (2048, 2048) matrix product and bytes/s, read and written, of a copy of 256 MB; float32."""
    stick = Yardstick([Product(2048, 2048, 2048)], device=device)
    source = torch.zeros(2**26, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    copies = repeat(lambda: target.copy_(source), torch.device(device), 5)
    return {
        "flop_per_second": stick.flop / min(stick.seconds() for _ in range(5)),
        "bytes_per_second": 2 * source.numel() * source.element_size() / min(copies),
    }


def main() -> None:
    parser = options("bench.scaling", __doc__)
    parser.add_argument("--device", type=usable, default="cpu", help="cpu (default) or cuda")
    device = parser.parse_args().device
    keep_memory()
    rows = measure([(name, Shape(**{name: size})) for name, sizes in SIZES.items() for size in sizes], device)
    found = {
        "environment": where(device),
        "limits": limits(device),
        "slopes": {name: slope(rows, name) for name in SIZES},
        "rows": [asdict(row) for row in rows],
    }
    write_json(OUT / f"{device}.json", found)
    kernels.draw("scaling", found, OUT / device)


if __name__ == "__main__":
    main()

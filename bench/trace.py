"""What an exact trace costs, and what an estimate errs: OT-Flow's closed form against automatic differentiation.

    python -m bench.trace            writes results/trace/<device>.json, and a figure with the published values beside

Figure 2 of Onken et al. 2021 (arXiv 2006.00104): Laplacians of potentials of width 64 and depth 2 at 512 points, at
the dimensions of MINIBOONE, BSDS300 and MNIST, on initial weights; Hutchinson's estimate takes Rademacher vectors.
"""

from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from bench.commandline import options
from bench.env import describe, keep_memory
from bench.measure import repeat
from bench.record import BadInput, write_json
from bench.report import kernels
from bench.run import device_type, find_device
from solvers.potential import Potential
from solvers.train import seeded

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "trace"
DIMS = (43, 63, 784)
CLOSED, AUTOGRAD, HUTCHINSON = "closed form", "automatic differentiation", "Hutchinson"


@dataclass(frozen=True)
class Row:
    """Median seconds of a method at `dim`, and the norm over points of its error, relative to that of the truth.

    `vectors` are those of an estimate, 0 for what is exact.
    """

    dim: int
    method: str
    vectors: int
    seconds: float
    relative_error: float


def hutchinson(potential: Potential, s: Tensor, vectors: int, rng: Generator) -> Tensor:
    """Mean over Rademacher vectors e of e' H e, H the Hessian in x: (n,)."""
    s = s.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(potential(s).sum(), s, create_graph=True)
    total = s.new_zeros(len(s))
    for _ in range(vectors):
        e = torch.randint(2, s.shape, generator=rng, device=s.device).to(s.dtype).mul_(2).sub_(1)
        e[:, -1] = 0.0  # in x alone
        total += (torch.autograd.grad(gradient, s, e, retain_graph=True)[0] * e).sum(1)
    return total / vectors


def by_autograd(potential: Potential, s: Tensor) -> Tensor:
    """The Laplacian, one row of the Hessian after the other: (n,)."""
    s = s.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(potential(s).sum(), s, create_graph=True)
    total = s.new_zeros(len(s))
    for i in range(s.shape[1] - 1):
        e = torch.zeros_like(s)
        e[:, i] = 1.0
        total += torch.autograd.grad(gradient, s, e, retain_graph=True)[0][:, i]
    return total


def measure(dim: int, width: int = 64, n: int = 512, seed: int = 0, device: str = "cpu") -> Iterator[Row]:
    """The closed form, automatic differentiation, and Hutchinson's estimate with 1 .. dim vectors; float32."""
    rng = Generator(device).manual_seed(seed)
    with seeded(rng):
        potential = Potential(dim, width).to(device, torch.float32).requires_grad_(False)
    s = torch.randn(n, dim + 1, generator=rng, device=device, dtype=torch.float32)
    truth = by_autograd(potential.double(), s.double())
    potential.float()

    def row(method: str, vectors: int, laplacian: Tensor, seconds: list[float]) -> Row:
        error = ((laplacian.double() - truth).norm() / truth.norm()).item()
        return Row(dim, method, vectors, float(np.median(seconds)), error)

    def closed() -> Tensor:
        with torch.inference_mode():
            return potential.gradient_and_laplacian(s)[1]

    at = torch.device(device)
    found = closed()
    yield row(CLOSED, 0, found, repeat(closed, at, 5))
    found = by_autograd(potential, s)
    yield row(AUTOGRAD, 0, found, repeat(lambda: by_autograd(potential, s), at, 3))
    for vectors in sorted({1, *np.linspace(1, dim, 6).round().astype(int).tolist()}):
        found = hutchinson(potential, s, vectors, rng)
        yield row(HUTCHINSON, vectors, found, repeat(lambda: hutchinson(potential, s, vectors, rng), at, 3))  # noqa: B023


def main() -> None:
    parser = options("bench.trace", __doc__)
    parser.add_argument("--device", type=usable, default="cpu", help="cpu (default) or cuda")
    device = parser.parse_args().device
    keep_memory()  # as in a run: automatic differentiation gains most
    rows = [row for dim in DIMS for row in measure(dim, device=device)]
    found = {"environment": where(device), "rows": list(map(asdict, rows))}
    write_json(OUT / f"{device}.json", found)
    kernels.draw("trace", found, OUT / device)


def usable(device: str) -> str:
    """`device`, as the type of an option: argparse tells of one that is none, or not here."""
    try:
        device_type(device)
        find_device(device)
    except BadInput as error:
        raise ArgumentTypeError(str(error)) from None
    return device


def where(device: str) -> dict[str, object]:
    """The environment of a measurement, and its commit."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else ""
    return describe(device, name, torch.get_num_threads())


if __name__ == "__main__":
    main()

"""OT-Flow's training step and inference against their matrix products: `make speed`."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch

from bench.measure import peak_bytes
from bench.yardstick import Product, Yardstick
from datasets.base import Samples
from datasets.gaussians import standard_normal
from solvers.otflow import OTFlow, OTFlowFit
from solvers.potential import Potential

TOY = OTFlow(width=32, n_steps=8, batch_size=4096)
MINIBOONE = OTFlow(width=256, n_steps=6, batch_size=2000)


def authors_products(d: int, m: int, depth: int, n_steps: int, batch: int) -> list[Product]:
    """The matrix products of a training step in the code of OT-Flow's authors, the quadratic term's aside.

    Phi.trHess applies an opening layer and its transpose, each further layer three times (once for u, twice more
    for z and for the trace) and transposed, and to the Jacobian (m, d n). Each product has two more on the way back,
    but for the last layer's for u, on which nothing depends.
    """
    n, once, each = batch, 4 * n_steps, 4 * n_steps * (depth - 1)
    return [
        Product(n, d + 1, m, once), Product(n, m, d + 1, once), Product(m, n, d + 1, once),  # K_0 s
        Product(d + 1, m, n, once), Product(m, d + 1, n, once), Product(d + 1, n, m, once),  # K_0'
        Product(n, m, m, 3 * each), Product(n, m, m, 3 * each - once), Product(m, n, m, 3 * each - once),  # K_i u
        Product(m, m, n, 2 * each), Product(m, n, m, each),  # K_i'
        Product(m, m, d * n, 2 * each), Product(m, d * n, m, each),  # K_i J
    ]  # fmt: skip


def density_products(d: int, m: int, n_steps: int, batch: int) -> list[Product]:
    """Those that a density at depth 2 needs: no layer is applied twice."""
    n, once = batch, 4 * n_steps
    return [
        Product(n, d + 1, m, once), Product(d + 1, m, n, once),
        Product(n, m, m, once), Product(m, m, n, once), Product(m, m, d * n, once),
    ]  # fmt: skip


def gflop(products: list[Product]) -> float:
    return sum(p.flop for p in products) * 1e-9


def test_the_yardsticks_count_what_the_issue_says():
    assert gflop(authors_products(2, 32, 2, 8, 4096)) == pytest.approx(4.45, abs=0.005)
    assert gflop(authors_products(43, 256, 2, 6, 2000)) == pytest.approx(881, abs=0.5)
    assert gflop(density_products(43, 256, 18, 3648)) == pytest.approx(1561, abs=0.5)


def fit(solver: OTFlow, dim: int) -> OTFlowFit:
    rows = torch.randn(2 * solver.batch_size, dim, generator=torch.Generator().manual_seed(0))
    return solver.start(Samples(rows, rows[:8]), standard_normal(dim), torch.Generator().manual_seed(0))


def test_toy_step_over_its_products(over):
    over(fit(TOY, 2).step, Yardstick(authors_products(2, 32, 2, 8, 4096)), must=2.5, aim=1.7, pairs=25)


def test_miniboone_step_over_its_products(over):
    over(fit(MINIBOONE, 43).step, Yardstick(authors_products(43, 256, 2, 6, 2000)), must=1.25, aim=1.08, pairs=5)


def test_miniboone_density_over_its_products(over):
    transport = fit(OTFlow(width=256, n_steps_test=18, batch_size=100), 43).transport()
    x = torch.randn(3648, 43)
    over(lambda: transport.log_prob(x), Yardstick(density_products(43, 256, 18, 3648)), must=1.3, aim=1.1, pairs=3)


@pytest.mark.skipif(
    not any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name),
    reason="not measurable: this processor has no bfloat16 instructions, and emulates them for minutes",
)
def test_miniboone_step_with_a_trace_in_bfloat16_over_float32(over):
    rough, exact = (fit(replace(MINIBOONE, trace_dtype=dtype), 43) for dtype in ("bfloat16", None))
    over(rough.step, exact.step, must=0.7, aim=0.5, pairs=3)


def step_alone() -> int:
    one = fit(MINIBOONE, 43)
    for _ in range(2):
        one.step()
    peak = peak_bytes(torch.device("cpu"))
    assert peak is not None
    return peak


def test_miniboone_step_peak_memory(benchmark):
    """Of a process that trains and does nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        peak = benchmark.pedantic(lambda: pool.submit(step_alone).result(), rounds=1)
    benchmark.extra_info.update(value=peak * 1e-9, unit=" GB", must=2, aim=1)


def hutchinson(potential: Potential, s: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Gradient and noise' H noise by automatic differentiation; noise is 0 in time."""
    s = s.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(potential(s).sum(), s, create_graph=True)
    (product,) = torch.autograd.grad(gradient, s, noise)
    return (product * noise).sum(1)


@pytest.mark.parametrize(("dim", "width", "must", "aim"), [(43, 256, 12, 9), (784, 64, 6, 3)])
def test_exact_laplacian_over_one_hutchinson_estimate(over, dim, width, must, aim):
    potential = Potential(dim, width).requires_grad_(False)
    s, noise = torch.randn(2000, dim + 1), torch.randn(2000, dim + 1)
    noise[:, -1] = 0.0

    def exact() -> None:
        with torch.inference_mode():
            potential.gradient_and_laplacian(s)

    over(exact, lambda: hutchinson(potential, s, noise), must=must, aim=aim, pairs=15)

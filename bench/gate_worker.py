"""One side of the gate: times what it is asked for with the packages of one checkout.

    python gate_worker.py <checkout>        requests and replies are lines of JSON, on stdin and stdout

A request is {"case": name, "calls": n, "slow": share}; the reply {"seconds": s}, of n calls, or {"error": text}. `slow`
makes each call so much slower by sleeping: the gate's own test. Both sides run this very file, so that they do the
same; it uses only names that ARCHITECTURE fixes.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

SOLVERS = ("otflow", "ffjord")
WORKS = ("step", "density", "sampling")
SHAPES = {"toy": (2, 1024), "tabular": (43, 256)}  # (dimension, batch), the second a reduced MINIBOONE
CASES = tuple(f"{solver} {work} {shape}" for shape in SHAPES for work in WORKS for solver in SOLVERS)
YARDSTICKS = {shape: f"plain step {shape}" for shape in SHAPES}  # what no commit changes
SEED = 0


def main() -> None:
    sys.path[0] = sys.argv[1]
    ready: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        try:
            reply: Mapping[str, Any] = {"seconds": answer(json.loads(line), ready)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps(reply), flush=True)  # noqa: T201


def answer(request: Mapping[str, Any], ready: dict[str, Callable[[], Any]]) -> float:
    """Seconds of the calls that `request` asks for; `ready` keeps what was built."""
    name = request["case"]
    if name not in ready:
        ready[name] = build(name)
        for _ in range(3):  # warm up
            ready[name]()
        gc.collect()
        gc.freeze()  # or each timing would walk through all of torch first, which takes ten times as long as it
    return timed(ready[name], request["calls"], request["slow"])


def timed(call: Callable[[], Any], calls: int, slow: float) -> float:
    gc.collect()
    gc.disable()
    begin = time.perf_counter()
    for _ in range(calls):
        before = time.perf_counter()
        call()
        if slow:
            time.sleep(slow * (time.perf_counter() - before))
    seconds = time.perf_counter() - begin
    gc.enable()
    return seconds


def build(name: str) -> Callable[[], Any]:
    """What the case does at each call, on initial weights or, for steps, from them on."""
    from torch import Generator

    solver, work, shape = name.split()
    dim, batch = SHAPES[shape]
    if solver == "plain":
        return plain(batch)
    source, target = problem(dim)
    fit = settings(solver, shape, batch).start(source, target, Generator().manual_seed(SEED))
    if work == "step":
        return fit.step
    transport = fit.transport("test")
    if work == "density":
        points = source.sample(batch, Generator().manual_seed(SEED))
        return lambda: transport.log_prob(points)
    drawn = target.sample(batch, Generator().manual_seed(SEED))
    return lambda: transport.inverse(drawn)


def plain(batch: int, width: int = 64, depth: int = 8) -> Callable[[], Any]:
    """The gradient of a network of torch's own layers: matrix products, tanh and autograd, and no code of ours."""
    import torch

    layers = [part for _ in range(depth) for part in (torch.nn.Linear(width, width), torch.nn.Tanh())]
    network = torch.nn.Sequential(*layers)
    x = torch.randn(batch, width, generator=torch.Generator().manual_seed(SEED))
    return lambda: torch.autograd.grad(network(x).sum(), tuple(network.parameters()))


def problem(dim: int) -> tuple[Any, Any]:
    """Eight Gaussians to a normal, beyond two dimensions independent normals besides: no file is read."""
    from datasets.gaussians import standard_normal
    from datasets.mixtures import ring

    return ring(4.0, 0.3, dim), standard_normal(dim)


def settings(solver: str, shape: str, batch: int) -> Any:
    from solvers.ffjord import FFJORD
    from solvers.otflow import OTFlow

    toy = shape == "toy"
    if solver == "otflow":
        return OTFlow(width=32 if toy else 64, n_steps=8 if toy else 6, batch_size=batch)
    hidden, divergence = ((64, 64, 64), "exact") if toy else ((128, 128), "hutchinson")
    return FFJORD(hidden=hidden, divergence=divergence, adjoint=False, batch_size=batch)


if __name__ == "__main__":
    main()

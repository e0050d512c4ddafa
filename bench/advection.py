"""What the upwind scheme makes of a control, and what is left without the scheme: the controls of neural_hjb, of
eulerian and the exact one of the relaxed problem, by upwinding on finer and finer grids and by characteristics.

    python -m bench.advection mixture_to_gaussian  writes results/advection/mixture_to_gaussian.json

The comparison of Ruthotto et al. (2020) is on one grid, 256 x 256 cells and 512 steps (bench.upwind). Its values carry
the scheme's diffusion, which is of first order and of the size of what is compared; the exact control in the same
scheme tells how large. Solvers run to the end of their schedules: neural_hjb with the settings tuned for
mixture_to_gaussian, on gaussians, which has none, with its defaults; eulerian always with its defaults.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import env
from bench.commandline import options
from bench.record import BadInput, write_json

if TYPE_CHECKING:
    from datasets.base import Problem, Truth
    from solvers.base import Solver, Transport

CONF = Path(__file__).parent / "conf"
FOLDER = Path("results/advection")
DATASETS = ("mixture_to_gaussian", "gaussians")
CELLS = (64, 128, 256)
WEIGHT = 2.5
EXACT = "exact control"


def exact(truth: "Truth") -> "Transport":
    """The optimal control itself, as if a solver had found it."""
    from solvers.base import Transport

    return Transport(
        forward=truth.map,
        inverse=truth.inverse,
        log_prob=truth.log_prob,
        velocity=truth.velocity,
        relaxation=WEIGHT,
    )


def solvers(dataset: str) -> "dict[str, Solver]":
    """neural_hjb, with the settings tuned for the dataset if there are any, and eulerian."""
    from omegaconf import OmegaConf

    from solvers.eulerian import Eulerian
    from solvers.neural_hjb import NeuralHJB

    path = CONF / "tuned" / f"neural_hjb_{dataset}.yaml"
    settings: Any = OmegaConf.to_object(OmegaConf.load(path)) if path.exists() else {"solver": {}}
    return {"neural_hjb": NeuralHJB(**settings["solver"]), "eulerian": Eulerian()}


def controls(dataset: str, problem: "Problem") -> "Iterator[tuple[str, Transport]]":
    """Each control of the relaxed problem of WEIGHT, the exact one first.

    Raises BadInput, before any of them, where a solver cannot take the problem.
    """
    from torch import Generator

    assert problem.relaxed is not None
    chosen = solvers(dataset)
    for name, solver in chosen.items():
        if why := solver.unfit(problem.source, problem.target):
            raise BadInput(f"{name} cannot take {dataset}: {why}")
    yield EXACT, exact(problem.relaxed(WEIGHT))
    for name, solver in chosen.items():
        fit = solver.start(problem.source, problem.target, Generator().manual_seed(0))
        while not fit.done:
            fit.step()
        transport = fit.transport()
        assert transport.relaxation == WEIGHT
        yield name, transport


def judged(problem: "Problem", transport: "Transport", cells: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """A row by characteristics, `cells` None, and one for each grid of `cells` a side and twice as many steps:
    {cells, forward, backward}, each direction {cost, kl, objective}.

    By characteristics the cost is that of the map, 1/2 E|T(x) - x|^2, which their kinetic energy is no less than.
    """
    import torch
    from torch import Generator

    from bench import metrics
    from bench.upwind import HALF_WIDTH, LOST, compare
    from solvers.staggered import Grid

    def row(cells: int | None, *directions: tuple[float, float]) -> dict[str, Any]:
        values = [{"cost": cost, "kl": kl, "objective": cost + WEIGHT * kl} for cost, kl in directions]
        return {"cells": cells, **dict(zip(("forward", "backward"), values, strict=True))}

    e = metrics.Evaluation(problem, transport, Generator().manual_seed(0))
    found = [f(e) for f in (metrics.transport_cost, metrics.nll_gap, metrics.cost_backward, metrics.kl_backward)]
    cost, kl, cost_backward, kl_backward = (value for value in found if value is not None)
    yield row(None, (cost, kl), (cost_backward, kl_backward))
    for n in cells:
        both = compare(problem.source, problem.target, transport, torch.float64, Grid(HALF_WIDTH, n, 2 * n))
        if both is None:
            raise BadInput(f"{n} x {n} cells do not hold the densities' mass to {LOST:g}: take more")
        yield row(n, *((part.cost, part.kl) for part in both))


def experiment(dataset: str, cells: tuple[int, ...] = CELLS) -> dict[str, Any]:
    """All of it for one dataset, in float64 with seed 0."""
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    torch.set_default_dtype(torch.float64)
    problem = instantiate(OmegaConf.load(CONF / "dataset" / f"{dataset}.yaml")).load(Path())
    rows, begin = [], time.monotonic()
    for name, transport in controls(dataset, problem):
        for row in judged(problem, transport, cells):
            rows.append({"control": name, **row})
            values = {way: round(row[way]["objective"], 4) for way in ("forward", "backward")}
            print(f"{time.monotonic() - begin:.0f} s", name, row["cells"] or "characteristics", values)  # noqa: T201
    described = env.describe("cpu", "", torch.get_num_threads())
    return {"dataset": dataset, "weight": WEIGHT, "env": described, "rows": rows}


def main() -> None:
    parser = options("bench.advection", __doc__)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS, help="a side, of each grid (default 64 128 256)")
    arguments = parser.parse_args()
    if min(arguments.cells) < 4:
        parser.error("--cells must be 4 or more")
    try:
        found = experiment(arguments.dataset, tuple(arguments.cells))
    except BadInput as error:
        parser.error(str(error))
    write_json(FOLDER / f"{arguments.dataset}.json", found)


if __name__ == "__main__":
    main()

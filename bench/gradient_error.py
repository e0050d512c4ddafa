"""Discretize-optimize against optimize-discretize: the error of FFJORD's gradient, and the seconds that it takes.

    python -m bench.gradient_error 8gaussians miniboone_small  writes results/gradient_error/<dataset>.json, .png, .pdf

The gradient of one batch's loss by the direct backward pass through the stored steps (discretize, then optimise) and by
the adjoint's own backward solve (optimise, then discretize), over tolerances and fixed steps, against the gradient in
float64 at tolerance 1e-10 (Onken and Ruthotto 2020, arXiv 2005.13420, compare the two). Settings, but for the
integrator, are those tuned for the dataset; the weights are those after some steps of training.
"""

import copy
import dataclasses
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import env
from bench.commandline import options
from bench.record import BadInput, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from datasets.base import Problem
    from solvers.ffjord import FFJORD, FFJORDFit

CONF = Path(__file__).parent / "conf"
FOLDER = Path("results/gradient_error")
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
STEPS = (1, 2, 4, 8, 16)
WAYS = {False: "direct", True: "adjoint"}
REFERENCE = {"method": "dopri5", "n_steps": None, "atol": 1e-10, "rtol": 1e-10, "adjoint": False}


def integrators() -> Iterable[dict[str, Any]]:
    """What replaces a solver's integrator: dopri5 over TOLERANCES and rk4 over STEPS, each both ways."""
    for adjoint in WAYS:
        for tolerance in TOLERANCES:
            yield {"method": "dopri5", "n_steps": None, "atol": tolerance, "rtol": tolerance, "adjoint": adjoint}
        for n_steps in STEPS:
            yield {"method": "rk4", "n_steps": n_steps, "adjoint": adjoint}


def gradient(fit: "FFJORDFit", x: "Tensor", integrator: dict[str, Any]) -> tuple[tuple["Tensor", ...], int, int]:
    """The gradient of the loss of batch `x`, and the evaluations forward and backward. Leaves `fit` as it was."""
    import torch

    from solvers.adaptive import Evaluations
    from solvers.ffjord import FFJORDFit

    same = FFJORDFit(dataclasses.replace(fit.solver, **integrator), fit.flow, fit.target, fit.training)
    evaluations, directions = Evaluations(10**6), fit.training.batches.rng
    state = directions.get_state()  # the same directions each time
    with evaluations.watched():
        loss, _ = same.loss(x, evaluations)
        forward = evaluations.count
        found = torch.autograd.grad(loss, tuple(fit.flow.parameters()))
    directions.set_state(state)
    return found, forward, evaluations.count - forward


def in_float64(fit: "FFJORDFit") -> "FFJORDFit":
    """`fit` with a copy of its flow in float64."""
    from solvers.ffjord import FFJORDFit

    return FFJORDFit(fit.solver, copy.deepcopy(fit.flow).double(), fit.target, fit.training)


def compare(fit: "FFJORDFit", x: "Tensor", repeats: int) -> list[dict[str, Any]]:
    """For each integrator: evaluations, relative error of the gradient in the 2-norm, and median seconds.

    Seconds are measured in turn, each integrator once in every round.
    """
    import torch

    from bench.measure import Clock

    def flat(gradients: Sequence["Tensor"]) -> "Tensor":
        return torch.cat([g.flatten() for g in gradients]).double()

    truth = flat(gradient(in_float64(fit), x.double(), REFERENCE)[0])
    rows = []
    for integrator in integrators():
        found, forward, backward = gradient(fit, x, integrator)
        error = ((flat(found) - truth).norm() / truth.norm()).item()
        rows.append({**integrator, "error": error, "nfe_forward": forward, "nfe_backward": backward})
    clock = Clock(x.device)
    seconds: list[list[float]] = [[] for _ in rows]
    for _ in range(repeats):
        for integrator, kept in zip(integrators(), seconds, strict=True):
            with clock.timed():
                gradient(fit, x, integrator)
            kept.append(clock.last)
    return [row | {"seconds": statistics.median(kept)} for row, kept in zip(rows, seconds, strict=True)]


def faster_at(rows: Sequence[dict[str, Any]], error: float) -> dict[str, float | None]:
    """The least seconds in which each way gets an error of at most `error`; None where it does not."""
    return {
        name: min((r["seconds"] for r in rows if r["adjoint"] == way and r["error"] <= error), default=None)
        for way, name in WAYS.items()
    }


def tuned(dataset: str) -> "FFJORD":
    """FFJORD with the settings for `dataset`."""
    from omegaconf import OmegaConf

    from solvers.ffjord import FFJORD

    settings: Any = OmegaConf.to_object(OmegaConf.load(CONF / "tuned" / f"ffjord_{dataset}.yaml"))
    return FFJORD(**settings["solver"])


def tuned_for() -> list[str]:
    """The datasets that FFJORD has settings for: `ffjord_published` is of none."""
    names = (path.stem.removeprefix("ffjord_") for path in (CONF / "tuned").glob("ffjord_*.yaml"))
    return sorted(name for name in names if (CONF / "dataset" / f"{name}.yaml").exists())


def loaded(dataset: str) -> "Problem":
    """The problem `dataset`, one of `tuned_for`. Raises BadInput where its data are missing."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from datasets.download import data_root
    from datasets.errors import DataError

    try:
        problem: Problem = instantiate(OmegaConf.load(CONF / "dataset" / f"{dataset}.yaml")).load(data_root(None))
    except (DataError, OSError) as error:
        raise BadInput(" ".join(str(error).split())) from None
    return problem


def experiment(dataset: str, problem: "Problem", steps: int, repeats: int) -> dict[str, Any]:
    """All of it for one dataset, in float32 with seed 0."""
    import torch
    from torch import Generator

    fit = tuned(dataset).start(problem.source, problem.target, Generator().manual_seed(0))
    for _ in range(steps):
        fit.step()
    rows = compare(fit, fit.training.batches.next(), repeats)
    described = env.describe("cpu", "", torch.get_num_threads())
    return {"dataset": dataset, "trained_steps": steps, "env": described, "rows": rows}


def main() -> None:
    parser = options("bench.gradient_error", __doc__)
    parser.add_argument("dataset", nargs="+", help="those that FFJORD is tuned for")
    parser.add_argument("--steps", type=int, default=100, help="of training before (default 100)")
    parser.add_argument("--repeats", type=int, default=7, help="of each timing (default 7)")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.steps < 0:
        parser.error("--repeats must be 1 or more, and --steps 0 or more")
    known = tuned_for()
    for dataset in arguments.dataset:
        if dataset not in known:
            parser.error(f"FFJORD is not tuned for {dataset}: choose from {', '.join(known)}")
    try:
        problems = {dataset: loaded(dataset) for dataset in arguments.dataset}
    except BadInput as error:
        parser.error(str(error))
    from bench.report import kernels

    env.keep_memory()
    for dataset, problem in problems.items():
        found = experiment(dataset, problem, arguments.steps, arguments.repeats)
        write_json(FOLDER / f"{dataset}.json", found)
        kernels.draw("gradient_error", found, FOLDER / dataset)
        for most in (1e-2, 1e-3, 1e-4, 1e-5):
            print(dataset, f"error <= {most:g}:", faster_at(found["rows"], most))  # noqa: T201


if __name__ == "__main__":
    main()

"""Exact counts of the work in one step of every solver, on initial weights, small batches, seed 0, in float64.

The same on any machine: what moves has moved in the code.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.record import write_over

ROOT = Path(__file__).parents[1]
SOLVERS = Path(__file__).parent / "conf" / "solver"
DATASETS = Path(__file__).parent / "conf" / "dataset"
REFERENCE = ROOT / "results" / "reference" / "counters.json"
PROBLEMS = ("8gaussians", "breast_cancer")
BATCH = 64

Counts = dict[str, dict[str, int]]  # of `solver@dataset`, by name


class NotMeasured(RuntimeError):
    """What could not be measured, and why."""


def compare(reference: Counts, found: Counts) -> list[str]:
    """A line for each count that differs, and for each cell that only one of the two has."""
    lines = []
    for cell in sorted(reference | found):
        before, now = reference.get(cell, {}), found.get(cell, {})
        for name in sorted(before | now):
            if before.get(name) != now.get(name):
                lines.append(f"{cell} {name} {before.get(name, 'none')} -> {now.get(name, 'none')}")
    return lines


def read(path: Path) -> Counts:
    """The committed counts. Raises NotMeasured where there are none."""
    try:
        counts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NotMeasured(f"{path.name}: {error}; write it with --update") from None
    if not isinstance(counts, dict) or not counts:
        raise NotMeasured(f"{path.name} is empty: write it with --update")
    return counts


def update(path: Path, found: Counts) -> None:
    write_over(path, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())


def count_all() -> Counts:
    """The work of every configured solver on each of PROBLEMS. Raises NotMeasured where one does not count."""
    import torch

    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        found = {}
        for problem in PROBLEMS:
            dataset = _built(DATASETS / f"{problem}.yaml")
            with _measuring(problem):
                loaded = dataset.load(Path())
            for path in sorted(SOLVERS.glob("*.yaml")):
                solver, cell = _built(path), f"{path.stem}@{problem}"
                with _measuring(cell):
                    if solver.unfit(loaded.source, loaded.target) is None:
                        found[cell] = _count(solver, loaded)
    finally:
        torch.set_default_dtype(before)
        torch.set_num_threads(threads)
    if missing := {path.stem for path in SOLVERS.glob("*.yaml")} - {cell.split("@")[0] for cell in found}:
        raise NotMeasured(f"{', '.join(sorted(missing))}: unfit for {' and '.join(PROBLEMS)}")
    if not found:
        raise NotMeasured("there is no solver")
    return found


def _built(path: Path) -> Any:
    """What a configuration file names, with a small batch where it takes one."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    with _measuring(path.name):
        built = instantiate(OmegaConf.load(path), _convert_="all")
    sized = any(field.name == "batch_size" for field in dataclasses.fields(built))
    return dataclasses.replace(built, batch_size=BATCH) if sized else built


@contextmanager
def _measuring(what: str) -> Iterator[None]:
    """Within, whatever is raised becomes NotMeasured: what fails is not what does no work."""
    try:
        yield
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise NotMeasured(f"{what}: {type(error).__name__}: {lines[0]}") from error


def _count(solver: Any, problem: Any) -> dict[str, int]:
    from torch import Generator

    from bench.measure import Work

    for _ in range(2):  # counted the second time: measures keep what they have once computed
        fit = solver.start(problem.source, problem.target, Generator().manual_seed(0))
        with Work() as work:
            terms: Mapping[str, float] = fit.step()
    parameters = fit.transport("test").parameters
    counts = {"flops": work.flops, "aten_calls": work.calls, "parameters": parameters}
    counts |= {name: terms[name] for name in ("nfe_forward", "nfe_backward") if name in terms}
    return {name: int(value) for name, value in counts.items() if value is not None}

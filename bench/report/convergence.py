"""How a method's own parameter carries it to the truth: the grid solver's values against its grid, and the entropic
cost against its regularisation. And what the upwind scheme makes of a control, on finer and finer grids.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.record import finite
from bench.report import lint
from bench.report.frame import clean
from bench.report.lint import Group
from bench.report.render import NOTHING, Cell, Table
from bench.report.tables import significant
from bench.report.transport import PROVEN

GRID_SOLVER, ENTROPIC, SIMPLEX = "eulerian", "sinkhorn", "exact"
WRONG = 0.01  # of the exact cost
MOST = 10_000  # no grid has as many levels, or cells a side or intervals at its coarsest

GRID_LEGEND = (
    "The relaxed problem on finer and finer grids (cells x cells x steps of time), by the feasible path that is found. "
    "Gap: of L + weight x KL to the exact minimum; order: log2 of the quotient of two grids' gaps, where the finer "
    "grid's is above the tolerance of the iterations. L2-UVP: of the characteristics.",
)
ENTROPIC_LEGEND = (
    "The entropic cost between samples against the exact cost between the same samples. reg: epsilon over the mean "
    "cost of all pairs. No cost may be off by more than 1 % while every certificate of the solver holds.",
)
ADVECTED_LEGEND = (
    "One control of the relaxed problem carried by upwinding on finer and finer grids, and by characteristics, where "
    "no scheme is between: forward from the source, backward from the target. The exact control shows what is the "
    "scheme's own. Gap: of the objective to the exact control's in the same row's scheme.",
)


def all_of(group: Group) -> list[Table]:
    """The tables of a group for which there are records."""
    datasets = sorted(group.frame["dataset"].unique())
    made = [make(group, name) for make in (grids, regularisation) for name in datasets]
    return [table for table in made if table.rows]


def grids(group: Group, dataset: str) -> Table:
    """The grid solver's values, coarse to fine; no rows for fewer than two grids."""
    part = group.frame[(group.frame["dataset"] == dataset) & (group.frame["solver"] == GRID_SOLVER)]
    part = _with(_of_grids, part[(part["status"] == "ok") & part["relaxed_objective_gap"].notna()])
    rows: list[tuple[str, Sequence[Cell]]] = []
    for _, same in part.groupby(part["fields"].map(_apart_from_levels)):
        ordered = sorted((run for _, run in same.iterrows()), key=lambda run: run["fields"]["levels"])
        found = [_grid_row(None, run) for run in ordered[:1]]
        found += [_grid_row(coarse, fine) for coarse, fine in pairwise(ordered)]
        rows += found if len(found) > 1 else []
    columns = ["L", "KL", "objective\ngap %", "order of\nthe gap", "L2-UVP\n%", "order of\nL2-UVP", "fails"]
    title = f"{dataset}: {GRID_SOLVER} against its grid"
    made = Table(f"{dataset}_grids{group.suffix}", title, "grid", columns, rows, (), GRID_LEGEND)
    return lint.admitted(group, made, part) if rows else made


def _with(holds: Callable[[Mapping[str, Any]], bool], runs: pd.DataFrame) -> pd.DataFrame:
    """Those of `runs` whose settings are what `holds`: a solver of the user's own may have the name of ours."""
    return runs[np.array([holds(fields) for fields in runs["fields"]], bool)]


def _of_grids(fields: Mapping[str, Any]) -> bool:
    counts = [fields.get(name) for name in ("levels", "cells", "intervals")]
    return all(type(n) is int and 0 < n < MOST for n in counts) and finite(fields.get("tolerance"))


def _of_samples(fields: Mapping[str, Any]) -> bool:
    return type(fields.get("n_points")) is int


def _entropic(fields: Mapping[str, Any]) -> bool:
    return _of_samples(fields) and isinstance(fields.get("backend"), str) and finite(fields.get("reg"))


def _apart_from_levels(fields: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in fields.items() if name != "levels"}, sort_keys=True)


def _grid_row(coarse: "pd.Series | None", run: "pd.Series") -> tuple[str, Sequence[Cell]]:
    fields = run["fields"]
    fine = 1 << (fields["levels"] - 1)
    n, steps = fields["cells"] * fine, fields["intervals"] * fine
    cells = [_cell(run["cost_estimate"]), _cell(run["kl_estimate"])]
    for name, factor in (("relaxed_objective_gap", 100.0), ("relaxed_uvp_2", 1.0)):
        # a gap of the objective below the tolerance is where iterations ended, and tells nothing of the grid
        told = name != "relaxed_objective_gap" or abs(run[name]) > fields["tolerance"]
        order = math.nan
        if (
            coarse is not None
            and told
            and fields["levels"] == coarse["fields"]["levels"] + 1
            and coarse[name] * run[name]
        ):
            order = math.log2(abs(coarse[name] / run[name]))
        cells += [_cell(factor * run[name]), Cell(f"{order:.1f}", order) if math.isfinite(order) else NOTHING]
    return f"{n} x {n} x {steps} (tolerance {fields['tolerance']:g})", [*cells, _failed(run, (*PROVEN, "curves"))]


def regularisation(group: Group, dataset: str) -> Table:
    """The entropic cost beside the exact one of as many points and the same seed; no rows for fewer than two reg."""
    here = group.frame[group.frame["dataset"] == dataset]
    known = here[(here["solver"] == SIMPLEX) & (here["status"] == "ok") & (here["cost_estimate"] > 0)]
    exact = {_sample(run): run for _, run in _with(_of_samples, known).iterrows()}
    entropic = _with(_entropic, here[here["solver"] == ENTROPIC])
    runs = [run for _, run in entropic.iterrows() if _sample(run) in exact]
    rows: list[tuple[str, Sequence[Cell]]] = []
    silent = []
    several = len({run["dtype"] for run in runs}) > 1
    for run in sorted(runs, key=lambda run: (*_sample(run), run["fields"]["backend"], -run["fields"]["reg"])):
        name = f"{run['fields']['backend']}, reg = {run['fields']['reg']:g}, n = {run['fields']['n_points']:,}"
        name += f", {run['dtype']}" if several else ""
        off = run["cost_estimate"] / exact[_sample(run)]["cost_estimate"] - 1
        if run["status"] == "ok" and not set(PROVEN) & set(run["failed"]) and not abs(off) <= WRONG:
            silent.append(name)
        said = _failed(run) if run["status"] == "ok" else Cell(str(run["status"]))
        rows.append((name, [_cell(run["cost_estimate"]), _cell(100 * off), said, _cell(run["fit_seconds"])]))
    if len({run["fields"]["reg"] for run in runs}) < 2:
        rows = []
    notes = [f"Wrong in silence: {name}." for name in silent] or ["No cost is wrong in silence."]
    title = f"{dataset}: {ENTROPIC} against its regularisation"
    columns = ["cost", "off the exact\ncost %", "fails", "seconds"]
    made = Table(f"{dataset}_reg{group.suffix}", title, "backend, reg", columns, rows, notes, ENTROPIC_LEGEND)
    return lint.admitted(group, made, here) if rows else made


def _sample(run: "pd.Series") -> tuple[int, int, str]:
    """What two runs on one dataset must share to have drawn the same points."""
    return run["fields"]["n_points"], run["seed"], run["dtype"]


def _failed(run: "pd.Series", of: Sequence[str] = PROVEN) -> Cell:
    """The solver's own certificates that failed, by name."""
    names = [name for name in run["failed"] if name in of]
    return Cell(", ".join(names) or "none")


def _cell(value: float) -> Cell:
    return Cell(significant(value), value) if math.isfinite(value) else NOTHING


# What the upwind scheme makes of a control (bench.advection)


def advections(folders: Sequence[Path]) -> list[Table]:
    """A table for each file of bench.advection in `folders`; one that is none is passed over.

    Of one dataset on several machines, the second and later tables are numbered.
    """
    made: list[Table] = []
    for table in (table for folder in folders for path in sorted(folder.glob("*.json")) for table in _advection(path)):
        n = 1 + sum(other.title == table.title for other in made)
        made.append(table if n == 1 else replace(table, name=f"{table.name}_{n}"))
    return made


def _advection(path: Path) -> Iterator[Table]:
    try:
        found = json.loads(path.read_text())
        exact = {row["cells"]: row for row in found["rows"] if row["control"] == "exact control"}
        rows = [
            (
                f"{row['control']}, {_scheme(row['cells'])}",
                [*_way(row, exact, "forward"), *_way(row, exact, "backward")],
            )
            for row in sorted(found["rows"], key=lambda row: row["cells"] or math.inf)
        ]
        name, weight = str(found["dataset"]), float(found["weight"])
        notes = [f"Computed on {clean(found['env']['cpu'])}."]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return
    columns = [f"{way}\n{part}" for way in ("forward", "backward") for part in ("L", "KL", "objective", "gap %")]
    title = f"{name}: one control by upwinding and by characteristics, weight {weight:g}"
    yield Table(f"{name}_advection", title, "control, scheme", columns, rows, notes, ADVECTED_LEGEND)


def _scheme(cells: int | None) -> str:
    return "characteristics" if cells is None else f"{cells} x {cells}"


def _way(row: dict[str, Any], exact: dict[int | None, dict[str, Any]], way: str) -> list[Cell]:
    values = row[way]
    gap = 100 * (values["objective"] / exact[row["cells"]][way]["objective"] - 1)
    return [Cell(f"{values[name]:.4f}", values[name]) for name in ("cost", "kl", "objective")] + [_cell(gap)]

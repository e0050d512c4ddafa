"""What the page computes with: the runs of a group as plain data, so that another target gives other times at once.

Of a run's validations it keeps the staircase of `stats.stairs`: the time to a target is that of the first level at or
below it.
Numbers of curves are float32, base64: the page reads them as one array each.
"""

import base64
import json
import math
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench import stats
from bench.report import equal_accuracy, lint, standing, tables
from bench.report.frame import BASELINE, Curve, by_reference
from bench.report.lint import NEVER_RAN, Group
from bench.report.styles import style
from bench.rerun import words

POINTS = 48  # of a curve that is drawn
CURVES = 600  # so many runs of a group have theirs drawn, of every setting some: a page of ten thousand stays a page


@dataclass(frozen=True)
class Axis:
    """What a run is judged by, and the certificates that void it."""

    name: str
    label: str
    voided_by: tuple[str, ...] = tables.ALWAYS


QUALITY = (
    Axis("nll_gap", "gap to the truth (nat)", tables.DENSITY),
    Axis("nll", "test NLL (nat)", tables.DENSITY),
    Axis("mmd", "MMD", tables.SAMPLES),
    Axis("inverse_error_mean", "inverse error", tables.SAMPLES),
    Axis("l2_uvp", "L2-UVP (%)", tables.CURVES),
    Axis("relaxed_l2_uvp", "L2-UVP, relaxed (%)", tables.CURVES),
)
COST = (
    Axis("parameters", "parameters"),
    Axis("fit_seconds", "training seconds"),
    Axis("step_ms", "ms a step"),
    Axis("density_seconds", "seconds for the density of the test set", tables.DENSITY),
    Axis("sample_seconds", "seconds for as many samples", tables.SAMPLES),
)
TIME = Axis("time", "seconds to q", tables.TO_Q)


def data(group: Group, reference: str) -> dict[str, Any]:
    """The group as JSON has it.

    `aside`: where any are ranked, the baselines and the solvers that did not run the problems on which most are, or not
    with as many seeds; the page begins without them, to rank whom standing.of does.
    """
    frame = group.frame.reset_index(drop=True)
    cells = _cells(frame, reference, group.allowed)
    stairs = [staircase(curve) for curve in tables.validations(frame)]
    most = max(1, CURVES // len(cells))
    nth = frame.groupby(["dataset", "label"]).cumcount()
    drawn = (thinned(curve) if i < most else () for curve, i in zip(frame["curve"], nth, strict=True))
    work = equal_accuracy.measured(frame)
    solvers = by_reference(frame["solver"], reference)
    machines, hardware = pd.factorize(_hardware(frame))
    configured, configurations = pd.factorize(frame["cell"])
    ranked = standing.of(group, reference)
    return {
        "name": f"part{group.number}",
        "reference": reference,
        "baseline": BASELINE,
        "baselines": lint.BASELINES,
        "least_seeds": tables.MIN_SEEDS,
        "slack": tables.SLACK,
        "caveats": group.caveats,
        "quality": {axis.name: axis.label for axis in QUALITY},
        "cost": {axis.name: axis.label for axis in COST},
        "solvers": solvers,
        "aside": [s for s in (*lint.BASELINES, *ranked.absent) if s in solvers and s != reference] if ranked else [],
        "looks": {solver: _look(solver) for solver in solvers},
        "cells": cells,
        "never_ran": NEVER_RAN,
        "mixed": {name: why for name, part in frame.groupby("dataset") if (why := standing.mixed(part, group.allowed))},
        "critical": [stats.critical_difference(k, 1) for k in range(2, len(solvers) + 1)],
        "hardware": list(hardware),
        "commands": [command(text) for text in configurations],
        "runs": _runs(frame, cells, configured, machines),
        "best": _packed([[curve.best] for curve in tables.validations(frame)])["values"],
        "stairs": _packed(stairs),
        "curves": _packed(list(drawn)),
        "work": _packed([points if i < most else () for points, i in zip(work, nth, strict=True)]),
        "aim": equal_accuracy.AIM,
        "points": equal_accuracy.ROWS,
    }


def _hardware(frame: pd.DataFrame) -> pd.Series:
    """The device of each run, of those on the processor its model, and the threads."""
    return frame["cpu"].where(frame["device"] == "cpu", frame["device"]) + ", threads " + frame["threads"]


def staircase(curve: Curve) -> np.ndarray:
    """(seconds, level), (k, 2), of each level that it held."""
    return np.stack((curve.seconds[curve.stairs.at], curve.stairs.levels), 1)


def thinned(curve: Curve) -> np.ndarray:
    """(seconds, NLL), at most POINTS of them, evenly over the validations' numbers on a log scale; the last is kept."""
    there = np.isfinite(curve.nll) & (curve.seconds > 0)
    seconds, nll = curve.seconds[there], curve.nll[there]
    if len(nll) > POINTS:
        at = np.unique(np.geomspace(1, len(nll), POINTS).astype(int)) - 1
        seconds, nll = seconds[at], nll[at]
    return np.stack((seconds, nll), 1)


DASHES = {"-": "", "--": "6 3", "-.": "7 3 1.5 3", ":": "1.5 3"}


def _look(solver: str) -> list[str]:
    look = style(solver)
    return [look.colour, look.marker, DASHES[look.line]]


def _cells(frame: pd.DataFrame, reference: str, allowed: Collection[str]) -> list[dict[str, Any]]:
    """A solver at one setting on one dataset each, in the order of tables.

    `beside`: of fewer seeds than others, and ranked against nobody; `chosen`: the best setting of its solver, of the
    others that ran; `void`: the axes that failed certificates void.
    """
    made = []
    for dataset, part in frame.groupby("dataset"):
        beside = lint.beside(part, allowed)
        chosen = set(tables.rivals(part, allowed)["label"])
        for label in by_reference(part["label"], reference):
            runs = part[part["label"] == label]
            first = runs.iloc[0]
            failed = set().union(*runs["failed"])
            made.append(
                {
                    "dataset": str(dataset),
                    "label": label,
                    "solver": first["solver"],
                    "setting": first["setting"],
                    "beside": label in beside,
                    "chosen": label in chosen,
                    "void": [a.name for a in (*QUALITY, *COST, TIME) if failed & set(a.voided_by)],
                    "failed": sorted(failed),
                }
            )
    return made


def _runs(
    frame: pd.DataFrame, cells: Sequence[dict[str, Any]], configured: np.ndarray, machines: np.ndarray
) -> list[list[Any]]:
    """A row a run: number of its cell, seed, key, status, reason, penalty in seconds, numbers of its command without
    the seed and of its hardware, QUALITY, COST. `configured` and `machines`, both (n,), have those numbers.
    """
    number = {(cell["dataset"], cell["label"]): i for i, cell in enumerate(cells)}
    where = [number[pair] for pair in zip(frame["dataset"], frame["label"], strict=True)]
    told = frame.assign(
        step_ms=1e3 * frame["seconds_per_step"],
        density_seconds=tables.whole_set("evaluate_seconds")(frame),
        sample_seconds=tables.whole_set("sample_seconds")(frame),
    )
    numbers = [[_short(value) for value in told[axis.name]] for axis in (*QUALITY, *COST)]
    penalty = pd.concat([tables.penalties(part, part) for _, part in frame.groupby("dataset")]).loc[frame.index]
    heads = zip(
        where,
        frame["seed"].tolist(),
        frame["key"],
        frame["status"],
        frame["reason"],
        [_short(value) for value in penalty],
        configured.tolist(),
        machines.tolist(),
        strict=True,
    )
    return [[*head, *row] for head, row in zip(heads, zip(*numbers, strict=True), strict=True)]


def command(cell: str) -> str:
    """The command that makes the cell, a configuration as JSON without its seed."""
    return "python -m bench.run " + shlex.join(words(json.loads(cell)))


def _short(value: float) -> float | None:
    """Six digits; None for what is no number."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _packed(rows: Sequence[Any]) -> dict[str, Any]:
    """Arrays (k_i, ...) as one of float32, base64, and where each ends in it."""
    flat = [np.asarray(row, dtype="<f4").ravel() for row in rows]
    ends = np.cumsum([len(row) for row in flat]).tolist()
    return {"values": base64.b64encode(np.concatenate(flat or [np.zeros(0)]).tobytes()).decode(), "ends": ends}

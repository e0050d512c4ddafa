"""Seconds of the log-density at equal accuracy (bench.accuracy), as a table."""

from collections.abc import Iterator

import pandas as pd

from bench.report import lint, tables
from bench.report.frame import by_reference
from bench.report.lint import Group
from bench.report.render import NOTHING, Cell, Table

AIM = 0.01  # nat: bench.accuracy.TOLERANCE, which would bring torch along
ROWS = 1000  # points that the seconds are for


def all_of(group: Group, reference: str) -> Iterator[Table]:
    """Seconds of each solver's density at equal accuracy, a row for each problem; none where no record tells."""
    told = group.frame["work_precision"].map(bool)
    frame = tables.ran(group.frame[group.frame["solver"].isin(group.frame["solver"][told])])
    frame = frame[frame["dataset"].isin(group.frame["dataset"][told])]
    if frame.empty:
        return
    solvers = by_reference(frame["solver"], reference)
    rows = [
        (str(name), [_accurate(part[part["solver"] == solver]) for solver in solvers])
        for name, part in frame.groupby("dataset")
    ]
    notes = (
        f"Seconds for {ROWS:,} points at the least effort from which on the mean error is within {AIM} nat of a fine "
        "integration; in brackets that effort over the solver's own. Medians over seeds.",
    )
    title = "Inference at equal accuracy"
    yield lint.admitted(group, Table(f"equal_accuracy{group.suffix}", title, "problem", solvers, rows, notes))


def measured(runs: pd.DataFrame) -> list[list[tuple[float, float, float]]]:
    """Of each run (effort, seconds for ROWS points, error in nat); none without a density, or of no points."""
    each = zip(runs["work_precision"], runs["accurate_rows"], strict=True)
    return [
        [(e, s * ROWS / rows, error) for e, s, error in given] if given and rows > 0 else [] for given, rows in each
    ]


def _accurate(runs: pd.DataFrame) -> Cell:
    if runs.empty:
        return NOTHING
    whole = tables.best_setting(runs)
    best = whole[(whole["status"] == "ok") & whole["work_precision"].map(bool)]
    if best.empty:
        return NOTHING
    part = "" if len(best) == len(whole) else f"\n({len(best)} of {len(whole)})"
    each = best["accurate_seconds"] * ROWS / best["accurate_rows"].where(best["accurate_rows"] > 0)
    if each.isna().any():
        return Cell("not within")
    seconds = float(each.median())
    effort = f" ({best['accurate_effort'].median():g})"
    return Cell(tables.significant(seconds) + effort + part, seconds, void=tables.is_void(best, tables.DENSITY))

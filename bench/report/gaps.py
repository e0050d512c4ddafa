"""Partial sets beside the sets that they are cut from: which solver is best, and how far the others are behind it.

Likelihoods on other test rows are not comparable; their order and differences may be.
"""

import math
from collections.abc import Collection, Mapping

from bench.report import lint, published, tables
from bench.report.lint import Group
from bench.report.render import NOTHING, Cell, Table

COLUMNS = ("test\nNLL", "behind\nthe best", "NLL of the\nstandard set\n(published)", "behind\nthe best\n(published)")
LEGEND = (
    "Behind the best: nats above the lowest NLL of those solvers that have a published one; what is negative is ahead "
    "of it. Each solver at its best setting by validation. Grey: of the standard set, whose test rows are others, but "
    "for MINIBOONE's.",
)


def all_of(group: Group) -> list[Table]:
    """A table for each partial set that has rows for one."""
    names = sorted(set(group.frame["dataset"]) & set(published.KIN))
    return [made for name in names if (made := table(group, name)).rows]


def table(group: Group, dataset: str) -> Table:
    """A row per solver that has a sound NLL, the best first; none where not two of them have a published one."""
    part = tables.ran(group.frame[group.frame["dataset"] == dataset])
    cells = {
        str(solver): tables.cell_of(tables.best_setting(runs), tables.NLL) for solver, runs in part.groupby("solver")
    }
    ours = {solver: cell for solver, cell in cells.items() if cell != NOTHING and not cell.void}
    theirs, sources = published.likelihoods(dataset, ours)
    order = sorted(ours, key=lambda solver: ours[solver].value) if len(theirs) > 1 else []
    columns = [ours, _behind(ours, theirs), theirs, _behind(theirs, theirs)]
    rows = [(solver, [column.get(solver, NOTHING) for column in columns]) for solver in order]
    notes = [*tables.ranking(group, part)[1], *sources]
    notes += [f"{solver}: no sound NLL." for solver in cells if solver not in ours]
    error = part["nll_stderr"].median()
    notes += [] if math.isnan(error) else [f"Standard error of an NLL over the test rows: {error:.2g} nats."]
    title = f"{dataset}: order and gaps beside those of {published.KIN[dataset]}"
    return lint.admitted(group, Table(f"{dataset}_gaps{group.suffix}", title, "solver", COLUMNS, rows, notes, LEGEND))


def _behind(cells: Mapping[str, Cell], among: Collection[str]) -> dict[str, Cell]:
    """How far each is above the lowest of those `among`."""
    lowest = min((cells[name].value for name in among), default=0.0)
    above = {name: cell.value - lowest for name, cell in cells.items()}
    return {name: Cell(f"{value:.2f}", value, quoted=cells[name].quoted) for name, value in above.items()}

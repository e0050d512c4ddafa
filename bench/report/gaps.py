"""Partial sets beside the sets that they are cut from: which solver is best, and how far the others are behind it.

Likelihoods on other test rows are not comparable; their order and differences may be.
"""

from collections.abc import Mapping

from bench.report import lint, published, tables
from bench.report.lint import Group
from bench.report.render import NOTHING, Cell, Table

COLUMNS = ("test\nNLL", "behind\nthe best", "NLL of the\nstandard set\n(published)", "behind\nthe best\n(published)")
LEGEND = (
    "Behind the best: nats above the lowest NLL in its column, of the solvers here; each at its best setting by "
    "validation. Grey: of the standard set, whose test rows are others, but for MINIBOONE's.",
)


def all_of(group: Group) -> list[Table]:
    """A table for each partial set that has rows for one."""
    names = sorted(set(group.frame["dataset"]) & set(published.KIN))
    return [made for name in names if (made := table(group, name)).rows]


def table(group: Group, dataset: str) -> Table:
    """A row per solver that has a sound NLL and a published one, the best first; none where there are not two."""
    part = tables.ran(group.frame[group.frame["dataset"] == dataset])
    theirs, sources = published.likelihoods(dataset, part["solver"].unique())
    best = {solver: tables.best_setting(part[part["solver"] == solver]) for solver in theirs}
    cells = {solver: tables.cell_of(runs, tables.NLL) for solver, runs in best.items()}
    ours = {solver: cell for solver, cell in cells.items() if cell != NOTHING and not cell.void}
    order = sorted(ours, key=lambda solver: ours[solver].value)
    columns = [ours, _behind(ours), theirs, _behind({solver: theirs[solver] for solver in ours})]
    rows = [(solver, [column[solver] for column in columns]) for solver in order] if len(order) > 1 else []
    notes = [*sources, *[f"{solver}: no sound NLL." for solver in cells if solver not in ours]]
    title = f"{dataset}: order and gaps beside those of {published.KIN[dataset]}"
    return lint.admitted(group, Table(f"{dataset}_gaps{group.suffix}", title, "solver", COLUMNS, rows, notes, LEGEND))


def _behind(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """How far each is above the lowest."""
    lowest = min((cell.value for cell in cells.values()), default=0.0)
    above = {name: cell.value - lowest for name, cell in cells.items()}
    return {name: Cell(f"{value:.2f}", value, quoted=cells[name].quoted) for name, value in above.items()}

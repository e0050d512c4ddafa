"""The compact table that a report ends with: who is best on each problem, where intervals tell solvers apart."""

from collections.abc import Iterator, Sequence

from bench.report.lint import Group
from bench.report.render import NOTHING, Cell, Table, counted
from bench.report.tables import DENSITY_TIME, NLL, TO_Q_HEADING
from bench.report.transport import MAP_ERROR

SAME, UNRANKED = Cell("="), Cell("not ranked")
COLUMNS = {
    NLL.heading: "test NLL",
    TO_Q_HEADING: "seconds to q",
    DENSITY_TIME.heading: "density (s)",
    MAP_ERROR.heading: "L2-UVP (%)",
}


def table(groups: Sequence[Group], made: Sequence[Sequence[Table]]) -> Table:
    """A row for each problem of each part, of the tables `made` of the `groups`; a column for each of COLUMNS."""
    several = len(groups) > 1
    rows = [
        (f"{group.number}. {name}" if several else name, cells)
        for group, tables in zip(groups, made, strict=True)
        for name, cells in _rows(group, tables)
    ]
    told = [row for row in rows if any(cell not in (NOTHING, SAME, UNRANKED) for cell in row[1])]
    notes = ["=: two or more are not told apart."] if told else []
    if others := len(rows) - len(told):
        where = counted(others, "other problem") if told else f"none of {counted(others, 'problem')}"
        why = ", as of one seed none can be" if all((group.frame["seed"].nunique() == 1) for group in groups) else ""
        notes.append(f"On {where} {'none is' if told else 'one is told apart from the others'}{why}.")
    if any(UNRANKED in cells for _, cells in rows):
        notes.append("Not ranked: the problem's table says why.")
    title = "The best of each problem" + (", by part" if several else "")
    return Table("glance", title, "problem", list(COLUMNS.values()), told, notes)


def _rows(group: Group, tables: Sequence[Table]) -> Iterator[tuple[str, list[Cell]]]:
    by_name = {table.name.removesuffix(group.suffix): table for table in tables}
    for problem in sorted(group.frame["dataset"].unique()):
        of_problem = [by_name[name] for name in (problem, f"{problem}_transport") if name in by_name]
        cells = [_best(of_problem, heading) for heading in COLUMNS]
        if any(cell is not NOTHING for cell in cells):
            yield problem, cells


def _best(tables: Sequence[Table], heading: str) -> Cell:
    """Whose number is bold in the column of this heading; NOTHING where no two solvers have a number to compare."""
    for table in tables:
        if heading in table.columns:
            i = table.columns.index(heading)
            shown = [(label, cells[i]) for label, cells in table.rows if cells[i].text != NOTHING.text]
            best = [(label, cell) for label, cell in shown if cell.best]
            if best:
                return Cell("\n".join(f"{label} {cell.text.splitlines()[0]}" for label, cell in best))
            if any(cell.ranked for _, cell in shown):
                return SAME
            refused = any(note.startswith(("Nothing is ranked", "Not ranked")) for note in table.notes)
            return UNRANKED if refused else NOTHING
    return NOTHING

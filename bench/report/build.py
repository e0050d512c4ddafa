"""Read the records, print the tables and write everything."""

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench import ledger, queries
from bench.commandline import Usage
from bench.report import (
    beside,
    claims,
    convergence,
    equal_accuracy,
    experiments,
    explore,
    frame,
    lint,
    page,
    paper,
    render,
    tables,
    transport,
    written,
)
from bench.report.lint import Group
from bench.report.options import Options
from bench.report.paper import Section
from bench.report.render import Table, slug
from bench.report.venues import formats

if TYPE_CHECKING:
    from bench.report.drawing import Written

WIDTH = 110  # columns, where the output is not a terminal


def report(options: Options) -> int:
    """Read, print and write everything."""
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH)
    read = ", ".join(map(str, options.records))
    found, problems = load(options.records)
    records = frame.together(found.values())
    check_reference(options.reference, records["solver"].unique())
    groups = lint.groups(records, options.allow)
    why = lint.why(groups)
    console.print(Text(f"{len(records)} records from {read}: {page.statuses(records)}\n"))
    for folder in (options.out, options.out / "tables", options.out / "figures"):
        written.clear(folder)
    drawn = beside.begin(draw, groups, options, beside=beside.worth(len(records)))
    made = [group_tables(group, options, console) for group in groups]
    kernels = kernel_tables(options, console)
    judged: list[Section] = []
    verdicts = list(claims_parts(found, options, console, judged, problems))
    data = [explore.data(group, options.reference) for group in groups]
    parts, sections = [], []
    *of_groups, of_kernels = drawn()
    for i, (group, figures) in enumerate(zip(groups, of_groups, strict=True)):
        problems += [*group.problems, *figures.unread]
        sections.append(Section(group.number, group.title, group.notes, made[i], figures.named))
        name = f"part{group.number}"
        parts.append(page.Part(name, group.title, group.notes, made[i], figures.pictures, data[i]))
    if kernels or of_kernels.named:
        sections.append(Section(0, "Kernels", (), kernels, of_kernels.named))
        parts.append(page.Part("kernels", "Kernels", (), kernels, of_kernels.pictures))
    if options.venue:
        paper.write([*sections, *judged], options.venue, options.out)
    show_end(why, problems, console)
    if options.venue and ".pgf" not in formats(options.venue):
        console.print(Text("No PGF figures: pdflatex, which measures their texts, is not on the path.", style="yellow"))
    html = page.render(records, options.records, problems, why, tables.LEGEND, [*verdicts, *parts])
    (options.out / "index.html").write_text(html, encoding="utf-8")
    console.print(Text(f"Page, tables and figures: {options.out / 'index.html'}"))
    return 2 if problems else 0


def load(folders: Sequence[Path]) -> tuple[dict[Path, pd.DataFrame], list[str]]:
    """The records of each folder that has any, and a line for each file that is none. Raises Usage where none has."""
    found: dict[Path, pd.DataFrame] = {}
    problems: list[str] = []
    for folder in dict.fromkeys(folders):
        records, lines = frame.load(folder)
        problems += lines
        if len(records):
            found[folder] = records
    if not found:
        first = f" ({problems[0]})" if problems else ""
        raise Usage(f"no records in {', '.join(map(str, folders))}{first}: run `python -m bench.run` first")
    return found, problems


def check_reference(reference: str, solvers: Iterable[str]) -> None:
    """Raise Usage for a reference that is none of the `solvers`; the default one may be, as transports have none."""
    if reference not in (*solvers, Options.reference):
        raise Usage(f"no record of reference={reference}: choose from {', '.join(sorted(solvers))}")


def names_of(folders: Collection[Path]) -> dict[Path, str]:
    """What the files of each folder are named by: its last part, its whole path where another's last part is the same.

    No two are equal.
    """
    last = {folder: slug(folder.absolute().name) for folder in folders}
    times = Counter(last.values())
    found: dict[Path, str] = {}
    for folder, short in last.items():
        whole = slug(str(folder))
        name = short if times[short] == 1 else whole
        numbered = (name if n == 1 else f"{whole}_{n}" for n in count(1))
        found[folder] = next(name for name in numbered if name not in found.values())
    return found


def group_tables(group: Group, options: Options, console: Console) -> list[Table]:
    """The tables of one group, printed under its environment and written."""
    made = [*tables.all_of(group, options.reference), *transport.all_of(group, options.reference)]
    made += [*equal_accuracy.all_of(group, options.reference), *convergence.all_of(group)]
    show_group(group, made, console)
    write_tables(made, options.out / "tables")
    return made


def kernel_tables(options: Options, console: Console) -> list[Table]:
    """The tables of the experiments on kernels, where any were made, printed and written."""
    made = experiments.tables(options.records)
    for table in made:
        render.show(table, console)
    write_tables(made, options.out / "tables")
    return made


def claims_parts(
    records: Mapping[Path, pd.DataFrame],
    options: Options,
    console: Console,
    sections: list[Section],
    problems: list[str],
) -> Iterator[page.Part]:
    """The published claims against the records of each folder, as bench.claims judges them; one line of it printed.

    Added to `sections` too. A line is added to `problems` where the claims cannot be judged.
    """
    try:
        known, names = ledger.load(), names_of(records)
        for folder, found in records.items():
            evidence = queries.Evidence(found, [folder])
            entries = queries.judged(known, evidence)
            made = claims.all_of(entries, evidence, f"_{names[folder]}")
            write_tables(made, options.out / "tables")
            console.print(Text(f"Claims against {folder}: {claims.summary(entries)} (python -m bench.claims)"))
            title = f"Claims against {folder}"
            sections.append(Section(0, title, (), made, ()))
            told, folded = claims.of_page(entries, made)
            yield page.Part(f"claims_{names[folder]}", title, (), told, (), folded=folded)
    except ledger.ClaimError as error:
        problems.append(f"claim {error}")


def draw(groups: Sequence[Group], options: Options) -> "list[Written]":
    """The figures, as drawing.all_of has them: its imports take a second, which the process beside this one spends."""
    from bench.report import drawing

    return drawing.all_of(groups, options)


def show_group(group: Group, made: Sequence[Table], console: Console) -> None:
    """Print the tables of one group under its environment."""
    console.rule(Text(group.title, style="bold"), align="left")
    for note in group.notes:
        console.print(Text(note, style="dim"))
    console.print()
    for table in made:
        render.show(table, console, tables.LEGEND)


def show_end(why: str, problems: Sequence[str], console: Console) -> None:
    """Print how to read the tables, and what was left out."""
    for line in tables.LEGEND:
        console.print(Text(line, style="dim"))
    for line in [why] if why else []:
        console.print(Text(line, style="yellow"))
    for line in problems:
        console.print(Text(f"Left out: {line}", style="red"))


def write_tables(made: Sequence[Table], folder: Path) -> None:
    """Each table as .md, .tex and .csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in made:
        for suffix, text in ((".md", render.markdown), (".tex", render.latex), (".csv", render.csv)):
            written.write(folder / (table.file + suffix), text(table))

"""Read the records, print the tables and write everything."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    gaps,
    glance,
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

PAGE = "index.html"
WIDTH = 110  # columns, where the output is not a terminal


@dataclass(frozen=True)
class Read:
    """The records of each folder and of all, their groups, why these are several, and what is wrong with any."""

    found: Mapping[Path, pd.DataFrame]
    records: pd.DataFrame
    groups: list[Group]
    why: str
    problems: list[str]


@dataclass(frozen=True)
class Tabled:
    """The tables of each group, those of kernels, and for claims the parts of the page and the sections of a paper."""

    groups: Sequence[Sequence[Table]]
    kernels: Sequence[Table]
    verdicts: Sequence[page.Part]
    judged: Sequence[Section]


def report(options: Options) -> int:
    """Read, print and write everything, or that part of it alone which `options.only` names."""
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH)
    read = read_all(options, console)
    tabled = None
    if options.only == "tables":
        tabled = make_tables(read, options, console)
    elif options.only == "figures":
        read.problems.extend(line for figures in begin_figures(read, options)() for line in figures.unread)
    else:
        tabled = make_page(read, options, console)
    if options.venue and options.only != "tables" and ".pgf" not in formats(options.venue):
        console.print(Text("No PGF figures: pdflatex, which measures their texts, is not on the path.", style="yellow"))
    show_end(read, console, legend=tabled is not None)
    if tabled is not None:
        render.show(glance.table(read.groups, tabled.groups), console)
    made = options.out / (options.only or PAGE)
    if options.only and (older := [name for name in (PAGE, *paper.FILES) if (options.out / name).exists()]):
        told = f"{' and '.join(older)} in {options.out} are those of an earlier report, maybe of other records"
        console.print(Text(told, style="yellow"))
    what = options.only.capitalize() if options.only else "Page, tables and figures"
    console.print(Text(f"{what}: {made}"), soft_wrap=True)
    return 2 if read.problems else 0


def read_all(options: Options, console: Console) -> Read:
    """The records of all folders; says how many there are of which status."""
    found, problems = load(options.records)
    records = frame.together(found.values())
    check_reference(options.reference, records["solver"].unique())
    groups = lint.groups(records, options.allow)
    read = ", ".join(map(str, options.records))
    console.print(Text(f"{len(records)} records from {read}: {page.statuses(records)}\n"))
    return Read(
        found, records, groups, lint.why(groups), problems + [line for group in groups for line in group.problems]
    )


def make_tables(read: Read, options: Options, console: Console) -> Tabled:
    """All tables and the verdicts on the claims, printed and written."""
    written.clear(options.out / "tables")
    made = [group_tables(group, options, console) for group in read.groups]
    kernels = kernel_tables(options, console)
    judged: list[Section] = []
    verdicts = list(claims_parts(read.found, options, console, judged, read.problems))
    return Tabled(made, kernels, verdicts, judged)


def begin_figures(read: Read, options: Options) -> "Callable[[], list[Written]]":
    """Begin to draw; what is returned gives the figures of each group, and last those of kernels."""
    from bench.report import drawing  # its imports take a second, which tables alone do without

    written.clear(options.out / "figures")
    return drawing.begin(read.groups, options, beside.worth(len(read.records)))


def make_page(read: Read, options: Options, console: Console) -> Tabled:
    """Everything: tables, figures, for a venue its paper, and the page; gives the tables."""
    written.clear(options.out)
    drawn = begin_figures(read, options)
    tabled = make_tables(read, options, console)
    data = [explore.data(group, options.reference) for group in read.groups]
    *of_groups, of_kernels = drawn()
    parts, sections = [], []
    for i, (group, figures) in enumerate(zip(read.groups, of_groups, strict=True)):
        read.problems.extend(figures.unread)
        made, name = tabled.groups[i], f"part{group.number}"
        sections.append(Section(group.number, group.title, group.notes, made, figures.named))
        parts.append(page.Part(name, group.title, group.notes, made, figures.pictures, data[i]))
    if tabled.kernels or of_kernels.named:
        sections.append(Section(0, "Kernels", (), tabled.kernels, of_kernels.named))
        parts.append(page.Part("kernels", "Kernels", (), tabled.kernels, of_kernels.pictures))
    if options.venue:
        paper.write([*sections, *tabled.judged], options.venue, options.out)
    html = page.render(
        read.records, options.records, read.problems, read.why, tables.LEGEND, [*tabled.verdicts, *parts]
    )
    (options.out / PAGE).write_text(html, encoding="utf-8")
    return tabled


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
    made = [*tables.all_of(group, options.reference), *gaps.all_of(group), *transport.all_of(group, options.reference)]
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


def show_group(group: Group, made: Sequence[Table], console: Console) -> None:
    """Print the tables of one group under its environment."""
    console.rule()
    console.print(Text(group.title, style="bold"))
    for note in group.notes:
        console.print(Text(note, style="dim"))
    console.print()
    for table in made:
        render.show(table, console, tables.LEGEND)


def show_end(read: Read, console: Console, legend: bool) -> None:
    """Print how to read the tables, and what was left out."""
    for line in tables.LEGEND if legend else ():
        console.print(Text(line, style="dim"))
    if read.why:
        console.print(Text(read.why, style="yellow"))
    for line in read.problems:
        console.print(Text(f"Left out: {line}", style="red"))


def write_tables(made: Sequence[Table], folder: Path) -> None:
    """Each table as .md, .tex and .csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in made:
        for suffix, text in ((".md", render.markdown), (".tex", render.latex), (".csv", render.csv)):
            written.write(folder / (table.file + suffix), text(table))

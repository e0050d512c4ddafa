"""Read the records, print the tables and write everything."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench import ledger, queries
from bench.commandline import Usage
from bench.report import (
    beside,
    claims,
    convergence,
    drawing,
    experiments,
    explore,
    frame,
    lint,
    page,
    paper,
    render,
    tables,
    transport,
    work_precision,
    written,
)
from bench.report.lint import Group
from bench.report.options import Options
from bench.report.paper import Section
from bench.report.render import Table, slug

WIDTH = 110  # columns, where the output is not a terminal


def report(options: Options) -> int:
    """Read, print and write everything."""
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH)
    read = ", ".join(map(str, options.records))
    records, problems = load(options.records)
    groups = lint.groups(records, options.allow)
    console.print(Text(f"{len(records)} records from {read}: {page.statuses(records)}\n"))
    for folder in (options.out, options.out / "tables", options.out / "figures"):
        written.clear(folder)
    drawn = beside.begin(drawing.all_of, groups, options, beside=beside.worth(len(records)))
    made = [group_tables(group, options, console) for group in groups]
    kernels = kernel_tables(options, console)
    judged: list[Section] = []
    verdicts = list(claims_parts(records, options, console, judged, problems))
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
    show_end(lint.why(groups), problems, console)
    if options.venue and ".pgf" not in drawing.formats(options.venue):
        console.print(Text("No PGF figures: pdflatex, which measures their texts, is not on the path.", style="yellow"))
    html = page.render(records, options.records, problems, lint.why(groups), tables.LEGEND, [*verdicts, *parts])
    (options.out / "index.html").write_text(html, encoding="utf-8")
    console.print(Text(f"Page, tables and figures: {options.out / 'index.html'}"))
    return 2 if problems else 0


def load(folders: Sequence[Path]) -> tuple[pd.DataFrame, list[str]]:
    """The records of the folders, and a line for each file that is none. Raises Usage where there are none."""
    found, problems = frame.load(folders)
    if found.empty:
        first = f" ({problems[0]})" if problems else ""
        raise Usage(f"no records in {', '.join(map(str, folders))}{first}: run `python -m bench.run` first")
    return found, problems


def group_tables(group: Group, options: Options, console: Console) -> list[Table]:
    """The tables of one group, printed under its environment and written."""
    made = [*tables.all_of(group, options.reference), *transport.all_of(group, options.reference)]
    made += [*work_precision.equal_accuracy(group, options.reference), *convergence.all_of(group)]
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
    records: pd.DataFrame, options: Options, console: Console, sections: list[Section], problems: list[str]
) -> Iterator[page.Part]:
    """The published claims against each folder of records, which may be of different machines; one line of it printed.

    Added to `sections` too. A line is added to `problems` where the claims cannot be judged.
    """
    try:
        known = ledger.load()
        for folder, found in records.groupby("folder", sort=False):
            evidence = queries.Evidence(found, [Path(str(folder))])
            entries = queries.judged(known, evidence)
            made = claims.all_of(entries, evidence, f"_{Path(str(folder)).name}")
            write_tables(made, options.out / "tables")
            console.print(Text(f"Claims against {folder}: {claims.summary(entries)} (python -m bench.claims)"))
            title = f"Claims against {folder}"
            sections.append(Section(0, title, (), made, ()))
            told, folded = claims.of_page(entries, made)
            yield page.Part(slug(f"claims_{folder}"), title, (), told, (), folded=folded)
    except ledger.ClaimError as error:
        problems.append(f"claim {error}")


def show_group(group: Group, made: Sequence[Table], console: Console) -> None:
    """Print the tables of one group under its environment."""
    console.rule(Text(group.title, style="bold"), align="left")
    for note in group.notes:
        console.print(Text(note, style="dim"))
    console.print()
    for table in made:
        render.show(table, console)


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

"""Read the records, print the tables and write everything."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench import ledger, queries
from bench.commandline import Usage
from bench.report import (
    claims,
    convergence,
    experiments,
    explore,
    figures,
    frame,
    gallery,
    images,
    lint,
    marginals,
    page,
    paper,
    quality,
    ranks,
    render,
    shown,
    tables,
    transport,
    transport_figures,
    work_precision,
    written,
)
from bench.report.figures import Drawn
from bench.report.lint import Group
from bench.report.options import Options
from bench.report.page import Picture
from bench.report.paper import Section
from bench.report.render import Table, slug
from bench.report.venues import Venue

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
    figures.use_theme(options.venue)
    parts, sections = [], []
    for group in groups:
        made = [*tables.all_of(group, options.reference), *transport.all_of(group, options.reference)]
        made += [*work_precision.equal_accuracy(group, options.reference), *convergence.all_of(group)]
        pictures, unread = shown.pictures_of(group.frame, options.reference)
        drawn = [*quality.figures(group, options.reference), *gallery.all_of(group, pictures, options.reference)]
        drawn += marginals.all_of(group, pictures, options.reference)
        drawn += work_precision.figures(group, options.reference)
        drawn += ranks.all_of(group, options.reference)
        drawn += transport_figures.all_of(group, pictures, options.reference)
        drawn += images.all_of(group, pictures, options.reference)
        problems += [*group.problems, *unread]
        show_group(group, made, console)
        write_tables(made, options.out / "tables")
        pngs = write_figures(drawn, options.out / "figures", options.venue)
        sections.append(section(group.number, group.title, group.notes, made, drawn))
        data = explore.data(group, options.reference)
        parts.append(page.Part(f"part{group.number}", group.title, group.notes, made, pngs, data))
    if kernels := kernels_part(options, console, sections):
        parts.append(kernels)
    verdicts = list(claims_parts(records, options, console, sections, problems))
    if options.venue:
        paper.write(sections, options.venue, options.out)
    show_end(lint.why(groups), problems, console)
    if options.venue and ".pgf" not in formats(options.venue):
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


def section(number: int, title: str, notes: Sequence[str], made: Sequence[Table], drawn: Sequence[Drawn]) -> Section:
    """A part of the report as the paper includes it."""
    return Section(number, title, notes, made, [(slug(one.name), one.caption) for one in drawn])


def kernels_part(options: Options, console: Console, sections: list[Section]) -> page.Part | None:
    """The experiments on kernels, where any were made; added to `sections` too."""
    made, drawn = experiments.tables(options.records), experiments.figures(options.records)
    for table in made:
        render.show(table, console)
    write_tables(made, options.out / "tables")
    pngs = write_figures(drawn, options.out / "figures", options.venue)
    if not made and not pngs:
        return None
    sections.append(section(0, "Kernels", (), made, drawn))
    return page.Part("kernels", "Kernels", (), made, pngs)


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
            sections.append(section(0, title, (), made, ()))
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


# no dates: the same records give the same file
FORMATS: Mapping[str, Mapping[str, Any]] = {
    ".pdf": {"dpi": 300, "metadata": {"CreationDate": None}},
    ".png": {"dpi": 200},
}
OF_PAPERS: Mapping[str, Mapping[str, Any]] = {".svg": {"dpi": 300, "metadata": {"Date": None}}, ".pgf": {"dpi": 300}}


def formats(venue: Venue | None) -> Mapping[str, Mapping[str, Any]]:
    """How figures are written, by suffix: for a venue OF_PAPERS too, .pgf where there is a LaTeX to measure it."""
    chosen = {**FORMATS, **(OF_PAPERS if venue else {})}
    return {suffix: how for suffix, how in chosen.items() if suffix != ".pgf" or shutil.which("pdflatex")}


def write_figures(drawn: Sequence[Drawn], folder: Path, venue: Venue | None) -> list[Picture]:
    """Each figure in its formats; for a venue in its size. Gives the pictures that the page shows."""
    folder.mkdir(parents=True, exist_ok=True)
    pngs, suffixes = [], formats(venue)
    for one in drawn:
        path = folder / slug(one.name)
        if venue:
            one.figure.set_size_inches(venue.fitted(*one.figure.get_size_inches()))
        if engine := one.figure.get_layout_engine():
            engine.execute(one.figure)  # it settles in its second pass: titles were cut without
        for suffix, how in suffixes.items():
            if suffix == ".pgf":
                figures.for_latex(one.figure)
            one.figure.savefig(path.with_suffix(suffix), **how)
            rasters = folder.glob(f"{path.name}-img[0-9]*.png") if suffix == ".pgf" else ()  # which it includes
            written.note(path.with_suffix(suffix), *sorted(rasters))
        figures.close(one.figure)
        if not one.explored:
            pngs.append(Picture.read(path.with_suffix(".png"), one.caption, FORMATS[".png"]["dpi"]))
    return pngs

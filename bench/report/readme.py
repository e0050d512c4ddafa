"""The tables that documents quote, made anew from the committed records:   python -m bench.report.readme

A document says where: between `<!-- table:FOLDER/NAME -->` and `<!-- /table -->`, FOLDER one of results/reference, or
`all` of them, and NAME one of TABLES. README.md and the pages of docs/ are looked through, from the root of the
checkout. The same records give the same text.

Exit code 0; 1 where a document names a table that is none, or the records are not there, or not of one environment.
"""

import functools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from bench import ledger, queries
from bench.claims import gather
from bench.commandline import Usage
from bench.report import claims, convergence, experiments, gaps, lint, render, tables, transport
from bench.report.frame import by_reference
from bench.report.lint import Group
from bench.report.published import KIN
from bench.report.render import Cell, Table
from bench.report.tables import Quantity

REFERENCES = Path("results/reference")
ALL = "all"
REFERENCE, OPPONENT = "otflow", "ffjord"
MARKED = re.compile(r"(<!-- table:([^\s/]+)/(\S+) -->\n).*?(<!-- /table -->)", re.S)
SHARED = ("cpu", "threads", "slots", "dtype", "torch", "commit")  # of the environment, what a quoted table says

TOLD = frozenset((*tables.LEGEND, *claims.LEGEND))  # of legends, what docs/numbers.md and docs/claims.md say for all

Made = Callable[[pd.DataFrame], Table]
Records = Callable[[str], pd.DataFrame]  # those of a folder
Fields = Mapping[str, Any]
PLAIN: Sequence[Fields] = ({},)  # any settings


def main() -> int:
    """The command; gives its exit code."""
    errors = Console(stderr=True, soft_wrap=True)
    records = functools.cache(committed)
    try:
        for path in documents():
            text = path.read_text(encoding="utf-8")
            if (new := renewed(text, records)) != text:
                path.write_text(new, encoding="utf-8")
                Console(soft_wrap=True).print(Text(f"renewed the tables of {path}"))
    except (Usage, OSError) as error:
        errors.print(Text(f"bench.report.readme: {error}"))
        return 1
    return 0


def documents() -> list[Path]:
    """README.md and the pages."""
    return [Path("README.md"), *sorted(Path("docs").glob("*.md"))]


def committed(folder: str) -> pd.DataFrame:
    """The records of a folder of REFERENCES, or of ALL. Raises Usage where it is not there, or one of them is none."""
    if folder == ALL:
        return pd.concat([committed(path.name) for path in sorted(REFERENCES.glob("*/"))])
    found, problems, _ = gather([REFERENCES / folder])
    if problems:
        raise Usage(problems[0])
    return found.frame


def renewed(text: str, records: Records) -> str:
    """`text` with each marked table made anew. Raises Usage for a table that is none."""

    def table(match: re.Match[str]) -> str:
        opening, folder, name, closing = match.groups()
        if name not in TABLES:
            raise Usage(f"no table {name}: choose from {', '.join(TABLES)}")
        return f"{opening}{shown(TABLES[name](records(folder)))}{closing}"

    return MARKED.sub(table, text)


def shown(table: Table) -> str:
    """`table` as Markdown; of its legend without what docs/numbers.md and docs/claims.md say of all tables."""
    return render.markdown(replace(table, legend=[line for line in table.legend if line not in TOLD]))


def flows(dataset: str, tuned: bool = False) -> Made:
    """The report's table of the runs on `dataset`, searched for or not, that are of the budget most of those have."""

    def make(records: pd.DataFrame) -> Table:
        group = largest(records[(records["dataset"] == dataset) & ((records["tuning"] != "none") == tuned)], dataset)
        made = tables.summary(group, dataset, REFERENCE)
        title = f"{dataset}, {group.frame['budget'].iloc[0]} at most"
        return replace(made, title=title, notes=[*made.notes, provenance(group.frame)])

    return make


def gaps_of(dataset: str) -> Made:
    """The report's table of a partial set beside the standard one."""

    def make(records: pd.DataFrame) -> Table:
        group = largest(records[(records["dataset"] == dataset) & (records["tuning"] == "none")], dataset)
        made = gaps.table(group, dataset)
        return replace(made, notes=[*made.notes, provenance(group.frame)])

    return make


def against(make: Callable[[Group, str, str], Table], name: str) -> Made:
    """The report's table of the opponent against the reference over all problems that both were run on."""

    def made(records: pd.DataFrame) -> Table:
        group = largest(records[records["solver"].isin((OPPONENT, REFERENCE))], name)
        table = make(group, OPPONENT, REFERENCE)
        return replace(table, notes=[*table.notes, provenance(group.frame)])

    return made


def largest(part: pd.DataFrame, name: str) -> Group:
    """The group that most of the records of `name` are of. Raises Usage where there is none."""
    groups = lint.groups(part)
    if not groups:
        raise Usage(f"{name}: there are no records of it")
    return groups[0]


def alone(part: pd.DataFrame, name: str) -> Group:
    """The one group that the records of `name` are of. Raises Usage where there is none, or another."""
    groups = lint.groups(part)
    if len(groups) != 1:
        raise Usage(f"{name}: its records are of {len(groups)} groups, and a quoted table is of one")
    return groups[0]


def straight(dataset: str) -> Made:
    """The report's table of one of flow matching's own problems, beside what is published."""

    def make(records: pd.DataFrame) -> Table:
        group = alone(records[records["dataset"] == dataset], dataset)
        made = transport.straight(group, dataset, REFERENCE)
        return replace(made, notes=[*made.notes, provenance(group.frame)])

    return make


@dataclass(frozen=True)
class Family:
    """A row for each dimension of a family of problems and each of `solvers`, in one of the settings that it names.

    Nothing is ranked: dtypes may differ between dimensions.
    """

    name: str
    title: str
    quantities: Sequence[Quantity]
    legend: Sequence[str]
    solvers: Mapping[str, Sequence[Fields]] = field(default_factory=dict)

    def __call__(self, records: pd.DataFrame) -> Table:
        part = named(records[(records["family"] == self.name) & records.apply(self.wanted, axis=1)])
        rows = [
            (f"d = {dim:.0f}, {label}", [Cell(str(dtype)), *(tables.cell_of(runs, q) for q in self.quantities)])
            for dim, at in part.groupby("dim")
            for label in by_reference(at["label"], REFERENCE)
            for dtype, runs in at[at["label"] == label].groupby("dtype")
        ]
        columns = ["dtype", *(q.heading for q in self.quantities)]
        notes = [f"d = {dim:.0f}, {note}." for dim, at in part.groupby("dim") for note in tables.settings(at)]
        notes += [*tables.broken(part), provenance(part)]
        return Table(self.name, self.title, "problem, solver", columns, rows, notes, self.legend)

    def wanted(self, run: pd.Series) -> bool:
        """Whether the run is of one of the solvers at one of its settings."""
        settings = self.solvers.get(run["solver"], ())
        return any(all(run["fields"].get(name) == value for name, value in fields.items()) for fields in settings)


def named(part: pd.DataFrame) -> pd.DataFrame:
    """`part` with the letter of a label left out where a solver has only one in a dimension."""
    several = part.groupby(["dim", "solver"])["label"].transform("nunique") > 1
    return part.assign(label=part["label"].where(several, part["solver"]))


def errors(family: str) -> Made:
    """The report's table of L2-UVP against dimension, with published values where there are any."""

    def make(records: pd.DataFrame) -> Table:
        part = records[records["family"] == family]
        made = transport.by_dimension(alone(part, family), family, REFERENCE)
        return replace(made, notes=[*made.notes, provenance(part)])

    return make


def advected(records: pd.DataFrame) -> Table:
    """The report's table of controls advected by upwinding."""
    dataset = "mixture_to_gaussian d=2"
    part = records[records["upwind_cost"].notna()]
    made = transport.advected(alone(part, dataset), dataset, REFERENCE)
    return replace(made, notes=[*made.notes, provenance(part)])


def advection(records: pd.DataFrame) -> Table:
    """The report's table of controls on finer and finer grids, of the experiment beside the records."""
    folders = experiments.folders_of("advection", evidence(records).folders)
    if not (made := convergence.advections(folders)):
        raise Usage("advection: no results of bench.advection beside the records")
    return made[0]


def judged(records: pd.DataFrame) -> Table:
    """The ledger of claims."""
    return claims.ledger(queries.judged(ledger.load(), evidence(records)))


def verdicts(records: pd.DataFrame) -> Table:
    """The verdicts of the ledgers of several folders, side by side."""
    known = ledger.load()
    folders = {Path(str(folder)).name: evidence(part) for folder, part in records.groupby("folder")}
    return claims.verdicts({name: queries.judged(known, found) for name, found in folders.items()})


def headline(records: pd.DataFrame) -> Table:
    """What OT-Flow's speed-ups come to by each mean and opponent."""
    made = claims.headlines(evidence(records))
    if not made:
        raise Usage("headline: no problem that OT-Flow and an opponent were run on")
    return made[0]


def evidence(records: pd.DataFrame) -> queries.Evidence:
    """The records, and the experiments beside them."""
    return queries.Evidence(records, [Path(folder) for folder in records["folder"].unique()])


def provenance(part: pd.DataFrame) -> str:
    """How many records, of which seeds, where and when they were made."""
    seeds = ", ".join(map(str, sorted(part["seed"].unique())))
    told = [f"{name} {' or '.join(sorted(map(str, part[name].unique())))}" for name in SHARED]
    return f"{len(part)} records, seeds {seeds}; {'; '.join(told)}."


def of(quantities: Sequence[Quantity], *headings: str) -> list[Quantity]:
    """Those of `quantities` with these headings, on one line each."""
    known = {" ".join(quantity.heading.split()): quantity for quantity in quantities}
    return [known[heading] for heading in headings]


OF_TWO = replace(*of(transport.RELAXED, "of x1, x2 %"), heading="L2-UVP of\nx1, x2 %")
PUBLISHED: dict[str, Sequence[Fields]] = {
    "eulerian": ({"levels": 4},),
    "neural_hjb": ({"optimizer": "bfgs", "alpha4": 3.0}, {"optimizer": "adam", "resample_every": 1}),
}
TABLES: dict[str, Made] = {
    "8gaussians": flows("8gaussians"),
    "circles": flows("circles"),
    "rings": flows("rings"),
    "mnist_latent": flows("mnist_latent"),
    "breast_cancer": flows("breast_cancer"),
    "digits": flows("digits"),
    "miniboone_small_tuned": flows("miniboone_small", tuned=True),
    **{name: flows(name) for name in KIN},
    **{f"{name}_gaps": gaps_of(name) for name in KIN},
    "normal_to_8gaussians": straight("normal_to_8gaussians"),
    "moons_to_8gaussians": straight("moons_to_8gaussians"),
    "mixture_to_gaussian": Family(
        "mixture_to_gaussian",
        "mixture_to_gaussian, the relaxed problem of weight 2.5",
        [*of(transport.RELAXED, "cost L", "gap of L %", "KL", "objective gap %"), OF_TWO],
        transport.RELAXED_LEGEND,
        PUBLISHED,
    ),
    "gaussians_relaxed": Family(
        "gaussians",
        "gaussians, the relaxed problem of weight 2.5",
        of(transport.RELAXED, "cost L", "gap of L %", "KL", "objective gap %", "L2-UVP %"),
        transport.RELAXED_LEGEND,
        {**PUBLISHED, "neural_hjb": ({"alpha3": 5.0},)},
    ),
    "gaussians": Family(
        "gaussians",
        "gaussians, cost and map",
        of(
            transport.EXACT,
            *("its own estimate", "gap of estimate %", "same-law cost", "cost of its map"),
            *("gap of map %", "L2-UVP %", "weight of KL"),
        ),
        transport.LEGEND,
        {
            "moments": PLAIN,
            "exact": ({"n_points": 5000},),
            "sinkhorn": ({"n_points": 2000, "reg": 0.005, "backend": "blocks"},),
            "neural_hjb": ({"alpha3": 800.0}, {"alpha3": 4000.0}),
        },
    ),
    "w2benchmark": errors("w2benchmark"),
    "convex_gradients": errors("convex_gradients"),
    "advected": advected,
    "advection": advection,
    "claims": judged,
    "verdicts": verdicts,
    "headline": headline,
    "ratios": against(tables.ratios, "ratios"),
    "decomposition": against(tables.decomposition, "decomposition"),
}

if __name__ == "__main__":
    sys.exit(main())

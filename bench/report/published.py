"""What others published of the same problems, from results/paper: the grey cells beside ours, and where they are from.

Only of the same test data: MINIBOONE's own test split is that of `miniboone_small` too, which trains on fewer rows; the
other partial sets have test rows of their own, and published values are none of theirs: `likelihoods` are for what is
said of order and gaps alone (bench.report.gaps).
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from bench.report.render import NOTHING, Cell

PAPER = Path(__file__).parents[2] / "results" / "paper"
TABULAR = {"power": "POWER", "gas": "GAS", "hepmass": "HEPMASS", "miniboone": "MINIBOONE", "bsds300": "BSDS300",
           "miniboone_small": "MINIBOONE"}  # fmt: skip
FEWER = {"miniboone_small": "trained on all 29,556 rows of MINIBOONE, here on 4,307; the test split is the same"}
KIN = {"power_2007h1": "POWER", "gas_sample": "GAS", "hepmass_sample": "HEPMASS", "miniboone_small": "MINIBOONE",
       "bsds300_redrawn": "BSDS300"}  # fmt: skip
PART = {  # training rows
    "power_2007h1": "trained on POWER's 1,659,917 rows, here on 225,878",
    "gas_sample": "trained on GAS's 852,174 rows, here on 10,000 of sensors that need not be the standard ones",
    "hepmass_sample": "trained on HEPMASS's 315,123 rows of 21 columns, here on 4,506 of 22",
    "miniboone_small": FEWER["miniboone_small"],
    "bsds300_redrawn": "trained on BSDS300's 1,000,000 patches, here on other patches of the same images",
}
LIKELIHOODS = {  # none of OT-CFM and CFM: their source's are of short trainings, for comparison with each other alone
    "otflow": "OT-Flow", "ffjord": "FFJORD", "maf": "MAF(5)", "nsf": "RQ-NSF(AR)", "moments": "Gaussian (one)",
}  # fmt: skip
TASKS = {"normal_to_8gaussians": "N->8gaussians", "moons_to_8gaussians": "moons->8gaussians"}
TRAINING = {  # heading -> columns of the value and of its source
    "params": ("n_params", "n_params_source"),
    "training\n(h)": ("train_time_h", "train_time_source"),
    "steps": ("n_iters", "n_iters_source"),
}
METHODS = {"otflow": "OT-Flow", "ffjord": "FFJORD", "rnode": "RNODE", "maf": "MAF", "otcfm": "OT-CFM", "cfm": "I-CFM",
           "enot": "ENOT"}  # fmt: skip


def nll(dataset: str, solvers: Sequence[str]) -> tuple[list[Cell], list[str]]:
    """The published test NLL of each solver on a tabular set, and notes that say where from."""
    if dataset not in TABULAR:
        return [NOTHING] * len(solvers), []
    here = _table("otflow_tabular")
    ours = here[(here["dataset"] == TABULAR[dataset]) & (here["model"] == "OT-Flow")]
    known = _table("ffjord_tabular")
    known = known[(known["dataset"] == TABULAR[dataset]) & (known["metric"] == "test NLL (nats)")]
    found = {"OT-Flow": (str(ours["C_test_nll"].iloc[0]), ours["C_source"].iloc[0])} if len(ours) else {}
    found |= _found(known, "model")
    return _cells(found, solvers, FEWER.get(dataset, ""))


def parts_of_whole(names: Collection[str]) -> dict[str, str]:
    """Of `names` the partial sets whose official one is among them, and why they do not count: one source, one vote."""
    official = {name: KIN[name].lower() for name in names if name in KIN}
    return {name: f"{whole} counts, which it stands in for" for name, whole in official.items() if whole in names}


def likelihoods(dataset: str, solvers: Iterable[str]) -> tuple[dict[str, Cell], list[str]]:
    """The published test NLL of each of `solvers` on the standard set that `dataset` is a part of, and notes."""
    rows = _table("tabular_nll_sota")
    rows = rows[rows["dataset"] == KIN.get(dataset)].drop_duplicates("model").set_index("model")
    known = {
        solver: rows.loc[LIKELIHOODS[solver]].to_dict() for solver in solvers if LIKELIHOODS.get(solver) in rows.index
    }
    cells = {solver: _cell(f"{-float(row['test_loglik_nats']):.2f}") for solver, row in known.items()}
    return cells, _notes({solver: row["source"] for solver, row in known.items()}, PART.get(dataset, ""))


def training(dataset: str, heading: str, solvers: Sequence[str]) -> tuple[list[Cell], list[str]]:
    """What is known of each solver's published training on a tabular set, by a heading of TRAINING, and notes."""
    table, (value, source) = _table("otflow_tabular"), TRAINING[heading]
    rows = table[(table["dataset"] == TABULAR.get(dataset)) & table[value].notna()]
    texts = [f"{int(text):,}" if text.isdigit() else text for text in rows[value]]
    found = dict(zip(rows["model"], zip(texts, rows[source], strict=True), strict=True))
    return _cells(found, solvers, FEWER.get(dataset, ""))


def task(dataset: str, metric: str, solvers: Sequence[str]) -> tuple[list[Cell], list[str]]:
    """The published W2 or NPE of each solver on one of flow matching's own problems, and notes."""
    table = _table("otcfm")
    rows = table[(table["task"] == TASKS.get(dataset)) & (table["metric"] == metric)]
    rows = rows.drop_duplicates("method")  # the first: the method's own paper
    return _cells(_found(rows, "method"), solvers, "")


def _found(rows: pd.DataFrame, by: str) -> dict[str, tuple[str, str]]:
    """By method: the value with its deviation, and its source."""
    texts = [_spread(value, std) for value, std in zip(rows["value"], rows["std"], strict=True)]
    return dict(zip(rows[by], zip(texts, rows["source"], strict=True), strict=True))


def _cells(found: dict[str, tuple[str, str]], solvers: Sequence[str], but: str) -> tuple[list[Cell], list[str]]:
    shown = {solver: found[METHODS[solver]] for solver in solvers if METHODS.get(solver) in found}
    cells = [_cell(shown[solver][0]) if solver in shown else NOTHING for solver in solvers]
    return cells, _notes({solver: source for solver, (_, source) in shown.items()}, but)


def _notes(source_of: dict[str, str], but: str) -> list[str]:
    """Where the value of each solver is from, and what is to say of all."""
    sources: dict[str, list[str]] = {}
    for solver, source in source_of.items():
        sources.setdefault(_short(source), []).append(solver)
    notes = [f"Published, grey: {', '.join(names)}: {source}." for source, names in sources.items()]
    return notes + ([f"Published values: {but}."] if but and notes else [])


def _cell(text: str) -> Cell:
    """`text` as it was printed: "10.43 ±0.04", "78,053", "22K"."""
    number = text.partition(" ")[0].replace(",", "").replace("K", "e3")
    return Cell(text, float(number), quoted=True)


def _spread(value: str, std: str) -> str:
    return value if pd.isna(std) else f"{value} ±{std}"


def _short(source: str) -> str:
    """The first of several sources, without how it was read."""
    return source.partition(";")[0].partition(" - ")[0].partition(" (a text copy")[0].strip()


@cache
def _table(name: str) -> pd.DataFrame:
    """As text: a value is shown as it was printed."""
    return pd.read_csv(PAPER / f"{name}.csv", dtype=str)

"""The tables: a row per solver for each dataset, ratios to a reference solver, and what the ratios are made of.

The target q of a comparison is the largest, over the compared solvers, of their median best validation NLL, + SLACK,
each at its best setting, and without those that are not ranked as others have more seeds;
the baseline is in every table but sets no target, and nor does a solver whose validations are void. A run that does not
reach q counts as PENALTY x its budget, or x its own seconds where it overran that, and is never dropped; one that never
ran, as its solver cannot take the problem, counts for nothing. Intervals need MIN_SEEDS seeds.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Self

import numpy as np
import pandas as pd

from bench import record, stats
from bench.report import lint, published
from bench.report.frame import BASELINE, Curve, by_reference
from bench.report.lint import Group
from bench.report.render import NOTHING, Cell, Table, counted
from bench.stats import Interval

SLACK = 0.02
SLACKS = (0.0, 0.02, 0.05, 0.1)
PENALTY = 2.0
NEAR = 0.1  # nats from the best test NLL, in which a solver has got there
MIN_SEEDS = 3
MIN_PROBLEMS = 3  # below which nothing is said of a solver over problems
HEADLINE = "ffjord"  # the rival whom speed-ups are over where none is named
MMD_FLOOR = 1e-6  # 10,000 rows of two or three dimensions scatter by 1e-5, even from one law; rounding is 1e-8

PENALISED = f"counts as {PENALTY:g} × its budget, or × its seconds where these are over {record.OVERRUN:g} × that"

LEGEND = (
    f"Medians over seeds; ± is half of the {stats.LEVEL:.0%} interval, by Student's t below {stats.SMALL} finished "
    f"seeds, by the bootstrap from there; none below {MIN_SEEDS}. Bold: the best, where it is of all its runs, all "
    "others have intervals too, and its own lies below theirs (times: among those that reach q).",
    "†: a certificate failed, of one run at least; the number is void and ranked nowhere.",
    "q: the largest median best validation NLL, not void, of the ranked solvers, each at its best setting, + "
    f"{SLACK} nat; reached at the first of two successive validations at or below it, or at the only one. *: a run "
    f"that did not reach it {PENALISED}; where none did, the best validation NLL stands there.",
    f"No MMD: below {MMD_FLOOR:g} in every run of the problem, where its kernel tells no two rows apart.",
    "Seconds are of the step clock, which validation stops; density and samples: as many points as the test set has.",
)

ACROSS_LEGEND = (
    "Interquartile mean: of the quotients of all pairs of runs, the lowest and the highest quarter left out, "
    "geometric; the interval by resampling seeds within problems. Probability of improvement: that a run of the solver "
    "reaches q before a run of the reference, ties by half, mean over problems (Agarwal et al. 2021). q is that of the "
    f"tables of ratios; *: a run that did not reach it {PENALISED}.",
)

Runs = dict[str, pd.DataFrame]  # label -> the runs of a solver at one setting
Known = Callable[[str, Sequence[str]], tuple[list[Cell], list[str]]]  # heading, solvers -> published cells, notes

ALWAYS = ("finite",)
DENSITY = (*ALWAYS, "nll_effort", "density_integral")
TO_Q = (*DENSITY, "nll_valid")  # of what validations say: q, and the seconds to it
SAMPLES = (*ALWAYS, "inverse")
CURVES = (*ALWAYS, "curves")  # of the map and what else the curves do, whatever the path on a grid does


@dataclass(frozen=True)
class Target:
    """The target NLL `q`, and which of the compared solvers still gained when their time ended, or may have."""

    q: float
    unconverged: tuple[str, ...]

    @property
    def mark(self) -> str:
        return " (not converged)" if self.unconverged else ""


@dataclass(frozen=True)
class Times:
    """Seconds to a target (n,), one a run, penalised where it was not `reached` (n,); `steps` (n,) likewise."""

    seconds: np.ndarray
    steps: np.ndarray
    reached: np.ndarray

    @property
    def mark(self) -> str:
        return "" if self.reached.all() else "*"


@dataclass(frozen=True)
class Quantity:
    """A column of a table: runs -> a number each. `voided_by` names certificates."""

    heading: str
    of: Callable[[pd.DataFrame], pd.Series]
    show: Callable[[float], str]
    voided_by: tuple[str, ...] = ALWAYS
    spread: bool = False
    ranked: bool = True
    timed: bool = False  # ranked only among those that reach the target: nobody is fast by being wrong
    positive: bool = False  # never 0, so that its interval is of logarithms


def significant(value: float) -> str:
    """Three significant digits: 1,230, 12.3, 0.0123, 1.2e-4."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def nats(value: float) -> str:
    return f"{value:.3f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def column(name: str, scale: float = 1.0) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda runs: scale * runs[name]


def whole_set(name: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Seconds for the whole test set, extrapolated where a run was given only its first rows."""
    return lambda runs: runs[name] * (runs["test_rows"] / runs["evaluate_rows"]).fillna(1)


def evaluations(runs: pd.DataFrame) -> pd.Series:
    """Function evaluations a step, forward and backward."""
    return runs["nfe_forward"] + runs["nfe_backward"].fillna(0)


NLL = Quantity("test\nNLL", column("nll"), nats, DENSITY, spread=True)
QUALITY = (
    NLL,
    Quantity("gap to\ntruth", column("nll_gap"), nats, DENSITY),
    Quantity("MMD", column("mmd"), significant, SAMPLES),
    Quantity("inverse\nerror", column("inverse_error_mean"), significant, SAMPLES),
)
SIZE = Quantity("params", column("parameters"), whole, ranked=False)
STEP = Quantity("ms a\nstep", column("seconds_per_step", 1e3), significant, timed=True, positive=True)
WORK = Quantity("NFE a\nstep", evaluations, significant, ranked=False)
DENSITY_TIME = Quantity("density\n(s)", whole_set("evaluate_seconds"), significant, DENSITY, timed=True, positive=True)
SAMPLE_TIME = Quantity("samples\n(s)", whole_set("sample_seconds"), significant, SAMPLES, timed=True, positive=True)
TO_Q_HEADING = "seconds\nto q"
COST = (STEP, WORK, DENSITY_TIME, SAMPLE_TIME)
ESTIMATE_TIME = Quantity("density\n(estimated)", whole_set("estimate_seconds"), significant, ranked=False)
TRAINING = (  # named as its published values are
    SIZE,
    Quantity("training\n(h)", column("fit_seconds", 1 / 3600), significant, ranked=False),
    Quantity("steps", column("steps"), whole, ranked=False),
)
TRAINING_LEGEND = (
    "Ours: the step clock at the end of a run, which its budget sets, and the steps until then. Published hours: one "
    "NVIDIA TITAN X, mean of 3 runs.",
)
RATIOS = (SIZE, STEP, DENSITY_TIME, SAMPLE_TIME)


def all_of(group: Group, reference: str) -> list[Table]:
    """Every table of one group, in reading order."""
    datasets = sorted(group.frame["dataset"].unique())
    made = []
    for name in datasets:
        made.append(summary(group, name, reference))
        if name in published.TABULAR:
            made.append(training(group, name, reference))
    pairs = {solver: pairs_of(group, solver, reference) for solver in baselines(group.frame, reference)}
    for make in (ratios, decomposition, sensitivity):
        made += [make(group, solver, reference, found) for solver, found in pairs.items()]
    made.append(across(group, reference, pairs))
    return [table for table in [*made, failures(group)] if table.rows]


def baselines(frame: pd.DataFrame, reference: str) -> list[str]:
    """The solvers to compare with the reference: all but the baseline, if the reference is there."""
    solvers = set(frame["solver"])
    return sorted(solvers - {reference, BASELINE}) if reference in solvers else []


# The table of a dataset


def summary(group: Group, dataset: str, reference: str) -> Table:
    """A row per solver of `dataset`. Raises ValueError for runs that cannot be compared."""
    part = _told_apart(group.frame[group.frame["dataset"] == dataset])
    lint.one_environment(part, group.allowed)
    goal = target(rivals(part, group.allowed))
    runs = by_label(part, reference)
    fair, mixed = ranking(group, part)
    tried = by_label(ran(part), reference)
    spent = {} if goal is None else {label: times(rows, goal.q, part) for label, rows in tried.items()}
    reached = {label: label in spent and not spent[label].mark and not is_void(runs[label], TO_Q) for label in runs}
    columns: dict[str, Sequence[Cell]] = {"runs": [_counts(rows) for rows in runs.values()]}
    quoted, sources = published.nll(dataset, solvers_of(runs))
    for quantity in (*QUALITY, SIZE):
        columns[quantity.heading] = cells_of(runs, quantity, reached, fair)
        if quantity is NLL:
            columns["NLL\n(published)"] = quoted
    columns |= {TO_Q_HEADING: _time_column(runs, spent, fair)}
    columns |= {q.heading: cells_of(runs, q, reached, fair) for q in COST}
    columns = filled(columns)
    rows = list(zip(runs, zip(*columns.values(), strict=True), strict=True))
    if BASELINE not in set(part["solver"]):
        rows.append((BASELINE, (Cell("no record"), *[NOTHING] * (len(columns) - 1))))
    name = f"{dataset}{group.suffix}"
    notes = mixed + near(part, fair) + _summary_notes(part, goal) + sources
    made = Table(
        name, dataset, "solver", list(columns), rows, notes, LEGEND, naming=lambda row, q: f"{row} {q} {dataset}"
    )
    return lint.admitted(group, made, part)


def training(group: Group, dataset: str, reference: str) -> Table:
    """Size and training of each solver beside the published ones; no rows where nothing is published of them."""
    part = group.frame[group.frame["dataset"] == dataset]
    runs = by_label(part, reference)
    columns, sources = columns_of(runs, TRAINING, ranking(group, part)[0], partial(published.training, dataset))
    rows = list(zip(runs, zip(*columns.values(), strict=True), strict=True)) if sources else []
    name, title = f"{dataset}_training{group.suffix}", f"{dataset}: training beside what is published"
    notes = [*settings(part), *sources, *broken(part)]
    made = Table(name, title, "solver", list(columns), rows, notes, TRAINING_LEGEND)
    return lint.admitted(group, made)


def ranking(group: Group, part: pd.DataFrame) -> tuple[set[str], list[str]]:
    """The labels to rank in the table of `part`, runs on one problem, and a line for each reason against others."""
    if mixes := [mix for mix in lint.unfair(part, group.allowed) if mix.name not in group.allowed]:
        return set(), [f"Nothing is ranked: runs differ in {mix} (allow={mix.name} ranks them)." for mix in mixes]
    beside = lint.beside(part, group.allowed)
    told = [f"Not ranked, as others have more seeds: {', '.join(beside)} (allow=seeds ranks all)."] if beside else []
    rivals = part[~part["solver"].isin(lint.BASELINES)]
    return set(rivals["label"]) - set(beside), told


def near(part: pd.DataFrame, fair: Collection[str]) -> list[str]:
    """A note of the solvers, at their best settings, within NEAR of the lowest test NLL, and of how far others are.

    None where nothing is `fair` to rank; labels that are not, as others have more seeds, say so.
    """
    tried = ran(part[~part["solver"].isin(lint.BASELINES)])
    best = {str(runs["label"].iloc[0]): runs for runs in map(best_setting, _each(tried))}
    whole = {label: runs for label, runs in best.items() if len(_values(runs, NLL)) == len(runs)}
    sound = {label: cell_of(runs, NLL).value for label, runs in whole.items() if not is_void(runs, NLL.voided_by)}
    unsound = [label for label, runs in best.items() if label not in sound and _has_density(runs)]
    if len(sound) + len(unsound) < 2 or not sound or not fair:
        return []
    first, *others = sorted(sound, key=lambda label: sound[label])
    above = {label: sound[label] - sound[first] for label in others}
    seeds = {label: counted(runs["seed"].nunique(), "seed") for label, runs in best.items()}
    name = {label: label if label in fair else f"{label} [{seeds[label]}]" for label in best}
    there = [name[label] for label, value in above.items() if value <= NEAR]
    late = [f"{name[label]} (+{value:.2f})" for label, value in above.items() if value > NEAR]
    late += [f"{label} (not of all its runs a sound NLL)" for label in unsound]
    told = (
        f"Within {NEAR} nat of the best test NLL, {sound[first]:.3f} of {name[first]}: {', '.join(there) or 'no other'}"
    )
    return [told + (f"; not there, with what they were given: {', '.join(late)}." if late else ".")]


def _each(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """Those of each solver."""
    return [own for _, own in runs.groupby("solver")]


def _has_density(runs: pd.DataFrame) -> bool:
    """Whether a run has an NLL, or failed and might have."""
    return bool(len(_values(runs, NLL)) or (runs["status"] != "ok").any())


def _summary_notes(part: pd.DataFrame, goal: Target | None) -> list[str]:
    tried = ran(part)
    notes = [] if goal is None else [f"q = {goal.q:.3f} nats{goal.mark}" + _still(goal)]
    # solvers that have no likelihood miss no target
    if goal is None and ((tried["status"] != "ok").any() or is_void(tried, TO_Q)):
        notes = [
            "No ranked solver ended with a finite validation NLL which no certificate voids: there is no target q."
        ]
    notes += settings(part)
    noisy = tried[tried["noisy"]]
    if len(noisy):
        notes.append(f"Do not quote the seconds of {', '.join(_runs(noisy))}: others used the processor.")
    few = (part["evaluate_rows"] > 0) & (part["evaluate_rows"] < part["test_rows"])
    cut = part[few].groupby("label")["evaluate_rows"]
    notes += [f"Density and samples of {label} extrapolated from {rows.min():,.0f} rows." for label, rows in cut]
    notes += [_estimated(str(label), rows) for label, rows in part[part["estimate_seconds"] > 0].groupby("label")]
    return notes + broken(part)


def settings(part: pd.DataFrame) -> list[str]:
    """A note for each label that is one of several settings of a solver."""
    named = part[part["setting"] != ""].drop_duplicates("label")
    return [f"{label}: {setting}" for label, setting in zip(named["label"], named["setting"], strict=True)]


def broken(part: pd.DataFrame) -> list[str]:
    """A note for each label whose certificates failed: which ones, and of several runs in how many."""
    notes = []
    for label, rows in part.groupby("label"):
        counts = Counter(name for names in rows["failed"] for name in names)
        told = [f"{name} ({n} of {len(rows)} runs)" if len(rows) > 1 else name for name, n in sorted(counts.items())]
        notes += [f"† {label} fails {', '.join(told)}."] if told else []
    return notes


def _estimated(label: str, rows: pd.DataFrame) -> str:
    seconds, spread = rows["estimate_seconds"].median(), rows["estimate_spread"].median()
    off = "" if math.isnan(spread) else f", off by {spread:.2f} nat a row (rms)"
    return (
        f"Density of {label} by Hutchinson's estimate, as its authors time it: {significant(seconds)} s, "
        f"uncertified{off}."
    )


def _told_apart(part: pd.DataFrame) -> pd.DataFrame:
    """`part` without its MMD where that is rounding: exp(-|x - y|^2) of any two rows in many dimensions is 0."""
    return part if (part["mmd"].abs() >= MMD_FLOOR).any() else part.assign(mmd=math.nan)


def _runs(part: pd.DataFrame) -> list[str]:
    return [f"{label} (seeds {', '.join(map(str, rows['seed']))})" for label, rows in part.groupby("label")]


def _still(goal: Target) -> str:
    if not goal.unconverged:
        return "."
    gained = f"still gained over {SLACK} nat in the last quarter of its time"
    return f": {', '.join(goal.unconverged)} {gained}, or had one validation in all."


def _counts(runs: pd.DataFrame) -> Cell:
    counts = runs["status"].value_counts().sort_index(key=lambda names: names != "ok")
    return Cell(",\n".join(f"{n} {status}" for status, n in counts.items()))


def ran(part: pd.DataFrame) -> pd.DataFrame:
    """The runs of `part` but those of a solver that cannot take the problem, or is not installed."""
    if set(lint.NEVER_RAN).isdisjoint(part["status"]):
        return part
    return part[~part["status"].isin(lint.NEVER_RAN)]


def by_label(part: pd.DataFrame, reference: str) -> Runs:
    """The runs of each solver and setting, in the order of tables."""
    return {label: part[part["label"] == label] for label in by_reference(part["label"], reference)}


def solvers_of(runs: Runs) -> list[str]:
    """The solver of each label."""
    return [str(rows["solver"].iloc[0]) for rows in runs.values()]


def filled(columns: Mapping[str, Sequence[Cell]]) -> dict[str, Sequence[Cell]]:
    """Those of `columns` in which there is anything."""
    return {heading: cells for heading, cells in columns.items() if any(cell != NOTHING for cell in cells)}


def cells_of(runs: Runs, quantity: Quantity, reached: Mapping[str, bool], fair: Collection[str]) -> list[Cell]:
    """A column: a cell for each of `runs`, the best in bold of those that are `fair` to rank."""
    values = [_values(rows, quantity) for rows in runs.values()]
    cells = [_cell(rows, quantity, found) for rows, found in zip(runs.values(), values, strict=True)]
    if not quantity.ranked:
        return cells
    ranked = [label in fair and (not quantity.timed or reached[label]) for label in runs]
    return _bold(cells, ranked, [len(v) == len(ran(rows)) for v, rows in zip(values, runs.values(), strict=True)])


def columns_of(
    runs: Runs, quantities: Sequence[Quantity], fair: Collection[str], known: Known | None = None
) -> tuple[dict[str, Sequence[Cell]], list[str]]:
    """The columns of `quantities` in which there is anything, and notes: where published values beside them are from.

    `known` gives the published cells of a heading and solvers, and notes. Nothing of it is ranked by time.
    """
    columns: dict[str, Sequence[Cell]] = {}
    sources: list[str] = []
    for quantity in quantities:
        columns[quantity.heading] = cells_of(runs, quantity, {}, fair)
        if known:
            columns[f"{quantity.heading}\n(published)"], found = known(quantity.heading, solvers_of(runs))
            sources += found
    return filled(columns), list(dict.fromkeys(sources))


def cell_of(runs: pd.DataFrame, quantity: Quantity) -> Cell:
    return _cell(runs, quantity, _values(runs, quantity))


def _cell(runs: pd.DataFrame, quantity: Quantity, values: np.ndarray) -> Cell:
    if not len(values):
        return NOTHING
    found = _interval(lambda: stats.median(values, _rng(), log=quantity.positive), len(values))
    text = quantity.show(found.value)
    if quantity.spread and not math.isnan(found.low):
        text += f" ±{quantity.show((found.high - found.low) / 2)}"
    return Cell(text, *found, void=is_void(runs, quantity.voided_by))


def _time_column(runs: Runs, spent: Mapping[str, Times], fair: Collection[str]) -> list[Cell]:
    cells = [_time_cell(rows, spent[label]) if label in spent else NOTHING for label, rows in runs.items()]
    ranked = [label in fair and label in spent and not spent[label].mark for label in runs]
    return _bold(cells, ranked, ranked)


def _time_cell(runs: pd.DataFrame, time: Times) -> Cell:
    void = is_void(runs, TO_Q)
    if not time.reached.any():
        best = _best(runs)
        text = "not reached" if math.isnan(best) else f"best {nats(best)}*"
        return Cell(text, void=void)
    found = _interval(lambda: stats.median(time.seconds, _rng(), log=True), len(time.seconds))
    part = "" if time.reached.all() else f"\n({time.reached.sum()} of {len(time.reached)})"
    return Cell(significant(found.value) + time.mark + part, *found, void=void)


def _bold(cells: Sequence[Cell], ranked: Sequence[bool], whole: Sequence[bool]) -> list[Cell]:
    """The lowest of the cells that may be `ranked` in bold, where its interval lies below those of all the others.

    It must be of the `whole` of its runs: the survivors of a solver that mostly fails are not its median.
    """
    rivals = [i for i, c in enumerate(cells) if ranked[i] and not c.void and not math.isnan(c.value)]
    if len(rivals) < 2:
        return list(cells)
    best = min(rivals, key=lambda i: cells[i].value)
    # a comparison with the NaN of a missing interval is False: all of them need one
    separate = whole[best] and all(cells[best].high < cells[i].low for i in rivals if i != best)
    return [replace(c, best=separate and i == best, ranked=i in rivals) for i, c in enumerate(cells)]


# Ratios


def ratios(group: Group, solver: str, reference: str, given: "Pairs | None" = None) -> Table:
    """`solver` over `reference` for each dataset that has both, then the means over datasets."""
    title = f"{solver} / {reference}: how many times more"
    columns = ["parameters", "seconds to q", "seconds a step", "density", "samples"]
    found = given or pairs_of(group, solver, reference)
    pairs, notes = found.pairs, [*found.caveats, *found.notes]
    compared = [_compare(pair) for pair in pairs]
    estimates = [estimate(pair) for pair in pairs]
    if any(c.known for c in estimates):
        columns.append("density (estimated)")
        compared = [[*row, c] for row, c in zip(compared, estimates, strict=True)]
        notes.append(f"Density (estimated): by Hutchinson's estimate of {solver}, uncertified.")
    rows = [(p.dataset, [_ratio_cell(c) for c in row]) for p, row in zip(pairs, compared, strict=True)]
    notes += [f"{p.dataset}: {c.note}." for p, row in zip(pairs, compared, strict=True) for c in row if c.note]
    if len(rows) > 1:
        across = [_once_a_source(pairs, column) for column in zip(*compared, strict=True)]
        rows.append(("geometric mean", [_mean_cell(c, geometric_mean) for c, _ in across]))
        rows.append(("arithmetic mean", [_mean_cell(c, arithmetic_mean) for c, _ in across]))
        parts = {name: why for _, lost in across for name, why in lost.items()}
        notes += [f"Means without {name} where {why}." for name, why in parts.items()]
    name = f"{solver}_over_{reference}{group.suffix}"
    return lint.admitted(
        group, Table(name, title, "dataset", columns, rows, notes, LEGEND, naming=_naming(solver, reference))
    )


def _naming(solver: str, reference: str) -> Callable[[str, str], str]:
    """What a ratio is called: the reference's gain over the rival; only against HEADLINE's it goes without saying."""
    over = "" if solver == HEADLINE else f"over {solver}"

    def name(dataset: str, quantity: str) -> str:
        return f"{reference} {'fewer' if quantity == 'parameters' else 'speedup'} {quantity} {over} {dataset}"

    return name


@dataclass(frozen=True)
class Pair:
    """The runs of a solver and of the reference on one dataset, and the target both are held to."""

    dataset: str
    solver: pd.DataFrame
    reference: pd.DataFrame
    goal: Target | None

    @cached_property
    def both(self) -> pd.DataFrame:
        return pd.concat([self.solver, self.reference])


@dataclass(frozen=True)
class Pairs:
    """The runs of two solvers on each dataset; `caveats` are of every number made of them, `notes` of how they are."""

    pairs: list[Pair]
    caveats: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Comparison:
    """One quantity of a pair, a value a run each; `mark` tells that some values are penalties, `note` what they are."""

    solver: np.ndarray
    reference: np.ndarray
    void: bool = False
    mark: str = ""
    note: str = ""

    @classmethod
    def unknown(cls, why: str) -> Self:
        """No number of a pair, and why."""
        return cls(np.array([]), np.array([]), note=why)

    @property
    def known(self) -> bool:
        return all(len(v) > 0 and bool((v > 0).all()) for v in (self.solver, self.reference))

    @property
    def seeds(self) -> int:
        return min(len(self.solver), len(self.reference))


def pairs_of(group: Group, solver: str, reference: str) -> Pairs:
    """The runs of `solver` and of `reference` on each dataset that has both, and what to note of them."""
    pairs, caveats, notes = [], [], []
    for dataset, part in group.frame.groupby("dataset"):
        lint.one_environment(part, group.allowed)
        tried = ran(part)
        a, b = (best_setting(tried[tried["solver"] == name]) for name in (solver, reference))
        if a.empty or b.empty:
            notes.append(f"{dataset}: no run of {solver if a.empty else reference}.")
            continue
        a, b, note = same_seeds(a, b)
        both = pd.concat([a, b])
        mixes = lint.unfair(both)
        if refused := [mix for mix in mixes if mix.name not in group.allowed]:
            caveats += [
                f"{dataset}: not compared: runs differ in {mix} (allow={mix.name} compares)." for mix in refused
            ]
            continue
        caveats += [f"{dataset}: allow={mix.name}: compared although runs differ in {mix}." for mix in mixes]
        several = tried.groupby("solver")["label"].nunique() > 1
        chosen = [runs["label"].iloc[0] for runs in (a, b) if several[runs["solver"].iloc[0]]]
        notes += [f"{dataset}: {note}"] if note else []
        void = any(is_void(rows, TO_Q) for _, rows in tried[tried["solver"].isin((solver, reference))].groupby("label"))
        among = " of those that no certificate voids" if void else ""
        notes += [f"{dataset}: {', '.join(chosen)}, the best by validation NLL{among}."] if chosen else []
        notes += [f"{dataset}: {n} of {name} failed: counted in seconds to q alone." for name, n in _failed(a, b)]
        pairs.append(Pair(str(dataset), a, b, target(both)))
    goals = [f"{p.dataset} {nats(p.goal.q)}{'~' if p.goal.unconverged else ''}" for p in pairs if p.goal]
    notes += [f"q in nats (~: not converged): {', '.join(goals)}."] if goals else []
    notes += _batches(pairs)
    noisy = [p.dataset for p in pairs if p.both["noisy"].any()]
    caveats += [f"Do not quote the seconds: others used the processor ({', '.join(noisy)})."] if noisy else []
    few = [p.dataset for p in pairs if min(map(_finished, (p.solver, p.reference))) < MIN_SEEDS]
    if few:
        why = f"fewer than {MIN_SEEDS} finished seeds; seconds to q count failed ones too"
        notes.append(f"No interval ({why}): {', '.join(few)}.")
    return Pairs(pairs, caveats, notes)


def _batches(pairs: Sequence[Pair]) -> list[str]:
    """A note of the rows that a step takes, where the two differ: their seconds a step are of as many."""
    each = {p.dataset: (_rows_a_step(p.solver), _rows_a_step(p.reference)) for p in pairs}
    unlike = [f"{name} {a} / {b}" for name, (a, b) in each.items() if a and b and a != b]
    return [f"Rows a step, solver / reference: {', '.join(unlike)}."] if unlike else []


def _rows_a_step(runs: pd.DataFrame) -> str:
    """Empty of a solver without batches."""
    fields = runs["fields"].iloc[0]
    given = fields.get("batch_size")
    return f"{given:,}" if isinstance(given, int) else "4,096 or all" if "batch_size" in fields else ""


def best_setting(runs: pd.DataFrame) -> pd.DataFrame:
    """Of several settings of one solver, that with the lowest median best validation NLL.

    A run that failed has none. A setting whose validations fail a certificate is taken only where no other ended well,
    one of fewer than MIN_SEEDS seeds only where no other has them.
    """
    if runs["label"].nunique() < 2:
        return runs
    found = {label: _standing(rows) for label, rows in runs.groupby("label")}
    return runs[runs["label"] == min(found, key=lambda label: found[label])]


def _standing(runs: pd.DataFrame) -> tuple[bool, bool, bool, float, float]:
    """What ranks a setting among others, the least the best: its survivors' median only where that of all runs ties."""
    best = _best(runs)
    found = np.array([curve.best for curve in validations(runs)])
    median = np.median(np.where(np.isnan(found), np.inf, found)).item()
    return math.isnan(best), is_void(runs, TO_Q), runs["seed"].nunique() < MIN_SEEDS, median, best


def _finished(runs: pd.DataFrame) -> int:
    return int((runs["status"] == "ok").sum())


def _failed(*solvers: pd.DataFrame) -> list[tuple[str, str]]:
    """The solvers that have failed runs, and how many: "1 run"."""
    counts = {runs["label"].iloc[0]: len(runs) - _finished(runs) for runs in solvers}
    return [(label, counted(n, "run")) for label, n in counts.items() if n]


def same_seeds(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Both cut to the seeds that both have, and a note where that leaves something out.

    Uncut where they share none: then they differ in seeds as `lint.unfair` has it.
    """
    shared = set(a["seed"]) & set(b["seed"])
    if not shared:
        return a, b, "the solvers share no seed."
    if len(shared) == a["seed"].nunique() == b["seed"].nunique():
        return a, b, ""
    return a[a["seed"].isin(shared)], b[b["seed"].isin(shared)], f"only the {len(shared)} seeds that both have."


def _compare(pair: Pair) -> list[Comparison]:
    size, *rest = (comparison(pair, quantity) for quantity in RATIOS)
    return [size, time_comparison(pair, pair.goal), *rest]


def comparison(pair: Pair, quantity: Quantity) -> Comparison:
    void = is_void(pair.both, quantity.voided_by)
    return Comparison(_values(pair.solver, quantity), _values(pair.reference, quantity), void)


def estimate(pair: Pair) -> Comparison:
    """Seconds of the solver's estimated density, over those of the reference's exact one."""
    void = is_void(pair.solver, ALWAYS) or is_void(pair.reference, DENSITY)
    return Comparison(_values(pair.solver, ESTIMATE_TIME), _values(pair.reference, DENSITY_TIME), void)


def time_comparison(pair: Pair, goal: Target | None) -> Comparison:
    """Seconds to the target, with the penalty for runs that do not reach it."""
    void = is_void(pair.both, TO_Q)
    if goal is None:
        return Comparison(np.array([]), np.array([]), void)
    if silent := [runs["solver"].iloc[0] for runs in (pair.solver, pair.reference) if _without_nll(runs)]:
        return replace(Comparison.unknown(f"{' and '.join(silent)} validates without an NLL"), void=void)
    a, b = (times(runs, goal.q, pair.both) for runs in (pair.solver, pair.reference))
    return Comparison(a.seconds, b.seconds, void, a.mark or b.mark)


def _without_nll(runs: pd.DataFrame) -> bool:
    """Whether the solver has no NLL to hold to a target, though runs of it ended ok."""
    ended = runs[runs["status"] == "ok"]
    return len(ended) > 0 and not any(math.isfinite(curve.best) for curve in ended["curve"])


def _ratio_cell(c: Comparison) -> Cell:
    if not c.known:
        return NOTHING
    found = _interval(lambda: stats.ratio_of_medians(c.solver, c.reference, _rng()), c.seeds)
    return Cell(_with_interval(found, c.mark), *found, void=c.void)


def geometric_mean(comparisons: Sequence[Comparison]) -> Interval:
    """Geometric mean over datasets of the ratio of medians, with its interval."""
    a, b = [c.solver for c in comparisons], [c.reference for c in comparisons]
    seeds = min(c.seeds for c in comparisons)
    return _interval(lambda: stats.geometric_mean_ratio(a, b, _rng()), seeds)


def arithmetic_mean(comparisons: Sequence[Comparison]) -> Interval:
    """Arithmetic mean over datasets of the ratio of medians, as papers have it; no interval."""
    found = [np.median(c.solver) / np.median(c.reference) for c in comparisons]
    return Interval(float(np.mean(found)), math.nan, math.nan)


def _once_a_source(pairs: Sequence[Pair], column: Sequence[Comparison]) -> tuple[list[Comparison], dict[str, str]]:
    """The comparisons of a column that count in its mean, and the partial sets that do not, and why."""
    sound = [p.dataset for p, c in zip(pairs, column, strict=True) if c.known and not c.void]
    parts = published.parts_of_whole(sound)
    return [c for p, c in zip(pairs, column, strict=True) if p.dataset not in parts], parts


def _mean_cell(across: Sequence[Comparison], mean: Callable[[Sequence[Comparison]], Interval]) -> Cell:
    """A mean inherits the marks of what it is made of, and says of how many datasets it is."""
    known = [c for c in across if c.known]
    if not known:
        return NOTHING
    found = mean(known)
    part = "" if len(known) == len(across) else f" ({len(known)} of {len(across)})"
    mark = "*" if any(c.mark for c in known) else ""
    return Cell(_with_interval(found, mark) + part, *found, void=any(c.void for c in known))


def decomposition(group: Group, solver: str, reference: str, given: "Pairs | None" = None) -> Table:
    """seconds to q = steps x evaluations a step x FLOP an evaluation x seconds a FLOP, by medians over seeds."""
    found = given or pairs_of(group, solver, reference)
    columns = ["steps\nto q", "evaluations\na step", "MFLOP an\nevaluation", "seconds\na GFLOP", TO_Q_HEADING]
    rows: list[tuple[str, Sequence[Cell]]] = []
    for pair in found.pairs:
        a, b = (_factors(runs, pair) for runs in (pair.solver, pair.reference))
        rows.append((f"{pair.dataset} · {reference}", b))
        rows.append((f"{pair.dataset} · {solver}", a))
        rows.append((f"{pair.dataset} · ratio", [_quotient(x, y) for x, y in zip(a, b, strict=True)]))
    title = f"What the time of {solver} and {reference} is made of"
    notes = ["The last column is the product of the others. FLOP of matrix products only, of a mean step."]
    name = f"{solver}_factors{group.suffix}"
    return lint.admitted(group, Table(name, title, "dataset · solver", columns, rows, [*notes, *found.caveats], LEGEND))


def _factors(runs: pd.DataFrame, pair: Pair) -> list[Cell]:
    """The five columns; where not even half of the runs reach the target, steps and seconds to it are NaN.

    Those that a target makes inherit what voids or marks the seconds to it.
    """
    calls, flops = evaluations(runs).median(), runs["flops"].median()
    time = None if pair.goal is None else times(runs, pair.goal.q, pair.both)
    work = [_plain(calls), _plain(_over(flops, calls) / 1e6)]
    if time is None or time.reached.mean() <= 0.5:
        a_step = (runs["fit_seconds"] / runs["steps"].where(runs["steps"] > 0)).median()
        return [NOTHING, *work, _plain(_over(a_step, flops) * 1e9), NOTHING]
    seconds, steps = np.median(time.seconds).item(), np.median(time.steps).item()
    to_q = partial(_plain, mark=time.mark, void=is_void(runs, TO_Q))
    return [to_q(steps), *work, to_q(_over(seconds, steps * flops) * 1e9), to_q(seconds)]


def _quotient(a: Cell, b: Cell) -> Cell:
    return _plain(_over(a.value, b.value), "*" if "*" in a.text + b.text else "", a.void or b.void)


def _over(a: float, b: float) -> float:
    return a / b if b else math.nan


def sensitivity(group: Group, solver: str, reference: str, given: "Pairs | None" = None) -> Table:
    """The ratio of the times to q for other tolerances than SLACK."""
    found = given or pairs_of(group, solver, reference)
    rows = []
    for pair in found.pairs:
        best = target(pair.both, 0.0)
        goals = [best and replace(best, q=best.q + slack) for slack in SLACKS]
        rows.append((pair.dataset, [_ratio_cell(time_comparison(pair, goal)) for goal in goals]))
    title = f"{solver} / {reference}: seconds to q, by the tolerance in q"
    columns = [f"+{slack:g} nat" for slack in SLACKS]
    name = f"{solver}_tolerance{group.suffix}"
    return lint.admitted(group, Table(name, title, "dataset", columns, rows, found.caveats, LEGEND))


def across(group: Group, reference: str, found: Mapping[str, "Pairs"]) -> Table:
    """A row per solver: its seconds to q beside the reference's, over all problems of which both have them.

    Only of MIN_PROBLEMS problems with MIN_SEEDS seeds that both have; what is void takes no part.
    """
    rows: list[tuple[str, Sequence[Cell]]] = []
    notes = []
    for solver, those in found.items():
        used = {pair.dataset: time for pair in those.pairs if (time := _of_enough_seeds(pair)) is not None}
        parts = published.parts_of_whole(used)
        used = {name: time for name, time in used.items() if name not in parts}
        if len(used) < MIN_PROBLEMS:
            continue
        rows.append((solver, _over_problems(list(used.values()))))
        notes += [f"{solver}: {caveat}" for caveat in those.caveats]
        notes += [f"{solver}: without {name}: {why}." for name, why in parts.items()]
        if lost := [pair.dataset for pair in those.pairs if pair.dataset not in (*used, *parts)]:
            notes.append(
                f"{solver}: without {', '.join(lost)} (void, no q or NLL, or not {MIN_SEEDS} seeds that both have)."
            )
    title = f"Seconds to q beside those of {reference}, over problems"
    columns = ["problems", f"times those of {reference},\ninterquartile mean", "probability of\nimprovement"]
    return lint.admitted(
        group, Table(f"across_problems{group.suffix}", title, "solver", columns, rows, notes, ACROSS_LEGEND)
    )


def _of_enough_seeds(pair: Pair) -> Comparison | None:
    """Seconds to q; None where they are void, or of too few seeds."""
    time = time_comparison(pair, pair.goal)
    return time if time.known and not time.void and time.seeds >= MIN_SEEDS else None


def _over_problems(times: Sequence[Comparison]) -> list[Cell]:
    a, b = [time.solver for time in times], [time.reference for time in times]
    middle = stats.interquartile_mean_ratio(a, b, _rng())
    better = stats.probability_of_improvement(a, b)
    mark = "*" if any(time.mark for time in times) else ""
    count = Cell(str(len(times)), len(times))
    return [count, Cell(_with_interval(middle, mark), *middle), Cell(_with_interval(better, mark), *better)]


def failures(group: Group) -> Table:
    """A row per run that did not end ok."""
    failed = group.frame[group.frame["status"] != "ok"]
    rows = [
        (f"{r.dataset} · {r.label} · seed {r.seed}", [Cell(str(r.status)), Cell(str(r.reason) or "no reason given")])
        for r in failed.itertuples()
    ]
    return Table(f"failures{group.suffix}", "Runs that did not end ok", "run", ["status", "reason"], rows, text=True)


# Targets and times


def rivals(part: pd.DataFrame, allowed: Collection[str] = ()) -> pd.DataFrame:
    """Of the runs on one problem those that set its target: of each solver that is ranked, at its best setting."""
    ranked = ran(part[~part["label"].isin(lint.beside(part, allowed))])
    return pd.concat([best_setting(runs) for runs in _each(ranked)] or [ranked])


def target(part: pd.DataFrame, slack: float = SLACK) -> Target | None:
    """The common target of the settings in `part` but the baseline and what is void; None if none of them has one."""
    compared = ran(part[["solver", "label", "status", "reason", "curve", "failed"]])
    settings = compared[compared["solver"] != BASELINE].groupby("label")
    sound = {str(label): runs for label, runs in settings if not is_void(runs, TO_Q)}
    q = stats.common_target({label: [c.best for c in validations(runs)] for label, runs in sound.items()}, slack)
    if q is None:
        return None
    return Target(q, tuple(label for label, runs in sound.items() if _still_gains(runs)))


def _still_gains(runs: pd.DataFrame) -> bool:
    """Whether a run was not converged, or its budget ended before a second validation could tell."""
    cut = runs["reason"].str.startswith("budget")
    return any(c.still_gains or (len(c.nll) == 1 and early) for c, early in zip(validations(runs), cut, strict=True))


def times(runs: pd.DataFrame, q: float, part: pd.DataFrame) -> Times:
    """Seconds and steps of each of `runs` to `q`, of `part`, the runs they are compared with."""
    found = [_time(curve, q) for curve in validations(runs)]
    reached = np.array([seconds is not None for seconds, _ in found])
    seconds = np.where(reached, np.array([s or 0.0 for s, _ in found]), penalties(runs, part).to_numpy(float))
    return Times(seconds, np.array([step for _, step in found]), reached)


def penalties(runs: pd.DataFrame, part: pd.DataFrame) -> pd.Series:
    """What each of `runs` counts as where it does not reach the target: PENALTY x its budget.

    Or x its seconds, where a long last step overran that by far: else it came out ahead of one that got there later.
    Runs that ended within their last step of their budget tie.
    A run with no budget in seconds has had as long as the longest run of `part`, the runs it is compared with. Of
    steps nothing is known.
    """
    budgets = runs["budget_seconds"].where(runs["budget_seconds"] > 0)
    if budgets.isna().any():
        ends = [curve.seconds[-1] for curve in part["curve"] if len(curve.seconds)]
        budgets = budgets.fillna(np.nanmax([*ends, part["fit_seconds"].max(), 0.0]))
    overran = runs["fit_seconds"] > record.OVERRUN * budgets
    return PENALTY * budgets.mask(overran, runs["fit_seconds"])


def _time(curve: Curve, q: float) -> tuple[float | None, float]:
    at = stats.first_at(curve.stairs, q)
    return (None, math.inf) if at is None else (curve.seconds[at].item(), curve.step[at].item())


def validations(runs: pd.DataFrame) -> list[Curve]:
    """The validations of each run; a run that failed has reached nothing.

    One at 0 seconds is left out: it is of no step, the loop makes none, and no ratio can be held to it.
    """
    nothing = Curve(np.array([]), np.array([]), np.array([]))
    return [_timed(c) if status == "ok" else nothing for c, status in zip(runs["curve"], runs["status"], strict=True)]


def _timed(curve: Curve) -> Curve:
    if not len(curve.seconds) or curve.seconds[0] > 0:  # they are in order
        return curve
    later = curve.seconds > 0
    return Curve(curve.step[later], curve.seconds[later], curve.nll[later])


def _best(runs: pd.DataFrame) -> float:
    """Median over seeds of the best validation NLL; NaN if no run ended ok."""
    found = [curve.best for curve in validations(runs)]
    return float(np.nanmedian(found)) if not np.isnan(found).all() else math.nan


# Small parts


def _values(runs: pd.DataFrame, quantity: Quantity) -> np.ndarray:
    """Its numbers, one of each run that ended ok and has one; 0 and below is none of a `positive` quantity."""
    found = quantity.of(runs).to_numpy(float)[(runs["status"] == "ok").to_numpy()]
    found = found[~np.isnan(found)]
    return found[(found > 0) & np.isfinite(found)] if quantity.positive else found


def is_void(runs: pd.DataFrame, voided_by: tuple[str, ...]) -> bool:
    fatal = set(voided_by)
    return not fatal.isdisjoint(chain.from_iterable(runs["failed"]))


def _interval(estimate: Callable[[], Interval], seeds: int) -> Interval:
    found = estimate()
    return found if seeds >= MIN_SEEDS else Interval(found.value, math.nan, math.nan)


def _with_interval(found: Interval, mark: str) -> str:
    text = significant(found.value) + mark
    if math.isnan(found.low) or math.isclose(found.low, found.high):
        return text
    return f"{text} [{significant(found.low)}, {significant(found.high)}]"


def _plain(value: float, mark: str = "", void: bool = False) -> Cell:
    return Cell(significant(value) + mark, value, void=void) if math.isfinite(value) else NOTHING


def _rng() -> np.random.Generator:
    """The same draws for each estimate, so that a report is the same however it is made."""
    return np.random.default_rng(0)

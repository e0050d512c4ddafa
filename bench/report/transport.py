"""The tables of transport problems: what was found beside what is true, and errors against dimension.

Two problems have two truths. A map solver is held to the optimal map; a solver of the relaxed problem, cost + weight x
KL(push-forward || target), is held to that problem's own minimiser, and its table says with which weight.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from bench.report import lint, tables
from bench.report.frame import by_reference, canonical
from bench.report.lint import Group
from bench.report.published import PAPER, TASKS, task
from bench.report.render import NOTHING, Cell, Table
from bench.report.tables import ALWAYS, CURVES, SAMPLES, Known, Quantity, column, significant

PUBLISHED = PAPER / "w2benchmark.csv"
BENCHMARK = "w2benchmark"  # the problems that the published values are of
TABLE_2 = "Gaussian-mixture pairs (HD)"

# what couplings and grid solvers bring as certificates of their own (solvers.discrete, solvers.eulerian)
PROVEN = ("finite_input", "marginal_source", "marginal_target", "mass", "duality_gap", "lost_mass", "levels_left")
COSTS = (*ALWAYS, "sampling_bias", *PROVEN)
ALONG = (*COSTS, "straightness")  # of a cost along curves
ADVECTION = (*COSTS, "curves")  # by a scheme, of their velocity; and of a cost of their map
BY_THE_MAP = (*tables.DENSITY, "curves")
WEIGHT = Quantity("weight\nof KL", column("relaxation"), significant, ranked=False)

MAP_ERROR = Quantity("L2-UVP\n%", column("l2_uvp"), significant, CURVES)
EXACT = (
    Quantity("its own\nestimate", column("cost_estimate"), significant, ALONG, ranked=False),
    Quantity("gap of\nestimate %", column("estimate_gap", 100.0), significant, ALONG, ranked=False),
    Quantity("cost of\nits map", column("transport_cost"), significant, ADVECTION, ranked=False),
    Quantity("gap of\nmap %", column("cost_gap", 100.0), significant, ADVECTION, ranked=False),
    Quantity("lower\nbound", column("cost_bound"), significant, ranked=False),
    Quantity("same-law\ncost", column("same_law_cost"), significant, ranked=False),
    MAP_ERROR,
    Quantity("of x1, x2\n%", column("uvp_2"), significant, CURVES),
    Quantity("inverse\nL2-UVP %", column("l2_uvp_inverse"), significant, CURVES),
    Quantity("cosine", column("cosine"), lambda value: f"{value:.4f}", CURVES, ranked=False),
    Quantity("params", column("parameters"), tables.whole, ranked=False),
    Quantity("seconds", column("fit_seconds"), significant, ranked=False),
    WEIGHT,
)
RELAXED = (
    WEIGHT,
    Quantity("cost L", column("cost_estimate"), significant, ALONG, ranked=False),
    Quantity("gap of\nL %", column("relaxed_estimate_gap", 100.0), significant, ALONG, ranked=False),
    Quantity("KL", column("kl_estimate"), significant, COSTS, ranked=False),
    Quantity("objective\ngap %", column("relaxed_objective_gap", 100.0), significant, ALONG, ranked=False),
    Quantity("L2-UVP\n%", column("relaxed_l2_uvp"), significant, CURVES),
    Quantity("of x1, x2\n%", column("relaxed_uvp_2"), significant, CURVES),
    Quantity("HJB\nresidual", column("hjb_residual"), significant, CURVES),
    Quantity("inverse\nerror", column("inverse_error_mean"), significant, SAMPLES),
    Quantity("s a\nstep", column("seconds_per_step"), significant, ranked=False),
)


def by_the_map(cost: str, kl: str) -> Callable[[pd.DataFrame], pd.Series]:
    """Cost of the map + weight x KL of its image, over test points or points of the target.

    The curves' kinetic energy is no less, with equality where they are straight.
    """
    return lambda runs: runs[cost] + runs["relaxation"] * runs[kl]


ADVECTED = (
    Quantity("L", column("upwind_cost"), significant, ADVECTION, ranked=False),
    Quantity("KL", column("upwind_kl"), significant, ADVECTION, ranked=False),
    Quantity("objective", column("upwind_objective"), significant, ADVECTION, ranked=False),
    Quantity("backward\nL", column("upwind_cost_backward"), significant, ADVECTION, ranked=False),
    Quantity("backward\nKL", column("upwind_kl_backward"), significant, ADVECTION, ranked=False),
    Quantity("backward\nobjective", column("upwind_objective_backward"), significant, ADVECTION, ranked=False),
    Quantity("mass\nerror", column("upwind_mass_error"), significant, ranked=False),
    Quantity("by the\nmap", by_the_map("transport_cost", "nll_gap"), significant, BY_THE_MAP, ranked=False),
    Quantity(
        "backward\nby the map",
        by_the_map("cost_backward", "kl_backward"),
        significant,
        BY_THE_MAP,
        ranked=False,
    ),
)
STRAIGHT = (  # what flow matching is judged by, named as its published values are
    Quantity("W2", column("wasserstein_2"), significant),
    Quantity("W2 of two\nsamples", column("wasserstein_2_floor"), significant, ranked=False),
    Quantity("NPE", column("normalized_path_energy"), significant),
)
STRAIGHT_LEGEND = (
    "W2: distance between test points carried over and points of the target; of two samples: between those and one "
    "other draw of the target. NPE: |E int |v|^2 dt - W2²| / W2². Published values are means over "
    "seeds and their deviations.",
)
LEGEND = (
    "Costs are 1/2 W2², gaps are to the exact one; costs and the lower bound are of samples, and scatter. Same-law "
    "cost: what the solver finds between two samples of one law, its bias (the geometric mean over both laws). L2-UVP: "
    "100 E|T - T*|² / tr Cov, over all coordinates, and over the first two, in which the mixtures differ. A solver "
    "with a weight of KL solves the relaxed problem, whose own truth is not this one.",
)
RELAXED_LEGEND = (
    "Held to the minimiser of L + weight x KL(push-forward || target), not to the optimal map. L is the kinetic "
    "energy, the objective L + weight x KL; both and KL by the solver's own estimate.",
)
ADVECTED_LEGEND = (
    "Every solver's velocity, advected by one scheme as the mean-field-game paper does: upwind finite volumes of first "
    "order on 256 x 256 cells, forward from the source and backward from the target. It widens densities visibly. "
    "By the map: without the scheme, along characteristics to their ends, 1/2 E|T(x) - x|² + weight x KL.",
)

# of errors against dimension, what voids them in the tables and in the figure
VOIDED_BY = {"l2_uvp": CURVES, "relaxed_uvp_2": CURVES, "estimate_gap": ALONG, "relaxed_objective_gap": ALONG}
ERRORS = {  # column -> (end of the table's name, its title, its legend)
    "l2_uvp": ("dimension", "L2-UVP in %", LEGEND),
    "relaxed_uvp_2": ("relaxed_dimension", "L2-UVP of x1, x2 in %, of the relaxed problem,", RELAXED_LEGEND),
}


def all_of(group: Group, reference: str) -> list[Table]:
    """Every table of the transport problems of a group, in reading order."""
    datasets = sorted(group.frame["dataset"].unique())
    made = [table(group, name, reference) for table in (exact, straight, relaxed, advected) for name in datasets]
    made += [by_dimension(group, family, reference, error) for family in families(group.frame) for error in ERRORS]
    return [table for table in made if table.rows]


def exact(group: Group, dataset: str, reference: str) -> Table:
    """Cost and map of each solver beside the truth; no rows where nothing is known of it."""
    part = group.frame[group.frame["dataset"] == dataset]
    known = part[["cost_gap", "l2_uvp", "same_law_cost"]].notna().any(axis=None)
    shown = part if known else part[:0]
    return _table(group, f"{dataset}_transport", f"{dataset}: cost and map", shown, EXACT, LEGEND, reference)


def straight(group: Group, dataset: str, reference: str) -> Table:
    """Flow matching's own problems by its own measures, published values beside ours."""
    part = group.frame[group.frame["dataset"] == dataset] if dataset in TASKS else group.frame[:0]
    name, title, known = f"{dataset}_straight", f"{dataset}: W2 and path energy", partial(task, dataset)
    made = _table(group, name, title, part, STRAIGHT, STRAIGHT_LEGEND, reference, known)
    return replace(made, naming=lambda row, q: f"{row} {q} {dataset}")


def relaxed(group: Group, dataset: str, reference: str) -> Table:
    """The solvers of the relaxed problem, beside its minimiser."""
    part = group.frame[(group.frame["dataset"] == dataset) & group.frame["relaxation"].notna()]
    return _table(
        group, f"{dataset}_relaxed", f"{dataset}: the relaxed problem", part, RELAXED, RELAXED_LEGEND, reference
    )


def advected(group: Group, dataset: str, reference: str) -> Table:
    """The solvers of the relaxed problem, their velocities advected by the same scheme."""
    part = group.frame[(group.frame["dataset"] == dataset) & group.frame["upwind_cost"].notna()]
    return _table(group, f"{dataset}_advected", f"{dataset}: advected", part, ADVECTED, ADVECTED_LEGEND, reference)


def _table(
    group: Group,
    name: str,
    title: str,
    part: pd.DataFrame,
    quantities: Sequence[Quantity],
    legend: tuple[str, ...],
    reference: str,
    known: Known | None = None,
) -> Table:
    """A row for each solver and setting; `known` gives the published cells of a heading and solvers, and notes."""
    runs = tables.by_label(part, reference)
    if not runs:
        return Table(name + group.suffix, title, "solver", [], [])
    lint.one_environment(part, group.allowed)
    fair, unranked = tables.ranking(group, part)
    columns, sources = tables.columns_of(runs, quantities, fair, known)
    rows = list(zip(runs, zip(*columns.values(), strict=True), strict=True)) if columns else []
    notes = [*unranked, *tables.settings(part), *subsampled(part), *sources, *tables.broken(part)]
    made = Table(
        name + group.suffix,
        title,
        "solver",
        list(columns),
        rows,
        notes,
        legend,
        naming=lambda row, q: f"{row} {q} {name}",
    )
    return lint.admitted(group, made, part)


def subsampled(part: pd.DataFrame) -> list[str]:
    """A note for each label that left out rows of a stored measure."""
    few = part[part["subsampled"] != ""].drop_duplicates(["label", "subsampled"])
    return [f"{label} couples {rows}." for label, rows in zip(few["label"], few["subsampled"], strict=True)]


# Against dimension


def families(frame: pd.DataFrame) -> list[str]:
    """The problems that were run in several dimensions and whose map is known."""
    known = frame[frame[["l2_uvp", "relaxed_uvp_2"]].notna().any(axis=1)]
    several = known.groupby("family")["dim"].nunique() > 1
    return sorted(several[several].index)


def by_dimension(group: Group, family: str, reference: str, error: str = "l2_uvp") -> Table:
    """One of ERRORS in per cent, a column per dimension; published values in rows of their own."""
    suffix, title, legend = ERRORS[error]
    part = group.frame[group.frame["family"] == family]
    dims = sorted({int(d) for d in part["dim"].dropna()})
    quantity = Quantity("", column(error), significant, VOIDED_BY[error])
    rows: list[tuple[str, Sequence[Cell]]] = []
    notes: list[str] = []
    for solver in by_reference(part["solver"], reference):
        runs = part[part["solver"] == solver]
        one = chosen(runs)
        cells = [tables.cell_of(one[one["dim"] == d], quantity) for d in dims]
        if any(cell != NOTHING for cell in cells):
            rows.append((solver, cells))
            notes += several(runs, one)
    if family == BENCHMARK and error == "l2_uvp":
        rows += published(dims)
        notes += ["Grey: published, Korotin et al. 2021 (arXiv 2106.01954), table 2, and rows that later papers add."]
    name, columns = f"{family}_{suffix}{group.suffix}", [f"d = {d}" for d in dims]
    made = Table(name, f"{family}: {title} against dimension", "solver", columns, rows, notes, legend)
    return lint.admitted(group, made)


def chosen(runs: pd.DataFrame) -> pd.DataFrame:
    """One setting of a solver in each dimension: the best by validation NLL, or, without one, that of most dimensions,
    and of several such the one that took the longest, as the finest grid does.

    Nothing else would be fair to the others: a setting picked by the error that is shown has seen the truth.
    """
    text = runs["fields"].map(canonical)
    shared = text.map(runs["dim"].groupby(text).nunique())
    kept = []
    for _, at in runs.groupby("dim"):
        judged = any(math.isfinite(curve.best) for curve in at["curve"])
        tied = at[shared[at.index] == shared[at.index].max()]
        most = text[tied.index].iloc[int(tied["fit_seconds"].fillna(0).to_numpy().argmax())]
        kept.append(tables.best_setting(at) if judged else at[text[at.index] == most])
    return pd.concat(kept) if kept else runs


def several(runs: pd.DataFrame, one: pd.DataFrame) -> list[str]:
    """A note for each dimension in which a solver has several settings: which of them is shown."""
    notes = []
    for dim, at in runs.groupby("dim"):
        if (n := at["label"].nunique()) > 1:
            notes.append(f"d = {dim:.0f}: {one[one['dim'] == dim]['label'].iloc[0]}, of {n} settings.")
    return notes


def published(dims: Sequence[int]) -> list[tuple[str, Sequence[Cell]]]:
    """Published L2-UVP of each method that has a value in one of `dims`; none where the file is not there."""
    if not PUBLISHED.exists():
        return []
    values = pd.read_csv(PUBLISHED)
    values = values.assign(l2_uvp_percent=pd.to_numeric(values["l2_uvp_percent"], errors="coerce"))  # some say ">100"
    values = values[(values["experiment"] == TABLE_2) & values["l2_uvp_percent"].notna()]
    rows = []
    for method, found in values.groupby("method"):
        by_dim = dict(zip(found["dim"], found["l2_uvp_percent"], strict=True))
        if any(d in by_dim for d in dims):
            cells = [Cell(f"{by_dim[d]:g}", float(by_dim[d]), quoted=True) if d in by_dim else NOTHING for d in dims]
            rows.append((f"{method} (published)", cells))
    return sorted(rows, key=lambda row: [c.value if not math.isnan(c.value) else math.inf for c in row[1]])

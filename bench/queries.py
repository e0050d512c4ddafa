"""The queries that claims are measured by: data frames of records, and experiments, in; one number with interval out.

A query is written as {kind: NAME, field: value, ...} with the kinds of KINDS. Whatever it uses must come from one
machine; where it uses seconds, from one environment (bench.report.lint); and of one problem, from one budget and
protocol, of which the one with the most seeds is taken. Runs whose certificates failed take no part. Imports no torch.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd

from bench import record, stats
from bench.ledger import NOT_MEASURABLE, Claim, ClaimError, Entry, Finding, Measured, Missing, Part, Refused, judge
from bench.names import CONF
from bench.report import experiments, lint, tables
from bench.report.tables import Comparison, Pair, Quantity
from bench.stats import Interval

ROOT = CONF.parents[1]
MACHINE = ("device", "cpu")
TRAINED = ("seconds_to_q", "seconds_per_step", "fit_seconds", "wall_seconds")
TIMED = (*TRAINED, "inference", "estimated_inference", "density", "samples")

Arrays = Sequence[np.ndarray]
Setting = Mapping[str, Any]


def geometric(a: Arrays, b: Arrays) -> Interval:
    """Geometric mean over problems of the ratios of medians."""
    return stats.geometric_mean_ratio(a, b, _rng())


def difference(a: Arrays, b: Arrays) -> Interval:
    """Mean over problems of the differences of medians."""
    weights = [1 / len(a)] * len(a) + [-1 / len(b)] * len(b)
    return stats.contrast(weights, [*a, *b], _rng(), log=False)


def of_ratios(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Arrays, Arrays], Interval]:
    """A mean that no contrast of medians is: `function` of (problems, k) medians over (problems, k), by bootstrap."""

    def mean(a: Arrays, b: Arrays) -> Interval:
        def statistic(*medians: np.ndarray) -> np.ndarray:
            return function(np.stack(medians[: len(a)]), np.stack(medians[len(a) :]))

        return stats.bootstrap_of_medians(statistic, [*a, *b], _rng())

    return mean


MEANS: dict[str, Callable[[Arrays, Arrays], Interval]] = {
    "arithmetic": of_ratios(lambda a, b: np.mean(a / b, 0)),
    "geometric": geometric,
    "ratio of sums": of_ratios(lambda a, b: a.sum(0) / b.sum(0)),
    "share above 1": of_ratios(lambda a, b: np.mean(a > b, 0)),
    "difference": difference,
}
WORST: dict[str, Callable[[np.ndarray], np.ndarray]] = {"largest": lambda a: a.max(0), "smallest": lambda a: a.min(0)}


def worst(name: str, strata: Arrays) -> Interval:
    """The largest or smallest of the medians."""
    if len(strata) == 1:
        return _with_seeds(stats.median(strata[0], _rng()), strata)
    found = stats.bootstrap_of_medians(lambda *medians: WORST[name](np.stack(medians)), strata, _rng())
    return _with_seeds(found, strata)


def _with_seeds(found: Interval, strata: Arrays) -> Interval:
    """`found` without its interval where a problem has fewer than MIN_SEEDS seeds."""
    enough = min(map(len, strata)) >= tables.MIN_SEEDS
    return found if enough else Interval(found.value, math.nan, math.nan)


def _rng() -> np.random.Generator:
    """The same draws for each estimate, as in the report."""
    return np.random.default_rng(0)


@dataclass(frozen=True)
class Evidence:
    """What claims are held to: the frame of the records of some folders, and the experiments beside them."""

    frame: pd.DataFrame
    folders: Sequence[Path]
    _known: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """What `find` gives, found once for each `name`: many claims compare the same runs."""
        if name not in self._known:
            self._known[name] = find()
        return self._known[name]

    def column(self, name: str) -> str:
        """`name`, if records can have it. Raises ClaimError."""
        if name not in self.frame or not pd.api.types.is_numeric_dtype(self.frame[name]):
            numbers = [str(c) for c in self.frame if pd.api.types.is_numeric_dtype(self.frame[c])]
            raise ClaimError(f"no metric {name}: choose from {', '.join(sorted([*QUANTITIES, *numbers]))}")
        return name

    def runs(self, solvers: Iterable[str], datasets: Sequence[str] | None) -> pd.DataFrame:
        """The runs that a claim may use. Raises Missing and Refused."""
        for solver in solvers:
            if not (CONF / "solver" / f"{solver}.yaml").exists() and solver not in set(self.frame["solver"]):
                raise Missing(f"this suite has no solver {solver}")
        for name in datasets or ():
            if not (CONF / "dataset" / f"{name.partition(' d=')[0]}.yaml").exists():
                raise Missing(f"this suite has no dataset {name}")
        asked = self.frame["solver"].isin(list(solvers)) & ~self.frame["status"].isin(lint.NEVER_RAN)
        part = self.frame[asked if datasets is None else asked & self.frame["dataset"].isin(datasets)]
        if part.empty:
            raise Missing(f"no record of {' or '.join(dict.fromkeys(solvers))}")
        if (old := part["schema"] < record.SCHEMA).any():
            first = part[old].iloc[0]
            raise Refused(
                f"{first['folder'] / first['key']}.json has schema {first['schema']:g}, older than {record.SCHEMA}: "
                "move it away and run its cell again"
            )
        one_machine(tuple(row) for row in part[list(MACHINE)].drop_duplicates().itertuples(index=False))
        return part

    def experiment(self, name: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """The results of an experiment, file by file. Raises Missing where there are none, Refused for a bad one."""
        found = [folder for experiment, folder in experiments.folders(self.folders) if experiment.name == name]
        paths = [path for folder in found for path in sorted(folder.glob("*.json"))]
        if not paths:
            raise Missing(f"no results of bench.{name}")
        for path in paths:
            try:
                content = json.loads(path.read_bytes())
            except (OSError, ValueError) as error:
                raise Refused(f"{path}: not a result of bench.{name} ({error})") from None
            if not isinstance(content, dict):
                raise Refused(f"{path}: not a result of bench.{name}")
            yield path, content


class Query(Protocol):
    """Measures one number."""

    kind: ClassVar[str]

    def measure(self, evidence: Evidence) -> Measured:
        """Raises Missing, Refused and ClaimError."""
        ...


def one_machine(machines: Iterable[tuple[str, ...]]) -> None:
    """Raise Refused unless there is one machine among them."""
    named = sorted({_machine(*machine) for machine in machines})
    if len(named) > 1:
        raise Refused(f"records from {len(named)} machines ({'; '.join(named)}): give records= of one")


def _machine(device: str, cpu: str) -> str:
    return cpu if device in ("cpu", "") else device


def _words(name: str) -> str:
    return name.replace("_", " ")


def hardware(runs: pd.DataFrame) -> str:
    """The machine of some runs, and the threads that they had."""
    first, threads = runs.iloc[0], sorted(runs["threads"].unique())
    return f"{_machine(first['device'], first['cpu'])}, threads {' or '.join(threads)}"


# Two solvers over problems


@dataclass(frozen=True)
class Compare:
    """A mean over problems of the ratio (by `mean`, the difference) of medians over seeds of `of`: `solver` to `over`.

    `of` is one of QUANTITIES or a number of the records. `datasets` None are all that both solvers were run on.
    `setting` and `over_setting` ({adjoint: true}) choose between settings of a solver; of those that are left the one
    with the lowest validation NLL is taken.
    """

    kind: ClassVar[str] = "compare"
    of: str
    solver: str
    over: str
    mean: str = "geometric"
    datasets: Sequence[str] | None = None
    setting: Setting = field(default_factory=dict)
    over_setting: Setting = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mean not in MEANS:
            raise ValueError(f"no mean {self.mean!r}: choose from {', '.join(MEANS)}")

    def measure(self, evidence: Evidence) -> Measured:
        pairs = self.pairs(evidence)
        unfair = {p.pair.dataset: mix for p in pairs for mix in p.unfair if mix.name != "seeds"}
        compared = self.compare(pairs, evidence)
        used = {name: c for name, c in compared.items() if self._known(c) and not c.void and name not in unfair}
        notes = [f"without {name}: a certificate failed" for name, c in compared.items() if c.void]
        notes += [f"without {name}: unfair, as {mix}" for name, mix in unfair.items()]
        if not used:
            lost = f" ({'; '.join(notes)})" if notes else ""
            raise Missing(f"no problem on which {self.solver} and {self.over} both have {_words(self.of)}{lost}")
        told = [*MACHINE, "threads", "dataset", "noisy"]
        runs = pd.concat([p.pair.both[told] for p in pairs if p.pair.dataset in used])
        late = [name for name, c in used.items() if c.mark]
        notes += [f"penalised, as a run did not reach q: {', '.join(late)}"] if late else []
        for note in dict.fromkeys(c.note for c in used.values() if c.note):
            notes.append(f"{note} on {', '.join(name for name, c in used.items() if c.note == note)}")
        noisy = sorted(runs[runs["noisy"]]["dataset"].unique()) if self.of in TIMED else []
        notes += [f"do not quote: others used the processor ({', '.join(noisy)})"] if noisy else []
        seeds = min(c.seeds for c in used.values())
        count = sum(len(c.solver) + len(c.reference) for c in used.values())
        a, b = [c.solver for c in used.values()], [c.reference for c in used.values()]
        interval = _with_seeds(MEANS[self.mean](a, b), [*a, *b])
        return Measured(interval, count, seeds, tuple(used), hardware(runs), tuple(notes))

    def _known(self, c: Comparison) -> bool:
        return c.seeds > 0 if self.mean == "difference" else c.known

    def compare(self, pairs: "Sequence[Problem]", evidence: Evidence) -> dict[str, Comparison]:
        """The quantity on each problem. Raises ClaimError."""
        quantity = quantity_of(self.of, evidence)
        name = f"{self.of} of {self._asked}"
        found: dict[str, Comparison] = evidence.once(name, lambda: {p.pair.dataset: quantity(p) for p in pairs})
        return found

    @property
    def _asked(self) -> str:
        """What tells its runs from another comparison's."""
        return repr((self.solver, self.over, self.datasets, self.setting, self.over_setting, self.of in TIMED))

    def pairs(self, evidence: Evidence) -> list["Problem"]:
        """The runs of both on each problem."""
        quantity_of(self.of, evidence)
        found: list[Problem] = evidence.once(self._asked, lambda: self._found(evidence))
        return found

    def _found(self, evidence: Evidence) -> list["Problem"]:
        runs = evidence.runs([self.solver, self.over], self.datasets)
        grouped = [part for _, part in runs.groupby(list(lint.ENVIRONMENT))] if self.of in TIMED else [runs]
        found = [self._pairs(part) for part in grouped]
        best = max(found, key=lambda pairs: (len(pairs), sum(len(p.pair.both) for p in pairs)))
        if not best:
            raise Missing(f"no problem that both {_named(self.solver, self.setting)} and "
                          f"{_named(self.over, self.over_setting)} were run on in one environment")  # fmt: skip
        return best

    def _pairs(self, runs: pd.DataFrame) -> list["Problem"]:
        found = [self._pair(str(name), part) for name, part in runs.groupby("dataset")]
        return [pair for pair in found if pair is not None]

    def _pair(self, dataset: str, part: pd.DataFrame) -> "Problem | None":
        """Of the budgets and protocols the one with the most seeds of both, and of those the longest."""
        found = []
        for _, same in part.groupby(list(lint.WITHIN)):
            a, b = chosen(same, self.solver, self.setting), chosen(same, self.over, self.over_setting)
            if len(a) and len(b):
                best = tables.best_setting(a), tables.best_setting(b)
                rank = min(map(len, best)), np.nan_to_num(same["budget_seconds"].max())
                found.append((rank, Problem(_pair(dataset, *best), a, b)))
        return max(found, key=lambda one: one[0])[1] if found else None


@dataclass(frozen=True)
class Problem:
    """The best settings of two solvers on a problem, as a pair, and all their runs there."""

    pair: Pair
    solver: pd.DataFrame
    reference: pd.DataFrame

    @cached_property
    def unfair(self) -> list[lint.Mix]:
        """In what the runs of the pair differ."""
        return lint.unfair(self.pair.both)


def chosen(runs: pd.DataFrame, solver: str, setting: Setting) -> pd.DataFrame:
    """The runs of a solver that have the values which `setting` names."""
    part = runs[runs["solver"] == solver]
    return part[np.array([all(own.get(n) == v for n, v in setting.items()) for own in part["fields"]], bool)]


def _named(solver: str, setting: Setting) -> str:
    return solver + (f" with {', '.join(f'{name}={value}' for name, value in setting.items())}" if setting else "")


def _pair(dataset: str, a: pd.DataFrame, b: pd.DataFrame) -> Pair:
    a, b, _ = tables.same_seeds(a, b)
    return Pair(dataset, a, b, tables.target(pd.concat([a, b])))


def seconds_to_q(problem: Problem) -> Comparison:
    """Seconds of the step clock to the common target; a run that does not get there counts as twice its budget."""
    return tables.time_comparison(problem.pair, problem.pair.goal)


def parameters(problem: Problem) -> Comparison:
    """Parameters at equal quality: of the settings whose median best NLL reaches the target, those with the fewest."""
    goal = problem.pair.goal
    if goal is None:
        return Comparison(np.array([]), np.array([]))
    return Comparison(_smallest(problem.solver, goal.q), _smallest(problem.reference, goal.q))


def _smallest(runs: pd.DataFrame, q: float) -> np.ndarray:
    """Parameters (seeds,) of the smallest setting that reaches q with a density that is certified; none: empty."""
    reached = []
    for _, rows in runs.groupby("label"):
        fine = rows[rows["status"] == "ok"]
        void = any(set(tables.DENSITY) & set(names) for names in rows["failed"])
        if len(fine) and not void and np.median([curve.best for curve in fine["curve"]]) <= q:
            reached.append(fine["parameters"].dropna().to_numpy(float))
    return min(reached, key=lambda values: float(np.median(values)), default=np.array([]))


def inference(problem: Problem) -> Comparison:
    """Seconds of the log-density at equal accuracy (bench.accuracy), where all runs have them for as many points.

    Else, with a note, at the solvers' own settings, which their certificate holds to the same 0.01 nat.
    """
    pair = problem.pair
    same_rows = pair.both["accurate_rows"].nunique() == 1
    best = [tables.best_setting(runs) for runs in (pair.solver, pair.reference)]
    if same_rows and all(runs["accurate_seconds"].notna().all() for runs in best):
        return tables.comparison(pair, ACCURATE)
    return replace(tables.comparison(pair, tables.DENSITY_TIME), note="at the solvers' own settings")


def best_nll(problem: Problem) -> Comparison:
    """The lowest validation NLL of each run."""
    a, b = (
        np.array([c.best for c in runs[runs["status"] == "ok"]["curve"] if math.isfinite(c.best)])
        for runs in (problem.pair.solver, problem.pair.reference)
    )
    return Comparison(a, b)


def estimated_inference(problem: Problem) -> Comparison:
    """Seconds of the solver's estimated log-density, as its authors time it, over the reference's exact one."""
    return tables.estimate(problem.pair)


ACCURATE = Quantity("accurate", tables.column("accurate_seconds"), tables.significant, tables.DENSITY)

QUANTITIES: dict[str, Callable[[Problem], Comparison]] = {
    "parameters_at_q": parameters,
    "seconds_to_q": seconds_to_q,
    "best_nll": best_nll,
    "inference": inference,
    "estimated_inference": estimated_inference,
    "density": lambda problem: tables.comparison(problem.pair, tables.DENSITY_TIME),
    "seconds_per_step": lambda problem: tables.comparison(problem.pair, tables.STEP),
    "samples": lambda problem: tables.comparison(problem.pair, tables.SAMPLE_TIME),
}


def quantity_of(name: str, evidence: Evidence) -> Callable[[Problem], Comparison]:
    """What `name` is of a pair: one of QUANTITIES, or a number of the records, void where any certificate failed."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    column = evidence.column(name)

    def compare(problem: Problem) -> Comparison:
        pair = problem.pair
        a, b = (certified(runs, column) for runs in (pair.solver, pair.reference))
        return Comparison(a, b, void=bool(pair.both["failed"].map(bool).any()))

    return compare


def certified(runs: pd.DataFrame, column: str) -> np.ndarray:
    """The numbers of the runs that ended ok and failed no certificate, (n,)."""
    fine = runs[(runs["status"] == "ok") & ~runs["failed"].map(bool)]
    return fine[column].dropna().to_numpy(float)


# Numbers of one solver


@dataclass(frozen=True)
class Value:
    """The worst over `datasets` of the median over seeds of a number of the records; `magnitude`: of its magnitude.

    `setting` chooses between settings of the solver, as in Compare.
    """

    kind: ClassVar[str] = "value"
    of: str
    solver: str
    datasets: Sequence[str] | None = None
    worst: str = "largest"
    magnitude: bool = False
    setting: Setting = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.worst not in WORST:
            raise ValueError(f"no worst {self.worst!r}: choose from {', '.join(WORST)}")

    def measure(self, evidence: Evidence) -> Measured:
        name = evidence.column(self.of)
        runs = chosen(evidence.runs([self.solver], self.datasets), self.solver, self.setting)
        runs = runs[runs["status"] == "ok"].dropna(subset=[name])
        runs = runs.assign(value=runs[name].abs() if self.magnitude else runs[name])
        found = {str(name): self._values(part) for name, part in runs.groupby("dataset")}
        used = {name: values for name, values in found.items() if len(values)}
        lacking = [name for name in self.datasets or () if name not in used]
        if not used:
            raise Missing(f"no certified {_words(self.of)} of {_named(self.solver, self.setting)}")
        seeds = min(map(len, used.values()))
        interval = worst(self.worst, list(used.values()))
        notes = (f"nothing on {', '.join(lacking)}",) if lacking else ()
        count = sum(map(len, used.values()))
        return Measured(interval, count, seeds, tuple(used), hardware(runs), notes)

    def _values(self, part: pd.DataFrame) -> np.ndarray:
        """Of the budgets and protocols of a problem the one with the most seeds."""
        same = max((same for _, same in part.groupby(list(lint.WITHIN))), key=lambda rows: rows["seed"].nunique())
        return certified(tables.best_setting(same), "value")


@dataclass(frozen=True)
class Beside:
    """Numbers of the records beside a published table, a CSV with the columns dim, method and `column`.

    `methods` maps solvers to the table's methods; `family` names the problem and `experiment` the part of the table.
    The number is the largest, over solvers and dimensions, of ours / theirs, or of |ours / theirs - 1| as `deviation`.
    """

    kind: ClassVar[str] = "beside"
    of: str
    methods: Mapping[str, str]
    family: str
    table: str
    experiment: str
    column: str
    deviation: bool = False

    def measure(self, evidence: Evidence) -> Measured:
        name = evidence.column(self.of)
        dims = evidence.frame[evidence.frame["family"] == self.family]["dataset"].unique().tolist()
        if not dims:
            raise Missing(f"no record of {self.family}")
        runs = evidence.runs(list(self.methods), dims)
        theirs = dict(self._published())
        strata, problems = {}, set()
        for (solver, dataset), part in runs.groupby(["solver", "dataset"]):
            value = theirs.get((self.methods[str(solver)], int(part["dim"].iloc[0])))
            values = certified(tables.best_setting(part), name)
            if value and len(values):
                ratios = values / value
                strata[solver, dataset] = np.abs(ratios - 1) if self.deviation else ratios
                problems.add(str(dataset))
        if not strata:
            raise Missing(f"no certified {_words(self.of)} beside a published one")

        seeds = min(map(len, strata.values()))
        interval = worst("largest", list(strata.values()))
        ordered = tuple(sorted(problems, key=lambda text: int(text.rpartition("=")[2])))
        return Measured(interval, sum(map(len, strata.values())), seeds, ordered, hardware(runs))

    def _published(self) -> Iterator[tuple[tuple[str, int], float]]:
        """(method, dim) -> value. Raises ClaimError."""
        try:
            with (ROOT / self.table).open(newline="") as file:
                for line in csv.DictReader(file):
                    if line["experiment"] == self.experiment and line[self.column].replace(".", "").isdigit():
                        yield (line["method"], int(line["dim"])), float(line[self.column])
        except (OSError, KeyError, ValueError) as error:
            raise ClaimError(f"{self.table}: cannot be read ({error!r})") from None


# Experiments


@dataclass(frozen=True)
class Trace:
    """Of bench.trace: the closed form's seconds over those of an estimate with one vector, or that estimate's error,

    the largest over dimensions. `of` is "seconds" or "error".
    """

    kind: ClassVar[str] = "trace"
    of: str

    def __post_init__(self) -> None:
        if self.of not in ("seconds", "error"):
            raise ValueError(f"no {self.of!r} of a trace: choose from seconds, error")

    def measure(self, evidence: Evidence) -> Measured:
        found, where = {}, set()
        for path, content in evidence.experiment("trace"):
            try:
                rows, env = content["rows"], content["environment"]
                where.add((str(env["device"]), str(env["cpu"])))
                for dim in {row["dim"] for row in rows}:
                    exact = next(r for r in rows if r["dim"] == dim and r["method"] == "closed form")
                    one = next(r for r in rows if r["dim"] == dim and r["vectors"] == 1)
                    found[dim] = one["relative_error"] if self.of == "error" else exact["seconds"] / one["seconds"]
                threads = env["threads"]
            except (KeyError, TypeError, StopIteration, ZeroDivisionError) as error:
                raise Refused(f"{path}: not a result of bench.trace ({error!r})") from None
        one_machine(where)
        problems = tuple(f"d = {dim}" for dim in sorted(found))
        each = ", ".join(f"{found[dim]:.3g}" for dim in sorted(found))
        interval = Interval(max(found.values()), math.nan, math.nan)
        return Measured(
            interval, len(found), 1, problems, f"{_machine(*where.pop())}, threads {threads}", (f"by d: {each}",)
        )


@dataclass(frozen=True)
class GradientError:
    """Of bench.gradient_error: seconds of the adjoint's gradient over the direct one's, each the least in which the

    relative error is at most `error`; the geometric mean over problems.
    """

    kind: ClassVar[str] = "gradient_error"
    error: float

    def measure(self, evidence: Evidence) -> Measured:
        ratios, where, lacking = {}, set(), []
        for path, content in evidence.experiment("gradient_error"):
            try:
                name, env = str(content["dataset"]), content["env"]
                where.add((str(env["device"]), str(env["cpu"])))
                fine = [r for r in content["rows"] if r["error"] <= self.error]
                direct, adjoint = (
                    min((float(r["seconds"]) for r in fine if r["adjoint"] is way), default=None)
                    for way in (False, True)
                )
            except (KeyError, TypeError, ValueError) as error:
                raise Refused(f"{path}: not a result of bench.gradient_error ({error!r})") from None
            if direct and adjoint:
                ratios[name] = adjoint / direct
            else:
                lacking.append(name)
        one_machine(where)
        if not ratios:
            raise Missing(f"no problem on which both gradients reach an error of {self.error:g}")
        value = float(np.exp(np.mean(np.log(list(ratios.values())))))
        notes = (f"not reached by both on {', '.join(lacking)}",) if lacking else ()
        return Measured(
            Interval(value, math.nan, math.nan), len(ratios), 1, tuple(ratios), _machine(*where.pop()), notes
        )


KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in (Compare, Value, Beside, Trace, GradientError)}


def built(given: Mapping[str, Any]) -> Query:
    """The query that is written as `given`. Raises ClaimError."""
    plain = {str(name): value for name, value in given.items()}
    kind = KINDS.get(str(plain.pop("kind", None)))
    if kind is None:
        raise ClaimError(f"no query {given.get('kind')!r}: choose from {', '.join(KINDS)}")
    names = [f.name for f in fields(kind)]
    if wrong := [name for name in plain if name not in names]:
        raise ClaimError(f"the query {kind.kind} has no {', '.join(wrong)}: choose from {', '.join(names)}")
    if lacking := [f.name for f in fields(kind) if f.default is f.default_factory is MISSING and f.name not in plain]:
        raise ClaimError(f"the query {kind.kind} lacks {', '.join(lacking)}")
    for name in {"setting", "over_setting"} & plain.keys():
        if not isinstance(plain[name], Mapping):
            raise ClaimError(f"{name} must give settings and values, as in {{adjoint: true}}, not {plain[name]!r}")
    try:
        made: Query = kind(**plain)
    except (ValueError, TypeError) as error:
        raise ClaimError(str(error)) from None
    return made


def judged(claims: Sequence[Claim], evidence: Evidence) -> list[Entry]:
    """The verdicts on all claims. Raises ClaimError for one that asks for what no record has."""
    return [Entry(claim, tuple(_judged(claim, part, evidence) for part in claim.parts)) for claim in claims]


def _judged(claim: Claim, part: Part, evidence: Evidence) -> Finding:
    try:
        return judge(part, built(part.query).measure(evidence))
    except Missing as error:
        return Finding(part, NOT_MEASURABLE, str(error))
    except Refused as error:
        return Finding(part, NOT_MEASURABLE, str(error), refused=True)
    except ClaimError as error:
        raise ClaimError(f"{claim.id}: {error}") from None

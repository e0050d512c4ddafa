"""The queries that claims are measured by: data frames of records, and experiments, in; one number with interval out.

A query is written as {kind: NAME, field: value, ...} with the kinds of KINDS. Whatever it uses must come from one
machine; where it uses seconds, from one environment (bench.report.lint); and of one problem, from one budget, protocol
and tuning budget: that which `rank` puts first. Problems take no part where a run of a solver has no certified
number, as the survivors' median is not the solver's, where seconds decide and others used the processor, where there
are fewer seeds than are asked for and others have as many, nor, in comparisons, what stands in for a standard set that
takes part itself; the notes name them. Imports no torch.
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

from bench import record, sizes, stats
from bench.ledger import (
    NOT_MEASURABLE,
    Claim,
    ClaimError,
    Entry,
    Finding,
    Measured,
    Missing,
    NoneLeft,
    Part,
    Refused,
    judge,
)
from bench.names import CONF
from bench.report import experiments, lint, tables
from bench.report.published import parts_of_whole
from bench.report.tables import Comparison, Pair
from bench.stats import Interval

ROOT = CONF.parents[1]
MACHINE = ("device", "cpu")
TRAINED = ("seconds_to_q", "seconds_per_step", "fit_seconds", "wall_seconds")
TIMED = (*TRAINED, "inference", "estimated_inference", "density", "samples")
TO_TARGET = ("seconds_to_q", "parameters_at_q")  # what the target q decides
BUDGETED = (*TIMED, "parameters_at_q", "best_nll")  # compared within one environment: how far seconds of training get
EIGHTH = 0.125  # bench.accuracy.EFFORTS[0], which would bring torch along
BY_HAND = "no equal tuning budget: settings are the authors', defaults, by hand, or of searches others did not have"

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


OF_MEDIANS: dict[str, sizes.Mean] = {
    "arithmetic": lambda a, b: np.mean(a / b, 0),
    "geometric": lambda a, b: np.exp(np.mean(np.log(a / b), 0)),
    "ratio of sums": lambda a, b: a.sum(0) / b.sum(0),
    "share above 1": lambda a, b: np.mean(a > b, 0),
    "difference": lambda a, b: np.mean(a - b, 0),
}
MEANS: dict[str, Callable[[Arrays, Arrays], Interval]] = {
    **{name: of_ratios(mean) for name, mean in OF_MEDIANS.items()},
    "geometric": geometric,  # contrasts of medians, whose intervals are better
    "difference": difference,
}
WORST: dict[str, Callable[[np.ndarray], np.ndarray]] = {"largest": lambda a: a.max(0), "smallest": lambda a: a.min(0)}


def worst(name: str, strata: Arrays) -> Interval:
    """The largest or smallest of the medians; below stats.SMALL seeds the interval is that of its own problem."""
    if len(strata) == 1 or min(map(len, strata)) < stats.SMALL:
        sign = 1 if name == "largest" else -1
        return _with_seeds(stats.median(max(strata, key=lambda row: sign * np.median(row)), _rng()), strata)
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
    """What claims are held to: the frame of the records of some folders, and the experiments beside them.

    `seeds` are so many as a problem needs to take part where others have them.
    """

    frame: pd.DataFrame
    folders: Sequence[Path]
    seeds: int = 1
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
        """The runs that a claim may use, of each solver's last version. Raises Missing and Refused."""
        for solver in solvers:
            if not (CONF / "solver" / f"{solver}.yaml").exists() and solver not in set(self.frame["solver"]):
                raise Missing(f"this suite has no solver {solver}")
        for name in datasets or ():
            if not (CONF / "dataset" / f"{name.partition(' d=')[0]}.yaml").exists():
                raise Missing(f"this suite has no dataset {name}")
        asked = self.frame["solver"].isin(list(solvers)) & ~self.frame["status"].isin(lint.NEVER_RAN)
        part = self.frame[asked if datasets is None else asked & self.frame["dataset"].isin(datasets)]
        if part.empty:
            where = "" if datasets is None else f" on {', '.join(datasets)}"
            raise Missing(f"no record of {' or '.join(dict.fromkeys(solvers))}{where}")
        if (old := part["schema"] < record.SCHEMA).any():
            first = part[old].iloc[0]
            raise Refused(
                f"{first['folder'] / first['key']}.json has schema {first['schema']:g}, older than {record.SCHEMA}: "
                "move it away and run its cell again"
            )
        one_machine(_machine(*row) for row in part[list(MACHINE)].drop_duplicates().itertuples(index=False))
        return lint.without_replaced(part)[0]

    def few(self, found: Mapping[str, int]) -> dict[str, str]:
        """Of `found`, each with its number of seeds, those that have too few where others have enough, and why."""
        if max(found.values(), default=0) < self.seeds:
            return {}
        return {name: f"only {n} of {self.seeds} seeds" for name, n in found.items() if n < self.seeds}

    def experiment(self, name: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """The results of an experiment, file by file. Raises Missing where there are none, Refused for a bad one."""
        paths = [
            path for folder in experiments.folders_of(name, self.folders) for path in sorted(folder.glob("*.json"))
        ]
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


def one_machine(machines: Iterable[str]) -> None:
    """Raise Refused where there are several machines among them."""
    named = sorted(set(machines))
    if len(named) > 1:
        raise Refused(f"records from {len(named)} machines ({'; '.join(named)}): give records= of one")


def _machine(device: str, cpu: str) -> str:
    return cpu if device in ("cpu", "") else device


def _words(name: str) -> str:
    return name.replace("_", " ")


def _by_reason(told: Mapping[str, str]) -> dict[str, str]:
    """Each reason with all that it is told of: "8gaussians, moons"."""
    return {why: ", ".join(n for n, own in told.items() if own == why) for why in dict.fromkeys(told.values())}


def _without(lost: Mapping[str, str]) -> list[str]:
    """A note for each reason why something takes no part."""
    return [f"without {names}: {why}" for why, names in _by_reason(lost).items()]


def _in_brackets(notes: Sequence[str]) -> str:
    return f" ({'; '.join(notes)})" if notes else ""


def _measured(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Those of `runs` that ended ok and have the number."""
    return runs[(runs["status"] == "ok") & runs[column].notna()]


def from_runs(
    interval: Interval, lengths: Iterable[int], problems: Iterable[str], runs: pd.DataFrame, notes: Iterable[str]
) -> Measured:
    """What was measured of `runs`, all of one machine; `lengths` are the seeds of each solver on each problem."""
    seeds, first = list(lengths), runs.iloc[0]
    threads = " or ".join(sorted(runs["threads"].unique()))
    machine = _machine(first["device"], first["cpu"])
    return Measured(interval, sum(seeds), min(seeds), tuple(problems), machine, tuple(notes), threads)


def of_one_protocol(runs: pd.DataFrame) -> pd.DataFrame:
    """Of the budgets and protocols of a problem the one which `rank` puts first."""
    each = [same for _, same in runs.groupby(list(lint.WITHIN))]
    return max(each, key=lambda same: rank(same, tables.best_setting(same)["seed"].nunique()))


def rank(runs: pd.DataFrame, seeds: int) -> tuple[int, bool, float, int, float, int]:
    """What ranks the runs of one budget and protocol: enough seeds, quiet, a search, version, seconds, seeds.

    Quiet where nobody else had the processor; the longer search of all its trials, 0 without one; the later version of
    the problem; the seconds of the budget, or of the longest run where it has none, as of a schedule's steps.
    """
    version = json.loads(runs["protocol"].iloc[0])["dataset"].get("version", 0)
    budget = runs["budget_seconds"].max()
    seconds = runs["fit_seconds"].max() if math.isnan(budget) else budget
    quiet = not runs["noisy"].any()
    return min(seeds, tables.MIN_SEEDS), quiet, _searched(runs), version, float(np.nan_to_num(seconds)), seeds


def _searched(runs: pd.DataFrame) -> float:
    """Seconds of the search that found the settings of all of these runs; 0 where there was none, or not the same."""
    budgets = [json.loads(text) for text in runs["tuning"].unique() if text != "none"]
    alike = len(budgets) == 1 and (runs["tuning"] != "none").all()
    return float(budgets[0]["trials"] * budgets[0]["seconds"]) if alike else 0.0


def a_run_each(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` of one setting on one problem, which have a seed each. Raises Refused: a seed twice is no second one."""
    twice = runs[runs.duplicated("seed", keep=False)]
    if len(twice):
        first = twice[twice["seed"] == twice["seed"].iloc[0]]
        differs = [str(name) for name in lint.ENVIRONMENT if first[name].nunique() > 1] or ["what made them"]
        title = f"{first['label'].iloc[0]} on {first['dataset'].iloc[0]}"
        times = f"{len(first)} times, differing in {', '.join(differs)}"
        raise Refused(f"{title} has seed {first['seed'].iloc[0]} {times}: give records= of one")
    return runs


# Two solvers over problems


@dataclass(frozen=True)
class Compare:
    """A mean over problems of the ratio (by `mean`, the difference) of medians over seeds of `of`: `solver` to `over`.

    `of` is one of QUANTITIES or a number of the records. `datasets` None are all that both solvers were run on.
    `setting` and `over_setting` ({adjoint: true}) choose between settings of a solver; of those that are left the one
    tables.best_setting is taken.
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
        compared = self.compare(pairs, evidence)
        lost = {p.pair.dataset: why for p in pairs if (why := self._lost(p, compared[p.pair.dataset]))}
        lost |= evidence.few({name: c.seeds for name, c in compared.items() if name not in lost})
        lost |= parts_of_whole([name for name in compared if name not in lost])
        used = {name: c for name, c in compared.items() if name not in lost}
        notes = _without(lost)
        if not used:
            both = f"{self.solver} and {self.over} both have {_words(self.of)}"
            raise NoneLeft(f"no problem on which {both}{_in_brackets(notes)}")
        told = [*MACHINE, "threads", "solver", "dataset", "reason", "tuning", "parameters"]
        among = [p for p in pairs if p.pair.dataset in used]
        runs = pd.concat([p.pair.both[told] for p in among])
        notes += [*self._of_problems(used, among), *self._of_runs(runs)]
        found = from_runs(self._mean(used.values(), self.mean), [c.seeds for c in used.values()], used, runs, notes)
        above, below = (any(getattr(c, end, False) for c in used.values()) for end in ("above", "below"))
        geometric = self._geometric(used.values())
        return replace(found, runs=self._tried(among), geometric=geometric, above=above, below=below)

    def _of_problems(self, used: Mapping[str, Comparison], among: "Sequence[Problem]") -> list[str]:
        """Notes of what was compared: who was penalised, how sizes were found, where q is not converged."""
        late = [name for name, c in used.items() if c.mark]
        notes = [f"penalised, as a run did not reach q: {', '.join(late)}"] if late else []
        remarks = _by_reason({name: c.note for name, c in used.items() if c.note})
        notes += [f"{note} on {names}" for note, names in remarks.items()]
        open_ended = [p.pair.dataset for p in among if p.pair.goal and p.pair.goal.unconverged]
        by_target = self.of in TO_TARGET and open_ended
        return notes + ([f"q is not converged on {', '.join(open_ended)}"] if by_target else [])

    def _of_runs(self, runs: pd.DataFrame) -> list[str]:
        """Notes of how the runs ended, of their weights, and of settings found by hand."""
        notes = [] if self.of in BUDGETED else ended_unlike(runs)
        notes += weights(runs) if self.of in BUDGETED and self.of != "parameters_at_q" else []
        return notes + ([BY_HAND] if self.solver != self.over and (runs["tuning"] == "none").any() else [])

    def _mean(self, compared: Iterable[Comparison], mean: str) -> Interval:
        """`mean` over the problems, with an interval where each has MIN_SEEDS seeds."""
        several = list(compared)
        a, b = [c.solver for c in several], [c.reference for c in several]
        searches = [c.search for c in several if isinstance(c, sizes.Sizes) and c.search]
        found = sizes.mean(searches, OF_MEDIANS[mean]) if searches else MEANS[mean](a, b)
        return _with_seeds(found, [*a, *b])

    def _geometric(self, compared: Iterable[Comparison]) -> Interval | None:
        return self._mean(compared, "geometric") if self.mean == "arithmetic" else None

    def _tried(self, among: "Sequence[Problem]") -> int:
        """The runs that the numbers are of: where sizes are searched for, those of all sizes."""
        if self.of == "parameters_at_q":
            return sum(len(p.solver) + len(p.reference) for p in among)
        return sum(len(p.pair.both) for p in among)

    def _lost(self, problem: "Problem", c: Comparison) -> str:
        """Why a problem takes no part; empty where it does."""
        if c.void:
            return "a certificate failed"
        if self._disturbed(problem):
            return "others used the processor"
        for runs in (problem.solver, problem.reference):
            if why := undecidable(runs):
                return why
        if problem.unfair:
            return f"unfair, as {problem.unfair[0]}"
        return "" if self._known(c) else c.note or "not both have it"

    def _disturbed(self, problem: "Problem") -> bool:
        """Whether others had the processor in runs whose seconds count: what was timed, and what seconds bought."""
        searched = self.of == "parameters_at_q"
        runs = pd.concat([problem.solver, problem.reference]) if searched else problem.pair.both
        counts = (runs["budget_seconds"] > 0) | (self.of in TIMED)
        return self.of in BUDGETED and bool((runs["noisy"] & counts).any())

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
        return repr((self.solver, self.over, self.datasets, self.setting, self.over_setting, self.of in BUDGETED))

    def pairs(self, evidence: Evidence) -> list["Problem"]:
        """The runs of both on each problem."""
        quantity_of(self.of, evidence)
        found: list[Problem] = evidence.once(self._asked, lambda: self._found(evidence))
        return found

    def _found(self, evidence: Evidence) -> list["Problem"]:
        runs = evidence.runs([self.solver, self.over], self.datasets)
        grouped = [part for _, part in runs.groupby(list(lint.ENVIRONMENT))] if self.of in BUDGETED else [runs]
        found = [self._pairs(part) for part in grouped]
        best = max(found, key=_evidence)
        if not best:
            raise Missing(f"no problem that both {_named(self.solver, self.setting)} and "
                          f"{_named(self.over, self.over_setting)} were run on in one environment")  # fmt: skip
        return best

    def _pairs(self, runs: pd.DataFrame) -> list["Problem"]:
        found = [self._pair(str(name), part) for name, part in runs.groupby("dataset")]
        return [pair for pair in found if pair is not None]

    def _pair(self, dataset: str, part: pd.DataFrame) -> "Problem | None":
        """Of the budgets, protocols and tuning budgets that both have, the one which `rank` puts first."""
        found = []
        for _, same in part.groupby(list(lint.WITHIN)):
            both = chosen(same, self.solver, self.setting), chosen(same, self.over, self.over_setting)
            for a, b in tuned_alike(*both):
                pair = _pair(dataset, tables.best_setting(a), tables.best_setting(b))
                shared = set(pair.solver["seed"]) & set(pair.reference["seed"])
                found.append((rank(pd.concat([a, b]), len(shared)), Problem(pair, a, b)))
        if not found:
            return None
        problem = max(found, key=lambda one: one[0])[1]
        for runs in (problem.pair.solver, problem.pair.reference):
            a_run_each(runs)
        return problem


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


def tuned_alike(a: pd.DataFrame, b: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The runs of two solvers, apart by the tuning budgets that both had; all of them where they share none."""
    if a.empty or b.empty:
        return
    shared = sorted(set(a["tuning"]) & set(b["tuning"]))
    yield from ((a[a["tuning"] == budget], b[b["tuning"] == budget]) for budget in shared)
    if not shared:
        yield a, b


def undecidable(runs: pd.DataFrame) -> str:
    """Why nothing tells which setting of a solver is its best, as it has several and no likelihood; empty else."""
    several = runs["label"].nunique() > 1 and (runs["status"] == "ok").any()
    if several and not any(np.isfinite(curve.best) for curve in tables.validations(runs)):
        return f"{runs['solver'].iloc[0]} has several settings and no validation NLL to choose one by"
    return ""


def weights(runs: pd.DataFrame) -> list[str]:
    """A note of the sizes that were compared, over problems: "weights: ffjord 9,224, otflow 365 to 1,229"."""
    found = runs.groupby("solver")["parameters"].agg(["min", "max"]).dropna()
    spans = {name: dict.fromkeys(f"{end:,.0f}" for end in found.loc[name]) for name in found.index}
    told = [f"{name} {' to '.join(span)}" for name, span in spans.items()]
    return [f"weights: {', '.join(told)}"] if told else []


def _evidence(pairs: "Sequence[Problem]") -> tuple[int, int, int]:
    """What ranks an environment: problems with enough seeds, problems, runs."""
    seeds = [p.pair.both.groupby("solver")["seed"].nunique().min() for p in pairs]
    return sum(n >= tables.MIN_SEEDS for n in seeds), len(pairs), sum(len(p.pair.both) for p in pairs)


def _named(solver: str, setting: Setting) -> str:
    return solver + (f" with {', '.join(f'{name}={value}' for name, value in setting.items())}" if setting else "")


def _pair(dataset: str, a: pd.DataFrame, b: pd.DataFrame) -> Pair:
    a, b, _ = tables.same_seeds(a, b)
    return Pair(dataset, a, b, tables.target(pd.concat([a, b])))


def cut_short(runs: pd.DataFrame) -> list[str]:
    """A note of the runs whose schedule a budget cut short."""
    cut = int(runs["reason"].str.startswith("budget").sum())
    return [f"{cut} of {len(runs)} runs ended by their budget, not by their schedule"] if cut else []


def ended_unlike(runs: pd.DataFrame) -> list[str]:
    """A note where runs of one solver ended by another reason than those of the other, as by its budget."""
    ends = {str(name): " or ".join(sorted(part["reason"].unique())) for name, part in runs.groupby("solver")}
    return [] if len(set(ends.values())) < 2 else [", ".join(f"{name} ended by {end}" for name, end in ends.items())]


def seconds_to_q(problem: Problem) -> Comparison:
    """Seconds of the step clock to the common target; runs that do not get there count as tables.penalties has it."""
    return tables.time_comparison(problem.pair, problem.pair.goal)


def parameters(problem: Problem) -> Comparison:
    """The smallest size of each that reaches the target: bench.sizes."""
    return sizes.compare(problem.solver, problem.reference, problem.pair.goal)


def inference(problem: Problem) -> Comparison:
    """Seconds of the log-density of a point at equal accuracy (bench.accuracy); unknown unless all runs have a density.

    A run that is never accurate enough counts as twice the seconds of its greatest effort.
    """
    pair = problem.pair
    if not (pair.both["work_precision"].map(bool) & (pair.both["accurate_rows"] > 0)).all():
        return Comparison.unknown("a run has no seconds at equal accuracy")
    late, floor = (sizes.together(pair.both["solver"][at(pair.both)]) for at in (_never_accurate, _least_is_accurate))
    notes = [f"penalised, as a run of {late} is never within the accuracy"] if late else []
    notes += [f"the least effort tried of {floor} is within the accuracy, and less may be"] if floor else []
    a, b = _accurate(pair.solver), _accurate(pair.reference)
    return Comparison(a, b, tables.is_void(pair.both, tables.DENSITY), note=", ".join(notes))


def _accurate(runs: pd.DataFrame) -> np.ndarray:
    """Seconds a point of each run, penalised where it is never accurate enough."""
    most = runs["work_precision"].map(lambda points: max(points)[1])
    seconds = runs["accurate_seconds"].mask(_never_accurate(runs), 2 * most)
    return (seconds / runs["accurate_rows"]).to_numpy(float)


def _never_accurate(runs: pd.DataFrame) -> pd.Series:
    return runs["accurate_seconds"].isna()


def _least_is_accurate(runs: pd.DataFrame) -> pd.Series:
    """Where an eighth of the effort was enough and no less was tried, as records have it that are older than that."""
    least = runs["work_precision"].map(lambda points: min(points)[0])
    return (runs["accurate_effort"] == least) & (least == EIGHTH)


def best_nll(problem: Problem) -> Comparison:
    """The lowest validation NLL of each run; unknown where one has none."""
    a, b = (
        np.array([curve.best for curve in tables.validations(runs)])
        for runs in (problem.pair.solver, problem.pair.reference)
    )
    if not np.isfinite([*a, *b]).all():
        return Comparison.unknown("a run has no finite validation NLL")
    return Comparison(a, b, tables.is_void(problem.pair.both, tables.TO_Q))


def estimated_inference(problem: Problem) -> Comparison:
    """Seconds of the solver's estimated log-density, as its authors time it, over the reference's exact one."""
    return tables.estimate(problem.pair)


def of_all_runs(quantity: Callable[[Problem], Comparison]) -> Callable[[Problem], Comparison]:
    """`quantity`, unknown where a run of either solver failed: the survivors' median is not that of the solver."""

    def compare(problem: Problem) -> Comparison:
        failed = problem.pair.both[problem.pair.both["status"] != "ok"]
        return Comparison.unknown(f"{len(failed)} runs failed") if len(failed) else quantity(problem)

    return compare


QUANTITIES: dict[str, Callable[[Problem], Comparison]] = {
    "parameters_at_q": parameters,
    "seconds_to_q": seconds_to_q,
    "best_nll": best_nll,
    "inference": inference,
    "estimated_inference": of_all_runs(estimated_inference),
    "density": of_all_runs(lambda problem: tables.comparison(problem.pair, tables.DENSITY_TIME)),
    "seconds_per_step": of_all_runs(lambda problem: tables.comparison(problem.pair, tables.STEP)),
    "samples": of_all_runs(lambda problem: tables.comparison(problem.pair, tables.SAMPLE_TIME)),
}


def quantity_of(name: str, evidence: Evidence) -> Callable[[Problem], Comparison]:
    """What `name` is of a pair: one of QUANTITIES, or a number of the records, void where any certificate failed."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    column = evidence.column(name)

    def compare(problem: Problem) -> Comparison:
        pair = problem.pair
        if pair.both["failed"].map(bool).any():
            return Comparison(np.array([]), np.array([]), void=True)
        sides = [(runs, certified(runs, column)) for runs in (pair.solver, pair.reference)]
        if any(len(values) for _, values in sides) and (lost := [why for side in sides if (why := survivors(*side))]):
            return Comparison.unknown("; ".join(lost))
        (_, a), (_, b) = sides
        return Comparison(a, b)

    return compare


def certified(runs: pd.DataFrame, column: str) -> np.ndarray:
    """The numbers of the runs that ended ok and failed no certificate, (n,)."""
    fine = runs[(runs["status"] == "ok") & ~runs["failed"].map(bool)]
    return fine[column].dropna().to_numpy(float)


def survivors(runs: pd.DataFrame, values: np.ndarray) -> str:
    """Why the `values` of these runs of one setting are not theirs: some have none. Empty where all have one."""
    lacking = len(runs) - len(values)
    return f"{lacking} of {len(runs)} runs of {runs['solver'].iloc[0]} have no certified number" if lacking else ""


# Numbers of one solver


def _best(runs: pd.DataFrame, column: str) -> tuple[pd.DataFrame, np.ndarray, str]:
    """The runs of the best setting of a solver on a problem, in one budget and protocol, their certified numbers (n,).

    And why they do not count, where not all of its runs have one. Settings that nobody measured the number of are left
    out; there are others.
    """
    same = of_one_protocol(runs[runs["cell"].isin(_measured(runs, column)["cell"])])
    best = a_run_each(tables.best_setting(same))
    values = certified(best, column)
    return best, values, undecidable(same) or survivors(best, values)


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
        runs = runs.assign(value=runs[name].abs() if self.magnitude else runs[name])
        known = set(_measured(runs, "value")["dataset"])
        found = {str(name): _best(part, "value") for name, part in runs.groupby("dataset") if name in known}
        lost = {name: why for name, (*_, why) in found.items() if why}
        used = {name: values for name, (_, values, why) in found.items() if not why}
        lacking = [name for name in self.datasets or () if name not in found]
        if not used:
            why = _in_brackets(_without(lost))
            raise Missing(f"no certified {_words(self.of)} of {_named(self.solver, self.setting)}{why}")
        lost |= evidence.few({name: len(values) for name, values in used.items()})
        kept = {name: values for name, values in used.items() if name not in lost}
        notes = [*_without(lost), *([f"nothing on {', '.join(lacking)}"] if lacking else [])]
        notes += cut_short(pd.concat([found[name][0] for name in kept]))
        return from_runs(worst(self.worst, list(kept.values())), map(len, kept.values()), kept, runs, notes)


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
        strata, problem_of, lost = {}, {}, {}
        for (solver, dataset), part in runs.groupby(["solver", "dataset"]):
            value = theirs.get((self.methods[str(solver)], int(part["dim"].iloc[0])))
            if not value or _measured(part, name).empty:
                continue
            _, values, why = _best(part, name)
            if why:
                lost[f"{solver} on {dataset}"] = why
            else:
                ratios = values / value
                strata[f"{solver} on {dataset}"] = np.abs(ratios - 1) if self.deviation else ratios
                problem_of[f"{solver} on {dataset}"] = str(dataset)
        if not strata:
            raise Missing(f"no certified {_words(self.of)} beside a published one{_in_brackets(_without(lost))}")
        lost |= evidence.few({pair: len(ratios) for pair, ratios in strata.items()})
        used = {pair: ratios for pair, ratios in strata.items() if pair not in lost}
        problems = sorted({problem_of[pair] for pair in used}, key=lambda text: int(text.rpartition("=")[2]))
        interval = worst("largest", list(used.values()))
        return from_runs(interval, map(len, used.values()), problems, runs, _without(lost))

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


def positive(value: Any) -> float:
    """`value` where it is a finite number above 0. Raises ValueError."""
    if not record.finite(value) or value <= 0:
        raise ValueError(f"{value!r} is no finite number above 0")
    return float(value)


def _machine_of(env: Mapping[str, Any]) -> str:
    return _machine(str(env["device"]), str(env["cpu"]))


@dataclass(frozen=True)
class Trace:
    """Of bench.trace, the largest over dimensions: `of` "seconds", the closed form's over those of an estimate with one
    vector, or "error", that estimate's. Dimensions of two results are refused.
    """

    kind: ClassVar[str] = "trace"
    of: str

    def __post_init__(self) -> None:
        if self.of not in ("seconds", "error"):
            raise ValueError(f"no {self.of!r} of a trace: choose from seconds, error")

    def measure(self, evidence: Evidence) -> Measured:
        found: dict[float, float] = {}
        again: list[str] = []
        where, threads = set(), set()
        for path, content in evidence.experiment("trace"):
            try:
                more = self._by_dim(content["rows"])
                where.add(_machine_of(content["environment"]))
                threads.add(str(content["environment"]["threads"]))
            except (KeyError, TypeError, ValueError, StopIteration) as error:
                raise Refused(f"{path}: not a result of bench.trace ({error!r})") from None
            again += [f"{path}: another result has d = {dim:g} too" for dim in sorted(found.keys() & more.keys())]
            found |= more
        one_machine(where)
        if again:
            raise Refused(again[0])
        problems = tuple(f"d = {dim:g}" for dim in sorted(found))
        each = ", ".join(f"{found[dim]:.3g}" for dim in sorted(found))
        interval = Interval(max(found.values()), math.nan, math.nan)
        notes = (f"by d: {each}",)
        return Measured(interval, len(found), 1, problems, where.pop(), notes, " or ".join(sorted(threads)))

    def _by_dim(self, rows: Sequence[Mapping[str, Any]]) -> dict[float, float]:
        """The number at each dimension. Raises KeyError, TypeError, ValueError and StopIteration for no such rows."""
        if not rows:
            raise ValueError("no rows")
        found = {}
        for dim in {positive(row["dim"]) for row in rows}:
            exact = next(r for r in rows if r["dim"] == dim and r["method"] == "closed form")
            one = next(r for r in rows if r["dim"] == dim and r["vectors"] == 1)
            slower = positive(exact["seconds"]) / positive(one["seconds"])
            found[dim] = positive(one["relative_error"]) if self.of == "error" else slower
        return found


@dataclass(frozen=True)
class GradientError:
    """Of bench.gradient_error: seconds of the adjoint's gradient over the direct one's, geometric mean over problems.

    Each is the least in which the relative error is at most `error`. A problem of two results is refused.
    """

    kind: ClassVar[str] = "gradient_error"
    error: float

    def measure(self, evidence: Evidence) -> Measured:
        ratios, where, lacking, again = {}, set(), [], list[str]()
        for path, content in evidence.experiment("gradient_error"):
            try:
                name = str(content["dataset"])
                where.add(_machine_of(content["env"]))
                # an integrator that broke down has an error of NaN
                fine = [r for r in content["rows"] if 0 <= r["error"] <= self.error]
                direct, adjoint = (
                    min((positive(r["seconds"]) for r in fine if r["adjoint"] is way), default=None)
                    for way in (False, True)
                )
            except (KeyError, TypeError, ValueError) as error:
                raise Refused(f"{path}: not a result of bench.gradient_error ({error!r})") from None
            if name in ratios or name in lacking:
                again.append(f"{path}: another result has {name} too")
            if direct and adjoint:
                ratios[name] = adjoint / direct
            else:
                lacking.append(name)
        one_machine(where)
        if again:
            raise Refused(again[0])
        if not ratios:
            raise Missing(f"no problem on which both gradients reach an error of {self.error:g}")
        value = float(np.exp(np.mean(np.log(list(ratios.values())))))
        notes = (f"not reached by both on {', '.join(lacking)}",) if lacking else ()
        return Measured(Interval(value, math.nan, math.nan), len(ratios), 1, tuple(ratios), where.pop(), notes)


KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in (Compare, Value, Beside, Trace, GradientError)}


def _is_word(given: Any) -> bool:
    return isinstance(given, str)


def _are_words(given: Any) -> bool:
    return given is None or (isinstance(given, list) and all(map(_is_word, given)))


def _is_mapping(given: Any) -> bool:
    return isinstance(given, Mapping)


MUST_BE: dict[str, tuple[Callable[[Any], bool], str]] = {  # a query's fields, read from a file
    **dict.fromkeys(
        ("of", "solver", "over", "mean", "worst", "family", "table", "experiment", "column"), (_is_word, "a word")
    ),
    **dict.fromkeys(("magnitude", "deviation"), (lambda given: isinstance(given, bool), "true or false")),
    **dict.fromkeys(("setting", "over_setting"), (_is_mapping, "settings and values, as in {adjoint: true}")),
    "methods": (_is_mapping, "solvers and methods, as in {enot: ENOT}"),
    "datasets": (_are_words, "a list of problems"),
    "error": (record.finite, "a number"),
}


def built(written: Mapping[str, Any]) -> Query:
    """The query that is `written` as data. Raises ClaimError."""
    plain = {str(name): value for name, value in written.items()}
    kind = KINDS.get(str(plain.pop("kind", None)))
    if kind is None:
        raise ClaimError(f"no query {written.get('kind')!r}: choose from {', '.join(KINDS)}")
    names = [f.name for f in fields(kind)]
    if wrong := [name for name in plain if name not in names]:
        raise ClaimError(f"the query {kind.kind} has no {', '.join(wrong)}: choose from {', '.join(names)}")
    if lacking := [f.name for f in fields(kind) if f.default is f.default_factory is MISSING and f.name not in plain]:
        raise ClaimError(f"the query {kind.kind} lacks {', '.join(lacking)}")
    for name, given in plain.items():
        if name in MUST_BE and not MUST_BE[name][0](given):
            raise ClaimError(f"{name} must be {MUST_BE[name][1]}, not {given!r}")
    try:
        made: Query = kind(**plain)
    except (ValueError, TypeError) as error:
        raise ClaimError(str(error)) from None
    return made


def judged(claims: Sequence[Claim], evidence: Evidence) -> list[Entry]:
    """The verdicts on all claims. Raises ClaimError for one that asks for what no record has."""
    return [Entry(claim, _of_one_machine(_judged(claim, part, evidence) for part in claim.parts)) for claim in claims]


def _of_one_machine(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """`findings` of a claim; what was measured is refused where it is from several machines."""
    found = tuple(findings)
    try:
        one_machine(finding.measured.machine for finding in found if finding.measured)
    except Refused as error:
        why = str(error)
        return tuple(Finding(f.part, NOT_MEASURABLE, why, refused=True) if f.measured else f for f in found)
    return found


def _judged(claim: Claim, part: Part, evidence: Evidence) -> Finding:
    try:
        return judge(part, built(part.query).measure(replace(evidence, seeds=part.seeds)))
    except Missing as error:
        return Finding(part, NOT_MEASURABLE, str(error))
    except Refused as error:
        return Finding(part, NOT_MEASURABLE, str(error), refused=True)
    except ClaimError as error:
        raise ClaimError(f"{claim.id}: {error}") from None

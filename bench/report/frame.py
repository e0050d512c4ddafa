"""Records as one data frame: a row per record, failed ones included.

Columns: `key`, `schema`, `folder`, `solver`, `dataset`, `setting` (what sets it apart from other settings of this
solver on this dataset), `fields` (all its settings, by name), `label` (the solver, with a letter where it has several
settings), `seed`, `status`, `reason`, the environment (options.ENVIRONMENT), `noisy`, `budget`, `protocol` (validation
and dataset, as JSON), `tolerance` (of an adaptive integrator, as powers of ten: in training, and after it where that is
another; empty for others), `tuning` (what its settings cost to find), `budget_seconds`, `commit`, `started`, `cell`
(the configuration but its seed, as JSON), `failed` (names of failed certificates), `test_rows` (of the whole test set;
where no record tells, the most that any run of the folder evaluated), `family` and `dim` (of a dataset that comes in
several dimensions, else its name and NaN), `curve` (a Curve), `subsampled` (which stored rows were left out: "10 of 50
rows of the source"; empty where none were), `work_precision` (of bench.accuracy: effort, seconds and error), and every
metric and cost of the record under its own name, NaN where absent.
"""

import json
import math
import string
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import record, stats
from bench.env import KEEP_MEMORY
from bench.names import dataset_name, solver_name
from bench.record import Record, flat
from bench.report import beside

METRICS = (
    *("nll", "nll_stderr", "nll_gap", "mmd", "inverse_error_mean", "inverse_error_max"),
    *("transport_cost", "cost_estimate", "estimate_gap", "cost_gap", "cost_bound", "same_law_cost"),
    *("l2_uvp", "uvp_2", "l2_uvp_inverse", "cosine"),
    *("kinetic_energy", "normalized_path_energy", "wasserstein_2", "wasserstein_2_floor"),
    *("kl_estimate", "relaxed_estimate_gap", "relaxed_objective_gap"),
    *("nll_gap_stderr", "cost_backward", "kl_backward"),
    *("relaxation", "relaxed_cost_gap", "relaxed_kl_gap", "relaxed_l2_uvp", "relaxed_uvp_2", "hjb_residual"),
    *("upwind_cost", "upwind_kl", "upwind_objective", "upwind_mass_error"),
    *("upwind_cost_backward", "upwind_kl_backward", "upwind_objective_backward"),
)
LISTS = ("evaluate_repeats", "estimate_repeats", "sample_repeats", "step_seconds", "work_precision")  # no numbers
COSTS = tuple(name for name in record.COST if name not in LISTS)
BASELINE = "moments"
MEASURES = ("source", "target")
UNKNOWN = "unknown"
CURVE = ("step", "seconds", "valid_nll")
NOISE = {"cpu_pressure": 0.2, "steal": 0.05}  # shares of the time


@dataclass(frozen=True)
class Curve:
    """The validations of one run: `step`, `seconds` on the step clock and `nll` (NaN: not finite), each (n,)."""

    step: np.ndarray
    seconds: np.ndarray
    nll: np.ndarray

    @cached_property
    def best(self) -> float:
        """The lowest NLL; NaN if there is none."""
        return float(np.fmin.reduce(self.nll, initial=math.nan))

    @cached_property
    def stairs(self) -> stats.Stairs:
        """The levels it held; the time to any target is the time of one of them."""
        return stats.stairs(self.nll)

    @cached_property
    def still_gains(self) -> bool:
        """Whether it was not converged; never of a solver of one step, which has no more to gain."""
        return len(self.nll) > 1 and math.isfinite(self.best) and stats.not_converged(self.seconds, self.nll)

    def look(self) -> None:
        """Find all of these at once: in the process that reads a record, not in each that asks."""
        for name in ("best", "stairs", "still_gains"):
            getattr(self, name)


def load(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """The frame of all records of a folder, and a line for each file that is none."""
    paths = record.files(folder)
    half = len(paths) // 2
    first = beside.begin(_read, paths[:half], beside=beside.worth(len(paths)))
    later, more = _read(paths[half:])
    rows, problems = first()
    return _frame([rows, later]), [clean(line, 300) for line in (*problems, *more)]


def together(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The runs of all `frames`, of which one has some: of equal runs that of the earlier frame is the first."""
    there = [frame for frame in frames if len(frame)]
    return there[0] if len(there) == 1 else labelled(pd.concat(there))


def _read(paths: Sequence[Path]) -> tuple[pd.DataFrame, list[str]]:
    """A row for each record of `paths`, all of one folder, and a line for each file that is none."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for one in record.each_of(paths, problems):
        folder = paths[0].parent
        try:
            rows.append(_row(one, folder))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            problems.append(f"{folder / one['key']}.json: not a record (config or env: {error!r})")
        else:
            rows[-1]["curve"].look()
    return pd.DataFrame(rows), problems


def of(records: Iterable[Record], folder: Path = Path()) -> pd.DataFrame:
    """The frame of records in memory."""
    return _frame([pd.DataFrame([_row(one, folder) for one in records])])


def clean(text: object, limit: int = 200) -> str:
    """`text` on one line, printable, and no longer than `limit`: reasons come from anywhere."""
    line = str(text)
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " for c in line)
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def by_reference(labels: Iterable[str], reference: str) -> list[str]:
    """Each of `labels` once, as tables list them: the reference solver first, the baseline last."""
    solver = {label: label.partition(" (")[0] for label in labels}
    return sorted(solver, key=lambda label: (solver[label] == BASELINE, solver[label] != reference, label))


def latest(runs: pd.DataFrame) -> pd.DataFrame:
    """`runs` of one solver without those of a version of it of whose settings there is a later one."""
    version = runs["fields"].map(lambda own: own.get("version", 0))
    setting = runs["fields"].map(lambda own: canonical({name: own[name] for name in own if name != "version"}))
    return runs[version == version.groupby(setting).transform("max")]


def _row(one: Record, folder: Path) -> dict[str, Any]:
    config, env = one["config"], one["env"]
    cell = canonical({name: part for name, part in config.items() if name != "seed"})
    return {
        **{name: _number(value) for name, value in {**one["metrics"], **one["cost"]}.items()},
        "key": one["key"],
        "schema": one["schema"],
        "folder": folder,
        **_configured(cell),
        "seed": _seed(config["seed"]),
        "status": one["status"],
        "reason": clean(one["reason"] or ""),
        "device": _text(env.get("device"), "cpu" if config.get("device") == "cpu" else None),
        "cpu": _text(env.get("cpu")),
        "threads": _text(env.get("threads"), config.get("threads")),
        "launcher": _text(env.get("launcher")),
        "slots": _text(env.get("slots")),
        "allocator": _allocator(env["allocator"]) if "allocator" in env else UNKNOWN,
        "torch": _text((env.get("versions") or {}).get("torch")),
        "commit": _text(env.get("commit"))[:10] + (" (modified)" if env.get("dirty") else ""),
        "noisy": _noisy(env.get("noise")),
        "started": clean(one["started"], 40),
        "failed": [clean(name, 40) for name, made in one["certificates"].items() if made["ok"] is False],
        "curve": curve(one["trace"]),
        "subsampled": _subsampled(one["trace"]),
        "work_precision": _points(one["cost"].get("work_precision")),
    }


@lru_cache(maxsize=4096)  # a sweep has many seeds of few cells
def _configured(cell: str) -> Mapping[str, Any]:
    """The columns that a configuration without its seed, as JSON, gives."""
    config = json.loads(cell)
    solver, dataset, budget = config["solver"], config["dataset"], config.get("budget") or {}
    name = clean(dataset_name(dataset), 40)
    family, _, dim = name.partition(" d=")
    return {
        "solver": clean(solver_name(solver), 30),
        "dataset": name,
        "family": family,
        "dim": float(dim) if dim.isdigit() else math.nan,
        "setting": canonical(solver),
        "fields": flat(solver),
        "dtype": _text(config.get("dtype")),
        "budget": _budget(budget),
        "protocol": canonical({"validation": config.get("validation"), "dataset": dataset}),
        "tolerance": _tolerance(solver),
        "tuning": _text(config.get("tuning"), "none"),
        "budget_seconds": _number(budget.get("seconds")),
        "cell": cell,
    }


def _frame(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    there = [part for part in parts if len(part)]
    if not there:
        return pd.DataFrame()
    frame = pd.concat(there, ignore_index=True)
    missing = [name for name in (*METRICS, *COSTS) if name not in frame]
    frame = frame.assign(**dict.fromkeys(missing, math.nan))
    most = frame["test_rows"].fillna(frame["evaluate_rows"]).groupby(frame["protocol"]).transform("max")
    frame["test_rows"] = frame["test_rows"].fillna(most)
    return labelled(frame)


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the `setting` and `label` of each run as they are among the runs of `frame`, in order of tables."""
    named = [_named(cell) for _, cell in frame.groupby(["dataset", "solver"])]
    whole = pd.concat(named).sort_values(["dataset", "label", "seed"], ignore_index=True)
    # as plain objects, and in one piece with the others: parts of the frame are taken hundreds of times
    return whole.astype(dict.fromkeys(whole.select_dtypes("str"), object)).copy()


def _named(cell: pd.DataFrame) -> pd.DataFrame:
    """`setting`, what sets it apart within `cell`, one solver on one dataset, and `label`."""
    settings = cell["cell"].map(lambda text: _configured(text)["setting"])
    plain = {text: flat(json.loads(text)) for text in sorted(settings.unique())}
    names = sorted({name for fields in plain.values() for name in fields})
    differ = [n for n in names if len({canonical(fields.get(n)) for fields in plain.values()}) > 1]
    apart = {text: clean(", ".join(f"{n}={f[n]}" for n in differ if n in f)) for text, f in plain.items()}
    letters = {text: f" ({_letter(i)})" if len(plain) > 1 else "" for i, text in enumerate(plain)}
    return cell.assign(setting=settings.map(apart), label=cell["solver"] + settings.map(letters))


def _letter(i: int) -> str:
    return string.ascii_lowercase[i] if i < 26 else str(i)


def curve(trace: Sequence[Any]) -> Curve:
    """The entries of a trace that say when they were made, in order of time."""
    entries = [entry for entry in trace if isinstance(entry, dict)]
    try:
        found = [*chain.from_iterable(map(itemgetter(name), entries) for name in CURVE)]
    except KeyError:  # an entry that lacks one
        found = [entry.get(name) for name in CURVE for entry in entries]
    points = _numbers(found).reshape(3, -1)
    if not (known := np.isfinite(points[:2])).all():
        points = points[:, known.all(0)]
    if (points[1, 1:] < points[1, :-1]).any():
        points = points[:, np.argsort(points[1], kind="stable")]
    return Curve(*points)


def _subsampled(trace: Sequence[Any]) -> str:
    """What solvers.discrete says of the rows that it took, where a measure has more."""
    terms = next((entry for entry in reversed(trace) if isinstance(entry, Mapping)), {})
    told = [(name, _number(terms.get(f"{name}_rows")), _number(terms.get(f"{name}_stored"))) for name in MEASURES]
    return ", ".join(f"{rows:,.0f} of {stored:,.0f} rows of the {name}" for name, rows, stored in told if rows < stored)


def _allocator(given: Any) -> str:
    """In words what an allocator was told: freed memory is kept for the process, or whatever else."""
    if not isinstance(given, Mapping):
        return _text(given or "default")
    known = "keeps freed memory" if KEEP_MEMORY.items() <= given.items() else ""
    others = (f"{name}={value}" for name, value in sorted(given.items()) if not known or name not in KEEP_MEMORY)
    return clean(", ".join([*([known] if known else []), *others]) or "default", 80)


def _noisy(noise: Any) -> bool:
    """Whether others had the processor for so much of the time that the seconds should not be quoted."""
    return isinstance(noise, Mapping) and any(_number(noise.get(name)) > most for name, most in NOISE.items())


def _budget(budget: Mapping[str, Any]) -> str:
    return clean(", ".join(f"{float(v):.12g} {k}" for k, v in sorted(budget.items()) if v is not None), 80) or "none"


def _tolerance(solver: Mapping[str, Any]) -> str:
    """The decade of the tightest tolerance of `solver`'s integrator, and of that after training where it is another's.

    Empty where it has none.
    """
    training = _decade(solver.get("atol"), solver.get("rtol"))
    test = _decade(solver.get("test_atol"), solver.get("test_rtol"))
    return training if test in ("", training) else f"{training}, test {test}"


def _decade(*tolerances: Any) -> str:
    tight = min((value for value in map(_number, tolerances) if value > 0), default=math.nan)
    return "" if math.isnan(tight) else f"1e{math.floor(math.log10(tight) + 1e-9)}"


def _number(value: Any) -> float:
    """NaN for anything that is not a finite number: metrics are checked when a record is read, costs are not."""
    if type(value) is float or type(value) is int:  # what JSON gives: a bool is neither
        return float(value) if abs(value) <= 1e300 else math.nan
    return math.nan


def _numbers(values: list[Any]) -> np.ndarray:
    """`_number` of each of `values`, at once where all of them are numbers."""
    if set(map(type, values)) <= {float, int}:
        with suppress(OverflowError):  # a whole number that no float can hold
            found = np.array(values, dtype=float)
            found[np.abs(found) > 1e300] = math.nan
            return found
    return np.array([_number(value) for value in values], dtype=float)


def _points(given: Any) -> list[tuple[float, float, float]]:
    """Effort, seconds and error, where all are numbers."""
    rows = [row for row in given if isinstance(row, Mapping)] if isinstance(given, list) else []
    points = [(_number(row.get("effort")), _number(row.get("seconds")), _number(row.get("error"))) for row in rows]
    return [point for point in points if not math.isnan(sum(point))]


def _seed(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(f"seed {value!r}")
    return value


def _text(*values: Any) -> str:
    """The first of `values` that is given, as text."""
    return next((v if isinstance(v, str) else canonical(v) for v in values if v is not None), UNKNOWN)


def canonical(value: Any) -> str:
    """`value` as JSON that is the same for the same value."""
    return CANONICAL.encode(value)


CANONICAL = json.JSONEncoder(sort_keys=True, default=str)

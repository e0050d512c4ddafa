"""Records as one data frame: a row per record, failed ones included.

Columns: `key`, `folder`, `solver`, `dataset`, `setting` (what sets it apart from another setting of the same solver),
`seed`, `status`, `reason`, the environment (lint.ENVIRONMENT), `budget`, `budget_seconds`, `commit`, `failed` (names
of failed certificates), `curve` (a Curve), and every metric and cost of the record under its own name, NaN where absent.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import record
from bench.record import Record

METRICS = ("nll", "nll_stderr", "nll_gap", "mmd", "inverse_error_mean", "inverse_error_max")
COSTS = tuple(name for name in record.COST if not name.endswith(("_repeats", "step_seconds")))
BASELINE = "moments"


@dataclass(frozen=True)
class Curve:
    """The validations of one run: `step`, `seconds` on the step clock and `nll`, each of shape (n,)."""

    step: np.ndarray
    seconds: np.ndarray
    nll: np.ndarray

    @property
    def best(self) -> float:
        return float(self.nll.min()) if len(self.nll) else math.nan


def load(folders: Iterable[Path]) -> tuple[pd.DataFrame, list[str]]:
    """The frame of all records of the folders, the first of each key, and a line for each file that is none."""
    rows: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for folder in folders:
        records, refused = record.read_all([folder])
        problems += refused
        for one in records:
            try:
                rows.setdefault(one["key"], _row(one, folder))
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                problems.append(f"{folder / one['key']}.json: not a record (config or env: {error!r})")
    return _frame(list(rows.values())), [clean(line, 300) for line in problems]


def of(records: Iterable[Record], folder: Path = Path()) -> pd.DataFrame:
    """The frame of records in memory."""
    return _frame([_row(one, folder) for one in records])


def clean(text: object, limit: int = 200) -> str:
    """`text` on one line, printable, and no longer than `limit`: reasons come from anywhere."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def by_solver(frame: pd.DataFrame, reference: str) -> list[str]:
    """The solvers of `frame`, as tables list them: the reference first, the baseline last."""
    return sorted(frame["solver"].unique(), key=lambda s: (s == BASELINE, s != reference, s))


def _row(one: Record, folder: Path) -> dict[str, Any]:
    config, env = one["config"], one["env"]
    solver, dataset = config["solver"], config["dataset"]
    budget = config.get("budget") or {}
    return {
        **{name: _number(value) for name, value in {**one["metrics"], **one["cost"]}.items()},
        "key": one["key"],
        "folder": folder,
        "solver": solver_name(solver),
        "dataset": dataset_name(dataset),
        "setting": _canonical(solver),
        "seed": config.get("seed"),
        "status": one["status"],
        "reason": clean(one["reason"] or ""),
        "device": _text(env.get("device"), config.get("device")),
        "cpu": _text(env.get("cpu")),
        "threads": _text(env.get("threads"), config.get("threads")),
        "dtype": _text(config.get("dtype")),
        "launcher": _text(env.get("launcher")),
        "slots": _text(env.get("slots")),
        "commit": _text(env.get("commit"))[:10] + (" (modified)" if env.get("dirty") else ""),
        "budget": _budget(budget),
        "budget_seconds": _number(budget.get("seconds")),
        "failed": [clean(name, 40) for name, made in one["certificates"].items() if made["ok"] is False],
        "curve": curve(one["trace"]),
    }


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows)
    missing = [name for name in (*METRICS, *COSTS) if name not in frame]
    frame = frame.assign(**dict.fromkeys(missing, math.nan))
    settings = {
        index: label
        for _, cell in frame.groupby(["dataset", "solver"])
        for index, label in _settings(cell["setting"]).items()
    }
    return frame.assign(setting=pd.Series(settings)).sort_values(["dataset", "solver", "setting", "seed"])


def _settings(configs: pd.Series) -> dict[Any, str]:
    """For each index, what sets its configuration apart from the others of `configs`; empty if nothing does."""
    plain = {text: _flat(json.loads(text)) for text in configs.unique()}
    names = sorted({name for fields in plain.values() for name in fields})
    differ = [n for n in names if len({_canonical(fields.get(n)) for fields in plain.values()}) > 1]
    label = {
        text: clean(", ".join(f"{n}={fields[n]}" for n in differ if n in fields), 60) for text, fields in plain.items()
    }
    return {index: label[text] for index, text in configs.items()}


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return flat


def solver_name(config: Mapping[str, Any]) -> str:
    """`solvers.otflow.OTFlow` is otflow: a method a file, named after it."""
    return clean(config.get("name") or config["_target_"].split(".")[-2], 30)


def dataset_name(config: Mapping[str, Any]) -> str:
    """The `name` of the dataset, else its class in lower case, with the dimension where it takes one."""
    name = str(config.get("name") or config["_target_"].split(".")[-1].lower())
    return clean(f"{name} d={config['dim']}" if "dim" in config else name, 40)


def curve(trace: Sequence[Any]) -> Curve:
    """The entries of a trace that hold a finite validation NLL and their time, in order of time."""
    found = [
        (_number(entry.get("step")), _number(entry.get("seconds")), _number(entry.get("valid_nll")))
        for entry in trace
        if isinstance(entry, Mapping)
    ]
    points = np.array([p for p in found if all(map(math.isfinite, p))], dtype=float).reshape(-1, 3)
    points = points[np.argsort(points[:, 1], kind="stable")]
    return Curve(points[:, 0], points[:, 1], points[:, 2])


def _budget(budget: Mapping[str, Any]) -> str:
    return clean(", ".join(f"{v:g} {k}" for k, v in sorted(budget.items()) if v is not None), 80) or "none"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _text(*values: Any) -> str:
    """The first of `values` that is given, as text."""
    return next((v if isinstance(v, str) else _canonical(v) for v in values if v is not None), "unknown")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)

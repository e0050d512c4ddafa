"""What a sweep would do, before it does it: its cells, what is done, predicted time and memory (plan=true).

Predicted from the records of the results folder and of results/reference, whatever machine they are of: a guess.
Imports no torch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import record
from bench.board import duration
from bench.names import dataset_name, solver_name
from bench.record import Record, finite

if TYPE_CHECKING:
    from bench.launcher import Job

REFERENCE = Path("results/reference")
HEAD = ("solver", "dataset", "cells", "done", "failed", "to go", "time", "memory")
TO_GO = HEAD.index("to go")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Cell:
    """A cell: the `config` of its record, the folder of its record and its checkpoint."""

    config: Mapping[str, Any]
    runs: Path
    checkpoint: Path


class Past:
    """What cells took, learnt from records: of the same solver on the same dataset, else of all."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._learnt: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for one in records:
            self.learn(one)

    def learn(self, one: Record) -> None:
        cost = one["cost"]
        fit, wall, peak = (cost.get(name) for name in ("fit_seconds", "wall_seconds", "peak_bytes"))
        numbers = {"wall": wall, "peak": peak, "step": cost.get("seconds_per_step")}
        if finite(wall) and finite(fit):
            numbers["besides"] = wall - fit
        budget = (one["config"].get("budget") or {}).get("seconds")
        if finite(budget) and finite(fit):
            numbers["share"] = min(1.0, fit / budget)
        for name, value in numbers.items():
            if finite(value):
                for kind in (_kind(one["config"]), ""):
                    self._learnt[name][kind].append(float(value))

    def seconds(self, config: Mapping[str, Any]) -> float | None:
        """Its budget, as far as its like use theirs, and what its like take besides; None where no record tells.

        A budget of steps is of as many seconds as those of its like take.
        """
        budget, step = config.get("budget") or {}, self._of("step", config, alike=True)
        besides = self._of("besides", config)
        if (seconds := budget.get("seconds")) is not None and besides is not None:
            return seconds * (self._of("share", config, alike=True) or 1.0) + besides
        if (steps := budget.get("steps")) is not None and step is not None and besides is not None:
            return steps * step + besides
        return None if seconds is not None else self._of("wall", config, alike=True)

    def bytes(self, config: Mapping[str, Any]) -> float | None:
        """Peak memory of its like; None where no record tells."""
        return self._of("peak", config, alike=True)

    def _of(self, name: str, config: Mapping[str, Any], alike: bool = False) -> float | None:
        known = self._learnt[name].get(_kind(config)) or ([] if alike else self._learnt[name].get(""))
        return median(known) if known else None


def past(folders: Iterable[Path]) -> Past:
    """What the records of some folders, and those of results/reference, tell."""
    found = Past()
    for folder in dict.fromkeys([*folders, *sorted(REFERENCE.glob("*/"))]):
        for one in record.each(folder, []):
            found.learn(one)
    return found


@dataclass(frozen=True)
class Told:
    """The state of a cell (`done`, `failed`, `begun` or `left`) and, unless it has ended, what it will take.

    None where no record tells. `problem` names what lies in the place of its record and is none.
    """

    state: str
    seconds: float | None = None
    bytes: float | None = None
    problem: str = ""

    @property
    def to_go(self) -> bool:
        return self.state in ("begun", "left")


def lines(cells: Sequence[Cell], known: Past, at_once: int = 1) -> Iterator[str]:
    """A table of solvers and datasets, what lies in the place of records, and a summary.

    The time of a row is that of its cells one after the other, that of the summary with so many `at_once`.
    """
    told: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for cell in cells:
        told[solver_name(cell.config["solver"]), dataset_name(cell.config["dataset"])].append(_told(cell, known))
    everything = [one for several in told.values() for one in several]
    rows = [(*kind, *_row(several)) for kind, several in told.items()]
    if any(memory for *_, memory in rows):
        rows = [(*row[:-1], row[-1] or (UNKNOWN if row[TO_GO] != "0" else "")) for row in rows]
    yield from _aligned([HEAD, *rows])
    yield from (one.problem for one in everything if one.problem)
    states = Counter(one.state for one in everything)
    numbers = ", ".join(f"{name} {states[name]}" for name in ("done", "failed", "begun", "left") if states[name])
    time = f"{_time(everything, at_once)} to go, {at_once} at a time"
    memory = f", at most {_memory(everything)} each" if _memory(everything) else ""
    yield f"cells {len(cells)}: {numbers}; {time}{memory}"


def of_jobs(jobs: "Sequence[Job]", at_once: int) -> Iterator[str]:
    """`lines` of a sweep, so many `at_once`, from the records in the folders of its own.

    A cell that two of its suites name runs once.
    """
    cells = {job.path: Cell(job.config, job.runs, job.checkpoint) for job in jobs}
    return lines([*cells.values()], past({job.runs for job in jobs}), at_once)


def _row(told: Sequence[Told]) -> tuple[str, ...]:
    states = Counter(one.state for one in told)
    left = sum(one.to_go for one in told)
    counts = (len(told), states["done"], states["failed"], left)
    return (*map(str, counts), _time(told) if left else "", _memory(told))


def _time(told: Sequence[Told], at_once: int = 1) -> str:
    """The time of the cells to go as far as records tell, and of how many they do not."""
    known = [one.seconds for one in told if one.to_go and one.seconds is not None]
    unknown = sum(one.to_go for one in told) - len(known)
    parts = [f"about {duration(sum(known) / at_once)}"] if known or not unknown else []
    return " and ".join([*parts, f"{unknown} of unknown time"] if unknown else parts)


def _memory(told: Sequence[Told]) -> str:
    """The most that a cell to go will take; empty where no record tells."""
    most = max((one.bytes for one in told if one.bytes is not None), default=None)
    return "" if most is None else f"{most / 1e6:,.0f} MB"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of a table, the columns of numbers flush right; columns that have a heading only are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        aligned = [str.ljust, str.ljust, *[str.rjust] * (len(row) - 2)]
        yield "  ".join(to(cell, width) for to, cell, width in zip(aligned, row, widths, strict=True)).rstrip()


def _told(cell: Cell, known: Past) -> Told:
    key = record.key(cell.config)
    path = cell.runs / f"{key}.json"
    if path.exists():
        try:
            status = record.read(path)["status"]
        except (record.RecordError, OSError) as error:
            return Told("failed", problem=f"in the place of a record: {error}")
        return Told("done" if status in record.FINE else "failed")
    state = "begun" if any(cell.checkpoint.parent.glob(f"{key}*.pt")) else "left"
    return Told(state, known.seconds(cell.config), known.bytes(cell.config))


def _kind(config: Mapping[str, Any]) -> str:
    """Solver and dataset, without the seed."""
    return record.title(config).rpartition(" seed ")[0]

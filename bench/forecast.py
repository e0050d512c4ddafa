"""What a sweep would do, before it does it: its cells, what is done, predicted time and memory (plan=true).

Predicted from the records of the results folder and of results/reference, whatever machine they are of: a guess.
Imports no torch.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import record
from bench.board import duration
from bench.record import Record, finite

REFERENCE = Path("results/reference")


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
        numbers = {"wall": wall, "peak": peak}
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
        """Its budget, as far as its like use theirs, and what its like take besides; None where no record tells."""
        budget = (config.get("budget") or {}).get("seconds")
        if budget is None:
            return self._of("wall", config, alike=True)
        besides = self._of("besides", config)
        return None if besides is None else budget * (self._of("share", config, alike=True) or 1.0) + besides

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


def lines(cells: Sequence[Cell], known: Past, at_once: int = 1) -> Iterator[str]:
    """A line a cell, then a summary: how many are done, and the time that the others take, so many at once."""
    seconds: list[float | None] = []
    peaks, states = [], Counter[str]()
    width = len(str(len(cells)))
    for i, cell in enumerate(cells, start=1):
        state, text = _state(cell)
        if state != "done":
            seconds.append(known.seconds(cell.config))
            peak = known.bytes(cell.config)
            peaks += [] if peak is None else [peak]
            text += f", {_about(seconds[-1])}, {'memory unknown' if peak is None else _size(peak)}"
        states[state] += 1
        yield f"[{i:{width}}/{len(cells)}] {text}"
    numbers = ", ".join(f"{name} {states[name]}" for name in ("done", "begun", "left") if states[name])
    unknown = sum(value is None for value in seconds)
    time = f"about {duration(sum(value or 0.0 for value in seconds) / at_once)} to go, {at_once} at a time"
    more = f" and {unknown} cells of which no record tells" if unknown else ""
    memory = f", at most {_size(max(peaks))} each" if peaks else ""
    yield f"cells {len(cells)}: {numbers}; {time}{more}{memory}"


def _state(cell: Cell) -> tuple[str, str]:
    """`done`, `begun` or `left`, and a line that says so."""
    key = record.key(cell.config)
    path, title = cell.runs / f"{key}.json", record.title(cell.config)
    if path.exists():
        try:
            return "done", f"{record.line(record.read(path))} [done]"
        except (record.RecordError, OSError) as error:
            return "done", f"{title}: in its place lies something else ({error})"
    if any(cell.checkpoint.parent.glob(f"{key}*.pt")):
        return "begun", f"{title}: begun"
    return "left", f"{title}: left"


def _about(seconds: float | None) -> str:
    return "time unknown" if seconds is None else f"about {duration(seconds)}"


def _size(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def _kind(config: Mapping[str, Any]) -> str:
    """Solver and dataset, without the seed."""
    return record.title(config).rpartition(" seed ")[0]

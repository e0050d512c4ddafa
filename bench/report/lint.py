"""What may be compared with what: records of another environment, budget or protocol are reported apart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from bench.report.frame import UNKNOWN, canonical, clean, flat

ENVIRONMENT = ("device", "cpu", "threads", "dtype", "launcher", "slots", "allocator", "torch")
WITHIN = ("budget", "protocol")  # these may differ between problems, not within one


@dataclass(frozen=True)
class Group:
    """Records whose seconds may be compared; `title` says what they share, `number` counts from 1.

    `problems` has a line for each record that was left out, as another of the group is of the same cell.
    """

    number: int
    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What sets its files apart: nothing for the first group."""
        return "" if self.number == 1 else f"_{self.number}"


def groups(frame: pd.DataFrame) -> list[Group]:
    """Split `frame` by environment, and by budget and protocol where one problem has two; the largest group first."""
    parts = [part for _, same in _completed(frame).groupby(list(ENVIRONMENT), sort=False) for part in _within(same)]
    parts.sort(key=len, reverse=True)
    apart = list(_protocols(frame))
    return [_group(i, part, apart) for i, part in enumerate(parts, start=1)]


def why(found: list[Group]) -> str:
    """The line that says why there is more than one group; empty if there is one."""
    if len(found) < 2:
        return ""
    frame = pd.concat([group.frame for group in found])
    values = {name: sorted(frame[name].unique()) for name in (*ENVIRONMENT, "budget")}
    differ = [f"{n} ({'; '.join(v)})" for n, v in {**values, **_protocols(frame)}.items() if len(v) > 1]
    return f"Reported in {len(found)} separate parts, never compared or averaged: they differ in {', '.join(differ)}."


def one_environment(frame: pd.DataFrame) -> None:
    """Raise ValueError unless the seconds in `frame` may be compared."""
    if mixed := [name for name in ENVIRONMENT if frame[name].nunique() > 1]:
        raise ValueError(f"records that differ in {', '.join(mixed)} cannot be compared: split them with lint.groups")
    if mixed := [name for name in WITHIN if _mixes(frame, name)]:
        raise ValueError(
            f"records of one problem that differ in {' and '.join(mixed)} cannot be compared: "
            "split them with lint.groups"
        )


def _completed(frame: pd.DataFrame) -> pd.DataFrame:
    """What a record does not tell of its environment, from the other runs of its solver and dataset if they agree."""
    filled = frame.copy()
    for name in ENVIRONMENT:
        known = frame[name].where(frame[name] != UNKNOWN)
        cells = known.groupby([frame["solver"], frame["dataset"]])
        agreed = cells.transform("first").where(cells.transform("nunique") == 1)
        filled[name] = known.fillna(agreed).fillna(UNKNOWN)
    return filled


def _mixes(frame: pd.DataFrame, name: str) -> bool:
    return bool((frame.groupby("dataset")[name].nunique() > 1).any())


def _within(same: pd.DataFrame) -> list[pd.DataFrame]:
    budgets = [part for _, part in same.groupby("budget", sort=False)] if _mixes(same, "budget") else [same]
    return [part for one in budgets for part in _by_protocol(one)]


def _by_protocol(same: pd.DataFrame) -> list[pd.DataFrame]:
    """By the rank of the protocol among those of its problem: as protocols hold the problem, all of them differ."""
    if not _mixes(same, "protocol"):
        return [same]
    known = same.groupby("dataset")["protocol"].unique()
    ranks = [sorted(known[name]).index(text) for name, text in zip(same["dataset"], same["protocol"], strict=True)]
    return [part for _, part in same.groupby(pd.Series(ranks, index=same.index))]


def _protocols(frame: pd.DataFrame) -> dict[str, list[str]]:
    """The settings of validation and dataset in which runs of one problem differ, with their values."""
    found: dict[str, set[str]] = {}
    for _, texts in frame.groupby("dataset")["protocol"]:
        plain = [flat(json.loads(text)) for text in texts.unique()]
        for name in {name for fields in plain for name in fields}:
            values = {clean(canonical(fields.get(name)), 60) for fields in plain}
            if len(values) > 1:
                found.setdefault(clean(name, 60), set()).update(values)
    return {name: sorted(found[name]) for name in sorted(found)}


def _group(number: int, part: pd.DataFrame, apart: Sequence[str]) -> Group:
    cell = ["dataset", "label", "seed"]
    again = part[part.duplicated(cell)]
    kept = part.drop_duplicates(cell)
    problems = tuple(
        clean(f"{r['folder'] / r['key']}.json: {r['dataset']} {r['label']} seed {r['seed']} is there already", 300)
        for _, r in again.iterrows()
    )
    return Group(number, _title(kept), kept, _notes(kept, apart), problems)


def _title(part: pd.DataFrame) -> str:
    first = part.iloc[0]
    budgets = "; ".join(sorted(part["budget"].unique()))
    allocator = "" if first["allocator"] == "default" else f", allocator {first['allocator']}"
    return (
        f"{first['device']}, {first['cpu']}, threads {first['threads']}, {first['dtype']}, torch {first['torch']}, "
        f"launcher {first['launcher']}, slots {first['slots']}{allocator}; budget {budgets}"
    )


def _notes(part: pd.DataFrame, apart: Sequence[str]) -> tuple[str, ...]:
    commits = sorted(part["commit"].unique())
    notes = [f"Commit {', '.join(commits)}." if len(commits) == 1 else f"Commits differ: {', '.join(commits)}."]
    fields = [flat(json.loads(text)) for text in part["protocol"].unique()]
    for name in apart:
        if values := sorted({clean(canonical(f[name]), 60) for f in fields if name in f}):
            notes.append(f"Here {name} is {' or '.join(values)}.")
    return tuple(notes)

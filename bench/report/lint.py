"""What may be compared with what: records of another environment or budget are reported apart, never averaged."""

from dataclasses import dataclass

import pandas as pd

ENVIRONMENT = ("device", "cpu", "threads", "dtype", "launcher", "slots", "allocator")


@dataclass(frozen=True)
class Group:
    """Records whose seconds may be compared; `title` says what they share, `number` counts from 1."""

    number: int
    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What sets its files apart: nothing for the first group."""
        return "" if self.number == 1 else f"_{self.number}"


def groups(frame: pd.DataFrame) -> list[Group]:
    """Split `frame` by environment, and by budget where one problem was run at two; the largest group first."""
    parts = [part for _, same in frame.groupby(list(ENVIRONMENT), sort=False) for part in _by_budget(same)]
    parts.sort(key=len, reverse=True)
    return [Group(i, _title(part), part, _notes(part)) for i, part in enumerate(parts, start=1)]


def why(found: list[Group]) -> str:
    """The line that says why there is more than one group; empty if there is one."""
    if len(found) < 2:
        return ""
    frame = pd.concat([group.frame for group in found])
    differ = [
        f"{name} ({'; '.join(values)})"
        for name in (*ENVIRONMENT, "budget")
        if len(values := sorted(frame[name].unique())) > 1
    ]
    return f"Reported in {len(found)} separate parts, never compared or averaged: they differ in {', '.join(differ)}."


def one_environment(frame: pd.DataFrame) -> None:
    """Raise ValueError unless the seconds in `frame` may be compared."""
    if mixed := [name for name in ENVIRONMENT if frame[name].nunique() > 1]:
        raise ValueError(f"records that differ in {', '.join(mixed)} cannot be compared: split them with lint.groups")
    if (frame.groupby("dataset")["budget"].nunique() > 1).any():
        raise ValueError("records of one problem at different budgets cannot be compared: split them with lint.groups")


def _by_budget(same: pd.DataFrame) -> list[pd.DataFrame]:
    if (same.groupby("dataset")["budget"].nunique() <= 1).all():
        return [same]
    return [part for _, part in same.groupby("budget", sort=False)]


def _title(part: pd.DataFrame) -> str:
    first = part.iloc[0]
    budgets = "; ".join(sorted(part["budget"].unique()))
    allocator = "" if first["allocator"] == "default" else f", allocator {first['allocator']}"
    return (
        f"{first['device']}, {first['cpu']}, threads {first['threads']}, {first['dtype']}, "
        f"launcher {first['launcher']}, slots {first['slots']}{allocator}; budget {budgets}"
    )


def _notes(part: pd.DataFrame) -> tuple[str, ...]:
    commits = sorted(part["commit"].unique())
    return (f"Commit {', '.join(commits)}.",) if len(commits) == 1 else (f"Commits differ: {', '.join(commits)}.",)

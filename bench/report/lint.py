"""What may be compared with what.

Records of another environment, budget or protocol are reported apart, in groups. Within a group, solvers that were
given another tolerance, tuning budget or set of seeds than their rivals are shown, but nothing is ranked there. Either
can be overridden by name, and each table then says so.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from bench.report.frame import BASELINE, UNKNOWN, canonical, clean, flat, labelled, latest
from bench.report.options import ENVIRONMENT, RANKED, WITHIN
from bench.report.render import Table

NEVER_RAN = ("unfit", "not_installed")  # no failure: such a solver is left out of comparisons, by name
BASELINES = (BASELINE, "identity", "constant")  # rivals of nobody
CULPRITS = 4  # so many keys are named
EXAMPLES = 2  # so many of each value where parts differ


@dataclass(frozen=True)
class Group:
    """Records whose seconds may be compared; `title` says what they share, `number` counts from 1.

    `problems` has a line for each record that was left out, as another of the group is of the same cell. `allowed` are
    the options.NAMES that may differ within it all the same: `notes` admits to all of them, `caveats` to those of
    ENVIRONMENT and WITHIN, which every table and caption repeats.
    """

    number: int
    title: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    caveats: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """What sets its files apart: nothing for the first group."""
        return "" if self.number == 1 else f"_{self.number}"


@dataclass(frozen=True)
class Mix:
    """One of options.NAMES in which records differ: each value with whose it is, and the `keys` of the minority."""

    name: str
    values: dict[str, str]
    keys: tuple[str, ...]

    def __str__(self) -> str:
        told = " or ".join(f"{value} ({whose})" for value, whose in self.values.items())
        more = f" and {len(self.keys) - CULPRITS} more" if len(self.keys) > CULPRITS else ""
        return f"{self.name} {told}; records {', '.join(self.keys[:CULPRITS])}{more}"


def groups(frame: pd.DataFrame, allowed: Sequence[str] = ()) -> list[Group]:
    """Split `frame` by environment, and by budget and protocol where one problem has two; the largest group first.

    It is not split by what is `allowed` to differ.
    """
    by = [name for name in ENVIRONMENT if name not in allowed]
    environments = _completed(frame).groupby(by, sort=False) if by else [((), _completed(frame))]
    parts = [part for _, same in environments for part in _within(same, allowed)]
    parts.sort(key=len, reverse=True)
    if len(parts) > 1:  # settings that differ between parts need no letters within them
        parts = [labelled(part) for part in parts]
    apart = list(_protocols(frame))
    return [_group(i, part, apart, tuple(allowed)) for i, part in enumerate(parts, start=1)]


def unfair(part: pd.DataFrame, allowed: Collection[str] = ()) -> list[Mix]:
    """In which of RANKED the runs on one problem differ; the baselines, what never ran and what is beside them aside.

    With seeds `allowed`, nothing is beside. Solvers without a tolerance go with any. Of seeds, those of all runs of a
    label count, failed ones too.
    """
    rivals = _rivals(part)
    rivals = rivals[~rivals["label"].isin(beside(part, allowed))]
    seeds = rivals["label"].map({label: ", ".join(map(str, sorted(own))) for label, own in _seeds(rivals).items()})
    return list(_mixes_of(rivals.assign(seeds=seeds), RANKED))


def beside(part: pd.DataFrame, allowed: Collection[str] = ()) -> list[str]:
    """The labels on one problem that have some of the seeds which two other solvers at least have all of.

    They are shown beside those, and ranked against nobody unless seeds are `allowed` to differ: a suite has one seed
    of what it does not compare.
    """
    if "seeds" in allowed:
        return []
    rivals = _rivals(part)
    seeds = _seeds(rivals)
    most = max(seeds.values(), key=lambda own: (len(own), sorted(own)), default=frozenset())
    whole = rivals["label"].isin([label for label, own in seeds.items() if own == most])
    return [label for label, own in seeds.items() if own < most] if rivals["solver"][whole].nunique() > 1 else []


def _rivals(part: pd.DataFrame) -> pd.DataFrame:
    rival = ~part["solver"].isin(BASELINES) & ~part["status"].isin(NEVER_RAN)
    return part[["key", "solver", "label", "seed", *(name for name in RANKED if name in part)]][rival]


def _seeds(rivals: pd.DataFrame) -> dict[str, frozenset[int]]:
    """The seeds of each label."""
    return {str(label): frozenset(own) for label, own in rivals.groupby("label")["seed"]}


def admitted(group: Group, table: Table, part: pd.DataFrame | None = None) -> Table:
    """`table` with what it owes to overrides in its notes: the group's, and of `part` what should not be ranked."""
    if part is None or not set(RANKED) & set(group.allowed):
        return replace(table, notes=(*table.notes, *group.caveats))
    found = [mix for mix in unfair(part, group.allowed) if mix.name in group.allowed]
    caveats = [f"allow={mix.name}: ranked although runs differ in {mix}." for mix in found]
    return replace(table, notes=(*table.notes, *group.caveats, *caveats))


def ranked_although(problems: Mapping[str, pd.DataFrame], allowed: Collection[str]) -> list[str]:
    """A line for each of RANKED that is `allowed` and in which runs on some of the `problems` differ: on which."""
    if not set(RANKED) & set(allowed):
        return []
    differ: dict[str, list[str]] = {}
    for name, part in problems.items():
        for mix in unfair(part, allowed):
            if mix.name in allowed:
                differ.setdefault(mix.name, []).append(name)
    return [f"allow={mix}: ranked although runs differ in {mix} on {', '.join(on)}." for mix, on in differ.items()]


def once(frame: pd.DataFrame, by: Sequence[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The first of the records that share `by`, and a note of how many are left out; none where none is."""
    again = frame.duplicated(list(by))
    if not again.any():
        return frame, ()
    return frame[~again], (f"Counted once, as an earlier folder has them too: {again.sum()} of {len(again)} records.",)


def _mixes_of(frame: pd.DataFrame, names: Sequence[str]) -> Iterator[Mix]:
    for name in names:
        told = frame[name] != ""
        counts = frame[name][told].value_counts()
        if len(counts) > 1:
            known = frame[told]
            labels = known.groupby(name)["label"].unique()
            whose = {clean(value, 60): clean(", ".join(sorted(labels[value])), 80) for value in counts.index}
            few = known[known[name] != counts.index[0]]
            yield Mix(name, whose, tuple(sorted(few["key"])))


def why(found: list[Group]) -> str:
    """The line that says why there is more than one group, with records of each value; empty if there is one."""
    if len(found) < 2:
        return ""
    allowed = found[0].allowed
    told = ["key", "folder", "dataset", *ENVIRONMENT, *WITHIN]
    frame = pd.concat([group.frame[told] for group in found], ignore_index=True)
    if frame["folder"].nunique() > 1:  # which may have the same keys
        frame["key"] = [f"{folder.name}/{key}" for folder, key in zip(frame["folder"], frame["key"], strict=True)]
    names = [*ENVIRONMENT, *(["budget"] if _mixes(frame, "budget") else [])]
    keys = {name: _keys(frame, frame[name]) for name in names if name not in allowed}
    if "protocol" not in allowed:
        keys |= _protocols(frame)
    differ = [f"{name} ({_examples(of)})" for name, of in keys.items() if len(of) > 1]
    return f"Reported in {len(found)} separate parts, never compared or averaged: they differ in {', '.join(differ)}."


def _keys(frame: pd.DataFrame, values: pd.Series) -> dict[str, list[str]]:
    """The keys of the records of each of their `values`."""
    return {str(value): list(keys) for value, keys in frame["key"].groupby(values)}


def _examples(keys: Mapping[str, Sequence[str]]) -> str:
    """Each value with a record or two: "2: 0a1b, 2c3d, …; 8: 4e5f"."""
    more = {value: ", …" if len(those) > EXAMPLES else "" for value, those in keys.items()}
    return "; ".join(f"{clean(v, 80)}: {', '.join(those[:EXAMPLES])}{more[v]}" for v, those in keys.items())


def one_environment(frame: pd.DataFrame, allowed: Collection[str] = ()) -> None:
    """Raise ValueError unless the seconds in `frame` may be compared, or differ only in what is `allowed`."""
    if mixed := [name for name in ENVIRONMENT if name not in allowed and frame[name].nunique() > 1]:
        raise ValueError(f"records that differ in {', '.join(mixed)} cannot be compared: split them with lint.groups")
    if mixed := [name for name in WITHIN if name not in allowed and _mixes(frame, name)]:
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


def _within(same: pd.DataFrame, allowed: Collection[str]) -> list[pd.DataFrame]:
    split = "budget" not in allowed and _mixes(same, "budget")
    budgets = [part for _, part in same.groupby("budget", sort=False)] if split else [same]
    return budgets if "protocol" in allowed else [part for one in budgets for part in _by_protocol(one)]


def _by_protocol(same: pd.DataFrame) -> list[pd.DataFrame]:
    """By the rank of the protocol among those of its problem: as protocols hold the problem, all of them differ."""
    if not _mixes(same, "protocol"):
        return [same]
    known = same.groupby("dataset")["protocol"].unique()
    ranks = [sorted(known[name]).index(text) for name, text in zip(same["dataset"], same["protocol"], strict=True)]
    return [part for _, part in same.groupby(pd.Series(ranks, index=same.index))]


def _protocols(frame: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """The settings of validation and dataset in which runs of one problem differ: of each value the keys."""
    found: dict[str, dict[str, list[str]]] = {}
    for _, part in frame.groupby("dataset"):
        plain = {text: flat(json.loads(text)) for text in part["protocol"].unique()}
        for name in sorted({name for fields in plain.values() for name in fields}):
            values = {text: clean(canonical(fields.get(name)), 60) for text, fields in plain.items()}
            if len(set(values.values())) > 1:
                keys = found.setdefault(clean(name, 60), {})
                for value, those in _keys(part, part["protocol"].map(values)).items():
                    keys.setdefault(value, []).extend(those)
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def _group(number: int, part: pd.DataFrame, apart: Sequence[str], allowed: tuple[str, ...]) -> Group:
    part, counted = once(part, ["key"])
    cell = ["dataset", "label", "seed"]
    again = part[part.duplicated(cell)]
    kept, replaced = without_replaced(part.drop_duplicates(cell))
    problems = tuple(
        clean(f"{r['folder'] / r['key']}.json: {r['dataset']} {r['label']} seed {r['seed']} is there already", 300)
        for _, r in again.iterrows()
    )
    names = [name for name in (*ENVIRONMENT, *WITHIN) if name in allowed]
    caveats = tuple(f"allow={mix.name}: these runs differ in {mix}." for mix in _mixes_of(kept, names))
    ranked = ranked_although({str(name): runs for name, runs in kept.groupby("dataset")}, allowed)
    notes = (*_notes(kept, apart), *counted, *replaced, *caveats, *ranked)
    return Group(number, _title(kept), kept, notes, problems, allowed, caveats)


def without_replaced(part: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """`part` without runs of a version of a solver of whose settings there is a later one, and a note of them."""
    if part.empty:
        return part, []
    kept = pd.concat(
        [latest(runs) for _, runs in part.groupby(["dataset", "solver", "dtype"], sort=False)]
    ).sort_index()
    left = part.drop(kept.index)
    told = [f"{name} on {dataset}" for dataset, name in sorted({*zip(left["dataset"], left["label"], strict=True)})]
    return kept, [f"Left out, as a later version was run: {', '.join(told)}."] if told else []


def _title(part: pd.DataFrame) -> str:
    told = {name: " or ".join(sorted(part[name].unique())) for name in ENVIRONMENT}
    budgets = "; ".join(sorted(part["budget"].unique()))
    allocator = "" if told["allocator"] == "default" else f", allocator {told['allocator']}"
    return (
        f"{told['device']}, {told['cpu']}, threads {told['threads']}, {told['dtype']}, torch {told['torch']}, "
        f"launcher {told['launcher']}, slots {told['slots']}{allocator}; budget {budgets}"
    )


def _notes(part: pd.DataFrame, apart: Sequence[str]) -> tuple[str, ...]:
    commits = sorted(part["commit"].unique())
    notes = [f"Commit {', '.join(commits)}." if len(commits) == 1 else f"Commits differ: {', '.join(commits)}."]
    fields = [flat(json.loads(text)) for text in part["protocol"].unique()]
    for name in apart:
        if values := sorted({clean(canonical(f[name]), 60) for f in fields if name in f}):
            notes.append(f"Here {name} is {' or '.join(values)}.")
    return tuple(notes)

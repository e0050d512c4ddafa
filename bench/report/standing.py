"""Which solvers and problems may be ranked together, by the rules of the tables, and their seconds to q."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.report import lint, tables
from bench.report.frame import by_reference
from bench.report.lint import Group
from bench.report.tables import Target

Block = tuple[set[str], set[str]]  # solvers, and problems that all of them ran

LEAST = 2  # solvers, and problems, below which there is nothing to rank
MOST = 4096  # sets of solvers that are looked at: of n problems that each lack another solver there are 2^n


@dataclass(frozen=True)
class Standing:
    """Median seconds to q (solvers, problems): inf where a run does not reach it, or a failed certificate voids it.

    `absent` are solvers that did not run all of the problems, or not with as many seeds, `refused` problems on
    which none may be ranked, with the reason, `caveats` in what runs differ that are ranked all the same.
    """

    solvers: Sequence[str]
    problems: Sequence[str]
    seconds: NDArray[np.floating]
    absent: Sequence[str]
    refused: Sequence[str]
    caveats: Sequence[str]

    @property
    def told(self) -> str:
        """What it is of, as captions say it."""
        told = [f"Problems: {', '.join(self.problems)}; what is not reached or void counts as failed."]
        if self.absent:
            told.append(f"Not run on all of them, or with fewer seeds: {', '.join(self.absent)}.")
        if self.refused:
            told.append(f"Not ranked: {'; '.join(self.refused)}.")
        return " ".join([*told, *self.caveats])


def of(group: Group, reference: str) -> Standing | None:
    """The solvers with a validation NLL, baselines aside, at their best settings, on the problems that all of them ran.

    Of those that did not all run the same, the choice with the most pairs of a solver and a problem. None where fewer
    than LEAST solvers ran the same LEAST problems on which any may be ranked.
    """
    rivals = group.frame[~group.frame["solver"].isin(lint.BASELINES) & ~group.frame["status"].isin(lint.NEVER_RAN)]
    judged = {str(solver) for solver, runs in rivals.groupby("solver") if _validated(runs)}
    rivals = pd.concat([_ranked(part, group.allowed) for _, part in rivals.groupby("dataset")] or [rivals])
    ran = {str(name): judged & set(runs["solver"]) for name, runs in rivals.groupby("dataset") if _validated(runs)}
    parts = {str(name): part for name, part in group.frame.groupby("dataset") if name in ran}
    goals = {name: tables.target(tables.rivals(part, group.allowed)) for name, part in parts.items()}
    refused = {name: why for name, part in parts.items() if (why := refusal(part, goals[name], group.allowed))}
    solvers, problems = block({name: those for name, those in ran.items() if name not in refused})
    if not solvers:
        return None
    ordered = by_reference(solvers, reference)
    ranked = {name: parts[name] for name in sorted(problems)}
    columns = []
    for name, part in ranked.items():
        runs = rivals[rivals["dataset"] == name]
        columns.append([_seconds(runs[runs["solver"] == solver], goals[name], part) for solver in ordered])
    return Standing(
        ordered,
        list(ranked),
        np.array(columns).T,
        sorted(judged - solvers),
        [f"{name} ({why})" for name, why in refused.items()],
        lint.ranked_although(ranked, group.allowed),
    )


def refusal(part: pd.DataFrame, goal: Target | None, allowed: Collection[str]) -> str:
    """Why no solver is ranked on the problem of which `part` has all runs, `goal` its target; empty where they are."""
    return mixed(part, allowed) or ("no target q" if goal is None else "")


def mixed(part: pd.DataFrame, allowed: Collection[str]) -> str:
    """Why nothing is ranked on the problem of which `part` has all runs, times or not; empty where it is."""
    names = [mix.name for mix in lint.unfair(part, allowed) if mix.name not in allowed]
    return f"runs differ in {', '.join(names)}" if names else ""


def block(ran: Mapping[str, set[str]]) -> Block:
    """Solvers and problems, LEAST of each, such that all solvers ran all problems: the most pairs of both.

    `ran` has the solvers of each problem. Empty where there are none. Of equals, the one with more solvers.
    """
    shared: set[frozenset[str]] = set()
    for one in map(frozenset, ran.values()):
        shared |= {one, *(one & other for other in shared)} if len(shared) < MOST else {one}
    blocks = [(set(solvers), {name for name, those in ran.items() if solvers <= those}) for solvers in shared]
    nothing: Block = (set(), set())
    fit = [one for one in blocks if min(map(len, one)) >= LEAST]
    return max(fit, key=lambda one: (len(one[0]) * len(one[1]), len(one[0]), sorted(one[0])), default=nothing)


def _ranked(part: pd.DataFrame, allowed: Collection[str]) -> pd.DataFrame:
    """The runs on one problem that as many seeds as others' are of."""
    return part[~part["label"].isin(lint.beside(part, allowed))]


def _validated(runs: pd.DataFrame) -> bool:
    return any(np.isfinite(curve.best) for curve in tables.validations(runs))


def _seconds(runs: pd.DataFrame, goal: Target | None, part: pd.DataFrame) -> float:
    """Median seconds to the goal at the best setting of `runs`, one solver's of all in `part`; inf if not solved."""
    best = tables.best_setting(runs)
    if goal is None or tables.is_void(best, tables.TO_Q):
        return np.inf
    found = tables.times(best, goal.q, part)
    return float(np.median(found.seconds)) if found.reached.all() else np.inf

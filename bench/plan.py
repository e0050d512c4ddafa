"""What a sweep is to do and what it is doing, in small files that another shell can read.

<results>/.sweep/<id>.json             the plan: every cell's key, title and overrides; stays, for the next look
<results>/.sweep/<id>.now.<machine>.<pid>.json   the cells that the launcher <pid> of <machine> runs; gone when it is
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import record

SCHEMA = 1
FOREIGN_SECONDS = 86_400.0


@dataclass(frozen=True)
class Cell:
    """A cell of a sweep: the key of its record, what a person calls it, its overrides."""

    key: str
    title: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep, and when and through which launcher it was last started."""

    started: str
    launcher: str
    cells: tuple[Cell, ...]
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """The same for the same cells: a sweep that is started again keeps its file."""
        return record.key({"keys": sorted({cell.key for cell in self.cells})})


class PlanError(ValueError):
    """A file that is not a plan; the message names it."""


def folder(results: Path) -> Path:
    return results / ".sweep"


def write(results: Path, plan: Plan) -> None:
    """Raises OSError."""
    record.write_json(folder(results) / f"{plan.id}.json", asdict(plan))


def read(path: Path) -> Plan:
    """Raises PlanError for anything that is not a plan of this version."""
    try:
        found = json.loads(path.read_bytes())
        cells = tuple(Cell(str(c["key"]), str(c["title"]), tuple(map(str, c["overrides"]))) for c in found["cells"])
        plan = Plan(str(found["started"]), str(found["launcher"]), cells, found["schema"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise PlanError(f"{path}: not the plan of a sweep ({type(error).__name__}: {error})") from None
    if plan.schema != SCHEMA:
        raise PlanError(f"{path}: the plan has schema {plan.schema!r}, not {SCHEMA}")
    return plan


def read_all(results: Path) -> tuple[list[Plan], list[str]]:
    """All plans, the one started last first, and a line for each file that is not one."""
    plans, problems = [], []
    for path in folder(results).glob("*.json"):
        if ".now." in path.name:
            continue
        try:
            plans.append(read(path))
        except PlanError as error:
            problems.append(str(error))
    return sorted(plans, key=lambda plan: plan.started, reverse=True), problems


def note(results: Path, plan: Plan, running: Mapping[str, str]) -> None:
    """Say which cells this process runs, key -> when it began; none: nothing is left behind. Raises OSError."""
    path = folder(results) / f"{plan.id}.now.{record.machine()}.{os.getpid()}.json"
    if running:
        record.write_over(path, json.dumps(running).encode())
    else:
        path.unlink(missing_ok=True)


def running(results: Path, plan: Plan) -> dict[str, str]:
    """The cells that launchers run: key -> when it began. What a dead launcher of this machine left is removed.

    Whether one of another machine lives cannot be told from here: its word is taken for FOREIGN_SECONDS.
    """
    found: dict[str, str] = {}
    for path in folder(results).glob(f"{plan.id}.now.*.json"):
        machine, pid = path.name.split(".")[-3:-1]
        with suppress(OSError, ValueError, TypeError):
            here = machine == record.machine()
            if record.alive(pid) if here else time.time() - path.stat().st_mtime < FOREIGN_SECONDS:
                found.update(_texts(json.loads(path.read_bytes())))
            else:
                path.unlink()
    return found


def _texts(given: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in dict(given).items()}


def of(jobs: Sequence[tuple[Mapping[str, Any], Sequence[str]]], launcher: str, started: str) -> Plan:
    """The plan of jobs, each a config and its overrides."""
    cells = {record.key(config): (record.title(config), tuple(overrides)) for config, overrides in jobs}
    return Plan(started, launcher, tuple(Cell(key, title, overrides) for key, (title, overrides) in cells.items()))

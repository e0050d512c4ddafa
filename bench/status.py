"""What a sweep is doing, from another shell:   python -m bench.status [results=DIR] [sweep=ID] [all=true]

results   the folder that the sweep writes to; default results
sweep     the sweep whose id begins so; default the one started last
all       every sweep of the folder

Exit code 0: nothing failed so far; 1: a cell failed, or there is no sweep; 2: a file among the records is not one (it
is named and left out).
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench import plan, record
from bench.board import Pace, duration
from bench.commandline import Usage, words
from bench.plan import Plan

SHOWN = 20  # cells of a kind that are named


@dataclass(frozen=True)
class Seen:
    """What the records of a folder tell: status and line of each key, durations, and files that are no records."""

    lines: Mapping[str, tuple[str, str]]
    pace: Pace
    problems: list[str]


def main(arguments: Sequence[str]) -> int:
    """The command; gives its exit code."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        given = words(arguments, {"results": "results", "sweep": "", "all": "false"})
        results = Path(given["results"])
        plans, unread = plan.read_all(results)
        if not plans:
            raise Usage(f"no sweep has been started in {results}")
        shown = chosen(plans, given["sweep"], given["all"] == "true")
    except Usage as error:
        print(f"bench.status: {error}", file=sys.stderr)
        return 1
    console = Console(soft_wrap=True)
    seen = look(results / "runs", {cell.key for one in shown for cell in one.cells})
    failed = [show(one, seen, plan.running(results, one), results, console) for one in shown]
    others = [f"{one.id}, started {one.started}: {len(one.cells)} cells" for one in plans if one not in shown]
    listing("other sweeps of the folder (sweep=ID, all=true)", others, console)
    for line in [*unread, *seen.problems]:
        console.print(Text(f"left out: {line}", style="red"))
    return 2 if unread or seen.problems else int(any(failed))


def chosen(plans: Sequence[Plan], sweep: str, everyone: bool) -> Sequence[Plan]:
    """The plans to show, of `plans`, the latest first. Raises Usage where none has an id that begins with `sweep`."""
    if everyone:
        return plans
    found = [one for one in plans if one.id.startswith(sweep)]
    if not found:
        raise Usage(f"no sweep {sweep}: choose from {', '.join(one.id for one in plans)}")
    return found if sweep else found[:1]


def look(runs: Path, wanted: set[str]) -> Seen:
    """Read the folder's records, one at a time; only those of the `wanted` keys are kept, as lines."""
    seen = Seen({}, Pace(), [])
    lines = {}
    for one in record.each(runs, seen.problems):
        seen.pace.learn(one)
        if one["key"] in wanted:
            lines[one["key"]] = one["status"], record.line(one)
    return Seen(lines, seen.pace, seen.problems)


def show(one: Plan, seen: Seen, running: Mapping[str, str], results: Path, console: Console) -> int:
    """Print the state of a sweep; the number of cells that failed."""
    ended = {cell.key: seen.lines[cell.key] for cell in one.cells if cell.key in seen.lines}
    failed = [line for status, line in ended.values() if status not in record.FINE]
    left = [cell for cell in one.cells if cell.key not in ended and cell.key not in running]
    under_way = [cell for cell in one.cells if cell.key in running and cell.key not in ended]
    counts = {
        "cells": len(one.cells),
        "done": len(ended),
        "failed": len(failed),
        "running": len(under_way),
        "left": len(left),
    }
    numbers = ", ".join(f"{name} {number}" for name, number in counts.items())
    console.print(Text(f"sweep {one.id}, started {one.started}, launcher {one.launcher}: {numbers}", style="bold"))
    since = [(cell.title, _since(running[cell.key])) for cell in under_way]
    if under_way and (seconds := seen.pace.left([cell.title for cell in left], since, len(under_way))) is not None:
        console.print(f"about {duration(seconds)} to go")
    listing("running", [f"{title}, for {duration(seconds)}" for title, seconds in since], console)
    statuses = Counter(status for status, _ in ended.values() if status not in record.FINE)
    listing("failed: " + ", ".join(f"{n} {status}" for status, n in statuses.most_common()), failed, console)
    begun = [cell for cell in left if any((results / "checkpoints").glob(f"{cell.key}*.pt"))] if left else []
    listing("begun, to be resumed", [cell.title for cell in begun], console)
    return len(failed)


def listing(heading: str, lines: Sequence[str], console: Console) -> None:
    """Print the first of `lines` under a heading, if there are any."""
    if not lines:
        return
    console.print(Text(heading))
    for line in lines[:SHOWN]:
        console.print(Text(f"  {line}"))
    if len(lines) > SHOWN:
        console.print(Text(f"  and {len(lines) - SHOWN} more"))


def _since(started: str) -> float:
    try:
        return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

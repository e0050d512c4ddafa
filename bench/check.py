"""The gate on speed: is the work the same, is this checkout slower than another, do the speed-ups still stand?

    python -m bench.check                          all four layers (make check)
    python -m bench.check --counters --floors      the first and the third (make check-fast)
    python -m bench.check --counters --update      take what is counted now as the reference; --floors likewise

1 counters   exact work of one step of every solver against results/reference/counters.json
2 base       this checkout against the commit of --against, measured in turn (bench.gate)
3 floors     the lower limits of OT-Flow's speed-ups, over FFJORD and over a plain network, against
             results/reference/floors.json: a failure is one that is below both, as a faster FFJORD is none
4 history    the speed-ups of this machine, run by run: advice, no verdict

Exit status 0 passed, 1 failed, 2 could not be measured: a layer, or any one case, of which the machine was too noisy
to tell even after twice as many quads. Writes results/check/latest.json and latest.md, and appends
the latter to $GITHUB_STEP_SUMMARY where that is set.
"""

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench import counters, env, gate, history
from bench.commandline import options
from bench.counters import NotMeasured
from bench.record import write_json, write_over

FLOORS = counters.REFERENCE.with_name("floors.json")
OUT = Path("results/check")
ROOM = 0.6  # a floor lies so far below what was measured: it holds on other machines, and on bad days

PASSED, FAILED, NOT_MEASURED = 0, 1, 2


@dataclass
class Report:
    """What the layers found, as lines for a person and data for a program."""

    lines: dict[str, list[str]] = field(default_factory=dict)  # layer -> what it says
    failures: list[str] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # layer -> how long it took

    @property
    def code(self) -> int:
        return FAILED if self.failures else NOT_MEASURED if self.unmeasured else PASSED

    def run(self, name: str, layer: Callable[["Report"], list[str]]) -> None:
        """Add what `layer` says and how long it took; what it cannot measure, or breaks down at, is said too."""
        begin = time.monotonic()
        try:
            self.lines[name] = layer(self)
        except Exception as error:  # that of the gate itself is no slow-down: exit status 1 means one
            why = str(error) if isinstance(error, NotMeasured) else repr(error)
            self.lines[name] = [f"could not measure: {why}"]
            self.unmeasured.append(f"{name}: {why}")
        self.seconds[name] = round(time.monotonic() - begin, 1)
        for line in self.lines[name]:
            print(f"{name:9}{line}", flush=True)  # noqa: T201

    def markdown(self) -> str:
        word = {PASSED: "passed", FAILED: "failed", NOT_MEASURED: "could not be measured"}[self.code]
        parts = [f"## Speed gate: {word}"]
        for name, lines in self.lines.items():
            parts += [
                f"\n### {name}\n",
                *(f"- {'**' + line + '**' if line in self.failures else line}" for line in lines),
            ]
        return "\n".join(parts) + "\n"


def main() -> None:
    given = arguments(sys.argv[1:])
    report = Report()
    all_of_it = not (given.counters or given.floors)
    if given.counters or all_of_it:
        report.run("counters", update_counters if given.update else check_counters)
    if all_of_it:
        report.run("base", lambda r: check_base(r, given.against, given.slow))
    if given.floors or all_of_it:
        report.run("floors", update_floors if given.update else check_floors)
        report.run("history", keep_history)
    write(report)
    sys.exit(report.code)


def arguments(words: Sequence[str]) -> Namespace:
    parser = options("bench.check", __doc__)
    parser.add_argument("--counters", action="store_true", help="the exact work counters")
    parser.add_argument("--floors", action="store_true", help="the floors of the speed-ups")
    parser.add_argument("--update", action="store_true", help="take what is found now as the reference")
    parser.add_argument("--against", metavar="REV", default="HEAD~1", help="the base commit (HEAD~1)")
    parser.add_argument("--slow", metavar="CASE=SHARE", action="append", default=[], help="the gate's own test: delay")
    given = parser.parse_args(words)
    try:
        given.slow = {case: float(share) for case, _, share in (word.rpartition("=") for word in given.slow)}
    except ValueError:
        parser.error(f"--slow takes a case and a share, as in 'otflow step toy=0.15', not {given.slow}")
    if unknown := set(given.slow) - set(gate.CASES):
        parser.error(f"--slow {', '.join(unknown)}: choose from {', '.join(gate.CASES)}")
    if given.update and not (given.counters or given.floors):
        parser.error("--update goes with --counters or --floors")
    return given


# The layers: each says what it found, and notes failures in the report


def check_counters(report: Report) -> list[str]:
    found = counters.count_all()
    moved = counters.compare(counters.read(counters.REFERENCE), found)
    report.failures += moved
    return moved or [f"{len(found)} cells count as committed"]


def update_counters(report: Report) -> list[str]:
    found = counters.count_all()
    counters.update(counters.REFERENCE, found)
    return [f"{len(found)} cells written to {counters.REFERENCE.name}"]


def check_base(report: Report, base: str, slow: dict[str, float]) -> list[str]:
    verdicts, found = gate.compare(partial(gate.pair, base, slow))
    if not verdicts:
        raise NotMeasured("no case was measured")
    report.data["verdicts"] = [asdict(one) for one in verdicts]
    report.data["speed_ups"] = [asdict(one) for one in found]
    report.failures += [str(one) for one in verdicts if one.outcome == gate.FAIL]
    report.unmeasured += [f"base: {one}" for one in verdicts if one.outcome == gate.UNKNOWN]
    return [*map(str, verdicts), *map(str, found)]


def check_floors(report: Report) -> list[str]:
    floors = _floors()
    found = _speed_ups(report)
    lines = gate.below(found, floors)
    if lines and found:  # confirmed, as a slow-down is: others may have used the processor
        found = _measured(2 * gate.QUADS)
        lines = gate.below(found, floors)
    lines += [f"{name}: has no floor, take it with --floors --update" for name in gate.HEADLINES if name not in floors]
    report.failures += lines
    return lines or [floors[one.name].against(one) for one in found]


def update_floors(report: Report) -> list[str]:
    found = _speed_ups(report)
    floors = {one.name: floor(one.head, one.plain) for one in found}
    write_json(FLOORS, {name: asdict(value) for name, value in floors.items()})
    return [floors[one.name].against(one) for one in found]


def floor(ffjord: gate.Interval, plain: gate.Interval) -> gate.Floor:
    """What to hold a headline to that measured so."""
    return gate.Floor(*(float(f"{ROOM * over.low:.2g}") for over in (ffjord, plain)))


def _speed_ups(report: Report) -> list[gate.SpeedUp]:
    """This checkout's, of an earlier layer where that measured them."""
    if not (found := report.data.get("speed_ups")):
        found = report.data["speed_ups"] = [asdict(one) for one in _measured(gate.QUADS)]
    return [gate.SpeedUp(**{**one, **{n: gate.Interval(*one[n]) for n in gate.SpeedUp.INTERVALS}}) for one in found]


def _measured(quads: int) -> list[gate.SpeedUp]:
    with gate.alone() as sides:
        return gate.speed_ups(sides.measure([*gate.CASES, *gate.YARDSTICKS.values()], quads))


def _floors() -> dict[str, gate.Floor]:
    try:
        written = json.loads(FLOORS.read_text())
        return {name: gate.Floor(float(one["ffjord"]), float(one["plain"])) for name, one in written.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"{FLOORS.name} cannot be read as a table of floors ({type(error).__name__})"
        raise NotMeasured(f"{reason}: write it with --floors --update") from None


def keep_history(report: Report) -> list[str]:
    if not (found := report.data.get("speed_ups")):
        raise NotMeasured("there is nothing to keep")
    try:
        return [f"kept in {history.append(OUT / 'history', found)}"]
    except (OSError, TypeError, ValueError, LookupError) as error:  # the file may be from a cache, and its lines odd
        return [f"not kept: {error!r}"]


def write(report: Report) -> None:
    """The report as JSON and Markdown."""
    where = {"commit": env.commit(), "cpu": env.cpu_model(), "threads": env.threads_allowed()}
    found = {"code": report.code, "started": datetime.now(UTC).isoformat(timespec="seconds"), **where}
    found |= {
        "lines": report.lines,
        "failures": report.failures,
        "unmeasured": report.unmeasured,
        "seconds": report.seconds,
    }
    found |= report.data
    write_json(OUT / "latest.json", found)
    write_over(OUT / "latest.md", report.markdown().encode())
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(report.markdown())


if __name__ == "__main__":
    main()

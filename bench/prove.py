"""The gate tried on itself: does it find a slow-down that is there, and only such?

    python -m bench.prove [--runs N]       writes results/reference/gate.md

A run is one bench.gate.compare of this checkout with its own commit, in which a worker sleeps where a trial says so;
each has new workers, as the gate has. A faster FFJORD is held to the floors that its run's base would have set: the
committed ones are of an FFJORD that nothing delays.
Each is kept in results/check/prove.jsonl as it ends, and the table written anew: the same command goes on from there.
What needs no timing is shown by the tests that the table names, which are run first.

Exit status 0: every trial came out as wanted; 1: one did not, or a run is missing; 2: could not measure.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench import check, env, gate
from bench.commandline import options
from bench.counters import REFERENCE, ROOT, NotMeasured
from bench.gate import CASES, FAIL, UNKNOWN, Pair, SpeedUp, Verdict
from bench.record import write_over

STEP, THEIRS = "otflow step toy", "ffjord step toy"
OUT = REFERENCE.with_name("gate.md")
KEPT = check.OUT / "prove.jsonl"

Found = tuple[list[Verdict], list[SpeedUp]]


def fails(found: Found) -> bool:
    """Whether any case fails."""
    return any(one.outcome == FAIL for one in found[0])


def finds_the_step(found: Found) -> bool:
    """Whether OT-Flow's step fails."""
    return any(one.outcome == FAIL for one in found[0] if one.case == STEP)


def reports_ffjord(found: Found) -> bool:
    """Whether FFJORD's step is reported as faster, and neither a case fails nor the floor that base would have set."""
    floors = {one.name: check.floor(one.base, one.plain_base) for one in found[1]}
    faster = [one for one in found[1] if one.ffjord.high < 1.0]
    return bool(faster) and not fails(found) and not gate.below(found[1], floors)


@dataclass(frozen=True)
class Trial:
    """`runs` with workers delayed, case -> share of its seconds; `least` to `most` of them shall be `counted`."""

    name: str
    counted: Callable[[Found], bool]
    runs: int
    least: int = 0
    most: int = 1_000
    head: Mapping[str, float] = field(default_factory=dict)
    base: Mapping[str, float] = field(default_factory=dict)
    cases: tuple[str, ...] = (STEP, THEIRS)

    @property
    def wanted(self) -> str:
        return f"at least {self.least} of {self.runs}" if self.least else f"at most {self.most} of {self.runs}"


GATE = (Path(gate.__file__), gate.WORKER)
TRIALS = (
    Trial("nothing delayed: a case fails", fails, 20, most=1, cases=CASES),
    Trial("OT-Flow's step 15 % slower: it fails", finds_the_step, 10, least=9, head={STEP: 0.15}),
    Trial("OT-Flow's step 30 % slower: it fails", finds_the_step, 10, least=9, head={STEP: 0.30}),
    Trial("FFJORD's step twice as fast: reported, nothing fails", reports_ffjord, 10, least=9, base={THEIRS: 1.0}),
)

TESTS = {
    "an empty result fails": ("test_check.py::test_an_empty_result_is_no_pass",),
    "a result in which every case failed fails": ("test_check.py::test_where_every_case_fails_it_is_no_pass",),
    "a counter off by one fails with its name": (
        "test_check.py::test_a_counter_off_by_one_fails_with_its_name",
        "test_counters.py::test_each_committed_count_off_by_one_is_named",
    ),
}


@dataclass(frozen=True)
class Run:
    """What one run came to: its trial, whether it is one that the trial counts, cases that failed or stayed unknown."""

    trial: str
    commit: str
    counted: bool
    failed: tuple[str, ...]
    unknown: tuple[str, ...]
    seconds: float
    said: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"failed {case}" for case in self.failed] + [f"unknown {case}" for case in self.unknown]
        return f"{', '.join(parts) or 'all pass'} ({self.seconds:.0f} s)"


@contextmanager
def delayed(trial: Trial) -> Iterator[Pair]:
    """This checkout against its own commit, with the delays of `trial`."""
    with gate.pair("HEAD") as sides:
        sides.head.slow, sides.base.slow = dict(trial.head), dict(trial.base)
        yield sides


def once(trial: Trial, commit: str) -> Run:
    """A run of `trial`. Raises NotMeasured."""
    begin = time.monotonic()
    found = gate.compare(partial(delayed, trial), trial.cases)
    failed, unknown = (tuple(one.case for one in found[0] if one.outcome == outcome) for outcome in (FAIL, UNKNOWN))
    said = tuple(str(one) for part in found for one in part)
    return Run(trial.name, commit, trial.counted(found), failed, unknown, time.monotonic() - begin, said)


def kept(path: Path, commit: str) -> list[Run]:
    """The runs of `commit` in `path`; a torn line is passed over."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(line).items()}
            run = Run(**fields)
        except (ValueError, TypeError, AttributeError):
            continue
        found += [run] if run.commit == commit else []
    return found


def keep(path: Path, run: Run) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(vars(run)) + "\n")


def holds(trial: Trial, runs: Sequence[Run]) -> bool:
    """Whether all runs are there and came out as wanted."""
    return len(runs) >= trial.runs and trial.least <= sum(run.counted for run in runs) <= trial.most


def passes(tests: Sequence[str]) -> bool:
    """Whether the tests, which are there, pass."""
    command = [sys.executable, "-m", "pytest", "-q", *(f"tests/bench/{test}" for test in tests)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def table(runs: Mapping[str, Sequence[Run]], tested: Mapping[str, bool], commit: str) -> str:
    """The evidence as Markdown."""
    seconds = sum(run.seconds for some in runs.values() for run in some)
    where = f"{env.cpu_model()}, {env.threads_allowed()} threads, commit {commit[:10]}, {seconds / 60:.0f} minutes"
    where += f"; the gate's files {digest()}"
    lines = [f"The gate on speed tried on itself (`python -m bench.prove`): {where}.\n"]
    lines += [
        "| trial | runs | so came out | wanted | with an unknown case | as wanted |",
        "|---|---:|---:|---|---:|---|",
    ]
    for trial in TRIALS:
        some = runs[trial.name]
        counted, unknown = sum(run.counted for run in some), sum(bool(run.unknown) for run in some)
        held = "yes" if holds(trial, some) else "no" if len(some) >= trial.runs else "runs are missing"
        lines.append(f"| {trial.name} | {len(some)} | {counted} | {trial.wanted} | {unknown} | {held} |")
    lines += ["\n| without timing | tests | passed |", "|---|---|---|"]
    for name, passed in tested.items():
        tests = ", ".join(f"`tests/bench/{test}`" for test in TESTS[name])
        lines.append(f"| {name} | {tests} | {'yes' if passed else 'no'} |")
    return "\n".join(lines) + "\n"


def digest() -> str:
    """Sixteen digits of the SHA-256 of the files that decide: this evidence is of no other gate."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in GATE)).hexdigest()[:16]


def prove(most: int) -> bool:
    """Make the runs that are missing, `most` of each trial; whether all came out as wanted. Raises NotMeasured."""
    commit = str(env.commit()["commit"])
    tested = {}
    for name, tests in TESTS.items():
        tested[name] = passes(tests)
        say(f"{name}: {'yes' if tested[name] else 'NO'}")
    done = kept(KEPT, commit)
    runs = {trial.name: [run for run in done if run.trial == trial.name][: trial.runs] for trial in TRIALS}
    for trial in TRIALS:
        some = runs[trial.name]
        while len(some) < min(most, trial.runs):
            some.append(once(trial, commit))
            keep(KEPT, some[-1])
            write_over(OUT, table(runs, tested, commit).encode())
            say(f"{trial.name}, {len(some)} of {trial.runs}: {some[-1]}")
    write_over(OUT, table(runs, tested, commit).encode())
    return all(tested.values()) and all(holds(trial, runs[trial.name]) for trial in TRIALS)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main() -> None:
    parser = options("bench.prove", __doc__)
    parser.add_argument("--runs", type=int, default=1_000, metavar="N", help="at most so many of each trial: a try")
    given = parser.parse_args()
    try:
        sys.exit(0 if prove(given.runs) else 1)
    except NotMeasured as error:
        print(f"could not measure: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


if __name__ == "__main__":
    main()

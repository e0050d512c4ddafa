"""Head against base: is this checkout slower than another commit of it, and by how much does OT-Flow beat FFJORD?

Both sides run in processes of their own, and take turns: base, head, head, base, and again. A quad gives one log
ratio of head over base, in which what the machine did meanwhile cancels. A case fails where the median slow-down
exceeds LIMIT and its bootstrap interval excludes none; it passes where the interval excludes 2 LIMIT; else it is
unknown, and is given as many quads again, once. A failure has to be found once more, by new processes: how the memory
of a process lies makes it faster or slower for as long as it lives.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from bench import stats
from bench.counters import NotMeasured
from bench.env import KEEP_MEMORY, allocator
from bench.gate_worker import CASES, SHAPES, WORKS, YARDSTICKS
from bench.stats import Interval

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("gate_worker.py")

LIMIT = 0.05  # slower by so much is worth a failure
QUADS = 12
TARGET_SECONDS = 0.025  # of one timing
MOST_CALLS = 20
ANSWER_SECONDS = 120.0

HEADLINES = tuple(f"{work} {shape}" for shape in SHAPES for work in WORKS)

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"


@dataclass(frozen=True)
class Verdict:
    """What became of a case: head's seconds over base's, with its interval, and after how many quads."""

    case: str
    outcome: str
    ratio: Interval
    quads: int

    def __str__(self) -> str:
        change = 100 * (self.ratio.value - 1)
        return f"{self.case}: {self.outcome}, {change:+.1f} % [{_percent(self.ratio)}] in {self.quads} quads"


@dataclass(frozen=True)
class SpeedUp:
    """FFJORD's seconds over OT-Flow's, a plain network's over OT-Flow's, and what has changed from base to head."""

    INTERVALS: ClassVar[tuple[str, ...]] = ("head", "base", "plain", "plain_base", "otflow", "ffjord")

    name: str
    head: Interval  # FFJORD over OT-Flow
    base: Interval
    plain: Interval  # the plain network over OT-Flow, in head
    plain_base: Interval
    otflow: Interval  # head over base
    ffjord: Interval

    def __str__(self) -> str:
        return (
            f"{self.name}: FFJORD / OT-Flow {self.head.value:.2f} (base {self.base.value:.2f}); head over base: "
            f"OT-Flow {self.otflow.value:.3f}, FFJORD {self.ffjord.value:.3f}"
        )


def _percent(ratio: Interval) -> str:
    return ", ".join(f"{100 * (end - 1):+.1f}" for end in (ratio.low, ratio.high))


def judge(ratios: Sequence[float], limit: float = LIMIT) -> tuple[str, Interval]:
    """Outcome and interval of head-over-base ratios, one a quad. Raises NotMeasured without any."""
    if len(ratios) < 2:
        raise NotMeasured(f"{len(ratios)} quads are too few to judge by")
    found = stats.paired_ratio(np.asarray(ratios), np.ones(len(ratios)), np.random.default_rng(0))
    if found.value > 1 + limit and found.low > 1:
        return FAIL, found
    return (PASS if found.high < 1 + 2 * limit else UNKNOWN), found


# Measuring


class Side:
    """A worker on one checkout."""

    def __init__(self, tree: Path, slow: Mapping[str, float] | None = None) -> None:
        self.slow = dict(slow or {})
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(tree)],
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**(KEEP_MEMORY if not allocator() else {}), **os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def seconds(self, case: str, calls: int) -> float:
        """Seconds a call. Raises NotMeasured where the worker cannot."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"case": case, "calls": calls, "slow": self.slow.get(case, 0.0)}
        patience = threading.Timer(ANSWER_SECONDS, self.process.kill)  # one that hangs would hang the gate
        patience.start()
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            reply = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            self.process.kill()  # where it has not ended, it has said what is no reply
            raise NotMeasured(f"{case}: the worker ended, exit status {self.process.wait()}") from None
        finally:
            patience.cancel()
        if "error" in reply:
            raise NotMeasured(f"{case}: {reply['error']}")
        return float(reply["seconds"]) / calls

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Pair:
    """Head and base, ready to be timed in turn."""

    def __init__(self, head: Side, base: Side) -> None:
        self.head, self.base = head, base
        self.calls: dict[str, int] = {}

    def measure(self, cases: Sequence[str], quads: int) -> dict[str, list[tuple[float, float]]]:
        """`quads` more of each of `cases`: seconds of head and of base, a geometric mean of two each."""
        found: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
        for _ in range(quads):
            for case in cases:
                found[case].append(self._quad(case))
        return found

    def _quad(self, case: str) -> tuple[float, float]:
        if case not in self.calls:
            once = max(self.base.seconds(case, 1), self.head.seconds(case, 1))
            self.calls[case] = min(MOST_CALLS, max(1, round(TARGET_SECONDS / once)))
        n = self.calls[case]
        b1, h1, h2, b2 = (side.seconds(case, n) for side in (self.base, self.head, self.head, self.base))
        return (h1 * h2) ** 0.5, (b1 * b2) ** 0.5


@contextmanager
def pair(base: str, slow: Mapping[str, float] | None = None, root: Path = ROOT) -> Iterator[Pair]:
    """This checkout as it is against a worktree of the commit `base`. Raises NotMeasured where there is none."""
    with ExitStack() as stack:
        tree = stack.enter_context(worktree(base, root))
        sides = [Side(root, slow), Side(tree)]
        for side in sides:
            stack.callback(side.close)
        yield Pair(*sides)


@contextmanager
def alone(root: Path = ROOT) -> Iterator[Pair]:
    """This checkout against itself: for the speed-ups alone."""
    side = Side(root)
    try:
        yield Pair(side, side)
    finally:
        side.close()


@contextmanager
def worktree(commit: str, root: Path = ROOT) -> Iterator[Path]:
    """A checkout of `commit` in a temporary folder, gone after the block."""
    folder = Path(tempfile.mkdtemp(prefix="gate-"))
    try:
        tree = folder / "base"
        _git(root, "worktree", "add", "--detach", str(tree), commit)
        yield tree
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "-C", str(root), "worktree", "prune"], capture_output=True, check=False)


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        raise NotMeasured("there is no git") from None
    except subprocess.CalledProcessError as error:
        raise NotMeasured(f"git {arguments[0]}: {(error.stderr.strip().splitlines() or ['failed'])[-1]}") from None


def compare(
    pairs: Callable[[], AbstractContextManager[Pair]], cases: Sequence[str] = CASES, quads: int = QUADS
) -> tuple[list[Verdict], list[SpeedUp]]:
    """A verdict for each of `cases`, and the speed-ups that they make up. Raises NotMeasured.

    `pairs` gives a pair of new workers at each call: one to find failures, another to confirm them.
    """
    with pairs() as sides:
        found = sides.measure([*cases, *YARDSTICKS.values()], quads)
        unknown = [case for case in cases if judge(ratios(found[case]))[0] == UNKNOWN]
        for case, more in sides.measure(unknown, quads).items():
            found[case] += more
    verdicts = {case: _verdict(case, found[case]) for case in cases}
    if failed := [case for case in cases if verdicts[case].outcome == FAIL]:
        with pairs() as sides:
            again = sides.measure(failed, 2 * quads)
        verdicts |= {case: _confirmed(case, again[case]) for case in failed}
    return list(verdicts.values()), speed_ups(found)


def ratios(quads: Sequence[tuple[float, float]]) -> list[float]:
    return [head / base for head, base in quads]


def _verdict(case: str, quads: Sequence[tuple[float, float]]) -> Verdict:
    outcome, interval = judge(ratios(quads))
    return Verdict(case, outcome, interval, len(quads))


def _confirmed(case: str, quads: Sequence[tuple[float, float]]) -> Verdict:
    """What becomes of a case that failed: it stands only where these quads fail too."""
    again = _verdict(case, quads)
    return again if again.outcome == FAIL else replace(again, outcome=UNKNOWN)


def speed_ups(found: Mapping[str, Sequence[tuple[float, float]]]) -> list[SpeedUp]:
    """Of each headline whose two cases were measured; `found` has the yardstick of its shape too."""
    made = []
    for name in HEADLINES:
        ours, theirs = found.get(f"otflow {name}"), found.get(f"ffjord {name}")
        if not ours or not theirs:
            continue
        plain = found[YARDSTICKS[name.split()[-1]]]
        changes = _interval(ratios(ours)), _interval(ratios(theirs))
        made.append(SpeedUp(name, *_over(theirs, ours), *_over(plain, ours), *changes))
    return made


def _over(theirs: Sequence[tuple[float, float]], ours: Sequence[tuple[float, float]]) -> tuple[Interval, Interval]:
    """Their seconds over ours, in head and in base."""
    quads = list(zip(theirs, ours, strict=False))  # a case may have had more
    head, base = ([a[side] / b[side] for a, b in quads] for side in (0, 1))
    return _interval(head), _interval(base)


def _interval(values: Sequence[float]) -> Interval:
    return stats.paired_ratio(np.asarray(values), np.ones(len(values)), np.random.default_rng(0))


# Floors


@dataclass(frozen=True)
class Floor:
    """What the lower limit of FFJORD's and of a plain network's seconds over OT-Flow's is held to."""

    ffjord: float
    plain: float

    def holds(self, one: SpeedUp) -> bool:
        """Whether not both are below: a slower OT-Flow lowers both, a faster FFJORD only its own."""
        return one.head.low >= self.ffjord or one.plain.low >= self.plain

    def against(self, one: SpeedUp) -> str:
        """The speed-up beside this floor, as a line."""
        return (
            f"{one.name}: FFJORD / OT-Flow {one.head.low:.2f} at least, floor {self.ffjord:g}; "
            f"plain network / OT-Flow {one.plain.low:.2g}, floor {self.plain:g}"
        )


def below(found: Sequence[SpeedUp], floors: Mapping[str, Floor]) -> list[str]:
    """A line for each headline that its floor does not hold, and for each floor that was not measured.

    Raises NotMeasured without floors.
    """
    if not floors:
        raise NotMeasured("there are no floors: commit them with --update")
    lines = [f"{name}: not measured, and has a floor" for name in floors.keys() - {one.name for one in found}]
    fallen = [one for one in found if one.name in floors and not floors[one.name].holds(one)]
    return sorted(lines) + [f"{floors[one.name].against(one)}: below both" for one in fallen]

"""The gate finds what is slower, lets pass what is not, and says so when it cannot tell."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from bench import check, gate, gate_worker
from bench.counters import NotMeasured
from bench.gate import CASES, FAIL, PASS, UNKNOWN, YARDSTICKS, Floor, Interval, Pair, SpeedUp, below, compare, judge

STEP = "otflow step toy"


class Machine:
    """A clock on a machine that drifts, and is disturbed now and then (12 % drift, 6 % spikes)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.at = 0

    def noise(self) -> float:
        self.at += 1
        drift = 1 + 0.12 * np.sin(self.at / 40)
        spike = 1 + 0.5 * self.rng.random() if self.rng.random() < 0.06 else 1.0
        return drift * spike * np.exp(0.02 * self.rng.standard_normal())


class Side:
    def __init__(self, machine: Machine, **slow: float) -> None:
        self.machine, self.slow = machine, slow

    def seconds(self, case: str, calls: int) -> float:
        return 0.01 * (1 + self.slow.get(case.replace(" ", "_"), 0.0)) * self.machine.noise()


def sides(seed: int, base: dict[str, float] | None = None, **head: float) -> Pair:
    machine = Machine(seed)
    return Pair(Side(machine, **head), Side(machine, **(base or {})))


def compared(pair: Pair, *cases: str) -> tuple[list[gate.Verdict], list[SpeedUp]]:
    return compare(lambda: nullcontext(pair), cases or CASES)


def failed(pair: Pair) -> list[str]:
    return [one.case for one in compared(pair)[0] if one.outcome == FAIL]


def test_base_against_base_passes():
    wrong = sum(bool(failed(sides(seed))) for seed in range(40))
    assert wrong <= 2  # at most one run in twenty


@pytest.mark.parametrize("slower", [0.15, 0.30])
def test_a_slower_step_fails_with_its_name(slower):
    found = [failed(sides(seed, otflow_step_toy=slower)) for seed in range(20)]
    assert sum(one == [STEP] for one in found) >= 18


def test_a_faster_ffjord_does_not_fail_and_is_reported():
    verdicts, speed_ups = compared(sides(0, base={"ffjord_step_toy": 0.5}))
    assert not [one for one in verdicts if one.outcome == FAIL]
    (toy,) = [one for one in speed_ups if one.name == "step toy"]
    assert toy.ffjord.value == pytest.approx(1 / 1.5, rel=0.05)
    assert toy.otflow.value == pytest.approx(1.0, rel=0.05)
    assert toy.head.value == pytest.approx(1.0, rel=0.05)
    assert toy.base.value == pytest.approx(1.5, rel=0.05)
    assert (toy.plain.value, toy.plain_base.value) == pytest.approx((1.0, 1.0), rel=0.15)  # far apart in time
    assert "FFJORD 0.6" in str(toy)


def test_outcomes():
    assert judge([1.0, 1.01, 0.99] * 4)[0] == PASS
    assert judge([1.2, 1.19, 1.21] * 4)[0] == FAIL
    assert judge([1.03, 1.04, 1.02] * 4)[0] == PASS  # slower, surely, but not by enough
    assert judge([0.7, 0.9, 1.1, 1.3, 1.5, 1.04])[0] == UNKNOWN
    for few in ([], [2.0]):
        with pytest.raises(NotMeasured, match="too few"):
            judge(few)


@pytest.mark.parametrize(("second", "outcome"), [(0.0, UNKNOWN), (0.3, FAIL)])
def test_a_failure_must_be_found_by_new_workers_too(second, outcome):
    """A process that is slow by where its memory happens to lie is so at each of its timings."""
    made = iter([sides(0, otflow_step_toy=0.3), sides(1, otflow_step_toy=second)])
    (verdict,) = compare(lambda: nullcontext(next(made)), [STEP])[0]
    assert (verdict.outcome, verdict.quads) == (outcome, 2 * gate.QUADS)
    assert next(made, None) is None


def test_an_unknown_gets_as_many_quads_again():
    class Unsteady(Side):
        calls = 0

        def seconds(self, case: str, calls: int) -> float:
            self.calls += case == STEP
            return 0.013 if self.calls // 2 % 2 else 0.01  # in every other quad

    machine = Machine(0)
    unsteady = Unsteady(machine)
    (verdict,) = compared(Pair(unsteady, Side(machine)), STEP)[0]
    assert (verdict.outcome, verdict.quads) == (UNKNOWN, 2 * gate.QUADS)
    assert unsteady.calls == 1 + 2 * 2 * gate.QUADS  # the first tells how many calls to time


def speed_up(name: str, low: float, plain: float) -> SpeedUp:
    one = Interval(1.0, 1.0, 1.0)
    return SpeedUp(name, Interval(low + 0.2, low, low + 0.4), one, Interval(9.0, plain, 10.0), one, one, one)


def test_floors():
    floors = {"step toy": Floor(1.0, 0.5), "density toy": Floor(2.0, 0.5)}
    fine = speed_up("density toy", 2.5, 0.1)
    assert below([speed_up("step toy", 1.0, 0.1), fine], floors) == []
    assert below([speed_up("step toy", 0.1, 0.5), fine], floors) == [], "it is FFJORD that became faster"
    (line,) = below([speed_up("step toy", 0.9, 0.4), fine], floors)
    assert line.startswith("step toy: FFJORD / OT-Flow 0.90 at least, floor 1; plain network / OT-Flow 0.4, floor 0.5")
    (line,) = below([speed_up("step toy", 1.1, 0.6)], floors)
    assert line.startswith("density toy: not measured")
    assert len(below([speed_up("step toy", float("nan"), float("nan")), fine], floors)) == 1
    with pytest.raises(NotMeasured):
        below([], {})


def test_a_floor_falls_with_otflow_alone():
    """Without a base to tell whose the change is, as in make check-fast."""

    def measured(seed: int, **slow: float) -> list[SpeedUp]:
        side = Side(Machine(seed), **slow)
        return gate.speed_ups(Pair(side, side).measure([*CASES, *YARDSTICKS.values()], gate.QUADS))

    floors = {one.name: check.floor(one.head, one.plain) for one in measured(0, ffjord_step_toy=1.0)}
    assert floors["step toy"].ffjord == pytest.approx(1.2, rel=0.1)
    assert below(measured(1), floors) == [], "FFJORD is twice as fast"
    for ffjord in (0.0, 1.0):
        (line,) = below(measured(2, ffjord_step_toy=ffjord, otflow_step_toy=1.2), floors)
        assert line.startswith("step toy")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y", *words], check=True)

    git("init", "-q")
    (tmp_path / "a").write_text("first")
    git("add", "a")
    git("commit", "-qm", "first")
    (tmp_path / "a").write_text("second")
    return tmp_path


def test_the_base_is_a_checkout_that_is_gone_afterwards(repository):
    with gate.worktree("HEAD", repository) as tree:
        assert (tree / "a").read_text() == "first"
    assert not tree.exists()
    listed = subprocess.run(["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) == 1
    with pytest.raises(NotMeasured, match="nowhere"), gate.worktree("nowhere", repository):
        pass


@pytest.mark.slow
def test_a_worker_times_a_case_slows_it_when_told_and_names_what_it_cannot(tmp_path):
    side = gate.Side(gate.ROOT, {STEP: 4.0})
    try:
        slow = min(side.seconds(STEP, 3) for _ in range(3))
        side.slow = {}
        assert slow > 2 * min(side.seconds(STEP, 3) for _ in range(3))
        with pytest.raises(NotMeasured, match="otflow step nowhere: KeyError"):
            side.seconds("otflow step nowhere", 1)
    finally:
        side.close()
    empty = gate.Side(tmp_path)
    try:
        with pytest.raises(NotMeasured, match="ModuleNotFoundError"):
            empty.seconds(STEP, 1)
        assert empty.seconds(YARDSTICKS["toy"], 1) > 0, "what no commit changes needs none of its code"
    finally:
        empty.close()


def test_a_worker_that_talks_nonsense_is_not_measured(monkeypatch, tmp_path):
    (tmp_path / "worker.py").write_text("print('welcome', flush=True)\nimport time; time.sleep(60)")
    monkeypatch.setattr(gate, "WORKER", tmp_path / "worker.py")
    side = gate.Side(tmp_path)
    try:
        with pytest.raises(NotMeasured, match="the worker ended"):
            side.seconds(STEP, 1)
    finally:
        side.close()


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, *YARDSTICKS.values()])
def test_every_case_can_be_built(case):
    assert gate_worker.timed(gate_worker.build(case), 1, 0.0) > 0


def test_a_worker_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 0.5)
    (tmp_path / "hang.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(gate, "WORKER", tmp_path / "hang.py")
    side = gate.Side(tmp_path)
    try:
        with pytest.raises(NotMeasured, match="the worker ended, exit status -9"):
            side.seconds(STEP, 1)
    finally:
        side.close()


def test_the_worker_answers_with_an_error_and_goes_on():
    words = [sys.executable, str(gate.WORKER), str(gate.ROOT)]
    done = subprocess.run(words, input="no json\n[]\n", capture_output=True, text=True, timeout=60)
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True, True]

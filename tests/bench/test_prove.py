"""The gate's evidence: which runs count, what a table says, and that an interrupted proof goes on."""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bench import env, gate, prove
from bench.counters import ROOT
from bench.gate import Pair
from bench.prove import STEP, THEIRS, TRIALS, Run, holds, kept, table
from tests.bench.test_gate import Machine, Side

NOTHING, SLOWER, SLOWEST, FASTER = TRIALS


def run(trial, counted, commit="abc", **parts):
    return Run(trial.name, commit, counted, parts.get("failed", ()), parts.get("unknown", ()), 60.0)


class Delayed(Side):
    """A side of the gate whose seconds follow what it is told to sleep, by a clock with noise."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.slow = {}

    def seconds(self, case: str, calls: int) -> float:
        return 0.01 * (1 + self.slow.get(case, 0.0)) * self.machine.noise()


@pytest.fixture
def sides(monkeypatch, tmp_path):
    """Runs that time nothing; the two sides."""
    machine = Machine(0)
    made = Pair(Delayed(machine), Delayed(machine))
    made.begun = []

    @contextmanager
    def pair(base):
        made.begun.append(base)
        yield made

    monkeypatch.setattr(gate, "pair", pair)
    monkeypatch.setattr(prove, "OUT", tmp_path / "gate.md")
    monkeypatch.setattr(prove, "KEPT", tmp_path / "check" / "prove.jsonl")
    monkeypatch.setattr(prove, "passes", lambda tests: True)
    return made


def test_each_trial_counts_what_it_is_to_count(sides):
    found = {trial.name: prove.once(trial, "abc") for trial in TRIALS}
    assert [one.counted for one in found.values()] == [False, True, True, True]
    assert found[SLOWER.name].failed == found[SLOWEST.name].failed == (STEP,)
    assert found[FASTER.name].failed == found[NOTHING.name].failed == ()
    slow_only = replace(FASTER, base={})
    assert not prove.once(slow_only, "abc").counted, "FFJORD is no faster"
    broken = replace(FASTER, head={STEP: 0.3})
    assert not prove.once(broken, "abc").counted, "a case fails"


def test_a_floor_broken_by_a_faster_ffjord_does_not_count(sides, monkeypatch):
    monkeypatch.setattr(gate, "below", lambda found, floors: ["step toy: below"])
    assert not prove.once(FASTER, "abc").counted


def test_a_faster_ffjord_is_held_to_the_floors_of_its_base(sides, monkeypatch):
    held = []
    monkeypatch.setattr(gate, "below", lambda found, floors: held.append(floors["step toy"]) or [])
    assert prove.once(FASTER, "abc").counted
    assert held[0].ffjord == pytest.approx(2 * prove.check.ROOM, rel=0.1), "which a FFJORD twice as fast is below"
    assert held[0].plain == pytest.approx(prove.check.ROOM, rel=0.1)


def test_wanted_is_a_number_of_runs():
    assert (NOTHING.wanted, SLOWER.wanted) == ("at most 1 of 20", "at least 9 of 10")
    assert holds(NOTHING, 19 * [run(NOTHING, False)] + [run(NOTHING, True)])
    assert not holds(NOTHING, 18 * [run(NOTHING, False)] + 2 * [run(NOTHING, True)])
    assert not holds(NOTHING, 19 * [run(NOTHING, False)]), "a run is missing"
    assert holds(SLOWER, 9 * [run(SLOWER, True)] + [run(SLOWER, False)])
    assert not holds(SLOWER, 8 * [run(SLOWER, True)] + 2 * [run(SLOWER, False)])


def test_the_table():
    runs = {trial.name: [] for trial in TRIALS}
    runs[NOTHING.name] = 20 * [run(NOTHING, False, unknown=(THEIRS,))]
    runs[SLOWER.name] = 8 * [run(SLOWER, True)] + 2 * [run(SLOWER, False)]
    text = table(runs, {"an empty result fails": False}, "0123456789abcdef")
    assert f"commit 0123456789, 30 minutes; the gate's files {prove.digest()}." in text
    assert f"| {NOTHING.name} | 20 | 0 | at most 1 of 20 | 20 | yes |" in text
    assert f"| {SLOWER.name} | 10 | 8 | at least 9 of 10 | 0 | no |" in text
    assert f"| {FASTER.name} | 0 | 0 | at least 9 of 10 | 0 | runs are missing |" in text
    assert "| an empty result fails | `tests/bench/test_check.py::test_an_empty_result_is_no_pass` | no |" in text


def test_the_committed_evidence_is_of_these_trials_and_tests():
    text = prove.OUT.read_text()
    assert prove.digest() in text, "the gate has changed since: python -m bench.prove"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    for trial in TRIALS:
        (row,) = (row for row in rows if row[0] == trial.name)
        assert (row[1], row[3], row[5]) == (str(trial.runs), trial.wanted, "yes")
    for name in prove.TESTS:
        (row,) = (row for row in rows if row[0] == name)
        assert row[-1] == "yes"


def test_what_was_run_is_not_run_again(sides, capsys):
    assert not prove.prove(1), "runs are missing"
    with open(prove.KEPT, "a") as file:
        file.write('[]\n{"trial": "torn\n')
    capsys.readouterr()
    assert prove.prove(2) is False
    assert capsys.readouterr().out.count(", 2 of ") == len(TRIALS)
    assert sides.begun == 2 * (len(TRIALS) + 2) * ["HEAD"], "each run has workers of its own, others where it fails"
    assert kept(prove.KEPT, "another commit") == []
    assert len(kept(prove.KEPT, str(env.commit()["commit"]))) == 2 * len(TRIALS)
    assert "so came out" in prove.OUT.read_text()


def test_the_tests_that_it_names_are_there():
    for tests in prove.TESTS.values():
        for test in tests:
            path, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / "tests" / "bench" / path).read_text()
    assert not prove.passes(["test_prove.py::nowhere"])
    assert Path(prove.KEPT).parent == prove.check.OUT

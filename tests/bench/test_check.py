"""The gate's command: layers, exit status, and what it writes."""

import json

import pytest

from bench import check, counters, gate, history
from bench.counters import NotMeasured
from bench.gate import Interval, SpeedUp, Verdict

FINE = {"x@y": {"flops": 1}}


def speed_up(name, low=1.5, plain=0.5):
    """Of one whose floors are 1 and 1."""
    one = Interval(1.0, 0.9, 1.1)
    return SpeedUp(name, Interval(low + 0.1, low, low + 0.2), one, Interval(plain + 0.1, plain, 2.0), one, one, one)


@pytest.fixture
def gated(tmp_path, monkeypatch):
    """Layers that pass without measuring: what compare gives is in the list that this returns."""
    found = [[Verdict("otflow step toy", "pass", Interval(1.0, 0.99, 1.01), 12)], [speed_up("step toy")]]

    class Sides:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def measure(self, cases, quads):
            return {}

    def compare(pairs):
        with pairs():
            return tuple(found)

    monkeypatch.setattr(check, "OUT", tmp_path / "check")
    monkeypatch.setattr(check, "FLOORS", tmp_path / "floors.json")
    monkeypatch.setattr(counters, "REFERENCE", tmp_path / "counters.json")
    (tmp_path / "counters.json").write_text(json.dumps(FINE))
    (tmp_path / "floors.json").write_text('{"step toy": {"ffjord": 1.0, "plain": 1.0}}')
    monkeypatch.setattr(gate, "HEADLINES", ("step toy",))
    monkeypatch.setattr(counters, "count_all", lambda: FINE)
    monkeypatch.setattr(gate, "pair", lambda base, slow: Sides())
    monkeypatch.setattr(gate, "alone", lambda: Sides())
    monkeypatch.setattr(gate, "compare", compare)
    monkeypatch.setattr(gate, "speed_ups", lambda measured: found[1])
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return found


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["check", *words])
    with pytest.raises(SystemExit) as done:
        check.main()
    return done.value.code


def test_all_layers_pass_and_are_written(gated, monkeypatch, tmp_path, capsys):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert run(monkeypatch) == 0
    found = json.loads((tmp_path / "check/latest.json").read_text())
    assert found["code"] == 0
    assert list(found["lines"]) == ["counters", "base", "floors", "history"]
    assert found["verdicts"][0]["case"] == "otflow step toy"
    assert summary.read_text() == (tmp_path / "check/latest.md").read_text()
    assert summary.read_text().startswith("## Speed gate: passed")
    assert "otflow step toy: pass, +0.0 % [-1.0, +1.0] in 12 quads" in capsys.readouterr().out


def test_a_failed_case_fails_with_its_name(gated, monkeypatch, tmp_path):
    gated[0].append(Verdict("otflow density toy", "fail", Interval(1.2, 1.15, 1.25), 24))
    assert run(monkeypatch) == 1
    assert (
        "**otflow density toy: fail, +20.0 % [+15.0, +25.0] in 24 quads**" in (tmp_path / "check/latest.md").read_text()
    )


def test_a_counter_off_by_one_fails_with_its_name(gated, monkeypatch, capsys):
    monkeypatch.setattr(counters, "count_all", lambda: {"x@y": {"flops": 2}})
    assert run(monkeypatch, "--counters", "--floors") == 1
    assert "x@y flops 1 -> 2" in capsys.readouterr().out


def test_a_speed_up_below_its_floor_fails(gated, monkeypatch, capsys):
    gated[1][:] = [speed_up("step toy", 0.5)]
    assert run(monkeypatch, "--floors") == 1
    assert "step toy: FFJORD / OT-Flow 0.50 at least, floor 1" in capsys.readouterr().out


def test_a_faster_ffjord_fails_no_floor(gated, monkeypatch, capsys):
    gated[1][:] = [speed_up("step toy", 0.5, plain=1.2)]
    assert run(monkeypatch, "--floors") == 0
    assert "FFJORD / OT-Flow 0.50 at least, floor 1; plain network / OT-Flow 1.2, floor 1" in capsys.readouterr().out


def test_a_headline_without_a_floor_fails_with_its_name(gated, monkeypatch, capsys):
    monkeypatch.setattr(gate, "HEADLINES", ("step toy", "density toy"))
    assert run(monkeypatch, "--floors") == 1
    assert "density toy: has no floor" in capsys.readouterr().out


def test_each_headline_has_a_committed_floor():
    assert set(json.loads(check.FLOORS.read_text())) == set(gate.HEADLINES)


def test_a_fall_below_a_floor_is_confirmed(gated, monkeypatch):
    """A bad moment of the machine is no failure; a floor that is missed twice is, and one not measured again."""
    found = [[speed_up("step toy", 0.5)], [speed_up("step toy")]]
    monkeypatch.setattr(gate, "speed_ups", lambda measured: found.pop(0))
    assert run(monkeypatch, "--floors") == 0
    found[:] = [[speed_up("step toy", 0.5)], [speed_up("step toy", 0.6)]]
    assert run(monkeypatch, "--floors") == 1
    found[:] = [[speed_up("step toy", 0.5)], []]
    assert run(monkeypatch, "--floors") == 1


@pytest.mark.parametrize("empty", [([], [speed_up("step toy")]), ([], [])])
def test_an_empty_result_is_no_pass(empty, gated, monkeypatch, capsys):
    gated[:] = [list(part) for part in empty]
    assert run(monkeypatch) != 0
    assert "could not measure" in capsys.readouterr().out


@pytest.mark.parametrize(
    "script", ["raise SystemExit(1)", 'for line in open(0): print(\'{"error": "no"}\', flush=True)']
)
def test_where_every_case_fails_it_is_no_pass(script, gated, monkeypatch, tmp_path, capsys):
    monkeypatch.undo()  # the layers as they are, and workers that can time nothing
    (tmp_path / "worker.py").write_text(script)
    monkeypatch.setattr(gate, "WORKER", tmp_path / "worker.py")
    monkeypatch.setattr(check, "OUT", tmp_path / "check")
    monkeypatch.setattr(counters, "REFERENCE", tmp_path / "counters.json")
    monkeypatch.setattr(counters, "count_all", lambda: FINE)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert run(monkeypatch, "--against", "HEAD") == 2
    out = capsys.readouterr().out
    assert "base     could not measure: otflow step toy" in out
    assert "floors   could not measure: otflow step toy" in out


def test_where_no_case_can_be_told_it_is_no_pass(gated, monkeypatch):
    gated[0][:] = [Verdict("otflow step toy", "unknown", Interval(1.1, 0.8, 1.4), 24)]
    assert run(monkeypatch) == 2
    gated[0].append(Verdict("otflow density toy", "pass", Interval(1.0, 0.99, 1.01), 12))
    assert run(monkeypatch) == 2, "a case that could not be told may be slower"
    gated[0].pop(0)
    assert run(monkeypatch) == 0


@pytest.mark.parametrize("layer", ["counters", "base", "floors"])
def test_a_gate_that_breaks_down_has_found_no_slow_down(layer, gated, monkeypatch, capsys):
    def broken(*given):
        raise TypeError("'int' object is not iterable")

    monkeypatch.setattr(
        *{"counters": (counters, "compare"), "base": (gate, "compare"), "floors": (gate, "below")}[layer], broken
    )
    assert run(monkeypatch) == 2
    assert f"{layer:9}could not measure: TypeError" in capsys.readouterr().out


def test_an_odd_line_in_the_history_fails_nothing(gated, monkeypatch, capsys):
    folder = check.OUT / "history"
    folder.mkdir(parents=True)
    (folder / f"{history.machine()}.jsonl").write_text('{"speed_ups": {"step toy": 3}}\n')
    assert run(monkeypatch) == 0
    assert "not kept: TypeError" in capsys.readouterr().out


def test_what_cannot_be_measured_is_neither_pass_nor_fail(gated, monkeypatch, capsys):
    def fail(*given):
        raise NotMeasured("no such commit")

    monkeypatch.setattr(gate, "pair", fail)
    assert run(monkeypatch) == 2
    assert "could not measure: no such commit" in capsys.readouterr().out
    monkeypatch.setattr(counters, "count_all", lambda: {"x@y": {"flops": 2}})
    assert run(monkeypatch) == 1  # what failed is known all the same


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"step toy": 1.0}', '{"step toy": {"ffjord": 1.0, "plain": "fast"}}']
)
def test_floors_that_are_none(content, gated, monkeypatch, capsys):
    check.FLOORS.unlink()
    if content is not None:
        check.FLOORS.write_text(content)
    assert run(monkeypatch, "--floors") == 2
    assert "--update" in capsys.readouterr().out


def test_floors_are_taken_below_what_is_measured(gated, monkeypatch):
    assert run(monkeypatch, "--floors", "--update") == 0
    assert json.loads(check.FLOORS.read_text()) == {"step toy": {"ffjord": 0.9, "plain": 0.3}}
    assert run(monkeypatch, "--floors") == 0


@pytest.mark.parametrize("words", [["--slow", "otflow"], ["--slow", "nothing=0.1"], ["--update"], ["--nothing"]])
def test_bad_arguments_say_so(words, monkeypatch, capsys):
    assert run(monkeypatch, *words) == 2
    assert "error:" in capsys.readouterr().err


def test_history_keeps_each_run_and_passes_over_a_torn_line(tmp_path):
    one = {"name": "step toy", "head": Interval(2.0, 1.8, 2.2)}
    path = history.append(tmp_path, [one])
    with open(path, "a") as file:
        file.write('{"speed_ups": {"step\n')
    assert history.append(tmp_path, [one]) == path
    assert [run["speed_ups"] for run in history.read(path)] == 2 * [{"step toy": [2.0, 1.8, 2.2]}]
    assert path.with_suffix(".png").stat().st_size > 5000

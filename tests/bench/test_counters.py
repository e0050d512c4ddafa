import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchdiffeq._impl import rk_common

from bench import check, counters
from bench.counters import NotMeasured, compare, count_all

COUNTS = {"a@x": {"flops": 10, "parameters": 3}, "b@x": {"flops": 7}}


def test_equal_counts_say_nothing() -> None:
    assert compare(COUNTS, json.loads(json.dumps(COUNTS))) == []


def test_each_count_that_moved_is_named() -> None:
    assert compare(COUNTS, {**COUNTS, "a@x": {"flops": 11, "parameters": 3}}) == ["a@x flops 10 -> 11"]
    assert compare(COUNTS, {"a@x": COUNTS["a@x"]}) == ["b@x flops 7 -> none"]
    assert compare({"b@x": COUNTS["b@x"]}, {"b@x": {"flops": 7, "calls": 1}}) == ["b@x calls none -> 1"]


def test_each_committed_count_off_by_one_is_named() -> None:
    committed = counters.read(counters.REFERENCE)
    for cell, counts in committed.items():
        for name, count in counts.items():
            off = {**committed, cell: {**counts, name: count + 1}}
            assert compare(committed, off) == [f"{cell} {name} {count} -> {count + 1}"]


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configurations with the stub solver and dataset only; the folder of the solvers."""
    for folder, name, target in (("solver", "decay", "Decay"), ("dataset", "shifted", "Shifted")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(f"_target_: tests.stubs.{target}\n")
    monkeypatch.setattr(counters, "SOLVERS", tmp_path / "solver")
    monkeypatch.setattr(counters, "DATASETS", tmp_path / "dataset")
    monkeypatch.setattr(counters, "PROBLEMS", ("shifted",))
    monkeypatch.setattr(counters, "ROOT", tmp_path)
    monkeypatch.setattr(counters, "REFERENCE", tmp_path / "counters.json")
    monkeypatch.setattr(check, "OUT", tmp_path / "check")
    monkeypatch.setattr("sys.argv", ["check", "--counters"])
    return tmp_path / "solver"


def run(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        check.main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, capsys.readouterr().out


def test_counts_repeat(stub: Path) -> None:
    counts = count_all()
    assert counts == count_all()
    assert set(counts) == {"decay@shifted"}
    assert counts["decay@shifted"]["nfe_forward"] == 2
    assert counts["decay@shifted"]["parameters"] == 2
    assert counts["decay@shifted"]["aten_calls"] > 5


def test_exit_codes(stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out = run(capsys)
    assert code == 2
    assert "write it with --update" in out
    monkeypatch.setattr("sys.argv", ["check", "--counters", "--update"])
    assert run(capsys)[0] == 0
    monkeypatch.setattr("sys.argv", ["check", "--counters"])
    assert run(capsys) == (0, "counters 1 cells count as committed\n")
    committed = json.loads(counters.REFERENCE.read_text())
    committed["decay@shifted"]["aten_calls"] += 1
    counters.REFERENCE.write_text(json.dumps(committed))
    code, out = run(capsys)
    assert code == 1
    calls = committed["decay@shifted"]["aten_calls"]
    assert out == f"counters decay@shifted aten_calls {calls} -> {calls - 1}\n"
    counters.REFERENCE.write_text("{}")
    assert run(capsys)[0] == 2


@pytest.mark.parametrize("mode", ["crash", "diverge", "unfit"])
def test_a_solver_that_cannot_be_counted(mode: str, stub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counters.REFERENCE.write_text(json.dumps({"decay@shifted": {"flops": 0}}))
    (stub / "decay.yaml").write_text(f"_target_: tests.stubs.Decay\nmode: {mode}\nat: 1\n")
    code, out = run(capsys)
    assert code == 2
    assert "decay" in out


@pytest.mark.parametrize("broken", ["tests.stubs.Shifted.load", "tests.stubs.Decay.unfit"])
def test_what_raises_could_not_be_measured(
    broken: str, stub: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("no such file\nfetch it")

    counters.REFERENCE.write_text(json.dumps({"decay@shifted": {"flops": 0}}))
    monkeypatch.setattr(broken, fail)
    code, out = run(capsys)
    assert code == 2
    assert out.startswith("counters could not measure: ")
    assert out.endswith("shifted: RuntimeError: no such file\n")


def test_no_solver_at_all(stub: Path) -> None:
    (stub / "decay.yaml").unlink()
    with pytest.raises(NotMeasured, match="no solver"):
        count_all()


def test_no_adaptive_step_is_near_its_acceptance_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within rounding of the limit another processor could reject what this one accepts, and count more."""
    ratio, found = rk_common._compute_error_ratio, []

    def noted(*given: Any) -> Tensor:
        found.append(float(ratio(*given)))
        return torch.tensor(found[-1])

    monkeypatch.setattr(rk_common, "_compute_error_ratio", noted)
    for name in ("ffjord.yaml", "rnode.yaml"):
        shutil.copy(counters.SOLVERS / name, tmp_path)
    monkeypatch.setattr(counters, "SOLVERS", tmp_path)
    count_all()
    assert len(found) > 10
    assert min(abs(value - 1) for value in found) > 1e-6


def test_every_solver_has_committed_counts() -> None:
    """The counts themselves are compared by `make check-fast`."""
    solvers = {path.stem for path in counters.SOLVERS.glob("*.yaml")}
    assert solvers <= {cell.split("@")[0] for cell in counters.read(counters.REFERENCE)}

import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import record
from bench.record import RecordError, check, describe, key, line, new, read, read_all, sweep_stale, title, write


@dataclass(frozen=True)
class Inner:
    depth: int = 2


@dataclass(frozen=True)
class Solver:
    hidden: tuple[int, ...] = (8, 8)
    inner: Inner = field(default_factory=Inner)
    lr: float = 1e-3
    version: ClassVar[int] = 3


@dataclass(frozen=True)
class Named(Solver):
    """Another class with the same fields."""


def made(seed: int = 0, **changes: Any) -> record.Record:
    solver, dataset = describe(Solver()), describe(Named())
    config = {"solver": solver, "dataset": dataset, "seed": seed}
    return {**new(config, "ok", "schedule", "2000-01-01", metrics={"nll": 1.25, "mmd": None}), **changes}


def test_describe_holds_defaults_and_version() -> None:
    assert describe(Solver()) == {
        "_target_": f"{__name__}.Solver",
        "version": 3,
        "hidden": [8, 8],
        "inner": {"_target_": f"{__name__}.Inner", "version": 0, "depth": 2},
        "lr": 1e-3,
    }


def test_the_key_depends_on_contents_only() -> None:
    config = made()["config"]
    assert key(config) == key(dict(reversed(config.items())))
    assert key(describe(Solver(hidden=[8, 8]))) == key(describe(Solver()))  # type: ignore[arg-type]
    assert len({key(describe(s)) for s in (Solver(), Solver(lr=2e-3), Solver(inner=Inner(3)), Named())}) == 4
    with pytest.raises(ValueError, match="not JSON compliant"):
        key({"lr": float("nan")})


def test_written_and_read(tmp_path: Path) -> None:
    one = made()
    assert write(tmp_path / "runs", one)
    path = tmp_path / "runs" / f"{one['key']}.json"
    assert read(path) == one
    assert list((tmp_path / "runs").iterdir()) == [path]


def test_the_first_writer_wins(tmp_path: Path) -> None:
    assert write(tmp_path, made(reason="first"))
    assert not write(tmp_path, made(reason="second"))
    assert read(tmp_path / f"{made()['key']}.json")["reason"] == "first"
    assert len(list(tmp_path.iterdir())) == 1


def _write_all(folder: Path, writer: int) -> int:
    return sum(write(folder, made(seed, reason=str(writer))) for seed in range(8))


def test_many_writers(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        wins = pool.starmap(_write_all, [(tmp_path, writer) for writer in range(8)])
    assert sum(wins) == 8, "each key was written once"
    records, problems = read_all([tmp_path])
    assert len(records) == 8
    assert problems == []
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_full_disk_leaves_nothing(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, made())
    assert list(tmp_path.iterdir()) == []


def test_a_real_file_size_limit_leaves_nothing(tmp_path: Path) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="large"):
            write(tmp_path, made())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []


def test_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    here, elsewhere, dead, own = record.machine(), "01234567", 999999999, os.getpid()
    gone = [f"a.json.tmp.{here}.{dead}", f"b.json.tmp.{dead}", f"c.json.tmp.{elsewhere}.{own}"]
    kept = [f"a.json.tmp.{here}.{own}", f"d.json.tmp.{elsewhere}.{dead}", "e.json.tmp.1", "f.json.tmp.x", "b.json"]
    for name in (*gone, *kept):
        (tmp_path / name).touch()
    os.utime(tmp_path / gone[2], (0, 0))
    sweep_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells")
def test_a_process_that_has_ended_is_not_alive_though_nobody_asked_how() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert record.alive(str(child.pid))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not record.alive(str(child.pid))
    child.communicate()
    assert record.alive(str(os.getpid()))
    assert not record.alive("999999999")


def test_a_leftover_of_a_process_with_our_number_harms_no_record(tmp_path: Path) -> None:
    one = made()
    write(tmp_path, one)
    path = tmp_path / f"{one['key']}.json"
    os.link(path, tmp_path / f"{path.name}.tmp.{record.machine()}.{os.getpid()}")
    assert not write(tmp_path, made(reason="second"))
    assert read(path) == one
    assert list(tmp_path.iterdir()) == [path]


def test_writing_over_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a"
    record.write_over(path, b"first")
    record.write_over(path, b"second")
    assert path.read_bytes() == b"second"

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        record.write_over(path, b"third")
    with pytest.raises(OSError, match="No space"):
        record.probe(tmp_path / "new")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "fine"}, "unknown status"),
        ({"metrics": {"nll": float("nan")}}, "metric nll is nan"),
        ({"metrics": {"nll": "1"}}, "metric nll is '1'"),
        ({"metrics": []}, "metrics is not a dict"),
        ({"certificates": {"mass": {"value": 1}}}, "certificate mass"),
        ({"schema": record.SCHEMA + 1}, "update cnf-ot-bench"),
        ({"trace": {}}, "trace is not a list"),
    ],
)
def test_what_is_no_record(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        check(made(**changes))
    with pytest.raises(ValueError, match=words):
        write(tmp_path, made(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("odd", [2**64, -(2**63) - 1, 2**63, "\udcff", {"a\udcff": 10**400}])
def test_what_is_written_is_read(odd: Any, tmp_path: Path) -> None:
    """The file of a name that is no text, and whole numbers of more than 64 bits, too."""
    config = {**made()["config"], "solver": {"_target_": "x", "field": odd}}
    one = record.new(config, "crash", "bad \udcff", "2026-01-01", env={"cpu": odd})
    assert write(tmp_path, one)
    assert read(tmp_path / f"{one['key']}.json") == one


ANY_TEXT = st.text(st.characters())  # lone surrogates too
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=5))
def test_whatever_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    config = {**made()["config"], "solver": {"_target_": "x", "field": value}}
    one = record.new(config, "crash", "x", "2026-01-01", env={"cpu": value})
    folder = tmp_path_factory.mktemp("records")
    write(folder, one)
    assert read(folder / f"{one['key']}.json") == one


def test_a_nan_anywhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, made(trace=[{"step": 1, "loss": float("inf")}]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"schema": NaN}', b"null"],
)
def test_files_that_are_no_records_are_named_and_left_out(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, made())
    bad = tmp_path / "0000.json"
    bad.write_bytes(content)
    with pytest.raises(RecordError, match="0000"):
        read(bad)
    records, problems = read_all([tmp_path])
    assert len(records) == len(problems) == 1
    assert "0000.json" in problems[0]
    assert bad.exists()


def test_a_record_whose_configuration_was_edited_is_named_and_left_out(tmp_path: Path) -> None:
    one = made()
    edited = {**one, "config": {**one["config"], "solver": {**one["config"]["solver"], "lr": 0.5}}}
    path = tmp_path / f"{one['key']}.json"
    path.write_text(json.dumps(edited))
    records, (problem,) = read_all([tmp_path])
    assert records == []
    assert problem == (
        f"{path}: its configuration was edited: the key of it is {key(edited['config'])}, not {one['key']}"
    )
    with pytest.raises(ValueError, match="was edited"):
        write(tmp_path, edited)
    path.write_text(json.dumps({**one, "reason": "edited"}))
    assert read(path)["reason"] == "edited", "the key tells of nothing else"


def test_the_reference_records_are_those_of_their_configurations() -> None:
    folders = [path for path in (Path(__file__).parents[2] / "results" / "reference").iterdir() if path.is_dir()]
    records, problems = read_all(folders)
    assert problems == []
    assert len(records) > 50


@pytest.mark.parametrize("part", ["budget", "validation", "evaluate", "tuning"])
def test_a_part_of_the_configuration_that_has_no_fields_is_refused(part: str) -> None:
    config = {**made()["config"], part: 3}
    with pytest.raises(ValueError, match=f"config {part} is not a dict"):
        check(new(config, "ok", "schedule", "2000-01-01"))


def test_a_record_under_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0123456789abcdef.json"
    path.write_text(json.dumps(made()))
    with pytest.raises(RecordError, match="holds the record of key"):
        read(path)


def test_title_and_line() -> None:
    config = {
        "solver": {"_target_": "solvers.otflow.OTFlow"},
        "dataset": {"_target_": "datasets.gaussians.Gaussians"},
        "seed": 2,
    }
    assert title(config) == "otflow gaussians seed 2"
    assert title(made()["config"]) == "test_record named seed 0"
    ok = new(config, "ok", "schedule", "2000", metrics={"nll": 2.0}, cost={"fit_seconds": 3.0})
    assert line(ok) == "otflow gaussians seed 2: ok, test NLL 2.0000, 3.00 s"
    budget = config | {"budget": {"seconds": 2.0}}
    over = new(budget, "ok", "budget", "2000", metrics={"nll": 2.0}, cost={"fit_seconds": 3.0})
    assert line(over) == "otflow gaussians seed 2: ok, test NLL 2.0000, 3.00 s of a budget of 2"
    assert line(over | {"cost": {"fit_seconds": 2.4}}) == "otflow gaussians seed 2: ok, test NLL 2.0000, 2.40 s"
    assert line(new(config, "oom", "no memory", "2000")) == "otflow gaussians seed 2: oom (no memory)"


@pytest.mark.parametrize("seconds", ["fast", [1.0], {}, True, 10**400])
def test_a_cost_that_is_no_number_spoils_no_line(seconds: Any) -> None:
    assert line(made(cost={"fit_seconds": seconds})) == "test_record named seed 0: ok, test NLL 1.2500"

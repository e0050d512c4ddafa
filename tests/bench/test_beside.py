"""The second process of a report: it changes nothing but the seconds, and what goes wrong in it is told."""

import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from bench.report import beside, drawing, frame
from bench.report.__main__ import main
from tests.bench import fake_records as fake


def square(number: int) -> int:
    return number * number


def here(_: object) -> int:
    time.sleep(0.002)
    return os.getpid()


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_few_records_need_no_other_process() -> None:
    with beside.helper(beside.MANY) as other:
        assert other.submit(here, None).result() == os.getpid()


def test_many_records_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with beside.helper(beside.MANY + 1) as other:
        assert other.submit(here, None).result() != os.getpid()


@pytest.mark.parametrize("records", [0, beside.MANY + 1])
def test_what_is_shared_comes_in_order(records: int) -> None:
    with beside.helper(records) as other:
        for count in (0, 1, 2, 300):
            assert list(beside.shared(other, square, range(count))) == [square(number) for number in range(count)]


def test_both_take_part() -> None:
    with ProcessPoolExecutor(1) as other:
        assert len(set(beside.shared(other, here, range(200)))) == 2


def test_frames_read_by_two_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "PIECE", 2)
    folders = [fake.store(tmp_path / "a", fake.sweep(3)), fake.store(tmp_path / "b", fake.sweep(2))]
    (folders[0] / "torn.json").write_text("{")
    with ProcessPoolExecutor(1) as other:
        found, told = frame.load(folders, other)
    wanted, lines = frame.load(folders)
    assert told == lines
    assert len(lines) == 1
    assert list(found["key"]) == list(wanted["key"])
    assert (found["folder"] == wanted["folder"]).all()
    plain = [name for name in wanted if name not in ("curve", "fields")]
    assert found[plain].equals(wanted[plain])


def test_a_report_by_two_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fake.store(tmp_path / "runs", fake.sweep(2))
    assert main([f"records={folder}", f"out={tmp_path / 'solo'}"]) == 0
    alone = capsys.readouterr().out
    monkeypatch.setattr(beside, "MANY", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert main([f"records={folder}", f"out={tmp_path / 'pair'}"]) == 0
    assert capsys.readouterr().out.replace("pair", "solo") == alone
    assert files(tmp_path / "pair") == files(tmp_path / "solo")


def test_a_killed_process_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fake.store(tmp_path / "runs", fake.sweep(2))
    monkeypatch.setattr(beside, "MANY", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(drawing, "of_group", killed)
    assert main([f"records={folder}", f"out={tmp_path / 'out'}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench.report: A process in the process pool was terminated abruptly")

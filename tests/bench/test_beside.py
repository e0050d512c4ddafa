"""The second process of a report: it changes nothing but the seconds, and what goes wrong in it is told."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from bench import record
from bench.report import beside, drawing, frame, quality
from bench.report.__main__ import main
from bench.report.beside import MANY, Lost, begin, share, worth
from tests.bench import fake_records as fake

ROOT = Path(__file__).parents[2]

forked = pytest.mark.skipif(sys.platform != "linux", reason="a second process is forked, on Linux only")


def broken(number: int) -> int:
    raise ValueError(f"not {number}")


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any report is worth a second process."""
    monkeypatch.setattr(beside, "worth", lambda records: True)


@forked
def test_a_second_process_is_worth_it_for_many_records_on_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "affinity", lambda: [4, 5])
    assert (worth(MANY), worth(MANY + 1)) == (False, True)
    monkeypatch.setattr(beside, "affinity", lambda: [4])
    assert not worth(MANY + 1)


@forked
def test_what_is_begun_gives_the_same_in_either_process() -> None:
    here, there = (begin(os.getpid, beside=other)() for other in (False, True))
    assert here == os.getpid() != there
    for other in (False, True):
        assert begin(divmod, 17, 5, beside=other)() == (3, 2)
        with pytest.raises(ValueError, match="not 3"):
            begin(broken, 3, beside=other)()


@forked
def test_more_than_a_pipe_holds_comes_through() -> None:
    assert len(begin(bytes, 10_000_000, beside=True)()) == 10_000_000


@forked
def test_a_killed_process_is_lost() -> None:
    wait = begin(killed, beside=True)
    with pytest.raises(Lost, match=r"ended \(status -9\)"):
        wait()


@forked
def test_what_is_shared_is_made_once_each_in_order_by_both(tmp_path: Path) -> None:
    def slow(i: int) -> tuple[int, int]:
        (tmp_path / f"{i}").touch(exist_ok=False)
        time.sleep(0.02)
        return i, os.getpid()

    wait = share([partial(slow, i) for i in range(20)], beside=True)
    time.sleep(0.05)  # the other process has begun
    made = wait()
    assert [i for i, _ in made] == [*range(20)]
    assert len({who for _, who in made}) == 2
    assert share([partial(abs, i) for i in (-1, 2)], beside=False)() == [1, 2]


@forked
def test_what_goes_wrong_in_either_process_is_raised() -> None:
    with pytest.raises(ValueError, match="not 1"):
        share([partial(broken, 1)], beside=True)()
    with pytest.raises(ValueError, match="not"):
        share([partial(broken, i) for i in (1, 2, 3)], beside=True)()


def test_numbers_are_given_out_once_each_and_end() -> None:
    numbers = beside._numbers(3)
    assert [os.read(numbers, beside.WIDE) for _ in range(5)] == [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\2", b"", b""]
    os.close(numbers)


ORPHAN = """
import os, sys, time
from bench.report.beside import begin
def answer():
    print(os.getpid(), flush=True)
    time.sleep(float(sys.argv[1]))
    return b"x" * 10_000_000
wait = begin(answer, beside=True)
time.sleep(60)
"""


@forked
@pytest.mark.parametrize("seconds", [600, 0], ids=["busy", "sending"])
def test_a_second_process_dies_with_its_parent(seconds: int) -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN, str(seconds)], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = parent.stdout.readline().decode().strip()
        time.sleep(0.3)
        try:
            assert record.alive(child)
        finally:
            parent.kill()
    for _ in range(200):
        if not record.alive(child):
            return
        time.sleep(0.02)
    raise AssertionError("it goes on")


@forked
def test_frames_read_by_two_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake.store(tmp_path / "a", fake.sweep(3))
    (folder / "torn.json").write_text("{")
    (folder / "0.json").write_text("{")
    wanted, lines = frame.load(folder)
    monkeypatch.setattr(beside, "worth", lambda records: True)
    found, told = frame.load(folder)
    assert told == lines
    assert len(lines) == 2
    plain = [name for name in wanted if name not in ("curve", "fields")]
    assert found[plain].equals(wanted[plain])


@forked
def test_a_report_by_two_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fake.store(tmp_path / "runs", fake.sweep(2))
    assert main([f"records={folder}", f"out={tmp_path / 'solo'}"]) == 0
    alone = capsys.readouterr().out
    monkeypatch.setattr(beside, "worth", lambda records: True)
    assert main([f"records={folder}", f"out={tmp_path / 'pair'}"]) == 0
    assert capsys.readouterr().out.replace("/pair", "/solo") == alone
    assert files(tmp_path / "pair") == files(tmp_path / "solo")


@forked
@pytest.mark.usefixtures("two")
def test_a_report_whose_second_process_was_killed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fake.store(tmp_path / "runs", fake.sweep(2))
    us, draw = os.getpid(), quality.figures
    there = [lambda *given: draw(*given) if os.getpid() == us else killed()]
    monkeypatch.setattr(drawing, "OF_RECORDS", (*there, *drawing.OF_RECORDS[1:]))
    assert main([f"records={folder}", f"out={tmp_path / 'out'}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench.report: the process that reads or draws beside this one ended")

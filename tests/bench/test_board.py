import io
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.board import Board, Pace, Running, duration
from tests.bench import fake_records

ROOT = Path(__file__).parents[2]


def learnt(**seconds: float) -> Pace:
    pace = Pace()
    for solver, one in seconds.items():
        for seed, factor in enumerate((0.5, 1.0, 40.0)):
            pace.learn(fake_records.make(solver, seed=seed, cost={"wall_seconds": one * factor}))
    return pace


def test_time_left_comes_from_the_same_solver_and_dataset() -> None:
    pace = learnt(otflow=10.0, ffjord=100.0)
    assert pace.guess("otflow 8gaussians seed 9") == 10.0
    assert pace.guess("ffjord 8gaussians seed 9") == 100.0
    assert pace.guess("moments 8gaussians seed 0") == pytest.approx(75.0), "the median of all six"
    assert Pace().guess("otflow 8gaussians seed 0") is None
    waiting = ["otflow 8gaussians seed 5", "ffjord 8gaussians seed 5"]
    running = [("ffjord 8gaussians seed 6", 30.0), ("otflow 8gaussians seed 6", 99.0)]
    assert pace.left(waiting, running, slots=2) == (10 + 100 + 70 + 0) / 2
    assert Pace().left(waiting, running, slots=2) is None
    assert Pace().left([], [], slots=1) == 0.0


@pytest.mark.parametrize(("seconds", "text"), [(45.4, "45 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"stub none seed {i}" for i in range(10)]
    with Board(cells) as board:
        board.began(0)
        board.show([Running(0, 1.0, "step 3")])
        board.ended(0, "ok", "stub none seed 0: ok", cached=False)
        board.ended(1, "crash", "stub none seed 1: crash (x)", cached=True)
        board.ended(2, "unfit", "stub none seed 2: unfit (y)", cached=False)
    assert capsys.readouterr().out.splitlines() == [
        "[ 1/10] stub none seed 0: ok",
        "[ 2/10] stub none seed 1: crash (x) [cached]",
        "[ 3/10] stub none seed 2: unfit (y)",
    ]
    assert board.summary([]) == "done 2, cached 1, failed 1, running 0, left 7"


def test_plain_lines_say_how_long_the_rest_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    with Board([f"otflow 8gaussians seed {i}" for i in range(4)], slots=2) as board:
        board.pace = learnt(otflow=10.0)
        board.began(0)
        board.began(1)
        board.show([Running(0, 4.0, ""), Running(1, 2.0, "")])
        board.ended(0, "ok", "a: ok", cached=False)
        board.ended(2, "ok", "c: ok", cached=True)
        board.show([Running(1, 4.0, "")])
        board.ended(1, "ok", "b: ok", cached=False)
        board.show([])
        board.ended(3, "ok", "d: ok", cached=False)
    assert capsys.readouterr().out.splitlines() == [
        "done 0, cached 0, failed 0, running 2, left 2, about 17 s to go",
        "[1/4] a: ok; about 14 s to go",
        "[3/4] c: ok [cached]",
        "[2/4] b: ok; about 5 s to go",
        "[4/4] d: ok",
    ]


def test_cells_that_end_together_are_not_left(capsys: pytest.CaptureFixture[str]) -> None:
    """As those of an array of Slurm do, between two looks; and of a sweep that is done there is nothing to say."""
    with Board([f"otflow 8gaussians seed {i}" for i in range(3)], slots=2) as board:
        board.pace = learnt(otflow=10.0)
        for i in (0, 1):
            board.began(i)
        board.show([Running(0, 4.0, ""), Running(1, 4.0, "")])
        board.ended(0, "ok", "a: ok", cached=False)
        board.began(2)
        board.ended(1, "ok", "b: ok", cached=False)
        board.ended(2, "ok", "c: ok", cached=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "[1/3] a: ok; about 8 s to go",
        "[2/3] b: ok; about 5 s to go",
        "[3/3] c: ok",
    ]
    with Board(["stub none seed 0", "stub none seed 1"]) as board:
        for i in (0, 1):
            board.ended(i, "ok", "ok", cached=True)
        board.show([])
    assert capsys.readouterr().out.splitlines() == ["[1/2] ok [cached]", "[2/2] ok [cached]"]


def test_a_live_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()

    def terminal(**given: Any) -> Console:
        return Console(file=screen, force_terminal=True, width=100, color_system=None)

    monkeypatch.setattr("rich.console.Console", terminal)
    with Board(["otflow 8gaussians seed 0", "otflow 8gaussians seed [1]"]) as board:
        board.pace = learnt(otflow=10.0)
        board.began(0)
        board.show([Running(0, 4.0, "otflow 8gaussians seed 0: step 3, NLL 2.5 [red]")])
        board.ended(0, "ok", "otflow 8gaussians seed 0: ok [red]", cached=False)
    shown = screen.getvalue()
    assert "done 0, cached 0, failed 0, running 1, left 1, about 16 s to go" in shown
    assert "otflow 8gaussians seed 0  4 s  step 3, NLL 2.5 [red]" in shown
    assert "[1/2] otflow 8gaussians seed 0: ok [red]\n" in shown


def test_where_nobody_reads_the_process_is_quiet_and_goes_on() -> None:
    script = "from bench.board import say; input(); say('a'); print('b', flush=True); say('c')"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        assert one.stderr is not None
        one.stdout.close()
        one.stdin.write(b"\n")
        one.stdin.close()
        assert one.stderr.read() == b""
        assert one.wait(30) == 0


VANISHING = """
import sys
from bench.board import Board, Running
with Board(["stub none seed 0", "stub none seed 1"]) as board:
    board.began(0)
    board.show([Running(0, 1.0, "step 3")])
    sys.stdin.read()  # until the terminal is gone
    board._next = 0.0
    board.show([Running(0, 2.0, "step 4")])
    board.ended(0, "ok", "stub none seed 0: ok", cached=False)
    assert board.counts["done"] == 1
"""


def test_a_terminal_that_is_gone_ends_no_sweep() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", VANISHING]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = b""
        while b"step 3" not in shown:
            shown += os.read(ours, 4096)
        os.close(ours)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")

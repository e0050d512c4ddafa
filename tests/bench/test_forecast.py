"""What a sweep would do, from hand-made records."""

from pathlib import Path
from typing import Any

import pytest

from bench import forecast, record
from bench.forecast import Cell, Past
from tests.bench.fake_records import make, store

SPENT = {"fit_seconds": 40.0, "wall_seconds": 70.0, "peak_bytes": 3e8}  # of a budget of 60 s


def cell(config: dict[str, Any], folder: Path) -> Cell:
    return Cell(config, folder, folder / "checkpoints" / "x.pt")


def config(solver: str = "otflow", dataset: str = "moons", seconds: float | None = 100.0) -> dict[str, Any]:
    budget = {"seconds": seconds, "steps": None, "evaluations": None, "target": None}
    return make(solver, dataset, config={"budget": budget})["config"]


def test_seconds_are_the_share_of_the_budget_and_what_its_like_took_besides() -> None:
    known = Past([make("otflow", "moons", cost=SPENT), make("ffjord", "moons", cost={**SPENT, "wall_seconds": 50.0})])
    assert known.seconds(config()) == pytest.approx(100 * 40 / 60 + 30)
    assert known.seconds(config(seconds=None)) == 70.0
    assert known.seconds(config("rnode")) == 100 + 20  # the median of all: 30 and 10 besides
    assert known.seconds(config("rnode", seconds=None)) is None
    assert (known.bytes(config()), known.bytes(config("rnode"))) == (3e8, None)
    assert Past().seconds(config()) is None


def test_cells_that_are_done_begun_and_left(tmp_path: Path) -> None:
    done = make("otflow", "moons", cost=SPENT)
    store(tmp_path, [done])
    failed = make("otflow", "moons", 1, status="diverged", reason="underflow in dt")
    store(tmp_path, [failed])
    begun = config("ffjord")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{record.key(begun)}.pt").touch()
    cells = [Cell({**r["config"], "env": None, "status": r["status"]}, tmp_path, tmp_path) for r in (done, failed)]
    found = list(forecast.lines([*cells, cell(begun, tmp_path), cell(config(), tmp_path)], Past([done]), at_once=2))
    assert found[0].startswith("[1/4] otflow moons seed 0: ok")
    assert found[0].endswith("[done]")
    assert "diverged (underflow in dt) [done]" in found[1]
    assert found[2] == "[3/4] ffjord moons seed 0: begun, about 2 min, memory unknown"
    assert found[3] == "[4/4] otflow moons seed 0: left, about 97 s, 300 MB"
    assert found[4] == "cells 4: done 2, begun 1, left 1; about 2 min to go, 2 at a time, at most 300 MB each"


def test_what_no_record_tells_is_said(tmp_path: Path) -> None:
    found = list(forecast.lines([cell(config(), tmp_path)], Past()))
    assert found[0].endswith("left, time unknown, memory unknown")
    assert "and 1 cells of which no record tells" in found[1]

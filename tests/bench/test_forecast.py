"""What a sweep would do, from hand-made records."""

from pathlib import Path
from typing import Any

import pytest

from bench import forecast, record
from bench.forecast import Cell, Past
from bench.launcher import Job
from bench.process import Limits
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
    steps = config() | {"budget": {"seconds": None, "steps": 20}}
    assert known.seconds(steps) == pytest.approx(20 * known._learnt["step"]["otflow moons"][0] + 30)
    assert known.seconds(steps | {"solver": config("rnode")["solver"]}) is None


def test_cells_that_are_done_begun_and_left(tmp_path: Path) -> None:
    done = make("otflow", "moons", cost=SPENT)
    store(tmp_path, [done])
    failed = make("otflow", "moons", 1, status="diverged", reason="underflow in dt")
    store(tmp_path, [failed])
    begun = config("ffjord")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"{record.key(begun)}.pt").touch()
    cells = [Cell(r["config"], tmp_path, tmp_path) for r in (done, failed)]
    found = list(forecast.lines([*cells, cell(begun, tmp_path), cell(config(), tmp_path)], Past([done]), at_once=2))
    assert found == [
        "solver  dataset  cells  done  failed  to go         time   memory",
        "otflow  moons        3     1       1      1   about 97 s   300 MB",
        "ffjord  moons        1     0       0      1  about 2 min  unknown",
        "cells 4: done 1, failed 1, begun 1, left 1; about 2 min to go, 2 at a time, at most 300 MB each",
    ]


def test_a_table_has_a_row_for_all_seeds_and_no_column_of_what_nobody_knows(tmp_path: Path) -> None:
    cells = [cell({**config(), "seed": seed}, tmp_path) for seed in range(1000)]
    found = list(forecast.lines([*cells, cell(config("ffjord"), tmp_path)], Past()))
    assert found == [
        "solver  dataset  cells  done  failed  to go                  time",
        "otflow  moons     1000     0       0   1000  1000 of unknown time",
        "ffjord  moons        1     0       0      1     1 of unknown time",
        "cells 1001: left 1001; 1001 of unknown time to go, 1 at a time",
    ]


def test_a_cell_that_two_suites_name_is_told_once(tmp_path: Path) -> None:
    one, other = (Job(config(name), (), tmp_path, tmp_path / "x.pt", Limits(None, None)) for name in ("rnode", "cfm"))
    *_, summary = forecast.of_jobs([one, other, one], 1)
    assert summary.startswith("cells 2: left 2;")


def test_time_that_is_known_of_some(tmp_path: Path) -> None:
    known = Past([make("otflow", "moons", cost=SPENT)])
    cells = [cell(config(), tmp_path), cell(config("ffjord", seconds=None), tmp_path)]
    assert list(forecast.lines(cells, known))[-1].startswith(
        "cells 2: left 2; about 97 s and 1 of unknown time to go, 1 at a time"
    )


def test_what_lies_in_the_place_of_a_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{record.key(config())}.json"
    path.write_text("{")
    _, row, named, summary = forecast.lines([cell(config(), tmp_path)], Past())
    assert row.split() == ["otflow", "moons", "1", "0", "1", "0"]
    assert named.startswith(f"in the place of a record: {path}: not a record")
    assert summary.startswith("cells 1: failed 1; about 0 s to go")

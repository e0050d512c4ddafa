"""What can be told of a sweep on a cluster without one; tests/slurm has a real one."""

from pathlib import Path
from typing import Any

import pytest

from bench import cluster, record
from bench.board import Board
from bench.process import GIGABYTE
from bench.record import BadInput
from hydra_plugins.cluster import SlurmLauncher
from tests.bench.test_launcher import job


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("mem_gb", wrong) for wrong in ("8G", -1, True, float("inf"))),
        *(("timeout_min", wrong) for wrong in ("1:00:00", 0, 2, 2.5)),
        *(("cpus_per_task", wrong) for wrong in ("two", 0, None)),
        *(("array_parallelism", wrong) for wrong in ("all", 0)),
        ("parameters", "abc"),
    ],
)
def test_what_slurm_cannot_be_asked_for_is_said_in_a_line(name: str, value: Any) -> None:
    with pytest.raises(BadInput, match=rf"^hydra\.launcher\.{name} must be .*, not {value!r}$"):
        SlurmLauncher(**{name: value}).jobs([])


@pytest.mark.parametrize(
    ("mem_gb", "asked", "limit"), [(None, None, None), (0, "0M", None), (8, "8192M", 7.2), (0.5, "512M", 0.45)]
)
def test_memory(
    mem_gb: float | None, asked: str | None, limit: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """0 is Slurm's word for all that a node has."""
    requests: list[cluster.Request] = []
    monkeypatch.setattr(cluster, "sweep", lambda jobs, module, request: requests.append(request) or ["ok"])
    launcher = SlurmLauncher(mem_gb=mem_gb)
    assert launcher.jobs([]) == []
    assert launcher._memory() == (None if limit is None else pytest.approx(limit * GIGABYTE))
    launcher.sweep([job(tmp_path)])
    assert requests[0].parameters.get("mem") == asked


def test_a_queue_that_does_not_answer_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = job(tmp_path)
    asked: list[None] = []

    def silent() -> None:
        asked.append(None)
        if len(asked) == 3:
            record.write(one.runs, record.new(one.config, "ok", "", "2000-01-01"))

    monkeypatch.setattr(cluster, "queue", silent)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.0)
    statuses: dict[int, str] = {}
    with Board([one.title]) as board:
        word = cluster.Word([one], cluster.LAUNCHER, board)
        cluster._wait([one], {record.key(one.config): "7"}, board, word, statuses, [])
    assert statuses == {0: "ok"}
    assert capsys.readouterr().out.splitlines() == [cluster.SILENT, "[1/1] stub none seed 0: ok"]

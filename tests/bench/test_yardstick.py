"""The yardstick and what is measured in turn with it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from bench import yardstick
from bench.yardstick import Comparison, Product, Yardstick, interleaved


def test_flop_of_products():
    assert Product(2, 3, 5).flop == 60
    assert Yardstick([Product(2, 3, 5, 4), Product(1, 1, 1)]).flop == 242


class Counting:
    """A clock on which every product takes a second."""

    now = begin = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        self.begin = self.now
        yield
        self.last = self.now - self.begin


def test_seconds_are_those_of_each_product_times_its_count(monkeypatch):
    calls, clock = [], Counting()

    def mm(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        calls.append((tuple(a.shape), tuple(b.shape), tuple(out.shape)))
        clock.now += 1.0

    stick = Yardstick([Product(2, 3, 4, 5), Product(10, 10, 10, 1000)])
    stick.clock = clock
    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(yardstick, "BURST", 4000.0)  # two of the second product
    assert stick.seconds() == 5.0 + 1000.0
    assert calls == [((2, 3), (3, 4), (2, 4))] * 5 + [((10, 10), (10, 10), (10, 10))] * 2


def test_measurements_take_turns():
    order = []

    def measured(name: str, seconds: float) -> float:
        order.append(name)
        return seconds

    found = interleaved(lambda: measured("a", 3.0), lambda: measured("b", 2.0), 4)
    assert "".join(order) == "ab" + "abbaabba"
    assert found == Comparison([3.0] * 4, [2.0] * 4)
    assert found.ratio().value == pytest.approx(1.5)


def test_the_table_of_a_file(tmp_path, monkeypatch, capsys):
    info = {
        "value": 1.234,
        "interval": [1.1, 1.3],
        "must": 2.5,
        "aim": 1.7,
        "gflop": 4.45,
        "seconds": 0.1,
        "threads": 2,
    }
    results = {
        "machine_info": {"machine": "x86_64", "cpu": {"brand_raw": "a processor"}},
        "commit_info": {"id": "0123456789abcdef"},
        "benchmarks": [{"name": "test_step", "extra_info": info}, {"name": "test_other", "extra_info": {}}],
    }
    (tmp_path / "speed.json").write_text(json.dumps(results))
    monkeypatch.setattr(sys, "argv", ["yardstick", str(tmp_path / "speed.json")])
    assert yardstick.main() == 0
    printed = capsys.readouterr().out
    assert "a processor, threads 2, commit 0123456789ab" in printed
    assert all(word in printed for word in ("step", "1.23", "1.1 to 1.3", "2.5", "1.7", "4.45", "0.1"))
    assert "other" not in printed


@pytest.mark.parametrize(
    ("info", "line"),
    [
        ({"value": 1.26, "must": 1.25}, "step[toy]: 1.26, and must reach 1.25"),
        ({"value": float("nan"), "must": 1.25}, "step[toy]: nan, and must reach 1.25"),
        ({}, "nothing was measured"),
    ],
)
def test_what_misses_its_mark_fails_with_its_name(info, line, tmp_path, monkeypatch, capsys):
    results = {
        "machine_info": {"machine": "x86_64", "cpu": {}},
        "commit_info": {"id": "0123456789abcdef"},
        "benchmarks": [{"name": "test_step[toy]", "extra_info": info}],
    }
    (tmp_path / "speed.json").write_text(json.dumps(results))
    monkeypatch.setattr(sys, "argv", ["yardstick", str(tmp_path / "speed.json")])
    assert yardstick.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == line
    info.update(value=1.25, must=1.25)
    (tmp_path / "speed.json").write_text(json.dumps(results))
    assert yardstick.main() == 0


def test_a_file_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["yardstick", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit):
        yardstick.main()
    assert "make speed" in capsys.readouterr().err

"""Counts and slopes of the scaling measurements."""

from dataclasses import replace

import pytest
import torch

from bench import scaling
from bench.scaling import Row, Shape, Traffic, measure, slope

SMALL = Shape(d=3, width=8, batch=32, steps=1)


def test_traffic_is_what_operations_take_and_give():
    a, b = torch.zeros(3, 4), torch.zeros(4, 5)
    with Traffic() as traffic:
        a.T.T.view(3, 4) @ b
    assert traffic.bytes == 8 * (12 + 20 + 15)
    assert traffic.flops == 120
    out = torch.zeros(3, 5)
    with Traffic() as traffic:
        torch.mm(a, b, out=out)
    assert traffic.bytes == 8 * (12 + 20 + 15)  # what is overwritten is not read


def test_work_of_a_step_grows_in_proportion():
    one, two = measure([("batch", SMALL), ("batch", replace(SMALL, batch=64))], rounds=1)
    assert [row.shape.batch for row in (one, two)] == [32, 64]
    assert two.flop == pytest.approx(2 * one.flop, rel=0.02)  # what depends on the weights alone stays
    assert one.bytes < two.bytes < 2 * one.bytes
    assert one.seconds > 0


def test_slopes(monkeypatch):
    monkeypatch.setattr(scaling, "SIZES", {"d": (1, 2), "width": (1, 2), "batch": (1, 2), "steps": (1, 2)})
    rows = [
        Row(name, replace(SMALL, **{name: size}), 0.1 * size**power, 100, 10)
        for name, power in {"d": 1, "width": 2, "batch": 0.5, "steps": 1}.items()
        for size in (2, 4, 8)
    ]
    assert slope(rows, "width") == pytest.approx(2)
    assert slope(rows, "batch") == pytest.approx(0.5)

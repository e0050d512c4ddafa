"""Labels of logarithmic axes: some, and none over another."""

import matplotlib as mpl

mpl.use("Agg")

import pytest
from matplotlib.figure import Figure

from bench.report.axes import logarithmic


@pytest.mark.parametrize("high", [1.06, 1.37, 2.2, 4.9, 8.0, 29.0, 1e3, 1e9])
@pytest.mark.parametrize("low", [1.03, 0.04, 370.0])
def test_there_are_two_labels_at_least_and_none_lies_over_another(low, high):
    figure = Figure(figsize=(2.7, 1.8), layout="constrained")
    axes = figure.subplots()
    axes.loglog([low, low * high], [low, low * high])
    logarithmic(axes.xaxis, axes.yaxis)
    figure.draw_without_rendering()
    for axis in (axes.xaxis, axes.yaxis):
        ends = sorted(axis.get_view_interval())
        ticks = [t for t in axis.get_major_ticks() + axis.get_minor_ticks() if ends[0] <= t.get_loc() <= ends[1]]
        boxes = [t.label1.get_window_extent() for t in ticks if t.label1.get_text()]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

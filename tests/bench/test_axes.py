"""Labels of logarithmic axes: some, and none over another."""

import matplotlib as mpl

mpl.use("Agg")

import pytest
from matplotlib.figure import Figure

from bench.report.axes import logarithmic
from tests.bench.labels import assert_legible


@pytest.mark.parametrize("high", [1.06, 1.37, 2.2, 4.9, 8.0, 29.0, 1e3, 1e9])
@pytest.mark.parametrize("low", [1.03, 0.04, 370.0])
def test_there_are_two_labels_at_least_and_none_lies_over_another(low, high):
    figure = Figure(figsize=(2.7, 1.8), layout="constrained")
    axes = figure.subplots()
    axes.loglog([low, low * high], [low, low * high])
    logarithmic(axes.xaxis, axes.yaxis)
    figure.draw_without_rendering()
    assert_legible(figure)

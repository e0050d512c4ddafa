"""Names of lines: at their ends where they fit, else in a legend; never on one another, on a line or off the figure."""

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from bench.report import figures, labels, quality, styles
from bench.report.venues import VENUES
from tests.bench.test_report import group, three


def drawn(*panels, width=5.5):
    """A figure with a panel for each {solver: (x, y)}, its lines named."""
    figure, axes = plt.subplots(1, len(panels), figsize=(width, 2), squeeze=False, layout="constrained")
    for axis, lines in zip(axes.flat, panels, strict=True):
        for solver, line in lines.items():
            axis.plot(*line, label=solver, color=styles.style(solver).colour, marker="o", markersize=4)
    labels.name_lines(figure, axes, "otflow")
    figure.draw_without_rendering()
    figures.close(figure)
    return figure


@pytest.fixture(autouse=True, params=[None, "icml", "jmlr"])
def _theme(request):
    with plt.rc_context():
        figures.use_theme(VENUES[request.param] if request.param else None)
        yield


FAN = {name: ((0, 1, 2), (0, i, 2 * i)) for i, name in enumerate(("otflow", "ffjord", "$x_{$"))}


def texts(axis):
    return {text.get_text(): text for text in axis.texts}


def test_each_line_has_its_name_at_its_end():
    figure = drawn(FAN, {"otflow": ((0, 1), (1, 1))})
    assert figure.legends == []
    left, right = figure.axes
    assert (set(texts(left)), set(texts(right))) == (set(FAN), {"otflow"})
    for axis in figure.axes:
        for line in axis.lines:
            text = texts(axis)[line.get_label()]
            x, y = axis.transData.transform(line.get_xydata()[-1])
            box = text.get_window_extent()
            assert 0 < box.x0 - x < 0.15 * figure.dpi, "beside the end, clear of its marker"
            assert box.y0 < y < box.y1
            assert box.x1 <= figure.bbox.x1
    gap = right.get_position().x0 * figure.bbox.width
    assert all(text.get_window_extent().x1 < gap for text in left.texts)


@pytest.mark.parametrize(
    "panel",
    [
        {"otflow": ((0, 1), (0, 1)), "ffjord": ((0, 1), (0, 1.01)), "rnode": ((0, 1), (0, -9))},  # ends are near
        {"otflow": ((0, 1), (1, 1)), "ffjord": ((0, 9), (0.8, 2.2))},  # a line through a name
    ],
)
def test_where_a_name_would_be_covered_there_is_a_legend_for_all(panel):
    figure = drawn(FAN, panel)
    assert not any(texts(axis) for axis in figure.axes)
    (only,) = figure.legends
    assert [text.get_text() for text in only.get_texts()] == [
        name.replace("$", r"\$") for name in ("otflow", *sorted({*FAN, *panel} - {"otflow"}))
    ]


def test_a_key_has_the_colour_of_its_solver_where_its_line_is_grey():
    figure, axes = plt.subplots(squeeze=False)
    axes[0, 0].plot([0, 1], color="0.7", marker="s", linestyle="--", label="ffjord (b)")
    labels.legend(figure, axes, "otflow")
    (key,) = figure.legends[0].legend_handles
    assert (key.get_color(), key.get_marker(), key.get_linestyle()) == (styles.style("ffjord").colour, "s", "--")
    figures.close(figure)


def test_a_legend_of_long_names_stays_in_the_figure():
    names = [f"otflow_warm_of_{i} (a)" for i in range(5)]
    (legend,) = drawn(dict.fromkeys(names, ((0, 1), (0, 1)))).legends
    box, room = legend.get_window_extent(), legend.figure.bbox
    assert room.x0 <= box.x0 < box.x1 <= room.x1
    assert [text.get_text() for text in legend.get_texts()] == names
    assert len({text.get_window_extent().y0 for text in legend.get_texts()}) > 1, "in rows"


def test_curves_that_end_apart_are_named_in_the_figure_of_quality():
    records = [*three("otflow", (1, 2, 3), floor=1.0), *three("ffjord", (4, 5, 6), floor=3.0)]
    (one,) = quality.figures(group(records), "otflow")
    assert one.figure.legends == []
    assert {"otflow", "ffjord"} <= set(texts(one.figure.axes[0]))
    figures.close(one.figure)
    records += [run for name in ("rnode", "cfm", "nsf") for run in three(name, (4, 5, 6), floor=3.0)]
    (one,) = quality.figures(group(records), "otflow")
    assert len(one.figure.legends[0].get_texts()) == 5
    figures.close(one.figure)


def test_ends_are_to_the_right_whatever_the_order_of_points():
    figure = drawn({"otflow": ((2, 1, 0), (5, 6, 7))})
    assert texts(figure.axes[0])["otflow"].xy == (2, 5)


def test_a_settled_figure_is_drawn_once_a_file(tmp_path, monkeypatch):
    figure = drawn(FAN)
    figures.settle(figure)
    place, calls, draw = figure.axes[0].get_position().bounds, [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: calls.append(1) or draw(self, renderer))
    figure.savefig(tmp_path / "a.png")
    assert len(calls) == 1
    assert figure.axes[0].get_position().bounds == place

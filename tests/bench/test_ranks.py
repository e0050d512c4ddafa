"""Ranks and profiles across problems: held to bench.stats, and read off the drawn figures."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from bench import stats
from bench.report import figures, ranks
from bench.report.standing import Standing
from tests.bench import fake_records as fake
from tests.bench.test_report import group, three
from tests.bench.test_standing import SECONDS, sweep


@pytest.fixture(autouse=True)
def _theme():
    with plt.rc_context():
        figures.use_theme()
        yield


def test_nothing_is_ranked_of_one_problem_or_one_solver():
    one = [*three("otflow", (1, 2)), *three("ffjord", (1, 2))]
    assert list(ranks.all_of(group(one), "otflow")) == []
    alone = [*three("otflow", (1, 2), dataset="a"), *three("otflow", (1, 2), dataset="b")]
    baselines = [fake.make("moments", name, seed) for name in "ab" for seed in range(2)]
    assert list(ranks.all_of(group([*alone, *baselines]), "otflow")) == []


def test_where_nobody_reaches_a_target_there_is_no_profile():
    once = [{"step": i, "seconds": float(i), "valid_nll": v} for i, v in enumerate((9.0, 1.0, 9.0), start=1)]
    missed = [fake.make(s, d, 0, trace=once) for s in ("otflow", "ffjord") for d in ("moons", "8gaussians")]
    (one,) = ranks.all_of(group(missed), "otflow")
    assert one.name == "ranks"
    figures.close(one.figure)


def test_the_figures_show_what_bench_stats_gives():
    ranked, profiled = ranks.all_of(group(sweep()), "otflow")
    (axis,) = ranked.figure.axes
    expected = [interval.value for interval in stats.mean_ranks(SECONDS, np.random.default_rng(0))]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["otflow", "ffjord", "rnode"]
    shown = [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 1]
    assert shown == pytest.approx(expected)
    assert shown == pytest.approx([4 / 3, 5 / 3, 3])
    (span,) = axis.patches
    assert span.get_width() == pytest.approx(stats.critical_difference(3, 3))
    left, right = profiled.figure.axes
    for axis, law, values in (
        (left, stats.performance_profile, SECONDS / SECONDS.min(0)),
        (right, stats.data_profile, SECONDS),
    ):
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == ["otflow", "ffjord", "rnode"]
        for i, line in enumerate(lines.values()):
            at, heights = line.get_data()
            np.testing.assert_allclose(heights, law(SECONDS, np.array(at))[i])
            assert {at[k] for k in line.get_markevery()} == set(values[i][np.isfinite(values[i])])
            assert max(at) > values[np.isfinite(values)].max()
    assert profiled.explored, "the page computes it for any target"
    assert not ranked.explored, "the page has no intervals of ranks of its own"
    for one in (ranked, profiled):
        figures.close(one.figure)


def test_names_on_the_axis_of_ranks_are_escaped_for_latex_once():
    found = Standing(["otflow_warm", "neural_hjb"], ["a", "b"], SECONDS[:2, :2], [], [], [])
    figure = ranks.mean_ranks(found, "").figure
    (axis,) = figure.axes
    beside = figure.add_subplot(1, 2, 2, sharey=axis)
    figures.for_latex(figure)
    figure.draw_without_rendering()
    for one in (axis, beside):
        assert {text.get_text() for text in one.get_yticklabels()} == {r"otflow\_warm", r"neural\_hjb"}
    figures.close(figure)

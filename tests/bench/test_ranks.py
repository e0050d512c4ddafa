"""Ranks and profiles across problems: held to bench.stats and to hand-made records, and read off the drawn figures."""

import numpy as np
import pytest

from bench import stats
from bench.report import figures, ranks
from tests.bench import fake_records as fake
from tests.bench.test_report import group, three


@pytest.fixture(autouse=True)
def _theme():
    figures.use_theme()


def sweep():
    """otflow, ffjord and rnode on three problems: medians 2, 4, 8; 3, 1, failed; 5, 10, void; enot on one of them."""
    records = [*three("otflow", (1, 2, 3), dataset="a"), *three("ffjord", (4, 4, 4), dataset="a")]
    records += [*three("rnode", (8, 8, 9), dataset="a"), *three("rnode", (1, 1), dataset="b")]
    records += [fake.make("rnode", "b", 2, status="diverged", reason="x")]
    records += [*three("otflow", (3, 3, 3), dataset="b"), *three("ffjord", (1, 1, 1), dataset="b")]
    records += [*three("otflow", (5, 5, 5), dataset="c"), *three("ffjord", (10, 10, 10), dataset="c")]
    records += [*three("rnode", (1, 1, 1), dataset="c", failed=["nll_effort"]), *three("enot", (1, 1, 1), dataset="c")]
    return [*records, *(fake.make("moments", name, seed) for name in "abc" for seed in range(3))]


SECONDS = np.array([[2.0, 3.0, 5.0], [4.0, 1.0, 10.0], [8.0, np.inf, np.inf]])


def test_seconds_are_medians_and_what_fails_or_is_void_is_infinite():
    found = ranks.standing(group(sweep()), "otflow")
    assert (found.solvers, found.problems) == (["otflow", "ffjord", "rnode"], ["a", "b", "c"])
    np.testing.assert_array_equal(found.seconds, SECONDS)
    assert (found.absent, found.refused) == (["enot"], [])
    assert "Not run on all of them: enot." in found.told


def test_the_most_pairs_of_solvers_and_problems_are_ranked():
    ran = {"a": {"x", "y"}, "b": {"x", "y", "z"}, "c": {"x", "z"}, "d": {"x", "y"}, "e": {"u"}}
    assert ranks.block(ran) == ({"x", "y"}, {"a", "b", "d"})
    assert ranks.block({"a": {"x", "y", "z"}, "b": {"x", "y", "z"}, "c": {"x", "y"}}) == ({"x", "y", "z"}, {"a", "b"})
    assert ranks.block({"a": {"x", "y"}, "b": {"x", "z"}}) == ranks.block({}) == (set(), set())


def test_what_is_unfair_is_not_ranked_and_named_until_allowed():
    records = [one for one in sweep() if "enot" not in one["config"]["solver"]["_target_"]]
    for one in records:
        solver = one["config"]["solver"]
        if one["config"]["dataset"]["_target_"] == "fake.a":
            solver["atol"] = 1e-3 if "ffjord" in solver["_target_"] else 1e-5
    found = ranks.standing(group(records), "otflow")
    assert (found.problems, found.refused) == (["b", "c"], ["a (runs differ in tolerance)"])
    np.testing.assert_array_equal(found.seconds, SECONDS[:, 1:])
    assert ranks.standing(group(records, "tolerance"), "otflow").problems == ["a", "b", "c"]


def test_nothing_is_ranked_of_one_problem_or_one_solver():
    one = [*three("otflow", (1, 2)), *three("ffjord", (1, 2))]
    assert list(ranks.all_of(group(one), "otflow")) == []
    alone = [*three("otflow", (1, 2), dataset="a"), *three("otflow", (1, 2), dataset="b")]
    baselines = [fake.make("moments", name, seed) for name in "ab" for seed in range(2)]
    assert list(ranks.all_of(group([*alone, *baselines]), "otflow")) == []


def test_where_nobody_reaches_a_target_there_is_no_profile():
    missed = [fake.make(s, d, 0, failed=["nll_effort"]) for s in ("otflow", "ffjord") for d in ("moons", "8gaussians")]
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
    for one in (ranked, profiled):
        assert one.explored, "the page computes it for any target"
        figures.close(one.figure)

"""Statistics against values worked out by hand, and intervals against simulated coverage."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu, trim_mean

from bench import stats
from bench.stats import Interval


@pytest.fixture
def gen() -> np.random.Generator:
    return np.random.default_rng(0)


def test_medians(gen):
    assert stats.median(np.array([3.0, 1.0, 2.0]), gen) == Interval(2.0, 1.0, 3.0)
    assert stats.median(np.array([4.0, 1.0, 2.0, 3.0]), gen).value == 2.5


def test_the_interval_of_a_median_is_that_of_its_order_statistics(gen):
    """P(median* <= x_(k)) is a binomial probability: of 21 values the 95 % interval is x_(7) to x_(15)."""
    values = np.arange(1.0, 22.0)
    # 11 or more of 21 draws among the lowest k
    cdf = [binom.sf(10, 21, k / 21) for k in range(1, 22)]
    low, high = (1 + np.searchsorted(cdf, q) for q in (0.025, 0.975))
    assert (low, high) == (7, 15)
    assert stats.median(values, gen) == Interval(11.0, low, high)


@pytest.mark.parametrize("sizes", [(1, 2), (5, 4), (300, 257, 300)])
def test_medians_are_those_of_the_resamples(sizes):
    """To the digit, ties included, and the rng moves on as if it had drawn; after the first time from the cache."""
    fill = np.random.default_rng(1)
    strata = [np.round(fill.normal(size=n), digits) for n, digits in zip(sizes, (1, 9, 1), strict=False)]
    for level in (0.95, 0.5, 0.1):
        slow, fast = np.random.default_rng(7), np.random.default_rng(7)
        expected = stats.bootstrap(lambda *rows: sum(np.median(row, -1) for row in rows), strata, slow, level)
        assert stats.of_medians(lambda *medians: sum(medians), strata, fast, level) == expected
        assert slow.random() == fast.random()


def test_one_value_has_no_interval(gen):
    value, low, high = stats.median(np.array([5.0]), gen)
    assert value == 5
    assert math.isnan(low)
    assert math.isnan(high)


def test_intervals_depend_on_rng_and_level(gen):
    values = gen.normal(size=20)
    same = [stats.median(values, np.random.default_rng(1)) for _ in range(2)]
    assert same[0] == same[1]
    # of means, which are not a handful of values as medians are
    means = [stats.bootstrap(lambda x: x.mean(-1), [values], np.random.default_rng(seed)) for seed in (1, 2)]
    assert means[0].low != means[1].low
    narrow = stats.bootstrap(lambda x: x.mean(-1), [values], np.random.default_rng(1), level=0.5)
    assert means[0].low < narrow.low < narrow.value < narrow.high < means[0].high


def test_the_interval_of_a_mean_has_its_standard_error(gen):
    values = gen.normal(size=400)
    _, low, high = stats.bootstrap(lambda x: x.mean(-1), [values], gen)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)


def test_ratios(gen):
    a, b = np.array([6.0, 8.0, 100.0]), np.array([2.0, 1.0])
    found = stats.ratio_of_medians(a, b, gen)
    assert found.value == pytest.approx(8 / 1.5)
    assert (found.low, found.high) == (3, 100)
    paired = stats.paired_ratio(np.array([2.0, 30.0, 800.0]), np.array([1.0, 10.0, 100.0]), gen)
    assert paired == pytest.approx((3, 2, 8))


def test_pairs_cancel_the_drift_of_the_machine(gen):
    drift = np.exp(np.cumsum(gen.normal(scale=0.1, size=40)))
    a, b = 3 * drift * np.exp(gen.normal(scale=0.01, size=40)), drift
    paired, apart = stats.paired_ratio(a, b, gen), stats.ratio_of_medians(a, b, gen)
    assert paired.value == pytest.approx(3, rel=0.01)
    assert paired.high - paired.low < 0.1 * (apart.high - apart.low)


def test_geometric_mean_of_ratios(gen):
    a = [np.array([8.0, 8.0]), np.array([1.0, 2.0, 30.0])]
    b = [np.array([1.0]), np.array([4.0, 4.0])]
    found = stats.geometric_mean_ratio(a, b, gen)
    assert found.value == pytest.approx(math.sqrt(8 * 0.5))
    # only the seeds of the second dataset scatter: its median runs from 1 to 30
    assert found.low == pytest.approx(math.sqrt(8 / 4))
    assert found.high == pytest.approx(math.sqrt(8 * 30 / 4))
    assert stats.geometric_mean_ratio(b, a, gen).value == pytest.approx(1 / found.value)


def test_resampling_stays_within_datasets(gen):
    """Datasets of constant scores have no spread, however far they are apart."""
    scores = np.array([[1.0, 1.0], [2.0, 2.0], [300.0, 300.0]])
    low, high = stats.bootstrap(lambda *rows: np.concatenate(rows, -1).mean(-1), scores, gen)[1:]
    assert low == high == 101


def test_interquartile_mean(gen):
    scores = gen.normal(size=(4, 5))
    assert stats.interquartile_mean(scores, gen).value == pytest.approx(trim_mean(scores, 0.25, axis=None))
    assert stats.interquartile_mean([np.array([1.0, 2.0, 3.0, 400.0])], gen).value == 2.5
    ragged = [np.array([1.0, 9.0]), np.array([2.0]), np.array([3.0])]
    assert stats.interquartile_mean(ragged, gen).value == 2.5


def test_probability_of_improvement(gen):
    a, b = [np.array([1.0, 2.0])], [np.array([2.0, 3.0])]
    assert stats.probability_of_improvement(a, b, gen).value == (3 + 0.5) / 4
    assert stats.probability_of_improvement(b, a, gen).value == 0.5 / 4
    x, y = gen.normal(size=(2, 6)), gen.normal(size=(2, 7))
    expected = np.mean([mannwhitneyu(q, p).statistic / 42 for p, q in zip(x, y, strict=True)])
    assert stats.probability_of_improvement(x, y, gen).value == pytest.approx(expected)
    low, high = stats.probability_of_improvement([np.zeros(5)], [np.ones(5)], gen)[1:]
    assert low == high == 1


def test_performance_profile():
    seconds = np.array([[1.0, 4.0, np.inf, np.inf], [2.0, 2.0, 5.0, np.inf]])
    found = stats.performance_profile(seconds, np.array([1.0, 1.9, 2.0, 1e9]))
    np.testing.assert_array_equal(found, [[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 0.75, 0.75]])


def test_time_to_target_wants_two_in_a_row():
    seconds = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    values = np.array([5.0, 1.0, 3.0, 2.0, 1.0])
    assert stats.time_to_target(seconds, values, 2.0) == 4
    assert stats.time_to_target(seconds, values, 3.0) == 2
    assert stats.time_to_target(seconds, values, 1.0) is None  # reached twice, not twice in a row
    assert stats.time_to_target(seconds, np.array([1, np.nan, 1, 1, 1.0]), 1.0) == 3
    assert stats.time_to_target(np.array([]), np.array([]), 1.0) is None


def test_the_only_validation_of_a_run_needs_no_second():
    assert stats.time_to_target(np.array([3.0]), np.array([1.0]), 1.0) == 3
    assert stats.time_to_target(np.array([3.0]), np.array([1.1]), 1.0) is None
    assert stats.time_to_target(np.array([3.0, 4.0]), np.array([2.0, 1.0]), 1.0) is None


def test_common_target_is_the_worst_solvers_median():
    curves = {
        "a": [np.array([3.0, 1.0, 2.0]), np.array([1.5]), np.array([9.0])],
        "b": [np.array([2.0]), np.array([2.5, np.nan]), np.array([np.nan])],
        "c": [np.array([np.nan]), np.array([])],
        "d": [],
    }
    assert stats.common_target(curves) == pytest.approx(2.52)
    assert stats.common_target({"a": curves["a"]}, slack=0.0) == 1.5
    assert stats.common_target({"c": curves["c"]}) is None


def test_not_converged():
    seconds = np.arange(1.0, 9.0)  # the last quarter begins after 6
    flat = np.array([5, 4, 3, 2, 1, 1, 1.5, 0.99])
    assert not stats.not_converged(seconds, flat)
    assert stats.not_converged(seconds, flat, gain=0.005)
    falling = np.array([5, 4, 3, 2, 1, 1, 1, 0.97])
    assert stats.not_converged(seconds, falling)
    assert stats.not_converged(np.array([8.0]), np.array([1.0]))
    assert stats.not_converged(seconds, np.full(8, np.nan))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: stats.median(np.array([]), g), "non-empty"),
        (lambda g: stats.median(np.array([1.0, np.nan]), g), "NaN"),
        (lambda g: stats.ratio_of_medians(np.array([1.0]), np.array([0.0]), g), "above 0"),
        (lambda g: stats.ratio_of_medians(np.array([np.inf]), np.array([1.0]), g), "penalise"),
        (lambda g: stats.paired_ratio(np.ones(2), np.ones(3), g), "as many of both"),
        (lambda g: stats.geometric_mean_ratio(np.ones((2, 2)), np.ones((3, 2)), g), "same datasets"),
        (lambda g: stats.probability_of_improvement(np.ones((2, 2)), np.ones((3, 2)), g), "same datasets"),
        (lambda g: stats.performance_profile(np.array([[np.nan]]), np.array([1.0])), "as inf"),
    ],
)
def test_bad_input_is_refused(call, message, gen):
    with pytest.raises(ValueError, match=message):
        call(gen)


def lognormal(gen: np.random.Generator) -> np.ndarray:
    return np.exp(gen.normal(size=(4, 20)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "truth"),
    [
        (lambda g: stats.median(g.normal(size=40), g), 0.0),
        (lambda g: stats.paired_ratio(2 * np.exp(g.normal(size=40)), np.exp(g.normal(size=40)), g), 2.0),
        (lambda g: stats.ratio_of_medians(3 + g.normal(size=40) / 3, 1 + g.normal(size=40) / 9, g), 3.0),
        (lambda g: stats.geometric_mean_ratio(2 * lognormal(g), lognormal(g), g), 2.0),
        (lambda g: stats.interquartile_mean(g.normal(size=(4, 15)), g), 0.0),
        (lambda g: stats.probability_of_improvement(g.normal(size=(4, 15)), g.normal(size=(4, 15)), g), 0.5),
    ],
)
def test_95_percent_intervals_cover_the_truth(make, truth, gen):
    """500 simulations: a true coverage of 95 % lies within 3 % of it; medians, being coarse, cover a bit more."""
    intervals = [make(gen) for _ in range(500)]
    coverage = np.mean([found.low <= truth <= found.high for found in intervals])
    assert 0.915 <= coverage <= 0.985


def test_statistics_import_neither_torch_nor_pandas():
    code = "import sys, bench.stats; sys.exit(any(m in sys.modules for m in ('torch', 'pandas')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])

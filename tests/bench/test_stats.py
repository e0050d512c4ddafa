"""Statistics against values worked out by hand, and intervals against simulated coverage."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu, norm, rankdata, studentized_range, trim_mean, ttest_1samp, ttest_ind

from bench import stats
from bench.queries import MEANS, worst
from bench.stats import Interval


@pytest.fixture
def gen() -> np.random.Generator:
    return np.random.default_rng(0)


def test_medians(gen):
    assert stats.median(np.array([4.0, 1.0, 2.0, 3.0]), gen).value == 2.5
    assert stats.median(np.array([3.0, 1.0, 2.0, 5.0, 4.0]), gen) == Interval(3.0, 1.0, 5.0)


def test_of_few_values_the_interval_is_students(gen):
    """4.3027 is t of two degrees of freedom at 97.5 %, in any table."""
    found = stats.median(np.array([1.0, 2.0, 3.0]), gen)
    assert found == pytest.approx((2, 2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)), rel=1e-4)
    seconds = stats.median(np.exp([1.0, 2.0, 3.0]), gen, log=True)
    assert seconds == pytest.approx(np.exp(found))
    apart = stats.ratio_of_medians(np.exp([1.0, 2.0, 3.0]), np.exp([0.0, 2.0, 5.0, 1.0]), gen)
    expected = ttest_ind([1.0, 2.0, 3.0], [0.0, 2.0, 5.0, 1.0], equal_var=False).confidence_interval()
    assert apart[1:] == pytest.approx(np.exp([expected.low, expected.high]))
    skewed = stats.median(np.array([0.0, 0.0, 1e6]), gen, level=0.01)
    assert skewed.low == skewed.value == 0  # a mean's interval, widened to the median it is printed with


def test_the_interval_of_a_median_is_that_of_its_order_statistics(gen):
    """P(median* <= x_(k)) is a binomial probability: of 21 values the 95 % interval is x_(7) to x_(15)."""
    values = np.arange(1.0, 22.0)
    # 11 or more of 21 draws among the lowest k
    cdf = [binom.sf(10, 21, k / 21) for k in range(1, 22)]
    low, high = (1 + np.searchsorted(cdf, q) for q in (0.025, 0.975))
    assert (low, high) == (7, 15)
    assert stats.median(values, gen) == Interval(11.0, low, high)


@pytest.mark.parametrize("sizes", [(5, 6), (8, 5), (300, 257, 300)])
def test_medians_are_those_of_the_resamples(sizes):
    """To the digit, ties included, and the rng moves on as if it had drawn; after the first time from the cache."""
    fill = np.random.default_rng(1)
    strata = [np.round(fill.normal(size=n), digits) for n, digits in zip(sizes, (1, 9, 1), strict=False)]
    for level in (0.95, 0.5, 0.1):
        slow, fast = np.random.default_rng(7), np.random.default_rng(7)
        drawn = sum(np.median(row[slow.integers(len(row), size=(stats.DRAWS, len(row)))], -1) for row in strata)
        found = stats.contrast([1.0] * len(strata), strata, fast, level, log=False)
        assert found[1:] == tuple(np.quantile(drawn, ((1 - level) / 2, 1 - (1 - level) / 2)))
        assert slow.random() == fast.random()


def test_medians_far_from_the_middle_are_found(monkeypatch):
    monkeypatch.setattr(stats, "DEVIATIONS", 0.1)
    test_medians_are_those_of_the_resamples((300, 257, 300))


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


def test_resamples_of_few_scatter_too_little_and_are_expanded(gen):
    """Of normal data, the interval of a mean is then about as wide as Student's, which is exact."""
    found = np.array([_widths(gen.normal(size=8), gen) for _ in range(100)])
    assert np.median(found[:, 0] / found[:, 1]) == pytest.approx(1, abs=0.08)
    assert np.isnan(stats.bootstrap(lambda x: x.mean(-1), [np.arange(4.0)], gen).low)
    assert not np.isnan(stats.bootstrap(lambda x, y: x.mean(-1), [np.arange(3.0)] * 2, gen).low)


@pytest.mark.parametrize("sizes", [(1, 2), (5, 6, 40), (3, 3)])
def test_of_medians_the_bootstrap_is_that_of_the_rows(sizes, gen):
    rows = [gen.normal(size=n) for n in sizes]

    def of(medians):
        return np.max(medians, 0)

    plain = stats.bootstrap(lambda *r: of([np.median(x, -1) for x in r]), rows, np.random.default_rng(1))
    quick = stats.bootstrap_of_medians(lambda *medians: of(medians), rows, np.random.default_rng(1))
    np.testing.assert_array_equal(plain, quick)


def _widths(values, gen):
    _, low, high = stats.bootstrap(lambda x: x.mean(-1), [values], gen)
    student = ttest_1samp(values, 0).confidence_interval()
    return high - low, student.high - student.low


def test_ratios(gen):
    a, b = np.array([6.0, 8.0, 100.0]), np.array([2.0, 1.0])
    found = stats.ratio_of_medians(a, b, gen)
    assert found.value == pytest.approx(8 / 1.5)
    paired = stats.paired_ratio(np.array([2.0, 30, 800, 4, 5]), np.array([1.0, 10, 100, 1, 1]), gen)
    assert paired == pytest.approx((4, 2, 8))


def test_pairs_cancel_the_drift_of_the_machine(gen):
    drift = np.exp(np.cumsum(gen.normal(scale=0.1, size=40)))
    a, b = 3 * drift * np.exp(gen.normal(scale=0.01, size=40)), drift
    paired, apart = stats.paired_ratio(a, b, gen), stats.ratio_of_medians(a, b, gen)
    assert paired.value == pytest.approx(3, rel=0.01)
    assert paired.high - paired.low < 0.1 * (apart.high - apart.low)


def test_geometric_mean_of_ratios(gen):
    a = [np.full(5, 8.0), np.array([1.0, 2.0, 2.0, 2.0, 30.0])]
    b = [np.full(5, 1.0), np.full(5, 4.0)]
    found = stats.geometric_mean_ratio(a, b, gen)
    assert found.value == pytest.approx(math.sqrt(8 * 0.5))
    # only the seeds of the second dataset scatter: its median runs from 1 to 30
    assert found.low == pytest.approx(math.sqrt(8 / 4))
    assert found.high == pytest.approx(math.sqrt(8 * 30 / 4))
    assert stats.geometric_mean_ratio(b, a, gen).value == pytest.approx(1 / found.value)


def test_resampling_stays_within_datasets(gen):
    """Datasets of constant scores have no spread, however far they are apart."""
    scores = np.array([[1.0] * 3, [2.0] * 3, [300.0] * 3])
    low, high = stats.bootstrap(lambda *rows: np.concatenate(rows, -1).mean(-1), scores, gen)[1:]
    assert low == high == 101


def test_interquartile_mean_ratio(gen):
    a, b = np.exp(gen.normal(size=(4, 5))), np.exp(gen.normal(size=(4, 3)))
    logs = np.log(a[:, :, None] / b[:, None, :])
    found = stats.interquartile_mean_ratio(a, b, gen)
    assert found.value == pytest.approx(np.exp(trim_mean(logs, 0.25, axis=None)))
    back = stats.interquartile_mean_ratio(b, a, gen)
    assert back.value == pytest.approx(1 / found.value)
    ragged = [np.array([1.0, 400.0]), np.array([2.0])], [np.array([1.0]), np.array([1.0, 1.0])]
    assert stats.interquartile_mean_ratio(*ragged, gen).value == pytest.approx(2.0)
    with pytest.raises(ValueError, match="same datasets"):
        stats.interquartile_mean_ratio(a, b[:2], gen)


def test_of_many_runs_some_pairs_stand_for_all(gen):
    a, b = np.exp(gen.normal(size=(1, 400))), np.exp(gen.normal(size=(1, 300)))
    logs = np.log(a[0][:, None] / b[0])
    found = stats.interquartile_mean_ratio(a, b, gen)
    assert math.log(found.value) == pytest.approx(trim_mean(logs, 0.25, axis=None), abs=0.15)  # of a spread of 1.4


def test_no_order_of_seeds_changes_an_interquartile_mean_ratio(gen):
    """A seed pairs nothing: runs 10, 20, 40 of both are one and the same law, not quotients of 1 each."""
    a, b = np.array([[10.0, 20, 40]] * 4), np.array([[40.0, 10, 20]] * 4)
    found = [stats.interquartile_mean_ratio(a, other, np.random.default_rng(0)) for other in (a, b)]
    assert found[0].value == pytest.approx(found[1].value)
    assert all(one.low < 0.9 < 1.1 < one.high for one in found)


def test_probability_of_improvement(gen):
    a, b = [np.array([1.0, 2.0])], [np.array([2.0, 3.0])]
    assert stats.probability_of_improvement(a, b).value == (3 + 0.5) / 4
    assert stats.probability_of_improvement(b, a).value == 0.5 / 4
    x, y = gen.normal(size=(2, 6)), gen.normal(size=(2, 7))
    expected = np.mean([mannwhitneyu(q, p).statistic / 42 for p, q in zip(x, y, strict=True)])
    found = stats.probability_of_improvement(x, y)
    assert found.value == pytest.approx(expected)
    mirrored = stats.probability_of_improvement(y, x)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high))


def test_five_seeds_all_better_are_no_proof(gen):
    value, low, high = stats.probability_of_improvement([np.zeros(5)], [np.ones(5)])
    assert value == high == 1
    assert 0.5 < low < 0.75
    four = stats.probability_of_improvement([np.zeros(5)] * 4, [np.ones(5)] * 4)
    assert low < four.low < 1


def test_an_end_of_newcombes_interval_solves_his_equation():
    """|theta - U| = 1.96 sd(theta), with m = 10, n = 20, U = 0.8: the equation, written out."""
    a, b = np.repeat([0.0, 2.0], [8, 2]), np.ones(20)
    value, low, high = stats.probability_of_improvement([a], [b])
    assert value == 0.8
    for theta in (low, high):
        more = 14 * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        assert abs(theta - 0.8) == pytest.approx(1.96 * math.sqrt(theta * (1 - theta) * (1 + more) / 200), abs=3e-4)


def test_data_profile():
    costs = np.array([[1.0, 4.0, np.inf], [2.0, 2.0, 5.0]])
    found = stats.data_profile(costs, np.array([0.5, 1.0, 2.0, 9.0]))
    np.testing.assert_allclose(found, [[0, 1 / 3, 1 / 3, 2 / 3], [0, 0, 2 / 3, 1]])


def test_mean_ranks(gen):
    scores = np.array([[1.0, 1.0, 5.0, np.inf, 0, 0], [2.0, 1.0, 6.0, np.inf, 1, 1], [3.0, 9.0, 4.0, 1.0, 2, 2]])
    found = stats.mean_ranks(scores, gen)
    ranks = rankdata(scores, axis=0)
    assert [f.value for f in found] == pytest.approx(ranks.mean(1))
    assert all(f.low < f.value < f.high for f in found)
    always = stats.mean_ranks(np.arange(3.0)[:, None] * np.ones((3, 8)), gen)
    assert [tuple(f) for f in always] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]


def test_critical_differences_are_those_of_demsars_example():
    """Four classifiers on 14 datasets: q = 2.569 and CD = 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25 (section 3.2.2)."""
    assert stats.critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(20 / 84), abs=1e-3)
    for k in (2, 9):
        q = studentized_range.ppf(0.9, k, np.inf) / math.sqrt(2)
        assert stats.critical_difference(k, 5, level=0.9) == pytest.approx(q * math.sqrt(k * (k + 1) / 30), rel=1e-6)


def test_performance_profile():
    seconds = np.array([[1.0, 4.0, np.inf, np.inf], [2.0, 2.0, 5.0, np.inf]])
    found = stats.performance_profile(seconds, np.array([1.0, 1.9, 2.0, 1e9]))
    np.testing.assert_array_equal(found, [[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 0.75, 0.75]])


def test_a_target_is_reached_by_two_validations_in_a_row():
    def first(target, *values):
        return stats.first_at(stats.stairs(np.array(values)), target)

    values = (5.0, 1.0, 3.0, 2.0, 1.0)
    assert first(2.0, *values) == 3
    assert first(3.0, *values) == 1
    assert first(1.0, *values) is None  # reached twice, not twice in a row
    assert first(1.0, 1, np.nan, 1, 1, 1.0) == 2
    assert first(1.0) is None


def test_the_only_validation_of_a_run_needs_no_second():
    assert stats.first_at(stats.stairs(np.array([1.0])), 1.0) == 0
    assert stats.first_at(stats.stairs(np.array([1.1])), 1.0) is None
    assert stats.first_at(stats.stairs(np.array([2.0, 1.0])), 1.0) is None


def test_common_target_is_the_worst_solvers_median():
    best = {"a": [1.0, 1.5, 9.0], "b": [2.0, 2.5, math.nan], "c": [math.nan, math.nan], "d": []}
    assert stats.common_target(best) == pytest.approx(2.52)
    assert stats.common_target({"a": best["a"]}, slack=0.0) == 1.5
    assert stats.common_target({"c": best["c"]}) is None


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
        (lambda g: stats.probability_of_improvement(np.ones((2, 2)), np.ones((3, 2))), "same datasets"),
        (lambda g: stats.performance_profile(np.array([[np.nan]]), np.array([1.0])), "as inf"),
        (lambda g: stats.data_profile(np.array([[np.nan]]), np.array([1.0])), "as inf"),
        (lambda g: stats.mean_ranks(np.array([[np.nan]]), g), "as inf"),
        (lambda g: stats.critical_difference(1, 3), "no ranking"),
        (lambda g: stats.median(np.array([1.0, -1.0, 1.0]), g, log=True), "above 0"),
    ],
)
def test_bad_input_is_refused(call, message, gen):
    with pytest.raises(ValueError, match=message):
        call(gen)


def positive(gen: np.random.Generator, *shape: int) -> np.ndarray:
    return np.exp(gen.normal(size=shape))


BETTER = float(norm.cdf(1 / math.sqrt(2)))  # of x and 1 + y, both normal, x is smaller so often
GRID = 1.05  # validations are so far apart


def penalised(gen: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Seconds to a target: one run in five does not reach it and counts as 120, the others tie at validations."""
    reached = scale * GRID ** np.ceil(gen.normal(size=shape) / math.log(GRID))
    return np.where(gen.random(shape) < 0.2, 120.0, reached)


MIDDLE = GRID ** math.ceil(norm.ppf(0.5 / 0.8) / math.log(GRID))  # the median of `penalised`


SCALES = np.array([[0.5], [0.8], [1.25], [2.0]])  # on two of four problems the median is the larger
LEVELS = np.array([[1.0], [3.8], [3.9], [4.0]])


def intervals(n: int):
    """Of each statistic with n seeds: a draw of its interval, and the truth."""
    return {
        "median": (lambda g: stats.median(g.normal(size=n), g), 0.0),
        "median of positive": (lambda g: stats.median(positive(g, n), g, log=True), 1.0),
        "median of penalised": (lambda g: stats.median(penalised(g, n), g, log=True), MIDDLE),
        "paired ratio": (lambda g: stats.paired_ratio(2 * positive(g, n), positive(g, n), g), 2.0),
        "ratio": (lambda g: stats.ratio_of_medians(3 * positive(g, n), positive(g, n), g), 3.0),
        "ratio of penalised": (
            lambda g: stats.ratio_of_medians(penalised(g, n, scale=3.0), penalised(g, n), g), 3.0
        ),
        "geometric mean": (
            lambda g: stats.geometric_mean_ratio(2 * positive(g, 4, n), positive(g, 4, n), g), 2.0
        ),
        "geometric mean of penalised": (
            lambda g: stats.geometric_mean_ratio(penalised(g, 4, n, scale=2.0), penalised(g, 4, n), g), 2.0
        ),
        **{
            f"interquartile mean of {k}": (
                lambda g, k=k: stats.interquartile_mean_ratio(2 * positive(g, k, n), positive(g, k, n), g), 2.0
            ) for k in (3, 4)
        },
        **{
            name: (
                lambda g, name=name: MEANS[name](penalised(g, 4, n, scale=2.0), penalised(g, 4, n)), 2.0
            ) for name in ("arithmetic", "ratio of sums")
        },
        "share above 1": (lambda g: MEANS["share above 1"](SCALES * penalised(g, 4, n), penalised(g, 4, n)), 0.5),
        "largest": (lambda g: worst("largest", list(LEVELS + g.normal(size=(4, n)) / 4)), 4.0),
        "improvement on one": (
            lambda g: stats.probability_of_improvement(g.normal(size=(1, n)), g.normal(size=(1, n))), 0.5
        ),
        "improvement on four": (
            lambda g: stats.probability_of_improvement(g.normal(size=(4, n)), 1 + g.normal(size=(4, n))), BETTER
        ),
        "rank": (lambda g: stats.mean_ranks(g.normal(size=(4, 2 * n)), g)[0], 2.5),
    }  # fmt: skip


USUAL = (0.90, 0.97)
EXCEPTIONS = {  # of (name, seeds), as the docstring of bench.stats and docs/numbers.md have them
    **{(name, n): (0.90, 0.98) for name in ("ratio", "ratio of penalised") for n in (3, 5, 10)},
    **{
        (name, n): (0.90, 0.995)
        for name in (
            "geometric mean",
            "geometric mean of penalised",
            "ratio of sums",
            "interquartile mean of 3",
            "interquartile mean of 4",
        )
        for n in (3, 5, 10)
    },
    **{("share above 1", n): (0.97, 1.0) for n in (3, 5, 10)},
}


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("name", intervals(3))
def test_95_percent_intervals_cover_the_truth(name, n, gen):
    """2000 simulations, the same each time, see the coverage to 1 % (two standard errors)."""
    make, truth = intervals(n)[name]
    found = [make(gen) for _ in range(2000)]
    rounding = 1e-9  # penalised seconds and their median are the same few numbers
    coverage = np.mean([one.low - rounding <= truth <= one.high + rounding for one in found])
    least, most = EXCEPTIONS.get((name, n), USUAL)
    assert least <= coverage <= most


def test_statistics_import_neither_torch_nor_pandas():
    code = "import sys, bench.stats; sys.exit(any(m in sys.modules for m in ('torch', 'pandas')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])

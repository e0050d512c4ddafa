"""The standard recipes, on data in which each rule matters."""

import numpy as np
import pytest
from numpy.random import RandomState, default_rng

from datasets import preprocess
from datasets.splits import tenths


def same(a, b):
    """Whether two columns are affine images of each other, increasing ones."""
    return np.corrcoef(a, b)[0, 1] > 1 - 1e-9


def joined(splits):
    return np.vstack(splits)


def test_tenths_are_the_last_ones_rounded_down_and_in_order():
    splits = tenths(np.arange(109.0)[:, None])
    assert splits.rows == (90, 9, 10)
    np.testing.assert_array_equal(joined(splits)[:, 0], np.arange(109))


@pytest.mark.parametrize(
    ("n", "rows"),
    [
        (2_049_280, (1_659_917, 184_435, 204_928)),
        (1_052_065, (852_174, 94_685, 105_206)),
        (36_488, (29_556, 3_284, 3_648)),
    ],
)
def test_tenths_of_the_official_sizes_are_the_official_splits(n, rows):
    assert tenths(np.empty((n, 0))).rows == rows


def power_rows(n=400):
    rng = default_rng(1)
    rows = rng.integers(0, 2, size=(n, 8)).astype(float)  # two values a column, so that the noise shows
    rows[:, 7] = np.arange(n)
    return rows


def test_power_shuffles_the_rows_with_seed_42():
    rows = power_rows()
    before = rows.copy()
    found = joined(preprocess.power(rows))[:, 5].argsort().argsort()  # the ranks of the time, which has no noise
    expected = rows.copy()
    RandomState(42).shuffle(expected)  # in place, as in the published code
    np.testing.assert_array_equal(found, expected[:, 7])
    np.testing.assert_array_equal(rows, before)


def test_power_drops_reactive_power_and_intensity_and_adds_noise_of_the_right_width():
    rows = power_rows(4000)
    order = RandomState(42).permutation(len(rows))
    found = joined(preprocess.power(rows))
    for i, (column, width) in enumerate(zip([0, 2, 4, 5, 6], [0.001, 0.01, 1, 1, 1], strict=True)):
        ones = rows[order, column] == 1
        low, high = found[~ones, i], found[ones, i]
        unit = high.mean() - low.mean()
        assert np.ptp(low) / unit == pytest.approx(width, rel=0.05)
        assert np.ptp(high) / unit == pytest.approx(width, rel=0.05)


def test_power_draws_its_noise_in_the_published_order():
    rows = power_rows()
    rng = RandomState(42)
    order = rng.permutation(len(rows))
    found = joined(preprocess.power(rows))
    for columns, noise in (([1], rng.rand(400, 1)), ([0], rng.rand(400, 1)), ([2, 3, 4], rng.rand(400, 3))):
        for i, u in zip(columns, noise.T, strict=True):
            ones = rows[order, [0, 2, 4, 5, 6][i]] == 1
            assert same(found[ones, i], u[ones])


def test_power_and_miniboone_standardise_by_train_and_validation_with_ddof_0():
    rows = default_rng(0).normal(3, 2, size=(300, 8))
    rows[-30:] += 100  # the test rows of miniboone, which does not shuffle
    for splits in (preprocess.power(rows), preprocess.miniboone(rows)):
        known = np.vstack((splits.train, splits.valid))
        np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-10)
        np.testing.assert_allclose(known.std(axis=0, ddof=0), 1, atol=1e-10)
    assert splits.test.min() > 30


def test_gas_drops_the_leftmost_of_a_correlated_pair_and_asks_again():
    rng = default_rng(0)
    a, b, c, e, f = rng.standard_normal((5, 2000))
    chain = [c, c + 0.17 * e, c + 0.17 * e + 0.17 * f]  # neighbours correlate by > 0.98, the ends by less
    assert np.corrcoef(chain)[0, 2] < 0.98
    columns = [a, b, a + 0.1 * b, -a, *chain]
    found = joined(preprocess.gas(np.column_stack(columns))).T
    expected = [b, a + 0.1 * b, -a, chain[2]]  # -a stays: the correlation is signed
    assert len(found) == len(expected)
    assert all(map(same, found, expected))


def test_gas_standardises_by_all_rows_with_ddof_1_and_keeps_their_order():
    rows = default_rng(0).normal(3, 2, size=(200, 2))
    found = joined(preprocess.gas(rows))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0, ddof=1), 1, atol=1e-12)
    assert same(found[:, 0], rows[:, 0])


def test_repeating_looks_at_the_smallest_value_only():
    rows = default_rng(0).uniform(size=(30, 4))
    rows[:6, 0] = -1.0  # 6 times the smallest: out
    rows[:5, 1] = -1.0  # 5 times: stays
    rows[:20, 2] = 2.0  # 20 times the largest: stays
    np.testing.assert_array_equal(preprocess.repeating(rows), [True, False, False, False])


def hepmass_rows(n, columns, rng):
    return np.column_stack((np.arange(n) % 2, rng.normal(5, 3, size=(n, columns))))


def test_hepmass():
    rng = default_rng(0)
    train, test = hepmass_rows(220, 5, rng), hepmass_rows(60, 6, rng)
    train[:14, 2] = -50.0  # 7 rows of label 1 have the smallest value: the column goes
    train[:12, 4] = -50.0  # 6 rows of label 1
    train[:10, 5] = -50.0  # 5 rows of label 1: it stays
    train[::2, 1] = -99.0  # label 0: does not matter
    splits = preprocess.hepmass(train, test)
    assert splits.rows == (99, 11, 30)
    known = np.vstack((splits.train, splits.valid))
    signal, kept = train[1::2], [1, 3, 5]
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(known.std(axis=0, ddof=1), 1, atol=1e-12)
    for i, column in enumerate(kept):  # same order of rows, the test's by train's mean and deviation
        assert same(np.append(known[:, i], splits.test[:, i]), np.append(signal[:, column], test[1::2, column]))


def miniboone_rows():
    rows = default_rng(0).uniform(size=(311, 50))
    rows[5:16] = -999.0  # the 11 outliers, which would make the smallest value of every column repeat
    rows[100:110, 5] = -1.0
    rows[100:105, 6] = -1.0
    return rows


def test_miniboone_drops_the_outliers_and_then_the_repeating_columns():
    rows = miniboone_rows()
    splits = preprocess.miniboone(rows)
    assert splits.rows == (243, 27, 30)
    expected = np.delete(np.delete(rows, slice(5, 16), axis=0), 5, axis=1)
    assert all(map(same, joined(splits).T, expected.T))


def test_miniboone_of_cleaned_rows_is_the_same():
    rows = miniboone_rows()
    cleaned = np.delete(np.delete(rows, slice(5, 16), axis=0), 5, axis=1)
    np.testing.assert_array_equal(joined(preprocess.miniboone(cleaned)), joined(preprocess.miniboone(rows)))


def test_patches():
    rng = default_rng(0)
    pixels, noise = rng.integers(0, 256, size=(10, 64)), rng.uniform(size=(10, 64))
    found = preprocess.patches(pixels, noise)
    assert found.shape == (10, 63)
    whole = np.column_stack((found, -found.sum(axis=1)))  # the 64 sum to 0, which gives the last one back
    levels = (pixels + noise) / 256
    np.testing.assert_allclose(whole - whole[:, :1], levels - levels[:, :1], atol=1e-12)

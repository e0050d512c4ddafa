from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits

from datasets.embedded import BreastCancer, Digits, split, whitened
from datasets.splits import Splits

NOWHERE = Path("nowhere")
both = pytest.mark.parametrize("dataset", [Digits(), BreastCancer()])


@both
def test_training_rows_are_white(dataset):
    problem = dataset.load(NOWHERE)
    train = problem.source.train
    torch.testing.assert_close(train.mean(0), torch.zeros(dataset.dim), atol=1e-10, rtol=0)
    torch.testing.assert_close(train.T.cov(correction=0), torch.eye(dataset.dim), atol=1e-9, rtol=0)


@both
def test_three_fifths_one_fifth_and_the_rest(dataset):
    problem = dataset.load(NOWHERE)
    sizes = len(problem.source.train), len(problem.source.valid), len(problem.test)
    n = sum(sizes)
    assert sizes == (int(0.6 * n), int(0.2 * n), n - int(0.6 * n) - int(0.2 * n))
    assert n == {64: 1797, 30: 569}[dataset.dim]


@both
def test_the_seed_decides(dataset):
    tests = [type(dataset)(seed=seed).load(NOWHERE).test for seed in (0, 0, 1)]
    assert torch.equal(tests[0], tests[1])
    assert not torch.equal(tests[0], tests[2])


def test_split_keeps_every_row_once_in_a_random_order():
    rows = np.arange(57.0)[:, None]
    together = np.vstack(split(rows, np.random.RandomState(0)))
    assert not np.array_equal(together, rows)
    np.testing.assert_array_equal(np.sort(together, axis=0), rows)


def test_breast_cancer_has_its_measurements_up_to_an_affine_map():
    problem = BreastCancer().load(NOWHERE)
    white = torch.cat((problem.source.train, problem.source.valid, problem.test)).numpy()
    raw = np.vstack(split(load_breast_cancer().data, np.random.RandomState(0)))
    design = np.column_stack((np.ones(len(white)), white))
    fitted = design @ np.linalg.lstsq(design, raw, rcond=None)[0]
    np.testing.assert_allclose(fitted, raw, atol=1e-7 * np.abs(raw).max())


def test_digits_have_their_pixels_and_uniform_noise_up_to_an_affine_map():
    problem = Digits().load(NOWHERE)
    white = torch.cat((problem.source.train, problem.source.valid, problem.test)).numpy()
    rng = np.random.RandomState(0)
    noise = rng.random_sample((1797, 64))
    raw = np.vstack(split(load_digits().data + noise, rng))
    design = np.column_stack((np.ones(len(white)), white))
    fitted = design @ np.linalg.lstsq(design, raw, rcond=None)[0]
    np.testing.assert_allclose(fitted, raw, atol=1e-9)


@pytest.fixture
def correlated():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    return Splits(*(rng.normal(size=(n, 4)) @ mixing + 3 for n in (500, 20, 30)))


def test_whitening_does_not_depend_on_units(correlated):
    scaled = Splits(*(part * [1e-4, 1.0, 10.0, 1e5] + 7 for part in correlated))
    for a, b in zip(whitened(correlated), whitened(scaled), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)


def test_whitening_is_the_symmetric_one(correlated):
    white, train = whitened(correlated).train, correlated.train
    standard = (train - train.mean(axis=0)) / train.std(axis=0)
    cross = white.T @ standard / len(train)  # P^1/2 for ZCA-cor: symmetric positive definite, its square P
    np.testing.assert_allclose(cross, cross.T, atol=1e-10)
    assert np.linalg.eigvalsh(cross).min() > 0
    np.testing.assert_allclose(cross @ cross, np.corrcoef(train, rowvar=False), atol=1e-10)


def test_validation_and_test_rows_go_through_the_same_map(correlated):
    again = whitened(Splits(correlated.train, correlated.train[:5], correlated.train[5:9]))
    np.testing.assert_allclose(again.valid, again.train[:5], atol=1e-12)
    np.testing.assert_allclose(again.test, again.train[5:9], atol=1e-12)

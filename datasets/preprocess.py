"""The standard preprocessing of the tabular sets, as pure functions of arrays.

Papamakarios, Pavlakou and Murray 2017 (Masked Autoregressive Flow), section 4.2 and appendix D, as their published
code does it; FFJORD and OT-Flow take it over. Where paper and code differ, the comments say so: the code decides,
because the published numbers come from it.
"""

import numpy as np
from numpy.typing import NDArray

from datasets.splits import Array, Splits, last_tenth, tenths

POWER_SEED = 42
MAX_CORRELATION = 0.98
MAX_REPEATS = 5
MINIBOONE_OUTLIER = -100.0
PIXEL_LEVELS = 256


def power(rows: Array) -> Splits:
    """POWER, d = 6, from the raw (n, 8): active and reactive power, voltage, intensity, 3 sub-meterings, minute.

    Shuffled; without intensity and reactive power; uniform noise on [0, 0.001) for active power, [0, 0.01) for
    voltage, [0, 1) for the sub-meterings; split; standardised by train and validation.
    """
    rng = np.random.RandomState(POWER_SEED)  # its stream is frozen: everybody's shuffle and noise
    n = len(rows)
    kept = rows[rng.permutation(n)][:, [0, 2, 4, 5, 6, 7]]
    voltage, active, sub = 0.01 * rng.rand(n, 1), 0.001 * rng.rand(n, 1), rng.rand(n, 3)  # drawn in this order
    return _standardised(tenths(kept + np.hstack((active, voltage, sub, np.zeros((n, 1))))))


def gas(sensors: Array) -> Splits:
    """GAS, d = 8, from the readings (n, 16) without time and gas concentrations, in the order of the file.

    While a column is correlated by more than 0.98 with another one, the leftmost such column goes. Standardised by
    all rows, the test's too, with ddof 1; split.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        close = np.asarray(np.corrcoef(sensors, rowvar=False) > MAX_CORRELATION)  # signed: -1 is not close
        np.fill_diagonal(close, False)
        kept = list(range(sensors.shape[1]))
        while (found := close[np.ix_(kept, kept)].any(axis=1)).any():
            kept.pop(int(found.argmax()))
        chosen = sensors[:, kept]
        return tenths((chosen - chosen.mean(axis=0)) / chosen.std(axis=0, ddof=1))


def hepmass(train: Array, test: Array) -> Splits:
    """HEPMASS, d = 21, from raw rows: label and features (n, 28); the test file has one more column (m, 29).

    Label 1 only; standardised by train with ddof 1; without `repeating` columns; validation is train's last tenth.
    """
    train, test = train[train[:, 0] == 1, 1:], test[test[:, 0] == 1, 1:-1]
    mean, scale = train.mean(axis=0), train.std(axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        train, test = (train - mean) / scale, (test - mean) / scale
    kept = ~repeating(train)
    return Splits(*last_tenth(train[:, kept]), test[:, kept])


def miniboone(rows: Array) -> Splits:
    """MINIBOONE, d = 43, from the signal rows: the raw (36499, 50), or the published (36488, 43).

    Without the rows whose first value is below -100 and without `repeating` columns, which changes nothing where
    it was done before; split; standardised by train and validation.
    """
    rows = rows[~(rows[:, 0] < MINIBOONE_OUTLIER)]  # a NaN stays, to be reported
    return _standardised(tenths(rows[:, ~repeating(rows)]))


def patches(pixels: Array, noise: Array) -> Array:
    """BSDS300, d = 63, from grey patches (n, 64) of levels 0..255 and noise (n, 64), uniform on [0, 1).

    (pixels + noise) / 256, minus the mean of the patch, without the last pixel, which the others determine
    (Uria, Murray and Larochelle 2013).
    """
    levels = (pixels + noise) / PIXEL_LEVELS
    return (levels - levels.mean(axis=1, keepdims=True))[:, :-1]


def repeating(rows: Array) -> NDArray[np.bool_]:
    """Which columns are to go (d,): those whose smallest value occurs more than 5 times.

    The paper means the most frequent value; the code looks at the smallest.
    """
    return np.count_nonzero(rows == rows.min(axis=0), axis=0) > MAX_REPEATS


def _standardised(splits: Splits) -> Splits:
    """Each column minus its mean over its deviation (ddof 0), both of train and validation."""
    known = np.vstack((splits.train, splits.valid))
    mean, scale = known.mean(axis=0), known.std(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Splits(*((part - mean) / scale for part in splits))

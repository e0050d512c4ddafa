"""What the interval of sizes at equal quality covers, by simulation."""

import numpy as np
import pytest

from bench import sizes
from bench.queries import OF_MEDIANS

OTFLOW, FFJORD = (125.0, 365.0, 1229.0, 3000.0, 9805.0), (104.0, 264.0, 776.0, 2568.0, 9224.0)
PROBLEMS, SEEDS, REPEATS = 6, 3, 60


def searches(scales: np.ndarray, noise: float, rng: np.random.Generator) -> list[sizes.Search]:
    """A search a problem; the NLL of a size is its scale x size^-0.7, and of a run that with noise."""

    def held(those: tuple[float, ...], scale: float) -> dict[float, np.ndarray]:
        return {size: scale * size**-0.7 + noise * rng.standard_normal(SEEDS) for size in those}

    return [sizes.Search(held(FFJORD, ffjord), held(OTFLOW, otflow), 0.02) for ffjord, otflow in scales]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
def test_the_interval_of_a_mean_of_quotients_of_sizes_covers_it(noise: float) -> None:
    rng = np.random.default_rng(1)
    covered = dict.fromkeys(("arithmetic", "geometric", "ratio of sums"), 0)
    for _ in range(REPEATS):
        scales = rng.uniform((3, 3), (60, 30), (PROBLEMS, 2))
        sound = [one.found([np.median(row, keepdims=True) for row in one.strata]) for one in searches(scales, 0.0, rng)]
        a, b = (np.stack(side) for side in zip(*sound, strict=True))
        seen = searches(scales, noise, rng)
        for name in covered:
            truth, (_, low, high) = OF_MEDIANS[name](a, b).item(), sizes.mean(seen, OF_MEDIANS[name])
            covered[name] += low <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= high
    assert min(covered.values()) >= 0.92 * REPEATS

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy import optimize, stats
from torch import Tensor

from datasets.base import Density
from datasets.toy import (
    Checkerboard,
    Circles,
    EightGaussians,
    Moons,
    Pinwheel,
    Rings,
    SwissRoll,
    Toy,
    TwoSpirals,
    gauss_legendre,
)

CONF = Path(__file__).parents[2] / "bench/conf/dataset"
# half the side of a square that holds the mass; cells a side; nodes a cell and side, for 1e-6 or better
GRIDS = {
    EightGaussians(): (6.0, 12, 12),
    Circles(): (5.0, 20, 12),
    Rings(): (4.0, 16, 20),
    Moons(): (5.0, 10, 16),
    SwissRoll(): (5.0, 10, 16),
    TwoSpirals(): (4.5, 18, 10),
    Checkerboard(): (4.0, 4, 2),
    Pinwheel(): (6.0, 24, 14),
}
TOYS = list(GRIDS)
NAMES = ("8gaussians", "circles", "rings", "moons", "swissroll", "2spirals", "checkerboard", "pinwheel")


@pytest.fixture(params=TOYS, ids=NAMES)
def toy(request) -> Toy:
    return request.param


def grid(half: float, cells: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Points (m, 2) and weights (m,) that integrate over [-half, half]^2 by Gauss-Legendre in every square cell."""
    t, w = gauss_legendre(0.0, 2 * half / cells, nodes)
    x = (2 * half / cells * torch.arange(cells)[:, None] + t).flatten() - half
    w = w.repeat(cells)
    return torch.cartesian_prod(x, x), (w[:, None] * w).flatten()


def cell_of(x: Tensor, half: float, cells: int) -> Tensor:
    i = ((x + half) * cells / (2 * half)).floor().long()
    assert ((i >= 0) & (i < cells)).all(), "a sample outside the square"
    return i[:, 0] * cells + i[:, 1]


def mean_power(x: Tensor, k: int) -> tuple[complex, float]:
    """Mean of (x_1 + i x_2)^k and its standard error."""
    z = torch.view_as_complex(x) ** k
    return z.mean().item(), z.std().item() / math.sqrt(len(x))


def test_density_integrates_to_one_matches_the_sampler_and_has_the_stated_entropy(toy, rng):
    half, cells, nodes = GRIDS[toy]
    x, weights = grid(half, cells, nodes)
    log_p = toy.log_prob(x)
    mass = weights * log_p.exp()
    assert abs(mass.sum().item() - 1) < 1e-6
    entropy = -(mass * log_p.clamp_min(-1e3)).sum().item()
    assert abs(entropy - toy.entropy) < 1e-5

    n = 100_000
    places = cells * cells
    expected = n * mass.new_zeros(places).index_add(0, cell_of(x, half, cells), mass).numpy()
    counts = np.bincount(cell_of(toy.sample(n, rng), half, cells).numpy(), minlength=places)
    full = expected >= 10
    statistic = ((counts - expected) ** 2 / np.where(full, expected, 1))[full].sum()
    assert stats.chi2.sf(statistic, full.sum()) > 1e-3
    rest = expected[~full].sum()
    assert abs(counts[~full].sum() - rest) < 5 * math.sqrt(rest) + 1


def test_mean_log_density_of_samples_is_minus_the_entropy(toy, rng):
    log_p = toy.log_prob(toy.sample(10_000, rng))
    error = log_p.std().item() / 100
    assert abs(log_p.mean().item() + toy.entropy) < 4 * error + 1e-5


def test_entropies_that_the_literature_or_algebra_gives():
    known = {EightGaussians: 2.8319, Checkerboard: math.log(32), Circles: 3.2681, Rings: 2.6232}
    assert all(abs(kind.entropy - value) < 5e-5 for kind, value in known.items())


def test_eight_gaussians_at_a_centre_and_symmetry(rng):
    toy, sigma = EightGaussians(), 0.5 / 1.414
    centre = torch.tensor([[4 / 1.414, 0.0]])
    # the neighbours, 8 sin(pi/8)/1.414 away, matter to 1e-8 only
    assert toy.log_prob(centre).item() == pytest.approx(-math.log(8 * 2 * math.pi * sigma**2), abs=1e-7)
    x = 3 * torch.randn(100, 2, generator=rng)
    torch.testing.assert_close(toy.log_prob(turned(x, 1 / 8)), toy.log_prob(x))


def turned(x: Tensor, turns: float) -> Tensor:
    z = torch.view_as_complex(x) * complex(math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns))
    return torch.view_as_real(z).contiguous()


@pytest.mark.parametrize("toy", [Circles(), Rings()])
def test_rings_have_the_published_radii_and_no_preferred_direction(toy, rng):
    scale, radii, noise = (3, (1, 0.5), 0.24) if isinstance(toy, Circles) else (0.75, (4, 3, 2, 1), 0.08)
    squares = toy.sample(100_000, rng).square().sum(1)
    mean = scale**2 * np.mean(np.square(radii)) + 2 * noise**2
    assert abs(squares.mean() - mean) < 5 * squares.std() / math.sqrt(100_000)
    x = 2 * torch.randn(100, 2, generator=rng)
    torch.testing.assert_close(toy.log_prob(turned(x, 0.123)), toy.log_prob(x))


def test_moons_mean_and_second_moment_are_the_published_ones(rng):
    a = np.linspace(0, np.pi, 20_001)
    outer = np.cos(a) + 1j * np.sin(a)
    inner = 1 - np.cos(a) + 1j * (1 - np.sin(a) - 0.5)
    z = np.concatenate([outer, inner]) * 2 + (-1 - 0.2j)
    x = Moons().sample(200_000, rng)
    for k in (1, 2, 3):  # isotropic noise adds nothing to the mean of z^k
        value, error = mean_power(x, k)
        assert abs(value - np.trapezoid((z**k).reshape(2, -1), a / np.pi).mean()) < 5 * error
    y = x[:100]
    torch.testing.assert_close(Moons().log_prob(torch.tensor((0.0, 0.6)) - y), Moons().log_prob(y))


def test_swiss_roll_turns_as_published(rng):
    t = np.linspace(1.5 * np.pi, 4.5 * np.pi, 20_001)
    x = SwissRoll().sample(200_000, rng)
    for k in (1, 2):
        value, error = mean_power(x, k)
        assert abs(value - np.trapezoid((t * np.exp(1j * t) / 5) ** k, t) / (3 * np.pi)) < 5 * error


def test_two_spirals_turn_as_published_and_are_symmetric(rng):
    u = (np.arange(20_000) + 0.5) / 20_000
    t = np.sqrt(u) * 540 * 2 * np.pi / 360
    curve = -np.cos(t) * t + 1j * np.sin(t) * t
    box, box_squared = 0.25 + 0.25j, 2j * 0.25**2
    x = TwoSpirals().sample(200_000, rng)
    value, error = mean_power(x, 2)
    assert abs(value - (curve**2 + 2 * curve * box + box_squared).mean() / 9) < 5 * error
    value, error = mean_power(x, 1)
    assert abs(value) < 5 * error
    torch.testing.assert_close(TwoSpirals().log_prob(-x[:100]), TwoSpirals().log_prob(x[:100]))


def test_checkerboard_squares_are_the_published_ones():
    # floor(x/2) + floor(y/2) is even
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [3.0, -1.0], [-1.0, -1.0], [-1.0, 1.0], [1.0, -3.0], [5.0, 1.0]])
    log_p = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]).log() - math.log(32)
    torch.testing.assert_close(Checkerboard().log_prob(x), log_p)


def test_checkerboard_keeps_points_that_rounding_moved_to_an_edge():
    below = 1 - 2.0**-24  # the largest single precision number that torch.rand gives, plus 1, is 2
    x = 2 * torch.tensor([[1.5, below + 1], [-0.5, below - 2], [0.5, below]], dtype=torch.float32)
    assert x[0, 1] == 4
    assert Checkerboard().log_prob(x).isfinite().all()


def test_pinwheel_turns_as_published(rng):
    # the published code multiplies the row f by the rotation matrix, which turns it clockwise: z = 2 f exp(-i angle)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    f = (1 + 0.3 * nodes)[:, None] + 1j * 0.1 * nodes
    expected = weights @ ((2 * f) ** 5 * np.exp(-5j * 0.25 * np.exp(f.real))) @ weights
    x = Pinwheel().sample(200_000, rng)
    value, error = mean_power(x, 5)
    assert abs(value - expected) < 5 * error
    torch.testing.assert_close(Pinwheel().log_prob(turned(x[:100], 1 / 5)), Pinwheel().log_prob(x[:100]))


@pytest.mark.parametrize("r", [0.3, 1.0, 1.9, 2.5, 3.0])
def test_pinwheel_density_sums_over_every_preimage(r):
    """Beyond |f| = 1.72 arms fold: all sign changes of a fine grid, refined by Brent's method, find each solution."""
    psi = np.linspace(-3, 3, 7)
    log_p = Pinwheel().log_prob(2 * r * torch.tensor(np.stack((np.cos(psi), np.sin(psi)), 1)))
    a = np.linspace(-np.pi, np.pi, 4001)
    for angle, value in zip(psi, log_p.tolist(), strict=True):
        density = 0.0
        for k in range(5):

            def miss(a, turn=angle + 2 * np.pi * k / 5):
                return np.sin((a - 0.25 * np.exp(r * np.cos(a)) - turn) / 2)  # zero at 0 modulo 2 pi only

            signs = np.sign(miss(a))
            for i in np.flatnonzero(signs[1:] != signs[:-1]):
                b = optimize.brentq(miss, a[i], a[i + 1], xtol=1e-14)
                f, g = r * np.cos(b), r * np.sin(b)
                p_f = stats.norm.pdf(f, 1, 0.3) * stats.norm.pdf(g, 0, 0.1)
                density += p_f / (4 * 5 * abs(1 + 0.25 * np.exp(f) * g))
        assert value == pytest.approx(math.log(density), rel=1e-9)


def test_far_away_the_density_vanishes_without_nan(toy):
    x = torch.tensor([[9.0, 3.0], [-30.0, 40.0], [1e3, -1e3], [1e30, 1.0], [-1e200, 1e200]])
    log_p = toy.log_prob(x)
    assert not log_p.isnan().any()
    assert (log_p < -50).all()
    assert not toy.log_prob(torch.zeros(1, 2)).isnan().any()


def test_samples_and_densities_take_the_dtypes_they_should(toy, rng):
    x = toy.sample(200, rng)
    assert x.dtype == torch.float64
    torch.set_default_dtype(torch.float32)
    assert toy.sample(5, rng).dtype == torch.float32
    single = toy.log_prob(x.float())
    assert single.dtype == torch.float32
    double = toy.log_prob(x.float().double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single, double.float(), rtol=1.2e-7, atol=0)


def test_one_point_and_batches_agree(toy, rng):
    assert toy.sample(1, rng).shape == (1, 2)
    x = toy.sample(3000, rng)  # more than one chunk
    each = torch.cat([toy.log_prob(x[i : i + 1]) for i in range(5)] + [toy.log_prob(x[-1:])])
    torch.testing.assert_close(each, toy.log_prob(x)[[0, 1, 2, 3, 4, -1]], rtol=1e-10, atol=0)


def test_draws_depend_on_their_generator_only(toy, tmp_path):
    before = torch.random.get_rng_state()
    first, again, other = (toy.sample(10, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    problem = toy.load(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert problem.test.shape == (10_000, 2)
    assert torch.equal(problem.test, toy.load(tmp_path).test)
    assert len(problem.test.unique(dim=0)) == 10_000


@pytest.mark.parametrize(("name", "expected"), [*zip(NAMES, TOYS, strict=True)])
def test_configuration_loads_the_toy(name, expected, tmp_path):
    dataset = instantiate(OmegaConf.load(CONF / f"{name}.yaml"))
    assert dataset == expected
    problem = dataset.load(tmp_path)
    assert isinstance(problem.source, Density)
    assert problem.truth.nll == expected.entropy
    assert problem.target.log_prob(torch.zeros(1, 2)).item() == pytest.approx(-math.log(2 * math.pi))

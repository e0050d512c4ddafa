"""The eight two-dimensional toys of the FFJORD and OT-Flow papers, each with its exact log-density.

The formulas are those of the FFJORD authors' code (Grathwohl et al. 2019), with the angles of swissroll, circles,
rings and moons uniform rather than on a grid, so that points are independent. The target is N(0, I).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from datasets.base import Points, Problem, Truth, Values
from datasets.gaussians import held_out, standard_normal
from datasets.mixtures import Mixture, ring

TEST_ROWS = 10_000
CHUNK = 2048  # points at a time in a quadrature: 10 MB a coordinate for 640 nodes


class Toy(ABC):
    """A source on the plane: a `Dataset` and, at the same time, the `Density` which it loads.

    `entropy`, in nats, is a literal: the integral of -p log p over the plane by quadrature, its last digit
    certain; the tests compute it again.
    """

    version: ClassVar[int] = 1
    dim: ClassVar[int] = 2
    entropy: ClassVar[float]

    def load(self, root: Path) -> Problem:
        """Make the problem; `root` is not read."""
        return Problem(self, standard_normal(2), held_out(self, TEST_ROWS), Truth(nll=self.entropy))

    def log_prob(self, x: Points) -> Values:
        """The log-density at x (n, 2) -> (n,), computed in float64 and returned in the dtype of x."""
        return torch.cat([self.exact(part.double()) for part in x.split(CHUNK)]).to(x.dtype)

    @abstractmethod
    def sample(self, n: int, rng: Generator) -> Points:
        """Draw n independent points (n, 2)."""

    @abstractmethod
    def exact(self, x: Points) -> Values:
        """The log-density at a few points of float64."""


def uniform(n: int, rng: Generator) -> Tensor:
    return torch.rand(n, generator=rng, device=rng.device)


def choice(options: int, n: int, rng: Generator) -> Tensor:
    return torch.randint(options, (n,), generator=rng, device=rng.device)


def normal(n: int, rng: Generator) -> Points:
    return torch.randn(n, 2, generator=rng, device=rng.device)


def polar(radius: Tensor | float, angle: Tensor) -> Points:
    """radius (cos angle, sin angle)."""
    return torch.stack((radius * angle.cos(), radius * angle.sin()), -1)


@lru_cache
def gauss_legendre(low: float, high: float, n: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights (n,) that integrate polynomials of degree 2n - 1 over [low, high] exactly."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(n))
    return (low + high) / 2 + (high - low) / 2 * nodes, (high - low) / 2 * weights


def smeared(x: Points, centres: Points, weights: Tensor, sigma: float) -> Values:
    """log sum_j weights_j N(x; centres_j, sigma^2 I): the quadrature of a curve with Gaussian noise."""
    squares = (x[:, None] - centres.to(x)).square().sum(-1)
    return torch.logsumexp(weights.to(x).log() - squares / (2 * sigma**2), 1) - math.log(2 * math.pi * sigma**2)


@dataclass(frozen=True)
class EightGaussians(Toy):
    """(4 (cos k pi/4, sin k pi/4) + 1/2 N(0, I)) / 1.414, the published constant."""

    entropy: ClassVar[float] = 2.83188

    @cached_property
    def mixture(self) -> Mixture:
        return ring(4 / 1.414, (0.5 / 1.414) ** 2)

    def sample(self, n: int, rng: Generator) -> Points:
        centres = polar(4 / 1.414, math.pi / 4 * choice(8, n, rng))  # six times as fast as the mixture's general way
        return centres + 0.5 / 1.414 * normal(n, rng)

    def exact(self, x: Points) -> Values:
        return self.mixture.log_prob(x)


class NoisyRings(Toy):
    """Concentric circles, each equally likely, with N(0, sigma^2 I) noise."""

    radii: ClassVar[tuple[float, ...]]
    sigma: ClassVar[float]

    def sample(self, n: int, rng: Generator) -> Points:
        noise = self.sigma * normal(n, rng)
        radius = noise.new_tensor(self.radii)[choice(len(self.radii), n, rng)]
        return polar(radius, 2 * math.pi * uniform(n, rng)) + noise

    def exact(self, x: Points) -> Values:
        """The mean over R of exp(-(r^2 + R^2)/(2 sigma^2)) I_0(r R/sigma^2) / (2 pi sigma^2), at r = |x|.

        I_0 comes from the integral of the noise's density over the angle.
        """
        r, R = x.norm(dim=1)[:, None], x.new_tensor(self.radii)
        # i0e is exp(-z) I_0(z), which does not overflow
        each = torch.special.i0e(r * R / self.sigma**2).log() - (r - R).square() / (2 * self.sigma**2)
        return torch.logsumexp(each, 1) - math.log(2 * math.pi * self.sigma**2 * len(self.radii))


@dataclass(frozen=True)
class Circles(NoisyRings):
    """Circles of radius 1 and 1/2 with noise of 0.08, times 3."""

    entropy: ClassVar[float] = 3.26814
    radii: ClassVar[tuple[float, ...]] = (3.0, 1.5)
    sigma: ClassVar[float] = 0.24


@dataclass(frozen=True)
class Rings(NoisyRings):
    """Circles of radius 3, 2.25, 1.5 and 0.75 with noise of 0.08."""

    entropy: ClassVar[float] = 2.62318
    radii: ClassVar[tuple[float, ...]] = (3.0, 2.25, 1.5, 0.75)
    sigma: ClassVar[float] = 0.08


@dataclass(frozen=True)
class Moons(Toy):
    """(cos a, sin a) or (1 - cos a, 1/2 - sin a), a ~ U[0, pi], with noise of 0.1; times 2, plus (-1, -0.2)."""

    entropy: ClassVar[float] = 2.39388
    sigma: ClassVar[float] = 0.2

    def _arc(self, angle: Tensor, inner: Tensor) -> Points:
        outer = polar(2.0, angle) - angle.new_tensor((1.0, 0.2))
        # the inner arc is the outer one turned about the centre (0, 0.3)
        return torch.where(inner[:, None], angle.new_tensor((0.0, 0.6)) - outer, outer)

    def sample(self, n: int, rng: Generator) -> Points:
        return self._arc(math.pi * uniform(n, rng), choice(2, n, rng) == 1) + self.sigma * normal(n, rng)

    def exact(self, x: Points) -> Values:
        angles, weights = gauss_legendre(0.0, math.pi, 128)
        inner = torch.arange(256) >= 128
        return smeared(x, self._arc(angles.repeat(2), inner), weights.repeat(2) / (2 * math.pi), self.sigma)


@dataclass(frozen=True)
class SwissRoll(Toy):
    """(t (cos t, sin t) + N(0, I)) / 5 with t ~ U[1.5 pi, 4.5 pi]."""

    entropy: ClassVar[float] = 2.66965
    sigma: ClassVar[float] = 0.2

    def sample(self, n: int, rng: Generator) -> Points:
        t = 1.5 * math.pi * (1 + 2 * uniform(n, rng))
        return polar(t / 5, t) + self.sigma * normal(n, rng)

    def exact(self, x: Points) -> Values:
        t, weights = gauss_legendre(1.5 * math.pi, 4.5 * math.pi, 320)
        return smeared(x, polar(t / 5, t), weights / (3 * math.pi), self.sigma)


@dataclass(frozen=True)
class TwoSpirals(Toy):
    """+-(-n cos n + u_1/2, n sin n + u_2/2)/3 with noise of 0.1; n = 3 pi sqrt(u), each sign equally likely."""

    entropy: ClassVar[float] = 2.64545
    sigma: ClassVar[float] = 0.1
    length: ClassVar[float] = 3 * math.pi
    box: ClassVar[float] = 1 / 6  # the side of the square of uniform noise

    def sample(self, n: int, rng: Generator) -> Points:
        t = self.length * uniform(n, rng).sqrt()
        box = self.box * torch.rand(n, 2, generator=rng, device=rng.device)
        sign = 2 * choice(2, n, rng) - 1
        return sign[:, None] * (polar(-t / 3, -t) + box) + self.sigma * normal(n, rng)

    def exact(self, x: Points) -> Values:
        """By quadrature along n, which has density 2 n / (3 pi)^2; -inf where that underflows, far from the spirals."""
        t, weights = gauss_legendre(0.0, self.length, 640)
        centres = (polar(-t / 3, -t) + self.box / 2).to(x)
        weights = (weights * 2 * t / self.length**2).to(x)
        x = x[:, None]
        return ((self._block(x - centres) + self._block(-x - centres)) @ weights / 2).log()

    def _block(self, y: Tensor) -> Tensor:
        """The density of the centred uniform square plus the Gaussian noise: a product of differences of Phi."""
        y, scale = y.abs(), math.sqrt(2) * self.sigma  # in the upper tail, erfc keeps its relative accuracy
        upper, lower = torch.erfc((y + self.box / 2) / scale), torch.erfc((y - self.box / 2) / scale)
        return ((lower - upper) / (2 * self.box)).prod(-1)


@dataclass(frozen=True)
class Checkerboard(Toy):
    """Uniform on eight squares of side 2 in [-4, 4]^2."""

    entropy: ClassVar[float] = 5 * math.log(2)

    def sample(self, n: int, rng: Generator) -> Points:
        x = 4 * uniform(n, rng) - 2
        y = uniform(n, rng) - 2 * choice(2, n, rng) + x.floor() % 2
        return 2 * torch.stack((x, y), 1)

    def exact(self, x: Points) -> Values:
        """-log 32 on the closed squares, -inf elsewhere."""
        # a triangle wave, positive on (0, 2) + 4 Z, and zero at even numbers, so that rounding drops no point
        wave = 0.5 - ((x / 2 + 0.5) % 2 - 1).abs()
        inside = (wave.prod(1) >= 0) & (x.abs() <= 4).all(1)
        return torch.where(inside, x.new_tensor(-self.entropy), -torch.inf)


@dataclass(frozen=True)
class Pinwheel(Toy):
    """Five arms: f ~ N((1, 0), diag(0.3, 0.1)^2), turned by -(2 pi k/5 + exp(f_1)/4), times 2."""

    entropy: ClassVar[float] = 2.31779
    arms: ClassVar[int] = 5
    rate: ClassVar[float] = 0.25
    radial: ClassVar[float] = 0.3
    tangential: ClassVar[float] = 0.1
    horizon: ClassVar[float] = 5.0  # |f| beyond which p, of the order of exp(-90), is given as 0

    def sample(self, n: int, rng: Generator) -> Points:
        f, g = (normal(n, rng) * torch.tensor((self.radial, self.tangential), device=rng.device)).unbind(1)
        f = f + 1
        angle = 2 * math.pi / self.arms * choice(self.arms, n, rng) + self.rate * f.exp()
        return 2 * torch.stack((f * angle.cos() + g * angle.sin(), g * angle.cos() - f * angle.sin()), 1)

    def exact(self, x: Points) -> Values:
        """Sums over all f that some arm turns into x/2.

        With f = r (cos a, sin a), the polar angle of x/2 is w(a) - 2 pi k/5, w(a) = a - rate exp(r cos a). The map
        keeps r, so that its Jacobian is |w'(a)|, and p(x) = 1/4 sum_a p_f(r cos a, r sin a) / (5 |w'(a)|) over the
        solutions of w(a) = arg x mod 2 pi/5. One turn of a splits where w' = 0 into a rising and a falling piece.
        """
        r = (x / 2).norm(dim=1)
        near = r <= self.horizon
        r, phase = (torch.where(near, a, 0.0)[:, None] for a in (r, torch.atan2(x[:, 1], x[:, 0])))
        first, second = self._turning_points(r)
        density = self._preimages(r, phase, -first, 2 * math.pi - second) + self._preimages(r, phase, -first, -second)
        return torch.where(near, density, 0.0).log()

    def _turning_points(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """The b in (0, pi) where w'(-b) = 1 - rate r sin(b) exp(r cos b) vanishes; one b twice where it is positive."""
        peak = (2 * r / (1 + (1 + 4 * r * r).sqrt())).acos()  # of r sin(b) exp(r cos b), which rises and falls once
        folds = self._slope(r, -peak) < 0
        ends = (torch.zeros_like(peak), torch.full_like(peak, math.pi))
        first, second = (bisect(lambda b: self._slope(r, -b), peak, end, torch.zeros_like(r)) for end in ends)
        return torch.where(folds, first, peak), torch.where(folds, second, peak)

    def _winding(self, r: Tensor, a: Tensor) -> Tensor:
        return a - self.rate * (r * a.cos()).exp()

    def _slope(self, r: Tensor, a: Tensor) -> Tensor:
        return 1 + self.rate * r * a.sin() * (r * a.cos()).exp()

    def _preimages(self, r: Tensor, phase: Tensor, start: Tensor, end: Tensor) -> Values:
        """The density (n,) from the solutions between `start` and `end`, where w is monotone; arguments (n, 1)."""
        period = 2 * math.pi / self.arms
        low, high = (((self._winding(r, a) - phase) / period) for a in (start, end))
        # half-open, so that no solution at an end counts twice
        low, high = torch.minimum(low, high).floor() + 1, torch.maximum(low, high).floor()
        levels = low + torch.arange(int((high - low).max()) + 1).to(r)
        a = bisect(lambda b: self._winding(r, b), start, end, phase + period * levels)
        f, g = r * a.cos(), r * a.sin()
        exponent = ((f - 1) / self.radial).square() + (g / self.tangential).square()
        norm = 4 * self.arms * 2 * math.pi * self.radial * self.tangential
        density = (-exponent / 2).exp() / (norm * self._slope(r, a).abs())
        return torch.where(levels <= high, density, 0.0).sum(1)


def bisect(function: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, level: Tensor) -> Tensor:
    """Where `function`, monotone between `start` and `end`, equals `level`, to rounding; shapes broadcast."""
    start, end, level = torch.broadcast_tensors(start, end, level)
    rising = function(end) > function(start)
    for _ in range(54):
        middle = (start + end) / 2
        before = (function(middle) < level) == rising
        start, end = torch.where(before, middle, start), torch.where(before, end, middle)
    return (start + end) / 2

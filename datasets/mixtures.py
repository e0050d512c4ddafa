"""Gaussian mixtures in any dimension."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Map, Points, Problem, Truth, Values
from datasets.gaussians import Gaussian, check_weight, held_out
from datasets.monge_ampere import Array, Optimum, Potential, RingTransport


@dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k weights_k N(means_k, covariances_k): shapes (k,), (k, d) and (k, d, d)."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        k, d = self.means.shape
        if self.weights.shape != (k,) or self.covariances.shape != (k, d, d):
            raise ValueError(f"{k} means in {d} dimensions need ({k},) weights and ({k}, {d}, {d}) covariances")
        if bool((self.weights <= 0).any()) or abs(self.weights.sum().item() - 1) > 1e-6:
            raise ValueError("weights must be positive and sum to 1")

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @cached_property
    def components(self) -> tuple[Gaussian, ...]:
        return tuple(Gaussian(m, c) for m, c in zip(self.means, self.covariances, strict=True))

    @cached_property
    def factors(self) -> Tensor:
        return torch.stack([g.factor for g in self.components])

    def sample(self, n: int, rng: Generator) -> Points:
        u = torch.rand(n, generator=rng, device=rng.device)
        # without the last threshold, which is 1 up to rounding, no label can be out of range
        labels = torch.bucketize(u, self.weights.cumsum(0)[:-1].to(u), right=True)
        noise = torch.randn(n, self.dim, generator=rng, device=rng.device)
        # every component's factor on every point: cheaper than gathering n matrices
        moved = noise @ self.factors.to(noise).mT
        return self.means.to(noise)[labels] + moved[labels, torch.arange(n, device=rng.device)]

    def log_prob(self, x: Points) -> Values:
        each = torch.stack([g.log_prob(x) for g in self.components])
        return torch.logsumexp(each + self.weights.log().to(x)[:, None], 0)


def ring(radius: float, variance: float, dim: int = 2) -> Mixture:
    """Eight equally likely N(c_k, variance I) with c_k = radius (cos(k pi/4), sin(k pi/4), 0, ..., 0)."""
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = torch.zeros(8, dim, dtype=torch.float64)
    means[:, 0], means[:, 1] = radius * angles.cos(), radius * angles.sin()
    covariances = (variance * torch.eye(dim, dtype=torch.float64)).expand(8, dim, dim)
    return Mixture(torch.full((8,), 1 / 8, dtype=torch.float64), means, covariances)


@cache
def plane_transport() -> RingTransport:
    """The problem of `MixtureToGaussian` in the plane."""
    source = ring(4.0, 0.3)

    def log_density(x: Array) -> Array:
        return source.log_prob(torch.from_numpy(x)).numpy()

    # a mass of 2e-13 lies further out
    return RingTransport(log_density, variance=0.3, folds=8, radius=8.0)


@cache
def plane_optimum(weight: float) -> Optimum:
    """Its optimum at that weight, math.inf being the exact problem; the first takes a second or two."""
    return plane_transport().optimum(weight)


def beside_identity(plane: Callable[[Array], Array]) -> Map:
    """The map that is `plane` on the first two coordinates and leaves the others alone."""

    def extended(x: Points) -> Points:
        moved = plane(x[:, :2].detach().cpu().double().numpy())
        return torch.cat((torch.from_numpy(moved).to(x), x[:, 2:]), 1)

    return extended


def carried(u: Potential, t: float, x: Points) -> Points:
    """The velocity (n, d) at time t and points x under the optimal map grad u of the first two coordinates."""
    start = u.displaced(t).inverse(x[:, :2].detach().cpu().double().numpy())
    plane = torch.from_numpy(u.gradient(start) - start).to(x)
    return torch.cat((plane, torch.zeros_like(x[:, 2:])), 1)


@dataclass(frozen=True)
class MixtureToGaussian:
    """Eight Gaussians of covariance 0.3 I on a circle of radius 4, to N(0, 0.3 I) (Ruthotto et al. 2020).

    Beyond two coordinates both measures are N(0, 0.3 I), independent of the first two: there the optimal map is the
    identity, that of the relaxed problem too, and cost and divergence are those in the plane.
    """

    version: ClassVar[int] = 3
    plane_entropy: ClassVar[float] = 3.69869
    """Entropy for dim 2, by quadrature of -p log p on a grid; every further dimension is independent."""
    plane_cost: ClassVar[float] = 5.649890
    """1/2 W2^2 in any dimension, by `plane_optimum(math.inf)`, which takes a second that most loads need not wait."""

    dim: int = 2
    n_test: int = 2**14  # as many as L2-UVP is taken over in the literature

    def __post_init__(self) -> None:
        if self.dim < 2 or self.n_test < 1:
            raise ValueError(f"set dim to 2 or more and n_test to 1 or more; they are {self.dim} and {self.n_test}")

    def load(self, root: Path) -> Problem:
        """Make the problem; `root` is not read."""
        source = ring(4.0, 0.3, self.dim)
        eye = torch.eye(self.dim, dtype=torch.float64)
        entropy = self.plane_entropy + (self.dim - 2) / 2 * math.log(2 * math.pi * math.e * 0.3)
        target = Gaussian(torch.zeros(self.dim, dtype=torch.float64), 0.3 * eye)
        truth = Truth(
            cost=self.plane_cost,
            map=beside_identity(lambda x: plane_optimum(math.inf).potential.gradient(x)),
            nll=entropy,
            inverse=beside_identity(lambda y: plane_optimum(math.inf).potential.inverse(y)),
            kl=0.0,
            velocity=lambda t, x: carried(plane_optimum(math.inf).potential, t, x),
            log_prob=source.log_prob,
        )

        def relaxed(weight: float) -> Truth:
            check_weight(weight)
            found = plane_optimum(weight)
            u = found.potential
            T = beside_identity(u.gradient)

            def log_prob(x: Points) -> Values:
                stretch = u.log_det(x[:, :2].detach().cpu().double().numpy())
                return target.log_prob(T(x)) + torch.from_numpy(stretch).to(x)

            return Truth(
                found.cost, T, entropy, beside_identity(u.inverse), found.kl, lambda t, x: carried(u, t, x), log_prob
            )

        return Problem(source, target, held_out(source, self.n_test), truth, relaxed)

"""Gaussians in any dimension, and the optimal transport between two of them in closed form."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Map, Measure, Points, Problem, Truth, Values

TEST_SEED = 0x7E57  # far from the small seeds of runs, so that no run trains on the test points


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, covariance) with mean (d,) and covariance (d, d), symmetric positive definite."""

    mean: Tensor
    covariance: Tensor

    def __post_init__(self) -> None:
        d = len(self.mean)
        if self.covariance.shape != (d, d) or not torch.allclose(self.covariance, self.covariance.mT):
            raise ValueError(f"a mean of length {d} needs a symmetric {d} x {d} covariance")

    @property
    def dim(self) -> int:
        return len(self.mean)

    @cached_property
    def factor(self) -> Tensor:
        """The lower triangular L with L L' = covariance."""
        with torch.inference_mode(False):  # kept, so of use to training too
            return torch.linalg.cholesky(self.covariance)

    @cached_property
    def whitening(self) -> Tensor:
        """L^-1, which makes log_prob a product: cheaper than a solve, forward and backward."""
        with torch.inference_mode(False):
            return torch.linalg.solve_triangular(self.factor, torch.eye(self.dim).to(self.factor), upper=False)

    @cached_property
    def entropy(self) -> float:
        """d/2 log(2 pi e) + 1/2 log det covariance, in nats."""
        return self.dim / 2 * math.log(2 * math.pi * math.e) + self.factor.diagonal().log().sum().item()

    def sample(self, n: int, rng: Generator) -> Points:
        noise = torch.randn(n, self.dim, generator=rng, device=rng.device)
        return self.mean.to(noise) + noise @ self.factor.to(noise).T

    def log_prob(self, x: Points) -> Values:
        white = (x - self.mean.to(x)) @ self.whitening.to(x).T
        # the density at x is exp(-|z|^2/2 - entropy + d/2) with z = L^-1 (x - mean)
        return (self.dim - white.square().sum(-1)) / 2 - self.entropy


def standard_normal(dim: int) -> Gaussian:
    """N(0, I) on R^dim."""
    return Gaussian(torch.zeros(dim, dtype=torch.float64), torch.eye(dim, dtype=torch.float64))


def psd_root(covariance: Tensor) -> Tensor:
    """The symmetric positive semidefinite square root of such a matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def monge_matrix(A: Tensor, B: Tensor) -> Tensor:
    """M = A^-1/2 (A^1/2 B A^1/2)^1/2 A^-1/2: the optimal map from N(0, A) to N(0, B) is x -> M x.

    M is symmetric positive definite and M A M = B (Peyré and Cuturi 2019, remark 2.31).
    """
    half = psd_root(A)
    inverse = torch.linalg.inv(half)
    return inverse @ psd_root(half @ B @ half) @ inverse


def transport_cost(a: Gaussian, b: Gaussian) -> float:
    """1/2 W2^2(a, b) = 1/2 |m_a - m_b|^2 + 1/2 tr(A + B - 2 (A^1/2 B A^1/2)^1/2) (Gelbrich 1990)."""
    half = psd_root(a.covariance)
    bures = (a.covariance + b.covariance - 2 * psd_root(half @ b.covariance @ half)).trace()
    return ((a.mean - b.mean).square().sum() + bures).item() / 2


def transport_map(a: Gaussian, b: Gaussian) -> Map:
    """The optimal map from a to b, T(x) = m_b + M (x - m_a) with M of `monge_matrix`."""
    M = monge_matrix(a.covariance, b.covariance)
    return lambda x: b.mean.to(x) + (x - a.mean.to(x)) @ M.to(x).T


def transport_velocity(a: Gaussian, b: Gaussian) -> Callable[[float, Points], Points]:
    """The optimal velocity v(t, x) = T(x_0) - x_0 with x = (1 - t) x_0 + t T(x_0) (McCann 1997)."""
    M = monge_matrix(a.covariance, b.covariance)

    def velocity(t: float, x: Points) -> Points:
        between = torch.lerp(torch.eye(a.dim).to(M), M, t)
        slope = torch.linalg.solve(between, M, left=False) - torch.linalg.inv(between)  # (M - I) between^-1
        return (b.mean - a.mean).to(x) + (x - torch.lerp(a.mean, b.mean, t).to(x)) @ slope.to(x).T

    return velocity


def divergence(a: Gaussian, b: Gaussian) -> float:
    """KL(a || b) = 1/2 (tr(B^-1 A) - d + (m_a - m_b)' B^-1 (m_a - m_b) + log det B - log det A), in nats."""
    spread = (b.whitening @ a.factor).square().sum() + (b.whitening @ (a.mean - b.mean)).square().sum()
    return (spread.item() - a.dim) / 2 + b.entropy - a.entropy


def check_weight(weight: float) -> None:
    """Raises ValueError unless the weight of a relaxed problem is positive and finite."""
    if not 0 < weight < math.inf:
        raise ValueError(f"the weight of a relaxed problem must be positive and finite, not {weight}")


def relaxed_target(a: Gaussian, b: Gaussian, weight: float) -> Gaussian:
    """The minimiser of 1/2 W2^2(a, mu) + weight KL(mu || b) over all measures mu: a Gaussian, in closed form.

    Both terms are convex along x -> (1 - t) x + t T(x), T the gradient of a convex function, so a stationary mu is
    optimal. With mu = N(m, S), w the weight and N = `monge_matrix(S, A)`, the map back to a, stationarity reads

        m - m_a + w B^-1 (m - m_b) = 0    and    I - N + w (B^-1 - S^-1) = 0.

    S^-1 = N A^-1 N makes the latter a quadratic equation in X = A^-1/2 N A^-1/2,

        w X^2 + X = R,    R = A^-1/2 (I + w B^-1) A^-1/2,

    whose positive solution has the eigenvectors of R: X^-1 = (I + (I + 4 w R)^1/2) R^-1 / 2, S = A^-1/2 X^-2 A^-1/2.
    Raises ValueError unless the weight is positive and finite.
    """
    check_weight(weight)
    identity = torch.eye(a.dim).to(a.mean)
    mean = torch.linalg.solve(b.covariance + weight * identity, b.covariance @ a.mean + weight * b.mean)
    unhalf = torch.linalg.inv(psd_root(a.covariance))
    values, vectors = torch.linalg.eigh(unhalf @ (identity + weight * b.whitening.mT @ b.whitening) @ unhalf)
    root = unhalf @ (vectors * ((1 + (1 + 4 * weight * values).sqrt()) / (2 * values))) @ vectors.mT
    return Gaussian(mean, root @ root.mT)


def held_out(source: Measure, n: int) -> Points:
    """The n test points of an analytic source: always the same ones, on the CPU."""
    return source.sample(n, torch.Generator().manual_seed(TEST_SEED))


def random_gaussian(dim: int, rng: Generator) -> Gaussian:
    """A Gaussian with mean from N(0, I) and a randomly rotated covariance, its eigenvalues a factor of 4 apart."""
    mean = torch.randn(dim, generator=rng, dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.randn(dim, dim, generator=rng, dtype=torch.float64))
    smallest = torch.rand((), generator=rng, dtype=torch.float64) - 1
    eigenvalues = torch.exp2(smallest + torch.linspace(0, 2, dim, dtype=torch.float64))
    covariance = basis * eigenvalues @ basis.T
    return Gaussian(mean, (covariance + covariance.T) / 2)


@dataclass(frozen=True)
class Gaussians:
    """From one random Gaussian on R^dim to another: all truths, relaxed ones too, are known in closed form."""

    version: ClassVar[int] = 3

    dim: int = 2
    seed: int = 0
    n_test: int = 2**14  # as many as L2-UVP is taken over in the literature

    def __post_init__(self) -> None:
        if self.dim < 1 or self.n_test < 1:
            raise ValueError(f"set dim and n_test to 1 or more; they are {self.dim} and {self.n_test}")

    def load(self, root: Path) -> Problem:
        """Make the problem; `root` is not read."""
        rng = torch.Generator().manual_seed(self.seed)
        source, target = random_gaussian(self.dim, rng), random_gaussian(self.dim, rng)

        def truth(reached: Gaussian) -> Truth:
            """Of the transport of the source to `reached`, the target itself where nothing is relaxed."""
            T = transport_map(source, reached)
            return Truth(
                cost=transport_cost(source, reached),
                map=T,
                nll=source.entropy,
                inverse=transport_map(reached, source),
                kl=divergence(reached, target),
                velocity=transport_velocity(source, reached),
                log_prob=lambda x: source.log_prob(x) + target.log_prob(T(x)) - reached.log_prob(T(x)),
            )

        def relaxed(weight: float) -> Truth:
            return truth(relaxed_target(source, target, weight))

        return Problem(source, target, held_out(source, self.n_test), truth(target), relaxed)

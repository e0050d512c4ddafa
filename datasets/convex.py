"""Gradients of random convex functions: pairs in any dimension whose optimal map, its inverse and cost are known.

By Brenier's theorem grad psi carries any measure optimally to its image; geomloss tests by such pairs (its
tests/generators/convex_gradients.py). Here, with z = x - m, the source N(m, S), and A positive definite,

    psi(x) = n . z + 1/2 z . A z + sum_k w_k e(a_k . z),   e' = erf,
    T(x) = n + A z + sum_k w_k a_k erf(a_k . z),           w_k > 0,

whose cost is a closed form, since E erf(a . z) erf(b . z) is (Williams 1997, "Computing with infinite networks").
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Points, Problem, Truth, Values
from datasets.gaussians import Gaussian, held_out, random_gaussian
from datasets.pushforward import PushForward

SLOPE = 2 / math.sqrt(math.pi)  # erf'(0)
TOLERANCE = 32  # of the inverse, in units of rounding
MAX_ITERATIONS = 1000


@dataclass(frozen=True, eq=False)
class RidgeMap:
    """T of this module's docstring: m and n (d,), A (d, d), a_k the rows of `directions` (k, d), `weights` (k,)."""

    source_mean: Tensor
    target_mean: Tensor
    A: Tensor
    directions: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        if bool((self.weights <= 0).any()) or torch.linalg.eigvalsh(self.A)[0] <= 0:
            raise ValueError("the weights and the matrix's eigenvalues must be positive")

    def __call__(self, x: Points) -> Points:
        z = x - self.source_mean.to(x)
        a = self.directions.to(x)
        return self.target_mean.to(x) + z @ self.A.to(x) + (z @ a.T).erf_() @ (self.weights.to(x)[:, None] * a)

    def potential(self, x: Points) -> Values:
        """psi: (n, d) -> (n,); e(s) = s erf(s) + exp(-s^2) / sqrt(pi)."""
        z = x - self.source_mean.to(x)
        s = z @ self.directions.to(x).T
        ridges = s * s.erf() + torch.exp(-s * s) / math.sqrt(math.pi)
        return z @ self.target_mean.to(x) + 0.5 * ((z @ self.A.to(x)) * z).sum(1) + ridges @ self.weights.to(x)

    @cached_property
    def steepest(self) -> Tensor:
        """H = A + erf'(0) sum_k w_k a_k a_k' (d, d): no Hessian of psi exceeds it, and that at m is it."""
        return self.A + SLOPE * (self.directions.T * self.weights) @ self.directions

    def inverse(self, y: Points) -> Points:
        """T^-1: the minimiser of psi(x) - x . y, by Nesterov's method with H as metric.

        Constant momentum, which contracts by 1 - 1/sqrt(kappa), kappa the largest eigenvalue of A^-1 H (Nesterov
        2018, "Lectures on convex optimization", scheme 2.2.22).
        """
        step = torch.linalg.inv(self.steepest).to(y)
        root = math.sqrt(torch.linalg.eigvals(torch.linalg.solve(self.A, self.steepest)).real.max().item())
        momentum = (root - 1) / (root + 1)
        small = TOLERANCE * torch.finfo(y.dtype).eps * max(1.0, float(y.detach().abs().max()))
        x = ahead = self.source_mean.to(y) + (y - self.target_mean.to(y)) @ step
        for _ in range(MAX_ITERATIONS):
            before, x = x, ahead - (self(ahead) - y) @ step
            ahead = x + momentum * (x - before)
            if float((x - before).detach().abs().max()) <= small:
                break
        return x

    def cost(self, covariance: Tensor) -> float:
        """1/2 E|T(x) - x|^2 for x ~ N(m, S), exactly, by Stein's lemma and Williams's formula:

        E z erf(a . z) = S a erf'(0) / sqrt(1 + 2 a . S a),
        E erf(a . z) erf(b . z) = 2/pi arcsin(2 a . S b / sqrt((1 + 2 a . S a)(1 + 2 b . S b))).
        """
        a, w, S = self.directions, self.weights, covariance
        stretch = self.A - torch.eye(len(S)).to(S)
        G = 2 * a @ S @ a.T
        norms = (1 + G.diagonal()).sqrt()
        crossed = (w * SLOPE / norms * ((a @ stretch) * (a @ S)).sum(1)).sum()
        ridges = (w[:, None] * w * (a @ a.T) * (2 / math.pi) * torch.arcsin(G / (norms[:, None] * norms))).sum()
        linear = (stretch @ S @ stretch).trace() + (self.target_mean - self.source_mean).square().sum()
        return (0.5 * (linear + ridges) + crossed).item()


def random_ridge_map(source: Gaussian, n_ridges: int, rng: Generator) -> RidgeMap:
    """Directions uniform on the sphere and scaled so that a_k . z ~ N(0, 2^2): bent within the bulk of the source."""
    d = source.dim
    target = random_gaussian(d, rng)  # its mean and covariance serve as n and, halved, as A
    unit = torch.randn(n_ridges, d, generator=rng, dtype=torch.float64)
    unit = unit / unit.norm(dim=1, keepdim=True)
    spread = (unit @ source.covariance * unit).sum(1).sqrt()
    directions = 2 * unit / spread[:, None]
    share = d / n_ridges * (0.5 + torch.rand(n_ridges, generator=rng, dtype=torch.float64))
    return RidgeMap(source.mean, target.mean, 0.5 * target.covariance, directions, 3 * share * spread**2 / 4)


@dataclass(frozen=True)
class ConvexGradients:
    """From a random Gaussian on R^dim along the gradient of a random convex function of ridges * dim ridges."""

    version: ClassVar[int] = 1

    dim: int = 2
    ridges: int = 2
    seed: int = 0
    n_test: int = 2**14

    def __post_init__(self) -> None:
        for name in ("dim", "ridges", "n_test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")

    def load(self, root: Path) -> Problem:
        """Make the problem; `root` is not read."""
        rng = torch.Generator().manual_seed(self.seed)
        source = random_gaussian(self.dim, rng)
        optimal = random_ridge_map(source, self.ridges * self.dim, rng)
        truth = Truth(optimal.cost(source.covariance), optimal, source.entropy, optimal.inverse)
        return Problem(source, PushForward(source, optimal), held_out(source, self.n_test), truth)

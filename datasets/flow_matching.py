"""The transport problems on the plane that flow matching is judged by, at the scale of its authors' code.

Tong et al., Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal Transport (TMLR 2024, arXiv
2302.00482), Table 2, and their code (torchcfm.utils): eight Gaussians on a circle of radius 5, "var" 0.1, whose square
root is taken as the covariance; moons by torchdyn with "noise" 0.2, times 3, less 1.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator

from datasets.base import Points, Problem, Truth
from datasets.gaussians import held_out, standard_normal
from datasets.mixtures import Mixture, ring
from datasets.toy import choice, polar, uniform

VARIANCE = math.sqrt(0.1)


def eight_gaussians() -> Mixture:
    """Eight equally likely N(c_k, sqrt(0.1) I), |c_k| = 5."""
    return ring(5.0, VARIANCE)


@dataclass(frozen=True)
class NormalToEightGaussians:
    """From N(0, I) to `eight_gaussians`."""

    version: ClassVar[int] = 1
    cost: ClassVar[float] = 7.195379
    """1/2 W2^2, between bounds that `RingTransport` proves for the way back; the tests find it again."""

    n_test: int = 2**14

    def __post_init__(self) -> None:
        if self.n_test < 1:
            raise ValueError(f"set n_test to 1 or more; it is {self.n_test}")

    def load(self, root: Path) -> Problem:
        """Make the problem; `root` is not read."""
        source = standard_normal(2)
        truth = Truth(cost=self.cost, nll=source.entropy)
        return Problem(source, eight_gaussians(), held_out(source, self.n_test), truth)


@dataclass(frozen=True)
class Moons:
    """(cos a, sin a) or (1 - cos a, 1/2 - sin a), plus u (1, 1); times 3, less 1. a ~ U[0, pi], u ~ U[0, 0.2]."""

    dim: ClassVar[int] = 2

    def sample(self, n: int, rng: Generator) -> Points:
        outer = polar(1.0, math.pi * uniform(n, rng))
        inner = outer.new_tensor((1.0, 0.5)) - outer  # at the same angle
        arc = torch.where((choice(2, n, rng) == 1)[:, None], inner, outer)
        return 3 * (arc + 0.2 * uniform(n, rng)[:, None]) - 1


@dataclass(frozen=True)
class MoonsToEightGaussians:
    """From `Moons` to `eight_gaussians`: no truth is known, and the source has no density but its samples."""

    version: ClassVar[int] = 1

    n_test: int = 2**14

    def __post_init__(self) -> None:
        if self.n_test < 1:
            raise ValueError(f"set n_test to 1 or more; it is {self.n_test}")

    def load(self, root: Path) -> Problem:
        """Make the problem; `root` is not read."""
        source = Moons()
        return Problem(source, eight_gaussians(), held_out(source, self.n_test))

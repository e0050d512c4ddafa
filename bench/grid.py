"""A density on a grid: what the density-integral certificate and the pictures share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.base import Points, Values


@dataclass(frozen=True)
class Box:
    """The box from `low` to `high`, both (d,)."""

    low: Tensor
    high: Tensor


def box_around(points: Points, margin: float) -> Box:
    """The bounding box of `points` (n, d), wider by `margin` times its side at each end."""
    low, high = points.amin(0), points.amax(0)
    side = high - low
    return Box(low - margin * side, high + margin * side)


def on_grid(box: Box, cells: int, f: Callable[[Points], Values]) -> Tensor:
    """f in float64 at the corners of `cells`^d cells: shape (cells + 1,) * d, first axis first."""
    axes = [torch.linspace(0, 1, cells + 1).to(box.low) * (b - a) + a for a, b in zip(box.low, box.high, strict=True)]
    corners = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    values = f(corners.reshape(-1, len(axes)))
    return values.detach().double().reshape(corners.shape[:-1])


def density_on(box: Box, cells: int, log_prob: Callable[[Points], Values]) -> Tensor:
    """exp(log_prob) as `on_grid` has it."""
    return on_grid(box, cells, log_prob).exp()


def integral(density: Tensor, box: Box) -> float:
    """The integral over `box` of the values that `density_on` gave, by the trapezoid rule.

    For a smooth density that vanishes at the border it converges faster than any power of the spacing h: a
    Gaussian of standard deviation s is off by about 2 exp(-2 pi^2 s^2 / h^2), 6e-9 at s = h and 1e-2 at s = h / 2
    (Poisson's summation formula; Trefethen and Weideman 2014, section 3).
    """
    spacings = (box.high - box.low).double() / (len(density) - 1)
    for _ in spacings:
        density = torch.trapezoid(density, dim=-1)
    return (density * spacings.prod()).item()

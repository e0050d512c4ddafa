"""A potential whose gradient is a map: quadratic plus multilayer perceptron, value and gradient in closed form.

    u(x) = 1/2 x . M x + b . x + w . N((x - m) / s),   grad u(x) = M x + b + (J' w)((x - m) / s) / s,

with M = (A + A')/2, N layers a_l = elu(K_l a_{l-1} + b_l), and J their Jacobian. By Brenier's theorem the optimal map
for the cost 1/2 |x - y|^2 is the gradient of a convex function; u need not be convex, which makes it easier to train.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from datasets.base import Points, Values
from datasets.gaussians import Gaussian, monge_matrix
from solvers.once import once_differentiable


class _Elu(torch.autograd.Function):
    """z -> (elu(z), elu'(z)) from one exponential: e = exp(min(z, 0)) is the slope and max(z, 0) + e - 1 the value."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        slope = z.clamp(max=0.0).exp_()
        value = z.clamp(min=0.0).add_(slope).sub_(1.0)
        ctx.save_for_backward(z, slope)
        return value, slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_value: Tensor | None, to_slope: Tensor | None) -> Tensor:
        z, slope = ctx.saved_tensors
        if to_slope is None:
            return to_value * slope
        bent = to_slope * (z < 0)
        return (bent if to_value is None else bent.add_(to_value)).mul_(slope)


class BrenierPotential(nn.Module):
    """u of this module's docstring; `hidden` are the widths of N, `mean` m and `scale` s (d,) are not trained.

    It begins as the quadratic with `matrix` (d, d) and `offset` (d,), plus a small N.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, hidden: Sequence[int], mean: Tensor, scale: Tensor, matrix: Tensor, offset: Tensor) -> None:
        super().__init__()
        widths = (len(mean), *hidden)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.w = nn.Parameter(nn.init.normal_(torch.empty(widths[-1]), std=widths[-1] ** -0.5))
        self.A = nn.Parameter(matrix.clone())
        self.b = nn.Parameter(offset.clone())
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())

    @classmethod
    def between(cls, a: Gaussian, b: Gaussian, hidden: Sequence[int]) -> "BrenierPotential":
        """The potential whose gradient begins as the optimal map from a to b."""
        M = monge_matrix(a.covariance, b.covariance)
        return cls(hidden, a.mean, a.covariance.diagonal().sqrt(), M, b.mean - M @ a.mean)

    def value(self, x: Points) -> Values:
        """u: (n, d) -> (n,)."""
        a = (x - self.mean) / self.scale
        for layer in self.layers:
            a, _ = _Elu.apply(layer(a))  # torch's own takes twice as long
        return torch.addmv(0.5 * ((x @ self.A) * x).sum(1), a, self.w) + x @ self.b

    def gradient(self, x: Points) -> Points:
        """grad u: (n, d) -> (n, d); differentiable once, in weights and x."""
        a = (x - self.mean) / self.scale
        slopes: list[Tensor] = []
        weights: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            a, slope = _Elu.apply(layer(a))
            slopes.append(slope)
            weights.append(layer.weight)
        delta = self.w * slopes.pop()
        while slopes:
            delta = (delta @ weights.pop()) * slopes.pop()
        quadratic = torch.addmm(self.b, x, 0.5 * (self.A + self.A.T))
        return quadratic + delta @ (weights.pop() / self.scale)

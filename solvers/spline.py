"""Natural cubic splines through values at the centres of cells, straight beyond the first and the last."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """n >= 3 nodes start + step * (0, ..., n - 1); the spline is twice continuously differentiable everywhere."""

    start: float
    step: float
    n: int

    @cached_property
    def fitting(self) -> Tensor:
        """The matrix (n + 2, n) from values at the nodes to coefficients of cubic B-splines, in float64.

        (c_{i-1} + 4 c_i + c_{i+1}) / 6 = value_i, and no second derivative at both ends (de Boor 1978, chapter IV).
        """
        A = torch.zeros(self.n + 2, self.n + 2, dtype=torch.float64)
        rows = torch.arange(self.n)
        for offset, weight in enumerate((1 / 6, 4 / 6, 1 / 6)):
            A[rows + 1, rows + offset] = weight
        A[0, :3] = A[-1, -3:] = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
        return torch.linalg.inv(A)[:, 1:-1]

    def interpolation(self, x: Tensor) -> Tensor:
        """The matrix (m, n) from values at the nodes to values at x (m,)."""
        first, value, _, _ = self.weights(x)
        rows = torch.zeros(len(x), self.n + 2, dtype=x.dtype)
        return rows.scatter_(1, first[:, None] + torch.arange(4), value) @ self.fitting.to(x)

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First coefficient (...) and the weights (..., 4) of value, derivative and second derivative at x (...)."""
        u = (x - self.start) / self.step
        inside = u.clamp(0, self.n - 1)
        first = inside.detach().floor().clamp_max(self.n - 2)
        s = inside - first
        r = 1 - s
        value = torch.stack([r**3, 4 - 6 * s**2 + 3 * s**3, 4 - 6 * r**2 + 3 * r**3, s**3], -1) / 6
        slope = torch.stack([-(r**2), 3 * s**2 - 4 * s, 4 * r - 3 * r**2, s**2], -1) / 2
        curvature = torch.stack([r, 3 * s - 2, 3 * r - 2, s], -1)
        value = value + (u - inside)[..., None] * slope
        return first.long(), value, slope / self.step, curvature / self.step**2


@dataclass(frozen=True, eq=False)
class Spline:
    """A scalar field of time and place: `values` (times, n, n) at the nodes of `time`, `space` and `space`."""

    time: Axis
    space: Axis
    values: Tensor

    @cached_property
    def coefficients(self) -> Tensor:
        """(times + 2, n + 2, n + 2)."""
        T, S = self.time.fitting.to(self.values), self.space.fitting.to(self.values)
        return S @ torch.tensordot(T, self.values, 1) @ S.T

    def value(self, t: float, x: Tensor) -> Tensor:
        """At the points x (m, 2), in the dtype of x: (m,)."""
        first, weights, _, _ = self.time.weights(torch.tensor(t, dtype=torch.float64))
        four = self.coefficients[int(first) : int(first) + 4]
        now = torch.tensordot(weights.to(four), four, 1).to(x)
        (i, a, *_), (j, b, *_) = self.space.weights(x[:, 0]), self.space.weights(x[:, 1])
        offsets = torch.arange(4, device=x.device)
        c = now[(i[:, None] + offsets)[:, :, None], (j[:, None] + offsets)[:, None, :]]
        return torch.einsum("mab,ma,mb->m", c, a, b)

    def derivatives(self, t: float, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Time derivative (m,), gradient (m, 2) and Laplacian (m,) at the points x (m, 2), in the dtype of x."""
        first, value, slope, _ = self.time.weights(torch.tensor(t, dtype=torch.float64))
        four = self.coefficients[int(first) : int(first) + 4]
        now, rate = (torch.tensordot(w.to(four), four, 1).to(x) for w in (value, slope))
        (i, *a), (j, *b) = self.space.weights(x[:, 0]), self.space.weights(x[:, 1])
        offsets = torch.arange(4, device=x.device)
        rows, columns = (i[:, None] + offsets)[:, :, None], (j[:, None] + offsets)[:, None, :]
        c = now[rows, columns]
        along = [torch.einsum("mab,mb->ma", c, w) for w in b]  # value, slope and curvature along the second
        gradient = torch.stack([(a[1] * along[0]).sum(1), (a[0] * along[1]).sum(1)], 1)
        laplacian = (a[2] * along[0]).sum(1) + (a[0] * along[2]).sum(1)
        return torch.einsum("mab,ma,mb->m", rate[rows, columns], a[0], b[0]), gradient, laplacian

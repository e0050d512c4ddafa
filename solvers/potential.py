"""OT-Flow's potential: value, gradient and Laplacian in closed form.

Onken, Wu Fung, Li and Ruthotto, OT-Flow (AAAI 2021, arXiv 2006.00104), equations (9) to (15):

    Phi(s) = w . N(s) + 1/2 s . M s + b . s + c,   s = (x, t),   M = A'A or (A + A')/2,
    N: u_0 = sigma(K_0 s + b_0),   u_i = u_{i-1} + h sigma(K_i u_{i-1} + b_i),   h = 1/(depth - 1),

with sigma(a) = log(2 cosh a), so that sigma' = tanh and sigma'' = 1 - tanh^2.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

BLOCK_BYTES = 2**21  # of the products in `SquaredNorms`: about a core's share of cache

Quadratic = Literal["gram", "symmetric"]


def log_2_cosh(a: Tensor) -> Tensor:
    """log(2 cosh a) = |a| + log(1 + exp(-2 |a|)), which does not overflow."""
    size = a.abs()
    return size + torch.log1p(torch.exp(-2.0 * size))


class _Activation(torch.autograd.Function):
    """a -> (log(2 cosh a), tanh a), from one sigmoid p = 1/(1 + exp(-2 |a|)): |a| - log p and sign(a) (2 p - 1)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> tuple[Tensor, Tensor]:
        size = a.abs()
        p = torch.sigmoid(2.0 * size)
        value = torch.sub(size, torch.log(p))
        slope = p.mul_(2.0).sub_(1.0).copysign_(a)
        ctx.save_for_backward(slope)
        return value, slope

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_value: Tensor, grad_slope: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return torch.addcmul(grad_value * slope, grad_slope, 1.0 - slope * slope)


class SquaredNorms(torch.autograd.Function):
    """r_nj = sum_k (sum_m a_nm W_kjm)^2 for a (n, m) and W (k, j, m), without keeping the (n, k, j) products.

    They are formed block by block, and once more on the way back, where with G the gradient of r and
    V = a W': dr/da = (2 G V) W and dr/dW = (2 G V)' a.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, W: Tensor) -> Tensor:
        ctx.save_for_backward(a, W)
        k, j, m = W.shape
        flat = W.reshape(k * j, m)
        return torch.cat([(rows @ flat.T).square_().view(-1, k, j).sum(1) for rows in a.split(_rows(W))])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, W = ctx.saved_tensors
        k, j, m = W.shape
        flat = W.reshape(k * j, m)
        grad_a, grad_W = torch.empty_like(a), torch.zeros_like(flat)
        size = _rows(W)
        for rows, weights, out in zip(a.split(size), (2.0 * grad).split(size), grad_a.split(size), strict=True):
            products = (rows @ flat.T).view(-1, k, j).mul_(weights.unsqueeze(1)).view(-1, k * j)
            torch.mm(products, flat, out=out)
            grad_W.addmm_(products.T, rows)
        return grad_a, grad_W.view(k, j, m)


def _rows(W: Tensor) -> int:
    """How many rows of a block fit BLOCK_BYTES, but enough for an efficient matrix product."""
    return max(64, BLOCK_BYTES // (W.shape[0] * W.shape[1] * W.element_size()))


class ResNet(nn.Module):
    """N: R^(dim+1) -> R^width, an opening layer and depth - 1 residual layers with step 1/(depth - 1)."""

    def __init__(self, dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim + 1, width), *(nn.Linear(width, width) for _ in range(depth - 1))])
        self.h = 1.0 / (depth - 1)

    def forward(self, s: Tensor) -> Tensor:
        """(n, dim+1) -> (n, width)."""
        u = log_2_cosh(self.layers[0](s))
        for layer in self.layers[1:]:
            u = u + self.h * log_2_cosh(layer(u))
        return u


class Potential(nn.Module):
    """Phi(s) = w . N(s) + 1/2 s . M s + b . s + c for s = (x, t) in R^(dim+1).

    `quadratic` "gram" takes M = A'A with A (rank, dim+1), "symmetric" M = (A + A')/2 with A (dim+1, dim+1),
    indefinite and started at 0 (Ruthotto et al. 2020). `rank` is capped at dim + 1.
    Raises ValueError for sizes that make no network.
    """

    def __init__(self, dim: int, width: int, depth: int = 2, rank: int = 10, quadratic: Quadratic = "gram") -> None:
        super().__init__()
        if min(dim, width, rank) < 1 or depth < 2:
            raise ValueError(f"need dim, width, rank >= 1 and depth >= 2, not {dim}, {width}, {rank} and {depth}")
        if quadratic not in ("gram", "symmetric"):
            raise ValueError(f'quadratic is "gram" or "symmetric", not {quadratic!r}')
        self.dim = dim
        self.quadratic = quadratic
        if quadratic == "gram":
            self.A = nn.Parameter(nn.init.xavier_uniform_(torch.empty(min(rank, dim + 1), dim + 1)))
        else:
            self.A = nn.Parameter(torch.zeros(dim + 1, dim + 1))
        self.w = nn.Linear(width, 1, bias=False)
        self.c = nn.Linear(dim + 1, 1)
        self.N = ResNet(dim, width, depth)
        nn.init.ones_(self.w.weight)
        nn.init.zeros_(self.c.weight)
        nn.init.zeros_(self.c.bias)

    def matrix(self) -> Tensor:
        """The symmetric matrix M (dim+1, dim+1) of the quadratic term."""
        return self.A.T @ self.A if self.quadratic == "gram" else 0.5 * (self.A + self.A.T)

    def forward(self, s: Tensor) -> Tensor:
        """Phi(s): (n, dim+1) -> (n,)."""
        return (self.w(self.N(s)) + self.c(s)).squeeze(1) + 0.5 * ((s @ self.matrix()) * s).sum(1)

    def gradient(self, s: Tensor) -> Tensor:
        """The gradient in s: (n, dim+1) -> (n, dim+1); eq. (11) and (12)."""
        return Evaluation(self).gradient(s)

    def gradient_and_laplacian(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient in s (n, dim+1), and the Laplacian in x alone (n,), exact; eq. (13) to (15)."""
        return Evaluation(self).gradient_and_laplacian(s)


class Evaluation:
    """Gradient and Laplacian of a potential at many points: what depends on the weights alone is formed once.

    Valid until the weights change. Differentiable once in weights and points.
    """

    def __init__(self, potential: Potential) -> None:
        first, *further = (layer for layer in potential.N.layers if isinstance(layer, nn.Linear))
        self.K0, self.b0 = first.weight, first.bias
        self.further = [(layer.weight, layer.bias) for layer in further]
        self.h = potential.N.h
        self.w = potential.w.weight.squeeze(0)
        self.b = potential.c.weight
        self.M = potential.matrix()
        self.dim = potential.dim
        self._products: tuple[Tensor, Tensor, Tensor] | None = None

    def gradient(self, s: Tensor) -> Tensor:
        """(n, dim+1) -> (n, dim+1)."""
        return self._backward(s, *self._forward(s))[0]

    def gradient_and_laplacian(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """(n, dim+1) -> (n, dim+1), (n,)."""
        slope0, slopes = self._forward(s)
        gradient, z = self._backward(s, slope0, slopes)
        return gradient, self._laplacian(slope0, slopes, z)

    def _forward(self, s: Tensor) -> tuple[Tensor, list[Tensor]]:
        """sigma' of the opening layer (n, m) and of each further one."""
        u, slope0 = _Activation.apply(torch.addmm(self.b0, s, self.K0.T))
        slopes = []
        for K, bias in self.further[:-1]:
            value, slope = _Activation.apply(torch.addmm(bias, u, K.T))
            u = u + self.h * value
            slopes.append(slope)
        K, bias = self.further[-1]
        slopes.append(torch.tanh(torch.addmm(bias, u, K.T)))  # the last value enters Phi alone
        return slope0, slopes

    def _backward(self, s: Tensor, slope0: Tensor, slopes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The gradient, and z_1 .. z_{depth}: z_i = z_{i+1} + h K_i' (sigma'_i z_{i+1}), the last one w; eq. (12)."""
        z = [self.w]
        for (K, _), slope in zip(reversed(self.further), reversed(slopes), strict=True):
            z.insert(0, torch.add(z[0], (slope * z[0]) @ K, alpha=self.h))
        gradient = torch.addmm(self.b, s, self.M) + (slope0 * z[0]) @ self.K0
        return gradient, z

    def _laplacian(self, slope0: Tensor, slopes: list[Tensor], z: list[Tensor]) -> Tensor:
        """tr M_xx + t_0 + h sum_i t_i, t_i = sum_j sigma''_ij z_{i+1,j} |row j of K_i J_{i-1}|^2; eq. (14)."""
        trace, squares, W = self._hoisted()
        total = trace + ((1.0 - slope0 * slope0) * z[0]) @ squares
        norms = SquaredNorms.apply(slope0, W)
        total = total + self.h * ((1.0 - slopes[0] * slopes[0]) * norms * z[1]).sum(1)
        if len(slopes) == 1:
            return total
        J = slope0.unsqueeze(2) * self.K0[:, : self.dim]  # J_0 = d u_0 / d x, (n, m, d)
        for i in range(1, len(slopes)):
            J = J + self.h * slopes[i - 1].unsqueeze(2) * (self.further[i - 1][0] @ J)
            rows = (self.further[i][0] @ J).square().sum(2)
            total = total + self.h * ((1.0 - slopes[i] * slopes[i]) * rows * z[i + 1]).sum(1)
        return total

    def _hoisted(self) -> tuple[Tensor, Tensor, Tensor]:
        """tr M_xx, |rows of K_0|^2 in x (m,), and W_kjm = K1_jm K0_mk (d, m, m), so that K_1 J_0 = sigma' W."""
        if self._products is None:
            inner = self.K0[:, : self.dim]
            W = self.further[0][0] * inner.T.contiguous().unsqueeze(1)
            self._products = torch.trace(self.M[: self.dim, : self.dim]), inner.square().sum(1), W
        return self._products

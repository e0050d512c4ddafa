"""OT-Flow's potential: value, gradient and Laplacian in closed form.

Onken, Wu Fung, Li and Ruthotto, OT-Flow (AAAI 2021, arXiv 2006.00104), equations (9) to (15):

    Phi(s) = w . N(s) + 1/2 s . M s + b . s + c,   s = (x, t),   M = A'A or (A + A')/2,
    N: u_0 = sigma(K_0 s + b_0),   u_i = u_{i-1} + h sigma(K_i u_{i-1} + b_i),   h = 1/(depth - 1),

with sigma(a) = log(2 cosh a), so that sigma' = tanh and sigma'' = 1 - tanh^2.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from solvers.evaluation import Buffers, Evaluation, Weights
from solvers.once import once_differentiable

Quadratic = Literal["gram", "symmetric"]


def log_2_cosh(a: Tensor) -> Tensor:
    """log(2 cosh a) = |a| + log(1 + exp(-2 |a|)), which does not overflow."""
    size = a.abs()
    return size + torch.log1p(torch.exp(-2.0 * size))


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
        square = (s @ self.A.T).square() if self.quadratic == "gram" else (s @ self.matrix()) * s
        return (self.w(self.N(s)) + self.c(s)).squeeze(1) + 0.5 * square.sum(1)

    def trace(self) -> Tensor:
        """The Laplacian in x of the quadratic term, ()."""
        if self.quadratic == "gram":
            return self.A[:, : self.dim].square().sum()
        return torch.trace(self.A[: self.dim, : self.dim])

    def weights(self) -> Weights:
        """As the closed forms take them."""
        hidden = [tensor for layer in self.N.layers for tensor in layer.parameters()]  # weight, bias
        factored = self.quadratic == "gram" and 2 * len(self.A) < self.dim + 1  # which takes fewer operations
        quadratic = self.A if factored else self.matrix()
        return Weights((*hidden, self.w.weight.squeeze(0), self.c.weight.squeeze(0), quadratic), factored)

    def gradient(self, s: Tensor) -> Tensor:
        """The gradient in s: (n, dim+1) -> (n, dim+1); eq. (11) and (12). Differentiable once."""
        gradient: Tensor = self._closed_form(s, False)[0]
        return gradient

    def gradient_and_laplacian(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient in s (n, dim+1), and the Laplacian in x alone (n,), exact; eq. (13) to (15).

        Differentiable once in weights and points.
        """
        gradient, laplacian = self._closed_form(s, True)
        return gradient, laplacian + self.trace()

    def _closed_form(self, s: Tensor, laplacian: bool) -> Any:
        weights = self.weights()
        inputs = (s, *weights.tensors)
        keep = 0 if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs) else None
        return _ClosedForm.apply(weights.factored, laplacian, keep, *inputs)


class _ClosedForm(torch.autograd.Function):
    """Gradient and, where asked for, Laplacian less that of the quadratic term, at s (n, dim+1)."""

    @staticmethod
    def forward(
        ctx: Any, factored: bool, laplacian: bool, keep: int | None, s: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        ctx.save_for_backward(*weights)
        ctx.set_materialize_grads(False)
        ctx.evaluation = Evaluation(Weights(weights, factored), Buffers())
        S = torch.cat([s.T, s.new_ones(1, len(s))])
        gradient, value, ctx.record = ctx.evaluation.forward(S, laplacian, keep)
        return gradient.T, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor | None, l: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: E741
        S, _ = ctx.record.S, ctx.saved_tensors  # the latter raises where weights have changed
        G = S.new_zeros(len(S) - 1, S.shape[1]) if G is None else G.T
        grad_s = ctx.evaluation.backward(ctx.record, G, l)
        return None, None, None, grad_s.T, *ctx.evaluation.weight_gradients()

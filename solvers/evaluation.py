"""Gradient and Laplacian of OT-Flow's potential with their adjoint, written by hand for speed.

Onken, Wu Fung, Li and Ruthotto, OT-Flow (AAAI 2021, arXiv 2006.00104), equations (11) to (15), of the potential in
solvers.potential. With L = depth - 1 further layers, p_i = tanh(a_i) and z_{L+1} = w,

    a_0 = K_0 s + b_0,   a_i = K_i u_{i-1} + b_i,   u_0 = sigma(a_0),   u_i = u_{i-1} + h sigma(a_i),
    z_i = z_{i+1} + h K_i' (p_i z_{i+1}),   gradient = K_0' (p_0 z_1) + M s + b,
    Laplacian in x = tr M_xx + ((1 - p_0^2) z_1) . |rows of K_0|^2 + sum_i c_i . |rows of K_i J_{i-1}|^2,
    c_i = h (1 - p_i^2) z_{i+1},   J_0 = p_0 K_0,   J_i = J_{i-1} + h p_i (K_i J_{i-1}).

Nearly all work is in |rows of K_1 J_0|^2, for which see `Evaluation._norms`. A scalar form by automatic
differentiation of the potential is in tests/oracles.py.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import torch
from torch import Tensor

STRIDE = 16  # columns of zeros are left out in multiples of this: a vector register
ROUNDED_BLOCK = 4  # of k at once, where W is in a lower precision than the rest
LOG_2 = math.log(2.0)


class Buffers:
    """Tensors made once and used again, by name.

    Memory that goes back to the system is faulted in again page by page at its next use: half the time of a step.
    `turn` counts the recordings made in them: each overwrites the one before.
    """

    def __init__(self) -> None:
        self.turn = 0
        self._kept: dict[Hashable, Tensor] = {}

    def empty(self, name: Hashable, shape: tuple[int, ...], like: Tensor) -> Tensor:
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape or kept.dtype != like.dtype or kept.device != like.device:
            kept = self._kept[name] = like.new_empty(shape)
        return kept


@dataclass(frozen=True)
class Weights:
    """A potential's weights, and how they go together.

    `tensors` are K_0 (m, d+1), b_0, K_1, b_1 ... K_L, b_L, w (m,), b (d+1,) and the quadratic term: A (r, d+1) where
    `factored`, with M = A'A, and else M itself.
    """

    tensors: tuple[Tensor, ...]
    factored: bool


@dataclass
class Record:
    """What `Evaluation.backward` needs of a forward evaluation: (n, m) each, but S (d+2, n)."""

    S: Tensor
    slopes: list[Tensor] = field(default_factory=list)  # p_0 .. p_L
    values: list[Tensor] = field(default_factory=list)  # 2 (u_i - offset_i), i < L
    z: list[Tensor] = field(default_factory=list)  # z_1 .. z_L
    norms: Tensor | None = None  # |rows of K_1 J_0|^2
    slope0: Tensor | None = None  # the Laplacian's gradient in p_0 through its first two terms


class Evaluation:
    """Gradient and Laplacian less tr M_xx at many points: what depends on the weights alone is formed once.

    Points come as S (d+2, n), with rows x, t and 1. Hidden layers are (n, m). `trace_dtype` is that of the matrix
    products of |rows of K_1 J_0|^2 and its adjoint: bfloat16 makes a relative error of about 2e-3 in the Laplacian
    and 1e-2 in its gradient, and takes half the time where the processor has such instructions.
    """

    def __init__(self, weights: Weights, buffers: Buffers, trace_dtype: torch.dtype | None = None) -> None:
        K0, b0, *hidden, w, b, quadratic = weights.tensors
        self.K0, self.w, self.quadratic, self.factored = K0, w, quadratic, weights.factored
        self.K = hidden[::2]
        self.h = 1.0 / len(self.K)
        self.buffers = buffers
        self.dtype = trace_dtype or w.dtype
        self.width, self.dim = K0.shape[0], K0.shape[1] - 1
        # 2 sigma(a) - 2 log 2 = |2 a| - 2 log(1 + |tanh a|), so hidden values are kept as 2 (u_i - offset_i)
        self.offsets = [LOG_2 * (1.0 + i * self.h) for i in range(len(self.K))]
        self.opening = 2.0 * torch.cat([K0, b0.unsqueeze(1)], 1)
        self.biases = [
            2.0 * (bias + offset * K.sum(1)) for K, bias, offset in zip(self.K, hidden[1::2], self.offsets, strict=True)
        ]
        self.b = b.unsqueeze(1)
        self.K0t = K0.T.contiguous()
        self.closing = (self.h * w).unsqueeze(1) * self.K[-1]
        self.minus_one, self.one = w.new_tensor(-1.0), w.new_tensor(1.0)
        self._products: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self._cut: list[tuple[int, Tensor, Tensor]] = []
        self._shares: Tensor | None = None
        self._sums: dict[str, Tensor] = {}

    def forward(
        self, S: Tensor, laplacian: bool, keep: int | None = None, share: float = 0.0
    ) -> tuple[Tensor, Tensor | None, Record]:
        """The gradient (d+1, n), the Laplacian less tr M_xx (n,) where asked for, and the record.

        The record is of use to `backward` where it is given a place to `keep`, of its own. With a `share`, that
        multiple of what the Laplacian's sum over rows has for gradient in W is added up for `weight_gradients`.
        """
        record = Record(S)
        n, last = S.shape[1], len(self.K)
        doubled = self._buffer("doubled", n)
        torch.mm(S.T, self.opening.T, out=doubled)
        record.slopes.append(self._slope(doubled, self._buffer("slope", n, keep, 0)))
        record.values.append(self._value(doubled, record.slopes[0], self._buffer("value", n, keep, 0)))
        for i, (K, bias) in enumerate(zip(self.K, self.biases, strict=True), 1):
            before = record.values[-1]
            torch.addmm(bias, before, K.T, out=doubled)
            record.slopes.append(self._slope(doubled, self._buffer("slope", n, keep, i)))
            if i < last:  # the last value enters the potential alone
                value = self._value(doubled, record.slopes[i], self._buffer("value", n, keep, i))
                record.values.append(torch.add(before, value, alpha=self.h, out=value))
        z = torch.addmm(self.w, record.slopes[-1], self.closing, out=self._buffer("z", n, keep, last))
        record.z.append(z)
        for i in range(last - 1, 0, -1):
            y = torch.mul(record.slopes[i], z, out=doubled)
            z = torch.addmm(z, y, self.K[i - 1], alpha=self.h, out=self._buffer("z", n, keep, i))
            record.z.insert(0, z)
        y = torch.mul(record.slopes[0], z, out=self._buffer("y", n))
        quadratic = self._quadratic(S[:-1])
        gradient = torch.addmm(quadratic.add_(self.b), self.K0t, y.T)
        return gradient, self._laplacian(record, y, keep, share) if laplacian else None, record

    def _slope(self, doubled: Tensor, out: Tensor) -> Tensor:
        """tanh a = 2 / (1 + exp(-2 a)) - 1: the logistic function is several times faster than tanh."""
        torch.sigmoid(doubled, out=out)
        return torch.add(self.minus_one, out, alpha=2.0, out=out)

    def _value(self, doubled: Tensor, slope: Tensor, out: Tensor) -> Tensor:
        """2 (log(2 cosh a) - log 2)."""
        torch.abs(slope, out=out).log1p_()
        return torch.sub(doubled.abs_(), out, alpha=2.0, out=out)

    def _curvature(self, slope: Tensor, out: Tensor) -> Tensor:
        return torch.addcmul(self.one, slope, slope, value=-1.0, out=out)

    def _quadratic(self, S: Tensor) -> Tensor:
        """M S, (d+1, n)."""
        Q = self.quadratic
        return Q.T @ (Q @ S) if self.factored else Q @ S

    def _laplacian(self, record: Record, y: Tensor, keep: int | None, share: float) -> Tensor:
        _, W, squares, _ = self._hoisted()
        n, slope, z = len(y), record.slopes[0], record.z[0]
        scratch = self._buffer("scratch", n)
        total = torch.addcmul(z, slope, y, value=-1.0, out=scratch) @ squares
        c = self._weight(record, 1, self._buffer("c", n))
        record.norms = self._buffer("norms", n, keep).zero_()
        if keep is not None:
            record.slope0 = torch.mul(y, -2.0 * squares, out=self._buffer("slope0", n, keep))
        if share and self._shares is None:
            self._shares = self.buffers.empty("shares", W.shape, y).zero_()
        self._norms(slope, c, record.norms, record.slope0, self._shares, share)
        total.add_(torch.mul(c, record.norms, out=scratch).sum(1))
        if len(self.K) > 1:
            further = [self._weight(record, i, torch.empty_like(c)) for i in range(2, len(self.K) + 1)]
            total.add_(deeper(record.slopes[:-1], further, self.K0[:, : self.dim], self.K))
        return total

    def _weight(self, record: Record, i: int, out: Tensor) -> Tensor:
        """c_i = h (1 - p_i^2) z_{i+1}."""
        self._curvature(record.slopes[i], out)
        return out.mul_(self.h * self.w) if i == len(self.K) else out.mul_(record.z[i]).mul_(self.h)

    def _hoisted(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """R (m, r), W (r, m, m) with W_kjm = K1_jm R_mk, |rows of K_0|^2 in x (m,), and Q (d, r), r = min(d, m).

        |rows of K_1 diag(p) K_0|^2 stay as they are where K_0 is multiplied by an orthogonal Q, so R = K_0 Q takes
        its place: with no more columns than K_0 has rows, and lower triangular, which saves work in V = p W'. In the
        gradient Q counts as constant: to first order, K_0 K_0' = (K_0 Q)(K_0 Q)' holds for all K_0.
        """
        if self._products is None:
            inner = self.K0[:, : self.dim]
            Q = torch.linalg.qr(inner.T).Q
            R = (inner @ Q).tril()
            W = self.K[0] * R.T.contiguous().unsqueeze(1)
            self._products = R, W.to(self.dtype).contiguous(), inner.square().sum(1), Q
        return self._products

    def _norms(
        self,
        p: Tensor,
        c: Tensor,
        norms: Tensor | None,
        grad_p: Tensor | None,
        grad_W: Tensor | None,
        share: float = 1.0,
    ) -> None:
        """Add sum_k V_nkj^2 to norms_nj for V = p W', without keeping V, and the gradient of their sum weighted by c.

        That is 2 (c V) W in p, added to `grad_p`, and 2 (c V)' p in W, `share` times added to `grad_W`. All three
        are formed for one k after the other, in memory that stays in cache; for some k at once where the products
        are rounded, so that fewer sums are.
        """
        _, W, _, _ = self._hoisted()
        n, m = p.shape
        exact = W.dtype == p.dtype
        block = 1 if exact else ROUNDED_BLOCK
        buffer = self.buffers.empty("V", (n, block * m), W)
        twice = torch.mul(c, 2.0, out=self._buffer("twice", n)).to(W.dtype)
        p = p.to(W.dtype)
        grads = repeat(None) if grad_W is None else grad_W.view(-1, m).split(block * m)
        for (start, W_k, W_k_from), grad_W_k in zip(self._blocks(block), grads, strict=False):
            V = buffer if len(W_k) == block * m else buffer[:, : len(W_k)]
            torch.mm(p[:, start:] if start else p, W_k_from, out=V)
            if norms is not None:
                if exact:
                    norms.addcmul_(V, V)
                else:
                    squares = self.buffers.empty("squares", (n, block * m), W)[:, : len(W_k)]
                    norms.add_(torch.mul(V, V, out=squares).view(n, -1, m).sum(1))
            if grad_p is None and grad_W is None:
                continue
            if exact:
                V.mul_(twice)
            else:
                V.view(n, -1, m).mul_(twice.unsqueeze(1))
            if grad_p is not None:
                grad_p.addmm_(V, W_k) if exact else grad_p.add_(V @ W_k)
            if grad_W_k is not None:
                grad_W_k.addmm_(V.T, p, alpha=share) if exact else grad_W_k.add_(V.T @ p, alpha=share)

    def _blocks(self, block: int) -> list[tuple[int, Tensor, Tensor]]:
        """(start, W_k, W_k from column `start` on, transposed) of `block` k at a time; W_k is 0 before it."""
        if not self._cut:
            _, W, _, _ = self._hoisted()
            for i, W_k in enumerate(W.view(-1, self.width).split(block * self.width)):
                start = i * block // STRIDE * STRIDE
                self._cut.append((start, W_k, W_k[:, start:].T))
        return self._cut

    def backward(self, record: Record, G: Tensor, l: Tensor | None, known: bool = False) -> Tensor:  # noqa: E741
        """The gradient in S (d+1, n) of <G, gradient> + <l, Laplacian>; those in the weights are added up.

        The gradient in W is left out where it is `known`: from the shares of `forward`.
        """
        n, last = record.S.shape[1], len(self.K)
        slope, z = record.slopes[0], record.z[0]
        y = torch.mul(slope, z, out=self._buffer("y", n))
        self._sum("K0", self.K0t.shape, y).addmm_(G, y)
        grad_z = torch.mm(G.T, self.K0t, out=self._buffer("grad_z", n))
        grad_slopes = [torch.mul(grad_z, z, out=self._buffer("grad_slope", n, None, 0))]
        grad_z.mul_(slope)
        grad_c: list[Tensor] = []
        scratch = self._buffer("scratch", n)
        if l is not None:
            column = l.unsqueeze(1)
            _, _, squares, _ = self._hoisted()
            assert record.slope0 is not None
            assert record.norms is not None
            torch.addcmul(z, slope, y, value=-1.0, out=scratch)
            self._sum("squares", squares.shape, l).addmv_(scratch.T, l)
            grad_slopes[0].addcmul_(record.slope0, column)
            grad_z.addcmul_(self._curvature(slope, scratch).mul_(squares), column)
            grad_c.append(torch.mul(record.norms, column, out=self._buffer("grad_c", n)))
            if not known:
                c = self._weight(record, 1, self._buffer("c", n)).mul_(column)
                self._norms(slope, c, None, None, self._sum("W", (len(self._hoisted()[1]), *self.K[0].shape), c))
            if last > 1:
                grad_c += self._deeper_backward(record, grad_slopes, l)
        for i, K in enumerate(self.K, 1):
            slope = record.slopes[i]
            if i == last:
                self._sum("closing", K.shape, y).addmm_(slope.T, grad_z)
                self._sum("w", self.w.shape, y).add_(grad_z.sum(0))
                grad_slope = torch.mm(grad_z, self.closing.T, out=self._buffer("grad_slope", n, None, i))
            else:
                torch.mul(slope, record.z[i], out=scratch)
                self._sum(f"K{i}", K.shape, y).addmm_(scratch.T, grad_z, alpha=self.h)
                torch.mm(grad_z, K.T, out=scratch).mul_(self.h)
                grad_slope = torch.mul(scratch, record.z[i], out=self._buffer("grad_slope", n, None, i))
                grad_z.addcmul_(scratch, slope)
            if grad_c:
                torch.ops.aten.tanh_backward.grad_input(grad_c[i - 1], slope, grad_input=scratch)
                if i == last:
                    self._sum("w", self.w.shape, y).add_(scratch.sum(0), alpha=self.h)
                    grad_slope.addcmul_(grad_c[i - 1].mul_(slope), self.w, value=-2.0 * self.h)
                else:
                    grad_z.add_(scratch, alpha=self.h)
                    grad_slope.addcmul_(grad_c[i - 1].mul_(slope), record.z[i], value=-2.0 * self.h)
            if i < len(grad_slopes):  # of the Jacobians
                grad_slope.add_(grad_slopes[i])
                grad_slopes[i] = grad_slope
            else:
                grad_slopes.append(grad_slope)
        return self._network_backward(record, grad_slopes, G)

    def _deeper_backward(self, record: Record, grad_slopes: list[Tensor], l: Tensor) -> list[Tensor]:  # noqa: E741
        """The gradients in c_2 .. c_L; those in p_0 .. p_{L-1} and the weights go where they belong."""
        last = len(self.K)
        further = [self._weight(record, i, torch.empty_like(record.z[0])) for i in range(2, last + 1)]
        inner = self.K0[:, : self.dim]
        leaves = [leaf.detach().requires_grad_() for leaf in (*record.slopes[:-1], *further, inner, *self.K)]
        with torch.enable_grad():
            total = deeper(leaves[:last], leaves[last : 2 * last - 1], leaves[2 * last - 1], leaves[2 * last :])
            grads = torch.autograd.grad(total, leaves, l)
        grad_slopes[0].add_(grads[0])
        grad_slopes.extend(grads[1:last])
        self._sum("K0", self.K0t.shape, l)[: self.dim].add_(grads[2 * last - 1].T)
        for i, (grad, K) in enumerate(zip(grads[2 * last :], self.K, strict=True), 1):
            self._sum(f"K{i}", K.shape, l).add_(grad)
        return list(grads[last : 2 * last - 1])

    def _network_backward(self, record: Record, grad_slopes: Sequence[Tensor], G: Tensor) -> Tensor:
        n, last, grad_u = record.S.shape[1], len(self.K), None
        grad_a = self._buffer("grad_a", n)
        for i in range(last, 0, -1):
            slope, K = record.slopes[i], self.K[i - 1]
            torch.ops.aten.tanh_backward.grad_input(grad_slopes[i], slope, grad_input=grad_a)
            if grad_u is not None:
                grad_a.addcmul_(grad_u, slope, value=self.h)
            self._sum(f"K{i}", K.shape, slope).addmm_(grad_a.T, record.values[i - 1], alpha=0.5)
            self._sum(f"b{i}", self.w.shape, slope).add_(grad_a.sum(0))
            if grad_u is None:
                grad_u = torch.mm(grad_a, K, out=self._buffer("grad_u", n))
            else:
                grad_u.addmm_(grad_a, K)
        assert grad_u is not None
        torch.ops.aten.tanh_backward.grad_input(grad_slopes[0], record.slopes[0], grad_input=grad_a)
        grad_a.addcmul_(grad_u, record.slopes[0])
        self._sum("opening", (self.dim + 2, self.width), grad_a).addmm_(record.S, grad_a)
        S, Q = record.S[:-1], self.quadratic
        self._sum("b", (self.dim + 1,), grad_a).add_(G.sum(1))
        grad_Q = torch.addmm((Q @ S) @ G.T, Q @ G, S.T) if self.factored else G @ S.T
        self._sum("quadratic", Q.shape, grad_a).add_(grad_Q)
        return torch.addmm(self._quadratic(G), self.K0t, grad_a.T)

    def weight_gradients(self, scale: Tensor | None = None) -> tuple[Tensor, ...]:
        """What the calls of `backward` added up, in the order of Weights.tensors; the sums begin anew.

        With a `scale` (), that times the shares of `forward` is added.
        """
        sums, self._sums = self._sums, {}
        if scale is not None:
            assert self._shares is not None
            sums["W"] = scale * self._shares
        first, K1 = (sums["opening"][:-1] + sums["K0"]).T, sums["K1"]
        for i, offset in enumerate(self.offsets, 1):
            sums[f"K{i}"] += offset * sums[f"b{i}"].unsqueeze(1)
        sums[f"K{len(self.K)}"].addcmul_(sums["closing"], self.h * self.w.unsqueeze(1))
        sums["w"].add_((self.K[-1] * sums["closing"]).sum(1), alpha=self.h)
        if "squares" in sums:
            R, _, _, Q = self._hoisted()
            first[:, : self.dim].addcmul_(self.K0[:, : self.dim], sums["squares"].unsqueeze(1), value=2.0)
            K1.add_(torch.einsum("kjm,mk->jm", sums["W"], R))
            first[:, : self.dim].addmm_(torch.einsum("kjm,jm->mk", sums["W"], self.K[0]), Q.T)
        hidden = [sums[f"{name}{i}"] for i in range(1, len(self.K) + 1) for name in "Kb"]
        return first, sums["opening"][-1], *hidden, sums["w"], sums["b"], sums["quadratic"]

    def _buffer(self, name: str, n: int, keep: int | None = None, layer: int = 0) -> Tensor:
        return self.buffers.empty((name, keep, layer), (n, self.width), self.w)

    def _sum(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """A running sum, which begins at 0."""
        if name not in self._sums:
            self._sums[name] = like.new_zeros(tuple(shape))
        return self._sums[name]


def deeper(slopes: Sequence[Tensor], c: Sequence[Tensor], K0: Tensor, K: Sequence[Tensor]) -> Tensor:
    """sum_{i > 1} c_i . |rows of K_i J_{i-1}|^2 (n,), from p_0 .. p_{L-1}, c_2 .. c_L, K_0 (m, d) and K_1 .. K_L."""
    h = 1.0 / len(K)
    J = slopes[0].unsqueeze(2) * K0  # (n, m, d)
    total = J.new_zeros(len(J))
    for i in range(1, len(K)):
        J = J + h * slopes[i].unsqueeze(2) * (K[i - 1] @ J)
        total = total + (c[i - 1] * (K[i] @ J).square().sum(2)).sum(1)
    return total

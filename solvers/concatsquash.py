"""The concatsquash network of FFJORD as a vector field, its derivatives by hand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.base import Points, Values
from solvers.divergence import exact
from solvers.once import once_differentiable


@dataclass(frozen=True)
class Activation:
    """An activation y = a(z) with its slope s = a'(z).

    `rise(z)` gives y and s and may overwrite z; `bend_(g, q, y, s)` adds q a''(z) / a'(z) to g, in place.
    """

    value: Callable[[Tensor], Tensor]
    rise: Callable[[Tensor], tuple[Tensor, Tensor]]
    bend_: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _tanh(z: Tensor) -> Tensor:
    p = torch.sigmoid(2 * z)  # see _rise_tanh
    return 2 * p - 1 if p.requires_grad else p.mul_(2).sub_(1)


def _rise_tanh(z: Tensor) -> tuple[Tensor, Tensor]:
    # 2 sigmoid(2z) - 1, five times faster than tanh on a CPU; its error is of the order of the machine precision
    one = z.new_ones(())
    y = torch.add(-one, z.mul_(2).sigmoid_(), alpha=2, out=z)
    return y, torch.addcmul(one, y, y, value=-1)


def _rise_softplus(z: Tensor) -> tuple[Tensor, Tensor]:
    # z - log sigmoid(z), two thirds of the time of F.softplus and the slope; below the clamp both are 0 to rounding
    s = z.clamp_(min=-80).sigmoid()
    return z.sub_(s.log()), s


ACTIVATIONS = {  # a'' / a' = -2 y and 1 - s
    "tanh": Activation(_tanh, _rise_tanh, lambda g, q, y, s: g.addcmul_(q, y, value=-2)),
    "softplus": Activation(F.softplus, _rise_softplus, lambda g, q, y, s: g.add_(q).addcmul_(q, s, value=-1)),
}

Layer = tuple[Tensor, Tensor]  # weight (out, in), bias (out,)
Rung = tuple[Tensor, Tensor, Tensor]  # values (n, w), tangents (k, n, w) or (k, 1, w), slopes (n, w)


class ConcatSquash(nn.Module):
    """f(t, x) by layers y = (W x + b) * sigmoid(w_g t + b_g) + w_h t, an activation between them, none after the last.

    A layer has out (in + 4) parameters (Grathwohl et al. 2019, arXiv 1810.01367, and its authors' code). At a fixed t
    all of it is a plain perceptron: the gate is folded into W and b, which costs nothing per row.
    """

    def __init__(self, dim: int, hidden: tuple[int, ...], nonlinearity: str) -> None:
        super().__init__()
        self.widths = [*hidden, dim]
        layers = [nn.Linear(i, o) for i, o in pairwise([dim, *self.widths])]
        self.layers = cast(Sequence[nn.Linear], nn.ModuleList(layers))
        # the gates and shifts of all layers side by side: a few small products instead of a few for each layer
        self.gate = nn.Linear(1, sum(self.widths))
        self.shift = nn.Linear(1, sum(self.widths), bias=False)
        self.activation = ACTIVATIONS[nonlinearity]

    def forward(self, t: Tensor, x: Points) -> Points:
        """The value (n, d)."""
        *hidden, (W, b) = _folded(*self._at(t))
        for V, c in hidden:
            x = self.activation.value(F.linear(x, V, c))
        return F.linear(x, W, b)

    def scattered(self, t: Tensor, x: Points) -> Points:
        """The values (n, d) at times t (n,), another one for each row."""
        column = t.unsqueeze(1)
        gates = torch.sigmoid(torch.addcmul(self.gate.bias, column, self.gate.weight[:, 0])).split(self.widths, 1)
        shifts = (column * self.shift.weight[:, 0]).split(self.widths, 1)
        *hidden, last = zip(self.layers, gates, shifts, strict=True)
        for layer, gate, shift in hidden:
            x = self.activation.value(torch.addcmul(shift, layer(x), gate))
        layer, gate, shift = last
        return torch.addcmul(shift, layer(x), gate)

    def tangents(self, t: Tensor, x: Points, v: Tensor) -> tuple[Points, Tensor]:
        """The value (n, d) and J v for directions v (..., n, d), or (..., 1, d) for the same ones at all rows.

        Both can be differentiated once.
        """
        gate, shift, layers = self._at(t)
        directions = v.reshape(-1, *v.shape[-2:])
        if torch.is_grad_enabled():
            f, Jv = _Tangents.apply(self.activation, gate, shift, x, directions, *sum(layers, ()))
        else:
            *_, (f, Jv, _) = _climb(self.activation, _folded(gate, shift, layers), x, directions)
        return f, Jv.view(*v.shape[:-2], *Jv.shape[1:])

    def divergence(self, t: Tensor, x: Points) -> tuple[Points, Values]:
        """The value (n, d) and the exact divergence (n,); both can be differentiated once.

        With two hidden layers J = W3 S2 W2 S1 W1, S diagonal, so that tr J = s2 . (W2 * (W1 W3)^T) s1: one
        more product of the size of W2, whatever d is. Otherwise d directions.
        """
        if len(self.layers) != 3:
            return exact(self, t, x)
        (W1, b1), (W2, b2), (W3, b3) = _folded(*self._at(t))
        y1, s1 = _Rise.apply(self.activation, F.linear(x, W1, b1))
        y2, s2 = _Rise.apply(self.activation, F.linear(y1, W2, b2))
        return F.linear(y2, W3, b3), (F.linear(s1, W2 * (W1 @ W3).T) * s2).sum(1)

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor, list[Layer]]:
        """Gate and shift of all layers at time t, and the layers."""
        gate = torch.sigmoid(torch.addcmul(self.gate.bias, self.gate.weight[:, 0], t))
        return gate, self.shift.weight[:, 0] * t, [(layer.weight, layer.bias) for layer in self.layers]


def _folded(gate: Tensor, shift: Tensor, layers: Sequence[Layer]) -> list[Layer]:
    """The layers of the perceptron that the field is at a fixed time: gate * (W x + b) + shift."""
    widths = [len(b) for _, b in layers]
    pieces = zip(layers, gate.split(widths), shift.split(widths), strict=True)
    return [(W * g.unsqueeze(1), torch.addcmul(h, b, g)) for (W, b), g, h in pieces]


def _climb(activation: Activation, folded: list[Layer], y: Tensor, u: Tensor) -> Iterator[Rung]:
    """Values, tangents and slopes after each layer, from y and u before the first; after the last there are no slopes.

    From z = V y + c they are a(z), a'(z) * V u and a'(z), each in memory of its own.
    """
    for V, c in folded[:-1]:
        y, s = activation.rise(torch.addmm(c, y, V.T))
        u = u @ V.T
        u = u.mul_(s) if u.shape[1] == len(s) else u * s
        yield y, u, s
    V, c = folded[-1]
    yield torch.addmm(c, y, V.T), u @ V.T, y.new_empty(0)


class _Rise(torch.autograd.Function):
    """z -> (y, s) of an activation, its adjoint by hand; z, which nothing else may use, is overwritten."""

    @staticmethod
    def forward(ctx: Any, activation: Activation, z: Tensor) -> tuple[Tensor, Tensor]:
        y, s = activation.rise(z)
        ctx.activation = activation
        ctx.save_for_backward(y, s)
        return y, s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gy: Tensor, gs: Tensor) -> tuple[None, Tensor]:
        y, s = ctx.saved_tensors
        return None, ctx.activation.bend_(gy * s, gs * s, y, s)


class _Tangents(torch.autograd.Function):
    """(x, v) -> (f, J v) of the perceptron at a fixed time, and its adjoint by hand.

    The adjoints g of values y and r of tangents u descend together: behind an activation, the adjoint of z is
    a' g + a'' sum_k r V u. That is a' g + (a''/a') sum_k r u', with u' = a' V u behind it, so that only u' is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, activation: Activation, gate: Tensor, shift: Tensor, x: Tensor, v: Tensor, *flat: Tensor
    ) -> tuple[Tensor, Tensor]:
        folded = _folded(gate, shift, list(zip(flat[::2], flat[1::2], strict=True)))
        *hidden, (f, Jv, _) = _climb(activation, folded, x, v)
        ys, us, slopes = zip((x, v, x), *hidden, strict=True)  # what each layer is given, and its slopes
        ctx.activation = activation
        ctx.save_for_backward(gate, *flat, *(V for V, _ in folded), *ys, *us, *slopes)
        return f, Jv

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, r: Tensor) -> tuple[Any, ...]:
        n = len(ctx.needs_input_grad[5:]) // 2  # layers
        gate, *saved = ctx.saved_tensors
        flat, Vs, ys, us, slopes = (saved[i * n : j * n] for i, j in pairwise((0, 2, 3, 4, 5, 6)))
        gates = gate.split([len(V) for V in Vs])
        of_layers: list[Tensor] = []
        of_gates, of_shifts = [], []
        for k in reversed(range(n)):
            W, b = flat[2 * k : 2 * k + 2]
            y, u, V = ys[k], us[k], Vs[k]
            across = r.sum_to_size(*u.shape[:2], len(V)).flatten(0, 1)
            of_V = (g.T @ y).addmm_(across.T, u.flatten(0, 1))
            of_c = g.sum(0)
            of_gates.append((of_V * W).sum(1).addcmul_(of_c, b))
            of_shifts.append(of_c)
            of_layers += [of_c * gates[k], of_V.mul_(gates[k].unsqueeze(1))]
            if k > 0:
                s = slopes[k]
                g, r = g @ V, r @ V
                q = torch.mul(r, u).sum(0) if len(r) > 1 else r[0] * u[0]
                g = ctx.activation.bend_(g.mul_(s), q, y, s)
                r = r.mul_(s)
        of_x = g @ Vs[0] if ctx.needs_input_grad[3] else None
        of_v = (across @ Vs[0]).view(us[0].shape) if ctx.needs_input_grad[4] else None
        return None, torch.cat(of_gates[::-1]), torch.cat(of_shifts[::-1]), of_x, of_v, *reversed(of_layers)

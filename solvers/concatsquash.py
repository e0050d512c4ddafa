"""The concatsquash network of FFJORD as a vector field, its derivatives by hand."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.base import Points, Values
from solvers.divergence import exact

# name -> (activation y of z, its derivative from z and y)
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda z, y: 1 - y.square()),
    "softplus": (F.softplus, lambda z, y: torch.sigmoid(z)),
}

Layer = tuple[Tensor, Tensor]  # weight (out, in), bias (out,)


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
        self.activation, self.slope = ACTIVATIONS[nonlinearity]

    def forward(self, t: Tensor, x: Points) -> Points:
        """The value (n, d)."""
        *hidden, (W, b) = self._at(t)
        for V, c in hidden:
            x = self.activation(F.linear(x, V, c))
        return F.linear(x, W, b)

    def tangents(self, t: Tensor, x: Points, v: Tensor) -> tuple[Points, Tensor]:
        """The value (n, d) and J v for directions v (..., n, d), or (..., 1, d) for the same ones at all rows."""
        *hidden, (W, b) = self._at(t)
        x, slopes = self._rise(hidden, x)
        for (V, _), slope in zip(hidden, slopes, strict=True):
            v = F.linear(v, V) * slope
        return F.linear(x, W, b), F.linear(v, W)

    def divergence(self, t: Tensor, x: Points) -> tuple[Points, Values]:
        """The value (n, d) and the exact divergence (n,).

        With two hidden layers J = W3 S2 W2 S1 W1, S diagonal, so that tr J = s2 . (W2 * (W1 W3)^T) s1: one
        more product of the size of W2, whatever d is. Otherwise d directions.
        """
        if len(self.layers) != 3:
            return exact(self, t, x)
        *hidden, (W3, b3) = self._at(t)
        (W1, _), (W2, _) = hidden
        x, (s1, s2) = self._rise(hidden, x)
        return F.linear(x, W3, b3), (F.linear(s1, W2 * (W1 @ W3).T) * s2).sum(1)

    def _at(self, t: Tensor) -> list[Layer]:
        """The layers of the perceptron that the field is at time t."""
        gates = torch.sigmoid(torch.addcmul(self.gate.bias, self.gate.weight[:, 0], t)).split(self.widths)
        shifts = (self.shift.weight[:, 0] * t).split(self.widths)
        return [
            (layer.weight * gate.unsqueeze(1), torch.addcmul(shift, layer.bias, gate))
            for layer, gate, shift in zip(self.layers, gates, shifts, strict=True)
        ]

    def _rise(self, hidden: list[Layer], x: Points) -> tuple[Tensor, list[Tensor]]:
        """The last hidden layer's values, and the activation's derivative at each layer."""
        slopes = []
        for W, b in hidden:
            z = F.linear(x, W, b)
            x = self.activation(z)
            slopes.append(self.slope(z, x))
        return x, slopes

"""The divergence of a vector field together with its value: exact, or estimated by one random direction.

div f = tr J with J = df/dx. All functions return (f, div f) of shapes (n, d) and (n,), and treat the rows of x as
independent. A field with hand-written directional derivatives (`tangents`) needs one forward-mode pass for both, so
that training through the divergence takes a single backward pass.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Generator, Tensor

from datasets.base import Points, Values

Field = Callable[[Tensor, Points], Points]  # f(t, x)


class Differentiable(Protocol):
    """A field f(t, x) that knows its directional derivatives."""

    def tangents(self, t: Tensor, x: Points, v: Tensor) -> tuple[Points, Tensor]:
        """f(t, x) (n, d) and J v for directions v (..., n, d); a dimension n of 1 in v and J v is one for all rows."""
        ...


def exact(field: Differentiable, t: Tensor, x: Points) -> tuple[Points, Values]:
    """f and div f, from the d unit vectors as directions."""
    basis = torch.eye(x.shape[1], dtype=x.dtype, device=x.device).unsqueeze(1)
    f, columns = field.tangents(t, x, basis)  # columns[j, :, i] = df_i / dx_j
    return f, columns.diagonal(dim1=0, dim2=2).sum(1).expand(len(x))


def hutchinson(field: Differentiable, t: Tensor, x: Points, noise: Points) -> tuple[Points, Values]:
    """f and noise . J noise, unbiased for div f where E[noise noise^T] = I (Hutchinson 1990; FFJORD eq. 7)."""
    f, product = field.tangents(t, x, noise)
    return f, (noise * product).sum(1)


def autograd(field: Field, t: Tensor, x: Points) -> tuple[Points, Values]:
    """f and div f for any field, by d reverse passes; keeps their graph where gradients are on."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        f = field(t, x)
        rows = [torch.autograd.grad(f[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])]
        total = torch.stack(rows).sum(0)
    return (f, total) if keep else (f.detach(), total.detach())


def directions(x: Points, noise: str, rng: Generator) -> Points:
    """Random directions of the shape of x, independent entries of mean 0 and variance 1: "rademacher" or "gaussian".

    From one state of `rng`, the same numbers in every dtype.
    """
    if noise == "gaussian":
        return torch.randn(x.shape, generator=rng, dtype=torch.float32, device=x.device).to(x.dtype)
    assert noise == "rademacher"
    return torch.randint(2, x.shape, generator=rng, device=x.device).to(x.dtype).mul_(2).sub_(1)

"""FFJORD's evaluations against their matrix products: `make speed`.

The authors' code took 46 ms forward and 155 ms backward at MINIBOONE's shape, 1.4 and 1.6 times its products, hence
at 99 GFLOP/s of those; and on the toy 9.5 and 33 ms, at that rate 4.5 and 5.2 times ours.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.yardstick import Product, Yardstick
from solvers.concatsquash import ConcatSquash
from solvers.divergence import hutchinson

MINIBOONE, TOY = (43, (860, 860), 1000), (2, (64, 64, 64), 4096)  # dimension, hidden widths, batch


def products(d: int, hidden: tuple[int, ...], batch: int, directions: int, backward: bool) -> list[Product]:
    """Each layer is applied to the values and to each direction; the way back has two products for each on the way."""
    found = []
    for i, o in zip((d, *hidden), (*hidden, d), strict=True):
        found.append(Product(batch, i, o, 1 + directions))
        if backward:
            found += [Product(batch, o, i, 1 + directions), Product(o, batch, i, 1 + directions)]
    return found


def evaluation(
    field: ConcatSquash, x: torch.Tensor, divergence: Callable[..., Any], backward: bool
) -> Callable[[], Any]:
    """One evaluation of (f, div f), or one as the adjoint's backward solve makes it: with all its vector products."""
    parameters, t = tuple(field.parameters()), torch.tensor(0.3)
    adjoint = (torch.randn_like(x), torch.randn(len(x)))

    def forward() -> Any:
        with torch.no_grad():
            return divergence(t, x)

    def both() -> Any:
        inputs = (t.detach().requires_grad_(), x.detach().requires_grad_(), *parameters)
        return torch.autograd.grad(divergence(*inputs[:2]), inputs, adjoint, allow_unused=True)

    return both if backward else forward


@pytest.mark.parametrize(("backward", "must"), [(False, 1.2), (True, 1.3)], ids=["forward", "backward"])
def test_ffjord_miniboone_evaluation_over_its_products(over, backward, must):
    d, hidden, batch = MINIBOONE
    field, x, v = ConcatSquash(d, hidden, "softplus"), torch.randn(batch, d), torch.randn(batch, d)
    f = evaluation(field, x, lambda t, x: hutchinson(field, t, x, v), backward)
    over(f, Yardstick(products(d, hidden, batch, 1, backward)), must=must, pairs=41)


@pytest.mark.parametrize(("backward", "must"), [(False, 4.5), (True, 5.2)], ids=["forward", "backward"])
def test_ffjord_toy_evaluation_over_its_products(over, backward, must):
    d, hidden, batch = TOY
    field, x = ConcatSquash(d, hidden, "tanh"), torch.randn(batch, d)
    f = evaluation(field, x, field.divergence, backward)
    over(f, Yardstick(products(d, hidden, batch, d, backward)), must=must, pairs=61)


def test_the_yardstick_counts_what_the_issue_says():
    assert sum(p.flop for p in products(*MINIBOONE, 1, False)) == pytest.approx(3.25e9, rel=0.01)
    assert sum(p.flop for p in products(*MINIBOONE, 1, True)) == 3 * sum(p.flop for p in products(*MINIBOONE, 1, False))

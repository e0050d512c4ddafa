"""Backward passes written by hand, which cannot be differentiated again."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """torch's decorator of this name, but for refusing `create_graph`.

    Where the upstream gradient is constant torch's gives a gradient without a graph, so that in a penalty on that
    gradient the weights would be missed in silence.
    """

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("a backward pass by hand can be differentiated once: leave out create_graph=True")
        return backward(ctx, *grads)

    return checked

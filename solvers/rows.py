"""Functions of points evaluated on a block of rows after the other, which bounds memory."""

from collections.abc import Callable

import torch
from torch import Tensor

from datasets.base import Map

ROWS = 2**14


def by_rows(f: Callable[[Tensor], Tensor], dtype: torch.dtype, rows: int = ROWS) -> Map:
    """`f` in `dtype` on at most `rows` rows at a time, in inference mode unless the derivative in x is wanted."""

    def chunked(x: Tensor) -> Tensor:
        with torch.inference_mode(not x.requires_grad):
            return torch.cat([f(part) for part in x.to(dtype).split(rows)]).to(x.dtype)

    return chunked

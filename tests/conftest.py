"""Tests run in float64 unless they test float32 (by the fixture below)."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)  # for what tests draw themselves: the suite's own code never uses the global generator
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)

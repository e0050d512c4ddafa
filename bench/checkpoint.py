"""The state of a run under way, in a file: written whole or not at all, read without trusting it."""

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from bench.record import write_over

SCHEMA = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace `path` by `state`, tensors and plain values. Raises OSError, and leaves the file before in place."""
    content = io.BytesIO()  # torch hides a full disk behind a RuntimeError if it writes the file itself
    torch.save({"schema": SCHEMA, **state}, content)
    write_over(path, content.getbuffer())


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The state in `path`; None if there is no such file. Raises ValueError for a file that is no checkpoint."""
    if not path.exists():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(f"{path.name} is damaged ({type(error).__name__})") from None
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        raise ValueError(f"{path.name} was written by another version")
    return state

"""What the solvers on finite samples share: POT, imported with care, and its warnings made errors."""

import os
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

from solvers.base import Diverged

Result = TypeVar("Result")

FRAMEWORKS = ("JAX", "TENSORFLOW", "CUPY")


def pot() -> ModuleType:
    """POT, without the frameworks which it would import wherever they are installed."""
    for name in FRAMEWORKS:
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{name}", "1")
    import ot

    return ot


def strictly(name: str, call: Callable[[], Result]) -> Result:
    """What `call` returns. Raises Diverged, with the first line of its message, where the library only warns."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            return call()
    except (UserWarning, RuntimeWarning, FloatingPointError) as warning:
        lines = str(warning).strip().splitlines() or [type(warning).__name__]
        raise Diverged(f"{name}: {lines[0]}") from None

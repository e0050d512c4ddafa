"""Random search (Bergstra and Bengio 2012, JMLR 13): settings as data, draws of them, a search's budget.

bench/conf/tune/<solver>.yaml gives each setting that is searched its distribution, all of them independent:

    width: {choice: [16, 32, 64]}            each value equally likely
    lr: {log_uniform: [1.0e-3, 1.0e-1]}      its logarithm uniform between those of the two, to three digits
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from omegaconf import OmegaConf
from yaml import YAMLError  # type: ignore[import-untyped]

from bench.names import CONF
from bench.record import BadInput, finite


@dataclass(frozen=True)
class Tuning:
    """What a search was given for a solver on a problem: `trials` runs, each of `seconds` of step time.

    Raises ValueError for a budget of nothing.
    """

    trials: int
    seconds: float

    def __post_init__(self) -> None:
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise ValueError(f"the trials of a tuning must be a whole number of 1 or more, not {self.trials!r}")
        if not finite(self.seconds) or self.seconds <= 0:
            raise ValueError(f"the seconds of a tuning must be a number above 0, not {self.seconds!r}")
        object.__setattr__(self, "seconds", float(self.seconds))  # 30 and 30.0 are one budget

    def __str__(self) -> str:
        return f"{self.trials} trials of {self.seconds:g} s"


class Distribution(Protocol):
    """Where the values of a setting are drawn from."""

    def draw(self, rng: np.random.Generator) -> Any: ...


@dataclass(frozen=True)
class Choice:
    """One of `values`, each equally likely."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a choice between nothing")

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[rng.integers(len(self.values))]


@dataclass(frozen=True)
class LogUniform:
    """exp(u), u uniform on [log low, log high], rounded to three significant digits, as people write it."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (finite(self.low) and finite(self.high) and 0 < self.low < self.high):
            raise ValueError(f"log_uniform needs two numbers, 0 < low < high, not {self.low!r} and {self.high!r}")

    def draw(self, rng: np.random.Generator) -> float:
        return float(f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.3g}")


Space = Mapping[str, Distribution]


def space_of(solver: str, folder: Path = CONF / "tune") -> Space:
    """The search space of the configuration `solver`. Raises BadInput where there is none, or one that is none."""
    solvers, spaces = (sorted(path.stem for path in f.glob("*.yaml")) for f in (CONF / "solver", folder))
    if solver not in solvers:
        raise BadInput(f"no solver {solver}: choose from {', '.join(solvers)}")
    if solver not in spaces:
        raise BadInput(f"{solver} has no search space in {folder}: choose from {', '.join(spaces)}")
    path = folder / f"{solver}.yaml"
    try:
        given = OmegaConf.to_container(OmegaConf.load(path))
        if not isinstance(given, dict):
            raise ValueError(f"not settings by name, but {given!r}")
        return {str(name): _distribution(part) for name, part in given.items()}
    except (ValueError, YAMLError) as error:
        raise BadInput(f"{path}: {error}") from None


def _distribution(given: Any) -> Distribution:
    match given:
        case {"choice": [*values], **more} if not more:
            return Choice(tuple(values))
        case {"log_uniform": [low, high], **more} if not more:
            return LogUniform(low, high)
    raise ValueError(f"a setting is {{choice: [...]}} or {{log_uniform: [low, high]}}, not {given!r}")


def draw(space: Space, seed: int, k: int) -> dict[str, Any]:
    """Settings number k of a search: the same however many others are drawn."""
    rng = np.random.default_rng([seed, k])
    return {name: distribution.draw(rng) for name, distribution in space.items()}

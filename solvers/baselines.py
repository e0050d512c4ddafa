"""The two maps that a benchmark of optimal maps is held against: stay where you are, and go to the mean."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator

from datasets.base import Measure, Points, Samples
from solvers.base import Diverged, Transport, faulty


@dataclass(frozen=True)
class Baseline(ABC):
    """A direct solver that learns the means of both measures, of `n_points` draws where they are not stored."""

    n_points: int = 100_000

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.n_points < 1:
            raise ValueError(f"n_points must be 1 or more, not {self.n_points}")

    def unfit(self, source: Measure, target: Measure) -> str | None:
        return faulty(source, target)

    def start(self, source: Measure, target: Measure, rng: Generator) -> "BaselineFit":
        return BaselineFit(self, source, target, rng)

    @abstractmethod
    def transport(self, source: Points, target: Points) -> Transport:
        """The transport between measures of these means (d,)."""


@dataclass(frozen=True)
class Identity(Baseline):
    """T(x) = x: what a metric says of a map that does nothing (Korotin et al. 2021, section 5, "ID")."""

    def transport(self, source: Points, target: Points) -> Transport:
        return Transport(forward=torch.clone, inverse=torch.clone, path=lambda x, t: x.clone())


@dataclass(frozen=True)
class Constant(Baseline):
    """T(x) = E[y]: the map to the target's mean, of L2-UVP 100 % (Korotin et al. 2021, section 5, "C")."""

    def transport(self, source: Points, target: Points) -> Transport:
        def forward(x: Points) -> Points:
            return target.to(x).expand_as(x).clone()

        return Transport(
            forward=forward,
            inverse=lambda z: source.to(z).expand_as(z).clone(),
            path=lambda x, t: torch.lerp(x, forward(x), t),
            parameters=2 * len(target),
        )


class BaselineFit:
    """A direct solve: one step."""

    def __init__(self, solver: Baseline, source: Measure, target: Measure, rng: Generator) -> None:
        self.solver = solver
        self.source, self.target, self.rng = source, target, rng
        self.means: tuple[Points, Points] | None = None

    @property
    def done(self) -> bool:
        return self.means is not None

    def step(self) -> Mapping[str, float]:
        """Learn the means; the loss is the squared distance between them, halved: a lower bound of the cost."""
        source, target = self._mean(self.source), self._mean(self.target)
        self.means = source, target
        return {"loss": (source - target).square().sum().item() / 2}

    def _mean(self, measure: Measure) -> Points:
        x = measure.train if isinstance(measure, Samples) else measure.sample(self.solver.n_points, self.rng)
        mean = x.double().mean(0)
        if not bool(mean.isfinite().all()):
            raise Diverged("the mean of a measure is not finite")
        return mean

    def validated(self, loss: float) -> None:
        pass

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        assert self.means is not None, "take the step first"
        return self.solver.transport(*self.means)

    def state_dict(self) -> dict[str, Any]:
        return {"means": list(self.means or ()), "rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        means = state["means"]
        self.means = (means[0], means[1]) if means else None
        self.rng.set_state(state["rng"].cpu())

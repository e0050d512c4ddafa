"""The optimal map between the Gaussians with the moments of source and target: the baseline of every table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Measure, Points, Samples
from datasets.gaussians import Gaussian, transport_cost, transport_map
from solvers.base import Diverged, Transport, faulty, points_of

DRAWS = 1000  # and twice as many as coordinates tell that a covariance is singular
SINGULAR = "the covariance is singular: a column is constant or depends on others linearly"


@dataclass(frozen=True)
class Moments:
    """Fit a Gaussian to each measure and transport one to the other (Gelbrich 1990; Takatsu 2011):

        T(x) = m_1 + B (x - m_0),   B = S_0^{-1/2} (S_0^{1/2} S_1 S_0^{1/2})^{1/2} S_0^{-1/2},
        1/2 W2^2 = 1/2 |m_0 - m_1|^2 + 1/2 tr(S_0 + S_1 - 2 (S_0^{1/2} S_1 S_0^{1/2})^{1/2}).

    The cost bounds from below that of any two measures with these moments. Moments are those of all training
    rows, exact for a Gaussian, and else of `n_points` draws.
    """

    n_points: int = 100_000

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.n_points < 2:
            raise ValueError(f"n_points must be 2 or more, not {self.n_points}")

    def unfit(self, source: Measure, target: Measure) -> str | None:
        if why := faulty(source, target):
            return why
        for name, measure in (("source", source), ("target", target)):
            if isinstance(measure, Samples) and len(measure.train) <= measure.dim:
                return f"{len(measure.train)} training rows leave the covariance in {measure.dim} dimensions singular"
            if not isinstance(measure, Gaussian) and singular(covariance(points_of(measure, DRAWS + 2 * measure.dim))):
                return f"{SINGULAR}, of the {name}: leave it out"
        return None

    def start(self, source: Measure, target: Measure, rng: Generator) -> "MomentsFit":
        return MomentsFit(self, source, target, rng)


def covariance(x: Points) -> Tensor:
    """(d, d), in float64."""
    centred = x.double() - x.double().mean(0)
    return centred.T @ centred / len(x)


def singular(found: Tensor) -> bool:
    """Whether the covariance is so up to rounding."""
    spectrum = torch.linalg.eigvalsh(found)
    return bool(spectrum[0] <= 1e-12 * spectrum[-1])


class MomentsFit:
    """A direct solve: one step."""

    def __init__(self, solver: Moments, source: Measure, target: Measure, rng: Generator) -> None:
        self.solver = solver
        self.source, self.target, self.rng = source, target, rng
        self.gaussians: tuple[Gaussian, Gaussian] | None = None

    @property
    def done(self) -> bool:
        return self.gaussians is not None

    def step(self) -> Mapping[str, float]:
        fitted = self._fit(self.source), self._fit(self.target)
        self.gaussians = fitted
        return {"loss": transport_cost(*fitted)}

    def _fit(self, measure: Measure) -> Gaussian:
        if isinstance(measure, Gaussian):  # of no device, unlike points
            return Gaussian(measure.mean.to(self.rng.device), measure.covariance.to(self.rng.device))
        x = measure.train if isinstance(measure, Samples) else measure.sample(self.solver.n_points, self.rng)
        found = covariance(x)
        if singular(found):
            raise Diverged(SINGULAR)
        return Gaussian(x.double().mean(0), found)

    def validated(self, loss: float) -> None:
        pass

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        assert self.gaussians is not None, "take the step first"
        source, target = self.gaussians
        forward = transport_map(source, target)
        dim = source.dim
        return Transport(
            forward=forward,
            inverse=transport_map(target, source),
            log_prob=source.log_prob,
            path=lambda x, t: torch.lerp(x, forward(x), t),
            cost=transport_cost(source, target),
            parameters=dim + dim * (dim + 1) // 2,
        )

    def state_dict(self) -> dict[str, Any]:
        gaussians = self.gaussians or ()
        return {"gaussians": [(g.mean, g.covariance) for g in gaussians], "rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pairs = [Gaussian(mean, covariance) for mean, covariance in state["gaussians"]]
        self.gaussians = (pairs[0], pairs[1]) if pairs else None
        self.rng.set_state(state["rng"].cpu())

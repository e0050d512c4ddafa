"""The interface of every solver: `solver.start(source, target, rng)` gives a `Fit`, a fit gives `Transport`s."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Generator, Tensor

from datasets.base import Map, Measure, Points, Samples, Values

PROBED = 1000  # points, of a measure that is not stored


class Diverged(ArithmeticError):
    """A numerical method that broke down: its message becomes the record's `reason`, its status `diverged`."""


@dataclass(frozen=True)
class Transport:
    """A transport between source and target; what a solver cannot give is None.

    `forward` (n, d) -> (n, d) carries the source to the target and `inverse` the target to the source, so that
    generating data is `inverse(target.sample(n, rng))`. `log_prob` (n, d) -> (n,) is the density which the
    solver gives the source, in nats, and `log_prob_estimate` a random estimate of it, for methods whose authors
    evaluate it so: timed beside the other, never judged by.

    `path(x, t)` is the point x(t), t in [0, 1], of the curve that starts at x, and `velocity(t, x)` (n, d) the field
    whose curves they are; `energy(x)` (n,) is int 1/2 |v|^2 dt along the curve from x. Where v = -grad Phi,
    `potential(t, x)` (n,) is Phi and `hjb(x)` (n,) the residual int |Phi_t - 1/2 |grad Phi|^2| dt of the
    Hamilton-Jacobi-Bellman equation along the curve from x.

    `cost` is the solver's own estimate of 1/2 W2^2, `parameters` the number of numbers it has learnt. `relaxation` is
    the weight of KL(push-forward || target) where that penalty stands in place of the constraint: such a transport
    solves `Problem.relaxed(relaxation)`. `objective(x)` (n,) is what validation takes the mean of, to keep the state
    where it is least, in place of -log_prob: where that is not what the solver minimises. `same_law_cost()` is what
    the solver finds between two samples of one law, as large as those it was given, the geometric mean over both
    laws: the bias of a cost between samples. `certificates` are the solver's own: name -> () -> (value, limit), sound
    where value <= limit; computed off the clock.
    """

    forward: Map | None = None
    inverse: Map | None = None
    log_prob: Callable[[Points], Values] | None = None
    path: Callable[[Points, float], Points] | None = None
    cost: float | None = None
    parameters: int | None = None
    log_prob_estimate: Callable[[Points], Values] | None = None
    velocity: Callable[[float, Points], Points] | None = None
    energy: Callable[[Points], Values] | None = None
    potential: Callable[[float, Points], Values] | None = None
    hjb: Callable[[Points], Values] | None = None
    relaxation: float | None = None
    kl: float | None = None
    objective: Callable[[Points], Values] | None = None
    same_law_cost: Callable[[], float] | None = None
    certificates: Mapping[str, Callable[[], tuple[float, float]]] = field(default_factory=dict)


class Fit(Protocol):
    """A solve under way."""

    @property
    def done(self) -> bool:
        """Whether the solver's own schedule has ended."""
        ...

    def step(self) -> Mapping[str, float]:
        """Take one step: the only thing on the clock.

        Returns the terms of the loss, by name, with their sum as `loss`. The names `nfe_forward` and
        `nfe_backward` are the function evaluations of this step. Raises Diverged.
        """
        ...

    def validated(self, loss: float) -> None:
        """Told after each validation, for plateau schedules; else a no-op."""
        ...

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """The transport found so far.

        `use` "valid" or "test" picks the number of integration steps; `effort` 2 takes twice as many, or
        tolerances smaller by 2**order. The result may share the fit's weights: use it before the next step.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that `torch.load(weights_only=True)` reads it. May share memory."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state` along the same trajectory."""
        ...


class Solver(Protocol):
    """A frozen dataclass of hyperparameters, each with a default.

    `version` is raised whenever the solver's numbers or speed change; it is part of a record's key.
    """

    version: ClassVar[int]

    def unfit(self, source: Measure, target: Measure) -> str | None:
        """Why this solver cannot take the problem, with the remedy; None if it can."""
        ...

    def start(self, source: Measure, target: Measure, rng: Generator) -> Fit:
        """Begin a solve on the device of `rng`, in the dtype of `source.sample`."""
        ...


def probe(measure: Measure, rng: Generator) -> Tensor:
    """One point of the measure (1, d), to learn dtype and device from, without moving `rng` on."""
    return measure.sample(1, rng.clone_state())


def points_of(measure: Measure, n: int = PROBED) -> Points:
    """What a solver looks at before any work is done: the stored points, or n draws, always the same ones."""
    return measure.train if isinstance(measure, Samples) else measure.sample(n, Generator().manual_seed(0))


def faulty(source: Measure, target: Measure) -> str | None:
    """Why no solver can take points of these measures: dimensions, shapes, numbers that are not finite; else None."""
    if source.dim != target.dim:
        return f"the source has dimension {source.dim} and the target {target.dim}: they must agree"
    for name, measure in (("source", source), ("target", target)):
        x = points_of(measure)
        if x.ndim != 2 or len(x) == 0 or x.shape[1] != measure.dim:
            return (
                f"points of the {name} have the shape {tuple(x.shape)}: they must be one or more rows of {measure.dim}"
            )
        if bad := int((~x.isfinite()).any(1).sum()):
            return f"{bad} of {len(x)} points of the {name} are not finite: clean the data first"
    return None

"""What the solvers on finite samples share: drawing the samples, the fit, and what certifies a coupling of them."""

import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Generator, Tensor

from datasets.base import Measure, Points, Samples, Values
from solvers.base import Diverged, Transport, faulty

Result = TypeVar("Result")

FRAMEWORKS = ("JAX", "TENSORFLOW", "CUPY")
CELLS = 2**18  # of a block of the cost matrix: 2 MB, which stays in cache
MARGINAL_LIMIT = {torch.float32: 1e-4, torch.float64: 1e-6}
GIB = 2**30


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
            # of torch, about every sparse tensor that is made
            warnings.filterwarnings("ignore", message="Sparse invariant checks")
            return call()
    except (UserWarning, RuntimeWarning, FloatingPointError) as warning:
        lines = str(warning).strip().splitlines() or [type(warning).__name__]
        raise Diverged(f"{name}: {lines[0]}") from None


def blocks(x: Points, y: Points) -> Iterator[tuple[slice, Tensor]]:
    """The cost matrix 1/2 |x_i - y_j|^2 (n, m) by blocks of rows, in one buffer that is used again."""
    height = max(1, CELLS // len(y))
    half = y.square().sum(1) / 2
    buffer = x.new_empty(min(height, len(x)), len(y))
    for start in range(0, len(x), height):
        part = x[start : start + height]
        cost = torch.addmm(half, part, y.T, alpha=-1, out=buffer[: len(part)])
        cost.add_(part.square().sum(1, keepdim=True) / 2).clamp_min_(0)
        yield slice(start, start + len(part)), cost


def mean_cost(x: Points, y: Points) -> float:
    """The mean of 1/2 |x_i - y_j|^2 over all pairs, in O(n + m)."""
    spread = x.var(0, correction=0).sum() + y.var(0, correction=0).sum()
    return ((x.mean(0) - y.mean(0)).square().sum() + spread).item() / 2


def hard_transform(x: Points, y: Points, g: Values) -> Values:
    """The c-transform f_i = min_j 1/2 |x_i - y_j|^2 - g_j (n,): the largest f for which (f, g) is dual feasible."""
    return torch.cat([cost.sub_(g).amin(1) for _, cost in blocks(x, y)])


def dual_bound(x: Points, y: Points, g: Values) -> float:
    """A lower bound of 1/2 W2^2 between the rows of x and of y: mean f + mean h, f = g^c and h = f^c."""
    f = hard_transform(x, y, g)
    return (f.mean() + hard_transform(y, x, f).mean()).item()


@dataclass(frozen=True)
class Audit:
    """What a coupling is worth, computed in float64.

    L1 errors of its marginals, the error of its total mass, and bounds of the optimal cost: `upper` is the cost of
    a coupling with exact marginals, `lower` the value of a feasible pair of potentials.
    """

    source: float
    target: float
    mass: float
    upper: float
    lower: float

    def gap(self, cost: float) -> float:
        """What the relative error of `cost` is at most: the optimal cost lies between the two bounds."""
        worst = max(self.upper - cost, cost - self.lower)
        if math.isnan(self.upper + self.lower + cost):  # which comparisons let pass
            return math.nan
        return 0.0 if worst <= 0 else worst / self.lower if self.lower > 0 else float("inf")


class Coupling(Protocol):
    """A coupling of the rows of x and y: a frozen dataclass of tensors and numbers."""

    @property
    def x(self) -> Points: ...

    @property
    def y(self) -> Points: ...

    @property
    def cost(self) -> float:
        """1/2 W2^2 between the rows, as the method estimates it."""
        ...

    def forward(self, points: Points) -> Points: ...

    def inverse(self, points: Points) -> Points: ...

    def audit(self) -> Audit: ...


class Discrete(ABC):
    """A solver that couples a sample of the source with one of the target, `n_points` rows of each."""

    n_points: int
    max_gib: float
    gap_limit: ClassVar[float]

    @abstractmethod
    def couple(self, x: Points, y: Points) -> Coupling:
        """The coupling of the rows of x (n, d) and y (m, d), equally heavy each. Raises Diverged."""

    @abstractmethod
    def memory(self, n: int, m: int, dim: int) -> tuple[int, str]:
        """The bytes that `couple` will take at most, and what to do where there are fewer."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> Coupling:
        """The coupling whose fields are `state`."""

    def unfit(self, source: Measure, target: Measure) -> str | None:
        if why := faulty(source, target):
            return why
        n, m = rows(source, self.n_points), rows(target, self.n_points)
        need, remedy = self.memory(n, m, source.dim)
        if need > self.max_gib * GIB:
            return f"{n} x {m} points take {need / GIB:.1f} GiB, more than max_gib={self.max_gib:g}: {remedy}"
        return None

    def start(self, source: Measure, target: Measure, rng: Generator) -> "DiscreteFit":
        return DiscreteFit(self, source, target, rng)


def rows(measure: Measure, n: int) -> int:
    """How many of n points the measure can give: no more than are stored."""
    return min(n, len(measure.train)) if isinstance(measure, Samples) else n


def draw(measure: Measure, n: int, rng: Generator) -> Points:
    """`rows(measure, n)` points of the measure; stored ones are drawn without replacement.

    Raises Diverged where they are not a table of finite numbers.
    """
    if not isinstance(measure, Samples):
        x = measure.sample(n, rng)
    elif len(measure.train) <= n:
        x = measure.train
    else:
        x = measure.train[torch.randperm(len(measure.train), generator=rng, device=rng.device)[:n]]
    if x.shape != (rows(measure, n), measure.dim):
        raise Diverged(f"a sample of {n} points in {measure.dim} dimensions has the shape {tuple(x.shape)}")
    if bad := int((~x.isfinite()).any(1).sum()):
        raise Diverged(f"{bad} of {len(x)} points of a sample are not finite: clean the data first")
    return x.detach()


class DiscreteFit:
    """A direct solve: one step."""

    def __init__(self, solver: Discrete, source: Measure, target: Measure, rng: Generator) -> None:
        self.solver = solver
        self.source, self.target, self.rng = source, target, rng
        self.coupling: Coupling | None = None

    @property
    def done(self) -> bool:
        return self.coupling is not None

    def step(self) -> Mapping[str, float]:
        """Couple the samples; `source_rows` and `target_rows` say how many points, `..._stored` of how many."""
        x = draw(self.source, self.solver.n_points, self.rng)
        y = draw(self.target, self.solver.n_points, self.rng).to(x)
        self.coupling = self.solver.couple(x, y)
        terms = {"loss": self.coupling.cost, "source_rows": float(len(x)), "target_rows": float(len(y))}
        for name, measure in (("source", self.source), ("target", self.target)):
            if isinstance(measure, Samples):
                terms[f"{name}_stored"] = float(len(measure.train))
        return terms

    @cached_property
    def bias(self) -> float:
        """The cost between two samples of one law, as large as those coupled: the geometric mean of both laws' own.

        Neither law alone tells: between samples of N(0, I) and of N(0, s^2 I) the cost is too high by s c, where c and
        s^2 c are those between two samples of either. Halves of what is stored where that is less: overstated then.
        """
        rng = self.rng.clone_state()
        costs = [self._own_cost(measure, rng) for measure in (self.source, self.target)]
        source, target = (0.0 if cost < 0 else cost for cost in costs)  # debiased, it may be; and NaN stays
        return math.sqrt(source * target)

    def _own_cost(self, measure: Measure, rng: Generator) -> float:
        assert self.coupling is not None
        n, m = len(self.coupling.x), len(self.coupling.y)
        both = draw(measure, n + m, rng).to(self.coupling.x)
        if isinstance(measure, Samples):  # stored rows can be sorted, and their halves of two laws
            both = both[torch.randperm(len(both), generator=rng, device=rng.device)]
        split = len(both) * n // (n + m)
        return self.solver.couple(both[:split], both[split:]).cost

    @cached_property
    def audit(self) -> Audit:
        assert self.coupling is not None
        return self.coupling.audit()

    def validated(self, loss: float) -> None:
        pass

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        """Certificates: `marginal_source` and `marginal_target` (L1), `mass`, `finite_input` (share of the numbers
        that are not: 0 of points that `draw` let pass, which a state kept elsewhere need not have been), and
        `duality_gap`, a bound of the relative error of the cost between these samples."""
        coupling = self.coupling
        assert coupling is not None, "take the step first"
        marginal, forward = MARGINAL_LIMIT[coupling.x.dtype], coupling.forward
        points = torch.cat([coupling.x, coupling.y])
        return Transport(
            forward=forward,
            inverse=coupling.inverse,
            path=lambda x, t: torch.lerp(x, forward(x), t),
            cost=coupling.cost,
            same_law_cost=lambda: self.bias,
            certificates={
                "finite_input": lambda: ((~points.isfinite()).double().mean().item(), 0.0),
                "marginal_source": lambda: (self.audit.source, marginal),
                "marginal_target": lambda: (self.audit.target, marginal),
                "mass": lambda: (self.audit.mass, marginal),
                "duality_gap": lambda: (self.audit.gap(coupling.cost), self.solver.gap_limit),
            },
        )

    def state_dict(self) -> dict[str, Any]:
        kept = self.coupling
        state = {} if kept is None else {f.name: getattr(kept, f.name) for f in fields(kept)}  # type: ignore[arg-type]
        return {"coupling": state, "rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.__dict__.pop("bias", None)
        self.__dict__.pop("audit", None)
        self.coupling = self.solver.restore(state["coupling"]) if state["coupling"] else None
        self.rng.set_state(state["rng"].cpu())


def in_chunks(f: Callable[[Points], Points], points: Points, columns: int) -> Points:
    """f of the rows of `points` (n, d), so many at a time that a row of `columns` numbers for each fits a block."""
    return torch.cat([f(part) for part in points.split(max(1, CELLS // columns))])

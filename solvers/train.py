"""What neural solvers share: batches, optimiser, learning-rate schedule, and the state of a training."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Generator, Tensor, nn

from datasets.base import Density, Measure, Samples
from solvers.base import Diverged, probe

DEFAULT_BATCH = 4096

Model = TypeVar("Model", bound=nn.Module)

Loss = Callable[[Tensor], tuple[Tensor, Mapping[str, float]]]  # batch -> (loss, its terms by name)


@contextmanager
def seeded(rng: Generator) -> Iterator[None]:
    """Within, torch's global generator is seeded from `rng`: constructors of modules draw from no other."""
    seed = int(torch.randint(2**62, (), generator=rng, device=rng.device))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def mismatch(source: Measure, target: Measure) -> str | None:
    """Why no map carries one to the other; None if one can."""
    if source.dim == target.dim:
        return None
    return f"the source has dimension {source.dim} and the target {target.dim}: they must agree"


def too_few(measure: Measure, batch_size: int | None) -> str | None:
    """Why no such batches can be taken from the measure; None if they can."""
    if batch_size is None:
        return None
    if batch_size < 1:
        return f"batch_size is {batch_size}: set solver.batch_size to 1 or more"
    if isinstance(measure, Samples) and batch_size > len(measure.train):
        rows = len(measure.train)
        return f"batch_size {batch_size} exceeds the {rows} training rows: set solver.batch_size to {rows} or less"
    return None


class Supply(Protocol):
    """Where a training takes its batches from."""

    rng: Generator

    def next(self) -> Tensor: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Batches:
    """Training batches of a measure: shuffled epochs of stored rows, or fresh draws of an analytic measure.

    An epoch's last rows, where they do not fill a batch, are left out (the authors of OT-Flow and FFJORD keep
    them). `batch_size` None means 4096, or all training rows where there are fewer.
    """

    def __init__(self, source: Measure, batch_size: int | None, rng: Generator) -> None:
        self.source = source
        self.rng = rng
        self.size = batch_size or DEFAULT_BATCH
        if batch_size is None and isinstance(source, Samples):
            self.size = min(DEFAULT_BATCH, len(source.train))
        self.order: Tensor | None = None
        self.position = 0

    def next(self) -> Tensor:
        """The next batch (batch_size, d)."""
        if not isinstance(self.source, Samples):
            return self.source.sample(self.size, self.rng)
        rows = len(self.source.train)
        if self.order is None or self.position + self.size > rows:
            self.order = torch.randperm(rows, generator=self.rng, device=self.rng.device)
            self.position = 0
        chosen = self.order[self.position : self.position + self.size]
        self.position += self.size
        return self.source.train[chosen]

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.get_state(), "order": self.order, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rng.set_state(state["rng"].cpu())
        self.order = state["order"]
        self.position = state["position"]


class Pairs:
    """Independent batches of source and target, (2, n, d); `batch_size` None is the smaller of Batches' for either."""

    def __init__(self, source: Measure, target: Measure, batch_size: int | None, rng: Generator) -> None:
        self.rng = rng
        size = min(Batches(measure, batch_size, rng).size for measure in (source, target))
        self.parts = Batches(source, size, rng), Batches(target, size, rng)

    def next(self) -> Tensor:
        x, y = (part.next() for part in self.parts)
        return torch.stack([x, y.to(x)])

    def state_dict(self) -> dict[str, Any]:
        return {"source": self.parts[0].state_dict(), "target": self.parts[1].state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.parts[0].load_state_dict(state["source"])
        self.parts[1].load_state_dict(state["target"])


@dataclass(frozen=True)
class Schedule:
    """Learning rate lr / drop_factor**drops, times `annealing` where there is one.

    A drop comes every `drop_every` steps, and where validation has not improved for `patience` steps; where that
    happens once more after `max_drops` such drops, training is done. With `cumulative` the wait is not counted
    anew after a drop: drop k, and the end, take k * patience steps without improvement (FFJORD's rule).
    Raises ValueError, naming the setting, for values that make no schedule.
    """

    lr: float
    drop_factor: float = 10.0
    drop_every: int | None = None
    patience: int | None = None
    max_drops: int = 3
    cumulative: bool = False
    annealing: "Annealing | None" = None

    def rate(self, steps: int, drops: int) -> float:
        """The rate of the step after `steps` steps."""
        share = 1.0 if self.annealing is None else self.annealing.share(steps)
        return self.lr / self.drop_factor**drops * share

    def __post_init__(self) -> None:
        if not self.lr > 0 or not self.drop_factor > 0:
            raise ValueError(f"lr and lr_drop_factor must be positive, not {self.lr} and {self.drop_factor}")
        for name, value in (("lr_drop_steps", self.drop_every), ("lr_patience", self.patience)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, or null, not {value}")
        if self.max_drops < 0:
            raise ValueError(f"lr_max_drops must be 0 or more, not {self.max_drops}")


@dataclass(frozen=True)
class Annealing:
    """A share of the learning rate: it rises to 1 over the first `warm_up` steps, and falls to `end` along a cosine.

    share(k) = (end + (1 - end) (1 + cos(pi min(k / steps, 1))) / 2) min((k + 1) / warm_up, 1) (Loshchilov and
    Hutter 2017, eq. 5, without restarts).
    """

    steps: int
    end: float = 0.01
    warm_up: int = 100

    def __post_init__(self) -> None:
        if min(self.steps, self.warm_up) < 1:
            raise ValueError(f"max_steps and lr_warm_up must be 1 or more, not {self.steps} and {self.warm_up}")
        if not 0 <= self.end <= 1:
            raise ValueError(f"lr_end must lie in [0, 1], not {self.end}")

    def share(self, steps: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(steps / self.steps, 1.0)))
        return (self.end + (1 - self.end) * cosine) * min((steps + 1) / self.warm_up, 1.0)


MakeOptimizer = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]  # parameters, rate -> optimiser


def adam(weight_decay: float = 0.0) -> MakeOptimizer:
    """ADAM, with weight_decay times the weights added to their gradient."""
    return lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def adamw(weight_decay: float) -> MakeOptimizer:
    """ADAM whose weights shrink by lr * weight_decay a step, apart from the gradient (Loshchilov and Hutter 2019)."""
    return lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)


class Training:
    """ADAM, or what `optimizer` makes, on a model, over the batches of a measure: the mutable part of a neural fit."""

    def __init__(
        self,
        model: nn.Module,
        batches: Supply,
        schedule: Schedule,
        max_steps: int | None,
        optimizer: MakeOptimizer | None = None,
    ) -> None:
        optimizer = optimizer or adam()
        self.model = model
        self.batches = batches
        self.schedule = schedule
        self.max_steps = max_steps
        self.optimizer = optimizer(model.parameters(), schedule.rate(0, 0))
        self.steps = 0
        self.drops = 0  # of the learning rate, of both kinds
        self.plateaus = 0  # those for want of improvement
        self.best = math.inf
        self.best_step = 0
        self.stopped = False

    @property
    def done(self) -> bool:
        return self.stopped or (self.max_steps is not None and self.steps >= self.max_steps)

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def step(self, loss_of: Loss) -> dict[str, float]:
        """One batch, one gradient, one update. Raises Diverged where the loss is not finite."""
        self.optimizer.zero_grad(set_to_none=True)
        loss, terms = loss_of(self.batches.next())
        value = loss.item()
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} at step {self.steps}")
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        every = self.schedule.drop_every
        if every is not None and self.steps % every == 0:
            self.drops += 1
        self._set_rate()
        return {"loss": value, **terms}

    def validated(self, loss: float) -> None:
        """Drop the learning rate, and in the end stop, where `loss` no longer improves."""
        if loss < self.best:
            self.best, self.best_step = loss, self.steps
            return
        patience = self.schedule.patience
        if patience is None:
            return
        wait = patience * (self.plateaus + 1 if self.schedule.cumulative else 1)
        if self.steps - self.best_step < wait:
            return
        if self.plateaus >= self.schedule.max_drops:
            self.stopped = True
            return
        self.plateaus += 1
        self.drops += 1
        self._set_rate()
        if not self.schedule.cumulative:
            self.best_step = self.steps

    def _set_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.rate(self.steps, self.drops)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state_dict(),
            "steps": self.steps,
            "drops": self.drops,
            "plateaus": self.plateaus,
            "best": self.best,
            "best_step": self.best_step,
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["batches"])
        self.steps = state["steps"]
        self.drops = state["drops"]
        self.plateaus = state["plateaus"]
        self.best = state["best"]
        self.best_step = state["best_step"]
        self.stopped = state["stopped"]


@dataclass(frozen=True)
class Recipe:
    """How a flow is trained: on batches of `batch_size` rows, see Batches, for at most `max_steps` steps.

    The fields that begin with lr are those of Schedule; `weight_decay` adds weight_decay/2 |weights|^2 to the loss.
    """

    batch_size: int | None = None
    lr: float = 1e-3
    lr_drop_factor: float = 10.0
    lr_drop_steps: int | None = None
    lr_patience: int | None = 1000
    lr_max_drops: int = 2
    weight_decay: float = 0.0
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be 0 or more, not {self.weight_decay}")
        self.schedule()

    def schedule(self) -> Schedule:
        return Schedule(self.lr, self.lr_drop_factor, self.lr_drop_steps, self.lr_patience, self.lr_max_drops)

    def make_optimizer(self) -> MakeOptimizer:
        return adam(self.weight_decay)

    def unfit(self, source: Measure, target: Measure) -> str | None:
        if reason := mismatch(source, target):
            return reason
        if not isinstance(target, Density):
            return "a flow is trained on the target's log-density, and the target has none"
        return too_few(source, self.batch_size)

    def begin(
        self, build: Callable[[], Model], source: Measure, rng: Generator, batches: Supply | None = None
    ) -> tuple[Model, Training]:
        """The model that `build` makes from the draws of `rng`, with device and dtype of the source, and its training.

        The training is on batches of the source, where no others are given.
        """
        like = probe(source, rng)
        with seeded(rng):
            model = build()
        model.to(device=like.device, dtype=like.dtype)
        batches = batches or Batches(source, self.batch_size, rng)
        return model, Training(model, batches, self.schedule(), self.max_steps, self.make_optimizer())


class Trained:
    """What fits by training have in common: schedule and state are those of their `training`."""

    def __init__(self, training: Training) -> None:
        self.training = training

    @property
    def done(self) -> bool:
        return self.training.done

    def validated(self, loss: float) -> None:
        self.training.validated(loss)

    def state_dict(self) -> dict[str, Any]:
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.training.load_state_dict(state)

"""The one loop: clock, budget, validation, best state, checkpoint, progress. Only `Fit.step()` is on the clock."""

import copy
import gc
import math
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Generator, Tensor

from bench import checkpoint
from bench.measure import Clock, Work, peak_bytes, reset_peak, synchronize
from bench.progress import Progress
from bench.tally import Tally, finite
from datasets.base import Measure, Problem, Samples
from solvers.base import Diverged, Fit, Solver, Transport

VALIDATION_SEED = 1789
CHECKPOINT_SECONDS = 30.0
AT_ONCE = 1.0  # seconds, in which a SIGTERM comes twice by one cause
KEPT_SECONDS = 1.0  # a direct solve that took longer is not repeated after the warm-up
BAD_VALIDATIONS = 3
OURS = ("bench", "solvers", "datasets")


@dataclass(frozen=True)
class Budget:
    """When a run ends, whichever comes first; None is no limit.

    `seconds` of step time, `steps`, function `evaluations` (forward and backward), and `target`: the validation
    NLL which two successive validations must reach.
    """

    seconds: float | None = None
    steps: int | None = None
    evaluations: int | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "steps", "evaluations", "target"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"budget.{name} must be a number or null, not {value!r}")
            if name != "target" and value <= 0:
                raise ValueError(f"budget.{name} is {value}: it must be more than 0, or null for no limit")
        for name in ("steps", "evaluations"):
            value = getattr(self, name)
            if value is not None and value != int(value):
                raise ValueError(f"budget.{name} must be a whole number, not {value}")
        for name, kind in (("seconds", float), ("steps", int), ("evaluations", int), ("target", float)):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, kind(value))  # 60 and 60.0 are one budget, and one key


@dataclass(frozen=True)
class Validation:
    """When to validate and on how many points: at most `spacing` of the steps so far, and `every` steps, apart."""

    rows: int = 10_000
    spacing: float = 0.05
    every: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 1:
            raise ValueError(f"validation.rows must be a whole number of 1 or more, not {self.rows!r}")
        if not isinstance(self.spacing, int | float) or not 0 < self.spacing <= 1:
            raise ValueError(f"validation.spacing must lie in (0, 1], not {self.spacing!r}")
        if self.every is not None and (
            isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1
        ):
            raise ValueError(f"validation.every must be a whole number of 1 or more, or null, not {self.every!r}")

    def after(self, step: int) -> int:
        """The step of the validation that follows the one at `step`.

        Counted in steps, so that it does not depend on the machine; a fifth of `spacing` is kept for steps that
        take longer than those before.
        """
        following = max(step + 1, math.floor(step * (1 + 0.8 * self.spacing)))
        return following if self.every is None else min(following, step + self.every)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `fit` holds its best validated state, and is None unless `status` is ok."""

    status: str
    reason: str
    fit: Fit | None
    tally: Tally


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after the checkpoint was written."""


def run(
    solver: Solver,
    problem: Problem,
    rng: Generator,
    budget: Budget,
    validation: Validation,
    path: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Solve `problem` within `budget`, from the checkpoint at `path` where there is one.

    `rng` is not moved on. Whatever the solver raises becomes a status; Interrupted is raised for Ctrl-C and SIGTERM.
    """
    loop = _Loop(solver, problem, rng, budget, validation, path, progress or Progress("", shown=False))
    try:
        with _stop_requests() as loop.stops:
            return loop.run()
    except (Exception, SystemExit) as error:
        return Outcome(*failure(error), None, loop.tally)


def failure(error: Exception | SystemExit) -> tuple[str, str]:
    """The status that an exception stands for, and the reason; the traceback of a crash goes to stderr."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
    if isinstance(error, Diverged):
        return "diverged", lines[0] if lines else "diverged"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _allocation_failed(error):
        return "oom", reason
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] not in OURS:
        return "not_installed", reason
    traceback.print_exception(error)
    return "crash", reason


def _allocation_failed(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("not enough memory", "out of memory", "can't allocate memory")
    )


def validation_points(source: Measure, rows: int, device: torch.device) -> Tensor:
    """The points that validation uses, the same in every run: (rows, d), or fewer where fewer are stored.

    Drawn on the CPU, so that every device validates on the same ones.
    """
    rng = Generator().manual_seed(VALIDATION_SEED)
    if not isinstance(source, Samples):
        return source.sample(rows, rng).to(device)
    if len(source.valid) <= rows:
        return source.valid
    return source.valid[torch.randperm(len(source.valid), generator=rng)[:rows].to(source.valid.device)]


def validation_loss(transport: Transport, points: Tensor) -> float | None:
    """-mean log q(points), or None for a transport without a density. Not finite where the transport is not."""
    try:
        if transport.log_prob is not None:
            return -_mean(transport.log_prob(points))
        if transport.forward is not None and not bool(transport.forward(points).isfinite().all()):
            return math.nan
    except Diverged:
        return math.nan
    return None


def validation_objective(transport: Transport, points: Tensor) -> float | None:
    """mean objective(points), or None for a transport whose `validation_loss` says which state is best."""
    try:
        return None if transport.objective is None else _mean(transport.objective(points))
    except Diverged:
        return math.nan


def _mean(values: Tensor) -> float:
    return float(values.detach().double().mean())


@contextmanager
def _stop_requests() -> Iterator[list[float]]:
    """Within, Ctrl-C and SIGTERM are only noted, so that no step is cut in two; a second one is as usual.

    A SIGTERM within AT_ONCE seconds of the first is the same: Slurm and systemd signal each process of a job, and its
    keeper passes its own on.
    """
    requests: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        if requests and not (number == signal.SIGTERM and time.monotonic() < requests[0] + AT_ONCE):
            raise KeyboardInterrupt
        requests.append(time.monotonic())

    for number in before:
        signal.signal(number, note)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Loop:
    """One run under way."""

    def __init__(
        self,
        solver: Solver,
        problem: Problem,
        rng: Generator,
        budget: Budget,
        validation: Validation,
        path: Path | None,
        progress: Progress,
    ) -> None:
        self.solver, self.problem, self.rng = solver, problem, rng
        self.budget, self.validation = budget, validation
        self.path, self.progress = path, progress
        self.tally = Tally()
        self.best: Any = None
        self.stops: list[float] = []
        self.device = rng.device
        self.clock = Clock(rng.device)
        self.points = validation_points(problem.source, validation.rows, rng.device)
        self.began = self.saved = time.monotonic()

    def run(self) -> Outcome:
        reset_peak(self.device)
        fit = self._resumed()
        if fit is None:
            fit = self._warm_up() or self._start()
        reset_peak(self.device)
        gc.collect()
        gc.freeze()  # what is there already stays: collections between steps are short
        try:
            with self.progress:
                while self.tally.ended is None:
                    self._advance(fit)
        finally:
            gc.unfreeze()
        if self.stops:
            raise Interrupted
        if not self.tally.finite:
            return Outcome("budget", f"{self.tally.ended} came before a finite validation", None, self.tally)
        if self.best is not None:
            fit.load_state_dict(self.best)
        return Outcome("ok", self.tally.ended, fit, self.tally)

    def _start(self) -> Fit:
        return self.solver.start(self.problem.source, self.problem.target, self.rng.clone_state())

    def _advance(self, fit: Fit) -> None:
        """Stop, validate, checkpoint or take a step, as is due."""
        tally = self.tally
        if self.stops:
            self._interrupt(fit)
        end = self._end(fit)
        if tally.steps and (end or tally.steps >= tally.next_validation) and tally.validated_at != tally.steps:
            self._validate(fit)
            end = self._end(fit)
        tally.ended = end
        if self.path is not None and (end or time.monotonic() - self.saved > CHECKPOINT_SECONDS):
            self._save(fit)
        if end is None:
            with self.clock.timed():
                terms = fit.step()
            self._account(terms, self.clock.last)
            self.progress.update(self._numbers)

    def _account(self, terms: Mapping[str, float], seconds: float) -> None:
        self.tally.add(terms, seconds)
        loss = terms.get("loss", 0.0)
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} at step {self.tally.steps}")

    def _end(self, fit: Fit) -> str | None:
        """Why the run is over; None if it is not."""
        tally, budget = self.tally, self.budget
        if tally.hits >= 2:
            return "target"
        if fit.done:
            return "schedule"
        if budget.seconds is not None and tally.seconds >= budget.seconds:
            return "budget.seconds"
        if budget.steps is not None and tally.steps >= budget.steps:
            return "budget.steps"
        if budget.evaluations is not None and tally.nfe_forward + tally.nfe_backward >= budget.evaluations:
            return "budget.evaluations"
        return None

    def _validate(self, fit: Fit) -> None:
        tally = self.tally
        tally.peak_bytes = max(tally.peak_bytes, peak_bytes(self.device) or 0)
        begin = time.perf_counter()
        transport = fit.transport("valid")
        nll = validation_loss(transport, self.points)
        objective = validation_objective(transport, self.points)
        synchronize(self.device)
        self._judge(fit, nll, nll if objective is None else objective)
        found = {"valid_nll": finite(nll)} | ({} if objective is None else {"valid_objective": finite(objective)})
        tally.trace.append({"step": tally.steps, "seconds": tally.seconds, **tally.means(), **found})
        tally.validated_at = tally.steps
        tally.next_validation = self.validation.after(tally.steps)
        tally.validate_seconds += time.perf_counter() - begin
        reset_peak(self.device)
        if tally.bad >= BAD_VALIDATIONS:
            raise Diverged(f"{BAD_VALIDATIONS} validations in a row were not finite, the last at step {tally.steps}")

    def _judge(self, fit: Fit, nll: float | None, loss: float | None) -> None:
        """Keep the state of the least `loss`, and count successes, which go by `nll`, and failures in a row."""
        tally, target = self.tally, self.budget.target
        if loss is None:
            tally.finite = True
            return
        if not math.isfinite(loss):
            tally.bad, tally.hits = tally.bad + 1, 0
            return
        tally.bad, tally.finite = 0, True
        enough = 2 if fit.done and tally.steps == 1 else 1  # a direct solve is validated once
        tally.hits = tally.hits + enough if target is not None and nll is not None and nll <= target else 0
        if tally.best is None or loss < tally.best:
            tally.best = loss
            self.best = copy.deepcopy(fit.state_dict())
        fit.validated(loss)

    def _warm_up(self) -> Fit | None:
        """Pay for first calls, and count what a step costs, with fits that are thrown away.

        A direct solve that took long is kept instead: its fit is returned, its one step accounted for.
        """
        begin = time.perf_counter()
        trial = self._start()
        clock = Clock(self.device)
        with clock.timed():
            terms = trial.step()
        if trial.done and clock.seconds > KEPT_SECONDS:
            self.tally.peak_bytes = peak_bytes(self.device) or 0
            self._account(terms, clock.seconds)
            return trial
        if trial.done:
            trial = self._start()
        with Work() as work:
            terms = trial.step()
        evaluations = terms.get("nfe_forward", 0.0) + terms.get("nfe_backward", 0.0)
        if not self.tally.steps or self.tally.flops is not None:  # a resumed run may know that its steps differ
            self.tally.flops, self.tally.counted = work.flops, sorted(terms)
            self.tally.flops_per_evaluation = work.flops / evaluations if evaluations else None
        self.tally.warmup_seconds += time.perf_counter() - begin
        return None

    def _resumed(self) -> Fit | None:
        """The fit of the checkpoint, warm; None if there is none that can be used."""
        if self.path is None:
            return None
        try:
            state = checkpoint.load(self.path, self.device)
            fit = None if state is None else self._restored(state)
        except ValueError as error:
            print(f"warning: {error}: starting afresh", file=sys.stderr)  # noqa: T201
            self.tally, self.best = Tally(), None
            return None
        if fit is not None and self.tally.ended is None and not fit.done:
            self._warm_up()
        return fit

    def _restored(self, state: Mapping[str, Any]) -> Fit:
        """The fit in `state`, with tally and best state. Raises ValueError where they are not this solver's."""
        assert self.path is not None
        fit = self._start()
        try:
            fit.load_state_dict(state["fit"])
            self.best = state["best"]
            self.tally = Tally(**state["tally"])
        except (KeyError, TypeError, IndexError, AttributeError, RuntimeError, ValueError) as error:
            raise ValueError(f"{self.path.name} does not fit this solver ({type(error).__name__})") from None
        return fit

    def _save(self, fit: Fit) -> None:
        """Write the checkpoint; where that fails, warn and go on."""
        assert self.path is not None
        self.saved = time.monotonic()
        wall = self.tally.wall_seconds + time.monotonic() - self.began
        tally = {**asdict(self.tally), "wall_seconds": wall}
        try:
            checkpoint.save(self.path, {"tally": tally, "best": self.best, "fit": fit.state_dict()})
        except OSError as error:
            print(f"warning: no checkpoint: {error.strerror or error}", file=sys.stderr)  # noqa: T201

    def _interrupt(self, fit: Fit) -> None:
        if self.path is not None and self.tally.steps:
            self._save(fit)
        raise Interrupted

    def _numbers(self) -> tuple[float | None, str]:
        """For the progress display: the share of the budget that is used, and the state in words."""
        tally, budget = self.tally, self.budget
        used = tally.nfe_forward + tally.nfe_backward
        limits = ((tally.seconds, budget.seconds), (tally.steps, budget.steps), (used, budget.evaluations))
        shares = [spent / limit for spent, limit in limits if limit is not None]
        share = max(shares) if shares else None
        left = (
            f"{max(0.0, tally.seconds * (1 - share) / share):.0f} s left"
            if share
            else f"{tally.seconds:.0f} s, no budget"
        )
        loss = tally.sums.get("loss", math.nan) / max(tally.summed, 1)
        best = "-" if tally.best is None else f"{tally.best:.4f}"
        return share, f"step {tally.steps}, loss {loss:.4f}, best validation {best}, {left}"

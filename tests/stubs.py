"""A dataset and a solver that are done in no time, and the ways in which a solver can fail."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from datasets.base import Measure, Points, Problem, Truth, Values
from solvers.base import Diverged, Transport


@dataclass(frozen=True)
class Normal:
    """N(mean, I) in the plane."""

    mean: float = 0.0
    dim: int = 2

    def sample(self, n: int, rng: Generator) -> Points:
        return self.mean + torch.randn(n, self.dim, generator=rng, device=rng.device)

    def log_prob(self, x: Points) -> Values:
        return -0.5 * (x - self.mean).square().sum(1) - 0.5 * self.dim * torch.log(x.new_tensor(2 * torch.pi))


@dataclass(frozen=True)
class Shifted:
    """Carry N(1, I) to N(0, I)."""

    rows: int = 50
    name: ClassVar[str] = "shifted"
    version: ClassVar[int] = 1

    def load(self, root: Path) -> Problem:
        source = Normal(1.0)
        nll = 1.0 + float(torch.log(torch.tensor(2 * torch.pi)))
        return Problem(source, Normal(), source.sample(self.rows, Generator().manual_seed(7)), Truth(nll=nll))


@dataclass(frozen=True)
class Decay:
    """Learns the mean by moving `rate` of the way to each batch's, and misbehaves as `mode` says at step `at`."""

    mode: str = "ok"
    at: int = 3
    rate: float = 0.1
    max_steps: int | None = None
    seconds: float = 0.0
    marker: str = ""

    version: ClassVar[int] = 1

    def unfit(self, source: Measure, target: Measure) -> str | None:
        return "set solver.mode to something else" if self.mode == "unfit" else None

    def start(self, source: Measure, target: Measure, rng: Generator) -> "DecayFit":
        return DecayFit(self, source, rng)


class DecayFit:
    def __init__(self, solver: Decay, source: Measure, rng: Generator) -> None:
        self.solver, self.source, self.rng = solver, source, rng
        self.mean = source.sample(1, rng.clone_state()).new_zeros(1, source.dim)
        self.steps = 0
        self.told: list[float] = []

    @property
    def done(self) -> bool:
        return self.solver.max_steps is not None and self.steps >= self.solver.max_steps

    def step(self) -> Mapping[str, float]:
        self.steps += 1
        time.sleep(self.solver.seconds)
        if self.steps == self.solver.at:
            misbehave(self.solver.mode, Path(self.solver.marker))
        batch = self.source.sample(16, self.rng)
        loss = float((batch - self.mean).square().mean())
        self.mean.lerp_(batch.mean(0, keepdim=True), self.solver.rate)  # in place: states that are kept must be copies
        if self.solver.mode == "nan" and self.steps == self.solver.at:
            loss = float("nan")
        return {"loss": loss, "nfe_forward": 2.0, "nfe_backward": 1.0 + self.steps % 2}

    def validated(self, loss: float) -> None:
        self.told.append(loss)

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        mean = self.mean
        if self.solver.mode == "invalid" and self.steps >= self.solver.at:
            mean = mean * torch.nan
        density = None if self.solver.mode == "implicit" else self._log_prob
        if self.solver.mode == "invalid" and self.steps >= self.solver.at:
            density = self._broken
        maps = Transport(lambda x: x - mean, lambda z: z + mean, density, path=lambda x, t: x - t * mean)
        objective = self._objective if self.solver.mode == "objective" else None
        return replace(maps, parameters=2, objective=objective)

    def _objective(self, x: Tensor) -> Tensor:
        """Least where the mean is 1/2, which is half-way to the largest likelihood."""
        return (self.mean - 0.5).square().sum().expand(len(x))

    def _log_prob(self, x: Tensor) -> Tensor:
        return Normal().log_prob(x - self.mean)

    def _broken(self, x: Tensor) -> Tensor:
        return self._log_prob(x) * torch.nan

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "steps": self.steps, "rng": self.rng.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean, self.steps = state["mean"].clone(), state["steps"]
        self.rng.set_state(state["rng"])


def touch(path: str) -> None:
    """No dataclass of settings: a configuration that names it is refused before it is called."""
    Path(path).touch()


def misbehave(mode: str, marker: Path) -> None:
    """End the step, or the process, in the way that `mode` names; `once` ways only while `marker` is missing."""
    match mode:
        case "diverge":
            raise Diverged("the step size fell below 1e-12")
        case "memory":
            raise MemoryError("9 GB asked for")
        case "allocator":
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 GB")
        case "crash":
            raise KeyError("weights")
        case "missing":
            raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
        case "ours":
            raise ImportError("cannot import name 'f'", name="solvers.nowhere")
        case "exit":
            os._exit(7)
        case "leave":
            sys.exit(2)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            ctypes.CDLL(None).sleep(600)
        case "interrupt" | "kill" | "terminate" if not marker.exists():
            marker.touch()
            number = {"interrupt": signal.SIGINT, "kill": signal.SIGKILL, "terminate": signal.SIGTERM}[mode]
            os.kill(os.getpid(), number)

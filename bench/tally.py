"""What the loop counts: plain values, which a checkpoint carries over."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT = 200  # durations of steps


def finite(value: float | None) -> float | None:
    """`value` as a float, None where it is not a finite number."""
    return float(value) if value is not None and math.isfinite(value) else None


@dataclass
class Tally:
    """All that the loop knows beside the fit itself."""

    steps: int = 0
    seconds: float = 0.0
    nfe_forward: float = 0.0
    nfe_backward: float = 0.0
    nfe_forward_max: float = 0.0
    counts_evaluations: bool = False
    sums: dict[str, float] = field(default_factory=dict)  # of the loss terms since the last validation
    summed: int = 0
    validated_at: int = 0
    next_validation: int = 1
    best: float | None = None
    finite: bool = False
    hits: int = 0
    bad: int = 0
    trace: list[dict[str, float | None]] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)  # of every stride-th step
    stride: int = 1
    peak_bytes: int = 0
    flops: int | None = None  # of one of the first steps
    flops_per_evaluation: float | None = None  # in that step
    counted: list[str] = field(default_factory=list)  # the loss terms of that step
    warmup_seconds: float = 0.0
    validate_seconds: float = 0.0
    wall_seconds: float = 0.0  # of the processes before this one
    ended: str | None = None

    def add(self, terms: Mapping[str, float], seconds: float) -> None:
        """Account for one step; one of other loss terms than were counted has another, unknown number of FLOPs."""
        if sorted(terms) != self.counted:
            self.flops = self.flops_per_evaluation = None
        if self.steps % self.stride == 0:
            self.durations.append(seconds)
            if len(self.durations) > KEPT:
                self.durations = self.durations[::2]
                self.stride *= 2
        self.steps += 1
        self.seconds += seconds
        self.summed += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        forward = terms.get("nfe_forward")
        if forward is not None:
            self.counts_evaluations = True
            self.nfe_forward += forward
            self.nfe_forward_max = max(self.nfe_forward_max, forward)
            self.nfe_backward += terms.get("nfe_backward", 0.0)

    def means(self) -> dict[str, float | None]:
        """Means of the loss terms since the last validation, which is now."""
        found = {name: finite(value / self.summed) for name, value in self.sums.items()}
        self.sums, self.summed = {}, 0
        return found

    def _flops_per_step(self) -> float | None:
        """The mean over the run: an adaptive solver's evaluations a step grow as it learns."""
        if self.flops_per_evaluation is None or not self.counts_evaluations:
            return self.flops
        return self.flops_per_evaluation * (self.nfe_forward + self.nfe_backward) / max(self.steps, 1)

    def cost(self) -> dict[str, Any]:
        """The part of a record's `cost` that the loop knows."""
        steps = max(self.steps, 1)
        counted = self.counts_evaluations
        return {
            "fit_seconds": self.seconds,
            "steps": self.steps,
            "seconds_per_step": statistics.median(self.durations) if self.durations else None,
            "nfe_forward": self.nfe_forward / steps if counted else None,
            "nfe_backward": self.nfe_backward / steps if counted else None,
            "nfe_forward_max": self.nfe_forward_max if counted else None,
            "flops": self._flops_per_step(),
            "step_seconds": self.durations,
            "peak_bytes": self.peak_bytes or None,
            "warmup_seconds": self.warmup_seconds,
            "validate_seconds": self.validate_seconds,
        }

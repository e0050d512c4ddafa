"""Hydra's launcher `submitit_slurm`: every job a task of a Slurm array."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bench import cluster, launcher
from bench.process import GIGABYTE
from bench.record import BadInput
from hydra_plugins.isolated import IsolatedLauncher

SPARE_SECONDS = 120.0  # Slurm's limit lies so much above ours, which leaves a record
LEAST = 3  # minutes, of which SPARE_SECONDS leave something
SPARE_MEMORY = 0.9  # and our memory limit is so much of what Slurm grants


class SlurmLauncher(IsolatedLauncher):
    """Submits the jobs that have no record, `array_parallelism` of them at a time, and waits for their records.

    A cell that names no `threads` gets `cpus_per_task`. `mem_gb` null leaves the memory to Slurm, 0 asks for all of a
    node's: neither sets a limit of ours. `timeout_min` null stands for the longest limit of the jobs and two
    minutes. `parameters` go to sbatch in submitit's names: partition, account, qos, gpus_per_node, setup and so on.
    """

    def __init__(
        self,
        module: str = "bench.run",
        limit_seconds: float | None = None,
        cpus_per_task: int = 1,
        mem_gb: float | None = None,
        timeout_min: int | None = None,
        array_parallelism: int = 16,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(module, limit_seconds)
        self.cpus_per_task = cpus_per_task
        self.mem_gb = mem_gb
        self.timeout_min = timeout_min
        self.array_parallelism = array_parallelism
        self.parameters = parameters or {}

    @property
    def at_once(self) -> int:
        return self.array_parallelism

    def jobs(self, job_overrides: Sequence[Sequence[str]]) -> list[launcher.Job]:
        self._check()
        return super().jobs(job_overrides)

    def _check(self) -> None:
        """Raise BadInput for what Slurm could not be asked for."""
        timeout, memory = self.timeout_min, self.mem_gb
        for name, met, what in (
            ("cpus_per_task", _is_number(self.cpus_per_task, int, 1), "a whole number of 1 or more"),
            ("array_parallelism", _is_number(self.array_parallelism, int, 1), "a whole number of 1 or more"),
            (
                "timeout_min",
                timeout is None or _is_number(timeout, int, LEAST),
                f"null or whole minutes, {LEAST} or more",
            ),
            ("mem_gb", memory is None or _is_number(memory, int | float, 0), "null or a number, 0 for all of a node's"),
            ("parameters", isinstance(self.parameters, Mapping), "names and values, as {partition: long}"),
        ):
            if not met:
                raise BadInput(f"hydra.launcher.{name} must be {what}, not {getattr(self, name)!r}")

    def sweep(self, jobs: Sequence[launcher.Job]) -> list[str]:
        given = OmegaConf.to_container(OmegaConf.create(dict(self.parameters)), resolve=True)
        assert isinstance(given, dict)
        own: dict[str, Any] = {"job_name": "cnf-ot-bench", "cpus_per_task": self.cpus_per_task}
        if self.mem_gb is not None:
            own["mem"] = f"{math.ceil(1024 * self.mem_gb)}M"
        longest = max((job.limits.seconds or 0.0 for job in jobs), default=0.0)
        minutes = self.timeout_min or math.ceil((longest + SPARE_SECONDS) / 60)
        request = cluster.Request(minutes, self.array_parallelism, {**own, **{str(k): v for k, v in given.items()}})
        return cluster.sweep(jobs, self.module, request)

    def _threads(self) -> int | None:
        return self.cpus_per_task

    def _limit(self, cfg: DictConfig) -> float:
        ours = super()._limit(cfg)
        return ours if self.timeout_min is None else min(ours, 60.0 * self.timeout_min - SPARE_SECONDS)

    def _memory(self) -> float | None:
        return SPARE_MEMORY * self.mem_gb * GIGABYTE if self.mem_gb else None


def _is_number(value: Any, kind: Any, least: int) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and least <= value < math.inf

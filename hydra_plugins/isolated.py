"""Hydra's launcher `isolated`: every job in a fresh process."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from bench import forecast, launcher, process, record
from bench.board import say
from bench.process import GIGABYTE, Limits
from bench.record import BadInput

WITHOUT_BUDGET_SECONDS = 86_400.0
MEMORY_SHARE = 0.9  # of the machine's memory, where no limit is set: the system's own choice may be the launcher


class IsolatedLauncher(Launcher):
    """Runs `python -m <module>` for each job, `slots` at a time, and kills it beyond its limits.

    `limit_seconds` null stands for 3 * budget.seconds + 300 + 8 * evaluate.seconds, which leaves time to validate
    and to judge, or for 24 hours without such a budget. `memory_gb` null stands for nine tenths of the machine's memory
    over `slots`. With several slots each has processors of its own, and a cell that names no `threads` gets as many.
    `module` has a function `identify(cfg)` that gives the config of a cell's record, and `folders(cfg, key)`; as a
    command it calls process.excuse where it ends without a record by design. Raises SystemExit with status 1 where a
    job is neither ok nor unfit, once all have run.
    """

    def __init__(
        self,
        module: str = "bench.run",
        limit_seconds: float | None = None,
        memory_gb: float | None = None,
        slots: int = 1,
    ) -> None:
        self.module = module
        self.limit_seconds = limit_seconds
        self.memory_gb = memory_gb
        self.slots = slots

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        jobs = self.jobs(job_overrides)  # all are checked before one runs
        if job_overrides and self._composed(job_overrides[0]).plan:
            for line in forecast.of_jobs(jobs, self.at_once):
                say(line)
            return []
        try:
            statuses = self.sweep(jobs)
        except launcher.Stopped:
            say("stopped: the same command goes on from here")
            sys.exit(130)
        return finish(statuses)

    @property
    def at_once(self) -> int:
        """How many jobs run at the same time."""
        return self.slots

    def sweep(self, jobs: Sequence[launcher.Job]) -> list[str]:
        """Run the jobs; the status of each. Raises launcher.Stopped."""
        return launcher.sweep(jobs, self.module, self.slots)

    def jobs(self, job_overrides: Sequence[Sequence[str]]) -> list[launcher.Job]:
        """The cells of the sweep. Raises BadInput."""
        threads = self._threads()
        return [self._job(list(overrides), threads) for overrides in job_overrides]

    def _job(self, overrides: list[str], threads: int | None) -> launcher.Job:
        cfg = self._composed(overrides)
        if threads is not None:
            if (cfg.threads or threads) > threads:
                raise BadInput(
                    f"threads={cfg.threads}: a job has {threads} processors here: take fewer threads or slots"
                )
            overrides = [*overrides, f"threads={cfg.threads or threads}"]
            cfg = self._composed(overrides)
        cell = import_module(self.module)
        config = cell.identify(cfg)
        runs, checkpoint = cell.folders(cfg, record.key(config))
        arguments = (*self._search_path(), "hydra.mode=RUN", *overrides)
        limits = Limits(self._limit(cfg), self._memory())
        return launcher.Job(config, arguments, runs, checkpoint, limits)

    def _composed(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(cfg):
            del cfg["hydra"]
        return cfg

    def _search_path(self) -> list[str]:
        """The --config-dir that this process was given, for its jobs."""
        sources = self.config.hydra.runtime.config_sources
        return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]

    def _threads(self) -> int | None:
        """As many as a job gets that names none; None: as many as this process may use."""
        cpus = launcher.cpu_sets(self.slots)[0]
        return None if cpus is None else len(cpus)

    def _limit(self, cfg: DictConfig) -> float:
        if self.limit_seconds is not None:
            return _positive("limit_seconds", self.limit_seconds)
        seconds = cfg.budget.seconds
        return WITHOUT_BUDGET_SECONDS if seconds is None else 3.0 * seconds + 300.0 + 8.0 * cfg.evaluate.seconds

    def _memory(self) -> float | None:
        if self.memory_gb is not None:
            return _positive("memory_gb", self.memory_gb) * GIGABYTE
        there = process.memory_allowed()
        return None if there is None else MEMORY_SHARE * there / self.slots


def finish(statuses: Sequence[str]) -> list[JobReturn]:
    """What a launcher returns; SystemExit with status 1 where a job is neither ok nor unfit."""
    bad = [status for status in statuses if status not in record.FINE]
    if bad:
        say(f"{len(bad)} of {len(statuses)} cells failed")
        sys.exit(1)
    return [JobReturn(status=JobStatus.COMPLETED, _return_value=status) for status in statuses]


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BadInput(f"hydra.launcher.{name} must be a number above 0, not {value!r}")
    return float(value)

"""Hydra's launcher `isolated`: every job in a fresh process."""

import sys
from collections.abc import Sequence
from importlib import import_module

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from bench import launcher, record


class IsolatedLauncher(Launcher):
    """Runs `python -m <module>` for each job, one at a time, and kills it after `limit_seconds`.

    `limit_seconds` null stands for 3 * budget.seconds + 300 + 8 * evaluate.seconds, which leaves time to validate
    and to judge, or for no limit without such a budget. `module` has a function `identify(cfg)` that gives the
    config of a cell's record, and `folders(cfg, key)`. Raises SystemExit with status 1 where a job is neither ok
    nor unfit, once all have run.
    """

    def __init__(self, module: str = "bench.run", limit_seconds: float | None = None) -> None:
        self.module = module
        self.limit_seconds = limit_seconds

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        jobs = [self._job(list(overrides)) for overrides in job_overrides]  # all are checked before one runs
        for folder in {job.runs for job in jobs}:
            record.sweep_stale(folder)
        try:
            statuses = launcher.sweep(jobs, self.module, _say)
        except launcher.Stopped:
            _say("stopped: the same command goes on from here")
            sys.exit(130)
        bad = [status for status in statuses if status not in launcher.FINE]
        if bad:
            _say(f"{len(bad)} of {len(jobs)} cells failed")
            sys.exit(1)
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=status) for status in statuses]

    def _job(self, overrides: list[str]) -> launcher.Job:
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(cfg):
            del cfg["hydra"]
        cell = import_module(self.module)
        config = cell.identify(cfg)
        runs, checkpoint = cell.folders(cfg, record.key(config))
        arguments = (*self._search_path(), "hydra.mode=RUN", *overrides)
        return launcher.Job(config, arguments, runs, checkpoint, self._limit(cfg))

    def _search_path(self) -> list[str]:
        """The --config-dir that this process was given, for its jobs."""
        sources = self.config.hydra.runtime.config_sources
        return [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]

    def _limit(self, cfg: DictConfig) -> float | None:
        if self.limit_seconds is not None:
            return self.limit_seconds
        seconds = cfg.budget.seconds
        return None if seconds is None else 3.0 * seconds + 300.0 + 8.0 * cfg.evaluate.seconds


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201

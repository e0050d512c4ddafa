"""Records such as a sweep would leave, for tests of what reads them. No training, no torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bench import record
from bench.record import Record

ENV = {"device": "cpu", "cpu": "Fake CPU 3000", "threads": 2, "launcher": "isolated", "slots": 1, "allocator": {},
       "versions": {"torch": "2.13.0"}, "commit": "0123456789abcdef", "dirty": False, "noise": None}  # fmt: skip

SOLVERS = {
    "otflow": dict(_target_="solvers.otflow.OTFlow", version=1, width=32, alpha_nll=30.0),
    "ffjord": dict(_target_="solvers.ffjord.FFJORD", version=1, hidden=[64, 64, 64]),
    "moments": dict(_target_="solvers.moments.Moments", version=1),
}
STEP = {"otflow": 0.012, "ffjord": 0.09, "moments": 0.002}
PARAMETERS = {"otflow": 1229, "ffjord": 9224, "moments": 5}
DECAY = {"otflow": 300, "ffjord": 50}
ENTROPY = {"8gaussians": 2.8319, "moons": 2.40, "breast_cancer": 9.4, "digits": -61.0}
MODES = np.array([[np.cos(a), np.sin(a)] for a in np.arange(8) * np.pi / 4]) * 2.8


def make(
    solver: str = "otflow",
    dataset: str = "8gaussians",
    seed: int = 0,
    *,
    status: str = "ok",
    reason: str | None = None,
    config: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    env: dict[str, Any] | None = None,
    cost: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    trace: list[dict[str, Any]] | None = None,
    failed: Iterable[str] = (),
    floor: float | None = None,
    pace: float = 1.0,
) -> Record:
    """One record. `floor` is the NLL its curve falls to, `pace` multiplies its seconds."""
    rng = np.random.default_rng([seed, sum(map(ord, solver + dataset))])
    full = {
        "solver": {**SOLVERS.get(solver, {"_target_": f"solvers.{solver}.X", "version": 1}), **(settings or {})},
        "dataset": {"_target_": f"fake.{dataset}", "version": 1},
        "budget": {"seconds": 60.0, "steps": None, "evaluations": None, "target": None},
        "validation": {"rows": 1000, "spacing": 0.05},
        "seed": seed,
        "dtype": "float32",
        "device": "cpu",
        "threads": 2,
        **(config or {}),
    }
    truth = ENTROPY.get(dataset, 3.0)
    offset = {"otflow": 0.02, "ffjord": 0.04, "moments": 0.9}.get(solver, 0.1)
    floor = truth + offset + 0.004 * rng.random() if floor is None else floor
    ok = status == "ok"
    seconds = pace * STEP.get(solver, 0.05)
    made = _trace(solver, floor, seconds, rng) if trace is None else trace
    certificates = {name: {"value": 1e-4, "limit": 1e-2, "ok": True} for name in ("finite", "inverse", "nll_effort")}
    certificates |= {name: {"value": 1.0, "limit": 1e-2, "ok": False} for name in failed}
    return {
        "schema": record.SCHEMA,
        "key": record.key(full),
        "config": full,
        "status": status,
        "reason": reason,
        "metrics": {**_metrics(floor, truth, solver, rng), **(metrics or {})} if ok else {},
        "certificates": certificates if ok else {},
        "cost": {**_cost(solver, seconds, made, rng), **(cost or {})} if ok else {"fit_seconds": 3.0, "steps": 40},
        "trace": made if ok else made[:5],
        "env": {**ENV, **(env or {})},
        "started": "2026-01-01T00:00:00+00:00",
    }


def _trace(solver: str, floor: float, seconds: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    if solver == "moments":
        return [{"step": 1, "seconds": seconds, "loss": floor, "valid_nll": floor}]
    steps = np.unique(np.geomspace(1, 60 / seconds * 0.99, 120).astype(int))
    nll = floor + 3.0 * (1 + steps * seconds / 60 * DECAY.get(solver, 30)) ** -1.6 + 0.003 * rng.random(len(steps))
    return [
        {"step": int(s), "seconds": float(s * seconds), "loss": float(v), "valid_nll": float(v)}
        for s, v in zip(steps, nll, strict=True)
    ]


def _metrics(floor: float, truth: float, solver: str, rng: np.random.Generator) -> dict[str, float | None]:
    toy = truth < 9 and truth > 0
    return {
        "nll": floor + 0.005 * rng.random(),
        "nll_stderr": 0.005,
        "nll_gap": floor - truth if toy else None,
        "nll_gap_stderr": 0.001 if toy else None,
        "mmd": 2e-4 + 1e-4 * rng.random(),
        "mmd_otflow": 2e-4,
        "sliced_wasserstein": 0.03,
        "energy_distance": 0.002,
        "inverse_error_mean": 1e-7 if solver == "moments" else 3e-4,
        "inverse_error_max": 1e-6 if solver == "moments" else 3e-3,
        "transport_cost": 5.1,
    }


def _cost(solver: str, seconds: float, trace: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    noise = 1 + 0.05 * rng.random()
    return {
        "fit_seconds": trace[-1]["seconds"] if trace else 1.0,
        "steps": trace[-1]["step"] if trace else 0,
        "seconds_per_step": seconds * noise,
        "parameters": PARAMETERS.get(solver, 5000),
        "nfe_forward": None if solver == "moments" else 32.0,
        "nfe_backward": {"otflow": 0.0, "moments": None}.get(solver, 41.0),
        "nfe_forward_max": None if solver == "moments" else 38,
        "flops": 4_000_000_000 if solver == "ffjord" else 900_000_000,
        "evaluate_seconds": seconds * 12 * noise,
        "evaluate_rows": 10_000,
        "sample_seconds": seconds * 3 * noise,
        "evaluate_repeats": [seconds * 12],
        "sample_repeats": [seconds * 3],
        "step_seconds": [seconds],
        "peak_bytes": 300_000_000,
        "warmup_seconds": 0.2,
        "validate_seconds": 3.0,
        "wall_seconds": 70.0,
    }


def sweep(seeds: int = 3, datasets: Iterable[str] = ENTROPY) -> list[Record]:
    """Every solver on every dataset."""
    return [make(solver, dataset, seed) for solver in SOLVERS for dataset in datasets for seed in range(seeds)]


def store(folder: Path, records: Iterable[Record], pictures: bool = False) -> Path:
    """Write the records, and beside those of toys their pictures."""
    for one in records:
        assert record.write(folder, one)
        if pictures and one["status"] == "ok" and one["metrics"]["nll_gap"] is not None:
            picture(folder / f"{one['key']}.npz", 1.2 if "Moments" in one["config"]["solver"]["_target_"] else 0.35)
    return folder


def picture(path: Path, width: float) -> None:
    """Eight Gaussians, and a model of them whose modes have standard deviation `width`."""
    rng = np.random.default_rng(0)
    box = np.array([[-4.5, -4.5], [4.5, 4.5]])
    axis = -4.5 + 9 * (np.arange(160) + 0.5) / 160
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    test = MODES[rng.integers(8, size=2000)] + 0.3 * rng.standard_normal((2000, 2))
    normal = rng.standard_normal((64, 2))
    times = np.linspace(0, 1, 17)[:, None, None]
    np.savez_compressed(
        path,
        box=box.astype(np.float32),
        model=_mixture(grid, width).astype(np.float16),
        truth=_mixture(grid, 0.3).astype(np.float16),
        test=test.astype(np.float32),
        generated=(MODES[rng.integers(8, size=2000)] + width * rng.standard_normal((2000, 2))).astype(np.float32),
        paths=((1 - times) * test[:64] + times * normal).astype(np.float16),
    )


def _mixture(grid: np.ndarray, width: float) -> np.ndarray:
    squares = ((grid[..., None, :] - MODES) ** 2).sum(-1)
    return np.exp(-squares / (2 * width**2)).mean(-1) / (2 * np.pi * width**2)

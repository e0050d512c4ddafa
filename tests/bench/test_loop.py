import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from bench import checkpoint, loop
from bench.loop import Budget, Interrupted, Outcome, Validation, run, validation_points
from datasets.base import Problem, Samples
from tests.stubs import Decay, DecayFit, Normal, Shifted

ROOT = Path(__file__).parents[2]
PROBLEM = Shifted().load(Path())
FEW = Validation(rows=100)


def solve(solver: Any, path: Path | None = None, problem: Problem = PROBLEM, **budget: Any) -> Outcome:
    return run(solver, problem, Generator().manual_seed(3), Budget(**budget), FEW, path)


def mean_of(outcome: Outcome) -> Tensor:
    assert isinstance(outcome.fit, DecayFit)
    return outcome.fit.mean


def without_times(outcome: Outcome) -> Any:
    """All of an outcome that does not depend on the clock."""
    trace = [{k: v for k, v in entry.items() if k != "seconds"} for entry in outcome.tally.trace]
    cost = {k: v for k, v in outcome.tally.cost().items() if "second" not in k and k != "peak_bytes"}
    return outcome.status, outcome.reason, trace, cost, outcome.tally.best


# -- how a run ends


@pytest.mark.parametrize(
    ("budget", "reason", "steps"),
    [
        ({"steps": 20}, "budget.steps", 20),
        ({"evaluations": 33}, "budget.evaluations", 10),  # 2 + 2 and 2 + 1 in turn
        ({"target": 50.0}, "target", 2),  # both of the first two validations
    ],
)
def test_budgets(budget: dict[str, Any], reason: str, steps: int) -> None:
    outcome = solve(Decay(), **budget)
    assert (outcome.status, outcome.reason, outcome.tally.steps) == ("ok", reason, steps)
    assert outcome.tally.trace[-1]["step"] == steps, "validated at the end"


def test_the_budget_of_seconds_counts_steps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DecayFit, "validated", lambda self, loss: time.sleep(0.03))
    begin = time.monotonic()
    outcome = solve(Decay(seconds=0.01), seconds=0.1)
    assert outcome.reason == "budget.seconds"
    assert outcome.tally.seconds >= 0.1
    assert 1 <= outcome.tally.steps <= 10
    before = outcome.tally.trace[-2]["seconds"] if outcome.tally.steps > 1 else 0.0
    assert before is not None
    assert before < 0.1, "no step is begun beyond it"
    assert time.monotonic() - begin > 0.1 + 0.03 * (outcome.tally.steps - 2), "validation is off the clock"
    assert outcome.tally.validate_seconds > 0.03 * (outcome.tally.steps - 2)


def test_the_solvers_own_schedule() -> None:
    outcome = solve(Decay(max_steps=7), steps=1000)
    assert (outcome.status, outcome.reason, outcome.tally.steps) == ("ok", "schedule", 7)


def test_a_direct_solve_is_validated_after_its_step() -> None:
    outcome = solve(Decay(max_steps=1))
    assert outcome.tally.steps == 1
    assert [entry["step"] for entry in outcome.tally.trace] == [1]
    assert outcome.tally.flops is not None


def test_a_long_direct_solve_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "KEPT_SECONDS", 0.03)
    starts: list[int] = []
    begin = Decay.start
    monkeypatch.setattr(Decay, "start", lambda self, *a: starts.append(1) or begin(self, *a))
    outcome = solve(Decay(max_steps=1, seconds=0.05))
    assert len(starts) == 1
    assert outcome.tally.steps == 1
    assert outcome.tally.seconds >= 0.05
    assert outcome.tally.warmup_seconds == 0
    starts.clear()
    assert torch.equal(mean_of(outcome), mean_of(solve(Decay(max_steps=1))))
    assert len(starts) == 3, "one for the first calls, one for the FLOPs, one for the clock"


@pytest.mark.parametrize(
    ("mode", "status", "words"),
    [
        ("nan", "diverged", "the loss is nan at step 3"),
        ("diverge", "diverged", "the step size fell below 1e-12"),
        ("invalid", "diverged", "3 validations in a row were not finite, the last at step 5"),
        ("memory", "oom", "MemoryError: 9 GB asked for"),
        ("allocator", "oom", "not enough memory"),
        ("crash", "crash", "KeyError: 'weights'"),
        ("leave", "crash", "SystemExit: 2"),
        ("missing", "not_installed", "No module named 'nowhere'"),
        ("ours", "crash", "cannot import name"),
    ],
)
def test_failures(mode: str, status: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = solve(Decay(mode=mode), steps=20)
    assert outcome.status == status
    assert words in outcome.reason
    assert "\n" not in outcome.reason
    assert outcome.fit is None
    assert [entry["step"] for entry in outcome.tally.trace][:2] == [1, 2], "what was found before stays"
    assert ("Traceback" in capfd.readouterr().err) == (status == "crash")


def test_a_failure_in_the_first_step() -> None:
    assert solve(Decay(mode="memory", at=1), steps=5).status == "oom"


def test_no_finite_validation_within_the_budget() -> None:
    outcome = solve(Decay(mode="invalid", at=1), steps=2)
    assert outcome.status == "budget"
    assert outcome.fit is None
    assert [entry["valid_nll"] for entry in outcome.tally.trace] == [None, None]


def test_the_flops_of_a_step_follow_its_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field whose evaluations grow from 2 in the first step to 2n in the n-th, at 8 FLOPs each."""
    square = torch.ones(1, 2), torch.ones(2, 2)

    def step(self: DecayFit) -> dict[str, float]:
        self.steps += 1
        for _ in range(2 * self.steps):
            torch.mm(*square)
        return {"loss": 1.0, "nfe_forward": 1.0 * self.steps, "nfe_backward": 1.0 * self.steps}

    monkeypatch.setattr(DecayFit, "step", step)
    cost = solve(Decay(), steps=9).tally.cost()
    assert cost["nfe_forward"] + cost["nfe_backward"] == 10
    assert cost["flops"] == 10 * 8
    monkeypatch.setattr(DecayFit, "step", lambda self: {"loss": float(torch.mm(*square).sum())})
    assert solve(Decay(), steps=9).tally.cost()["flops"] == 8, "no evaluations are counted: those of one step"


def test_the_flops_of_steps_of_another_kind_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: DecayFit) -> dict[str, float]:
        self.steps += 1
        torch.mm(torch.ones(1, 2), torch.ones(2, 2))
        return {"loss": 1.0, "misfit" if self.steps < 5 else "nll": 1.0}

    monkeypatch.setattr(DecayFit, "step", step)
    assert solve(Decay(), steps=4).tally.cost()["flops"] == 8
    assert solve(Decay(), steps=5).tally.cost()["flops"] is None


def test_a_solver_without_a_density_ends_with_its_last_state() -> None:
    outcome = solve(Decay(mode="implicit"), steps=9)
    assert outcome.status == "ok"
    assert torch.equal(mean_of(outcome), mean_of(solve(Decay(rate=0.1, mode="ok"), steps=9)))
    assert all(entry["valid_nll"] is None for entry in outcome.tally.trace)


# -- validation


def test_validations_lie_at_most_spacing_apart() -> None:
    validation, step, steps = Validation(spacing=0.05), 0, []
    while step < 100_000:
        step = validation.after(step)
        steps.append(step)
    assert steps[:25] == list(range(1, 26))
    assert all(b - a <= max(1, 0.05 * a) for a, b in pairwise(steps))
    assert len(steps) < 300


def test_validations_lie_at_most_every_steps_apart() -> None:
    validation = Validation(spacing=1.0, every=10)
    steps = [0]
    while steps[-1] < 60:
        steps.append(validation.after(steps[-1]))
    assert steps == [0, 1, 2, 3, 5, 9, 16, 26, 36, 46, 56, 66]


def test_the_loop_validates_where_the_schedule_says() -> None:
    found = [entry["step"] for entry in solve(Decay(), steps=61).tally.trace]
    assert found == [*range(1, 51), 52, 54, 56, 58, 60, 61]


def test_the_fit_hears_of_each_validation() -> None:
    outcome = solve(Decay(), steps=12)
    assert isinstance(outcome.fit, DecayFit)
    assert outcome.fit.told == [entry["valid_nll"] for entry in outcome.tally.trace]


def test_the_validation_loss_is_the_nll_of_the_validation_points() -> None:
    outcome = solve(Decay(), steps=5)
    points = PROBLEM.source.sample(100, Generator().manual_seed(loop.VALIDATION_SEED))
    best = -float(Normal().log_prob(points - mean_of(outcome)).mean())
    assert outcome.tally.best == pytest.approx(best, rel=1e-12)


def test_the_best_validated_state_is_the_result() -> None:
    outcome = solve(Decay(rate=1.9), steps=40)  # unstable: the mean swings ever further
    losses = [entry["valid_nll"] for entry in outcome.tally.trace]
    best = min(loss for loss in losses if loss is not None)
    assert losses[-1] != best
    assert isinstance(outcome.fit, DecayFit)
    points = validation_points(PROBLEM.source, 100, torch.device("cpu"))
    assert -float(outcome.fit.transport().log_prob(points).mean()) == pytest.approx(best, rel=1e-12)


def test_an_objective_of_the_solvers_own_picks_the_best_state() -> None:
    outcome = solve(Decay(mode="objective"), steps=40)
    objectives = [entry["valid_objective"] for entry in outcome.tally.trace]
    likelihoods = [entry["valid_nll"] for entry in outcome.tally.trace]
    assert outcome.tally.best == min(objectives)
    assert objectives.index(min(objectives)) < likelihoods.index(min(likelihoods))
    assert mean_of(outcome).mean().item() == pytest.approx(0.5, abs=0.1)
    assert isinstance(outcome.fit, DecayFit)
    assert outcome.fit.told == objectives


def test_the_target_is_an_nll_whatever_the_objective() -> None:
    outcome = solve(Decay(mode="objective"), steps=100, target=3.0)
    assert outcome.reason == "target"
    assert [entry["valid_nll"] <= 3.0 for entry in outcome.tally.trace[-3:]] == [False, True, True]


def test_stored_validation_rows_are_drawn_from_all() -> None:
    source = Samples(torch.zeros(9, 2), torch.arange(200.0).view(100, 2))
    cpu = torch.device("cpu")
    assert torch.equal(validation_points(source, 100, cpu), source.valid)
    few = validation_points(source, 40, cpu)
    assert torch.equal(few, validation_points(source, 40, cpu)), "the same in every run"
    rows = {tuple(row) for row in few.tolist()}
    assert len(rows) == 40, "without replacement"
    assert rows < {tuple(row) for row in source.valid.tolist()}
    assert float(few.max()) > 150, "not the first ones"


def test_the_target_takes_two_validations_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 1.0, 3.0, 1.0, 1.0, 0.0])
    monkeypatch.setattr(loop, "validation_loss", lambda transport, points: next(losses))
    outcome = solve(Decay(), steps=100, target=1.0)
    assert (outcome.reason, outcome.tally.steps) == ("target", 5)


def test_the_one_validation_of_a_direct_solve_may_reach_the_target() -> None:
    assert solve(Decay(max_steps=1), target=50.0).reason == "target"
    assert solve(Decay(max_steps=1), target=-50.0).reason == "schedule"


def test_trace_holds_the_terms_of_the_loss() -> None:
    entry = solve(Decay(), steps=3).tally.trace[-1]
    assert set(entry) == {"step", "seconds", "loss", "nfe_forward", "nfe_backward", "valid_nll"}


def test_the_rng_of_the_caller_is_not_moved_and_decides_the_result() -> None:
    rng = Generator().manual_seed(5)
    first = run(Decay(), PROBLEM, rng, Budget(steps=5), FEW)
    second = run(Decay(), PROBLEM, rng, Budget(steps=5), FEW)
    other = run(Decay(), PROBLEM, Generator().manual_seed(6), Budget(steps=5), FEW)
    assert torch.equal(mean_of(first), mean_of(second))
    assert not torch.equal(mean_of(first), mean_of(other))


@pytest.mark.parametrize(
    "bad",
    [{"seconds": 0}, {"steps": -1}, {"steps": 1.5}, {"evaluations": 0}, {"target": float("nan")}, {"seconds": "60"}],
)
def test_a_budget_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"budget\.{next(iter(bad))}"):
        Budget(**bad)


def test_equal_budgets_are_written_alike() -> None:
    assert repr(Budget(60, 5.0, 7.0, 1)) == repr(Budget(60.0, 5, 7, 1.0))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [{"rows": 0}, {"spacing": 0}, {"spacing": 1.1}, {"spacing": "x"}, {"every": 0}, {"every": 1.5}, {"every": True}],
)
def test_a_validation_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"validation\.{next(iter(bad))}"):
        Validation(**bad)


# -- interruption and resumption


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints" / "0123.pt"


@pytest.mark.parametrize("mode", ["interrupt", "terminate"])
def test_an_interrupted_run_resumes_to_the_same_numbers(mode: str, path: Path, tmp_path: Path) -> None:
    solver = Decay(mode=mode, at=33, marker=str(tmp_path / "marker"))
    with pytest.raises(Interrupted):
        solve(solver, path, steps=80)
    assert path.exists()
    state = checkpoint.load(path, torch.device("cpu"))
    assert state is not None
    assert state["tally"]["steps"] == 33, "the step was finished first"
    broken = solve(solver, path, steps=80)
    whole = solve(Decay(mode="ok", at=33), steps=80)
    assert without_times(broken) == without_times(whole)
    assert torch.equal(mean_of(broken), mean_of(whole))
    assert broken.tally.seconds > state["tally"]["seconds"], "the clock carries over"


def test_an_interrupted_direct_solve_is_not_repeated(path: Path, tmp_path: Path) -> None:
    solver = Decay(mode="interrupt", at=1, marker=str(tmp_path / "marker"), max_steps=1)
    with pytest.raises(Interrupted):
        solve(solver, path)
    assert solve(solver, path).tally.steps == 1


def test_kill_minus_nine(path: Path, tmp_path: Path) -> None:
    script = f"""
import torch
torch.set_default_dtype(torch.float64)
from pathlib import Path
from bench import loop
from tests.bench.test_loop import solve
from tests.stubs import Decay
loop.CHECKPOINT_SECONDS = 0.0
solve(Decay(mode="kill", at=57, marker={str(tmp_path / "marker")!r}), Path({str(path)!r}), steps=80)
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=120, check=False)
    assert process.returncode == -9
    state = checkpoint.load(path, torch.device("cpu"))
    assert state is not None
    assert 50 <= state["tally"]["steps"] < 57
    broken, whole = (
        solve(Decay(mode="kill", at=57, marker=str(tmp_path / "marker")), path, steps=80),
        solve(Decay(), steps=80),
    )
    assert without_times(broken) == without_times(whole)
    assert torch.equal(mean_of(broken), mean_of(whole))


def test_a_finished_run_is_not_solved_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = solve(Decay(), path, steps=20)
    monkeypatch.setattr(DecayFit, "step", lambda self: pytest.fail("a step was taken"))
    second = solve(Decay(), path, steps=20)
    assert without_times(first) == without_times(second)
    assert torch.equal(mean_of(first), mean_of(second))


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def foreign(path: Path) -> None:
    torch.save({"schema": checkpoint.SCHEMA, "weights": [1, 2]}, path)


def newer(path: Path) -> None:
    torch.save({"schema": checkpoint.SCHEMA + 1}, path)


def malicious(path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {path.parent}/evil",)

    path.write_bytes(pickle.dumps(Evil()))


@pytest.mark.parametrize("harm", [damaged, foreign, newer, malicious, lambda path: path.write_bytes(b"")])
def test_a_checkpoint_that_is_none(harm: Any, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solve(Decay(), path, steps=20)
    capfd.readouterr()
    harm(path)
    outcome = solve(Decay(), path, steps=20)
    warning = capfd.readouterr().err
    assert warning.count("\n") == 1
    assert "starting afresh" in warning
    assert without_times(outcome) == without_times(solve(Decay(), steps=20))
    assert not (path.parent / "evil").exists()


def test_a_full_disk_does_not_end_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = solve(Decay(), path, steps=5)
    assert outcome.status == "ok"
    assert "warning: no checkpoint: No space left on device" in capfd.readouterr().err
    assert list(path.parent.iterdir()) == [], "no half file"


# -- overhead


def test_overhead_beside_the_steps_is_small() -> None:
    """Under 1 % of steps of 20 ms: 0.2 ms a step, validations apart. Asserted with room for a busy machine."""

    def beside(steps: int) -> float:
        begin = time.perf_counter()
        tally = solve(Decay(), steps=steps).tally
        return time.perf_counter() - begin - tally.warmup_seconds - tally.seconds - tally.validate_seconds

    solve(Decay(), steps=1)
    assert min((beside(2001) - beside(1)) / 2000 for _ in range(3)) < 1e-3

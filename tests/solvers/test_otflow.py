"""OT-Flow against closed forms, and what its fit promises."""

import copy
from pathlib import Path

import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import standard_normal
from solvers.otflow import OTFlow, advect, integrate
from solvers.potential import Potential
from solvers.train import Batches, Schedule, Training, seeded


def quadratic_potential(S: torch.Tensor) -> Potential:
    """Phi = 1/2 x . S x: with velocity -S x, the flow is exp(-S t) and the log-determinant -t tr S."""
    dim = len(S)
    potential = Potential(dim, 3, quadratic="symmetric")
    with torch.no_grad():
        potential.w.weight.zero_()
        potential.A[:dim, :dim] = S
    return potential


def test_integrate_on_a_quadratic_potential():
    S = torch.tensor([[0.8, 0.3], [0.3, -0.4]])
    x = torch.tensor([[1.0, 0.5], [-0.3, 2.0]])
    z, logdet, cost, hjb = integrate(quadratic_potential(S), x, 64)
    eigenvalues, Q = torch.linalg.eigh(S)
    rotated = (x @ Q).square()
    # int_0^1 1/2 |S exp(-S t) x|^2 dt, eigenvalue by eigenvalue; Phi_t = 0, so the HJB residual is the same
    energy = (rotated * eigenvalues * (1 - torch.exp(-2 * eigenvalues)) / 4).sum(1)
    assert torch.allclose(z, x @ torch.linalg.matrix_exp(-S).T, atol=1e-9)
    assert torch.allclose(logdet, -torch.trace(S).expand(2))
    assert torch.allclose(cost, energy, atol=1e-9)
    assert torch.allclose(hjb, energy, atol=1e-9)


def test_hjb_residual_counts_the_time_derivative():
    potential = quadratic_potential(torch.zeros(2, 2))
    with torch.no_grad():
        potential.c.weight[0, -1] = 0.7
    _, _, cost, hjb = integrate(potential, torch.randn(3, 2), 2)
    assert torch.allclose(cost, torch.zeros(3))
    assert torch.allclose(hjb, torch.full((3,), 0.7))


def trained(steps: int = 3, seed: int = 0, **settings):
    rows = torch.randn(64, 2, generator=torch.Generator().manual_seed(5)) * torch.tensor([2.0, 0.5]) + 1
    solver = OTFlow(width=6, n_steps=4, batch_size=16, lr=0.05, **settings)
    fit = solver.start(Samples(rows, rows[:8]), standard_normal(2), torch.Generator().manual_seed(seed))
    for _ in range(steps):
        fit.step()
    return fit


def test_log_density_is_the_change_of_variables():
    transport = trained().transport(effort=4.0)
    x = torch.randn(5, 2)
    J = torch.stack([torch.autograd.functional.jacobian(lambda r: transport.forward(r[None])[0], row) for row in x])
    expected = standard_normal(2).log_prob(transport.forward(x)) + torch.linalg.slogdet(J).logabsdet
    assert torch.allclose(transport.log_prob(x), expected, atol=1e-6)
    assert torch.allclose(transport.inverse(transport.forward(x)), x, atol=1e-6)
    assert torch.allclose(transport.path(x, 1.0), transport.forward(x))
    assert torch.equal(transport.path(x, 0.0), x)


def test_effort_doubles_the_steps():
    fit = trained(n_steps_test=3)
    x = torch.randn(4, 2)
    assert torch.equal(fit.transport(effort=2.0).forward(x), advect(fit.potential, x, 6))
    assert torch.equal(fit.transport("valid").forward(x), advect(fit.potential, x, fit.solver.n_steps_valid))


def test_loss_is_the_weighted_sum_of_its_terms():
    fit = trained(alpha_nll=7.0, alpha_hjb=3.0)
    terms = fit.step()
    assert terms["loss"] == pytest.approx(7 * terms["nll"] + terms["transport"] + 3 * terms["hjb"])
    assert terms["nfe_forward"] == 16


def test_training_lowers_the_loss():
    fit = trained(0)
    first, *_, last = [fit.step()["nll"] for _ in range(60)]
    assert last < first - 0.5


def test_resumes_along_the_same_trajectory(tmp_path: Path):
    fit = trained(5)
    torch.save(fit.state_dict(), tmp_path / "state.pt")
    expected = [fit.step() for _ in range(5)]
    other = trained(0, seed=9)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [other.step() for _ in range(5)] == expected


def test_same_seed_same_numbers_whatever_the_global_generator():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = trained().state_dict()["model"]
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    second = trained().state_dict()["model"]
    other = trained(seed=1).state_dict()["model"]
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_batches_cover_an_epoch_without_replacement():
    rows = torch.arange(10.0)[:, None]
    batches = Batches(Samples(rows, rows), 3, torch.Generator().manual_seed(0))
    epoch = torch.cat([batches.next() for _ in range(3)]).flatten()
    assert len(epoch.unique()) == 9
    assert not torch.equal(epoch, torch.cat([batches.next() for _ in range(3)]).flatten())


def test_a_batch_larger_than_the_training_set_is_unfit():
    rows = torch.randn(10, 2)
    reason = OTFlow(batch_size=11).unfit(Samples(rows, rows), standard_normal(2))
    assert "batch_size 11 exceeds the 10 training rows" in reason
    assert OTFlow(batch_size=10).unfit(Samples(rows, rows), standard_normal(2)) is None
    assert OTFlow().unfit(Samples(rows, rows), standard_normal(2)) is None
    assert "dimension 2 and the target 3" in OTFlow().unfit(Samples(rows, rows), standard_normal(3))
    assert "log-density" in OTFlow().unfit(Samples(rows, rows), Samples(rows, rows))


def small_training(**schedule) -> Training:
    with seeded(torch.Generator().manual_seed(0)):
        model = torch.nn.Linear(2, 1)
    rows = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    batches = Batches(Samples(rows, rows), 4, torch.Generator().manual_seed(0))
    return Training(model, batches, Schedule(lr=1.0, **schedule), max_steps=None)


def rate(training: Training) -> float:
    return training.optimizer.param_groups[0]["lr"]


def run(training: Training, steps: int) -> None:
    for _ in range(steps):
        training.step(lambda x: (training.model(x).square().mean(), {}))


def test_learning_rate_drops_every_so_many_steps():
    training = small_training(drop_factor=2.0, drop_every=3)
    run(training, 7)
    assert rate(training) == 0.25


def test_learning_rate_drops_without_improvement_and_training_stops_in_the_end():
    training = small_training(drop_factor=10.0, patience=4, max_drops=1)
    training.validated(1.0)
    run(training, 3)
    training.validated(2.0)
    assert rate(training) == 1.0
    run(training, 1)
    training.validated(2.0)
    assert rate(training) == pytest.approx(0.1)
    state = copy.deepcopy(training.state_dict())
    run(training, 3)
    training.validated(2.0)
    assert not training.done
    run(training, 1)
    training.validated(2.0)
    assert training.done
    training.load_state_dict(state)
    assert not training.done
    assert rate(training) == pytest.approx(0.1)


def plateau(training: Training, steps: int) -> None:
    run(training, steps)
    training.validated(9.0)


def test_ffjords_wait_is_counted_from_the_last_improvement():
    training = small_training(drop_factor=10.0, patience=4, max_drops=2, cumulative=True)
    training.validated(1.0)
    rates = []
    for _ in range(3):
        plateau(training, 4)
        rates.append(rate(training))
    assert rates == pytest.approx([0.1, 0.01, 0.01])  # after 4, 8 and 12 steps
    assert training.done
    again = small_training(drop_factor=10.0, patience=4, max_drops=2, cumulative=True)
    again.validated(1.0)
    plateau(again, 4)
    again.validated(0.5)  # an improvement: the second drop takes 8 steps from here
    plateau(again, 7)
    assert rate(again) == pytest.approx(0.1)
    plateau(again, 1)
    assert rate(again) == pytest.approx(0.01)


def test_scheduled_drops_do_not_use_up_those_for_want_of_improvement():
    training = small_training(drop_factor=2.0, drop_every=1, patience=3, max_drops=1)
    training.validated(1.0)
    plateau(training, 3)
    assert not training.done
    assert rate(training) == 2.0**-4
    plateau(training, 3)
    assert training.done


@pytest.mark.parametrize("wrong", [{"drop_every": 0}, {"patience": 0}, {"max_drops": -1}, {"drop_factor": 0.0}])
def test_values_that_make_no_schedule_are_refused(wrong):
    with pytest.raises(ValueError, match="lr_"):
        Schedule(lr=1.0, **wrong)


def test_the_clamp_bounds_every_weight_at_the_start_of_a_step():
    fit, free = trained(0, clamp=0.5), trained(0)
    for other in (fit, free):
        other.step()
    moved = max(p.abs().max().item() for p in fit.potential.parameters())
    assert moved <= 0.5 + 2 * fit.solver.lr  # ADAM's first step is of length lr
    assert max(p.abs().max().item() for p in free.potential.parameters()) > 0.9  # w begins at 1


def test_points_of_another_dtype_are_taken():
    x = torch.randn(3, 2)
    transport = trained().transport()
    assert transport.log_prob(x.float()).dtype == torch.float32
    assert torch.allclose(transport.log_prob(x.float()).double(), transport.log_prob(x), atol=1e-4)


def test_a_loss_that_is_not_finite_diverges():
    from solvers.base import Diverged

    training = small_training()
    with pytest.raises(Diverged, match="nan"):
        training.step(lambda x: (training.model(x).mean() * float("nan"), {}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0), ("depth", 1), ("n_steps_test", 0), ("lr", 0.0), ("alpha_hjb", -1.0), ("trace_dtype", "float16")],
)
def test_settings_that_make_no_flow_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        OTFlow(**{field: value})


def test_a_trace_in_bfloat16_trains_alike_but_for_rounding():
    rough, exact = trained(20, trace_dtype="bfloat16").step()["nll"], trained(20).step()["nll"]
    assert rough != exact
    assert rough == pytest.approx(exact, abs=0.01)

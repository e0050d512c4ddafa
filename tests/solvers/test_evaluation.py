"""The hand-written adjoint against automatic differentiation of the potential, and what the fast path promises."""

import math

import pytest
import torch

from datasets.base import Samples
from datasets.gaussians import standard_normal
from solvers.evaluation import Buffers, Evaluation
from solvers.otflow import OTFlow, advect, integrate
from solvers.potential import Potential
from tests.oracles import potential_flow

SHAPES = {"toy": (2, 32, 8), "miniboone": (43, 256, 6), "brief": (43, 256, 1), "wide": (40, 12, 2)}  # d, width, steps
SLOW = pytest.param("miniboone", marks=pytest.mark.slow)


def potential_of(dim: int, width: int, dtype: torch.dtype = torch.float64, **settings) -> Potential:
    torch.manual_seed(dim)
    potential = Potential(dim, width, **settings)
    with torch.no_grad():
        for p in potential.parameters():  # no term at 0 or 1
            p += 0.3 * torch.randn_like(p) / p.shape[-1] ** 0.5
        potential.w.weight /= width**0.5
    return potential.to(dtype)


def rows(n: int, dim: int) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1))


def training_loss(z, logdet, cost, hjb):
    """All rows have the same upstream gradient of logdet."""
    return 100 * (0.5 * z.square().sum(1) - logdet).mean() + cost.mean() + 5 * hjb.mean()


def uneven_loss(z, logdet, cost, hjb):
    """They have not."""
    return (0.5 * z.square().sum(1) * cost - logdet.square() + logdet * hjb).mean() + z.sin().mean()


def gradients(flow, potential: Potential, x: torch.Tensor, loss) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    inputs = [x, *(p for name, p in potential.named_parameters() if name != "c.bias")]  # no gradient depends on it
    return list(torch.autograd.grad(loss(*flow(potential, x)), inputs))


def errors(found: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    """Relative, of each tensor."""
    return [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, expected, strict=True)]


@pytest.mark.parametrize("loss", [training_loss, uneven_loss])
@pytest.mark.parametrize("shape", ["toy", "brief", "wide", SLOW])
def test_gradients_of_a_flow_in_float32(shape, loss):
    dim, width, n_steps = SHAPES[shape]
    x = rows(6, dim)
    expected = gradients(lambda p, x: potential_flow(p, x, n_steps), potential_of(dim, width), x, loss)
    exact = gradients(lambda p, x: integrate(p, x, n_steps), potential_of(dim, width), x, loss)
    assert max(errors(exact, expected)) < 1e-11
    potential = potential_of(dim, width, torch.float32)
    found = gradients(lambda p, x: integrate(p, x, n_steps), potential, x.float(), loss)
    assert max(errors(found, expected)) < 1e-5


@pytest.mark.parametrize("shape", ["toy", "brief", SLOW])
def test_gradients_with_a_trace_in_bfloat16(shape):
    dim, width, n_steps = SHAPES[shape]
    potential, x = potential_of(dim, width, torch.float32), rows(64, dim).float()
    exact = gradients(lambda p, x: integrate(p, x, n_steps), potential, x, training_loss)
    rough = gradients(lambda p, x: integrate(p, x, n_steps, trace_dtype=torch.bfloat16), potential, x, training_loss)
    assert 1e-5 < max(errors(rough, [g.double() for g in exact])) < 2e-2
    ((_, logdet, _, _), (_, coarse, _, _)) = (
        integrate(potential, x, n_steps, trace_dtype=t) for t in (None, torch.bfloat16)
    )
    assert errors([coarse], [logdet])[0] < 5e-3


SETTINGS = [
    {"dim": 3, "width": 5},
    {"dim": 3, "width": 5, "depth": 3},
    {"dim": 3, "width": 4, "depth": 4, "quadratic": "symmetric"},
    {"dim": 3, "width": 5, "quadratic": "symmetric"},
    {"dim": 7, "width": 3, "rank": 2},
    {"dim": 20, "width": 18, "rank": 2},  # R has zeros that are left out
    {"dim": 1, "width": 1},
]


@pytest.mark.parametrize("loss", [training_loss, uneven_loss])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_gradients_of_every_kind_of_potential(settings, loss):
    potential, x = potential_of(**settings), rows(4, settings["dim"])
    expected = gradients(lambda p, x: potential_flow(p, x, 2), potential, x, loss)
    assert max(errors(gradients(lambda p, x: integrate(p, x, 2), potential, x, loss), expected)) < 1e-11
    for a, b in zip(integrate(potential, x, 2), potential_flow(potential, x, 2), strict=True):
        assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("settings", SETTINGS[:5], ids=lambda s: "-".join(map(str, s.values())))
def test_each_result_of_a_flow_by_itself(settings):
    potential = potential_of(**settings)
    x = rows(3, settings["dim"]).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: integrate(potential, x, 1, 0.2, 0.9), (x,))
    assert torch.autograd.gradcheck(lambda x: advect(potential, x, 2, 1.0, 0.0), (x,))
    parameters = [p for name, p in potential.named_parameters() if name != "c.bias"]
    z = advect(potential, x, 2)
    expected = torch.autograd.grad(integrate(potential, x, 2)[0].square().sum(), [x, *parameters])
    assert max(errors(list(torch.autograd.grad(z.square().sum(), [x, *parameters])), list(expected))) < 1e-12


def test_no_weight_needs_a_gradient():
    potential, x = potential_of(3, 5).requires_grad_(False), rows(4, 3)
    z, *_ = integrate(potential, x, 2)
    assert not z.requires_grad
    assert z.is_contiguous()
    assert integrate(potential, x.requires_grad_(), 2)[1].requires_grad


@pytest.mark.parametrize(("width", "n_steps"), [(8, 2), pytest.param(32, 8, marks=pytest.mark.slow)])
def test_training_goes_the_way_of_the_reference(monkeypatch, width, n_steps):
    data = rows(256, 2) @ torch.tensor([[1.5, 0.4], [0.0, 0.5]]) + 1

    def trained() -> tuple[list[float], torch.Tensor]:
        solver = OTFlow(width=width, n_steps=n_steps, batch_size=64)
        fit = solver.start(Samples(data, data[:8]), standard_normal(2), torch.Generator().manual_seed(0))
        losses = [fit.step()["loss"] for _ in range(20)]
        return losses, torch.cat([p.detach().flatten() for p in fit.potential.parameters()])

    losses, weights = trained()
    monkeypatch.setattr(
        "solvers.otflow.integrate", lambda potential, x, n_steps, **_: potential_flow(potential, x, n_steps)
    )
    expected, reference = trained()
    assert losses == pytest.approx(expected, rel=1e-10)
    assert torch.allclose(weights, reference, rtol=1e-8, atol=1e-9)
    assert expected[-1] < expected[0] - 10


def test_buffers_are_kept_and_one_use_ends_before_the_next_begins():
    potential, x, buffers = potential_of(3, 5), rows(4, 3), Buffers()
    fresh = gradients(lambda p, x: integrate(p, x, 2), potential, x, uneven_loss)
    for _ in range(3):
        kept = gradients(lambda p, x: integrate(p, x, 2, buffers=buffers), potential, x, uneven_loss)
        assert all(torch.equal(a, b) for a, b in zip(kept, fresh, strict=True))
    first, _, _, _ = integrate(potential, x, 2, buffers=buffers)
    second, _, _, _ = integrate(potential, x + 1, 2, buffers=buffers)
    second.sum().backward()
    with pytest.raises(RuntimeError, match="before the next integrate"):
        first.sum().backward()


def test_backward_twice_through_one_flow():
    potential, x = potential_of(3, 5), rows(4, 3).requires_grad_()
    loss = training_loss(*integrate(potential, x, 2))
    parameters = [p for name, p in potential.named_parameters() if name != "c.bias"]
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    again = torch.autograd.grad(loss, parameters)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_weights_that_change_before_backward_are_noticed():
    potential = potential_of(3, 5)
    z, *_ = integrate(potential, rows(4, 3), 2)
    with torch.no_grad():
        potential.N.layers[1].weight += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_activations_do_not_overflow():
    potential = potential_of(2, 3)
    s = torch.tensor([[1e4, -1e4, 0.5]], dtype=torch.float32)
    gradient, laplacian = potential.float().gradient_and_laplacian(s)
    assert gradient.isfinite().all()
    assert math.isfinite(laplacian.item())


@pytest.mark.parametrize("f", [lambda p, s: integrate(p, s[:, :3], 2)[1], lambda p, s: p.gradient_and_laplacian(s)[1]])
def test_a_second_derivative_is_refused_and_not_lost(f):
    s = rows(4, 4).requires_grad_()
    with pytest.raises(RuntimeError, match="once"):
        torch.autograd.grad(f(potential_of(3, 5), s).sum(), s, create_graph=True)


def test_a_recording_that_breaks_off_ends_the_one_before(monkeypatch):
    potential, x, buffers = potential_of(3, 5), rows(4, 3), Buffers()
    z, *_ = integrate(potential, x, 2, buffers=buffers)

    def broken(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(Evaluation, "_value", broken)
    with pytest.raises(KeyboardInterrupt):
        integrate(potential, x + 1, 2, buffers=buffers)
    with pytest.raises(RuntimeError, match="before the next integrate"):
        z.sum().backward()

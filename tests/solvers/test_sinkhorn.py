"""Sinkhorn's iteration against closed forms and the network simplex; a cost is never wrong in silence."""

import math
import sys

import ot
import pytest
import torch
from torch import Generator

from datasets.base import Samples
from datasets.gaussians import random_gaussian, standard_normal, transport_cost
from solvers import sinkhorn
from solvers.base import Diverged
from solvers.discrete import MARGINAL_LIMIT
from solvers.entropic import Entropic, project, softmin
from solvers.exact import empirical_cost
from solvers.sinkhorn import BACKENDS, Sinkhorn, iterate

EACH = pytest.mark.parametrize("backend", BACKENDS)


def pair(rng, n: int = 150, m: int = 150, dim: int = 2):
    a, b = random_gaussian(dim, rng), random_gaussian(dim, rng)
    return a.sample(n, rng), b.sample(m, rng)


def fit_between(x, y, **fields):
    """The fit between stored samples, in their order."""
    fit = Sinkhorn(n_points=max(len(x), len(y)), **fields).start(Samples(x, x), Samples(y, y), Generator())
    fit.step()
    return fit


def failed(transport) -> set[str]:
    found = {name: certificate() for name, certificate in transport.certificates.items()}
    return {name for name, (value, limit) in found.items() if not value <= limit}


def dense(e: Entropic):
    """P of the module's docstring, as written."""
    cost = torch.cdist(e.x, e.y) ** 2 / 2
    return ((e.f[:, None] + e.g[None] - cost) / e.epsilon).exp() / (len(e.x) * len(e.y)), cost


def test_softmin_is_what_its_formula_says(rng, monkeypatch):
    x, y = pair(rng, 30, 20)
    g = torch.randn(20, generator=rng)
    expected = -0.3 * torch.log(((g - torch.cdist(x, y) ** 2 / 2) / 0.3).exp().mean(1))
    assert torch.allclose(softmin(x, y, g, 0.3), expected)
    monkeypatch.setattr("solvers.discrete.CELLS", 7 * 20)
    assert torch.allclose(softmin(x, y, g, 0.3), expected)
    cold = softmin(x, y, g, 1e-6)  # no underflow
    assert torch.allclose(cold, (torch.cdist(x, y) ** 2 / 2 - g).amin(1), atol=1e-4)


def test_two_points_to_two_in_closed_form():
    """0 and 1 to themselves: P = (p, 1/2 - p; 1/2 - p, p) with (1/2 - p) / p = exp(-1 / (2 epsilon))."""
    x = torch.tensor([[0.0], [1.0]])
    fit = fit_between(x, x, reg=1.0)
    coupling = fit.coupling
    assert coupling.epsilon == pytest.approx(0.25)  # the mean of 0, 1/2, 1/2, 0
    off = 0.5 / (1 + math.exp(1 / (2 * coupling.epsilon)))
    assert coupling.cost == pytest.approx(2 * off / 2, rel=1e-6)
    assert torch.allclose(fit.transport().forward(x), torch.tensor([[2 * off], [1 - 2 * off]]), atol=1e-6)


@EACH
def test_potentials_solve_the_entropic_problem(backend, rng):
    x, y = pair(rng, 80, 120)
    coupling = fit_between(x, y, reg=0.1, backend=backend, max_iter=5000).coupling
    P, cost = dense(coupling.pair)
    a, b = torch.full((80,), 1 / 80), torch.full((120,), 1 / 120)

    def regularised(P, x, y):
        """<P, c> + epsilon KL(P || uniform)."""
        entropy = torch.special.xlogy(P, P * len(x) * len(y)).sum()
        return ((P * torch.cdist(x, y) ** 2 / 2).sum() + coupling.epsilon * entropy).item()

    expected = ot.bregman.sinkhorn_log(a, b, cost, coupling.epsilon, 10_000, 1e-12)
    assert torch.allclose(P, expected, atol=1e-9)
    x0, x_mean = x - coupling.centres[0], coupling.centres[0]
    projected = 80 * expected @ y
    if backend != "geomloss":
        assert torch.allclose(coupling.forward(x), projected, atol=1e-4)
        assert coupling.cost == pytest.approx((expected * torch.cdist(x, y) ** 2 / 2).sum().item(), rel=1e-5)
    else:
        own = ot.bregman.sinkhorn_log(a, a, torch.cdist(x, x) ** 2 / 2, coupling.epsilon, 10_000, 1e-12)
        own_y = ot.bregman.sinkhorn_log(b, b, torch.cdist(y, y) ** 2 / 2, coupling.epsilon, 10_000, 1e-12)
        found = regularised(expected, x, y) - regularised(own, x, x) / 2 - regularised(own_y, y, y) / 2
        assert coupling.cost == pytest.approx(found, rel=1e-5)
        assert torch.allclose(coupling.forward(x), x + projected - 80 * own @ x, atol=1e-4)
        assert torch.allclose(project(x0, x0, coupling.own_x, coupling.epsilon) + x_mean, 80 * own @ x, atol=1e-4)


def test_the_audit_is_that_of_the_dense_coupling(rng):
    x, y = pair(rng, 40, 60)
    pair_ = Entropic(x, y, *iterate(x, y, torch.zeros(60), 0.5, 3, 0.0), 0.5)
    pair_.f.add_(0.1 * torch.randn(40, generator=rng))  # neither marginal holds
    P, cost = dense(pair_)
    audit = pair_.audit()
    a, b = torch.full((40,), 1 / 40), torch.full((60,), 1 / 60)
    assert audit.source == pytest.approx((P.sum(1) - a).abs().sum().item())
    assert audit.target == pytest.approx((P.sum(0) - b).abs().sum().item())
    assert audit.mass == pytest.approx(abs(P.sum().item() - 1))
    rounded = P * (a / P.sum(1)).clamp_max(1)[:, None]
    rounded = rounded * (b / rounded.sum(0)).clamp_max(1)
    short_a, short_b = a - rounded.sum(1), b - rounded.sum(0)
    rounded = rounded + torch.outer(short_a, short_b) / short_a.sum()
    assert torch.allclose(rounded.sum(0), b)
    assert audit.upper == pytest.approx((rounded * cost).sum().item())
    exact = empirical_cost(x, y)
    assert audit.lower < exact < audit.upper


@EACH
def test_a_translation(backend, rng):
    x, shift = torch.randn(100, 3, generator=rng), torch.tensor([300.0, -400.0, 0.0])
    fit = fit_between(x, x + shift, reg=0.1, backend=backend, max_iter=1000)
    transport = fit.transport()
    assert failed(transport) == set()
    assert transport.cost == pytest.approx(500**2 / 2, rel=1e-5)
    assert torch.allclose(transport.forward(x), x + shift, atol=1.5)  # images are means of neighbours
    if backend == "geomloss":  # debiased, the map is exact, and outside the sample too
        new = torch.randn(9, 3, generator=rng)
        assert torch.allclose(transport.forward(new), new + shift, atol=1e-3)
        assert torch.allclose(transport.inverse(new), new - shift, atol=1e-3)


@EACH
def test_a_permutation_is_found_at_small_epsilon(backend, rng):
    x = torch.arange(30.0)[:, None] + 0.01 * torch.randn(30, 1, generator=rng)
    order = torch.randperm(30, generator=rng)
    transport = fit_between(x, x[order] + 0.2, reg=1e-3, backend=backend).transport()
    assert torch.allclose(transport.forward(x), x + 0.2, atol=1e-2)
    assert torch.allclose(transport.inverse(x + 0.2), x, atol=1e-2)


def test_gaussians_cost_what_bures_says(rng):
    """An average over pairs of samples, as for the network simplex."""
    source, target = random_gaussian(2, rng), random_gaussian(2, rng)
    costs = [Sinkhorn(reg=2e-2).couple(source.sample(200, rng), target.sample(200, rng)).cost for _ in range(4)]
    mean, error = sum(costs) / 4, 4 * torch.tensor(costs).std().item() / 2
    bias = empirical_cost(target.sample(200, rng), target.sample(200, rng))
    assert abs(mean - transport_cost(source, target)) < error + bias + 0.02 * mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("reg", [10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9])
@EACH
def test_a_cost_is_never_wrong_in_silence(backend, reg, dtype, rng):
    """POT's sinkhorn returns 2.7e-7 at reg=.01, and sinkhorn_log a quarter of the cost with one marginal met."""
    torch.set_default_dtype(dtype)
    x, y = pair(rng, 100, 100)
    exact = empirical_cost(x, y)
    try:
        transport = fit_between(x, y, reg=reg, backend=backend, max_iter=300).transport()
    except Diverged:
        return
    wrong = abs(transport.cost / exact - 1)
    assert failed(transport) or wrong < 0.01
    if reg >= 1 and backend != "geomloss":  # far too smooth, and converged
        assert wrong > 0.05
        assert failed(transport) == {"duality_gap"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("reg", [1e-2, 1e-3, 1e-4, 1e-5])
@EACH
def test_nor_with_the_iterations_that_it_has_by_default(backend, reg, dtype, rng):
    torch.set_default_dtype(dtype)
    x, y = pair(rng, 300, 300)
    transport = fit_between(x, y, reg=reg, backend=backend).transport()
    assert failed(transport) or abs(transport.cost / empirical_cost(x, y) - 1) < 0.01


@EACH
def test_too_few_iterations_fail_a_marginal(backend, rng):
    """After the last half-iteration one marginal holds to rounding: the other tells."""
    x, y = pair(rng)
    transport = fit_between(x, y, reg=1e-3, backend=backend, max_iter=1).transport()
    assert "marginal_target" in failed(transport)
    assert "marginal_source" not in failed(transport)


def test_single_precision_ends_before_the_cap(rng, monkeypatch):
    """A threshold out of float32's reach would time the cap."""
    torch.set_default_dtype(torch.float32)
    calls = []
    monkeypatch.setattr(sinkhorn, "softmin", lambda *args: calls.append(1) or softmin(*args))
    transport = fit_between(*pair(rng), reg=5e-3).transport()
    assert failed(transport) == set()
    assert len(calls) < 1000
    assert transport.forward(torch.zeros(3, 2)).dtype == torch.float32
    assert MARGINAL_LIMIT[torch.float32] == 1e-4


@pytest.mark.parametrize("backend", ["blocks", "geomloss"])
def test_single_precision_goes_on_in_double_where_rounding_stops_it(backend, rng):
    """Potentials of the largest cost, over epsilon, are rounded by 1e-3 here: ten times the limit of a marginal."""
    torch.set_default_dtype(torch.float32)
    x, y = pair(rng)
    fit = fit_between(x, y, reg=1e-3, backend=backend)
    transport = fit.transport()
    (*_, (_, _, reached)) = fit.solver._levels(x, y, fit.coupling.epsilon)
    assert reached > 5 * MARGINAL_LIMIT[torch.float32]
    assert failed(transport) == set()
    assert transport.cost == pytest.approx(empirical_cost(x, y), rel=1e-2)
    assert transport.forward(torch.zeros(3, 2)).dtype == torch.float32


def test_over_relaxation_gets_to_the_same_point_sooner(rng, monkeypatch):
    x, y = pair(rng)
    found = {}
    for relaxation in (1.0, 1.8):
        calls = []
        monkeypatch.setattr(sinkhorn, "softmin", lambda *args, calls=calls: calls.append(1) or softmin(*args))
        coupling = fit_between(x, y, reg=1e-2, overrelaxation=relaxation, max_iter=5000).coupling
        found[relaxation] = len(calls), coupling.cost
    assert found[1.8][0] < found[1.0][0] / 2
    assert found[1.8][1] == pytest.approx(found[1.0][1], rel=1e-5)


def test_many_points_start_from_few(rng, monkeypatch):
    x, y = pair(rng, 400, 400)
    whole = Sinkhorn(reg=2e-2).couple(x, y)
    monkeypatch.setattr(sinkhorn, "MANY", 100)
    sizes = []
    monkeypatch.setattr(sinkhorn, "softmin", lambda a, *rest: sizes.append(len(a)) or softmin(a, *rest))
    coarse = Sinkhorn(reg=2e-2).couple(x, y)
    assert coarse.cost == pytest.approx(whole.cost, rel=1e-4)
    assert torch.allclose(coarse.forward(x), whole.forward(x), atol=1e-3)
    assert sizes[0] == 50


def test_the_entropic_map_smooths_and_reaches_beyond_the_sample(rng):
    source, target = random_gaussian(2, rng), random_gaussian(2, rng)
    fit = Sinkhorn(n_points=400, reg=2e-2).start(source, target, rng)
    fit.step()
    transport = fit.transport()
    new = source.sample(50, rng)
    inside = (transport.forward(new) - transport.inverse(transport.forward(new)) - (transport.forward(new) - new)).norm(
        dim=1
    )
    assert inside.median() < 0.3  # the two are nearly inverse to each other
    assert transport.forward(new + 100).isfinite().all()


def test_degenerate_samples_are_one_clear_line(rng):
    one = torch.ones(10, 2)
    with pytest.raises(Diverged, match="reg has no scale"):
        Sinkhorn().couple(one, one)
    with pytest.raises(Diverged, match="a translation is optimal"):
        Sinkhorn().couple(one, one + 1)
    spread = torch.randn(10, 2, generator=rng)
    assert Sinkhorn().couple(one, spread).cost == pytest.approx((spread - 1).square().sum(1).mean().item() / 2)
    doubled = torch.randn(20, 2, generator=rng).repeat(2, 1)
    assert Sinkhorn().couple(doubled, doubled + 1).cost == pytest.approx(1, rel=0.02)


@EACH
def test_potentials_that_are_not_finite_are_divergence(backend, rng):
    torch.set_default_dtype(torch.float32)
    x, y = pair(rng, 10, 10)
    with pytest.raises(Diverged, match=r"not finite at epsilon = .*: raise reg"):
        Sinkhorn(reg=1e-45, backend=backend, max_iter=2).couple(x, y)


def test_what_cannot_be_is_said_before_it_is_tried():
    normal = standard_normal(2)
    assert "dimension 2 and the target 3" in Sinkhorn().unfit(normal, standard_normal(3))
    for backend in ("pot", "geomloss"):
        why = Sinkhorn(n_points=50_000, backend=backend).unfit(normal, normal)
        assert "max_gib=4" in why
        assert "backend=blocks" in why
    assert Sinkhorn(n_points=50_000).unfit(normal, normal) is None
    few = Samples(torch.randn(10, 2), torch.randn(10, 2))
    assert Sinkhorn(n_points=50_000, backend="pot").unfit(few, normal) is None
    assert "max_gib=4" in Sinkhorn(n_points=50_000, backend="geomloss").unfit(few, normal)  # many are coupled with many
    assert "n_points lower" in Sinkhorn(n_points=50_000, max_gib=0.01).unfit(normal, normal)
    for field, value in (
        ("n_points", 1),
        ("reg", 0.0),
        ("scaling", 1.0),
        ("backend", "x"),
        ("overrelaxation", 2.0),
        ("max_iter", 0),
        ("max_gib", -1.0),
    ):
        with pytest.raises(ValueError, match=field):
            Sinkhorn(**{field: value})


def test_geomloss_is_optional_and_leaves_the_gradient_mode_alone(rng, monkeypatch):
    x, y = pair(rng, 20, 20)
    with torch.no_grad():
        Sinkhorn(backend="geomloss").couple(x, y)
        assert not torch.is_grad_enabled()
    monkeypatch.setitem(sys.modules, "geomloss", None)
    with pytest.raises(ImportError) as error:
        Sinkhorn(backend="geomloss").couple(x, y)
    assert error.value.name == "geomloss"  # which the harness calls not_installed
    assert Sinkhorn().couple(x, y).cost > 0


def test_warnings_of_a_library_are_divergence(rng, monkeypatch):
    def warns(*args, **kwargs):
        import warnings

        warnings.warn("overflow in something\nmore", RuntimeWarning, stacklevel=2)

    monkeypatch.setattr(ot.bregman, "sinkhorn_log", warns)
    with pytest.raises(Diverged, match=r"sinkhorn_log: overflow in something$"):
        Sinkhorn(backend="pot").couple(*pair(rng, 10, 10))

"""What every solver of bench/conf/solver/ promises: a new one is tested by being there."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bench import certificates
from bench.certificates import certify
from bench.record import describe, key
from datasets.base import Problem, Samples
from datasets.gaussians import Gaussians
from datasets.toy import Moons
from solvers import enot, neural_hjb

CONFIGURATIONS = sorted((Path(__file__).parents[1] / "bench/conf/solver").glob("*.yaml"))
PROBLEMS = {"moons": Moons(), "gaussians": Gaussians(dim=2)}

# Sizes that make any solver quick; those which it has among its fields are set.
SMALL = {"width": 8, "hidden": (8, 8), "batch_size": 64, "n_points": 200, "max_steps": 20, "lr": 0.02, "levels": 2}
COST_ROWS = 2**10  # that estimate a cost
STEPS = 6


@pytest.fixture(params=CONFIGURATIONS, ids=lambda path: path.stem)
def solver(request, monkeypatch):
    for module in (enot, neural_hjb):
        monkeypatch.setattr(module, "COST_ROWS", COST_ROWS)
    built = instantiate(OmegaConf.load(request.param), _convert_="all")
    names = {field.name for field in dataclasses.fields(built)}
    return dataclasses.replace(built, **{name: value for name, value in SMALL.items() if name in names})


def load(name: str) -> Problem:
    return PROBLEMS[name].load(Path())


def accepted(solver) -> list[str]:
    return [name for name in PROBLEMS if solver.unfit(load(name).source, load(name).target) is None]


def run(solver, problem: Problem, seed: int = 0, steps: int = STEPS):
    fit = solver.start(problem.source, problem.target, torch.Generator().manual_seed(seed))
    for _ in range(steps):
        if not fit.done:
            terms = fit.step()
            assert isinstance(terms["loss"], float)
    return fit


@pytest.fixture
def problem(solver) -> Problem:
    """One that the solver takes: being unfit for all of them is a failure, not a skip."""
    names = accepted(solver)
    assert names, "this solver takes none of the contract's problems"
    return load(names[0])


def test_is_a_frozen_dataclass_with_defaults_a_version_and_a_key(solver):
    assert type(solver)() is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(solver, dataclasses.fields(solver)[0].name, 1)
    assert isinstance(type(solver).version, int)
    described = describe(solver)
    assert described["_target_"].startswith("solvers.")
    assert key({"solver": described}) == key({"solver": describe(dataclasses.replace(solver))})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_shapes_dtype_and_finiteness(solver, problem, dtype):
    torch.set_default_dtype(dtype)
    transport = run(solver, load(accepted(solver)[0])).transport()
    assert transport.parameters is None or transport.parameters > 0
    for n in (1, 7):
        x = problem.test[:n].to(dtype)
        for name in ("forward", "inverse"):
            if (f := getattr(transport, name)) is not None:
                y = f(x)
                assert (y.shape, y.dtype) == ((n, 2), dtype), name
                assert y.isfinite().all(), name
        if transport.log_prob is not None:
            values = transport.log_prob(x)
            assert (values.shape, values.dtype) == ((n,), dtype)
            assert values.isfinite().all()


def test_inverse_undoes_forward(solver, problem):
    transport = run(solver, problem).transport(effort=4.0)
    if transport.forward is None or transport.inverse is None:
        pytest.skip("a transport without it")
    if transport.log_prob is None:
        pytest.skip("without a density the two maps are two estimates")
    x = problem.test[:50]
    assert (transport.inverse(transport.forward(x)) - x).norm(dim=1).max() < 1e-4


def test_log_density_is_the_change_of_variables(solver, problem):
    transport = run(solver, problem).transport(effort=4.0)
    if transport.log_prob is None or transport.forward is None:
        pytest.skip("a transport without it")
    x = problem.test[:5]
    forward = transport.forward
    J = torch.stack([torch.autograd.functional.jacobian(lambda r: forward(r[None])[0], row) for row in x])
    expected = problem.target.log_prob(forward(x)) + torch.linalg.slogdet(J).logabsdet
    assert torch.allclose(transport.log_prob(x), expected, atol=1e-4)


def test_density_integrates_to_one(solver, problem):
    transport = run(solver, problem).transport()
    if transport.log_prob is None:
        pytest.skip("a transport without it")
    drawn = problem.target.sample(20_000, torch.Generator().manual_seed(1))
    points = problem.test if transport.inverse is None else transport.inverse(drawn)
    centre, reach = points.mean(0), 1.5 * (points - points.mean(0)).abs().amax(0)
    axes = [torch.linspace(float(c - r), float(c + r), 250) for c, r in zip(centre, reach, strict=True)]
    cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    mass = transport.log_prob(torch.cartesian_prod(*axes)).exp().sum() * cell
    assert mass.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow  # minutes for all of them
def test_what_it_gives_can_be_certified(solver, problem, monkeypatch):
    monkeypatch.setattr(certificates, "CELLS", {})  # no integral of the density: a test of its own takes it
    fit, problem = run(solver, problem, steps=2), dataclasses.replace(problem, test=problem.test[:20])
    found = certify(problem, fit, fit.transport(), torch.Generator().manual_seed(1))
    assert found["finite"]["ok"]
    assert all({"value", "limit", "ok"} == set(one) for one in found.values())


def test_path_runs_from_the_point_to_its_image(solver, problem):
    transport = run(solver, problem).transport()
    if transport.path is None:
        assert transport.velocity is None, "a field has curves, which pictures show"
        pytest.skip("a transport without it")
    x = problem.test[:20]
    assert torch.allclose(transport.path(x, 0.0), x)
    assert torch.allclose(transport.path(x, 1.0), transport.forward(x), atol=1e-5)
    assert transport.path(x, 0.5).shape == x.shape


def numbers(fit) -> list[torch.Tensor]:
    x = load("moons").test[:9]
    transport = fit.transport()
    return [f(x) for f in (transport.forward, transport.inverse, transport.log_prob) if f is not None]


def test_same_seed_same_result_and_the_global_generator_is_left_alone(solver, problem):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = numbers(run(solver, problem))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, numbers(run(solver, problem)), strict=True))


def test_resumes_from_its_state_dict_identically(solver, problem, tmp_path):
    whole = run(solver, problem)
    half = run(solver, problem, steps=STEPS // 2)
    torch.save(half.state_dict(), tmp_path / "state.pt")
    resumed = solver.start(problem.source, problem.target, torch.Generator().manual_seed(99))
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(STEPS - STEPS // 2):
        if not resumed.done:
            resumed.step()
    assert resumed.done == whole.done
    assert all(torch.equal(a, b) for a, b in zip(numbers(whole), numbers(resumed), strict=True))


def test_takes_stored_samples(solver):
    problem = load("moons")
    rows = problem.source.sample(128, torch.Generator().manual_seed(3))
    source = Samples(rows, rows[:16])
    if solver.unfit(source, problem.target) is None:
        fit = solver.start(source, problem.target, torch.Generator().manual_seed(0))
        fit.step()
        fit.validated(1.0)
        assert fit.transport("valid") is not None


def test_a_direct_solver_finds_the_cost_and_the_map_between_gaussians(solver):
    problem = load("gaussians")
    if solver.unfit(problem.source, problem.target) is not None:
        pytest.skip("it does not take a pair of Gaussians")
    if hasattr(solver, "n_points"):
        solver = dataclasses.replace(solver, n_points=1000)  # a map between samples is as fine as they are
    fit = run(solver, problem, steps=1)
    transport = fit.transport()
    if not fit.done or transport.cost is None or transport.forward is None:
        pytest.skip("an iterative method: far from the optimum after a few steps")
    assert transport.cost == pytest.approx(problem.truth.cost, rel=0.05)
    x = problem.test[:100]
    assert (transport.forward(x) - problem.truth.map(x)).norm(dim=1).mean() < 0.2 * x.std()


class Bare:
    """A measure with no more than dim and sample: no density to peek at, no test points, no truth."""

    dim = 2

    def sample(self, n, rng):
        return torch.rand(n, 2, generator=rng, device=rng.device)


def test_needs_no_more_of_a_source_than_its_samples(solver):
    target = load("moons").target
    if solver.unfit(Bare(), target) is not None:
        pytest.skip("it says why it needs more")
    solver.start(Bare(), target, torch.Generator().manual_seed(0)).step()

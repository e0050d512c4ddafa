import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bench.metrics import evaluate
from datasets.errors import DataError
from datasets.pushforward import mean_cost
from datasets.w2benchmark import DIMS, W2Benchmark, map_of, read_finite, source_of
from solvers.base import Transport
from solvers.moments import Moments

ROOT = Path(os.environ.get("CNF_OT_DATA") or Path(__file__).parents[3] / "shared/data")
CONF = Path(__file__).parents[2] / "bench/conf/dataset"
LINEAR = {2: 14.1, 4: 14.9, 8: 27.3, 16: 41.6}  # L2-UVP of the linear map (Korotin et al. 2021, table 2)


def stored(dim: int) -> Path:
    path = ROOT / f"w2benchmark/mix3_to_mix10_{dim}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there: set CNF_OT_DATA to a data root that holds the benchmark")
    return path


def made(dim: int = 2, rank: int = 2, sizes: tuple[int, ...] = (5, 4, 3), seed: int = 0) -> dict[str, np.ndarray]:
    """A pair of the benchmark's form with random weights."""
    rng = np.random.default_rng(seed)
    arrays = {
        "centers": rng.normal(size=(3, dim)),
        "maps": rng.normal(size=(3, dim, dim)) + 2 * np.eye(dim),
        "std": np.array(0.4),
        "shift": rng.normal(size=dim),
        "scale": np.array(0.7),
        "strong_convexity": np.array(0.05),
    }
    for v in ("v1", "v2"):
        for layer, h in enumerate(sizes):
            name = f"{v}.quadratic_layers.{layer}"
            arrays[f"{name}.quadratic_decomposed"] = rng.normal(size=(dim, rank, h)) / 3
            arrays[f"{name}.weight"], arrays[f"{name}.bias"] = rng.normal(size=(h, dim)), rng.normal(size=h)
        for layer, (g, h) in enumerate(pairwise(sizes)):
            arrays[f"{v}.convex_layers.{layer}.weight"] = rng.random((h, g)) / g
        arrays[f"{v}.final_layer.weight"] = rng.random((1, sizes[-1]))
    return {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}


def save(root: Path, arrays: dict[str, np.ndarray], dim: int = 2) -> Path:
    folder = root / "w2benchmark"
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"mix3_to_mix10_{dim}.npz", **arrays)
    return root


def official_potential(arrays, prefix: str, x: torch.Tensor) -> torch.Tensor:
    """psi as the data's description has it, layer by layer."""
    a = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    def q(layer: int) -> torch.Tensor:
        name = f"quadratic_layers.{layer}"
        squares = torch.einsum("nd,drh->nrh", x, a[f"{name}.quadratic_decomposed"]).square().sum(1)
        return squares + x @ a[f"{name}.weight"].T + a[f"{name}.bias"]

    out = q(0)
    for layer in (1, 2):
        out = torch.celu(out @ a[f"convex_layers.{layer - 1}.weight"].T + q(layer))
    return out @ a["final_layer.weight"][0] + arrays["strong_convexity"] / 2 * x.square().sum(1)


@pytest.mark.parametrize("dim", DIMS)
def test_the_map_has_the_images_that_come_with_the_benchmark(dim):
    arrays = read_finite(stored(dim))
    T, x, y = map_of(arrays), arrays["check_x"], arrays["check_y"]
    torch.testing.assert_close(T(x), y, rtol=0, atol=2e-5)
    torch.testing.assert_close(T(x.float()), y.float(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("dim", sorted(LINEAR))
def test_the_linear_map_scores_as_published(dim):
    stored(dim)
    problem = W2Benchmark(dim=dim, n_cost=1000).load(ROOT)
    fit = Moments(50_000).start(problem.source, problem.target, torch.Generator().manual_seed(0))
    fit.step()
    T, x = fit.transport().forward, problem.test
    y = problem.truth.map(x)
    assert x.shape == (2**14, dim)
    assert 100 * (T(x) - y).square().sum(1).mean() / y.var(0).sum() == pytest.approx(LINEAR[dim], rel=0.03)
    assert y.var(0) == pytest.approx(1, abs=0.25)  # standardised together
    assert y.var(0).sum() == pytest.approx(dim, rel=0.03)


def test_the_map_is_the_gradient_of_a_convex_function(tmp_path):
    arrays = read_finite(save(tmp_path, made()) / "w2benchmark/mix3_to_mix10_2.npz")
    T = map_of(arrays)
    x = 2 * torch.randn(30, 2).requires_grad_()
    values = sum(official_potential(arrays, f"v{i}.", x) for i in (1, 2)) + x @ arrays["shift"]
    expected = arrays["scale"] * values
    torch.testing.assert_close(T.potential(x), expected)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(T(x), gradient)
    for row in x.detach()[:10]:
        J = torch.autograd.functional.jacobian(lambda r: T(r[None])[0], row)
        torch.testing.assert_close(J, J.T)
        assert torch.linalg.eigvalsh(J)[0] >= 2 * 0.7 * 0.05 - 1e-6


def test_the_source_is_the_mixture_that_is_stored(rng):
    arrays = {name: torch.tensor(a, dtype=torch.float64) for name, a in made(dim=3).items()}
    n = 200_000
    k = torch.randint(3, (n,), generator=rng)
    z = torch.randn(n, 3, generator=rng)
    x = torch.einsum("nij,nj->ni", arrays["maps"][k], z) * arrays["std"] + arrays["centers"][k]
    drawn = source_of(arrays).sample(n, rng)
    torch.testing.assert_close(drawn.mean(0), x.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.T.cov(), x.T.cov(), rtol=0, atol=0.05)
    torch.testing.assert_close((drawn**3).mean(0), (x**3).mean(0), rtol=0.1, atol=0.2)


def test_the_problem(tmp_path):
    problem = W2Benchmark(n_test=50, n_cost=2**15).load(save(tmp_path, made()))
    again = W2Benchmark(n_test=50, n_cost=2**15).load(tmp_path)
    assert torch.equal(problem.test, again.test)
    assert problem.truth.cost == again.truth.cost
    draws = [problem.target.sample(9, torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    x = problem.source.sample(9, torch.Generator().manual_seed(3))
    torch.testing.assert_close(draws[0], problem.truth.map(x))
    mean, error = mean_cost(problem.source, problem.truth.map, 2**15, torch.Generator().manual_seed(0))
    assert abs(problem.truth.cost - mean) < 5 * error
    values = evaluate(problem, Transport(problem.truth.map), torch.Generator().manual_seed(0))
    assert values["l2_uvp"] == 0
    assert values["cosine"] == pytest.approx(1)


def test_single_precision_stays_single(tmp_path):
    torch.set_default_dtype(torch.float32)
    problem = W2Benchmark(n_test=50, n_cost=100).load(save(tmp_path, made()))
    y = problem.target.sample(10, torch.Generator().manual_seed(0))
    assert y.dtype == problem.test.dtype == torch.float32
    exact = problem.truth.map(problem.test.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(problem.truth.map(problem.test).double(), exact, rtol=1e-4, atol=1e-4)


def without(name: str):
    return lambda a: {key: value for key, value in a.items() if key != name}


def changed(name: str, value):
    return lambda a: a | {name: value(a[name])}


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (without("v2.final_layer.weight"), "final_layer.weight"),
        (changed("v1.convex_layers.0.weight", lambda w: -w), "convexity"),
        (changed("v1.convex_layers.1.weight", lambda w: w[:, :-1]), "shapes"),
        (changed("shift", lambda s: s * np.nan), "shift does not hold finite numbers"),
        (changed("shift", lambda s: np.zeros(3, np.float32)), "shift"),
        (changed("scale", lambda s: -s), "scale"),
        (changed("centers", lambda c: c[:2]), "centers"),
        (changed("centers", lambda c: np.array([None] * 3)), "allow_pickle"),
    ],
)
def test_a_damaged_file_is_one_line_with_the_remedy(spoil, what, tmp_path):
    save(tmp_path, spoil(made()))
    with pytest.raises(DataError, match=what) as caught:
        W2Benchmark().load(tmp_path)
    assert "iamalexkorotin/Wasserstein2Benchmark" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"mix3_to_mix10_4.npz is missing.*CNF_OT_DATA"):
        W2Benchmark(dim=4).load(tmp_path)
    save(tmp_path, made(dim=3), dim=4)
    with pytest.raises(DataError, match="dimensions 3 and 3 where 4 belongs"):
        W2Benchmark(dim=4).load(tmp_path)


def test_configuration_and_settings():
    assert instantiate(OmegaConf.load(CONF / "w2benchmark.yaml"), dim=16).dim == 16
    with pytest.raises(ValueError, match="dim must be one of 2, 4, 8, 16, 32, 64, 128"):
        W2Benchmark(dim=3)
    with pytest.raises(ValueError, match="n_cost"):
        W2Benchmark(n_cost=1)

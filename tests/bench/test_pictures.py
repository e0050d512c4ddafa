"""Pictures hold what the transport gives, are small, whole, and load without torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import pictures
from datasets.base import Problem, Samples
from datasets.gaussians import random_gaussian, standard_normal, transport_map
from datasets.mixtures import ring
from solvers.base import Diverged, Transport


@pytest.fixture
def problem(rng) -> Problem:
    source = random_gaussian(2, rng)
    return Problem(source, standard_normal(2), source.sample(3000, rng))


@pytest.fixture
def transport(problem) -> Transport:
    forward = transport_map(problem.source, problem.target)
    return Transport(
        forward,
        transport_map(problem.target, problem.source),
        problem.source.log_prob,
        path=lambda x, t: (1 - t) * x + t * forward(x),
        potential=lambda t, x: (1 - t) * x[:, 0] + 3.0,
    )


def test_a_picture_holds_everything(tmp_path, problem, transport, rng):
    path = tmp_path / "pictures" / "a.npz"
    assert pictures.save(path, problem, transport, rng)
    found = pictures.load(path)
    assert {name: values.shape for name, values in found.items()} == {
        "box": (2, 2), "test": (2000, 2), "model": (160, 160), "truth": (160, 160),
        "forward": (2000, 2), "generated": (2000, 2), "target_points": (2000, 2), "paths": (17, 64, 2),
        "potential": (160, 160),
        "target_box": (2, 2), "pushed": (160, 160), "target": (160, 160),
    }  # fmt: skip
    assert path.stat().st_size < 250_000
    np.testing.assert_allclose(found["paths"][0], found["test"][:64], atol=1e-2)
    np.testing.assert_allclose(found["paths"][-1], found["forward"][:64], atol=1e-2)
    middle = (found["test"][:64] + found["forward"][:64]) / 2
    np.testing.assert_allclose(found["paths"][8], middle, atol=1e-2)
    carried_back = transport.inverse(torch.tensor(found["target_points"], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found["generated"], carried_back, atol=1e-5)
    for points, law in (("forward", problem.target), ("generated", problem.source), ("test", problem.source)):
        np.testing.assert_allclose(np.cov(found[points].T), law.covariance, atol=0.2)


def test_the_source_carried_by_the_optimal_map_has_the_density_of_the_target(tmp_path, problem, transport, rng):
    assert pictures.save(tmp_path / "a.npz", problem, transport, rng)
    found = pictures.load(tmp_path / "a.npz")
    assert found["target"].max() == pytest.approx(1 / (2 * np.pi), rel=2e-3)
    np.testing.assert_allclose(found["pushed"], found["target"], atol=2e-3)
    wrong = replace(transport, log_prob=lambda x: problem.source.log_prob(x) + np.log(2.0))
    assert pictures.save(tmp_path / "b.npz", problem, wrong, rng)
    found = pictures.load(tmp_path / "b.npz")
    np.testing.assert_allclose(found["pushed"], found["target"] / 2, atol=2e-3)


def test_the_potential_is_that_at_the_start_less_its_mean(tmp_path, problem, transport, rng):
    assert pictures.save(tmp_path / "a.npz", problem, transport, rng)
    found = pictures.load(tmp_path / "a.npz")
    (low, _), (high, _) = found["box"].astype(float)
    expected = low + (np.arange(160) + 0.5) / 160 * (high - low) - (low + high) / 2
    np.testing.assert_allclose(found["potential"], np.repeat(expected[:, None], 160, 1), atol=1e-4)


def test_densities_are_those_at_the_centres_of_cells(tmp_path, problem, transport, rng):
    assert pictures.save(tmp_path / "a.npz", problem, transport, rng)
    found = pictures.load(tmp_path / "a.npz")
    low, high = found["box"].astype(float)
    side = (high - low) / 160
    assert (low < problem.test.amin(0).numpy()).all()
    assert (high > problem.test.amax(0).numpy()).all()
    point = torch.tensor(low + (np.array([90, 70]) + 0.5) * side)
    expected = problem.source.log_prob(point[None]).exp().item()
    for name in ("model", "truth"):
        assert found[name][90, 70] == pytest.approx(expected, rel=2e-3)
        assert found[name].astype(float).sum() * side.prod() == pytest.approx(1, abs=5e-3)


def test_what_is_not_known_is_left_out(tmp_path, problem, rng):
    bare = Problem(Samples(problem.test, problem.test), problem.target, problem.test)
    assert pictures.save(tmp_path / "a.npz", bare, Transport(), rng)
    assert set(pictures.load(tmp_path / "a.npz")) == {"box", "test", "target_points"}


@pytest.mark.parametrize(("dim", "kept"), [(7, 4), (3, 2)])
def test_of_stored_rows_the_first_pairs_of_coordinates_are_kept(tmp_path, rng, dim, kept):
    rows = torch.randn(3000, dim, generator=rng, dtype=torch.float64)
    stored = Problem(Samples(rows, rows[:9]), standard_normal(dim), rows)
    path = tmp_path / "a.npz"
    assert pictures.save(path, stored, Transport(forward=lambda x: x + 5, inverse=lambda z: 2 * z), rng)
    found = pictures.load(path)
    assert {name: values.shape for name, values in found.items()} == {
        f"marginal_{name}": (2000, kept) for name in ("test", "forward", "target_points", "generated")
    }
    assert path.stat().st_size < 80_000
    test = found["marginal_test"].astype(float)
    np.testing.assert_allclose(found["marginal_forward"], test + 5, atol=1e-2)
    np.testing.assert_allclose(found["marginal_generated"], 2 * found["marginal_target_points"], atol=1e-2)
    first = {tuple(row) for row in rows[:, :kept].numpy().astype(np.float16)}
    assert {tuple(row) for row in found["marginal_test"]} <= first
    assert pictures.save(path, stored, Transport(), rng)
    assert set(pictures.load(path)) == {"marginal_test", "marginal_target_points"}


def test_where_one_way_diverges_the_other_is_kept(tmp_path, problem, transport, rng):
    def broken(x):
        raise Diverged

    rows = Problem(Samples(problem.test, problem.test), standard_normal(2), problem.test)
    assert pictures.save(tmp_path / "a.npz", rows, Transport(broken, transport.inverse), rng)
    assert set(pictures.load(tmp_path / "a.npz")) == {"box", "test", "target_points", "generated"}
    assert pictures.save(tmp_path / "b.npz", rows, Transport(transport.forward, broken), rng)
    assert set(pictures.load(tmp_path / "b.npz")) == {"box", "test", "target_points", "forward"}


def test_a_density_in_more_dimensions_has_no_picture(tmp_path, rng):
    source = standard_normal(3)
    problem = Problem(source, source, source.sample(10, rng))
    assert not pictures.save(tmp_path / "a.npz", problem, Transport(forward=lambda x: x), rng)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_takes_the_place_of_an_older_one(tmp_path, problem, transport, rng):
    path = tmp_path / "a.npz"
    path.write_bytes(b"older")
    assert pictures.save(path, problem, transport, rng)
    assert "model" in pictures.load(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_collapsed_density_stays_finite(tmp_path, problem, rng):
    needle = ring(0.01, 1e-8)
    assert pictures.save(tmp_path / "a.npz", problem, Transport(log_prob=lambda x: needle.log_prob(x * 0) + 9), rng)
    assert pictures.save(tmp_path / "b.npz", problem, Transport(log_prob=lambda x: x[:, 0] * 0 + 100), rng)
    assert np.isfinite(pictures.load(tmp_path / "b.npz")["model"]).all()


def test_fewer_test_points_than_a_picture_takes(tmp_path, problem, transport, rng):
    few = Problem(problem.source, problem.target, problem.test[:20])
    assert pictures.save(tmp_path / "a.npz", few, transport, rng)
    found = pictures.load(tmp_path / "a.npz")
    assert found["test"].shape == (20, 2)
    assert found["paths"].shape == (17, 20, 2)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut short"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.npz: not a picture"):
        pictures.load(path)


def test_a_file_with_any_byte_flipped_is_read_or_named(tmp_path, problem, rng, monkeypatch):
    monkeypatch.setattr(pictures, "POINTS", 20)
    path = tmp_path / "flipped.npz"
    source = Samples(problem.test[:20], problem.test[:5])  # no density: a small file
    pictures.save(path, Problem(source, problem.target, problem.test[:20]), Transport(), rng)
    whole = path.read_bytes()
    named = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            pictures.load(path)
        except ValueError as error:
            named += "flipped.npz: not a picture" in str(error)
    assert named > 20


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "pickle.npz"
    np.savez(path, box=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match=r"pickle\.npz: not a picture"):
        pictures.load(path)


def test_loading_imports_no_torch(tmp_path, problem, transport, rng):
    assert pictures.save(tmp_path / "a.npz", problem, transport, rng)
    code = (
        "import sys; from pathlib import Path; from bench import pictures; "
        f"pictures.load(Path({str(tmp_path / 'a.npz')!r})); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])

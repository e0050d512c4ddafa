"""Points that are codes of images: what a run keeps of them, and the figure that shows them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench import pictures
from bench.report import figures, frame, gallery, images, lint, shown
from datasets.base import Problem
from datasets.gaussians import standard_normal
from solvers.base import Transport
from tests.bench import fake_records as fake


def decode(codes):
    """The first coordinate at the upper left, of 2 x 3 pixels."""
    found = torch.zeros(len(codes), 2, 3)
    found[:, 0, 0] = codes[:, 0].sigmoid()
    return found


@pytest.fixture
def problem(rng):
    source = standard_normal(5)
    return Problem(source, source, source.sample(40, rng), decode=decode)


def test_test_points_and_points_of_the_model_are_decoded(tmp_path, problem, rng):
    path = tmp_path / "a.npz"
    assert pictures.save(path, problem, Transport(inverse=lambda z: z + 100.0), rng)
    found = pictures.load(path)
    assert {name: values.shape for name, values in found.items()} == {"decoded": (25, 2, 3), "images": (25, 2, 3)}
    np.testing.assert_allclose(found["decoded"], decode(problem.test[:25]).numpy(), atol=1e-3)
    assert found["images"][:, 0, 0] == pytest.approx(np.ones(25))
    assert pictures.save(path, problem, Transport(), rng)
    assert set(pictures.load(path)) == {"decoded"}
    assert not pictures.save(tmp_path / "b.npz", replace(problem, decode=None), Transport(), rng)


def test_images_are_laid_out_row_by_row():
    given = np.arange(4)[:, None, None] * np.ones((4, 2, 3))
    tiled = images.tiled(np.concatenate([given, 9 * np.ones((3, 2, 3))]))
    assert tiled.shape == (4, 6)
    np.testing.assert_array_equal(tiled, np.kron([[0, 1], [2, 3]], np.ones((2, 3))))


def test_a_figure_for_a_problem_of_images_and_none_of_the_plane(tmp_path, problem, rng):
    records = [fake.make("moments", "mnist"), fake.make("otflow", "mnist"), fake.make("otflow", "8gaussians")]
    fake.store(tmp_path, records, pictures=True)
    for one in records[:2]:
        pictures.save(tmp_path / f"{one['key']}.npz", problem, Transport(inverse=lambda z: z), rng)
    (group,) = lint.groups(frame.load(tmp_path)[0])
    pictured, problems = shown.pictures_of(group.frame, "otflow")
    assert problems == []
    (drawn,) = images.all_of(group, pictured, "otflow")
    assert drawn.name == "images_mnist"
    titles = [axis.get_title() for axis in drawn.figure.axes if axis.get_title()]
    assert titles == ["test points", "otflow", "moments"]
    others = list(gallery.all_of(group, pictured, "otflow"))
    assert [one.name for one in others] == ["gallery_8gaussians"], "the toy alone is of the plane"
    for one in (drawn, *others):
        figures.close(one.figure)

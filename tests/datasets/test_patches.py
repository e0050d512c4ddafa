import numpy as np
import pytest
from PIL import Image

from datasets.patches import draw, read_grey

RAMP = np.arange(8) * 30


def test_a_patch_is_in_one_piece_and_upright():
    image = np.tile(RAMP, (8, 1)).astype(np.uint8)  # grows to the right
    patch = draw([image], 3, np.random.default_rng(0))
    assert patch.shape == (3, 63)
    whole = np.column_stack((patch, -patch.sum(axis=1))).reshape(3, 8, 8)
    np.testing.assert_allclose(np.diff(whole, axis=2), 30 / 256, atol=1 / 256)
    np.testing.assert_allclose(np.diff(whole, axis=1), 0, atol=1 / 256)


def test_images_and_places_are_uniform():
    flat = np.zeros((8, 8), np.uint8)
    steps = np.zeros((9, 10), np.uint8)  # six places, told apart by where the bright pixel is in the patch
    steps[7, 7] = 255
    found = draw([flat, steps], 6000, np.random.default_rng(0))
    bright = found.max(axis=1) > 0.5
    # the pixel is the last one, which is dropped, in one of the six places
    places = np.bincount(found[bright].argmax(axis=1), minlength=63)
    assert sorted(places[places > 0]) == pytest.approx([500] * 5, abs=100)
    assert bright.sum() == pytest.approx(2500, abs=150)
    assert set(np.nonzero(places)[0]) == {61, 62, 53, 54, 55}


def test_read_grey_reads_all_in_an_order_of_the_seed(tmp_path):
    for level in range(6):
        Image.new("RGB", (9, 8), (level * 40,) * 3).save(tmp_path / f"{level}.jpg")
    orders = [[int(a[0, 0]) for a in read_grey(tmp_path, np.random.default_rng(seed))] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == pytest.approx([0, 40, 80, 120, 160, 200], abs=1)
    assert read_grey(tmp_path, np.random.default_rng(0))[0].shape == (8, 9)

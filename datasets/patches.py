"""Random 8 x 8 patches of grey images (Zoran and Weiss 2011; Uria, Murray and Larochelle 2013)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets import preprocess
from datasets.splits import Array

SIDE = 8


def read_grey(folder: Path, rng: np.random.Generator) -> list[np.ndarray]:
    """The .jpg images of `folder` as grey levels 0..255 (ITU-R 601), in random order. Raises OSError."""
    from PIL import Image

    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(f"no images in {folder}")
    return [np.asarray(Image.open(paths[i]).convert("L")) for i in rng.permutation(len(paths))]


def draw(images: Sequence[np.ndarray], n: int, rng: np.random.Generator) -> Array:
    """`n` preprocessed patches (n, 63), each of a uniformly chosen image and place; in float32."""
    chosen = rng.integers(len(images), size=n)
    by_image = np.split(chosen.argsort(kind="stable"), np.bincount(chosen, minlength=len(images)).cumsum()[:-1])
    drawn = np.empty((n, SIDE**2 - 1), dtype=np.float32)
    for image, rows in zip(images, by_image, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))
        top, left = (rng.integers(size, size=len(rows)) for size in windows.shape[:2])
        pixels = windows[top, left].reshape(-1, SIDE**2)
        drawn[rows] = preprocess.patches(pixels, rng.random(pixels.shape, dtype=np.float32))
    return drawn

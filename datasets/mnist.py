"""MNIST in the latent space of an autoencoder, OT-Flow's experiment (Onken et al. 2021), from the official files.

Fetch them with `python -m datasets.download mnist`. The autoencoder is trained at the first load and kept beside them;
the negative log-likelihood of its codes depends on it, and is no number of the literature.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from datasets.autoencoder import Autoencoder, train
from datasets.base import Points, Problem
from datasets.download import CHECKSUMS, MNIST, find, keep, remedy, vouched
from datasets.errors import DataError
from datasets.files import read_idx, reading
from datasets.splits import Array, Splits, as_problem

LEVELS = 255


@dataclass(frozen=True)
class MNISTLatent:
    """Codes of MNIST, d = 128, standardised by those of the training images.

    The official training images in the order of their file, the last `rows[1]` of them to validate (the authors draw
    theirs), and the official test images; grey levels over 255.
    """

    version: ClassVar[int] = 1
    rows: tuple[int, int, int] = (50_000, 10_000, 10_000)
    side: int = 28
    dim: int = 128
    epochs: int = 20
    seed: int = 0

    def load(self, root: Path) -> Problem:
        training, validation, testing = self.rows
        paths = find(root, MNIST.name, archive=MNIST)
        known, test = map(self._pixels, paths, (training + validation, testing))
        images = Splits(known[:training], known[training:], test)
        codec = self._autoencoder(root, images.train)
        codes = Splits(*map(codec.encode, images))
        problem = as_problem("mnist_latent", codes, self.rows, self.dim, remedy(MNIST.name))

        def decode(codes: Points) -> Tensor:
            return codec.decode(codes).reshape(-1, self.side, self.side)

        return replace(problem, decode=decode)

    def _pixels(self, path: Path, n: int) -> Array:
        """Grey levels in [0, 1] (n, side^2)."""
        with reading(path, remedy(MNIST.name)):
            images = read_idx(path, (n, self.side, self.side))
        return images.reshape(n, -1) / np.float32(LEVELS)

    def _autoencoder(self, root: Path, images: Array) -> Autoencoder:
        """The one that is kept beside the images; where there is none, it is trained and kept."""
        member = f"{MNIST.name}/autoencoder-d{self.dim}-n{self.rows[0]}-e{self.epochs}-s{self.seed}-v{self.version}.npz"
        path, again = root / member, "delete it, and it is trained again"
        if not path.exists():
            made = train(images, self.dim, self.epochs, self.seed)
            content = io.BytesIO()
            np.savez(content, **made.arrays())  # type: ignore[arg-type]
            keep(root, member, content.getvalue())
            return made
        if not vouched(root, member):
            raise DataError(f"{path} is not the file of {CHECKSUMS}: {again}")
        with reading(path, again), np.load(path, allow_pickle=False) as arrays:
            made = Autoencoder(self.side**2, self.dim)
            made.set(arrays)
        return made

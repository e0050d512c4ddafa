"""An autoencoder of one dense layer each way, trained the same way every time."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from datasets.splits import Array

LR = 1e-3
BATCH = 500
EPS = 1e-6  # added to deviations, as the authors of OT-Flow do


class Autoencoder(nn.Module):
    """Points x in [0, 1]^p and standardised codes z in R^d, both in float32:

    z = (W x + b - m) / (s + 1e-6),    x = sigmoid(V y + c) at y = (s + 1e-6) z + m,

    m, s the mean and deviation of y over the points that it was trained on. The authors of OT-Flow put a ReLU before y,
    whose atoms at 0 have no density; here y is an affine function of x.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, p: int, d: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(p, d, dtype=torch.float32)
        self.decoder = nn.Linear(d, p, dtype=torch.float32)
        self.register_buffer("mean", torch.zeros(d, dtype=torch.float32))
        self.register_buffer("scale", torch.ones(d, dtype=torch.float32))

    @torch.no_grad()
    def encode(self, x: Array) -> Array:
        """(n, p) -> (n, d)"""
        codes: Tensor = (self.encoder(torch.tensor(x, dtype=torch.float32)) - self.mean) / self.scale
        return codes.numpy()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """(n, d) -> (n, p), on the CPU"""
        return self._decoded(z.detach().cpu().float() * self.scale + self.mean)

    def loss(self, x: Tensor) -> Tensor:
        """Mean squared error of x (n, p), encoded and decoded."""
        return nn.functional.mse_loss(self._decoded(self.encoder(x)), x)

    def _decoded(self, y: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(y))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that it is, by name."""
        return {name: values.numpy() for name, values in self.state_dict().items()}

    def set(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become the one of these `arrays`. Raises RuntimeError where they are of another kind."""
        self.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()})


def train(x: Array, d: int, epochs: int, seed: int) -> Autoencoder:
    """Minimise the mean squared error over x (n, p) by ADAM; the same each time, whatever torch may use else."""
    points = torch.tensor(x, dtype=torch.float32)
    rng = torch.Generator().manual_seed(seed)
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # modules draw from no other
        made = Autoencoder(points.shape[1], d)
        adam = torch.optim.Adam(made.parameters(), lr=LR)
        for _ in range(epochs):
            for rows in torch.randperm(len(points), generator=rng).split(BATCH):
                adam.zero_grad()
                made.loss(points[rows]).backward()
                adam.step()
        with torch.no_grad():
            codes = made.encoder(points)
            made.mean.copy_(codes.mean(0))
            made.scale.copy_(codes.std(0, correction=0) + EPS)
    return made


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""The staggered space-time grid of the Eulerian solver: densities, fluxes, and the operators between them.

Cells are h x h squares of [-half_width, half_width]^2. A density rho (time, n, n) lives in cells at times k dt; a flux
is a pair of tensors, through the faces between cells along the first coordinate (time, n - 1, n) and the second
(time, n, n - 1), at the times (k + 1/2) dt. Faces of the boundary carry no flux and are left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from datasets.base import Density

Faces = tuple[Tensor, Tensor]

# Gauss-Legendre on [-1, 1] with four nodes, weights of sum 1 (Abramowitz and Stegun 1964, table 25.4)
NODES = (-0.8611363115940526, -0.3399810435848563, 0.3399810435848563, 0.8611363115940526)
WEIGHTS = (0.1739274225687269, 0.3260725774312731, 0.3260725774312731, 0.1739274225687269)


@dataclass(frozen=True)
class Grid:
    """n x n cells on [-half_width, half_width]^2 and `intervals` steps of time on [0, 1]."""

    half_width: float
    n: int
    intervals: int

    @property
    def h(self) -> float:
        return 2 * self.half_width / self.n

    @property
    def dt(self) -> float:
        return 1 / self.intervals

    def centres(self) -> Tensor:
        """The n centres along one coordinate, in float64."""
        return (torch.arange(self.n, dtype=torch.float64) + 0.5) * self.h - self.half_width

    def faces(self) -> Tensor:
        """The n - 1 faces between them."""
        return torch.arange(1, self.n, dtype=torch.float64) * self.h - self.half_width

    def times(self) -> Tensor:
        """The times k dt of densities, 0 and 1 among them."""
        return torch.arange(self.intervals + 1, dtype=torch.float64) * self.dt

    def half_times(self) -> Tensor:
        """The times (k + 1/2) dt of fluxes and potentials."""
        return (torch.arange(self.intervals, dtype=torch.float64) + 0.5) * self.dt

    def averages(self, measure: Density, device: torch.device | str = "cpu") -> Tensor:
        """Cell averages of the density (n, n), by 4 x 4 Gauss points a cell, in float64. Not normalised."""
        nodes, weights = (torch.tensor(values, dtype=torch.float64) for values in (NODES, WEIGHTS))
        axis = (self.centres()[:, None] + nodes * self.h / 2).flatten().to(device)
        density = measure.log_prob(torch.cartesian_prod(axis, axis)).double().exp()
        cells = density.reshape(self.n, 4, self.n, 4)
        return torch.einsum("iajb,a,b->ij", cells, weights.to(cells), weights.to(cells))

    def at_centres(self, measure: Density) -> Tensor:
        """The density at the centres of the cells (n, n), in float64."""
        axis = self.centres()
        return measure.log_prob(torch.cartesian_prod(axis, axis)).double().exp().reshape(self.n, self.n)


def face_means(cells: Tensor) -> Faces:
    """Means of the two cells beside each face."""
    return (cells[..., 1:, :] + cells[..., :-1, :]) / 2, (cells[..., 1:] + cells[..., :-1]) / 2


def cell_sums(faces: Faces) -> Tensor:
    """Sums over the four faces of each cell, none beyond the boundary: twice the adjoint of `face_means`."""
    x, y = faces
    return pad(x, (0, 0, 1, 0)) + pad(x, (0, 0, 0, 1)) + pad(y, (1, 0)) + pad(y, (0, 1))


def gradient(cells: Tensor, h: float) -> Faces:
    """Differences across the faces."""
    return (cells[..., 1:, :] - cells[..., :-1, :]) / h, (cells[..., 1:] - cells[..., :-1]) / h


def divergence(faces: Faces, h: float) -> Tensor:
    """Net flow out of each cell: minus the adjoint of `gradient`."""
    x, y = (face / h for face in faces)
    return pad(x, (0, 0, 0, 1)) - pad(x, (0, 0, 1, 0)) + pad(y, (0, 1)) - pad(y, (1, 0))


def time_means(levels: Tensor) -> Tensor:
    """Means of neighbouring times: (k + 1, ...) -> (k, ...)."""
    return (levels[1:] + levels[:-1]) / 2

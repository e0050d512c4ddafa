"""Fast diagonalisation of the space-time operator of the continuity equation (Lynch, Rice and Thomas 1964)."""

import torch
from torch import Tensor

from solvers.staggered import Grid


class SpaceTimePoisson:
    """Solves (D W D' - w_m Laplacian) p = f for p, f (intervals, n, n), directly.

    D takes differences in time, (rho^{k+1} - rho^k) / dt, of densities whose first is fixed; W = diag(w_rho), one
    weight a time; the Laplacian has no flux through the boundary. Both are small in each coordinate, so that dense
    eigenvectors, of cosine type, cost three small matrix products each way.
    """

    def __init__(self, grid: Grid, w_rho: Tensor, w_m: float) -> None:
        eye = torch.eye(grid.intervals).to(w_rho)
        D = (eye - eye.roll(1, 0).tril()) / grid.dt
        times, self.time_modes = torch.linalg.eigh(D * w_rho @ D.T)
        G = torch.eye(grid.n).to(w_rho).diff(dim=0) / grid.h
        waves, self.modes = torch.linalg.eigh(G.T @ G)
        waves = waves.clamp_min(0)
        self.symbol = times[:, None, None] + w_m * (waves[:, None] + waves)

    def solve(self, f: Tensor) -> Tensor:
        modes, time_modes = self.modes, self.time_modes
        hat = torch.tensordot(time_modes.T, modes.T @ f @ modes, 1) / self.symbol
        return modes @ torch.tensordot(time_modes, hat, 1) @ modes.T

"""Dynamic optimal transport on a staggered grid, with values that bound its optimum from both sides.

    minimise  J(rho, m) = sum_k sum_f h^2 dt m_f^2 / (2 rho_f) + weight KL(rho^N || target)
    over rho^k >= 0 in cells, k = 1..N, and fluxes m_f^{k+1/2} through faces f, subject to
    (rho^{k+1} - rho^k) / dt + div m^{k+1/2} = 0,  rho^0 = source,

where rho_f is the mean of the four densities beside a face and a step of time (Benamou and Brenier 2000; on such
grids Natale and Todeschi 2021). Fluxes that are best for a potential phi are m = -rho_f grad phi, and the dual is

    maximise  D(phi) = <source, phi^{1/2} - dt/2 H^{1/2}> - weight log <target, exp(psi / weight)>,
    psi = phi^{N-1/2} + dt/2 H^{N-1/2},  H = 1/2 |grad phi|^2 averaged from faces to cells,
    subject to  (phi^{k+1/2} - phi^{k-1/2}) / dt >= (H^{k-1/2} + H^{k+1/2}) / 2,  k = 1..N-1:

the Hamilton-Jacobi equation phi_t = 1/2 |grad phi|^2 where there is mass.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from solvers.staggered import Faces, Grid, cell_sums, divergence, face_means, gradient, time_means

TINY = 1e-300
FLOOR = 1e-6  # share of a path that is spread out, so that every interior density is positive


@dataclass(frozen=True)
class Path:
    """Densities (N + 1, n, n) and fluxes that satisfy the continuity equation, and their value."""

    rho: Tensor
    m: Faces
    transport: float
    kl: float


@dataclass(frozen=True, eq=False)
class Dynamic:
    """The discrete problem; source and target (n, n) are averages over cells, of mass 1."""

    grid: Grid
    source: Tensor
    target: Tensor
    weight: float

    @cached_property
    def log_target(self) -> Tensor:
        return self.target.clamp_min(TINY).log()

    def levels(self, rho: Tensor) -> Tensor:
        """All densities (N + 1, n, n) from those after the first."""
        return torch.cat([self.source[None], rho])

    def residual(self, rho: Tensor, m: Faces) -> Tensor:
        """rho_t + div m (N, n, n), for rho (N, n, n) after the first."""
        return self.levels(rho).diff(dim=0) / self.grid.dt + divergence(m, self.grid.h)

    def kl(self, last: Tensor) -> float:
        """KL(last || target) in nats; negative densities count as 0."""
        last = last.clamp_min(0)
        return self.grid.h**2 * (torch.xlogy(last, last) - last * self.log_target).sum().item()

    def kinetic(self, rho: Tensor, m: Faces) -> float:
        """The transport term, over the faces with mass."""
        total = 0.0
        for density, flux in zip(face_means(time_means(self.levels(rho))), m, strict=True):
            total += (flux.square() / (2 * density))[density > 1e-9].sum().item()
        return total * self.grid.h**2 * self.grid.dt

    # The dual

    def hamiltonian(self, phi: Tensor) -> Tensor:
        """H = 1/2 |grad phi|^2 in cells: half the sum, over both coordinates, of the mean square of two faces."""
        x, y = gradient(phi, self.grid.h)
        return cell_sums((x.square(), y.square())) / 4

    def repaired(self, phi: Tensor) -> Tensor:
        """phi, raised by a constant at each time, as much as makes it feasible."""
        H = time_means(self.hamiltonian(phi))
        lacking = (H - phi.diff(dim=0) / self.grid.dt).flatten(1).amax(1).clamp_min(0)
        shift = torch.cat([lacking.new_zeros(1), lacking.cumsum(0) * self.grid.dt])
        return phi + shift[:, None, None]

    def _psi(self, phi: Tensor) -> Tensor:
        return phi[-1] + self.grid.dt / 2 * self.hamiltonian(phi[-1])

    def dual(self, phi: Tensor) -> float:
        """D(phi): a lower bound of the optimum where phi is feasible."""
        h, dt = self.grid.h, self.grid.dt
        first = (self.source * (phi[0] - dt / 2 * self.hamiltonian(phi[0]))).sum() * h**2
        last = torch.logsumexp((self._psi(phi) / self.weight + self.log_target).flatten(), 0) + 2 * np.log(h)
        return (first - self.weight * last).item()

    def bound(self, phi: Tensor) -> float:
        """A lower bound of the optimum from any phi."""
        return self.dual(self.repaired(phi))

    # The primal

    def feasible(self, rho: Tensor) -> Path:
        """A path near rho (N, n, n) that satisfies every constraint: its value bounds the optimum from above.

        Densities are cut at 0, given mass 1, and those between the ends mixed with a spread-out one. Then the best
        fluxes are exact: m = rho_f grad chi at each step of time, where -div(rho_f grad chi) = rho_t.
        """
        grid = self.grid
        rho = rho.clamp_min(0)
        rho = rho / (rho.sum((1, 2), keepdim=True) * grid.h**2)
        ends = torch.lerp(self.source, rho[-1], 0.5)
        rho[:-1] = (1 - FLOOR) * rho[:-1] + FLOOR / 2 * (ends + 1 / (2 * grid.half_width) ** 2)
        levels = self.levels(rho)
        edges = _edges(grid.n)
        fluxes, energy = [], 0.0
        for density, change in zip(time_means(levels), levels.diff(dim=0) / grid.dt, strict=True):
            on_faces = torch.cat([face.flatten() for face in face_means(density)]).cpu().numpy()
            flux = _potential_flow(edges, on_faces, change.flatten().cpu().numpy() * grid.h)
            energy += (flux**2 / (2 * np.maximum(on_faces, TINY))).sum()
            fluxes.append(torch.from_numpy(flux).to(rho))
        x, y = torch.stack(fluxes).tensor_split(2, 1)
        m = x.reshape(-1, grid.n - 1, grid.n), y.reshape(-1, grid.n, grid.n - 1)
        return Path(levels, m, float(energy) * grid.h**2 * grid.dt, self.kl(rho[-1]))


def _edges(n: int) -> sparse.csr_array:
    """Differences across the faces of n x n cells, as a matrix: first those along the first coordinate."""
    step = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n))
    eye = sparse.eye_array(n)
    return sparse.csr_array(sparse.vstack([sparse.kron(step, eye), sparse.kron(eye, step)]))


def _potential_flow(edges: sparse.csr_array, conductance: np.ndarray, inflow: np.ndarray) -> np.ndarray:
    """The flux c_f (E x)_f of least energy sum_f flux_f^2 / (2 c_f) with E' flux = inflow."""
    matrix = sparse.csc_array(edges.T @ sparse.diags_array(conductance) @ edges)
    held = int(matrix.diagonal().argmax())  # x is known up to a constant: where there is most mass it is 0
    free = np.delete(np.arange(len(inflow)), held)
    x = np.zeros(len(inflow))
    factors = splu(matrix[free][:, free], permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    x[free] = factors.solve(inflow[free])
    return conductance * (edges @ x)

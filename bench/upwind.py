"""Densities carried by a velocity on a grid: the comparison of Eulerian and neural controls of Ruthotto et al. (2020).

Their evaluateObjective.m takes 256 x 256 cells and 512 explicit steps of first-order upwind finite volumes,

    rho^{k+1} = rho^k - dt div F,   F = max(v, 0) rho_left + min(v, 0) rho_right  on each face,  F = 0 on the boundary,

from the source forward and from the target backward in time. Mass is conserved exactly. The scheme widens a density as
a diffusion of |v| h / 2 would, so that its values are only to be held against each other, on one grid. Its kinetic
energy is summed here by the trapezoid rule; theirs lacks the factor 1/2 of the last term, which makes it larger by
about dt/2 of the energy at the end.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from datasets.base import Density, Measure
from solvers.base import Diverged, Transport
from solvers.staggered import Faces, Grid, divergence, face_means

HALF_WIDTH = 6.5
CELLS, STEPS = 256, 512
FRAMES = 64
SUBSTEPS = 16
ROWS = 2**14  # points at a time, which bounds memory
LOST = 1e-3  # share of the mass that may lie off the grid, or be more or less for want of cells
TINY = 1e-300


@dataclass(frozen=True)
class Advected:
    """What a velocity does to a density: `cost` int int 1/2 |v|^2 rho dx dt, and the divergence `kl` of the density at
    the end from the one that should be there, in nats; `mass_error` is |mass at the end - 1|. `lost_mass` is |mass - 1|
    of the density on the grid, before it is made 1 there."""

    cost: float
    kl: float
    mass_error: float
    end: Tensor
    lost_mass: float = 0.0


def compare(
    source: Measure,
    target: Measure,
    transport: Transport,
    dtype: torch.dtype,
    grid: Grid = Grid(HALF_WIDTH, CELLS, STEPS),  # noqa: B008  # frozen
    device: torch.device | str = "cpu",
) -> tuple[Advected, Advected] | None:
    """Source carried forward and target carried backward by `transport.velocity`, evaluated in `dtype`.

    None where that is missing, or the densities of both in the plane, or a mass on the grid is not 1 within LOST: it
    lies outside, or cells are too wide for it.
    Raises Diverged where the velocity is not finite, or too large for SUBSTEPS substeps.
    """
    if transport.velocity is None or source.dim != 2 or target.dim != 2:
        return None
    if not (isinstance(source, Density) and isinstance(target, Density)):
        return None
    densities = [grid.averages(measure, device) for measure in (source, target)]
    masses = [density.sum().item() * grid.h**2 for density in densities]
    lost = max(abs(mass - 1) for mass in masses)
    if not lost <= LOST:
        return None
    first, last = (density / mass for density, mass in zip(densities, masses, strict=True))
    frames = velocities(transport, grid, dtype, min(FRAMES, grid.intervals), device)
    there, back = advect(frames, first, last, grid), advect(-frames.flip(0), last, first, grid)
    return replace(there, lost_mass=lost), replace(back, lost_mass=lost)


def velocities(transport: Transport, grid: Grid, dtype: torch.dtype, n: int, device: torch.device | str) -> Tensor:
    """The velocity at the centres of cells at n + 1 times (n + 1, 2, cells, cells), in `dtype`.

    Fewer times than steps, and half as many points as faces: `advect` interpolates linearly in both, which errs by
    the second order, one more than the scheme. Raises Diverged where it is not finite.
    """
    assert transport.velocity is not None
    axis = grid.centres().to(device, dtype)
    points = torch.cartesian_prod(axis, axis)
    frames = []
    with torch.no_grad():
        for k in range(n + 1):
            v = torch.cat([transport.velocity(k / n, part) for part in points.split(ROWS)])
            if not bool(v.isfinite().all()):
                raise Diverged(
                    f"the velocity at time {k / n:.3g} is not finite within {grid.half_width:g} of the centre"
                )
            frames.append(v.T.reshape(2, grid.n, grid.n))
    return torch.stack(frames)


def advect(frames: Tensor, first: Tensor, last: Tensor, grid: Grid) -> Advected:
    """Carry `first` (n, n), of mass 1, over [0, 1] by the velocities `frames` (m + 1, 2, n, n), equidistant in time.

    A step of time is taken in substeps where it has to be, at most SUBSTEPS: the density stays positive if no cell
    gives away more than it holds. Raises Diverged where that is not enough.
    """
    rho = first.double()
    cell, m = grid.h**2, len(frames) - 1
    powers = []
    for k in range(grid.intervals + 1):
        at = k * m / grid.intervals
        low = min(int(at), m - 1)
        v = torch.lerp(frames[low], frames[low + 1], at - low).double()
        powers.append((rho * v.square().sum(0)).sum().item() * cell / 2)
        if k < grid.intervals:
            rho = _carried(rho, v, grid, k * grid.dt)
    total = sum(a + b for a, b in pairwise(powers)) * grid.dt / 2
    kl = (torch.xlogy(rho, rho) - rho * last.clamp_min(TINY).log()).sum().item() * cell
    return Advected(total, kl, abs(rho.sum().item() * cell - 1), rho)


def _carried(rho: Tensor, v: Tensor, grid: Grid, t: float) -> Tensor:
    """rho a step of time later; v (2, n, n) at the centres of cells."""
    across = face_means(v[0])[0], face_means(v[1])[1]
    leaving = _outflow(across, grid.h).max().item() * grid.dt
    substeps = max(1, math.ceil(leaving))
    if substeps > SUBSTEPS:
        raise Diverged(
            f"upwinding {grid.n} x {grid.n} cells in {grid.intervals} steps: at time {t:.3g} the velocity crosses"
            f" {leaving:.3g} cells a step, more than {SUBSTEPS} substeps can follow"
        )
    for _ in range(substeps):
        rho = rho - grid.dt / substeps * divergence(upwind(rho, across), grid.h)
    return rho


def _outflow(v: Faces, h: float) -> Tensor:
    """The rate at which each cell gives its mass away."""
    x, y = v
    leaving = torch.zeros(y.shape[0], x.shape[1]).to(x)
    leaving[:-1] += x.clamp_min(0)
    leaving[1:] -= x.clamp_max(0)
    leaving[:, :-1] += y.clamp_min(0)
    leaving[:, 1:] -= y.clamp_max(0)
    return leaving / h


def upwind(rho: Tensor, v: Faces) -> Faces:
    """The flux through each face: its velocity times the density it comes from."""
    x, y = v
    return (
        x.clamp_min(0) * rho[:-1] + x.clamp_max(0) * rho[1:],
        y.clamp_min(0) * rho[:, :-1] + y.clamp_max(0) * rho[:, 1:],
    )

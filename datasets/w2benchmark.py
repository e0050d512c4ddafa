"""The Wasserstein-2 benchmark: pairs of measures in many dimensions between which the optimal map is known.

Korotin, Li, Genevay, Solomon, Filippov and Burnaev, Do Neural Optimal Transport Solvers Work? A Continuous
Wasserstein-2 Benchmark (NeurIPS 2021, arXiv 2106.01954), section 4.1. The source P is a mixture of 3 Gaussians, the
target T # P with T the gradient of a convex function: the mean of two input-convex networks fitted to mixtures of 10
Gaussians, shifted and scaled to mean 0 and unit variance. By Brenier's theorem T is optimal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from datasets.base import Points, Problem, Truth, Values
from datasets.files import reading
from datasets.gaussians import held_out
from datasets.mixtures import Mixture
from datasets.pushforward import ROWS, PushForward, mean_cost

DIMS = (2, 4, 8, 16, 32, 64, 128)
COST_SEED = 0xC057  # other draws than the test points
COMPONENTS = 3
LAYERS = 3
REMEDY = (
    "it has no download of a single file: take benchmarks/Mix3toMix10/{dim}_v1.pt and {dim}_v2.pt of the repository "
    "iamalexkorotin/Wasserstein2Benchmark (their weights are the arrays v1.* and v2.*) and, from its "
    "Mix3ToMix10Benchmark({dim}), the sampler's centers, maps and std and the potential's shift and scale, and save "
    "all as that .npz; CNF_OT_DATA or data.root= names the data root"
)

Arrays = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class DenseICNN:
    """The benchmark's input-convex network psi: R^d -> R, whose quadratic layers of sizes h_0, ..., h_L see x:

        u_0 = q_0(x),   u_l = celu(C_l u_{l-1} + q_l(x)),   psi(x) = w . u_L + strong_convexity/2 |x|^2,
        q_l(x) = sum over rank of (x Q_l)^2 + W_l x + b_l.

    The l-th blocks of `Q` (rank, d, sum h), `W` (sum h, d) and `b` (sum h,) are those of q_l; `C` holds the
    (h_l, h_{l-1}) of l >= 1 and `w` (h_L,). Convex where C and w are not negative: else ValueError, as for shapes
    that do not fit.
    """

    Q: Tensor
    W: Tensor
    b: Tensor
    C: tuple[Tensor, ...]
    w: Tensor
    strong_convexity: float

    def __post_init__(self) -> None:
        total, d = self.W.shape
        sizes = self.sizes
        chained = all(C.shape == (h, g) for C, g, h in zip(self.C, sizes[:-1], sizes[1:], strict=True))
        if self.Q.shape[1:] != (d, total) or self.b.shape != (total,) or sum(sizes) != total or not chained:
            raise ValueError("layers whose shapes do not fit each other")
        if min(weights.min().item() for weights in (*self.C, self.w)) < 0 or self.strong_convexity < 0:
            raise ValueError("negative weights where convexity needs positive ones")

    @property
    def sizes(self) -> tuple[int, ...]:
        """h_0, ..., h_L."""
        return (self.C[0].shape[1], *(len(C) for C in self.C))

    @classmethod
    def of(cls, arrays: Arrays, strong_convexity: float) -> "DenseICNN":
        """From weights under the names of the authors' checkpoints. Raises KeyError and ValueError."""
        quadratic = [f"quadratic_layers.{layer}" for layer in range(LAYERS)]
        return cls(
            torch.cat([arrays[f"{name}.quadratic_decomposed"] for name in quadratic], dim=2).transpose(0, 1),
            torch.cat([arrays[f"{name}.weight"] for name in quadratic]),
            torch.cat([arrays[f"{name}.bias"] for name in quadratic]),
            tuple(arrays[f"convex_layers.{layer}.weight"] for layer in range(LAYERS - 1)),
            arrays["final_layer.weight"].squeeze(0),
            strong_convexity,
        )

    def to(self, like: Tensor) -> "DenseICNN":
        """The same network with the device and dtype of `like`."""
        if (self.W.device, self.W.dtype) == (like.device, like.dtype):
            return self
        Q, W, b, *C, w = (weights.to(like) for weights in (self.Q, self.W, self.b, *self.C, self.w))
        return DenseICNN(Q, W, b, tuple(C), w, self.strong_convexity)

    def value(self, x: Points) -> Values:
        """psi: (n, d) -> (n,)."""
        first, *further = self._quadratic(x).split(self.sizes, dim=1)
        u = first
        for C, q in zip(self.C, further, strict=True):
            u = torch.celu(u @ C.T + q)
        return u @ self.w + 0.5 * self.strong_convexity * x.square().sum(1)

    def gradient(self, x: Points) -> Points:
        """grad psi, by the chain rule: (n, d) -> (n, d)."""
        first, *further = self._quadratic(x).split(self.sizes, dim=1)
        u, slopes = first, []
        for C, q in zip(self.C, further, strict=True):
            z = u @ C.T + q
            slopes.append(z.clamp(max=0.0).exp_())  # celu'
            u = torch.celu(z)
        delta = self.w.expand_as(u)
        deltas = []  # of psi with respect to each q_l, the last first
        for C, slope in zip(reversed(self.C), reversed(slopes), strict=True):
            delta = delta * slope
            deltas.append(delta)
            delta = delta @ C
        to_q = torch.cat([delta, *reversed(deltas)], dim=1)
        gradient = torch.addmm(self.strong_convexity * x, to_q, self.W)
        for Q in self.Q:
            gradient = torch.addmm(gradient, (x @ Q).mul_(to_q), Q.T, alpha=2.0)
        return gradient

    def _quadratic(self, x: Points) -> Tensor:
        """All q_l(x), side by side (n, sum h)."""
        q = torch.addmm(self.b, x, self.W.T)
        for Q in self.Q:
            q = q + (x @ Q).square_()
        return q


@dataclass(frozen=True, eq=False)
class BrenierMap:
    """T(x) = scale (grad (psi_1 + psi_2)(x) + shift), the gradient of `potential`."""

    networks: tuple[DenseICNN, DenseICNN]
    shift: Tensor
    scale: float

    def __post_init__(self) -> None:
        if self.shift.shape != (self.networks[0].W.shape[1],) or not self.scale > 0:
            raise ValueError(f"a shift of shape {tuple(self.shift.shape)} or a scale of {self.scale}")

    def __call__(self, x: Points) -> Points:
        first, second = (psi.to(x) for psi in self.networks)
        shift = self.shift.to(x)
        return torch.cat([self.scale * (first.gradient(r) + second.gradient(r) + shift) for r in x.split(ROWS)])

    def potential(self, x: Points) -> Values:
        """The convex function whose gradient T is: (n, d) -> (n,)."""
        psi = sum((psi.to(x).value(x) for psi in self.networks), x @ self.shift.to(x))
        return self.scale * psi


@dataclass(frozen=True)
class W2Benchmark:
    """The benchmark's high-dimensional pair in `dim` dimensions, judged on 2^14 points as its authors do.

    `truth.cost` is the mean of 1/2 |T(x) - x|^2 over `n_cost` draws of fixed seed; `mean_cost` gives its standard
    error, 0.14 % of it in 2 dimensions and 0.06 % in 128.
    """

    version: ClassVar[int] = 1
    note: ClassVar[str] = "its optimal cost is a mean over samples, to about 0.1 %"

    dim: int = 2
    n_test: int = 2**14
    n_cost: int = 2**18

    def __post_init__(self) -> None:
        if self.dim not in DIMS:
            raise ValueError(f"dim must be one of {', '.join(map(str, DIMS))}, not {self.dim}")
        if self.n_test < 1 or self.n_cost < 2:
            raise ValueError(f"set n_test to 1 and n_cost to 2 or more; they are {self.n_test} and {self.n_cost}")

    def load(self, root: Path) -> Problem:
        """Read the pair from w2benchmark/mix3_to_mix10_<dim>.npz under `root`. Raises DataError."""
        path = root / f"w2benchmark/mix3_to_mix10_{self.dim}.npz"
        with reading(path, REMEDY.format(dim=self.dim)):
            arrays = read_finite(path)
            source, optimal = source_of(arrays), map_of(as_default(arrays))
            if not source.dim == len(optimal.shift) == self.dim:
                raise ValueError(f"dimensions {source.dim} and {len(optimal.shift)} where {self.dim} belongs")
        rng = torch.Generator().manual_seed(COST_SEED)
        cost, _ = mean_cost(source, optimal, self.n_cost, rng)
        return Problem(source, PushForward(source, optimal), held_out(source, self.n_test), Truth(cost, optimal))


def read_finite(path: Path) -> Arrays:
    """All arrays of a .npz file, in float64. Raises ValueError where one does not hold finite numbers."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} does not hold finite numbers")
    return {name: torch.tensor(array, dtype=torch.float64) for name, array in arrays.items()}


def as_default(arrays: Arrays) -> Arrays:
    """In torch's default dtype, which spares batches of it the conversion."""
    return {name: array.to(torch.get_default_dtype()) for name, array in arrays.items()}


def source_of(arrays: Arrays) -> Mixture:
    """The law of maps[k] z std + centers[k] with z ~ N(0, I) and k uniform. Raises KeyError and ValueError."""
    centers, maps = arrays["centers"], arrays["maps"] * arrays["std"]
    k, d = centers.shape
    if k != COMPONENTS or maps.shape != (k, d, d):
        raise ValueError(f"centers of shape {tuple(centers.shape)} with maps of shape {tuple(maps.shape)}")
    return Mixture(centers.new_full((k,), 1 / k), centers, maps @ maps.mT)


def map_of(arrays: Arrays) -> BrenierMap:
    """The optimal map. Raises KeyError and ValueError."""
    strong_convexity = arrays["strong_convexity"].item()
    parts = ({name[3:]: a for name, a in arrays.items() if name.startswith(f"v{i}.")} for i in (1, 2))
    first, second = (DenseICNN.of(part, strong_convexity) for part in parts)
    return BrenierMap((first, second), arrays["shift"], arrays["scale"].item())

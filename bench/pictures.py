"""What the figures of a problem of the plane, of images, or of stored rows are drawn from: one small .npz file a run.

Of a problem of the plane

    box (2, 2)               low and high corner of the grid, around the test points
    model, truth (160, 160)  densities at the centres of the grid's cells, first axis first
    potential (160, 160)     Phi(0, x) less its mean, at the same points
    target_box (2, 2), pushed, target (160, 160)    the same of a grid around the target's points: densities of the
                             source carried forward and of the target
    test, forward, target_points, generated (2000, 2)    test points, these carried over, points of the target, these
                             carried back: points of the model
    paths (17, 64, 2)        the first 64 of `test`, at 17 even times over [0, 1]

Of a problem of images

    decoded, images (25, height, width)    grey levels of test points, and of points of the model

Of a problem of stored rows in more dimensions

    marginal_test, marginal_forward, marginal_target_points, marginal_generated (2000, 4)    the first coordinates of
                             what has that name in the plane; (2000, 2) in three dimensions

What a transport cannot give is not in the file. Reading it needs no torch, and this module imports none.
"""

import io
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.record import write_over

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from bench.grid import Box
    from datasets.base import Points, Problem, Values
    from solvers.base import Transport

GRID = 160
POINTS = 2000
PATHS = 64
TIMES = 17
IMAGES = 25
MARGIN = 0.1
COORDINATES = 4  # of a marginal: two pairs
MARGINAL = "marginal_"

Arrays = dict[str, NDArray[np.floating]]


def save(path: Path, problem: "Problem", transport: "Transport", rng: "Generator") -> bool:
    """Write the picture of `transport`, whole or not at all, over an older one; False if the problem has none."""
    if (draw := _drawing(problem)) is None:
        return False
    content = io.BytesIO()
    np.savez_compressed(content, **draw(problem, transport, rng))  # type: ignore[arg-type]
    write_over(path, content.getbuffer())
    return True


def load(path: Path) -> Arrays:
    """The arrays of a picture by name. Raises ValueError for a file that is not one, OSError where there is none."""
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # numpy, zipfile, zlib and tokenize each raise their own for a damaged file
        raise ValueError(f"{path}: not a picture ({error})") from None


def _drawing(problem: "Problem") -> "Callable[[Problem, Transport, Generator], Arrays] | None":
    """What draws such a problem; None where nothing does."""
    from datasets.base import Samples

    if problem.decode is not None:
        return _decoded
    if problem.source.dim == 2:
        return _plane
    return _marginals if problem.source.dim > 2 and isinstance(problem.source, Samples) else None


def _plane(problem: "Problem", transport: "Transport", rng: "Generator") -> Arrays:
    import torch

    from bench.grid import box_around, density_on, on_grid
    from bench.metrics import subset
    from datasets.base import Density

    test = subset(problem.test, POINTS, rng)
    box = box_around(problem.test, MARGIN)
    centres = _centres(box)
    arrays = {"box": _small(torch.stack((box.low, box.high)), np.float32)}
    # half precision: 1e-3 relative is below what a colour map shows
    if transport.log_prob is not None:
        arrays["model"] = _small(density_on(centres, GRID - 1, transport.log_prob), np.float16)
    if isinstance(problem.source, Density):
        arrays["truth"] = _small(density_on(centres, GRID - 1, problem.source.log_prob), np.float16)
    if transport.potential is not None:
        potential = on_grid(centres, GRID - 1, partial(transport.potential, 0.0))
        arrays["potential"] = _small(potential - potential.mean(), np.float32)
    if (pushed := _pushed(problem, transport)) is not None and isinstance(problem.target, Density):
        around = box_around(problem.target.sample(POINTS, rng), MARGIN)
        inner = _centres(around)
        arrays["target_box"] = _small(torch.stack((around.low, around.high)), np.float32)
        arrays["pushed"] = _small(density_on(inner, GRID - 1, pushed), np.float16)
        arrays["target"] = _small(density_on(inner, GRID - 1, problem.target.log_prob), np.float16)
    arrays |= {name: _small(points, np.float32) for name, points in _points(problem, transport, test, rng).items()}
    if transport.path is not None:
        times = [i / (TIMES - 1) for i in range(TIMES)]
        arrays["paths"] = _small(torch.stack([transport.path(test[:PATHS], t) for t in times]), np.float16)
    return arrays


def _points(problem: "Problem", transport: "Transport", test: "Points", rng: "Generator") -> dict[str, "Points"]:
    """Test points, points of the target, and where the transport carries either."""
    from solvers.base import Diverged

    target = problem.target.sample(POINTS, rng)
    found = {"test": test, "target_points": target}
    for name, carry, points in (("forward", transport.forward, test), ("generated", transport.inverse, target)):
        if carry is not None:
            with suppress(Diverged):  # the other way may not
                found[name] = carry(points)
    return found


def _marginals(problem: "Problem", transport: "Transport", rng: "Generator") -> Arrays:
    from bench.metrics import subset

    found = _points(problem, transport, subset(problem.test, POINTS, rng), rng)
    first = min(COORDINATES, problem.source.dim - problem.source.dim % 2)
    # half precision: 1e-3 relative is far below the size of a dot
    return {f"{MARGINAL}{name}": _small(points[:, :first], np.float16) for name, points in found.items()}


def _decoded(problem: "Problem", transport: "Transport", rng: "Generator") -> Arrays:
    assert problem.decode is not None
    arrays = {"decoded": _small(problem.decode(problem.test[:IMAGES]), np.float16)}
    if transport.inverse is not None:
        points = transport.inverse(problem.target.sample(IMAGES, rng))
        arrays["images"] = _small(problem.decode(points), np.float16)
    return arrays


def _centres(box: "Box") -> "Box":
    """The box whose corners are the centres of the outermost of GRID x GRID cells."""
    half = (box.high - box.low) / (2 * GRID)
    return type(box)(box.low + half, box.high - half)


def _pushed(problem: "Problem", transport: "Transport") -> "Callable[[Points], Values] | None":
    """Log-density of the source carried forward: log p(x) - logdet at y = T(x), logdet = log q(x) - log target(y)."""
    from datasets.base import Density

    inverse, log_prob = transport.inverse, transport.log_prob
    source, target = problem.source, problem.target
    if inverse is None or log_prob is None or not (isinstance(source, Density) and isinstance(target, Density)):
        return None

    def pushed(y: "Points") -> "Values":
        x = inverse(y)
        return source.log_prob(x) - log_prob(x) + target.log_prob(y)

    return pushed


def _small(values: "Tensor", dtype: type[np.floating]) -> NDArray[np.floating]:
    limits = np.finfo(dtype)  # the peak of a collapsed density would become inf
    return values.detach().double().cpu().numpy().clip(limits.min, limits.max).astype(dtype)

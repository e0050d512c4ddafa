"""Reading arrays from files that may be missing, truncated or of another kind: one line of DataError for each."""

import gzip
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.splits import Array

IDX_IMAGES = 0x00000803

# what numpy, pandas and h5py raise for files that are truncated or of another kind (a huge shape in a header included)
DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever goes wrong within into a DataError that names `path` and `remedy`."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: {remedy}") from error
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is truncated or not what it should be ({reason}): {remedy}") from error


def read_npy(path: Path) -> Array:
    """The one array of a .npy file."""
    with open(path, "rb") as file:
        return numbers(np.lib.format.read_array(file, allow_pickle=False))


def read_npz(path: Path, name: str) -> Array:
    """The array `name` of a .npz file."""
    with np.load(path, allow_pickle=False) as file:
        return numbers(file[name])


def read_csv(path: Path) -> Array:
    """The numbers of a .csv file below its one line of headings (n, d)."""
    import pandas as pd

    return numbers(pd.read_csv(path, index_col=False).to_numpy())


def read_hdf5(path: Path, names: tuple[str, ...]) -> list[Array]:
    """The arrays `names` of an HDF5 file."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{path} needs h5py to be read: pip install h5py") from error
    with h5py.File(path, "r") as file:
        return [numbers(file[name][()]) for name in names]


def read_idx(path: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The images of a gzipped IDX file (LeCun, Cortes and Burges 1998), `shape` (n, rows, columns). Raises ValueError.

    Big-endian: 0x00000803, n, rows, columns, each in four bytes, then a byte for each pixel. No more is inflated.
    """
    size = math.prod(shape)
    with gzip.open(path) as file:
        head = np.frombuffer(file.read(16), ">i4")
        if len(head) < 4 or head[0] != IDX_IMAGES:
            raise ValueError("not an IDX file of images")
        if tuple(head[1:]) != shape:
            raise ValueError(f"{_images(*head[1:])} where {_images(*shape)} belong")
        pixels = np.frombuffer(file.read(size + 1), np.uint8)
    if len(pixels) != size:
        found = f"more than {size}" if len(pixels) > size else f"{len(pixels)}"
        raise ValueError(f"{found} pixels where {_images(*shape)} belong")
    return pixels.reshape(shape)


def _images(n: int, rows: int, columns: int) -> str:
    return f"{n} images of {rows} x {columns}"


def numbers(array: np.ndarray) -> Array:
    """`array`, if it is a table of numbers (n, d), as floats. Raises ValueError."""
    if array.ndim != 2 or len(array) == 0 or array.dtype.kind not in "fiu":
        raise ValueError(f"not a table of numbers, but {array.dtype} of shape {array.shape}")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


def with_columns(rows: Array, columns: int) -> Array:
    """`rows`, if there are `columns` columns. Raises ValueError."""
    if rows.shape[1] != columns:
        raise ValueError(f"{rows.shape[1]} columns where {columns} belong")
    return rows

"""Read a pickled pandas DataFrame, and nothing else."""

import io
import pickle
from pathlib import Path

from pandas import DataFrame

from datasets.errors import DataError

INDEX = ("pandas", "Index")

# What a frame of numbers is made of: the name in the pickle, where it is today, and where else it was, or is, said
# to be: Python 2 and pandas 0.17 and later wrote the official files.
ADMITTED: dict[str, tuple[tuple[str, str], set[str]]] = {
    "DataFrame": (("pandas", "DataFrame"), {"pandas", "pandas.core.frame"}),
    "BlockManager": (
        ("pandas.core.internals.managers", "BlockManager"),
        {"pandas.core.internals", "pandas.core.internals.managers"},
    ),
    "_unpickle_block": (("pandas._libs.internals", "_unpickle_block"), {"pandas._libs.internals"}),
    "_new_Index": (
        ("pandas.core.indexes.base", "_new_Index"),
        {"pandas.core.index", "pandas.indexes.base", "pandas.core.indexes.base"},
    ),
    "Index": (INDEX, {"pandas", "pandas.core.index", "pandas.indexes.base", "pandas.core.indexes.base"}),
    "Int64Index": (INDEX, {"pandas.core.index", "pandas.indexes.numeric", "pandas.core.indexes.numeric"}),
    "Float64Index": (INDEX, {"pandas.core.index", "pandas.indexes.numeric", "pandas.core.indexes.numeric"}),
    "RangeIndex": (
        ("pandas", "RangeIndex"),
        {"pandas", "pandas.core.index", "pandas.indexes.range", "pandas.core.indexes.range"},
    ),
    "StringDtype": (("pandas", "StringDtype"), {"pandas", "pandas.core.arrays.string_"}),
    "StringArray": (("pandas.arrays", "StringArray"), {"pandas.arrays", "pandas.core.arrays.string_"}),
    "__pyx_unpickle_NDArrayBacked": (
        ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
        {"pandas._libs.arrays"},
    ),
    "_reconstruct": (
        ("numpy._core.multiarray", "_reconstruct"),
        {"numpy.core.multiarray", "numpy._core.multiarray"},
    ),
    "_frombuffer": (("numpy._core.numeric", "_frombuffer"), {"numpy.core.numeric", "numpy._core.numeric"}),
    "ndarray": (("numpy", "ndarray"), {"numpy"}),
    "dtype": (("numpy", "dtype"), {"numpy"}),
    "slice": (("builtins", "slice"), {"builtins", "__builtin__"}),
    "encode": (("_codecs", "encode"), {"_codecs"}),
}


class FrameUnpickler(pickle.Unpickler):
    """An unpickler which finds the ADMITTED names only. Raises UnpicklingError for any other."""

    def find_class(self, module: str, name: str) -> object:
        home, modules = ADMITTED.get(name, (("", ""), set()))
        if module not in modules:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a table of numbers does not need")
        return super().find_class(*home)


def read_frame(path: Path) -> DataFrame:
    """The DataFrame pickled in `path`, by pandas of any age. Raises DataError for anything else."""
    try:
        frame = FrameUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()  # latin1: Python 2's arrays
    except Exception as error:  # a pickle chooses what it raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is refused: {reason}") from error
    if not isinstance(frame, DataFrame):
        raise DataError(f"{path} is refused: it holds a {type(frame).__name__}, not a DataFrame")
    return frame

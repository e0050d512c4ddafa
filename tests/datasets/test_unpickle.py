"""Pickles: data frames of new and of old pandas are read, anything else is refused before it acts."""

import copyreg
import io
import os
import pickle
import struct

import numpy as np
import pandas as pd
import pytest
from pandas.core.indexes.base import _new_Index
from pandas.core.internals import BlockManager

from datasets.errors import DataError
from datasets.unpickle import read_frame

FRAME = pd.DataFrame({"Time": [0.0, 1.0, 2.0], "Meth": [3.0, 4.0, 5.0], "R1": [-1.0, np.pi, 1e300]})
OLD_NAMES = {
    ("pandas", "DataFrame"): "pandas.core.frame",
    ("pandas", "Index"): "pandas.indexes.base",
    ("pandas", "RangeIndex"): "pandas.indexes.range",
    ("pandas.core.indexes.base", "_new_Index"): "pandas.indexes.base",
    ("pandas.core.internals.managers", "BlockManager"): "pandas.core.internals",
    ("numpy._core.multiarray", "_reconstruct"): "numpy.core.multiarray",
}


class Reduced:
    """An object that pickles as it is told."""

    def __init__(self, function, arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)
        self.kind = arguments[0] if function is copyreg.__newobj__ else type(self)

    @property
    def __class__(self):
        return self.kind  # what the pickler compares the first argument of __newobj__ with

    def __reduce_ex__(self, protocol):
        return self.reduced


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its str."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, text):
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def old_pickle(frame):
    """`frame` as pandas 0.18 of Python 2 pickled it: other names, another layout, arrays as str."""
    names = Reduced(_new_Index, (pd.Index, {"data": np.array(list(frame.columns), dtype=object), "name": None}))
    rows = Reduced(_new_Index, (pd.RangeIndex, {"start": 0, "stop": len(frame), "step": 1, "name": None}))
    values = np.ascontiguousarray(frame.to_numpy().T)
    blocks = [{"values": values, "mgr_locs": slice(0, len(values), 1)}]
    state = ([names, rows], [values], [names], {"0.14.1": {"axes": [names, rows], "blocks": blocks}})
    manager = Reduced(copyreg.__newobj__, (BlockManager,), state)
    whole = Reduced(copyreg.__newobj__, (pd.DataFrame,), {"_data": manager, "_typ": "dataframe", "_metadata": []})
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(whole)
    content = buffer.getvalue()
    for (module, name), old in OLD_NAMES.items():
        new = f"c{module}\n{name}\n".encode()
        assert new in content
        content = content.replace(new, f"c{old}\n{name}\n".encode())
    return content


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("index", [None, [7, 8, 9]])
def test_frames_of_this_pandas(tmp_path, protocol, index):
    path = tmp_path / "frame.pickle"
    frame = FRAME if index is None else FRAME.set_axis(index, axis=0)
    path.write_bytes(pickle.dumps(frame, protocol=protocol))
    pd.testing.assert_frame_equal(read_frame(path), frame)


def test_a_frame_of_old_pandas_and_python_2(tmp_path):
    path = tmp_path / "frame.pickle"
    path.write_bytes(old_pickle(FRAME))
    frame = read_frame(path)
    assert list(frame.columns) == list(FRAME.columns)
    np.testing.assert_array_equal(frame.to_numpy(), FRAME.to_numpy())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps(Reduced(os.system, ("touch MARK",))), r"it asks for posix\.system"),
        (pickle.dumps(Reduced(eval, ("open('MARK', 'w')",))), r"it asks for builtins\.eval"),
        (b"cnumpy\ntesting.run\n.", r"it asks for numpy\.testing\.run"),
        (b"cos\nndarray\n.", r"it asks for os\.ndarray"),
        (b"\x80\x04\x8c\x06pandas\x8c\x13DataFrame.from_dict\x93.", r"it asks for pandas\.DataFrame\.from_dict"),
        (pickle.dumps({"Time": [1.0]}), "it holds a dict, not a DataFrame"),
        (pickle.dumps(FRAME)[:-40], "truncated|ran out"),
        (b"", "EOFError|Ran out"),
    ],
)
def test_anything_else_is_refused_in_one_line(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "frame.pickle"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as refused:
        read_frame(path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "MARK").exists()

"""The store of records under any sequence of events, and its readers on anything that a file can hold.

The slow tier reads 15,000 malformed files, 12,000 of them records and archives. With FUZZ_CASES=25000 it was run once,
in November 2026: 25,000 for each reader, and no error but those promised.
"""

import gzip
import io
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bench import attempt, pictures, plan, record
from datasets import download
from datasets.errors import DataError
from tests.bench import fake_records

KEYS = st.integers(0, 3)
CASES = int(os.environ.get("FUZZ_CASES", "3000"))  # of each of the five tests


class Store(RuleBasedStateMachine):
    """Writers, some of which crash between two calls of the system, against a dictionary of what must be read."""

    def __init__(self) -> None:
        super().__init__()
        self.results = Path(tempfile.mkdtemp())
        self.runs = self.results / "runs"
        self.expected: dict[str, Any] = {}
        self.foreign: set[str] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.results)

    @rule(seed=KEYS, reason=st.text(max_size=5))
    def write(self, seed: int, reason: str) -> None:
        made = fake_records.make(seed=seed, reason=reason, trace=[])
        assert record.write(self.runs, made) == (made["key"] not in self.expected)
        self.expected.setdefault(made["key"], made)

    @rule(seed=KEYS, call=st.sampled_from(["fsync", "link", "unlink"]))
    def crash(self, seed: int, call: str) -> None:
        """A process that ends at the call: what it left lies there under a number that is no process's any more."""
        made = fake_records.make(seed=seed, trace=[])
        self.runs.mkdir(exist_ok=True)
        left = self.runs / f"{made['key']}.json.tmp.{record.machine()}.999999999"
        text = record.dumps(made)
        left.unlink(missing_ok=True)
        left.write_text(text[: len(text) // 2] if call == "fsync" else text)
        if call == "unlink" and made["key"] not in self.expected:
            os.link(left, self.runs / f"{made['key']}.json")
            self.expected[made["key"]] = made

    @rule(seed=KEYS, name=st.sampled_from(["7-0", "8-1"]))
    def begin(self, seed: int, name: str) -> None:
        """An attempt writes its checkpoint, and the next one finds it."""
        key = fake_records.make(seed=seed, trace=[])["key"]
        own = self.results / "checkpoints" / f"{key}.{name}.pt"
        record.write_over(own, name.encode())
        plain = attempt.path(self.results, key)
        attempt.adopt(plain)
        assert plain.read_text() in ("7-0", "8-1")

    @rule(content=st.binary(max_size=20))
    def foreigner(self, content: bytes) -> None:
        self.runs.mkdir(exist_ok=True)
        (self.runs / "0123.json").write_bytes(content)
        self.foreign.add("0123.json")

    @rule()
    def resume(self) -> None:
        """What a sweep does first: after it there is nothing in the folder but records and what is not ours."""
        record.sweep_stale(self.runs)
        for key in self.expected:
            attempt.discard(attempt.path(self.results, key))
        if self.runs.exists():
            names = {f"{key}.json" for key in self.expected} | self.foreign
            assert {path.name for path in self.runs.iterdir()} == names
        left = {path.name.split(".")[0] for path in (self.results / "checkpoints").glob("*")}
        assert not left & set(self.expected)

    @invariant()
    def what_is_read_is_what_was_written_first(self) -> None:
        found, problems = record.read_all([self.runs])
        assert {one["key"]: one for one in found} == self.expected
        assert len(problems) == len(self.foreign)


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
fuzz = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def runs(folder: Path) -> Path:
    (folder / "runs").mkdir()
    return folder / "runs"


def read_or_refuse(path: Path) -> None:
    """A record, or a RecordError that names the file, and nothing else."""
    records, problems = record.read_all([path.parent])
    assert len(records) + len(problems) == 1
    assert all(path.name in line for line in problems)
    for one in records:
        record.check(one)
        assert record.line(one), "what is read can be shown"


@pytest.mark.slow
@pytest.mark.timeout(1200)
@fuzz
@given(
    name=st.sampled_from(record.KEYS),
    part=st.sampled_from(["", "solver", "nll", "inverse", "seed", "fit_seconds"]),
    value=plain,
)
def test_records_with_a_wrong_part(runs: Path, name: str, part: str, value: Any) -> None:
    made: dict[str, Any] = fake_records.make(trace=[])
    path = runs / f"{made['key']}.json"
    if part and isinstance(made[name], dict):
        made[name] = {**made[name], part: value}
    else:
        made[name] = value
    path.write_text(json.dumps(made))
    read_or_refuse(path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@fuzz
@given(data=st.data())
def test_records_with_wrong_bytes(runs: Path, data: st.DataObject) -> None:
    made = fake_records.make(trace=[])
    content = bytearray(record.dumps(made).encode())
    path = runs / f"{made['key']}.json"
    path.write_bytes(mutated(content, data))
    read_or_refuse(path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@fuzz
@given(content=st.binary(max_size=40) | plain.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_plan(folder: Path, content: bytes) -> None:
    path = folder / "plan.json"
    path.write_bytes(content)
    with pytest.raises(plan.PlanError, match=r"plan\.json"):
        plan.read(path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@fuzz
@given(data=st.data())
def test_archives_with_wrong_bytes(folder: Path, data: st.DataObject) -> None:
    """bench.pictures reads without pickle; of what is torn the report knows every error."""
    from bench.report.shown import DAMAGED

    whole = folder / "whole.npz"
    if not whole.exists():
        import numpy as np

        np.savez_compressed(whole, box=np.zeros((2, 2)), test=np.zeros((3, 2)), note=np.array(["a"]))
    path = folder / "torn.npz"
    path.write_bytes(mutated(bytearray(whole.read_bytes()), data))
    try:
        pictures.load(path)
    except (ValueError, *DAMAGED):
        pass


@pytest.mark.slow
@pytest.mark.timeout(1200)
@fuzz
@given(data=st.data())
def test_data_archives_with_wrong_bytes(folder: Path, data: st.DataObject) -> None:
    """datasets.download extracts what was asked for, or says in one line why not; nothing lands elsewhere."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("data/power/data.npy", "data/other"):
            info = tarfile.TarInfo(name)
            info.size = 600
            tar.addfile(info, io.BytesIO(b"x" * 600))
    wrong = mutated(bytearray(buffer.getvalue()), data)
    packed = data.draw(st.booleans())  # else the archive is torn, not what it holds
    root, path = folder / "data", folder / "data.tar.gz"
    path.write_bytes(gzip.compress(wrong) if packed else mutated(bytearray(gzip.compress(buffer.getvalue())), data))
    root.mkdir()
    said = ""
    try:
        download._extract(path, ["power/data.npy"], root)
    except DataError as error:
        said = str(error)
    assert not said or (str(path) in said and "\n" not in said)
    names = {str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()}
    assert names <= {"power/data.npy", download.CHECKSUMS, download.LOCK}
    shutil.rmtree(root)


def mutated(content: bytearray, data: st.DataObject) -> bytes:
    """`content` with a few bytes changed, or cut, or with some put in."""
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        match data.draw(st.sampled_from(["change", "cut", "insert", "end"])):
            case "change":
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 20))]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=5))
            case "end":
                del content[at:]
    return bytes(content)

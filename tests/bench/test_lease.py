"""One process at a time has a cell's lease; it goes with its holder, however that ends."""

import errno
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import lease

ROOT = Path(__file__).parents[2]
KEY, OTHER = "fedcba9876543210", "fedcba9876543211"
HOLDER = """
import sys, time
from pathlib import Path
from bench import lease
with lease.hold(Path(sys.argv[1]), sys.argv[2]) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def begin(results: Path, key: str = KEY) -> "subprocess.Popen[str]":
    """A process that holds the lease."""
    command = [sys.executable, "-c", HOLDER, str(results), key]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = begin(tmp_path)
    yield process
    end(process)


def test_one_process_has_it_until_it_is_killed(holder: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert lease.held(tmp_path, KEY)
    assert not lease.held(tmp_path, OTHER)
    with lease.hold(tmp_path, KEY) as mine, lease.hold(tmp_path, OTHER) as other:
        assert (mine, other) == (False, True)
    end(holder)
    assert not lease.held(tmp_path, KEY)
    with lease.hold(tmp_path, KEY) as mine:
        assert mine
    assert [path.name for path in tmp_path.rglob("*")] == [".sweep", "leases"]


def test_it_ends_with_the_block(tmp_path: Path) -> None:
    with lease.hold(tmp_path, KEY):
        pass
    process = begin(tmp_path)
    end(process)


def test_a_look_leaves_nothing(tmp_path: Path) -> None:
    assert not lease.held(tmp_path, KEY)
    assert list(tmp_path.iterdir()) == []


def test_who_looks_for_a_moment_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([BlockingIOError(), PermissionError(), None, *(BlockingIOError() for _ in range(lease.TRIES))])

    def lockf(*given: Any) -> None:
        if (answer := next(answers)) is not None:
            raise answer

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with lease.hold(tmp_path, KEY) as mine:
        assert mine
    with lease.hold(tmp_path, KEY) as mine:
        assert not mine


def test_without_locks_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with lease.hold(tmp_path / "file", KEY) as mine:
        assert mine, "the record will say that nothing can be written there"

    def lockf(*given: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with lease.hold(tmp_path, KEY) as mine:
        assert mine
    assert not lease.held(tmp_path, KEY)

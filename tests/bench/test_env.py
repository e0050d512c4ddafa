import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bench import env


def test_it_is_plain_data_without_host_or_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import json
    import socket

    monkeypatch.setenv("LD_PRELOAD", "/opt/secret/lib/libjemalloc.so.2:/x/liby.so")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    found = env.describe("cpu", "", 2)
    assert found["allocator"] == {"LD_PRELOAD": "libjemalloc.so.2 liby.so", "MALLOC_ARENA_MAX": "1"}
    text = json.dumps(found)
    assert "secret" not in text
    assert str(Path.cwd()) not in text
    assert f'"{socket.gethostname()}"' not in text
    assert set(found["versions"]) >= {"python", "torch", "numpy"}
    assert (found["threads"], found["launcher"], found["slots"]) == (2, "none", 1)


def test_processors_of_one_name_and_different_generations_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"

    def named(model: int) -> str:
        core = f"cpu family\t: 25\nmodel\t\t: {model}\nmodel name\t: AMD EPYC\n"
        path.write_text(f"{core}\n{core}")
        return env.cpu_model(path)

    assert named(1) == "AMD EPYC (family 25, model 1)"
    assert named(1) != named(17)
    path.write_text("model name\t: Some ARM\n")
    assert env.cpu_model(path) == "Some ARM"
    assert env.cpu_model(tmp_path / "none")


ALLOCATE = """
import resource
from bench import env
{keep}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    b"x" * 2**26
work()
before = faults()
work()
print(faults() - before, sorted(env.allocator()))
"""


def allocated(keep: str, **setting: str) -> tuple[int, str]:
    """Page faults of doing something a second time, and what is said of the allocator."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", ALLOCATE.format(keep=keep)],
        cwd=Path(__file__).parents[2], env=variables | setting, capture_output=True, text=True, check=True,
    ).stdout.split(" ", 1)  # fmt: skip
    return int(found[0]), found[1].strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_memory_is_kept_and_the_record_says_so() -> None:
    faults, said = allocated("env.keep_memory()")
    before, unsaid = allocated("")
    assert (said, unsaid) == (str(sorted(env.KEEP_MEMORY)), "[]")
    assert before > 20 * faults
    assert allocated("", **env.KEEP_MEMORY)[0] < before / 20  # what a process that this one starts would do
    assert allocated("env.keep_memory()", MALLOC_ARENA_MAX="1")[1] == "['MALLOC_ARENA_MAX']"


def test_the_launcher_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(env.LAUNCHER, "isolated")
    assert env.describe("cpu", "", 1)["launcher"] == "isolated"


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert env.threads_allowed() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "nonsense")
    assert env.threads_allowed() >= 1


def test_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert env.commit() == {"commit": None, "dirty": None}


def test_the_commit_and_whether_files_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "bench").mkdir()
    monkeypatch.setattr(env, "__file__", str(tmp_path / "bench" / "env.py"))
    (tmp_path / "file").write_text("1")
    git("init", "-q")
    git("add", "file")
    git("commit", "-q", "-m", "first", "--no-verify")
    assert env.commit() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "new").write_text("a user's notes do not count")
    assert env.commit()["dirty"] is False
    (tmp_path / "solvers").mkdir()
    (tmp_path / "solvers" / "mine.py").write_text("a solver that the commit has not")
    assert env.commit()["dirty"] is True
    (tmp_path / "solvers" / "mine.py").unlink()
    assert env.commit()["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert env.commit()["dirty"] is True

import subprocess
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
    (tmp_path / "new").write_text("untracked files do not count")
    assert env.commit()["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert env.commit()["dirty"] is True

"""What the workflows on GitHub may do, and what they run."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import check

FOLDER = Path(__file__).parents[1] / ".github" / "workflows"


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.fixture(params=sorted(path.name for path in FOLDER.iterdir()))
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / request.param).read_text())
    assert isinstance(found, dict)
    return found


def test_it_may_read_the_code_and_nothing_else(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in workflow["jobs"].values())
    checkouts = [step for step in steps(workflow) if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(workflow["jobs"])
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_what_it_uses_is_pinned(workflow: dict[str, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40}", name)] == []
    assert workflow["env"]["LOCKED"] == 1, "make installs from requirements.lock, which has the hashes"


def test_the_slow_tier_and_the_gate_are_run() -> None:
    runs = [step.get("run", "") for step in steps(yaml.safe_load((FOLDER / "ci.yml").read_text()))]
    for target in ("lint", "check-fast", "test", "test-all", "check"):
        assert any(re.search(rf"^make {target}( |$)", run, re.MULTILINE) for run in runs)


def test_a_commit_of_main_is_tested_to_the_end(workflow: dict[str, Any]) -> None:
    of_a_request = "github.event_name == 'pull_request'"
    assert workflow["concurrency"]["cancel-in-progress"] == f"${{{{ {of_a_request} }}}}"
    assert f"{of_a_request} && github.ref || github.sha" in workflow["concurrency"]["group"]


def test_the_gate_s_base_is_a_commit_that_is_there(tmp_path: Path) -> None:
    """GitHub names forty zeros before a new branch, and a commit that nobody has before a rewritten one."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@y"]
    for words in (["init", "-q"], *(["commit", "-q", "--allow-empty", "-m", str(i)] for i in range(3))):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    first = subprocess.run([*git, "rev-parse", "HEAD~2"], cwd=tmp_path, check=True, capture_output=True, text=True)
    (tmp_path / "make").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "make").chmod(0o755)
    gate = yaml.safe_load((FOLDER / "ci.yml").read_text())["jobs"]["gate"]["steps"]
    (script,) = (step["run"] for step in gate if "make check " in step.get("run", ""))
    there = first.stdout.strip()
    for base, taken in ((there, there), (40 * "0", "HEAD~1"), (40 * "d", "HEAD~1"), ("", "HEAD~1")):
        env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "BASE": base}
        said = subprocess.check_output(["bash", "-ec", script], cwd=tmp_path, env=env, text=True)
        assert said == f"check RUN=--against {taken}\n"


def test_the_gate_s_history_outlives_the_runner() -> None:
    gate = yaml.safe_load((FOLDER / "ci.yml").read_text())["jobs"]["gate"]["steps"]
    (cache,) = (step["with"] for step in gate if step.get("uses", "").startswith("actions/cache@"))
    assert cache["path"] == str(check.OUT / "history")
    assert cache["key"].startswith(cache["restore-keys"])

"""What the workflows on GitHub may do, and what they run."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

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
        assert any(re.match(rf"make {target}( |$)", run) for run in runs)

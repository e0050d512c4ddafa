"""docs/extend.md does what it says: its blocks go into a copy of the checkout, and its commands are run there."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.report.tables import significant

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extend.md"
PACKAGES = ("bench", "datasets", "solvers", "hydra_plugins", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str


def blocks(section: str) -> list[Block]:
    """The titled code blocks of the section `section` of the page."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    return [Block(*found) for found in re.findall(r'^```(\w+) title="([^"]+)"\n(.*?)^```$', text, re.M | re.S)]


def patched(text: str, diff: str) -> str:
    """`text` with the lines of `diff` that begin with + put in among those that begin with a space."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] == " ")
    assert text.count(before) == 1, f"not there, or not once: {before}"
    return text.replace(before, "".join(line[1:] for line in lines))


def written(section: str, folder: Path) -> list[str]:
    """Write the section's blocks into a copy of the checkout at `folder`; the commands that it says to run there."""
    for name in PACKAGES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    commands = []
    for block in blocks(section):
        path = folder / block.title
        if block.title == "run":
            commands += block.text.splitlines()
        elif block.language == "diff":
            path.write_text(patched(path.read_text(), block.text))
        else:
            assert not path.exists()
            path.write_text(block.text)
    assert commands
    return commands


def walk(section: str, folder: Path) -> Path:
    """Do what the section says; the folder of the copy."""
    for command in written(section, folder):
        run(command, folder)
    return folder


def run(command: str, folder: Path) -> None:
    program, *words = command.split()
    assert program == ".venv/bin/python"
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"


def record(folder: Path) -> dict:
    (path,) = (folder / "results" / "runs").glob("*.json")
    found = json.loads(path.read_text())
    assert found["status"] == "ok", found["reason"]
    assert all(one["ok"] for one in found["certificates"].values()), found["certificates"]
    return found


@pytest.mark.slow
def test_the_solver_of_the_page_passes_the_contract_and_makes_a_record(tmp_path):
    found = record(walk("A solver", tmp_path))
    assert found["config"]["solver"]["_target_"] == "solvers.standardize.Standardize"
    assert found["metrics"]["inverse_error_max"] < 1e-4
    assert found["metrics"]["nll_gap"] > 0


@pytest.mark.slow
def test_the_dataset_of_the_page_makes_a_record_against_its_truth(tmp_path):
    found = record(walk("A dataset", tmp_path))
    assert found["config"]["dataset"]["_target_"] == "datasets.banana.Banana"
    assert found["metrics"]["nll_gap"] > 0.1  # of a Gaussian
    exact = found["metrics"]["nll"] - found["metrics"]["nll_gap"]
    assert exact == pytest.approx(2.1447, abs=0.05)  # log(2 pi e / 2): the entropy


@pytest.mark.slow
def test_the_metric_of_the_page_is_in_the_record_and_in_the_table(tmp_path):
    folder = walk("A metric", tmp_path)
    gap = record(folder)["metrics"]["mean_gap"]
    assert 0 < gap < 0.1  # two samples of 10,000 points
    heading, _, row = (folder / "results/report/tables/8gaussians.md").read_text().splitlines()[2:5]
    assert "mean gap" in heading
    assert f" {significant(gap)} " in row


@pytest.mark.parametrize("section", ["A solver", "A dataset", "A metric"])
def test_the_code_of_the_page_is_linted_as_ours_is(section, tmp_path):
    written(section, tmp_path)
    touched = " ".join({block.title for block in blocks(section) if block.language in ("python", "diff")})
    run(f".venv/bin/python -m ruff check {touched}", tmp_path)
    run(f".venv/bin/python -m ruff format --check {touched}", tmp_path)

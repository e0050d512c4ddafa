"""The folders are what they say, and the packages are ours."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import datasets

ROOT = Path(__file__).parents[1]
ALLOWED = {"datasets": {"datasets"}, "solvers": {"datasets", "solvers"}}


def test_datasets_is_ours():
    assert Path(datasets.__file__) == ROOT / "datasets/__init__.py"


def test_the_packages_are_never_installed():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"] == []


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_one_way(package):
    for path in (ROOT / package).glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = {name.split(".")[0] for name in names} & {"bench", "solvers", "datasets", "tests"}
            assert ours <= ALLOWED[package], f"{path.name} imports {ours}"


@pytest.mark.parametrize("module", ["bench.report.__main__", "bench.claims", "bench.record", "bench.stats"])
def test_reports_import_neither_torch_nor_solvers_nor_datasets(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'solvers', 'datasets') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""README and the pages of docs/ name what there is, all of it, and quote what the committed records give."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.commandline import Usage
from bench.record import STATUSES
from bench.report import readme

ROOT = Path(__file__).parents[1]
CONF = ROOT / "bench" / "conf"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = {"standardize", "banana"}  # of docs/extend.md, which writes them
GROUPS = ("solver", "dataset", "suite")


def configured(group: str) -> set[str]:
    return {path.stem for path in (CONF / group).glob("*.yaml")}


def first_column(page: str, heading: str) -> set[str]:
    """What stands in code in the first column of the tables below `heading` of a page."""
    (table,) = re.findall(rf"^\| {heading} \|.*?\n((?:\|.*\n)+)", (ROOT / "docs" / page).read_text(), re.M)
    return set(re.findall(r"`([^`]+)`", "".join(row.split("|")[1] for row in table.splitlines())))


RECORDS = readme.REFERENCES / "epyc-2core"


@pytest.fixture
def records(monkeypatch):
    monkeypatch.chdir(ROOT)
    return committed


@functools.cache
def committed(folder):
    return readme.committed(folder)


def test_every_solver_has_its_section_and_no_other():
    sections = re.findall(r"^### (.*)$", (ROOT / "docs" / "solvers.md").read_text(), re.M)
    assert sorted(sections) == sorted(configured("solver"))
    assert first_column("solvers.md", "solver") == configured("solver")


def test_every_dataset_is_in_a_table_and_no_other():
    tables = re.findall(r"^\| dataset \|.*?\n((?:\|.*\n)+)", (ROOT / "docs" / "datasets.md").read_text(), re.M)
    named = re.findall(r"^\| `([^`]+)` \|", "".join(tables), re.M)
    assert sorted(named) == sorted(configured("dataset"))


def test_every_suite_and_every_status_is_explained():
    assert first_column("running.md", "suite") == configured("suite")
    assert first_column("concepts.md", "status") == set(STATUSES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_what_the_commands_name_is_there(page):
    text = page.read_text()
    for group in GROUPS:
        named = {name for names in re.findall(rf"(?<![\w.-]){group}=([\w,]+)", text) for name in names.split(",")}
        assert {name for name in named if name.islower()} <= configured(group) | EXAMPLES, group
    for tuned in re.findall(r"tuned=([a-z0-9_]+)\b(?!_?[A-Z])", text):
        assert tuned in {"none", "otflow_"} or (CONF / "tuned" / f"{tuned}.yaml").exists(), tuned
    for module in re.findall(r"python -m ((?:bench|datasets)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M)) <= targets
    for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_quoted_tables_are_what_the_committed_records_give(page, records):
    text = page.read_text()
    assert text.count("<!-- table:") == text.count("<!-- /table -->") == len(readme.MARKED.findall(text))
    assert readme.renewed(text, records) == text, "run `make report`"


def test_every_quoted_table_has_rows_and_says_where_it_is_from(records):
    quoted = {match[3]: match[2] for page in PAGES for match in readme.MARKED.finditer(page.read_text())}
    assert set(quoted) == set(readme.TABLES)
    for name, folder in quoted.items():
        table = readme.TABLES[name](records(folder))
        assert table.rows, name
        assert name in ("claims", "verdicts") or re.search(r"\d+ records, seeds|Computed on ", table.notes[-1]), name


def test_another_number_or_an_unknown_table_is_not_passed_over(records):
    empty = "before\n<!-- table:epyc-2core/8gaussians -->\n<!-- /table -->\nafter"
    made = readme.renewed(empty, records)
    assert made.startswith("before\n<!-- table:epyc-2core/8gaussians -->\n**8gaussians")
    assert readme.renewed(made.replace("2.84", "2.48"), records) == made == readme.renewed(made, records)
    with pytest.raises(Usage, match="no table nothing: choose from 8gaussians"):
        readme.renewed(empty.replace("8gaussians", "nothing"), records)
    with pytest.raises(Usage, match="no such folder: results/reference/nowhere"):
        readme.renewed(empty.replace("epyc-2core", "nowhere"), records)


def test_records_that_make_no_table_are_a_line_and_no_document_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / RECORDS, RECORDS)
    text = "<!-- table:epyc-2core/8gaussians -->\n<!-- /table -->\n"
    Path("README.md").write_text(text)
    first = min(RECORDS.glob("*.json"))
    said = []
    first.write_text("{")
    assert readme.main() == 1
    said.append(capsys.readouterr().err)
    for path in RECORDS.glob("*.json"):
        if path == first or "EightGaussians" in path.read_text():
            path.unlink()
    assert readme.main() == 1
    said.append(capsys.readouterr().err)
    assert [text.count("\n") for text in said] == [1, 1]
    assert f"{first}: not a record" in said[0]
    assert "8gaussians: there are no records of it" in said[1]
    assert Path("README.md").read_text() == text


def test_every_method_that_the_pages_link_to_can_be_cited():
    linked = {url for page in PAGES for url in re.findall(r"https://arxiv\.org/abs/[\d.]+", page.read_text())}
    cited = re.findall(r'url: "([^"]+)"', (ROOT / "CITATION.cff").read_text())
    assert linked <= set(cited)


def test_the_screenshot_is_there_and_small():
    (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert (ROOT / picture).stat().st_size < 300_000


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="make docs installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "extend.html").exists()

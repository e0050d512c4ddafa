"""What papers are written with: venues, macros, and a document that compiles."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import pyplot as plt

from bench import stats
from bench.report import figures, frame, lint, paper, render, tables
from bench.report.__main__ import main
from bench.report.paper import Section
from bench.report.render import Cell, Table
from bench.report.venues import VENUES
from tests.bench import fake_records as fake

UGLY = "<b>50%_of & {a}^~\\ #1 σ"


@pytest.fixture
def records():
    odd = fake.make("rnode", "moons", status="crash", reason=UGLY)
    void = [fake.make("enot", "moons", seed, failed=["nll_effort"]) for seed in range(3)]
    return [*fake.sweep(3, ["8gaussians", "moons"]), *void, odd]


@pytest.fixture
def group(records):
    (only,) = lint.groups(frame.of(records))
    return only


def sections(group):
    return [Section(group.number, group.title, group.notes, tables.all_of(group, "otflow"), ())]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("otflow nll 8gaussians", "OTFlowNLLEightGaussians"),
        ("otflow speedup train power", "OTFlowSpeedupTrainPower"),
        ("otflow_warm (a) inverse error bsds300", "OTFlowWarmAInverseErrorBSDSThreeZeroZero"),
        ("neural_hjb L2-UVP % w2benchmark d=16", "NeuralHJBLTwoUVPWTwoBenchmarkDOneSix"),
    ],
)
def test_names_are_of_letters_alone(text, name):
    assert paper.name_of(text) == name


def test_every_macro_is_what_its_table_prints_and_no_two_share_a_name(group):
    made = sections(group)
    numbers = paper.macros(made)
    names = [one.name for one in numbers]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[A-Za-z]+", name) for name in names)
    printed = {
        render.tex(f"{table.name}: {label}, {' '.join(column.split())}"): render.tex(str(cell))
        for table in made[0].tables
        for label, cells in table.rows
        for column, cell in zip(table.columns, cells, strict=True)
    }
    for one in numbers:
        assert one.text in (printed[one.source], f"\\textcolor{{gray}}{{{printed[one.source]}}}")


def test_a_speedup_is_the_ratio_that_bench_stats_gives(group):
    texts = {one.name: one.text for one in paper.macros(sections(group))}
    part = group.frame[group.frame["dataset"] == "8gaussians"]
    runs = {solver: part[part["solver"] == solver] for solver in ("otflow", "ffjord")}
    goal = tables.target(part)
    seconds = {solver: tables.times(rows, goal.q, part).seconds for solver, rows in runs.items()}
    found = stats.ratio_of_medians(seconds["ffjord"], seconds["otflow"], np.random.default_rng(0))
    shown = tables.significant(found.value)
    assert texts["OTFlowSpeedupTrainEightGaussians"].startswith(shown)
    assert texts["OTFlowParametersEightGaussians"] == "1,229"
    assert texts["OTFlowFewerParametersEightGaussians"] == "7.51"
    assert "OTFlowSpeedupTrainOverENOTMoons" in texts


def test_what_is_void_is_grey_and_what_is_not_there_has_no_macro(group):
    texts = {one.name: one.text for one in paper.macros(sections(group))}
    assert texts["ENOTNLLMoons"].startswith(r"\textcolor{gray}{")
    assert texts["ENOTNLLMoons"].endswith(r"$^\dagger$}")
    assert not any(name.startswith("RNODE") for name in texts)


def test_a_name_that_is_taken_tells_its_part_and_published_numbers_are_nobodys():
    table = Table("t", "T", "x", ["p", "q"], [("r", (Cell("1", 1.0), Cell("2", 2.0, quoted=True)))],
                  naming=lambda row, column: f"{row} {column}")  # fmt: skip
    found = paper.macros([Section(n, "", (), [table], ()) for n in (1, 2)])
    assert [(one.name, one.text) for one in found] == [("RP", "1"), ("RPPartTwo", "1")]


@pytest.mark.parametrize("venue", VENUES.values(), ids=VENUES)
def test_figures_take_the_width_of_the_venue(venue):
    assert venue.fitted(5.5, 2.0) == pytest.approx((venue.text, 2.0 * venue.text / 5.5))
    width, height = venue.fitted(3.3, 2.0)
    assert width <= venue.column
    assert height / width == pytest.approx(2.0 / 3.3)
    with plt.rc_context():
        figures.use_theme(venue)
        assert plt.rcParams["font.family"] == ["STIXGeneral"]
        assert plt.rcParams["pdf.fonttype"] == 42


def test_a_venue_that_is_none_is_answered_with_those_that_are(tmp_path, capsys):
    fake.store(tmp_path, [fake.make()])
    assert main([f"records={tmp_path}", "paper.venue=nature"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "no venue nature" in line
    assert all(name in line for name in VENUES)


def test_the_document_includes_all_that_is_there_with_balanced_braces(group, tmp_path):
    made = sections(group)
    (tmp_path / "tables").mkdir()
    for table in made[0].tables:
        (tmp_path / "tables" / f"{table.file}.tex").write_text(render.latex(table))
    paper.write(made, VENUES["jmlr"], tmp_path)
    text = (tmp_path / "paper.tex").read_text()
    assert "textwidth=6.0in" in text
    included = re.findall(r"\\input\{([^}]*)\}", text)
    assert len(included) == len(made[0].tables) + 1  # the macros
    assert all((tmp_path / f"{file}.tex").exists() for file in included)
    for path in tmp_path.rglob("*.tex"):
        plain = re.sub(r"\\[{}]", "", path.read_text())
        assert plain.count("{") == plain.count("}"), path


def written(folder, out, venue):
    with plt.rc_context():
        assert main([f"records={folder}", f"out={out}", f"paper.venue={venue}"]) == 0
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_the_paper_includes_what_is_there_is_the_same_again_and_compiles(tmp_path, records):
    folder = fake.store(tmp_path / "runs", records, pictures=True)
    files = written(folder, tmp_path / "a", "icml")
    again = written(folder, tmp_path / "b", "icml")
    assert files.keys() == again.keys()
    assert not [name for name in files if files[name] != again[name]]
    suffixes = {name.suffix for name in files if name.parent.name == "figures"}
    assert {".pdf", ".png", ".svg"} <= suffixes
    assert b"/FontFile2" in files[next(name for name in files if name.name == "quality.pdf")]  # TrueType
    text = (tmp_path / "a" / "paper.tex").read_text()
    for file in re.findall(r"\\input\{([^}]*)\}", text):
        assert (tmp_path / "a" / f"{file}.tex").exists()
    for file in re.findall(r"\{(figures/[^}]*)\}", text):
        assert (tmp_path / "a" / file).exists()
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex: the text is checked, not compiled")
    assert ".pgf" in suffixes
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path / "a", capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout

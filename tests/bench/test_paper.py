"""What papers are written with: venues, macros, and a document that compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

from bench import stats
from bench.report import figures, frame, kernels, lint, panels, paper, render, tables, transport_figures
from bench.report.__main__ import main
from bench.report.paper import Section
from bench.report.render import Cell, Table
from bench.report.venues import VENUES
from bench.report.written import LIST
from tests.bench import fake_records as fake
from tests.bench.test_experiments import ALL

UGLY = "<b>50%_of & {a}^~\\ #1 σħ\x1b"


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
    assert texts["ENOTNLLMoons"].endswith(r"\ensuremath{^\dagger}}")
    assert not any(name.startswith("RNODE") for name in texts)


def of_rows(*labels, number=1, title=""):
    """A part with a table that names each of its numbers, 1, 2, ... by its row."""
    rows = [(label, (Cell(str(i), float(i)), Cell("9", 9.0, quoted=True))) for i, label in enumerate(labels, 1)]
    table = Table("t", "T", "x", ["p", "q"], rows, legend=["±: half"], naming=lambda row, column: row)
    return Section(number, title, (), [table], ())


def named(*parts):
    return [(one.name, one.text) for one in paper.macros(parts)]


def test_names_tell_their_part_where_there_are_several_and_published_numbers_are_nobodys():
    assert named(of_rows("r"), Section(0, "Claims", (), [], ())) == [("R", "1")]
    assert named(of_rows("r"), of_rows("r", number=2)) == [("RPartOne", "1"), ("RPartTwo", "1")]


def test_numbers_that_share_a_name_are_counted_and_none_is_lost():
    found = named(of_rows("a_b", "a b", "a-b", "a b number two", "c"))
    numbers = [("ABNumberOne", "1"), ("ABNumberThree", "2"), ("ABNumberFour", "3"), ("ABNumberTwo", "4"), ("C", "5")]
    assert found == numbers


def test_the_head_of_the_macros_tells_parts_and_signs(group, tmp_path):
    paper.write(sections(group), VENUES["icml"], tmp_path)
    head = [line for line in (tmp_path / "macros.tex").read_text().splitlines() if line.startswith("%")]
    signs = ("[a, b]: the 95", "(k of n): ", r"\ensuremath{\pm} is half", "*: a run", r"\ensuremath{^\dagger}: a cert")
    assert all(any(sign in line for line in head) for sign in signs)
    assert not any("PartOne" in line for line in head)
    unnumbered = Section(0, "Kernels", (), [], ())
    parts = [of_rows("r", title="cpu\nA"), of_rows("r", number=2, title="cpu B"), unnumbered]
    paper.write(parts, VENUES["icml"], tmp_path)
    *head, one, two = (tmp_path / "macros.tex").read_text().splitlines()
    assert all(line.startswith("% ") for line in head)
    assert not any("Kernels" in line for line in head)
    assert {"% PartOne: cpu A", "% PartTwo: cpu B", r"% \ensuremath{\pm}: half"} <= set(head)
    assert (one.split("%")[0], two.split("%")[0]) == (r"\newcommand{\RPartOne}{1} ", r"\newcommand{\RPartTwo}{1} ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ħ\x1b\u200b😀", "U+0127U+001BU+200BU+1F600"),
        ("é µ¾\x85\xad", "é µ¾ U+00AD"),
        ("-61.2 ±0.1†", r"\ensuremath{-}61.2 \ensuremath{\pm}0.1\ensuremath{^\dagger}"),
        ("[a] *", "{}[a] *"),
        ("* a", "{}* a"),
    ],
)
def test_latex_is_given_letters_that_it_has(text, shown):
    assert render.tex(text) == shown


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


def test_all_print_has_a_size_of_the_venue():
    with plt.rc_context():
        figures.use_theme(VENUES["jmlr"])
        drawn = [kernels.DRAW[name](measured) for name, measured in ALL.items()]
        other, axis = plt.subplots()
        panels.blank(axis, "not given")
        transport_figures._published(axis, [2, 4, 8, 16, 32, 64, 128, 256])
        texts = [text for figure in (*drawn, other) for text in figure.findobj(Text) if text.get_text()]
        plt.close(other)
    assert len(texts) > 20
    assert {text.get_fontsize() for text in texts} == {8.8, 7.7}


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


def compiled(path):
    """What pdflatex says of a document that it can set."""
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex")
@pytest.mark.parametrize("venue", ["icml", "jmlr"])
def test_latex_sets_every_letter_that_it_is_given(venue, tmp_path):
    text = render.tex("".join(map(chr, [*range(1, 0x180), *render.TEX, 0x3C3, 0x1F600])))
    lines = [r"\documentclass{article}", VENUES[venue].preamble, r"\begin{document}", text, r"\end{document}"]
    (tmp_path / "all.tex").write_text("\n".join(lines))
    assert "Missing character" not in compiled(tmp_path / "all.tex")


@pytest.mark.slow
def test_the_paper_includes_what_is_there_is_the_same_again_and_compiles(tmp_path, records):
    odd = [fake.make(solver, "[ħ] *moons", floor=-61.0) for solver in ("otflow", "ffjord")]
    folder = fake.store(tmp_path / "runs", [*records, *odd], pictures=True)
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
    there = {name.name for name in files if name.parent.name == "figures"}
    assert any(re.search(r"-img\d+\.png$", name) for name in there), "no rasters beside any .pgf"
    lines = files[Path("figures", LIST)].decode().splitlines()
    assert there - {LIST} == {line.partition("  ")[2] for line in lines}
    assert "Overfull" not in compiled(tmp_path / "a" / "paper.tex")
    numbers = re.findall(r"\\newcommand\{(\\[A-Za-z]+)\}", (tmp_path / "a" / "macros.tex").read_text())
    head = [r"\documentclass{article}\usepackage{xcolor}\input{macros}\begin{document}"]
    formulas = [f"${name}$\n" for name in numbers]
    (tmp_path / "a" / "formulas.tex").write_text("\n".join([*head, *formulas, r"\end{document}"]))
    compiled(tmp_path / "a" / "formulas.tex")

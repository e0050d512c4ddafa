"""The page in a browser: what it computes is what bench.stats computes, and what it shows can be sorted and read."""

import base64
import csv
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bench import stats
from bench.report import explore, frame, lint, page, standing, tables
from bench.report.__main__ import main
from bench.report.build import claims_parts
from bench.report.frame import Curve
from bench.report.options import Options
from bench.report.render import Cell, Table
from tests.bench import fake_records as fake
from tests.bench.test_claims import IDS, SIX, pairs

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results/reference/epyc-2core"


def group(records):
    (only,) = lint.groups(frame.of(records))
    return only


# What it is given


def test_the_staircase_tells_the_time_to_every_target():
    gen = np.random.default_rng(0)
    for n in (1, 2, 3, 40):
        nll = np.round(5 / (1 + np.arange(n)) + gen.normal(scale=0.3, size=n), 2)
        nll[gen.random(n) < 0.1] = math.nan
        curve = Curve(np.arange(n), np.sort(gen.random(n)), nll)
        stairs = explore.staircase(curve)
        assert (np.diff(stairs[:, 1]) < 0).all()
        for target in [*nll[np.isfinite(nll)], -9.0, 9.0]:
            first = next((seconds for seconds, level in stairs if level <= target), None)
            reached = nll <= target
            both = (
                [i for i in range(n - 1) if reached[i] and reached[i + 1]] if n > 1 else list(np.flatnonzero(reached))
            )
            assert first == (curve.seconds[both[0]] if len(both) else None)


def test_a_thinned_curve_keeps_its_ends():
    curve = Curve(np.arange(500), np.arange(1.0, 501), np.arange(500.0))
    points = explore.thinned(curve)
    assert len(points) <= explore.POINTS
    assert points[0].tolist() == [1, 0]
    assert points[-1].tolist() == [500, 499]


def test_a_command_makes_the_cell_again():
    one = fake.make(settings={"hidden": [64, 64], "name": "it's; rm -rf /", "alpha": None}, seed=3)
    data = explore.data(group([one]), "otflow")
    _, seed, *_ = data["runs"][0]
    words = shlex.split(f"{data['commands'][data['runs'][0][6]]} seed={seed}")  # as standing.js puts it
    assert words[:3] == ["python", "-m", "bench.run"]
    assert words[-1] == "seed=3"
    (solver,) = (word for word in words if word.startswith("+solver="))
    assert "hidden:[64,64]" in solver
    assert "alpha:null" in solver
    assert r"name:'it\'s; rm -rf /'" in solver
    assert "version" not in solver
    assert sum(word.startswith("seed=") for word in words) == 1


def test_settings_and_certificates_are_told():
    records = [fake.make(seed=s, settings={"width": w}, floor=w / 100) for s in range(2) for w in (16, 32)]
    records += [fake.make("ffjord", seed=s, failed=["inverse"]) for s in range(2)]
    cells = {cell["label"]: cell for cell in explore.data(group(records), "otflow")["cells"]}
    assert [cells[label]["chosen"] for label in ("otflow (a)", "otflow (b)")] == [True, False]
    assert cells["otflow (a)"]["void"] == []
    assert cells["ffjord"]["void"] == ["mmd", "inverse_error_mean", "sample_seconds"]
    (only,) = explore.data(group([fake.make(failed=["nll_valid"])]), "otflow")["cells"]
    assert only["void"] == ["time"]


def test_a_setting_that_never_ran_is_nobodys_best():
    """Though no setting has a validation: of two without one, the first would be taken."""
    records = [fake.make("enot", settings={"width": 16}, status="unfit", reason="x")]
    records += [fake.make("enot", settings={"width": 32}, status="diverged", reason="x"), fake.make()]
    cells = {cell["label"]: cell["chosen"] for cell in explore.data(group(records), "otflow")["cells"]}
    assert cells == {"otflow": True, "enot (a)": False, "enot (b)": True}


def test_the_page_begins_without_who_would_leave_nothing_to_rank():
    records = fake.sweep(3, ["moons", "8gaussians", "digits"])
    assert explore.data(group(records), "otflow")["aside"] == ["moments"]
    records += [fake.make("otcfm", "moons", seed) for seed in range(3)]
    assert explore.data(group(records), "otflow")["aside"] == ["moments", "otcfm"]
    assert explore.data(group(records), "otcfm")["aside"] == ["moments"], "ratios are over the reference"


def test_the_hardware_of_a_run_is_its_device_or_processor_and_threads():
    plain, card = {"cpu": "Fake CPU 3000"}, {"cpu": "Fake CPU 3000", "device": "cuda Fake GPU"}
    records = [fake.make(seed=seed, env=env) for seed, env in enumerate((plain, {**plain, "threads": 1}, card))]
    (only,) = lint.groups(frame.of(records), ["threads", "device"])
    data = explore.data(only, "otflow")
    told = {key: data["hardware"][at] for _, _, key, *_, at in (run[:8] for run in data["runs"])}
    names = ["Fake CPU 3000, threads 2", "Fake CPU 3000, threads 1", "cuda Fake GPU, threads 2"]
    assert told == {one["key"]: name for one, name in zip(records, names, strict=True)}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(("said", "ended", "good"), [("1 passed", 0, True), ("SKIPPED x", 0, False), ("", 1, False)])
def test_make_test_page_runs_the_slow_tests_and_lets_none_be_skipped(said, ended, good, tmp_path):
    asked = tmp_path / "asked"
    python = f'#!/bin/sh\ncase "$*" in *pytest*) echo "$*" > {asked}; echo "{said}"; exit {ended};; esac\n'
    for name, text in (("python", python), ("chromium", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "ready").touch()
    done = subprocess.run(
        ["make", "test-page", f"BIN={tmp_path}", f"READY={tmp_path}/ready"],
        cwd=ROOT,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == good
    assert said in done.stdout
    assert asked.read_text() == "-m pytest -m  -rs tests/bench/test_page.py\n", "no marker left out"


def test_the_same_records_give_the_same_bytes(tmp_path, capsys):
    fake.store(tmp_path / "runs", fake.sweep(2, ["8gaussians"]), pictures=True)
    for name in "ab":
        assert main([f"records={tmp_path / 'runs'}", f"out={tmp_path / name}"]) == 0
    made = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(made) > 10
    for path in made:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_pictures_have_one_scale_and_heavy_ones_no_more_pixels_than_are_seen(tmp_path):
    def read(pixels):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        found = page.Picture.read(tmp_path / "a.png", "what it shows", 200)
        with Image.open(io.BytesIO(base64.b64decode(found.image))) as image:
            return found.width, image.size

    plain = np.full((300, 700, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, plain.shape, np.uint8)
    assert read(plain) == (pytest.approx(46 * 3.5 / 5.5, abs=0.01), (700, 300))
    width, size = read(noise)
    shown = round(width * page.REM)
    assert size == (shown, round(300 * shown / 700))
    assert read(np.full((10, 1200, 3), 255, np.uint8)) == (46, (1200, 10))


@pytest.mark.parametrize("odd", ["no metrics", "all failed", "unknown keys", "huge", "tiny"])
def test_odd_records_make_a_page_that_says_so(odd, tmp_path, capsys):
    records = [fake.make(solver, seed=s) for solver in ("otflow", "ffjord") for s in range(2)]
    if odd == "no metrics":
        records = [{**one, "metrics": {}, "trace": [], "cost": {}} for one in records]
    if odd == "all failed":
        records = [fake.make(s, status="crash", reason="KeyError: 'y'") for s in ("otflow", "ffjord")]
    if odd == "unknown keys":
        records = [{**one, "metrics": {**one["metrics"], "new": 1.0}, "later": [1]} for one in records]
    if odd in ("huge", "tiny"):
        values = (1e160, 3e160) if odd == "huge" else (1e-200, 3e-200)
        for one, value in zip(records, values * 2, strict=True):
            one["metrics"] |= dict.fromkeys(("nll", "inverse_error_mean", "mmd"), value)
            one["cost"] |= {"evaluate_seconds": value**1.8}
    fake.store(tmp_path / "runs", records)
    assert main([f"records={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]) == 0
    html = (tmp_path / "out" / "index.html").read_text()
    assert f"{len(records)} records" in html
    if odd == "all failed":
        assert html.count("KeyError") >= 2, "in the table of failures"


def test_claims_that_are_measured_come_before_the_fold(tmp_path):
    folder = fake.store(tmp_path / "runs", pairs({name: (24.0, 2.0) for name in SIX}))
    records, _ = frame.load(folder)
    sections = []
    parts = list(claims_parts({folder: records}, Options((folder,), tmp_path), Console(quiet=True), sections, []))
    html = page.render(records, [folder], [], "", [], parts)
    above, fold = html[html.index("<section") :].split("<details", 1)
    told, folded = ({*re.findall(r'<th scope="row">([A-Z]\d)', text)} for text in (above, fold))
    assert "T2" in told
    assert not told & folded
    assert told | folded == IDS
    assert f"<summary>{len(folded)} claims not measurable from these records</summary>" in fold
    assert "Records wanting for" in fold
    (whole,) = (table for table in sections[0].tables if table.name == "claims_runs")
    assert {label[:2] for label, _ in whole.rows if label[0] != "·"} == IDS
    assert (tmp_path / "tables" / "claims_runs.tex").exists()


# In a browser


def visit(tab, url):
    """Opens the page, and waits until its script is through."""
    tab.goto(url)
    tab.wait_for_function("window.report !== undefined")


@pytest.fixture(scope="module")
def records():
    """Five problems; a solver does not reach the target, one fails a certificate, one crashes, one lacks a seed."""
    made = fake.sweep(3, ["8gaussians", "moons", "breast_cancer"])
    made += [fake.make("otflow", "digits", seed, floor=-60.0) for seed in range(3)]
    made += [fake.make("ffjord", "digits", seed, floor=-61.0) for seed in range(2)]
    made += [
        fake.make(solver, "power", seed) for solver, seeds in (("otflow", 3), ("ffjord", 2)) for seed in range(seeds)
    ]
    made += [fake.make("ffjord", "digits", 2, status="crash", reason="<script>alert(1)</script>")]
    made += [fake.make("rnode", "moons", seed, failed=["nll_effort"], pace=0.1) for seed in range(3)]
    return made


@pytest.fixture(scope="module")
def site(browser, records, tmp_path_factory):
    """The page, opened, its records' group, and what its console said."""
    folder = tmp_path_factory.mktemp("page")
    fake.store(folder / "runs", records, pictures=True)
    assert main([f"records={folder / 'runs'}", f"out={folder / 'out'}"]) == 0
    said = []
    tab = browser.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    visit(tab, (folder / "out" / "index.html").as_uri())
    return tab, group(records), said


def slide(tab, value):
    tab.evaluate(
        "value => { const range = document.getElementById('handicap'); range.value = value;"
        " range.dispatchEvent(new Event('input')); }",
        str(value),
    )


@pytest.mark.slow
def test_a_browser_that_cannot_unpack_says_so(browser, site):
    tab = browser.new_page()
    tab.add_init_script("delete window.DecompressionStream")
    tab.goto(site[0].url)
    tab.wait_for_selector("#unread:not([hidden])")
    assert "2023" in tab.inner_text("#unread")
    assert not site[0].is_visible("#unread")


@pytest.mark.slow
def test_no_error_and_no_request(site):
    tab, _, said = site
    for value in (-1, 0, 2):
        slide(tab, value)
    assert said == []
    assert tab.evaluate("performance.getEntriesByType('resource').length") == 0


def target(part, slack):
    goal = tables.target(tables.rivals(part), slack)
    return None if goal is None else goal.q


@pytest.mark.slow
@pytest.mark.parametrize("slack", [-0.5, 0.02, 0.37, 2.0])
def test_the_slider_gives_what_bench_stats_gives(site, slack):
    tab, only, _ = site
    slide(tab, slack)
    for dataset, part in only.frame.groupby("dataset"):
        q = target(part, slack)
        found = tab.evaluate(
            "dataset => { const slack = +document.getElementById('handicap-number').value;"
            " const part = report.parts[0], { q, rows } = report.standing(part, dataset, slack);"
            " return { q, rows: rows.map(r => [r.cell.label, r.seconds, r.reached, r.ratio]) }; }",
            dataset,
        )
        assert found["q"] == pytest.approx(q, rel=1e-6)
        expected = {label: tables.times(runs, q, part) for label, runs in part.groupby("label")}
        middle = {label: np.median(times.seconds) for label, times in expected.items()}
        assert {row[0] for row in found["rows"]} == set(expected)
        for label, seconds, reached, ratio in found["rows"]:
            assert seconds == pytest.approx(middle[label], rel=1e-5)
            assert reached == expected[label].reached.sum()
            compared = math.nan if dataset == "power" else middle[label] / middle["otflow"]  # its seeds differ
            assert ratio == pytest.approx(compared, rel=1e-5, nan_ok=True)


def matrix(only, problems, solvers, slack):
    """Median seconds to the target, (solvers, problems), inf where a run does not reach it or a certificate fails."""
    rows = []
    for solver in solvers:
        row = []
        for dataset in problems:
            part = only.frame[only.frame["dataset"] == dataset]
            runs = part[part["solver"] == solver]
            times = tables.times(runs, target(part, slack), part)
            solved = times.reached.all() and not tables.is_void(runs, explore.TIME.voided_by)
            row.append(np.median(times.seconds) if solved else math.inf)
        rows.append(row)
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.parametrize("slack", [0.02, 1.0])
def test_ranks_means_and_profiles_are_those_of_bench_stats(site, slack):
    tab, only, _ = site
    slide(tab, slack)
    found = tab.evaluate(
        "slack => { const part = report.parts[0]; part.hidden = new Set(['moments', 'rnode']);"
        " const all = report.across(part, slack); return { ...all, profile: report.profile(all.seconds) }; }",
        slack,
    )
    assert found["solvers"] == ["otflow", "ffjord"]
    assert found["problems"] == ["8gaussians", "breast_cancer", "digits", "moons"], "all but power"
    seconds = matrix(only, found["problems"], found["solvers"], slack)
    shown = np.array([[math.inf if x is None else x for x in row] for row in found["seconds"]], float)
    np.testing.assert_allclose(shown, seconds, rtol=1e-5)
    ranks = stats.mean_ranks(seconds, np.random.default_rng(0))
    assert found["ranks"] == pytest.approx([rank.value for rank in ranks])
    for i, steps in enumerate(found["profile"]):
        shares = stats.performance_profile(seconds, np.array([tau * (1 + 1e-5) for tau, *_ in steps]))
        assert shares[i] == pytest.approx([height for _, height, _ in steps])
    taken = [seconds_of_both(only, dataset, slack) for dataset in found["problems"]]
    expected = stats.geometric_mean_ratio(*zip(*taken, strict=True), np.random.default_rng(0))
    assert found["geometric"][1] == pytest.approx(expected, rel=1e-5)
    assert found["geometric"][0][0] == 1


@pytest.mark.slow
def test_the_page_begins_by_ranking_whom_the_figures_rank(browser, records, tmp_path):
    """And a solver that is hidden takes no rank: at this target moments reaches q too."""
    fake.store(tmp_path / "runs", records)
    assert main([f"records={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]) == 0
    tab = browser.new_page()
    visit(tab, (tmp_path / "out" / "index.html").as_uri())
    found = standing.of(group(records), "otflow")
    assert acrossed(tab)["solvers"] == list(found.solvers)
    assert acrossed(tab)["problems"] == list(found.problems)
    rows = tab.evaluate(
        "report.standing(report.parts[0], 'moons', 2).rows.filter(row => !report.parts[0].hidden.has(row.cell.solver))"
        ".map(row => row.rank)"
    )
    assert sorted(rank for rank in rows if rank is not None) == [1, 2]


def seconds_of_both(only, dataset, slack):
    """Of ffjord and otflow, runs that do not reach the target penalised."""
    part = only.frame[only.frame["dataset"] == dataset]
    q = target(part, slack)
    a, b = (tables.times(part[part["solver"] == name], q, part).seconds for name in ("ffjord", "otflow"))
    return a, b


@pytest.mark.slow
def test_tables_sort_and_filter(site):
    tab, only, _ = site
    first = "#part1-explore details"
    tab.click(f"{first} summary")
    seeds = lambda: tab.eval_on_selector_all(f"{first} tbody tr", "rows => rows.map(r => r.cells[2].textContent)")  # noqa: E731
    tab.click(f"{first} th:nth-child(3) button")
    assert seeds() == sorted(map(str, only.frame["seed"]))
    tab.click(f"{first} th:nth-child(3) button")
    assert seeds() == sorted(map(str, only.frame["seed"]), reverse=True)
    assert tab.get_attribute(f"{first} th:nth-child(3)", "aria-sort") == "descending"
    tab.keyboard.press("/")
    tab.keyboard.type("rnode moons")
    assert len(seeds()) == 3
    static = tab.eval_on_selector_all(
        "table[data-name='moons'] tbody tr", "rows => rows.filter(r => !r.hidden).map(r => r.cells[0].textContent)"
    )
    assert static == []  # none of its rows says moons
    tab.fill("#filter", "")
    tab.click("table[data-name='moons'] th:nth-child(3) button")
    values = tab.eval_on_selector_all(
        "table[data-name='moons'] tbody tr", "rows => rows.map(r => +r.cells[2].dataset.v).filter(Number.isFinite)"
    )
    assert len(values) == 4
    assert values == sorted(values)


@pytest.mark.slow
def test_a_fold_is_open_while_the_filter_finds_a_row_of_it(site):
    tab, _, _ = site
    fold = "details.printed"
    name = tab.text_content(f"{fold} tbody th")
    for words, seen in ((name, True), ("no such row", False), (name, True), ("", False)):
        tab.fill("#filter", words)
        assert tab.is_visible(f"{fold} tbody th") == seen


@pytest.mark.slow
def test_what_is_folded_opens_by_key_and_in_print(site):
    tab, _, _ = site
    fold, runs = "details.printed", "#part1-explore details"
    assert not tab.is_visible(f"{fold} table")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.is_visible(f"{fold} table")
    assert not tab.is_visible(runs)
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.emulate_media(media="screen")
    for seen in (True, False):
        tab.focus(f"{fold} summary")
        tab.keyboard.press("Enter")
        assert tab.is_visible(f"{fold} table") == seen


@pytest.mark.slow
def test_numbers_of_runs_are_those_of_the_records(site, records):
    tab, _, _ = site
    found = {key: number for key, number in tab.evaluate("report.parts[0].runs.map(run => [run.key, run.number])")}
    one = next(r for r in records if r["status"] == "ok")
    shown = found[one["key"]]
    assert shown["nll"] == pytest.approx(one["metrics"]["nll"], rel=1e-5)
    assert shown["parameters"] == one["cost"]["parameters"]
    assert shown["step_ms"] == pytest.approx(1e3 * one["cost"]["seconds_per_step"], rel=1e-5)


@pytest.mark.slow
def test_hover_and_keys_tell_of_a_point_and_enter_copies_its_command(site):
    tab, _, _ = site
    svg = "#part1-explore svg >> nth=0"
    tab.focus(svg)
    tab.keyboard.press("ArrowRight")
    assert "record" in tab.inner_text("#part1-explore .tip.shown")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#toast.shown")
    assert re.match(r"Copied: python -m bench\.run .* seed=\d+", tab.inner_text("#toast"))


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "within"), [(1, 1e-5), (2, 1e-4), (3, 1e-4), (4, 1e-4), (7, 0.08), (10, 0.08)])
def test_ratios_have_the_intervals_of_bench_stats(opened, seeds, within):
    """Below five seeds by the same formula, from there on by other draws of the same resamples."""
    paces = np.random.default_rng(1).lognormal(sigma=0.3, size=(2, seeds))

    def trace(pace: float) -> list[dict[str, float]]:
        return [
            {"step": i, "seconds": i * pace, "loss": 3 - i / 9, "valid_nll": 3 - min(i, 7) / 9} for i in range(1, 9)
        ]

    solvers = enumerate(("otflow", "ffjord"), 1)
    records = [
        fake.make(name, seed=seed, trace=trace(i * paces[i - 1, seed].item()))
        for i, name in solvers
        for seed in range(seeds)
    ]
    tab = opened(records)
    rows = tab.evaluate(
        "report.standing(report.parts[0], '8gaussians', 0.02).rows.map(r => [r.cell.label, r.ratio, ...r.interval()])"
    )
    found = {label: interval for label, *interval in rows}
    taken = seconds_of_both(group(records), "8gaussians", 0.02)
    expected = stats.ratio_of_medians(*taken, np.random.default_rng(0))
    if seeds < tables.MIN_SEEDS:
        expected = (expected.value, math.nan, math.nan)
    assert found["ffjord"] == pytest.approx(expected, rel=within, nan_ok=True)
    assert found["otflow"] == pytest.approx([1, math.nan, math.nan], nan_ok=True), "the reference itself"
    cell = "table:has(caption:has-text('8gaussians: target q')) tr:has(th:text-is('ffjord')) td:nth-child(4)"
    assert re.fullmatch(r"[\d.]+( \[[\d.]+, [\d.]+\])?", tab.inner_text(cell))
    assert ("[" in tab.inner_text(cell)) == (seeds >= tables.MIN_SEEDS)


@pytest.mark.slow
def test_a_step_of_a_profile_tells_the_problems_and_the_records_behind_it(opened):
    """The reference is the fastest on both problems, so its profile has one step, of both."""
    fast = [fake.make("otflow", name, seed, pace=0.1) for name in "ab" for seed in range(3)]
    tab = opened([*fast, *(fake.make("ffjord", name, seed) for name in "ab" for seed in range(3))])
    figure = "#part1-explore figure:has(figcaption:has-text('Performance profile'))"
    tab.focus(f"{figure} svg")
    for _ in range(2):  # the first point is the foot of the step
        tab.keyboard.press("ArrowRight")
    told = tab.inner_text(f"{figure} .tip.shown").splitlines()
    assert told[0] == "otflow"
    keys = {one["key"]: one["config"]["seed"] for one in fast}
    for problem, line in zip("ab", told[3:5], strict=True):
        found = re.fullmatch(rf"{problem}: [\d.]+ s; median of 3; the nearest: seed (\d), ok, record (\w+)", line)
        assert keys[found[2]] == int(found[1])
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#toast.shown")
    assert len(re.findall(r"python -m bench\.run .*? seed=\d", tab.inner_text("#toast"))) == 2


@pytest.mark.slow
def test_the_mouse_finds_the_record_of_a_point_on_the_pareto_front(opened):
    tab = opened(both("a"))
    figure = tab.locator("#part1-explore figure:has(figcaption:has-text('Pareto'))")
    figure.scroll_into_view_if_needed()
    assert figure.locator("path.faint").count() == 1, "the front is drawn"
    for mark in figure.locator("path.mark").all():
        box = mark.bounding_box()
        tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert "on the front; median of 3; the nearest: seed" in figure.locator(".tip.shown").inner_text()
        tab.mouse.down()
        tab.mouse.up()
        tab.wait_for_selector("#toast.shown:has-text('Copied: python -m bench.run')")


def shown(tab, caption):
    """The rows of a table of the page, by their first cell."""
    rows = tab.eval_on_selector_all(
        f"table:has(caption:has-text('{caption}')) tbody tr",
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))",
    )
    return {name: cells for name, *cells in rows}


@pytest.mark.slow
@pytest.mark.parametrize("by", ["handicap", "handicap-number"])
def test_what_is_across_problems_follows_the_slider(opened, by):
    """At 0.02 nat rnode is the fastest on b alone, at 2 nat on both: ranks, ratios, counts and profiles say so."""
    paces = {"a": (1.0, 1.0, 1.0), "b": (1.0, 0.5, 0.25)}
    records = [
        fake.make(solver, name, seed, pace=pace, floor=3.0 + 0.3 * (solver == "ffjord" and name == "a"))
        for name, own in paces.items()
        for solver, pace in zip(("otflow", "ffjord", "rnode"), own, strict=True)
        for seed in range(3)
    ]
    tab = opened(records)
    profile = "#part1-explore figure:has(figcaption:has-text('Data profile')) table tr"
    before = shown(tab, "Across problems"), tab.locator(profile).all_inner_texts()
    for value in (1.7, 0.02):
        tab.evaluate(
            "([id, value]) => { const input = document.getElementById(id); input.value = value;"
            " input.dispatchEvent(new Event('input')); }",
            [by, str(value)],
        )
        found = tab.evaluate("value => report.across(report.parts[0], value)", value)
        rows = shown(tab, "Across problems")
        for i, solver in enumerate(found["solvers"]):
            assert float(rows[solver][0]) == pytest.approx(found["ranks"][i], rel=5e-3)
            assert rows[solver][2].startswith(f"{found['geometric'][i][0]:.3g}"[:3])
        after = rows, tab.locator(profile).all_inner_texts()
        assert (after == before) == (value == 0.02)


@pytest.mark.slow
def test_parts_out_of_sight_follow_when_the_slider_rests_is_scrolled_or_printed(browser, tmp_path):
    records = [*both("a"), *both("b", env={"threads": 7}), *both("c", env={"threads": 9})]
    fake.store(tmp_path / "runs", records)
    assert main([f"records={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]) in (0, 2)
    tab = browser.new_page(viewport={"width": 1000, "height": 500})
    visit(tab, (tmp_path / "out" / "index.html").as_uri())
    last = "#part3-explore caption:has-text('target q')"
    q = lambda: float(re.search(r"q = (-?[\d.]+)", tab.locator(last).text_content())[1])  # noqa: E731
    first = q()
    slide(tab, 1.02)
    assert q() == first, "not at once"
    tab.wait_for_timeout(1000)
    assert q() == pytest.approx(first + 1, abs=2e-3)
    slide(tab, 0.02)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert q() == pytest.approx(first, abs=2e-3)
    slide(tab, 1.02)
    tab.evaluate("document.getElementById('part3-explore').scrollIntoView(); dispatchEvent(new Event('scroll'))")
    assert q() == pytest.approx(first + 1, abs=2e-3)


@pytest.mark.slow
def test_a_page_in_the_dark_prints_black_on_white(browser, tmp_path):
    fake.store(tmp_path / "runs", fake.sweep(1, ["moons"]))
    assert main([f"records={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]) == 0
    tab = browser.new_page(color_scheme="dark")
    visit(tab, (tmp_path / "out" / "index.html").as_uri())
    dark = lambda: tab.get_attribute("html", "data-theme") == "dark"  # noqa: E731
    assert dark()
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not dark()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert dark()


@pytest.mark.slow
def test_what_is_void_is_grey_and_no_zero_of_the_quality_chart(opened):
    worse = [fake.make("rnode", "a", seed, floor=-5.0, failed=["density_integral"]) for seed in range(3)]
    tab = opened([*both("a"), *worse])
    figure = "#part1-explore figure:has(figcaption:has-text('validation NLL'))"
    values = tab.eval_on_selector_all(
        f"{figure} table tbody tr", "rows => rows.map(r => [r.cells[0].textContent, +r.cells[2].textContent])"
    )
    assert min(value for name, value in values if name == "ffjord") == 0.01
    assert {name for name, _ in values} == {"otflow", "ffjord", "rnode†"}
    rows = shown(tab, "Across problems")
    assert rows["rnode†"][1] == "0 of 1, 1 void"
    assert rows["otflow"][1] == "1 of 1"


@pytest.mark.slow
def test_survivors_and_baselines_are_not_on_the_pareto_front(opened):
    few = [fake.make("rnode", "a", 0, floor=2.0)]
    few += [fake.make("rnode", "a", seed, status="diverged", reason="x") for seed in (1, 2)]
    good = [fake.make("constant", "a", seed, floor=1.0, cost={"parameters": 1}) for seed in range(3)]
    tab = opened([*both("a"), *few, *good])
    for chip in tab.locator(".chip[aria-pressed=false]").all():
        chip.click()
    svg = "#part1-explore figure:has(figcaption:has-text('Pareto')) svg"
    tab.focus(svg)
    told = {}
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
        name, *_, text, _ = tab.inner_text("#part1-explore .tip.shown").splitlines()
        told[name] = text
    assert {name for name, text in told.items() if "on the front" in text} == {"otflow", "ffjord"}
    assert "1 of 3 runs ended ok" in told["rnode"]


@pytest.mark.slow
def test_work_and_precision_tell_the_effort_and_the_record(opened):
    points = [{"effort": e, "seconds": 0.5 * e, "error": 1e-4 / e} for e in (0.5, 1.0, 2.0)]
    cost = {"work_precision": points, "accurate_rows": 500, "accurate_seconds": 0.25, "accurate_effort": 0.5}
    tab = opened([fake.make("otflow", "a", seed, cost=cost) for seed in range(2)] + [fake.make("ffjord", "b")])
    figure = "#part1-explore figure:has(figcaption:has-text('fine integration'))"
    tab.focus(f"{figure} svg")
    tab.keyboard.press("ArrowRight")
    name, seconds, error, text, _ = tab.inner_text(f"{figure} .tip.shown").splitlines()
    assert (name, seconds, error) == ("otflow", "seconds for 1,000 points: 0.500", "error (nat): 2.0e-4")
    assert re.fullmatch(r"0\.5 times its own effort; seed 0, ok, record \w+", text)
    assert tab.locator(f"{figure} path.line").count() == 2
    tab.select_option("#part1-explore select >> nth=0", "b")
    assert not tab.is_visible(figure)


def test_every_setting_has_curves_however_many_runs_there_are(monkeypatch):
    monkeypatch.setattr(explore, "CURVES", 8)
    records = [fake.make(solver, name, seed) for solver in ("otflow", "ffjord") for name in "ab" for seed in range(5)]
    data = explore.data(group(records), "otflow")
    lengths = np.diff(data["curves"]["ends"], prepend=0)
    cells = np.array([run[0] for run in data["runs"]])
    assert [int((lengths[cells == i] > 0).sum()) for i in range(4)] == [2, 2, 2, 2]


@pytest.mark.slow
def test_a_moved_slider_redraws_the_standing(site):
    tab, _, _ = site
    caption = "#part1-explore caption:has-text('target q')"
    slide(tab, 0.02)
    before = tab.inner_text(caption)
    slide(tab, 1.5)
    q = [float(re.search(r"q = (-?[\d.]+)", text)[1]) for text in (before, tab.inner_text(caption))]
    assert q[1] - q[0] == pytest.approx(1.48, abs=2e-3)


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.exists(), reason="needs the committed reference records")
def test_the_page_of_the_reference_records_is_light_and_quiet(browser, tmp_path, capsys):
    folders = ",".join(str(folder) for folder in sorted(REFERENCE.parent.iterdir()) if folder.is_dir())
    assert main([f"records={folders}", f"out={tmp_path}"]) in (0, 2)
    page = tmp_path / "index.html"
    records = sum(1 for _ in REFERENCE.parent.glob("*/*.json"))
    assert page.stat().st_size < 5_200 * records  # 3 MB for the first three folders
    said = []
    tab = browser.new_page(color_scheme="dark")
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    visit(tab, page.as_uri())
    assert said == []
    assert tab.get_attribute("html", "data-theme") == "dark"
    assert tab.evaluate("report.parts.length") >= 1


# On pages of a few records


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of records, and of tables beside them, without figures; fails where the console says anything."""
    said = []

    def show(records, shown: Sequence[Table] = ()):
        only = group(records)
        part = page.Part("part1", only.title, (), shown, (), explore.data(only, "otflow"))
        (tmp_path / "a.html").write_text(page.render(only.frame, [tmp_path], [], "", [], [part]), encoding="utf-8")
        tab = browser.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        visit(tab, (tmp_path / "a.html").as_uri())
        return tab

    yield show
    assert said == []


def stood(tab, dataset):
    """Of each label: rank, ratio and whether the ratio is void."""
    rows = tab.evaluate(
        "dataset => report.standing(report.parts[0], dataset, 0.02).rows"
        ".map(row => [row.cell.label, row.rank, row.ratio, row.ratioVoided])",
        dataset,
    )
    return {label: tuple(found) for label, *found in rows}


def acrossed(tab):
    return tab.evaluate("report.across(report.parts[0], 0.02)")


def both(dataset, **settings):
    """otflow, small and good, and ffjord, large and better, three seeds each: both are on the Pareto front."""
    made = [fake.make("otflow", dataset, seed, floor=3.02, **settings) for seed in range(3)]
    return made + [fake.make("ffjord", dataset, seed, floor=3.001) for seed in range(3)]


@pytest.mark.slow
def test_nothing_is_ranked_where_the_tables_rank_nothing_and_why_is_said(opened):
    tab = opened([*both("a"), *both("b"), fake.make("ffjord", "b", 3, floor=3.001)])
    pareto = "#part1-explore figure:has(figcaption:has-text('Pareto'))"
    assert {rank for rank, _, _ in stood(tab, "a").values()} == {1, 2}
    assert tab.locator(f"{pareto} path.faint").count() == 1
    assert all(math.isnan(rank) and math.isnan(ratio) for rank, ratio, _ in stood(tab, "b").values())
    assert acrossed(tab)["problems"] == ["a"]
    tab.select_option("#part1-explore select >> nth=0", "b")
    assert "Not ranked: runs differ in seeds." in tab.inner_text("caption:has-text('b: target q')")
    assert "not ranked: b (runs differ in seeds)" in tab.inner_text("caption:has-text('Across problems')")
    assert "no Pareto front, as runs differ in seeds" in tab.inner_text(f"{pareto} figcaption")
    assert tab.locator(f"{pareto} path.faint").count() == 0


@pytest.mark.slow
def test_what_has_fewer_seeds_than_two_others_is_shown_and_ranked_against_nobody(opened):
    tab = opened([*both("a"), *both("b"), *(fake.make("cfm", name, floor=3.0) for name in "ab")])
    for _ in range(2):  # put aside, and shown
        found = stood(tab, "a")
        assert [found[name][0] for name in ("ffjord", "otflow")] in ([1, 2], [2, 1])
        assert all(map(math.isnan, found["cfm"][:2]))
        tab.locator(".chip", has_text="cfm").click()
    tab.locator(".chip", has_text="cfm").click()
    assert acrossed(tab)["problems"] == [], "it has not run as others have"
    assert "Not ranked, as others have more seeds: cfm." in tab.inner_text("caption:has-text('a: target q')")


@pytest.mark.slow
def test_a_problem_without_a_target_is_left_out_by_name_and_survivors_make_no_front(opened):
    few = [one for one in both("b") if one["config"]["seed"] == 0]
    few += [fake.make(name, "b", seed, status="crash", reason="x") for name in ("otflow", "ffjord") for seed in (1, 2)]
    tab = opened([*both("a"), *few])
    assert acrossed(tab)["problems"] == ["a"]
    assert "not ranked: b (no target q)" in tab.inner_text("caption:has-text('Across problems')")
    tab.select_option("#part1-explore select >> nth=0", "b")
    assert "no target q" in tab.inner_text("caption:has-text('b: no target')")
    figure = "figure:has(figcaption:has-text('Pareto'))"
    assert tab.locator(f"{figure} path.mark").count() == 2
    assert tab.locator(f"{figure} path.faint").count() == 0


@pytest.mark.slow
def test_a_void_reference_voids_the_ratios_to_it(opened):
    tab = opened([*both("a", failed=["nll_effort"]), *both("b")])
    assert [void for _, _, void in stood(tab, "a").values()] == [True, True]
    assert [void for _, _, void in stood(tab, "b").values()] == [False, False]
    found = acrossed(tab)
    assert found["problems"] == ["a", "b"]
    assert found["counts"] == [1, 1]
    assert found["geometric"][1][0] == pytest.approx(stood(tab, "b")["ffjord"][1])
    row = "table:has(caption:has-text('a: target q')) tr:has(th:text-is('ffjord')) td:nth-child(4)"
    assert tab.inner_text(row).endswith("†")
    assert tab.get_attribute(row, "class") == "void"


@pytest.mark.slow
def test_what_never_ran_is_no_failure(opened):
    never = [fake.make("rnode", "b", seed, status="unfit", reason="for a alone") for seed in range(3)]
    never += [fake.make("enot", name, 0, status="not_installed", reason="x") for name in "ab"]
    tab = opened([*both("a"), *both("b"), *(fake.make("rnode", "a", seed) for seed in range(3)), *never])
    assert set(stood(tab, "b")) == {"otflow", "ffjord"}
    found = acrossed(tab)
    assert (found["solvers"], found["problems"]) == (["otflow", "ffjord"], ["a", "b"]), "rnode is put aside"
    tab.locator(".chip", has_text="rnode").click()
    found = acrossed(tab)
    assert (found["solvers"], found["problems"]) == (["otflow", "ffjord", "rnode"], ["a"])
    assert tab.locator(".chip").all_inner_texts() == ["otflow", "ffjord", "rnode"]
    listed = tab.evaluate("report.parts[0].runs.map(run => run.status)")
    assert (listed.count("unfit"), listed.count("not_installed")) == (3, 2), "they are in the list of runs"
    opened([fake.make("enot", name, 0, status="unfit", reason="x") for name in "ab"])  # and that alone is a page


@pytest.mark.slow
def test_a_worse_setting_and_a_solver_of_fewer_seeds_set_no_target(opened):
    records = [fake.make(solver, "a", seed, floor=2.8) for solver in ("otflow", "ffjord") for seed in range(3)]
    narrow = [fake.make("otflow", "a", seed, floor=4.0, settings={"width": 4}) for seed in range(3)]
    tab = opened([*records, *narrow, fake.make("rnode", "a", 0, floor=5.0)])
    q = tab.evaluate("report.target(report.parts[0], 'a', 0.02)")
    assert q == pytest.approx(target(group(records).frame, 0.02))
    assert q < 3.0


@pytest.mark.slow
def test_what_a_certificate_voids_sets_no_target(opened):
    worse = [fake.make("rnode", "a", seed, floor=4.0, failed=["density_integral"]) for seed in range(3)]
    records = [*both("a"), *worse]
    tab = opened([*records, *(fake.make("otflow", "b", seed, failed=["nll_effort"]) for seed in range(3))])
    q = lambda name: tab.evaluate("name => report.target(report.parts[0], name, 0.02)", name)  # noqa: E731
    assert q("a") == pytest.approx(target(group(records).frame, 0.02))
    assert q("a") < 3.5
    assert q("b") is None


def saved(tab, button):
    """What a click on a CSV button saves."""
    with tab.expect_download() as found:
        tab.click(button)
    return Path(found.value.path()).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_saved_table_has_its_marks(opened):
    cells = [(Cell("12.3*\n(2 of 3)", 12.345), Cell("1,229", 1229.0), Cell("2.9 ±0.1", 2.91, void=True))]
    cells += [(Cell("best 2.5*"), Cell("5", 5.0), Cell("3.1", 3.1))]
    rows = list(zip(("otflow", "ffjord, fast"), cells, strict=True))
    table = Table("some", "Some", "solver", ["seconds\nto q", "params", "NLL"], rows)
    tab = opened([*both("a", failed=["nll_effort"])], [table])
    assert saved(tab, ".block button.quiet").splitlines() == [
        "solver,seconds to q,seconds to q shown,params,NLL,NLL shown",
        "otflow,12.345,12.3* (2 of 3),1229,2.91,2.9 ±0.1†",
        '"ffjord, fast",,best 2.5*,5,3.1,3.1',
    ]
    tab.click("#part1-explore summary")
    runs = list(csv.DictReader(io.StringIO(saved(tab, "#part1-explore details button.quiet"))))
    assert len(runs) == 6
    assert all(float(run["test NLL (nat)"]) > 3 for run in runs)
    assert {run["solver"] for run in runs if run["test NLL (nat) shown"].endswith("†")} == {"otflow"}
    assert {run["hardware"] for run in runs} == {"Fake CPU 3000, threads 2"}


def test_nothing_of_a_record_ends_the_script(tmp_path, capsys):
    bad = fake.make("ffjord", "</script><b>", status="crash", reason="</script><script>alert(1)</script>")
    fake.store(tmp_path / "runs", [fake.make(), bad])
    assert main([f"records={tmp_path / 'runs'}", f"out={tmp_path / 'out'}"]) == 0
    html = (tmp_path / "out" / "index.html").read_text()
    data = re.findall(r'<script type="application/octet-stream">([\w+/=]*)</script>', html)
    told = [json.loads(zlib.decompress(base64.b64decode(text))) for text in data]
    assert any("alert(1)" in json.dumps(part) for part in told)
    assert html.count("<script") == len(data) + 1

import hashlib
import io
import json
import math
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from rich.console import Console
from scipy.stats import ttest_ind

from bench import names, record, stats
from bench.report import (
    build,
    drawing,
    explore,
    figures,
    frame,
    gallery,
    glance,
    lint,
    quality,
    render,
    shown,
    styles,
    tables,
    written,
)
from bench.report.__main__ import main
from bench.report.options import Options, parse
from bench.report.render import slug
from tests.bench import fake_records as fake

UGLY = "<script>alert(1)</script> 50%_of & [bold]x[/bold] \x1b[2J\nsecond line | {a}"


def group(records, *allowed):
    (only,) = lint.groups(frame.of(records), allowed)
    return only


def cells(table):
    """{row label: {column heading on one line: cell}}"""
    return {
        label: {" ".join(name.split()): cell for name, cell in zip(table.columns, row, strict=True)}
        for label, row in table.rows
    }


def flat_run(solver, seed, seconds, *, floor=1.0, **more):
    """A run that validates at 9 before `seconds`, then three times at `floor`, a second apart."""
    entries = [(1, 0.5 * seconds, 9.0)] + [(2 + i, seconds + i, floor) for i in range(3)]
    trace = [{"step": s, "seconds": t, "valid_nll": v} for s, t, v in entries]
    return fake.make(solver, more.pop("dataset", "8gaussians"), seed, trace=trace, floor=floor, **more)


def three(solver, seconds, **more):
    return [flat_run(solver, seed, s, **more) for seed, s in enumerate(seconds)]


def test_settings_that_differ_between_parts_have_letters_in_neither():
    """FFJORD by the adjoint for 60 seconds beside FFJORD for 90: two parts, each with one setting of it."""
    budgets = {60: True, 90: False}
    records = [
        fake.make("ffjord", seed=seed, settings={"adjoint": adjoint}, config={"budget": {"seconds": seconds}})
        for seconds, adjoint in budgets.items()
        for seed in range(seconds // 30)
    ]
    whole = frame.of(records)
    assert set(whole["label"]) == {"ffjord (a)", "ffjord (b)"}
    longer, shorter = lint.groups(whole)
    assert [set(part.frame["label"]) for part in (longer, shorter)] == [{"ffjord"}, {"ffjord"}]
    assert [set(part.frame["setting"]) for part in (longer, shorter)] == [{""}, {""}]
    assert [len(part.frame) for part in (longer, shorter)] == [3, 2]
    assert not longer.problems


def test_the_frame_has_a_row_for_each_record_and_column_for_each_number():
    records = [*fake.sweep(2), fake.make("rnode", status="crash", reason="KeyError: 'x'")]
    table = frame.of(records)
    assert len(table) == len(records)
    assert sorted(table["key"]) == sorted(r["key"] for r in records)
    assert {*frame.METRICS, *frame.COSTS, *lint.ENVIRONMENT} <= set(table.columns)
    one = records[0]
    row = table[table["key"] == one["key"]].iloc[0]
    assert row["nll"] == one["metrics"]["nll"]
    assert row["steps"] == one["cost"]["steps"]
    assert row["curve"].nll[-1] == one["trace"][-1]["valid_nll"]


def test_names_come_from_the_configurations():
    assert names.dataset_name({"_target_": "datasets.toy.EightGaussians"}) == "8gaussians"
    assert names.dataset_name({"_target_": "datasets.gaussians.Gaussians", "dim": 4}) == "gaussians d=4"
    assert names.dataset_name({"_target_": "mine.data.Other"}) == "other"
    assert names.solver_name({"_target_": "mypackage.fancy.Fancy"}) == "fancy"


def test_two_settings_of_a_solver_are_two_rows_that_say_what_differs():
    records = [fake.make(seed=s, settings={"alpha_nll": a}) for s in range(2) for a in (30.0, 100.0)]
    table = tables.summary(group(records), "8gaussians", "otflow")
    assert {"otflow (a)", "otflow (b)"} <= set(cells(table))
    assert cells(table)["otflow (a)"]["runs"].text == "2 ok"
    assert "otflow (b): alpha_nll=30.0" in table.notes


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"device": "cuda H100"}},
        {"env": {"cpu": "Other CPU"}},
        {"env": {"threads": 8}},
        {"env": {"launcher": "basic"}},
        {"env": {"slots": 2}},
        {"config": {"dtype": "float64"}},
        {"config": {"budget": {"seconds": 30.0}}},
        {"config": {"budget": {"seconds": 30.0, "steps": 1_000_001}}},
        {"config": {"validation": {"rows": 2000, "spacing": 0.05}}},
        {"config": {"dataset": {"_target_": "fake.moons", "version": 2}}},
        {"env": {"versions": {"torch": "2.12.0"}}},
    ],
)
def test_environments_and_budgets_are_reported_apart_and_never_mixed(change):
    records = [*fake.sweep(1, ["moons"]), fake.make("ffjord", "moons", **change)]
    mixed = frame.of(records)
    with pytest.raises(ValueError, match="cannot be compared"):
        tables.summary(lint.Group(1, "", mixed), "moons", "otflow")
    with pytest.raises(ValueError, match="cannot be compared"):
        tables.ratios(lint.Group(1, "", mixed), "ffjord", "otflow")
    found = lint.groups(mixed)
    assert [len(g.frame) for g in found] == [3, 1]
    changed = next(iter(next(iter(change.values())))).replace("versions", "torch")
    why = lint.why(found)
    assert re.search(rf"differ in {changed}\b", why)
    assert records[-1]["key"] in why


def test_where_parts_differ_a_record_or_two_of_each_value_are_named():
    """And only what parts it: budgets differ between problems, threads are allowed to."""
    records = [fake.make(seed=seed) for seed in range(3)]
    records += [fake.make("ffjord", "moons", config={"budget": {"seconds": 9}}), fake.make("rnode", env={"threads": 8})]
    records += [odd := fake.make("ffjord", env={"cpu": "Other CPU"})]
    first, second, *_ = (one["key"] for one in records)
    told = f"cpu (Fake CPU 3000: {first}, {second}, …; Other CPU: {odd['key']})"
    line = lint.why(lint.groups(frame.of(records), ["threads"]))
    assert line == f"Reported in 2 separate parts, never compared or averaged: they differ in {told}."


def test_records_of_one_key_in_two_folders_are_told_apart():
    there = [frame.of([fake.make(env={"cpu": cpu})], Path(cpu)) for cpu in "ab"]
    key = fake.make()["key"]
    assert f"cpu (a: a/{key}; b: b/{key})" in lint.why(lint.groups(frame.together(there)))


UNFAIR = {
    "seeds": lambda: [*three("otflow", [1, 1.1, 1.2, 1.1]), *three("ffjord", [4, 5, 6])],
    "tolerance": lambda: [
        *three("otflow", [1, 1.1, 1.2]),
        *three("ffjord", [4, 5, 6], settings={"atol": 1e-5, "rtol": 1e-5}),
        *three("rnode", [7, 7.1, 7.2], settings={"atol": 2e-3, "rtol": 1e-3}),
    ],
    "tuning": lambda: [
        *three("otflow", [1, 1.1, 1.2], config={"tuning": {"trials": 20}}),
        *three("ffjord", [4, 5, 6], config={"tuning": {"trials": 2}}),
    ],
}


@pytest.mark.parametrize("name", UNFAIR)
def test_what_is_unfair_is_shown_but_not_ranked_and_the_culprits_named(name):
    records = UNFAIR[name]()
    table = tables.summary(group(records), "8gaussians", "otflow")
    assert not any(cell.best for _, row in table.rows for cell in row)
    (note,) = (n for n in table.notes if "Nothing is ranked" in n)
    assert f"differ in {name}" in note
    culprit = {"seeds": records[-1], "tolerance": records[-1], "tuning": records[0]}[name]
    assert culprit["key"] in note or records[-1]["key"] in note
    allowed = tables.summary(group(records, name), "8gaussians", "otflow")
    assert cells(allowed)["otflow"]["seconds to q"].best
    assert any(n.startswith(f"allow={name}: ranked although") for n in allowed.notes)
    assert f"allow={name}" in render.latex(allowed)
    told = f"allow={name}: ranked although runs differ in {name} on 8gaussians."
    assert told in group(records, name).notes, "which stand above what the page computes"
    assert told not in group(records, *(other for other in UNFAIR if other != name)).notes


def test_a_solver_of_fewer_seeds_is_shown_beside_those_that_are_ranked():
    records = [*three("otflow", [1, 1.1, 1.2]), *three("ffjord", [4, 5, 6]), *three("cfm", [0.5])]
    table = tables.summary(group(records), "8gaussians", "otflow")
    assert cells(table)["otflow"]["seconds to q"].best
    assert "Not ranked, as others have more seeds: cfm (allow=seeds ranks all)." in table.notes
    assert not any("Nothing is ranked" in note for note in table.notes)
    allowed = tables.summary(group(records, "seeds"), "8gaussians", "otflow")
    assert not cells(allowed)["otflow"]["seconds to q"].best, "cfm's is below, and has no interval"
    assert any(note.startswith("allow=seeds: ranked although") for note in allowed.notes)
    assert lint.beside(frame.of([*records, *three("rnode", [1, 1, 1, 1])])) == [], "of one alone is nothing to rank"
    other = three("cfm", [0.5] * 5)[3:]
    assert lint.beside(frame.of([*records[:6], *other])) == [], "others, not fewer"


@pytest.mark.parametrize(
    ("settings", "decades"),
    [
        ({"atol": 1e-5, "rtol": 1e-5}, "1e-5"),
        ({"atol": 1e-5, "rtol": 1e-5, "test_atol": None, "test_rtol": None}, "1e-5"),
        ({"atol": 1e-5, "rtol": 1e-5, "test_atol": 1e-5, "test_rtol": 2e-5}, "1e-5"),
        ({"atol": 1e-5, "rtol": 1e-5, "test_atol": 1e-6, "test_rtol": 1e-6}, "1e-5, test 1e-6"),
        ({}, ""),
    ],
)
def test_a_tolerance_is_that_of_training_and_of_what_comes_after(settings, decades):
    assert frame.of([fake.make("ffjord", settings=settings)])["tolerance"].tolist() == [decades]


def test_what_goes_with_what_is_ranked():
    """Tolerances of one decade; solvers without any; the baselines, whose one seed says it all."""
    blind = [{"step": 1, "seconds": 0.1, "valid_nll": None}]
    records = [*three("otflow", [1, 1.1, 1.2]), fake.make("moments", floor=9.0), fake.make("identity", trace=blind)]
    records += three("ffjord", [4, 5, 6], settings={"atol": 1e-5}) + three("rnode", [7, 8, 9], settings={"rtol": 2e-5})
    assert lint.unfair(frame.of(records)) == []
    assert cells(tables.summary(group(records), "8gaussians", "otflow"))["otflow"]["seconds to q"].best


def test_solvers_of_other_tolerance_are_not_compared_until_allowed():
    tight = three("ffjord", [4, 5, 6], settings={"atol": 1e-9})
    records = [*three("rnode", [1, 1.1, 1.2], settings={"atol": 1e-3}), *tight]
    table = tables.ratios(group(records), "ffjord", "rnode")
    assert table.rows == []
    assert any("not compared: runs differ in tolerance" in note for note in table.notes)
    table = tables.ratios(group(records, "tolerance"), "ffjord", "rnode")
    assert cells(table)["8gaussians"]["seconds to q"].value == pytest.approx(5 / 1.1)
    assert any("allow=tolerance: compared although" in note for note in table.notes)


@pytest.mark.parametrize(
    ("name", "change", "title"),
    [
        ("threads", {"env": {"threads": 8}}, "threads 2 or 8,"),
        ("dtype", {"config": {"dtype": "float64"}}, "float32 or float64,"),
        ("allocator", {"env": {"allocator": {"A": "1"}}}, "allocator A=1 or default;"),
        ("budget", {"config": {"budget": {"seconds": 30.0}}}, "budget 30 seconds; 60 seconds"),
        ("protocol", {"config": {"validation": {"rows": 2000, "spacing": 0.05}}}, ""),
    ],
)
def test_an_override_mixes_and_each_table_says_so_and_the_title_misreports_nothing(name, change, title):
    records = [*fake.sweep(1, ["moons"]), odd := fake.make("ffjord", "moons", 7, **change)]
    (only,) = lint.groups(frame.of(records), [name])
    assert len(only.frame) == 4
    assert title in only.title
    assert set(only.caveats) <= set(only.notes), "which stand above what the page computes"
    for table in tables.all_of(only, "otflow"):
        if table.name != "failures":
            (caveat,) = (n for n in table.notes if n.startswith(f"allow={name}: these runs differ"))
            assert odd["key"] in caveat
            assert "ffjord" in caveat


def test_each_caption_of_a_figure_says_once_what_is_mixed(tmp_path):
    records = [*fake.sweep(1, ["moons", "8gaussians"]), fake.make("ffjord", "moons", 7, env={"threads": 8})]
    (only,) = lint.groups(frame.of(records), ["threads", "seeds"])
    (caveat,) = only.caveats
    with plt.rc_context():
        made = drawing.of_group(only, Options((tmp_path,), tmp_path / "out"))
    assert {name for name, _ in made.named} == {"quality", "ranks", "profiles"}
    assert [caption.count(caveat) for _, caption in made.named] == [1, 1, 1]


def test_budgets_may_differ_between_problems():
    records = [fake.make("otflow", "moons"), fake.make("otflow", "digits", config={"budget": {"seconds": 9}})]
    assert len(lint.groups(frame.of(records))) == 1


def test_a_diverged_run_is_counted_and_is_a_row_with_its_reason():
    records = [*fake.sweep(2, ["moons"]), fake.make("ffjord", "moons", 2, status="diverged", reason="underflow in dt")]
    made = tables.all_of(group(records), "otflow")
    assert cells(made[0])["ffjord"]["runs"].text == "2 ok,\n1 diverged"
    (row,) = made[-1].rows
    assert row[0] == "moons · ffjord · seed 2"
    assert [cell.text for cell in row[1]] == ["diverged", "underflow in dt"]


def test_a_solver_that_only_failed_is_still_a_row():
    records = [*fake.sweep(1, ["moons"]), fake.make("rnode", "moons", status="oom", reason="x")]
    row = cells(tables.summary(group(records), "moons", "otflow"))["rnode"]
    assert row["runs"].text == "1 oom"
    assert row["test NLL"] == render.NOTHING
    assert row["seconds to q"].text == "not reached"


def test_the_baseline_is_in_every_table():
    row = cells(tables.summary(group([fake.make()]), "8gaussians", "otflow"))["moments"]
    assert row["runs"].text == "no record"


def test_best_is_bold_only_where_intervals_separate():
    apart = [*three("otflow", [1, 1.1, 1.2]), *three("ffjord", [4, 5, 6])]
    row = cells(tables.summary(group(apart), "8gaussians", "otflow"))
    assert row["otflow"]["seconds to q"].best
    assert not row["ffjord"]["seconds to q"].best
    touching = [*three("otflow", [1, 2, 4]), *three("ffjord", [4, 5, 6])]
    row = cells(tables.summary(group(touching), "8gaussians", "otflow"))
    assert not any(row[solver]["seconds to q"].best for solver in ("otflow", "ffjord"))
    two = [r for r in apart if r["config"]["seed"] < 2]
    row = cells(tables.summary(group(two), "8gaussians", "otflow"))
    assert not any(row[solver]["seconds to q"].best for solver in ("otflow", "ffjord"))


def test_a_failed_certificate_greys_the_number_and_takes_it_out_of_the_ranking():
    certified = three("otflow", [1, 2, 3])
    records = [*certified[:2], flat_run("otflow", 2, 3, failed=["nll_effort"]), *three("ffjord", [4, 5, 6])]
    records += three("rnode", [10, 11, 12])
    table = tables.summary(group(records), "8gaussians", "otflow")
    assert "† otflow fails nll_effort (1 of 3 runs)." in table.notes
    row = cells(table)
    assert str(row["otflow"]["seconds to q"]) == "2.00†"
    assert row["otflow"]["seconds to q"].void
    assert not row["otflow"]["seconds to q"].best
    assert row["ffjord"]["seconds to q"].best
    assert not row["otflow"]["inverse error"].void  # another certificate's
    ratio = cells(tables.ratios(group(records), "ffjord", "otflow"))["8gaussians"]
    assert ratio["seconds to q"].void
    assert ratio["density"].void
    assert not ratio["parameters"].void


def test_a_fast_wrong_solver_does_not_win_the_times():
    slow = [flat_run(s, seed, 5.0, pace=p) for s, p in (("otflow", 1.0), ("ffjord", 1.0)) for seed in range(3)]
    fast = [fake.make("moments", seed=seed, pace=0.01) for seed in range(3)]
    row = cells(tables.summary(group([*slow, *fast]), "8gaussians", "otflow"))
    assert row["moments"]["ms a step"].value < row["otflow"]["ms a step"].value
    assert not row["moments"]["ms a step"].best
    assert row["otflow"]["ms a step"].best


def test_ratios_and_means_by_hand():
    records = []
    for dataset, ours, theirs in (("moons", [1, 2, 3], [7, 8, 9]), ("rings", [2, 2, 2], [2, 2, 2])):
        records += three("otflow", ours, dataset=dataset) + three("ffjord", theirs, dataset=dataset)
    row = cells(tables.ratios(group(records), "ffjord", "otflow"))
    moons = row["moons"]["seconds to q"]
    assert moons.value == pytest.approx(8 / 2)
    student = ttest_ind(np.log([7, 8, 9]), np.log([1, 2, 3]), equal_var=False).confidence_interval()
    assert (moons.low, moons.high) == pytest.approx((math.exp(student.low), math.exp(student.high)))
    assert row["rings"]["seconds to q"].value == pytest.approx(1)
    assert row["geometric mean"]["seconds to q"].value == pytest.approx(2)  # sqrt(4 * 1)
    assert row["arithmetic mean"]["seconds to q"].value == pytest.approx(2.5)  # (4 + 1) / 2
    assert row["moons"]["parameters"].value == pytest.approx(9224 / 1229)


def test_no_interval_below_three_seeds():
    records = [*three("otflow", [1, 2]), *three("ffjord", [3, 4])]
    table = tables.ratios(group(records), "ffjord", "otflow")
    assert math.isnan(cells(table)["8gaussians"]["seconds to q"].low)
    assert any(note.startswith("No interval (fewer than 3") for note in table.notes)


def test_an_unreached_target_is_penalised_marked_and_never_dropped():
    reached = three("ffjord", [4, 5])
    late = flat_run("ffjord", 2, 6, floor=2.0)
    records = [*three("otflow", [1, 2, 3]), *reached, late]
    part = frame.of(records)
    q = tables.target(part)
    assert q.q == pytest.approx(1.02)  # the median of 1, 1, 2 is 1
    found = tables.times(part[part["solver"] == "ffjord"], q.q, part)
    assert sorted(found.seconds) == [4, 5, 2 * 60]
    assert found.reached.sum() == 2
    summary = cells(tables.summary(group(records), "8gaussians", "otflow"))
    assert summary["ffjord"]["seconds to q"].text == "5.00*\n(2 of 3)"
    ratio = cells(tables.ratios(group(records), "ffjord", "otflow"))["8gaussians"]["seconds to q"]
    assert ratio.value == pytest.approx(5 / 2)
    assert ratio.text.startswith("2.50* [")


def test_a_failed_run_is_penalised_too():
    failed = [flat_run("ffjord", s, 4, status="diverged", reason="x") for s in (1, 2)]
    records = [*three("otflow", [1, 2, 3]), flat_run("ffjord", 0, 4), *failed]
    ratio = cells(tables.ratios(group(records), "ffjord", "otflow"))["8gaussians"]["seconds to q"]
    assert ratio.value == pytest.approx(2 * 60 / 2)


def test_a_solver_that_cannot_take_the_problem_is_left_out_by_name():
    unfit = fake.make("ffjord", status="unfit", reason="d must be 1")
    table = tables.ratios(group([*three("otflow", [1, 2, 3]), unfit]), "ffjord", "otflow")
    assert (table.rows, list(table.notes)) == ([], ["8gaussians: no run of ffjord."])


def test_without_a_budget_in_seconds_the_longest_run_counts():
    config = {"budget": {"steps": 10}}
    records = [*three("otflow", [1, 2, 3], config=config), *three("ffjord", [4, 5], config=config)]
    records += [flat_run("ffjord", 2, 6, floor=2.0, config=config)]
    part = frame.of(records)
    assert max(tables.times(part, 1.02, part).seconds) == 2 * 8  # the last validation of the last run is at 8


def test_a_run_that_overran_its_budget_is_penalised_by_its_own_seconds():
    overrun = flat_run("ffjord", 2, 6, floor=2.0, cost={"fit_seconds": 90.0})
    part = frame.of([*three("otflow", [1, 2, 3]), *three("ffjord", [4, 5]), overrun])
    assert max(tables.times(part, 1.02, part).seconds) == 2 * 90
    last_step = [flat_run("ffjord", 2, 6, floor=2.0, cost={"fit_seconds": s}) for s in (60.01, 60.3)]
    assert {max(tables.times(p, 1.02, p).seconds) for p in (frame.of([one]) for one in last_step)} == {2 * 60}


def test_a_solver_that_has_no_likelihood_is_neither_late_nor_early():
    """Its runs end ok; those of one that failed have no validation either, and are late."""
    validated = {"step": 1, "seconds": 1.0, "valid_nll": None}
    records = [*three("otflow", [1, 2, 3]), *(fake.make("sinkhorn", seed=seed, trace=[validated]) for seed in range(3))]
    table = tables.ratios(group(records), "sinkhorn", "otflow")
    ratio = cells(table)["8gaussians"]
    assert ratio["seconds to q"] == render.NOTHING
    assert "8gaussians: sinkhorn validates without an NLL." in table.notes
    assert ratio["parameters"] != render.NOTHING


def test_a_mean_counts_a_source_once():
    sets = {"miniboone": 8, "miniboone_small": 2, "gas_sample": 32}
    records = [
        r for d, n in sets.items() for r in (*three("otflow", [1] * 3, dataset=d), *three("ffjord", [n] * 3, dataset=d))
    ]
    only = group(records)
    table = tables.ratios(only, "ffjord", "otflow")
    assert cells(table)["miniboone_small"]["seconds to q"].value == pytest.approx(2)
    assert cells(table)["geometric mean"]["seconds to q"].value == pytest.approx(16)  # sqrt(8 * 32)
    assert "Means without miniboone_small where miniboone counts, which it stands in for." in table.notes
    void = [r for r in records if r["config"]["dataset"]["_target_"] != "fake.miniboone"]
    void += [r for s in ("otflow", "ffjord") for r in three(s, [1] * 3, dataset="miniboone", failed=["nll_effort"])]
    assert cells(tables.ratios(group(void), "ffjord", "otflow"))["geometric mean"]["seconds to q"].value == (
        pytest.approx(8)  # sqrt(2 * 32)
    ), "a void whole displaces no part"
    assert tables.across(only, "otflow", {"ffjord": tables.pairs_of(only, "ffjord", "otflow")}).rows == []
    records += [r for s in ("otflow", "ffjord") for r in three(s, [1] * 3, dataset="moons")]
    only = group(records)
    several = tables.across(only, "otflow", {"ffjord": tables.pairs_of(only, "ffjord", "otflow")})
    assert over_problems(several, "ffjord")[0].text == "3"
    assert "ffjord: without miniboone_small: miniboone counts, which it stands in for." in several.notes


def test_a_mean_keeps_the_marks_of_what_it_is_made_of_and_says_of_how_many():
    records = [*three("otflow", [1, 2, 3]), *three("ffjord", [4, 5, 6], failed=["nll_effort"])]
    records += [*three("otflow", [1, 2, 3], dataset="moons")]
    records += [*three("ffjord", [4, 5, 6], dataset="moons", cost={"evaluate_seconds": None})]
    mean = cells(tables.ratios(group(records), "ffjord", "otflow"))["geometric mean"]
    assert mean["density"].void
    assert mean["density"].text.endswith("(1 of 2)")
    assert mean["parameters"].text == "7.51"


def test_only_seeds_that_both_have_are_compared():
    records = [*three("otflow", [1, 2, 3]), *three("ffjord", [4, 5, 6, 100, 100, 100])]
    table = tables.ratios(group(records), "ffjord", "otflow")
    assert cells(table)["8gaussians"]["seconds to q"].value == pytest.approx(5 / 2)
    assert "8gaussians: only the 3 seeds that both have." in table.notes


def test_of_two_settings_the_better_by_validation_stands_in_the_ratio():
    worse = [flat_run("otflow", s, 1, floor=2.0, settings={"width": 8}) for s in range(3)]
    records = [*three("otflow", [1, 2, 3], settings={"width": 64}), *worse, *three("ffjord", [4, 5, 6])]
    table = tables.ratios(group(records), "ffjord", "otflow")
    assert cells(table)["8gaussians"]["seconds to q"].value == pytest.approx(5 / 2)
    assert "8gaussians: otflow (a), the best by validation NLL." in table.notes


def test_the_factors_multiply_to_the_time_and_their_ratios_to_the_ratio():
    records = fake.sweep(3, ["moons"])
    rows = tables.decomposition(group(records), "ffjord", "otflow").rows
    for _, row in rows[:2]:
        steps, calls, mflop, gflop_seconds, seconds = (cell.value for cell in row)
        assert steps * calls * mflop * 1e6 * gflop_seconds / 1e9 == pytest.approx(seconds)
    *factors, ratio = (cell.value for cell in rows[2][1])
    assert math.prod(factors) == pytest.approx(ratio)


def test_the_factors_inherit_what_voids_and_marks_the_seconds():
    part = [*three("otflow", [1, 2, 3]), *three("ffjord", [4, 5, 6])]
    void = cells(
        tables.decomposition(group([*part[:3], *three("ffjord", [4, 5, 6], failed=["nll_effort"])]), "ffjord", "otflow")
    )
    sure, made = {"evaluations a step", "MFLOP an evaluation"}, {"steps to q", "seconds a GFLOP", "seconds to q"}
    for row, voided in (("otflow", False), ("ffjord", True), ("ratio", True)):
        assert {name for name, cell in void[f"8gaussians · {row}"].items() if cell.void} == (made if voided else set())
    part[5]["trace"] = [{"step": 1, "seconds": 1.0, "valid_nll": 9.0}, {"step": 2, "seconds": 6.0, "valid_nll": 9.0}]
    late = tables.decomposition(group(part), "ffjord", "otflow")
    for row in ("ffjord", "ratio"):
        assert {name for name, cell in cells(late)[f"8gaussians · {row}"].items() if "*" not in cell.text} == sure
    assert late.legend == tables.LEGEND
    noisy = group([*part[:5], part[5] | {"env": {**part[5]["env"], "noise": {"steal": 0.5}}}])
    for make in (tables.ratios, tables.decomposition, tables.sensitivity):
        assert any("Do not quote the seconds" in note for note in make(noisy, "ffjord", "otflow").notes)


def test_who_is_within_a_tenth_of_a_nat_of_the_best_is_said():
    """At their best settings; OT-Flow's narrow net, the baseline and what is void count for nothing."""
    found = {"ffjord": 2.8, "otflow": 2.89, "rnode": 3.05, "moments": 2.0}
    records = [fake.make(name, seed=seed, metrics={"nll": nll}) for name, nll in found.items() for seed in range(3)]
    records += [fake.make(seed=s, settings={"width": 4}, metrics={"nll": 9.0}, floor=9.0) for s in range(3)]
    records += [fake.make("maf", seed=s, metrics={"nll": 1.0}, failed=["nll_effort"]) for s in range(3)]
    notes = tables.summary(group(records), "8gaussians", "otflow").notes
    assert (
        "Within 0.1 nat of the best test NLL, 2.800 of ffjord: otflow (a); not there, with what they were given: "
        "rnode (+0.25), maf (not of all its runs a sound NLL)." in notes
    )
    assert tables.near(group(records[:3]).frame, ["otflow"]) == [], "one solver is the best of itself"
    lucky = [fake.make("cfm", metrics={"nll": 1.0}), *(fake.make("cfm", seed=s, status="diverged") for s in (1, 2))]
    part = group([*records, *lucky]).frame
    (note,) = tables.near(part, set(part["label"]))
    assert tables.near(part, ()) == [], "nothing is ranked"
    assert "cfm (not of all its runs a sound NLL)" in note, "a survivor is not its solver"


def test_a_superseded_version_is_left_out_and_named():
    old = [fake.make(seed=s, floor=5.0) for s in range(3)]
    new = fake.make(settings={"version": 2})
    found = group([*old, new, *(fake.make("ffjord", seed=s) for s in range(3))])
    assert len(found.frame) == 4
    assert any(note.startswith("Left out, as a later version was run: otflow") for note in found.notes)


def test_the_target_is_set_by_the_best_settings_of_those_that_are_ranked():
    """OT-Flow's narrow net, and a solver of one seed beside those of three, set none."""
    records = [fake.make(name, seed=s, floor=2.8) for name in ("ffjord", "otflow") for s in range(3)]
    narrow = [fake.make(seed=s, settings={"width": 4}, floor=4.0) for s in range(3)]
    part = group([*records, *narrow, fake.make("rnode", floor=5.0)]).frame
    q = tables.target(tables.rivals(part))
    assert q == tables.target(group(records).frame)
    assert q is not None
    assert q.q < 3.0
    everyone = tables.target(tables.rivals(part, ["seeds"]))
    assert everyone is not None
    assert everyone.q > 4.9, "allow=seeds ranks all"


def test_a_solver_that_still_gains_marks_q():
    falling = [{"step": i, "seconds": float(i), "valid_nll": 5.0 - 0.1 * i} for i in range(1, 21)]
    records = [fake.make(seed=s, trace=falling) for s in range(3)] + three("ffjord", [1, 1, 1], floor=3.0)
    goal = tables.target(frame.of(records))
    assert goal.unconverged == ("otflow",)
    assert any("(not converged): otflow" in n for n in tables.summary(group(records), "8gaussians", "otflow").notes)


def test_the_baseline_sets_no_target():
    records = [*three("otflow", [1, 2, 3]), fake.make("moments", floor=9.0)]
    assert tables.target(frame.of(records)).q == pytest.approx(1.02)


def test_a_cut_test_set_is_extrapolated_and_said_so():
    cut = fake.make("ffjord", cost={"evaluate_rows": 100, "evaluate_seconds": 2.0})
    table = tables.summary(
        group([fake.make(cost={"evaluate_rows": 1000, "evaluate_seconds": 4.0}), cut]), "8gaussians", "otflow"
    )
    assert cells(table)["ffjord"]["density (s)"].value == pytest.approx(20)
    assert cells(table)["otflow"]["density (s)"].value == pytest.approx(4)
    assert "Density and samples of ffjord extrapolated from 100 rows." in table.notes


def test_records_of_a_busy_machine_are_marked():
    records = [fake.make(env={"noise": {"cpu_pressure": 0.6, "steal": 0.0}}), fake.make("ffjord")]
    (note,) = (n for n in tables.summary(group(records), "8gaussians", "otflow").notes if "quote" in n)
    assert "otflow (seeds 0)" in note
    assert "ffjord" not in note


def test_numbers_are_written_with_three_digits():
    shown = [tables.significant(x) for x in (0.0, 1234.5, 12.345, 0.012345, 1.2e-5, 3e7)]
    assert shown == ["0", "1,234", "12.3", "0.0123", "1.2e-5", "3.0e7"]


def test_latex_has_booktabs_and_no_unescaped_character():
    records = [*fake.sweep(3, ["breast_cancer"]), fake.make("ffjord", "breast_cancer", 9, status="crash", reason=UGLY)]
    records[0]["certificates"]["inverse"]["ok"] = False
    for table in tables.all_of(group(records), "otflow"):
        text = render.latex(table)
        assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        assert not re.search(r"(?<!\\)[_%#]", body)
        assert body.count("{") == body.count("}")
        assert body.isascii()
    assert r"\color{gray}" in render.latex(tables.summary(group(records), "breast_cancer", "otflow"))


def test_markdown_bold_and_pipes():
    best, void = render.Cell("1", 1.0, best=True), render.Cell("a|b", void=True)
    text = render.markdown(render.Table("t", "T", "x", ["p", "q"], [("r", (best, void))]))
    assert "| r | **1** | a\\|b† |" in text


def test_csv_keeps_full_numbers_and_intervals():
    records = [*three("otflow", [1, 2, 3]), *three("ffjord", [4, 5, 6])]
    text = render.csv(tables.ratios(group(records), "ffjord", "otflow"))
    table = pd.read_csv(io.StringIO(text), index_col=0)
    assert table.loc["8gaussians", "parameters"] == pytest.approx(9224 / 1229, rel=1e-12)
    assert table.loc["8gaussians", "seconds to q low"] < table.loc["8gaussians", "seconds to q"]


def test_csv_says_what_was_not_reached():
    late = three("ffjord", [4, 5, 6])
    late[2]["trace"] = [{"step": 1, "seconds": 1.0, "valid_nll": 9.0}]
    text = render.csv(tables.summary(group([*three("otflow", [1, 2, 3]), *late]), "8gaussians", "otflow"))
    table = pd.read_csv(io.StringIO(text), index_col=0)
    assert table.loc["ffjord", "seconds to q shown"].endswith("* (2 of 3)")
    assert "params shown" not in table


def test_what_only_a_tables_own_legend_says_is_printed_with_it():
    table = render.Table("t", "T", "x", ["p"], [("r", [render.Cell("1")])], (), ("of all", "of this one"))
    output = io.StringIO()
    render.show(table, Console(file=output, width=80), ("of all",))
    assert "of this one" in output.getvalue()
    assert "of all" not in output.getvalue()


def test_names_that_a_file_name_cannot_hold_are_told_apart():
    assert render.file_name("mixture_to_gaussian d=2 (a)") == "mixture_to_gaussian-d=2-a"
    names = {render.file_name(name) for name in ("a.b", "a-b", "a/b", "ä", "ö", "table")}
    assert len(names) == 6


def test_words_of_a_record_are_shown_as_they_are():
    table = render.Table("t", "T", "x", ["p"], [("r", [render.Cell("__init__() *a* `b` &lt; <")])], text=True)
    assert r"\_\_init\_\_() \*a\* \`b\` &amp;lt; &lt;" in render.markdown(table)


def test_tables_fit_a_terminal_of_100_columns():
    output = io.StringIO()
    console = Console(file=output, width=100)
    for table in tables.all_of(group(fake.sweep(3)), "otflow"):
        render.show(table, console)
    assert "…" not in output.getvalue()
    assert max(len(line.rstrip()) for line in output.getvalue().splitlines()) <= 100


def test_no_number_is_cut_at_80_columns():
    output = io.StringIO()
    for table in tables.all_of(group(fake.sweep(3)), "otflow"):
        render.show(table, Console(file=output, width=80))
        printed = " ".join(output.getvalue().split())
        assert all(word in printed for _, row in table.rows for cell in row for word in str(cell).split())
    assert "…" not in output.getvalue()
    assert max(len(line.rstrip()) for line in output.getvalue().splitlines() if "nat" not in line) <= 80


def test_an_allocator_is_told_in_words():
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1"}
    found = [frame.of([fake.make(env={"allocator": given})])["allocator"].iloc[0] for given in (kept, {}, {"A": "1"})]
    assert found == ["keeps freed memory", "default", "A=1"]
    assert "{" not in group([fake.make(env={"allocator": kept})]).title


def test_what_never_ran_has_no_seconds_to_quote_and_no_target_is_missed_without_likelihoods():
    noise = {"noise": {"cpu_pressure": 0.9}}
    trace = [{"step": 1, "seconds": 1.0, "valid_nll": None}]
    records = [fake.make("exact", trace=trace), fake.make("ffjord", status="unfit", reason="x", env=noise)]
    notes = tables.summary(group(records), "8gaussians", "otflow").notes
    assert not any("quote" in note or "target q" in note for note in notes)
    failed = [*records, fake.make("rnode", status="crash", reason="x", trace=trace)]
    assert any("no target q" in note for note in tables.summary(group(failed), "8gaussians", "otflow").notes)


def test_a_style_is_one_for_all_figures_and_differs_between_solvers():
    looks = [styles.style(name) for name in (*styles.SOLVERS, frame.BASELINE)]
    assert len(set(looks)) == len(looks)
    assert len({(look.colour, look.line) for look in looks}) == len(looks), "told apart without markers too"
    assert styles.style("mine") == styles.style("mine")


def test_the_median_curve_of_two_runs_by_hand():
    one, two = (frame.Curve(np.arange(2), np.array([1.0, 100.0]), np.array(v)) for v in ([4.0, 2.0], [2.0, 0.0]))
    seconds, middle = quality.median_curve([one, two], points=3)
    assert seconds == pytest.approx([1, 10, 100])
    assert middle == pytest.approx([3, 2, 1])


def test_protocols_differ_between_problems_but_not_within_one_and_each_part_says_which():
    rows = {"validation": {"rows": 2000, "spacing": 0.05}}
    mixed = [fake.make("otflow", "moons"), fake.make("otflow", "digits", config=rows)]
    assert len(lint.groups(frame.of(mixed))) == 1
    records = [*fake.sweep(1, ["moons", "digits"]), fake.make("ffjord", "moons", config=rows)]
    most, least = lint.groups(frame.of(records))
    assert [len(most.frame), len(least.frame)] == [6, 1]
    named = f"validation.rows (1000: [0-9a-f]{{16}}, [0-9a-f]{{16}}, …; 2000: {records[-1]['key']})"
    assert re.search(named.replace("(", r"\(").replace(")", r"\)"), lint.why([most, least]))
    assert "Here validation.rows is 2000." in least.notes


@pytest.mark.parametrize(
    ("one", "other", "same"), [(60, 60.0, True), (60, 61, False), (1_000_000, 1_000_001, False), (None, 60, False)]
)
def test_a_budget_is_a_number_however_it_is_written(one, other, same):
    records = [fake.make(seed=i, config={"budget": {"seconds": s}}) for i, s in enumerate((one, other))]
    assert (frame.of(records)["budget"].nunique() == 1) is same


def test_of_two_records_of_one_cell_the_first_counts_and_the_other_is_named():
    first = fake.make(config={"budget": {"seconds": 60}}, metrics={"nll": 1.0})
    again = fake.make(config={"budget": {"seconds": 60.0}}, metrics={"nll": 9.0})
    other = {**again, "key": "f" * 16}
    found = group([first, other, fake.make(seed=1)])
    assert sorted(found.frame["seed"]) == [0, 1]
    assert 1.0 in set(found.frame["nll"])
    (problem,) = found.problems
    assert other["key"] in problem
    assert "8gaussians otflow seed 0" in problem


def test_a_record_that_two_folders_have_of_one_environment_counts_once_from_the_first():
    """Whatever else they hold, and although the killed one does not tell its environment; it is no problem."""
    ran = [fake.make(seed=seed, metrics={"nll": 1.0}) for seed in (1, 2)]
    first = [*ran, lost("otflow", 3, threads=2)]
    later = [fake.make(seed=seed, metrics={"nll": 9.0}) for seed in (2, 0)]
    later.append(fake.make(seed=3, config={"device": "cuda"}))
    folders = [frame.of(records, Path(name)) for name, records in (("z", first), ("a", later))]
    (only,) = lint.groups(frame.together(folders))
    assert only.frame[["seed", "nll", "status"]].fillna(0).to_numpy().tolist() == [
        *([0, 9.0, "ok"], [1, 1.0, "ok"], [2, 1.0, "ok"], [3, 0, "timeout"]),
    ]
    assert "Counted once, as an earlier folder has them too: 2 of 6 records." in only.notes
    assert not only.problems


def test_records_of_two_machines_are_all_there_until_they_may_be_mixed():
    folders = [frame.of(three("otflow", [1, 2, 3], env={"cpu": cpu}), Path(cpu)) for cpu in "ab"]
    both = frame.together(folders)
    assert [len(part.frame) for part in lint.groups(both)] == [3, 3]
    (mixed,) = lint.groups(both, ["cpu"])
    assert mixed.frame["cpu"].tolist() == ["a"] * 3
    assert not mixed.problems


def test_together_settings_have_letters_that_each_folder_alone_does_not_need():
    folders = [frame.of([fake.make(settings={"width": width})]) for width in (8, 16)]
    assert set(frame.together(folders)["label"]) == {"otflow (a)", "otflow (b)"}
    assert [set(one["label"]) for one in folders] == [{"otflow"}, {"otflow"}]
    assert frame.together([pd.DataFrame(), folders[0]]) is folders[0], "no second copy of ten thousand rows"


def lost(solver, seed, **env):
    """The record of a run that was killed: its environment is what the launcher knew."""
    return {**fake.make(solver, seed=seed, status="timeout", reason="x", config={"device": "cuda"}), "env": env}


def test_what_a_failed_record_does_not_tell_of_its_environment_is_that_of_its_siblings():
    cuda = {"env": {"device": "cuda H100", "allocator": {"MALLOC_ARENA_MAX": "1"}}, "config": {"device": "cuda"}}
    ran = [fake.make("ffjord", seed=s, **cuda) for s in range(2)]
    killed = lost("ffjord", 2, launcher="isolated", slots=1, threads=2)
    assert len(group([*ran, killed]).frame) == 3
    elsewhere = fake.make("ffjord", seed=3, config={"device": "cuda"}, env={**cuda["env"], "cpu": "Other CPU"})
    found = lint.groups(frame.of([*ran, elsewhere, killed]))
    assert [len(g.frame) for g in found] == [2, 1, 1]  # siblings that disagree tell nothing


def test_a_solver_of_one_step_reaches_q_and_does_not_mark_it():
    direct = [fake.make("maf", seed=s, trace=[{"step": 1, "seconds": 0.5, "valid_nll": 1.0}]) for s in range(3)]
    records = [*three("otflow", [1, 1.1, 1.2]), *direct]
    assert tables.target(frame.of(records)).unconverged == ()
    cell = cells(tables.summary(group(records), "8gaussians", "otflow"))["maf"]["seconds to q"]
    assert (cell.value, cell.best) == (0.5, True)


def test_the_cost_of_an_evaluation_is_that_of_a_mean_step_over_its_evaluations():
    cost = {"flops": 6e9, "nfe_forward": 20.0, "nfe_backward": 10.0}
    records = [*three("otflow", [1, 2, 3]), *three("ffjord", [4, 5, 6], cost=cost)]
    row = cells(tables.decomposition(group(records), "ffjord", "otflow"))["8gaussians · ffjord"]
    assert row["MFLOP an evaluation"].value == pytest.approx(200)
    never = [*three("otflow", [1, 2, 3]), *three("ffjord", [9, 9, 9], cost=cost)]
    for one in never[3:]:  # most runs fail: seconds a FLOP are those of the mean step
        one["trace"] = [
            {"step": 1, "seconds": 1.0, "valid_nll": 9.0},
            {"step": 2, "seconds": 2.0, "valid_nll": math.nan},
        ]
        one["cost"] |= {"fit_seconds": 12.0, "steps": 4, "seconds_per_step": 99.0}
    part = frame.of(never)
    pair = tables.Pair("x", part[part["solver"] == "ffjord"], part[part["solver"] == "otflow"], tables.Target(1.0, ()))
    assert tables._factors(pair.solver, pair)[3].value == pytest.approx(12 / 4 / 6)


def test_the_record_tells_how_long_the_test_set_is():
    cut = fake.make(cost={"evaluate_rows": 100, "evaluate_seconds": 2.0, "test_rows": 5000})
    other = fake.make("ffjord", cost={"evaluate_rows": 50, "evaluate_seconds": 1.0})
    row = cells(tables.summary(group([cut, other]), "8gaussians", "otflow"))
    assert row["otflow"]["density (s)"].value == pytest.approx(100)
    assert row["ffjord"]["density (s)"].value == pytest.approx(100)


def test_an_estimated_density_is_a_note_and_a_ratio_and_ranked_nowhere():
    estimate = {"estimate_seconds": 0.12, "estimate_repeats": [0.12], "estimate_spread": 0.3}
    records = [*three("otflow", [1, 2, 3], cost={"evaluate_seconds": 0.4})]
    records += three("ffjord", [4, 5, 6], cost=estimate, failed=["nll_effort"])
    line = "ffjord by Hutchinson's estimate, as its authors time it: 0.120 s, uncertified, off by 0.30 nat a row (rms)."
    assert f"Density of {line}" in tables.summary(group(records), "8gaussians", "otflow").notes
    table = tables.ratios(group(records), "ffjord", "otflow")
    cell = cells(table)["8gaussians"]["density (estimated)"]
    assert cell.value == pytest.approx(0.3)
    assert not cell.best
    assert not cell.void  # the certificate is of the exact density
    plain = tables.ratios(group([*three("otflow", [1]), *three("ffjord", [1])]), "ffjord", "otflow")
    assert "density (estimated)" not in plain.columns


@pytest.mark.parametrize("seconds", [5, 2.3, 0.5])  # far behind the best; within its interval; better than it
def test_nothing_is_bold_beside_a_ranked_row_without_interval(seconds):
    records = [*three("otflow", [2, 2.1, 2.2]), *three("ffjord", [4, 5, 6])]
    row = cells(tables.summary(group(records), "8gaussians", "otflow"))
    assert row["otflow"]["seconds to q"].best
    records.append(flat_run("rnode", 0, seconds))
    row = cells(tables.summary(group(records, "seeds"), "8gaussians", "otflow"))
    assert not any(row[s]["seconds to q"].best for s in ("otflow", "ffjord", "rnode"))


def test_a_baseline_of_one_seed_keeps_nobody_from_being_bold():
    """As suites have it: moments once beside flows of three seeds."""
    records = [
        fake.make(solver, seed=seed, metrics={"nll": nll + seed / 100})
        for solver, nll in (("otflow", 1.0), ("ffjord", 3.0))
        for seed in range(3)
    ]
    table = cells(tables.summary(group([*records, fake.make("moments")]), "8gaussians", "otflow"))
    assert table["otflow"]["test NLL"].best
    better = fake.make("moments", metrics={"nll": 0.1})
    assert not cells(tables.summary(group([*records, better]), "8gaussians", "otflow"))["moments"]["test NLL"].best


def test_survivors_of_a_solver_that_mostly_fails_are_not_bold():
    nll = {"otflow": 1.0, "ffjord": 2.0}
    records = [r for name, x in nll.items() for r in three(name, [1, 2, 3, 4], metrics={"nll": x})]
    assert cells(tables.summary(group(records), "8gaussians", "otflow"))["otflow"]["test NLL"].best
    failed = [flat_run("otflow", s, 1, status="diverged", reason="x") for s in range(4, 10)]
    row = cells(tables.summary(group([*records, *failed], "seeds"), "8gaussians", "otflow"))
    assert row["otflow"]["runs"].text == "4 ok,\n6 diverged"
    assert not any(row[name]["test NLL"].best for name in nll)
    unfit = flat_run("otflow", 4, 1, status="unfit", reason="x")  # no failure
    assert cells(tables.summary(group([*records, unfit]), "8gaussians", "otflow"))["otflow"]["test NLL"].best
    records[0]["metrics"]["nll"] = None  # of three runs, not of all
    row = cells(tables.summary(group(records), "8gaussians", "otflow"))
    assert not math.isnan(row["otflow"]["test NLL"].low)
    assert not row["otflow"]["test NLL"].best


def test_an_mmd_that_is_rounding_is_not_shown():
    names_ = ("otflow", "ffjord")
    noise = [r for n, x in zip(names_, (1e-9, -3e-8), strict=True) for r in three(n, [1, 2, 3], metrics={"mmd": x})]
    assert "MMD" not in cells(tables.summary(group(noise), "8gaussians", "otflow"))["otflow"]
    real = [*noise[:3], *three("ffjord", [1, 2, 3], metrics={"mmd": -1e-4})]
    assert cells(tables.summary(group(real), "8gaussians", "otflow"))["otflow"]["MMD"].value == 1e-9


def test_failed_runs_make_no_interval_and_are_counted():
    failed = [flat_run("ffjord", s, 4, status="diverged", reason="x") for s in (1, 2)]
    table = tables.ratios(group([*three("otflow", [1, 2, 3]), flat_run("ffjord", 0, 4), *failed]), "ffjord", "otflow")
    assert any(note.startswith("No interval (fewer than 3 finished seeds") for note in table.notes)
    assert "8gaussians: 2 runs of ffjord failed: counted in seconds to q alone." in table.notes


def test_small_print_ends_with_its_braces_and_titles_are_plain():
    table = render.Table("t", "a*b_c [x](y) `z` <i>", "x", ["p"], [("r", (render.Cell("1"),))], ["note"])
    assert re.search(r"\{\\footnotesize.*note.*\}", render.latex(table), re.DOTALL)
    assert render.markdown(table).startswith("**a\\*b\\_c \\[x\\](y) \\`z\\` &lt;i>**\n")


@pytest.mark.parametrize("error", [OSError, KeyError, TypeError, zlib.error, NotImplementedError, ValueError])
def test_no_picture_ends_the_report(error, tmp_path, monkeypatch):
    def load(path):
        raise error("torn")

    fake.store(tmp_path, [fake.make()], pictures=True)
    monkeypatch.setattr(shown.pictures, "load", load)
    (only,) = lint.groups(frame.load(tmp_path)[0])
    _, problems = shown.pictures_of(only.frame, "otflow")
    assert len(problems) == 1
    assert "torn" in problems[0]


def test_a_dollar_in_a_name_is_no_mathematics(tmp_path):
    name = r"$\nosuch$"
    fake.store(tmp_path, [fake.make(dataset=name), fake.make("$x_{$", dataset=name)])
    (only,) = lint.groups(frame.load(tmp_path)[0])
    picture = tmp_path / "x.npz"
    fake.picture(picture, 0.3)
    arrays = shown.pictures.load(picture)
    galleries = gallery.all_of(only, {name: {"$x_{$": arrays}}, "otflow")
    for drawn in [*quality.figures(only, "otflow"), *galleries]:
        drawn.figure.savefig(io.BytesIO())  # raises where it takes the name for mathematics
        figures.close(drawn.figure)


# The command


def run(capsys, *arguments):
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("wide")
def test_the_command_writes_page_tables_and_figures(tmp_path, capsys):
    fake.store(tmp_path / "runs", fake.sweep(1, ["8gaussians"]), pictures=True)
    out = tmp_path / "out"
    code, printed, _ = run(capsys, f"records={tmp_path / 'runs'}", f"out={out}")
    assert code == 0
    assert "ffjord / otflow" in printed
    assert "PGF" not in printed
    assert str(tmp_path / "runs") in printed.replace("\n", "")
    assert {p.suffix for p in (out / "tables").glob("8gaussians.*")} == {".md", ".tex", ".csv"}
    names = {p.name for p in (out / "figures").glob("[!.]*")}
    assert names == {f"{n}.{s}" for n in ("quality", "gallery_8gaussians") for s in ("pdf", "png")}
    html = (out / "index.html").read_text()
    assert html.count("data:image/webp;base64,") == 1  # it draws quality against time itself
    assert not re.search(r'(src|href)="(?!data:|#)', html)  # self-contained


@pytest.mark.usefixtures("wide")
def test_html_escapes_what_comes_from_records(tmp_path, capsys):
    bad = fake.make("ffjord", "<b>moons</b>", status="crash", reason=UGLY)
    fake.store(tmp_path / "runs", [fake.make(), bad])
    code, printed, _ = run(capsys, f"records={tmp_path / 'runs'}", f"out={tmp_path / 'out'}")
    assert code == 0
    html = (tmp_path / "out" / "index.html").read_text()
    assert "<script>alert" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "\x1b" not in printed  # no control sequence reaches the terminal
    assert "[bold]x" in printed
    assert all(p.parent == tmp_path / "out" / "tables" for p in (tmp_path / "out").rglob("*.md"))


@pytest.mark.usefixtures("wide")
def test_each_record_is_read_once(tmp_path, capsys, monkeypatch):
    fake.store(tmp_path / "runs", fake.sweep(3, ["moons", "8gaussians"]))
    read, opened = record.read, []
    monkeypatch.setattr(record, "read", lambda path: opened.append(path) or read(path))
    assert run(capsys, f"records={tmp_path / 'runs'}", f"out={tmp_path / 'out'}")[0] == 0
    assert sorted(opened) == sorted((tmp_path / "runs").glob("*.json"))


@pytest.mark.usefixtures("wide")
def test_what_is_no_record_is_named_and_left_out(tmp_path, capsys):
    folder = fake.store(tmp_path / "runs", [fake.make(), fake.make("ffjord")])
    (folder / "torn.json").write_text('{"schema": 1, "key"')
    newer = fake.make(seed=7)
    (folder / f"{newer['key']}.json").write_text(json.dumps({**newer, "schema": record.SCHEMA + 1}))
    hollow = {**fake.make(seed=8), "config": {}}
    (folder / f"{hollow['key']}.json").write_text(json.dumps(hollow))
    code, printed, _ = run(capsys, f"records={folder}", f"out={tmp_path / 'out'}")
    assert code == 2
    plain = printed.replace("\n", "")
    assert "2 records" in plain
    assert all(name in plain for name in ("torn.json", f"{newer['key']}.json", f"{hollow['key']}.json"))
    assert "update cnf-ot-bench" in plain.replace("  ", " ")
    assert (tmp_path / "out" / "index.html").read_text().count("Left out:") == 3


@pytest.mark.usefixtures("wide")
def test_a_damaged_picture_is_named_and_the_rest_reported(tmp_path, capsys):
    folder = fake.store(tmp_path / "runs", [fake.make(), fake.make("ffjord")], pictures=True)
    (folder / f"{fake.make()['key']}.npz").write_bytes(b"PK\x03\x04 torn")
    np.savez(folder / f"{fake.make('ffjord')['key']}.npz", box=np.zeros((3, 3)), test=np.zeros((2, 2)))
    code, printed, _ = run(capsys, f"records={folder}", f"out={tmp_path / 'out'}")
    assert code == 2
    assert printed.count("Left out:") == 2
    assert (tmp_path / "out" / "figures" / "quality.png").exists()


@pytest.mark.usefixtures("wide")
def test_a_report_removes_what_an_earlier_one_wrote_and_nothing_else(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    out = tmp_path / "out"
    old = [out / name for name in ("tables/old.md", "figures/old.pdf", "old.tex")]
    *mine, edited = [out / name for name in ("tables/mine.tex", "figures/mine.pdf", "mine.tex", "tables/edited.md")]
    for path in [*old, *mine, edited]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("before")
    written.note(*old, edited)
    edited.write_text("by hand")
    runs = fake.store(tmp_path / "runs", [fake.make(), fake.make("ffjord")])
    with plt.rc_context():
        code, printed, _ = run(capsys, f"records={runs}", f"out={out}", "paper.venue=icml")
    assert code == 0
    assert printed.count("No PGF figures: pdflatex") == 1
    assert not any(path.exists() for path in old)
    lists = list(out.rglob(written.LIST))
    listed = {path.parent / line[66:] for path in lists for line in path.read_text().splitlines()}
    assert {out / name for name in ("paper.tex", "tables/8gaussians.tex", "figures/quality.svg")} <= listed
    assert {path for path in out.rglob("[!.]*") if path.is_file()} == listed | {*mine, edited, out / "index.html"}


def test_a_file_that_is_cut_off_while_it_is_written_is_not_taken_for_the_users(tmp_path, monkeypatch):
    path, whole = tmp_path / "a.md", Path.write_bytes

    def cut(path, content):
        whole(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", cut)
    with pytest.raises(KeyboardInterrupt):
        written.write(path, "ħ")
    assert path.read_bytes() == "ħ".encode()
    written.clear(tmp_path)
    assert not path.exists()


def test_a_list_of_written_files_reaches_into_no_other_folder(tmp_path):
    mine = tmp_path / "mine.md"
    mine.write_text("x")
    (tmp_path / "tables").mkdir()
    line = f"{hashlib.sha256(b'x').hexdigest()}  ../mine.md\n"
    (tmp_path / "tables" / written.LIST).write_bytes(line.encode() + b"\xff torn")
    written.clear(tmp_path / "tables")
    assert mine.exists()


@pytest.mark.usefixtures("wide")
def test_a_record_that_repeats_another_is_named_by_the_command(tmp_path, capsys):
    folder = fake.store(tmp_path / "runs", [fake.make(), fake.make(config={"budget": {"seconds": 60}})])
    code, printed, _ = run(capsys, f"records={folder}", f"out={tmp_path / 'out'}")
    assert code == 2
    assert "otflow seed 0 is there already" in " ".join(printed.split())


def test_an_empty_folder_is_one_line_and_code_1(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in ([f"records={tmp_path}"], [], ["records=nowhere"], ["recrods=x"], [f"records={tmp_path}", "out="]):
        code, printed, error = run(capsys, *arguments)
        assert code == 1
        assert printed == ""
        assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("wide")
def test_by_default_runs_and_references_are_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake.store(tmp_path / "results/runs", [fake.make()])
    fake.store(tmp_path / "results/reference/laptop", [fake.make("ffjord"), fake.make()])
    fake.store(tmp_path / "results/reference/other", [fake.make(env={"cpu": "Other CPU"})])
    code, printed, _ = run(capsys)
    assert code == 0
    assert "4 records from results/runs, results/reference/laptop, results/reference/other" in printed
    assert "Counted once, as an earlier folder has them too: 1 of 3 records." in printed
    html = (tmp_path / "results/report/index.html").read_text()
    assert re.findall(r"<h2[^>]*>cpu, ([^,]*)", html) == ["Fake CPU 3000", "Other CPU"]
    judged = {path.stem for path in (tmp_path / "results/report/tables").glob("claims_*.csv")}
    assert judged == {"claims_runs", "claims_laptop", "claims_other"}


def test_a_reference_without_records_is_one_line_and_nothing_is_written(tmp_path, capsys):
    fake.store(tmp_path / "runs", [fake.make(), fake.make("ffjord")])
    out = tmp_path / "out"
    code, printed, error = run(capsys, f"records={tmp_path / 'runs'}", f"out={out}", "reference=otfow")
    assert (code, printed) == (1, "")
    assert error == "bench.report: no record of reference=otfow: choose from ffjord, otflow\n"
    assert not out.exists()
    build.check_reference("otflow", ["exact", "sinkhorn"])  # nobody asked for it


def test_a_folder_that_is_named_twice_is_read_once(tmp_path):
    assert parse([f"records={tmp_path},{tmp_path}/"]).records == (tmp_path,)


def test_files_of_folders_are_named_apart():
    folders = [Path(name) for name in ("a/runs", "b/runs", "a-runs", "results/reference/epyc")]
    assert list(build.names_of(folders).values()) == ["a-runs", "b-runs", "a-runs_2", "epyc"]
    assert list(build.names_of(folders[1:]).values()) == ["runs", "a-runs", "epyc"]


def test_help(capsys):
    code, printed, _ = run(capsys, "--help")
    assert code == 0
    assert "records=DIR" in printed


def test_slug_stays_in_its_folder():
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("gaussians d=4") == "gaussians-d=4"


def test_the_report_imports_neither_torch_nor_solvers_nor_datasets():
    code = (
        "import sys, bench.report.build; "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'solvers', 'datasets')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("only", ["tables", "figures"])
def test_a_part_of_the_report_alone_is_that_of_the_whole_and_leaves_the_others(only, tmp_path, capsys):
    folder, out = fake.store(tmp_path / "runs", fake.sweep(2)), tmp_path / "out"
    assert main([f"records={folder}", f"out={out}"]) == 0
    whole = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "index.html").write_text("of another report")
    assert main([f"records={folder}", f"out={out}", f"only={only}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{only.capitalize()}: {out / only}"
    assert (out / "index.html").read_text() == "of another report"
    for path, content in whole.items():
        assert path.name == "index.html" or path.read_bytes() == content, path
    alone = tmp_path / "alone"
    assert main([f"records={folder}", f"out={alone}", f"only={only}"]) == 0
    assert {path.relative_to(alone) for path in alone.rglob("*") if path.is_file()} == {
        path.relative_to(out) for path in whole if only in path.parts
    }


def test_a_part_alone_says_what_it_leaves_of_another_report(tmp_path, capsys):
    folder, out = fake.store(tmp_path / "runs", fake.sweep(2)), tmp_path / "out"
    assert main([f"records={folder}", f"out={out}", "only=tables"]) == 0
    assert "earlier report" not in capsys.readouterr().out
    (out / "index.html").touch()
    (out / "paper.tex").touch()
    assert main([f"records={folder}", f"out={out}", "only=tables"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"index.html and paper.tex in {out} are those of an earlier report" in told
    assert main([f"records={folder}", f"out={out}", "only=tables", "paper.venue=icml"]) == 1


def test_a_report_ends_with_who_is_best_where_any_is_told_apart(tmp_path, capsys):
    records = [
        fake.make(s, d, i, metrics={"nll": n + i / 100})
        for s, n in (("otflow", 1.0), ("ffjord", 3.0))
        for d in ("moons", "rings")
        for i in range(5)
    ]
    records += [fake.make("rnode", "rings", i, metrics={"nll": 1.0 + i / 100}) for i in range(5)]
    records += [fake.make(solver, "swissroll") for solver in ("otflow", "ffjord")]
    for name, tolerance in (("otflow", 1e-5), ("ffjord", 1e-3)):  # ranked in nothing but seconds
        records += [fake.make(name, "pinwheel", i, settings={"atol": tolerance}, pace=1 + i / 9) for i in range(3)]
    (only,) = lint.groups(frame.of(records))
    made = tables.all_of(only, "otflow")
    found = {
        row: dict(zip(glance.table([only], [made]).columns, cells, strict=True))
        for row, cells in glance.table([only], [made]).rows
    }
    summary = cells(tables.summary(only, "moons", "otflow"))
    assert summary["otflow"]["test NLL"].best
    assert found["moons"]["test NLL"].text == f"otflow {summary['otflow']['test NLL'].text}"
    assert found["rings"]["test NLL"].text == "="
    assert "swissroll" not in found
    assert "pinwheel" not in found
    assert glance.UNRANKED in dict(glance._rows(only, made))["pinwheel"]
    assert glance.SAME not in dict(glance._rows(only, made))["pinwheel"]
    assert glance.table([only], [made]).notes[1].startswith("On 2 other problems none is")
    assert found["moons"]["L2-UVP (%)"] == render.NOTHING
    (few,) = lint.groups(frame.of([fake.make(s, d) for s in ("otflow", "ffjord") for d in ("moons", "rings")]))
    nothing = glance.table([few], [tables.all_of(few, "otflow")])
    assert (nothing.rows, nothing.notes) == (
        [],
        ["On none of 2 problems one is told apart from the others, as of one seed none can be."],
    )
    render.show(nothing, Console())
    assert "problem  " not in capsys.readouterr().out, "no heading over nothing"
    folder = fake.store(tmp_path / "runs", records)
    assert main([f"records={folder}", f"out={tmp_path / 'out'}"]) == 0
    ended = capsys.readouterr().out.splitlines()
    assert ended[-1].startswith("Page, tables and figures")
    assert any("The best of each problem" in line for line in ended[-15:])


def test_tables_alone_wait_for_no_drawing(tmp_path):
    folder = fake.store(tmp_path / "runs", fake.sweep(2))
    code = (
        "import sys; from bench.report.__main__ import main\n"
        f"main(['records={folder}', 'out={tmp_path / 'out'}', 'only=tables'])\n"
        "print([m for m in ('matplotlib', 'seaborn', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_and_bad_arguments_wait_for_no_heavy_import():
    code = (
        "import sys, bench.report.__main__; print([m for m in ('pandas', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stairs_of_a_run_are_climbed_once(monkeypatch):
    """Of ten thousand runs, whatever is done again and again takes minutes."""
    records = fake.sweep(3, ["moons", "8gaussians"])
    stairs, climbed = stats.stairs, []
    monkeypatch.setattr(stats, "stairs", lambda values: climbed.append(1) or stairs(values))
    (found,) = lint.groups(frame.of(records))
    tables.all_of(found, "otflow")
    explore.data(found, "otflow")
    assert len(climbed) == len(records)


@pytest.mark.parametrize("odd", [math.inf, 1e301, -(10**400), True, "1.5", None, [1.0]])
def test_what_is_no_number_in_a_trace_is_nan(odd):
    trace = [{"step": i, "seconds": 3.0 - i, "valid_nll": v} for i, v in enumerate((2.0, odd, 1))]
    found = frame.curve([*trace, {"step": 9, "seconds": odd, "valid_nll": 0.0}, "no entry"])
    np.testing.assert_array_equal(found.step, [2, 1, 0])
    np.testing.assert_array_equal(found.seconds, [1, 2, 3])
    np.testing.assert_array_equal(found.nll, [1, math.nan, 2])


def test_what_never_ran_is_no_failure_of_its_times():
    unfit = fake.make("rnode", status="unfit", reason="x")
    row = cells(tables.summary(group([*three("otflow", [1, 2, 3]), unfit]), "8gaussians", "otflow"))
    assert row["rnode"]["seconds to q"] == render.NOTHING
    absent = [flat_run("otflow", s, 1, status="not_installed", reason="x") for s in (3, 4, 5, 6)]
    row = cells(tables.summary(group([*three("otflow", [1, 2, 3]), *absent]), "8gaussians", "otflow"))
    assert row["otflow"]["seconds to q"].text == "2.00"  # of those that ran, which set q


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("odd", [0.0, -1.0])
def test_costs_that_no_run_can_have_are_no_numbers_and_end_no_report(odd):
    costs, datasets = dict.fromkeys(frame.COSTS, odd), ("moons", "rings")
    records = [r for name in datasets for r in three("otflow", [1, 2, 3], dataset=name, cost=costs)]
    records += three("ffjord", [4, 5, 6], dataset="moons")
    records += [flat_run("ffjord", s, 4, dataset="rings", cost=costs, floor=1 + s) for s in range(3)]
    made = tables.all_of(group(records), "otflow")
    row = cells(made[0])
    for heading in ("ms a step", "density (s)", "samples (s)"):
        assert row["otflow"][heading] == render.NOTHING
        assert row["ffjord"][heading].value > 0
    ratio = next(cells(table)["moons"] for table in made if table.name == "ffjord_over_otflow")
    assert ratio["seconds to q"].value == pytest.approx(5 / 2)
    assert ratio["seconds a step"] == render.NOTHING


def test_a_test_set_of_which_no_row_was_evaluated_took_no_seconds():
    records = [fake.make("ffjord", cost={"evaluate_rows": 0, "test_rows": 100}), fake.make()]
    table = tables.summary(group(records), "8gaussians", "otflow")
    assert cells(table)["ffjord"]["density (s)"] == render.NOTHING
    assert not any("extrapolated" in note for note in table.notes)


def test_no_run_reaches_a_target_before_its_clock_has_run():
    records = [*three("otflow", [1, 2, 3]), *three("ffjord", [4, 5, 6])]
    for one in records[3:]:
        one["trace"] = [{"step": 0, "seconds": 0.0, "valid_nll": 1.0} for _ in range(2)] + one["trace"]
    only = group(records)
    assert cells(tables.summary(only, "8gaussians", "otflow"))["ffjord"]["seconds to q"].text == "5.00"
    assert cells(tables.ratios(only, "ffjord", "otflow"))["8gaussians"]["seconds to q"].value == pytest.approx(2.5)
    curve = only.frame["curve"].iloc[0]
    assert tables.validations(only.frame)[3] is only.frame["curve"].iloc[3]
    assert (tables.validations(only.frame)[0].nll.tolist(), len(curve.nll)) == (curve.nll[2:].tolist(), 6)


def test_a_budget_of_no_seconds_penalises_by_the_longest_run():
    config = {"budget": {"seconds": 0.0}}
    records = [*three("otflow", [1, 2, 3], config=config), *three("ffjord", [4, 5], config=config)]
    records.append(flat_run("ffjord", 2, 6, floor=2.0, config=config))
    row = cells(tables.summary(group(records), "8gaussians", "otflow"))
    assert row["ffjord"]["seconds to q"].text == "5.00*\n(2 of 3)"
    part = frame.of(records)
    assert max(tables.times(part, 1.02, part).seconds) == 2 * 8


def test_a_void_density_sets_no_target_and_wins_no_times():
    sound = [*three("otflow", [1, 1.1, 1.2]), *three("ffjord", [4, 5, 6], pace=2.0)]
    for failed, q in ((["nll_effort"], 1.02), (["nll_valid"], 1.02), (["inverse"], 5.02)):
        late = three("rnode", [1, 1, 1], floor=5.0, failed=failed)
        assert tables.target(frame.of([*sound, *late])).q == pytest.approx(q)
    fast = three("rnode", [1, 1, 1], pace=0.01, failed=["density_integral"])
    row = cells(tables.summary(group([*sound, *fast]), "8gaussians", "otflow"))
    assert not row["rnode"]["ms a step"].void  # it took those seconds, but its density reaches nothing
    assert [name for name in row if row[name]["ms a step"].best] == ["otflow"]


def test_validations_that_do_not_hold_void_the_seconds_to_q_and_not_the_tested_nll():
    records = [*three("otflow", [1, 1.1, 1.2]), *three("ffjord", [4, 5, 6], failed=["nll_valid"])]
    row = cells(tables.summary(group(records), "8gaussians", "otflow"))["ffjord"]
    assert (row["seconds to q"].void, row["test NLL"].void) == (True, False)
    row = cells(tables.ratios(group(records), "ffjord", "otflow"))["8gaussians"]
    assert (row["seconds to q"].void, row["density"].void) == (True, False)


def test_without_a_density_that_holds_there_is_no_target_and_the_table_says_so():
    only = group([r for name in ("otflow", "ffjord") for r in three(name, [1, 2, 3], failed=["density_integral"])])
    assert tables.target(only.frame) is None
    table = tables.summary(only, "8gaussians", "otflow")
    assert any(note.endswith("voids: there is no target q.") for note in table.notes)
    assert cells(tables.ratios(only, "ffjord", "otflow"))["8gaussians"]["seconds to q"] == render.NOTHING


def test_solvers_that_share_no_seed_are_not_compared_until_allowed():
    records = [*three("otflow", [1, 2, 3]), *(flat_run("ffjord", s, 4) for s in (3, 4, 5))]
    table = tables.ratios(group(records), "ffjord", "otflow")
    assert table.rows == []
    (note,) = (n for n in table.notes if "not compared" in n)
    assert "runs differ in seeds" in note
    assert "3, 4, 5 (ffjord)" in note
    table = tables.ratios(group(records, "seeds"), "ffjord", "otflow")
    assert cells(table)["8gaussians"]["seconds to q"].value == pytest.approx(2)
    assert any("allow=seeds: compared although runs differ in seeds" in note for note in table.notes)


@pytest.mark.parametrize(("reason", "marks"), [("budget.seconds", ("ffjord",)), ("schedule", ())])
def test_one_validation_is_converged_where_the_schedule_ended_it(reason, marks):
    single = three("ffjord", [2, 4, 6], reason=reason)
    for one in single:
        one["trace"] = one["trace"][-1:]
    settled = three("otflow", [1, 1, 1])
    for one in settled:
        one["trace"].append({"step": 9, "seconds": 90.0, "valid_nll": 1.0})
    assert tables.target(group([*settled, *single]).frame).unconverged == marks


def test_the_rows_of_a_step_are_said_where_two_solvers_differ_in_them():
    records = [*three("otflow", [1, 2, 3], settings={"batch_size": 4096}),
               *three("ffjord", [2, 4, 6], settings={"batch_size": 500}),
               *three("otflow", [1, 2, 3], dataset="moons", settings={"batch_size": 500}),
               *three("ffjord", [2, 4, 6], dataset="moons", settings={"batch_size": 500})]  # fmt: skip
    table = tables.ratios(group(records), "ffjord", "otflow")
    assert "Rows a step, solver / reference: 8gaussians 500 / 4,096." in table.notes


def over_problems(table, solver):
    (row,) = [row for label, row in table.rows if label == solver]
    return row


def test_over_problems_by_hand():
    """Quotients of pairs of runs: four are 1, eight 2 and four 4 on each of four problems; the middle half are 2."""
    names_ = ("moons", "rings", "circles", "pinwheel")
    records = [r for d in names_ for r in three("otflow", [4, 2, 4, 2], dataset=d)]
    records += [r for d in names_ for r in three("ffjord", [4, 4, 8, 8], dataset=d)]
    records += [r for d in names_[:2] for r in three("rnode", [4, 4, 8, 8], dataset=d)]  # too few problems
    only = group(records)
    table = tables.all_of(only, "otflow")[-1]
    assert table.name == "across_problems"
    assert [label for label, _ in table.rows] == ["ffjord"]
    count, middle, better = over_problems(table, "ffjord")
    assert (count.value, middle.value) == (4, pytest.approx(2))
    assert better.value == pytest.approx(2 / 16)  # of sixteen pairs on a problem four tie
    seconds = [np.array([4.0, 4, 8, 8])] * 4, [np.array([4.0, 2, 4, 2])] * 4
    expected = stats.interquartile_mean_ratio(*seconds, np.random.default_rng(0))
    assert (middle.low, middle.high) == pytest.approx((expected.low, expected.high))
    assert better.low < better.value < better.high


def test_over_problems_takes_part_what_is_sound_and_of_three_seeds():
    names_ = ("moons", "rings", "circles", "pinwheel", "swissroll")
    records = [r for d in names_ for r in three("otflow", [1, 2, 3], dataset=d)]
    records += [r for d in names_[:3] for r in three("ffjord", [2, 4, 6], dataset=d)]
    records += three("ffjord", [2, 4, 6], dataset="pinwheel", failed=["nll_effort"])
    records += [flat_run("ffjord", s, 4, dataset="swissroll") for s in (0, 1)]
    table = tables.all_of(group(records, "seeds"), "otflow")[-1]
    assert over_problems(table, "ffjord")[0].text == "3"
    assert any(note.startswith("ffjord: without pinwheel, swissroll (void") for note in table.notes)
    late = flat_run("ffjord", 2, 6, dataset="moons", floor=2.0)
    marked = [r for r in records if r["key"] != late["key"]]
    middle = over_problems(tables.all_of(group([*marked, late], "seeds"), "otflow")[-1], "ffjord")[1]
    assert middle.text.startswith("2.14*")
    assert middle.value == pytest.approx(((4 / 3) ** 3 * 2**8 * 3**2 * 4**2) ** (1 / 15))  # 15 of 27, by hand
    fewer = [r for r in records if r["config"]["dataset"]["_target_"] != "fake.moons"]
    assert tables.all_of(group(fewer, "seeds"), "otflow")[-1].name != "across_problems"

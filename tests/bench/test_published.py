"""Published values stand in grey beside ours, where the problem is the same, with their source."""

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bench.names import CONF
from bench.report import frame, gaps, lint, published, render, tables, transport
from tests.bench import fake_records as fake


def group(records):
    (only,) = lint.groups(frame.of(records))
    return only


def tabular(name):
    target = {"miniboone": "datasets.tabular.Miniboone", "miniboone_small": "datasets.partial.MinibooneSmall",
              "gas_sample": "datasets.partial.GasSample"}[name]  # fmt: skip
    config = {"dataset": {"_target_": target, "version": 1}}
    return [fake.make(solver, seed=s, config=config, floor=11.0) for solver in ("otflow", "ffjord") for s in range(3)]


def column(table, heading):
    i = [" ".join(name.split()) for name in table.columns].index(heading)
    return {label: cells[i] for label, cells in table.rows}


@pytest.mark.parametrize("name", ["miniboone", "miniboone_small"])
def test_miniboone_has_the_values_of_the_papers(name):
    table = tables.summary(group(tabular(name)), name, "otflow")
    cells = column(table, "NLL (published)")
    assert {solver: cell.text for solver, cell in cells.items()} == {
        "otflow": "10.55", "ffjord": "10.43 ±0.04", "moments": "–",
    }  # fmt: skip
    assert cells["ffjord"].quoted
    assert not any(cell.best for cell in cells.values())
    assert any("ffjord" in note and "1810.01367" in note for note in table.notes)
    assert any("29,556" in note for note in table.notes) == (name == "miniboone_small")
    assert r"\color{gray} 10.43" in render.latex(table)


def test_a_set_with_test_rows_of_its_own_has_none():
    table = tables.summary(group(tabular("gas_sample")), "gas_sample", "otflow")
    assert not any("published" in name for name in table.columns)


def test_flow_matching_has_its_own_measures_beside_the_papers():
    config = {"dataset": {"_target_": "datasets.flow_matching.NormalToEightGaussians", "version": 1}}
    metrics = {"wasserstein_2": 0.31, "normalized_path_energy": 0.02}
    records = [fake.make("otcfm", seed=s, config=config, metrics=metrics) for s in range(3)]
    (table,) = [t for t in transport.all_of(group(records), "otflow") if t.name.endswith("_straight")]
    assert column(table, "NPE")["otcfm"].value == 0.02
    assert column(table, "NPE (published)")["otcfm"].text == "0.018 ±0.014"
    assert column(table, "W2 (published)")["otcfm"].text == "0.303 ±0.043"
    assert {"2302.00482", "2307.03672"} <= {
        word for note in table.notes for word in note.replace(")", " ").replace(",", " ").split()
    }


def part_of(name, nlls, **more):
    config = {"dataset": {"_target_": f"datasets.partial.{name}", "version": 1}}
    return [fake.make(solver, seed=s, config=config, metrics={"nll": nll}, **more)
            for solver, nll in nlls.items() for s in range(3)]  # fmt: skip


def test_a_partial_set_shows_order_and_gaps_beside_the_standard_set():
    """Published: RQ-NSF (AR) 0.66 and OT-Flow 0.30 nats of log-likelihood on POWER; nothing of rnode."""
    records = part_of("Power2007H1", {"otflow": -0.27, "nsf": -0.60, "rnode": -0.7})
    records += part_of("Power2007H1", {"maf": -0.73}, failed=["nll_effort"])
    (made,) = gaps.all_of(group(records))
    assert {label: [cell.text for cell in cells[1:]] for label, cells in made.rows} == {
        "rnode": ["-0.10", "–", "–"], "nsf": ["0.00", "-0.66", "0.00"], "otflow": ["0.33", "-0.30", "0.36"],
    }  # fmt: skip
    assert [label for label, _ in made.rows] == ["rnode", "nsf", "otflow"]
    assert [cell.quoted for cell in made.rows[2][1]] == [False, False, True, True]
    assert "maf: no sound NLL." in made.notes
    assert any("1,659,917 rows, here on 225,878" in note for note in made.notes)


def test_gaps_say_what_they_are_uncertain_by_and_who_has_fewer_seeds():
    records = part_of("Power2007H1", {"otflow": -0.27, "nsf": -0.60, "maf": -0.7})
    for one in records:
        one["metrics"]["nll_stderr"] = 0.031
    (made,) = gaps.all_of(group([*records[:6], records[6]]))
    assert "Not ranked, as others have more seeds: maf (allow=seeds ranks all)." in made.notes
    assert "Standard error of an NLL over the test rows: 0.031 nats." in made.notes


def test_one_solver_alone_has_no_gaps():
    assert gaps.all_of(group(part_of("Power2007H1", {"otflow": -0.27, "rnode": 2.8}))) == []


def test_every_partial_set_says_how_many_rows_it_trains_on():
    assert set(published.PART) == set(published.KIN)
    for name in published.KIN:
        config = OmegaConf.load(CONF / "dataset" / f"{name}.yaml")
        known = instantiate(config)
        rows = known.patches if name == "bsds300_redrawn" else known.rows
        assert f"{rows[0]:,}" in published.PART[name]


def test_a_source_is_its_first_without_how_it_was_read():
    assert published._short("A, arXiv 1, Table 2 (left); read via B; same in C") == "A, arXiv 1, Table 2 (left)"


def test_training_on_a_tabular_set_stands_beside_the_published():
    table = tables.training(group(tabular("miniboone_small")), "miniboone_small", "otflow")
    shown = {h: {label: cell.text for label, cell in column(table, h).items()} for h in (
        "params (published)", "training (h) (published)", "steps (published)")}  # fmt: skip
    assert shown == {
        "params (published)": {"otflow": "78,053", "ffjord": "820,613"},
        "training (h) (published)": {"otflow": "0.8", "ffjord": "9.0"},
        "steps (published)": {"otflow": "7K", "ffjord": "–"},
    }
    assert column(table, "steps (published)")["otflow"].value == 7000
    assert column(table, "params (published)")["otflow"].quoted
    hours = column(table, "training (h)")["otflow"].value
    assert hours == pytest.approx(np.median([r["cost"]["fit_seconds"] for r in tabular("miniboone_small")[:3]]) / 3600)
    assert any("TITAN X" in line for line in table.legend)
    assert sum("29,556" in note for note in table.notes) == 1


@pytest.mark.parametrize("name", ["gas_sample", "miniboone"])
def test_a_table_of_training_is_made_where_something_is_published(name):
    made = tables.all_of(group(tabular(name)), "otflow")
    assert any(table.name == f"{name}_training" for table in made) == (name == "miniboone")

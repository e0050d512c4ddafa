"""Tables of what is approached: grids, regularisation, and the scheme's share of a control."""

import json

import pytest

from bench.report import convergence, frame, lint
from bench.report.render import NOTHING
from tests.bench import fake_records as fake
from tests.bench.test_report import cells, group

MIXTURE = {"_target_": "datasets.mixtures.MixtureToGaussian", "version": 1, "dim": 2}
GRID = {"_target_": "solvers.eulerian.Eulerian", "version": 2, "cells": 16, "intervals": 8, "tolerance": 1e-4}


def grid(levels, gap, **fields):
    metrics = {"cost_estimate": 5.0, "kl_estimate": 0.1, "relaxed_objective_gap": gap, "relaxed_uvp_2": 100 * gap}
    solver = {**GRID, "levels": levels, **fields}
    return fake.make("eulerian", seed=0, metrics=metrics, config={"dataset": MIXTURE, "solver": solver})


def sampled(solver, cost, failed=(), seed=0, dtype="float32", **fields):
    record = fake.make(
        solver,
        seed=seed,
        metrics={"cost_estimate": cost},
        config={
            "dataset": MIXTURE,
            "dtype": dtype,
            "solver": {"_target_": f"solvers.{solver}.{solver.title()}", "version": 1, "n_points": 100, **fields},
        },
    )
    record["certificates"] |= {name: {"value": 1.0, "limit": 0.0, "ok": False} for name in failed}
    return record


def test_orders_are_of_grids_twice_as_fine_and_of_one_tolerance():
    runs = [grid(2, 0.04), grid(3, -0.01), grid(5, 0.001), grid(4, 0.5, tolerance=1e-2)]
    table = cells(convergence.grids(group(runs), "mixture_to_gaussian d=2"))
    assert list(table) == [
        "32 x 32 x 16 (tolerance 0.0001)",
        "64 x 64 x 32 (tolerance 0.0001)",
        "256 x 256 x 128 (tolerance 0.0001)",
    ]
    fine = table["64 x 64 x 32 (tolerance 0.0001)"]
    assert fine["order of the gap"].value == fine["order of L2-UVP"].value == pytest.approx(2)
    assert fine["objective gap %"].value == -1
    assert table["32 x 32 x 16 (tolerance 0.0001)"]["order of the gap"] == NOTHING
    assert table["256 x 256 x 128 (tolerance 0.0001)"]["order of the gap"] == NOTHING  # a grid is missing between


def test_a_cost_that_is_off_with_every_certificate_sound_is_said():
    runs = [
        sampled("exact", 2.0),
        sampled("sinkhorn", 2.01, reg=1e-2, backend="blocks"),
        sampled("sinkhorn", 1.0, reg=1e-3, backend="blocks", failed=["marginal_target"]),
        sampled("sinkhorn", 1.0, reg=1e-4, backend="blocks", n_points=50),  # no exact one of those points
    ]
    table = convergence.regularisation(group(runs), "mixture_to_gaussian d=2")
    found = cells(table)
    assert list(found) == ["blocks, reg = 0.01, n = 100", "blocks, reg = 0.001, n = 100"]
    assert found["blocks, reg = 0.01, n = 100"]["off the exact cost %"].value == pytest.approx(0.5)
    assert found["blocks, reg = 0.001, n = 100"]["fails"].text == "marginal_target"
    assert "No cost is wrong in silence." in table.notes
    wrong = [*runs, sampled("sinkhorn", 2.03, reg=1e-5, backend="blocks", failed=["sampling_bias"])]
    table = convergence.regularisation(group(wrong), "mixture_to_gaussian d=2")
    assert "Wrong in silence: blocks, reg = 1e-05, n = 100." in table.notes


def test_seeds_are_held_to_their_own_points():
    runs = [sampled("exact", 2.0 + seed, seed=seed) for seed in (0, 1)]
    runs += [sampled("sinkhorn", 2.0 + s, reg=r, backend="blocks", seed=s) for s in (0, 1) for r in (0.1, 0.2)]
    table = convergence.regularisation(group(runs), "mixture_to_gaussian d=2")
    assert len(table.rows) == 4
    assert all(dict(zip(table.columns, row, strict=True))["off the exact\ncost %"].value == 0 for _, row in table.rows)


def test_what_was_drawn_in_another_precision_is_of_other_points():
    runs = [sampled("exact", 2.0, dtype="float32"), sampled("exact", 3.0, seed=1, dtype="float64")]
    runs += [
        sampled("sinkhorn", 3.0, dtype="float64", seed=seed, reg=r, backend="blocks")
        for r in (0.1, 0.2)
        for seed in (0, 1)
    ]
    (only,) = lint.groups(frame.of(runs), ["dtype"])
    table = convergence.regularisation(only, "mixture_to_gaussian d=2")
    off = [dict(zip(table.columns, row, strict=True))["off the exact\ncost %"].value for _, row in table.rows]
    assert off == [0, 0], "those of seed 1"


def test_nothing_is_shown_of_one_grid_and_one_regularisation():
    runs = [grid(2, 0.04), sampled("exact", 2.0), sampled("sinkhorn", 2.0, reg=1e-2, backend="blocks")]
    assert convergence.all_of(group(runs)) == []


def test_advection_is_held_to_the_exact_control_in_the_same_scheme(tmp_path):
    def row(control, cells, value):
        way = {"cost": value, "kl": 0.1, "objective": value + 0.25}
        return {"control": control, "cells": cells, "forward": way, "backward": {**way, "objective": 2 * value}}

    rows = [row(c, n, v) for c, v in (("exact control", 5.0), ("eulerian", 6.0)) for n in (None, 64)]
    for machine in ("slow", "fast"):
        (tmp_path / machine).mkdir()
        made = {"dataset": "mixture", "weight": 2.5, "rows": rows, "env": {"cpu": f"a {machine} one"}}
        (tmp_path / machine / "a.json").write_text(json.dumps(made))
        (tmp_path / machine / "b.json").write_text("{")
    table, other = convergence.advections([tmp_path / "slow", tmp_path / "fast"])
    assert (table.file, other.file) == ("mixture_advection", "mixture_advection_2"), "neither is written over the other"
    assert [list(one.notes) for one in (table, other)] == [["Computed on a slow one."], ["Computed on a fast one."]]
    found = cells(table)
    assert list(found)[:2] == ["exact control, 64 x 64", "eulerian, 64 x 64"]
    assert found["exact control, characteristics"]["forward gap %"].value == 0
    assert found["eulerian, characteristics"]["backward gap %"].value == pytest.approx(20)
    assert found["eulerian, 64 x 64"]["forward objective"].value == 6.25


def foreign(solver, **fields):
    """A solver of the user's own whose module is called like one of ours."""
    found = {"cost_estimate": 2.0, "relaxed_objective_gap": 0.1, "relaxed_uvp_2": 1.0}
    settings = {"_target_": f"mypackage.{solver}.Mine", **fields}
    return fake.make(solver, metrics=found, config={"dataset": MIXTURE, "solver": settings})


@pytest.mark.parametrize(
    ("solver", "fields"),
    [
        ("exact", {}),
        ("exact", {"n_points": [100]}),
        ("sinkhorn", {}),
        ("sinkhorn", {"n_points": 100, "reg": "auto", "backend": "blocks"}),
        ("sinkhorn", {"n_points": 100, "reg": 0.1, "backend": None}),
        ("eulerian", {}),
        ("eulerian", {"cells": 16.5, "intervals": 8, "levels": 2, "tolerance": 1e-4}),
        ("eulerian", {"cells": 16, "intervals": 8, "levels": 10**9, "tolerance": 1e-4}),
        ("eulerian", {"cells": 16, "intervals": 8, "levels": 2, "tolerance": "tight"}),
    ],
)
def test_solvers_of_the_same_name_and_other_settings_are_left_out(solver, fields):
    assert convergence.all_of(group([foreign(solver, **fields)])) == []
    ours = [grid(2, 0.04), grid(3, -0.01), sampled("exact", 2.0)]
    ours += [sampled("sinkhorn", 2.0, reg=reg, backend="blocks") for reg in (0.1, 0.2)]
    records = [*ours, one := foreign(solver, **fields)]
    one["config"]["seed"] = 7
    assert [len(table.rows) for table in convergence.all_of(group(records))] == [2, 2]


def test_an_exact_cost_that_is_none_holds_nothing_to_it():
    runs = [sampled("sinkhorn", 2.0, reg=reg, backend="blocks") for reg in (0.1, 0.2)]
    assert convergence.all_of(group([*runs, sampled("exact", 0.0)])) == []


def test_an_exact_control_without_an_objective_is_no_experiment(tmp_path):
    way = {"cost": 0.0, "kl": 0.0, "objective": 0.0}
    row = {"control": "exact control", "cells": 64, "forward": way, "backward": way}
    (tmp_path / "a.json").write_text(
        json.dumps({"dataset": "mixture", "weight": 2.5, "rows": [row], "env": {"cpu": "any"}})
    )
    assert convergence.advections([tmp_path]) == []

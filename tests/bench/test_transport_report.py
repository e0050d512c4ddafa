"""Tables and figures of transport problems, from records such as a sweep would leave."""

import numpy as np
import pytest
import torch

from bench.report import explore, figures, frame, lint, transport, transport_figures
from bench.report.render import NOTHING
from datasets.gaussians import Gaussian
from solvers.eulerian import Eulerian
from solvers.exact import Exact
from tests.bench import fake_records as fake
from tests.bench.test_report import cells, group

EXACT = {"cost_estimate": 5.5, "transport_cost": 5.6, "cost_gap": -0.01, "cost_bound": 5.0, "same_law_cost": 0.1,
         "l2_uvp": 0.5, "uvp_2": 0.7, "l2_uvp_inverse": 0.9, "cosine": 0.999}  # fmt: skip
RELAXED = {"relaxation": 2.5, "transport_cost": 5.05, "cost_estimate": 5.1,
           "relaxed_estimate_gap": 0.02, "relaxed_objective_gap": 0.003, "kl_estimate": 0.12, "upwind_cost": 5.1,
           "relaxed_kl_gap": 0.003, "relaxed_l2_uvp": 1.0, "relaxed_uvp_2": 2.0, "hjb_residual": 0.3,
           "upwind_objective": 5.4, "upwind_objective_backward": 5.5,
           "nll_gap": 0.13, "cost_backward": 4.8, "kl_backward": 0.11}  # fmt: skip


def made(solver, dim, seed=0, **metrics):
    dataset = {"_target_": "datasets.mixtures.MixtureToGaussian", "version": 1, "dim": dim}
    return fake.make(solver, seed=seed, metrics=metrics, config={"dataset": dataset})


def test_the_exact_table_holds_cost_and_map_to_the_truth():
    runs = group([made("exact", 2, **EXACT), made("sinkhorn", 2, **{**EXACT, "l2_uvp": 0.25})])
    table = cells(transport.exact(runs, "mixture_to_gaussian d=2", "otflow"))
    assert table["exact"]["gap of map %"].value == -1.0
    assert table["exact"]["L2-UVP %"].text == "0.500"
    assert table["sinkhorn"]["its own estimate"].value == 5.5
    assert "weight of KL" not in table["exact"]


def test_a_stored_measure_that_was_subsampled_says_so():
    record = made("exact", 2, **EXACT)
    record["trace"] = [{"step": 1, "seconds": 1.0, "source_rows": 5000.0, "source_stored": 1e6, "target_rows": 5000.0}]
    notes = transport.exact(group([record]), "mixture_to_gaussian d=2", "otflow").notes
    assert "exact couples 5,000 of 1,000,000 rows of the source." in notes
    record["trace"][0]["source_stored"] = 5000.0
    assert not any("couples" in n for n in transport.exact(group([record]), "mixture_to_gaussian d=2", "otflow").notes)


def test_what_nothing_is_known_of_has_no_table():
    assert transport.all_of(group(fake.sweep(1)), "otflow") == []


def test_a_failed_certificate_of_a_cost_voids_it_and_names_itself():
    record = made("exact", 2, **EXACT)
    record["certificates"]["sampling_bias"] = {"value": 0.4, "limit": 0.05, "ok": False}
    table = transport.exact(group([record]), "mixture_to_gaussian d=2", "otflow")
    assert cells(table)["exact"]["its own estimate"].void
    assert not cells(table)["exact"]["L2-UVP %"].void
    assert any("sampling_bias" in note for note in table.notes)


@pytest.mark.parametrize(
    "name", ["marginal_source", "marginal_target", "mass", "duality_gap", "lost_mass", "levels_left"]
)
def test_what_a_solver_certifies_itself_voids_its_costs(name):
    assert name in certificates_of_solvers()
    for solver, metrics, table, heading in (
        ("sinkhorn", EXACT, transport.exact, "its own estimate"),
        ("eulerian", RELAXED, transport.relaxed, "cost L"),
        ("eulerian", RELAXED, transport.relaxed, "KL"),
        ("eulerian", RELAXED, transport.advected, "objective"),
    ):
        record = made(solver, 2, **metrics)
        assert not cells(table(group([record]), "mixture_to_gaussian d=2", "otflow"))[solver][heading].void
        record["certificates"][name] = {"value": 1.0, "limit": 0.0, "ok": False}
        assert cells(table(group([record]), "mixture_to_gaussian d=2", "otflow"))[solver][heading].void


def test_curves_that_are_not_straight_void_a_cost_along_them():
    record = made("neural_hjb", 2, **{**EXACT, **RELAXED})
    record["certificates"]["straightness"] = {"value": 0.07, "limit": 0.02, "ok": False}
    only = group([record])
    exact = cells(transport.exact(only, "mixture_to_gaussian d=2", "otflow"))["neural_hjb"]
    relaxed = cells(transport.relaxed(only, "mixture_to_gaussian d=2", "otflow"))["neural_hjb"]
    assert exact["its own estimate"].void
    assert not exact["cost of its map"].void
    assert relaxed["cost L"].void
    assert not relaxed["KL"].void


def certificates_of_solvers() -> set[str]:
    """The names that solvers on samples and on grids give to their certificates."""
    pair = Gaussian(torch.zeros(2), torch.eye(2)), Gaussian(torch.ones(2), torch.eye(2))
    grid = Eulerian(levels=1).start(*pair, torch.Generator())
    coupling = Exact(n_points=10).start(*pair, torch.Generator())
    coupling.step()
    return set(grid.transport().certificates) | set(coupling.transport().certificates)


def test_every_certificate_of_a_solver_voids_something():
    assert certificates_of_solvers() == {*transport.PROVEN, "curves"}


def test_curves_that_are_not_the_path_of_the_grid_void_what_they_do_and_not_its_cost():
    record = made("eulerian", 2, **{**EXACT, **RELAXED})
    record["certificates"]["curves"] = {"value": 0.35, "limit": 0.02, "ok": False}
    only = group([record])
    relaxed = cells(transport.relaxed(only, "mixture_to_gaussian d=2", "otflow"))["eulerian"]
    assert relaxed["L2-UVP %"].void
    assert not relaxed["cost L"].void
    assert cells(transport.advected(only, "mixture_to_gaussian d=2", "otflow"))["eulerian"]["objective"].void
    for error in transport.ERRORS:
        by_dimension = transport.by_dimension(only, "mixture_to_gaussian", "otflow", error)
        assert cells(by_dimension)["eulerian"]["d = 2"].void
    exact = cells(transport.exact(only, "mixture_to_gaussian d=2", "otflow"))["eulerian"]
    of_the_map = ("L2-UVP %", "of x1, x2 %", "inverse L2-UVP %", "cosine", "cost of its map", "gap of map %")
    assert [heading for heading in of_the_map if not exact[heading].void] == []
    assert not exact["its own estimate"].void
    (cell,) = explore.data(only, "otflow")["cells"]
    assert {"l2_uvp", "relaxed_l2_uvp"} <= set(cell["void"])


def test_a_relaxed_solver_among_the_exact_says_so():
    runs = group([made("exact", 2, **EXACT), made("neural_hjb", 2, **EXACT, relaxation=2.5)])
    table = cells(transport.exact(runs, "mixture_to_gaussian d=2", "otflow"))
    assert table["neural_hjb"]["weight of KL"].value == 2.5
    assert table["exact"]["weight of KL"] == NOTHING


def test_the_relaxed_table_says_the_weight_and_leaves_map_solvers_out():
    runs = group([made("exact", 2, **EXACT), made("neural_hjb", 2, **RELAXED), made("eulerian", 2, **RELAXED)])
    table = cells(transport.relaxed(runs, "mixture_to_gaussian d=2", "otflow"))
    assert set(table) == {"neural_hjb", "eulerian"}
    assert table["neural_hjb"]["weight of KL"].value == 2.5
    assert table["neural_hjb"]["gap of L %"].value == pytest.approx(2.0)
    assert table["neural_hjb"]["KL"].value == 0.12
    assert table["neural_hjb"]["objective gap %"].value == pytest.approx(0.3)
    assert table["neural_hjb"]["cost L"].value == 5.1
    table = cells(transport.advected(runs, "mixture_to_gaussian d=2", "otflow"))
    assert table["neural_hjb"]["objective"].value == 5.4
    assert table["neural_hjb"]["backward objective"].value == 5.5
    assert table["neural_hjb"]["by the map"].value == pytest.approx(5.05 + 2.5 * 0.13)
    assert table["neural_hjb"]["backward by the map"].value == pytest.approx(4.8 + 2.5 * 0.11)


@pytest.mark.parametrize("finest_first", [True, False])
def test_of_settings_without_a_validation_the_longest_is_shown_against_dimension(finest_first):
    """As of a grid solver's grids on one problem: whichever record comes first, and whatever their errors."""
    runs = []
    for levels, seconds, error in ((4, 90.0, 0.5), (2, 1.0, 0.1)):
        record = made("eulerian", 2, l2_uvp=error)
        record["config"]["solver"]["levels"] = levels
        record["key"] = f"{levels}" * 16
        record["trace"] = []
        record["cost"]["fit_seconds"] = seconds
        runs.append(record)
    only = group(runs if finest_first else runs[::-1])
    assert cells(transport.by_dimension(only, "mixture_to_gaussian", "otflow"))["eulerian"]["d = 2"].value == 0.5


def test_errors_against_dimension_have_a_column_each_and_published_rows_for_the_benchmark():
    records = [made("enot", d, seed=s, l2_uvp=0.1 * d + s) for d in (2, 4) for s in (0, 1, 2)]
    table = transport.by_dimension(group(records), "mixture_to_gaussian", "otflow")
    assert list(table.columns) == ["d = 2", "d = 4"]
    assert [c.value for c in dict(table.rows)["enot"]] == pytest.approx([1.2, 1.4])
    relaxed = [made("neural_hjb", d, relaxed_uvp_2=float(d)) for d in (2, 10)]
    titles = {t.title: t for t in transport.all_of(group([*records, *relaxed]), "otflow")}
    table = titles["mixture_to_gaussian: L2-UVP of x1, x2 in %, of the relaxed problem, against dimension"]
    assert [name for name, _ in table.rows] == ["neural_hjb"]
    quoted = dict(transport.published([2, 16]))
    assert [c.value for c in quoted["ENOT (published)"]] == [0.02, 0.24]
    assert all(c.grey and str(c) == c.text for row in quoted.values() for c in row if c.quoted)


def test_one_dimension_makes_no_family():
    assert transport.families(frame.of([made("enot", 2, l2_uvp=1.0)])) == []
    assert transport.families(frame.of([made("enot", d, l2_uvp=1.0) for d in (2, 10)])) == ["mixture_to_gaussian"]


def test_figures_show_relaxed_solvers_over_each_other_and_errors_against_dimension():
    figures.use_theme()
    solvers = ("neural_hjb", "eulerian", "exact")
    records = [made(name, d, **(EXACT if name == "exact" else RELAXED)) for name in solvers for d in (2, 10)]
    paths = np.cumsum(np.ones((17, 64, 2)), 0) + np.arange(64)[:, None]
    shown = {"mixture_to_gaussian d=2": {name: {"paths": paths} for name in solvers}}
    drawn = list(transport_figures.all_of(group(records), shown, "otflow"))
    assert [one.name for one in drawn] == [
        "characteristics_mixture_to_gaussian d=2",
        "mixture_to_gaussian_dimension",
    ]
    texts = [t.get_text() for t in drawn[0].figure.legends[0].get_texts()]
    assert sorted(texts) == ["eulerian", "neural_hjb"]
    labels = [axis.get_ylabel() for axis in drawn[1].figure.axes]
    assert "L2-UVP (%)" in labels
    for one in drawn:
        figures.close(one.figure)
    assert len(lint.groups(frame.of(records))) == 1


def several_regs():
    """sinkhorn at two settings on the plane, and at the second of them in ten dimensions; it has no NLL."""
    found = []
    for d, reg, error in ((2, 1e-2, 1.0), (2, 5e-3, 2.0), (10, 5e-3, 3.0)):
        record = made("sinkhorn", d, **{**EXACT, "l2_uvp": error, "estimate_gap": 0.1 * d})
        record["config"]["solver"] |= {"reg": reg}
        record["key"] = f"{d:08}{reg:.2e}"
        record["trace"] = []
        found.append(record)
    return found


def test_without_an_nll_the_setting_of_most_dimensions_is_shown_and_named():
    table = transport.by_dimension(group(several_regs()), "mixture_to_gaussian", "otflow")
    assert [c.value for c in dict(table.rows)["sinkhorn"]] == [2.0, 3.0]
    assert [note for note in table.notes if "of 2 settings" in note] == ["d = 2: sinkhorn (a), of 2 settings."]


def test_the_figure_greys_costs_that_failed_a_certificate_and_no_others():
    records = several_regs()[1:]
    records[1]["certificates"]["sampling_bias"] = {"value": 0.4, "limit": 0.05, "ok": False}
    figures.use_theme()
    drawn = transport_figures.against_dimension(group(records), "mixture_to_gaussian", "otflow")
    axes = {axis.get_ylabel(): axis for axis in drawn.figure.axes}
    greys = {
        label: [line.get_xdata()[0] for line in axis.lines if line.get_color() == "0.7"] for label, axis in axes.items()
    }
    assert greys["|cost gap| (%)"] == [10]
    assert greys["L2-UVP (%)"] == []
    figures.close(drawn.figure)


def test_a_table_against_dimension_admits_to_overrides():
    records = [made("enot", d, l2_uvp=1.0) for d in (2, 4)]
    records[1]["env"] = {**records[1]["env"], "threads": 8}
    (note,) = transport.by_dimension(group(records, "threads"), "mixture_to_gaussian", "otflow").notes
    assert note.startswith("allow=threads: these runs differ in threads")

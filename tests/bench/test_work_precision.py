"""The work-precision figure: its points by hand, and what it looks like once drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from bench import accuracy
from bench.report import equal_accuracy, figures, frame, lint, styles, work_precision
from tests.bench import fake_records as fake
from tests.bench.labels import assert_legible

ORDER = {"otflow": 4, "ffjord": 4, "rnode": 2}


def points(scale, order, seconds=0.1, efforts=accuracy.EFFORTS):
    return [{"effort": e, "seconds": seconds * e, "error": scale * e**-order} for e in efforts]


def run(solver, seed, given, dataset="8gaussians", rows=2000, **more):
    return fake.make(solver, dataset, seed, cost={"work_precision": given, "accurate_rows": rows}, **more)


def drawn(records):
    figures.use_theme()
    (group,) = lint.groups(frame.of(records))
    return list(work_precision.figures(group, "otflow"))


def test_the_aim_is_that_of_the_comparison():
    assert equal_accuracy.AIM == accuracy.TOLERANCE


def test_medians_over_seeds_for_1000_points_at_efforts_that_no_run_broke_down_at():
    runs = [run("otflow", s, points(scale, 4)) for s, scale in enumerate((1e-3, 2e-3, 9e-3))]
    runs[0]["cost"].update(accurate_rows=500)  # four times as long a point
    runs[2]["cost"]["work_precision"][0] |= {"seconds": None, "error": None}
    found = work_precision.curve(frame.of(runs))
    efforts = np.array(accuracy.EFFORTS[1:])
    assert found[:, 0] == pytest.approx(efforts)
    assert found[:, 1] == pytest.approx(0.1 * efforts / 2)
    assert found[:, 2] == pytest.approx(2e-3 * efforts**-4)
    mute = [run("otflow", 3, None), run("otflow", 4, points(1e-3, 4), rows=0)]
    assert work_precision.curve(frame.of([*runs, *mute])) == pytest.approx(found), "no density, no say"


def test_seconds_at_equal_accuracy():
    def accurate(solver, seed, seconds, effort, dataset="moons", rows=500, **more):
        cost = {"accurate_seconds": seconds, "accurate_effort": effort, "accurate_rows": rows}
        made = run(solver, seed, points(1e-3, 4), dataset, **more)
        return made | {"cost": {**made["cost"], **cost}}

    records = [accurate("otflow", s, seconds, 0.5) for s, seconds in enumerate((0.01, 0.02, 0.9))]
    records += [
        accurate("ffjord", 0, 0.1, 1.0),
        accurate("ffjord", 1, None, None),
        accurate("rnode", 0, 1e-4, 2.0, "rings"),
        accurate("ffjord", 0, 0.1, 1.0, "rings", rows=0),
    ]
    records += [accurate("cfm", 0, 0.1, 1.0, failed=["density_integral"])]
    (group,) = lint.groups(frame.of(records))
    (table,) = equal_accuracy.all_of(group, "otflow")
    assert table.columns == ["otflow", "cfm", "ffjord", "rnode"]
    assert {name: [str(cell) for cell in cells] for name, cells in table.rows} == {
        "moons": ["0.0400 (0.5)", "0.200 (1)†", "not within", "–"],
        "rings": ["–", "–", "not within", "2.0e-4 (2)"],
    }
    records = [accurate("otflow", s, 0.1, 1.0) for s in range(2)]
    records += [fake.make("otflow", "moons", 2, status="crash", reason="x")]
    (group,) = lint.groups(frame.of(records))
    (table,) = equal_accuracy.all_of(group, "otflow")
    assert str(table.rows[0][1][0]) == "0.200 (1)\n(2 of 3)", "the survivors are said to be that"
    (group,) = lint.groups(frame.of(fake.sweep(1)))
    assert list(equal_accuracy.all_of(group, "otflow")) == []


def test_nothing_is_drawn_where_nothing_is_integrated():
    still = [{"effort": 1.0, "seconds": 0.1, "error": 0.0}]
    assert drawn([run("moments", 0, still), run("maf", 0, still)]) == []
    assert drawn(fake.sweep(1)) == []


def test_a_panel_a_problem_and_a_line_a_solver():
    records = [
        run(solver, seed, points(1e-3 * (1 + seed), order), dataset)
        for dataset in ("8gaussians", "moons", "digits")
        for solver, order in ORDER.items()
        for seed in range(3)
    ]
    records += [run("moments", 0, [{"effort": 1.0, "seconds": 1e-4, "error": 0.0}], "moons")]
    records += [run("otcfm", 0, points(1e-2, 4), "digits", failed=["density_integral"])]
    (one,) = drawn(records)
    shown = {axis.get_title(): axis for axis in one.figure.axes if axis.get_visible()}
    assert list(shown) == ["8gaussians", "digits", "moons"]
    aim, *lines = shown["moons"].lines
    assert list(aim.get_ydata()) == [accuracy.TOLERANCE] * 2
    assert [line.get_label() for line in lines[::2]] == ["otflow", "ffjord", "rnode", "moments"]
    for solver, (whole, own) in zip(ORDER, zip(*[iter(lines)] * 2, strict=True), strict=False):
        assert len(whole.get_ydata()) == len(accuracy.EFFORTS)
        assert (own.get_xdata(), own.get_ydata()) == (pytest.approx([0.05]), pytest.approx([2e-3]))
        assert to_hex(own.get_color()).upper() == to_hex(whole.get_color()).upper() == styles.style(solver).colour
    assert lines[-2].get_ydata() == pytest.approx([work_precision.FLOOR])
    grey = [line for line in shown["digits"].lines if line.get_color() == work_precision.VOID]
    assert [len(line.get_xdata()) for line in grey] == [len(accuracy.EFFORTS), 1]
    one.figure.draw_without_rendering()
    one.figure.axes[-1].remove()  # the unused panel
    assert_legible(one.figure)
    figures.close(one.figure)

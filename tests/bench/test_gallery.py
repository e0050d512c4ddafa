"""Galleries and marginals: which panel shows what, read off the drawn figures; and that their words fit."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from bench.report import figures, gallery, marginals, shown
from bench.report.panels import NOT_GIVEN
from bench.report.venues import NARROW, VENUES
from tests.bench import fake_records as fake
from tests.bench.test_report import group

BOX = np.array([[-4.0, -4.0], [4.0, 4.0]])
POINTS = np.random.default_rng(0).standard_normal((50, 2))
GRID = np.linspace(0, 1, 64).reshape(8, 8)
DATA = {"box": BOX, "test": POINTS, "truth": GRID, "target_box": 2 * BOX, "target": 3 * GRID, "target_points": POINTS}
FLOW = DATA | {
    "model": 2 * GRID,
    "generated": POINTS + 1,
    "forward": POINTS + 2,
    "pushed": 4 * GRID,
    "paths": np.stack([POINTS + t for t in range(4)]),
    "potential": GRID,
}
MAP = {name: FLOW[name] for name in (*DATA, "model", "generated", "forward")}  # no time
NO_DENSITY = {name: FLOW[name] for name in ("box", "test", "truth", "forward", "paths")}
RECORDS = [
    fake.make("otflow"),
    fake.make("maf", failed=["density_integral"]),
    fake.make("exact", metrics={"nll": None}),
]


@pytest.fixture(autouse=True)
def _theme():
    with plt.rc_context():
        figures.use_theme()
        yield


ROW = f"otflow\nNLL {RECORDS[0]['metrics']['nll']:.3f}"


def drawn(row, records=RECORDS):
    made = list(gallery.all_of(group(records), {"8gaussians": row}, "otflow"))
    for one in made:
        figures.close(one.figure)
    return made


def table_of(figure):
    """{name of the row: {title of the column: its panel}}."""
    columns = figure.axes[0].get_subplotspec().get_gridspec().ncols
    rows = [figure.axes[i : i + columns] for i in range(0, len(figure.axes), columns)]
    titles = [axis.get_title() for axis in rows[0]]
    return {line[0].get_ylabel(): dict(zip(titles, line, strict=True)) for line in rows}


def says(axis):
    return [text.get_text() for text in axis.texts if text.get_text()]


def image(axis):
    (found,) = axis.images
    return found


def cloud(axis):
    return axis.collections[0].get_offsets()


def test_a_row_for_the_data_and_each_solver_with_its_nll():
    (one,) = drawn({"exact": NO_DENSITY, "maf": MAP, "otflow": FLOW})
    assert one.name == "gallery_8gaussians"
    rows = table_of(one.figure)
    nll = {record["config"]["solver"]["_target_"].split(".")[1]: record["metrics"]["nll"] for record in RECORDS}
    assert list(rows) == ["data", f"otflow\nNLL {nll['otflow']:.3f}", "exact", f"maf\nNLL {nll['maf']:.3f}†"]
    for line in rows.values():
        assert list(line) == ["density", "samples", "push-forward", "trajectories", "potential"]


def test_each_panel_shows_its_arrays():
    (one,) = drawn({"otflow": FLOW, "maf": MAP, "exact": NO_DENSITY})
    data, flow, exact, maf = table_of(one.figure).values()
    for line, density, pushed in ((data, GRID, 3 * GRID), (flow, 2 * GRID, 4 * GRID)):
        for title, expected, peak in (("density", density, 1.0), ("push-forward", pushed, 3.0)):
            np.testing.assert_array_equal(image(line[title]).get_array(), expected.T)
            assert image(line[title]).get_clim() == (0, peak), "the truth's colours"
    assert image(flow["push-forward"]).get_extent() == [-8, 8, -8, 8]
    for axis, expected in (
        (data["samples"], POINTS),
        (flow["samples"], POINTS + 1),
        (maf["push-forward"], POINTS + 2),
        (exact["push-forward"], POINTS + 2),
    ):
        np.testing.assert_array_equal(cloud(axis), expected)
    assert maf["push-forward"].get_xlim() == (-8, 8), "in the target's frame"
    assert len(flow["trajectories"].lines) == len(POINTS)
    np.testing.assert_array_equal(flow["trajectories"].lines[7].get_xydata(), FLOW["paths"][:, 7])
    for axis in (maf["trajectories"], maf["potential"], exact["density"], exact["samples"]):
        assert says(axis) == [NOT_GIVEN]
    assert says(data["trajectories"]) == []
    assert not data["trajectories"].lines


def test_a_column_that_nobody_fills_is_not_there_and_its_caption_neither():
    (one,) = drawn({"maf": MAP})
    assert list(table_of(one.figure)["data"]) == ["density", "samples", "push-forward"]
    assert "rajector" not in one.caption
    assert drawn({"maf": {"box": BOX, "test": POINTS}}) == []
    assert drawn({"otflow": {"decoded": GRID[None]}}) == []


def test_pictures_made_before_there_was_more_still_draw(tmp_path):
    records = [fake.make("otflow"), fake.make("moments")]
    fake.store(tmp_path, records, pictures=True)
    pictured, problems = shown.pictures_of(group(records).frame.assign(folder=tmp_path), "otflow")
    assert problems == []
    (one,) = drawn(pictured["8gaussians"], records)
    rows = table_of(one.figure)
    assert [name.partition("\n")[0] for name in rows] == ["data", "otflow", "moments"]
    assert list(rows["data"]) == ["density", "samples", "trajectories"]


@pytest.mark.parametrize(
    ("given", "lacks"),
    [
        (("test",), "box, decoded or marginal_test"),
        (("box", "decoded"), "test"),
        (("box", "test", "marginal_test"), "marginal_target_points"),
        (("box", "test", "target", "pushed"), "target_box"),
        (("box", "test", "images"), "decoded"),
    ],
)
def test_a_picture_that_lacks_what_its_arrays_need_is_named(given, lacks, tmp_path):
    record = fake.make()
    arrays = FLOW | MARGINALS | {"decoded": GRID[None], "images": GRID[None]}
    np.savez(tmp_path / f"{record['key']}.npz", **{name: arrays[name] for name in given})
    found, problems = shown.pictures_of(group([record]).frame.assign(folder=tmp_path), "otflow")
    assert found == {}
    assert problems == [f"{tmp_path / record['key']}.npz: not a picture (it lacks {lacks})"]


def test_points_that_run_away_do_not_set_the_frame():
    row = {name: {"box": BOX, "test": POINTS, "forward": POINTS} for name in ("maf", "exact")}
    row["otflow"] = row["maf"] | {"forward": 1e6 * POINTS}
    (one,) = drawn(row)
    data, *others = (line["push-forward"] for line in table_of(one.figure).values())
    assert says(data) == [], "nothing is known of the target"
    side = np.ptp(POINTS, axis=0).max()
    for axis in others:
        assert np.ptp(axis.get_xlim()) == pytest.approx(side)
        assert np.mean(axis.get_ylim()) == pytest.approx((POINTS[:, 1].min() + POINTS[:, 1].max()) / 2)


def test_points_outside_a_panel_are_counted_where_they_are_many():
    def says_of(outside):
        cloud = np.zeros((200, 2))
        cloud[:outside] = (0, 9)
        (one,) = drawn({"otflow": DATA | {"generated": cloud}})
        assert "Outside: points beyond the frame" in one.caption
        return says(table_of(one.figure)[ROW]["samples"])

    assert says_of(2) == []
    assert says_of(24) == ["12 %\noutside"]


def test_the_caption_tells_the_end_of_the_colours():
    (known,) = drawn({"otflow": FLOW})
    assert "Density, in colours from 0 to the truth's peak." in known.caption
    assert "carried to the target, in colours from 0 to the target's peak;" in known.caption
    bare = {name: FLOW[name] for name in ("box", "test", "model", "target_box", "pushed")}
    (one,) = drawn({"otflow": bare})
    assert "peak" not in one.caption
    assert one.caption.count(", in colours from 0 to the models' highest 99.9 % quantile") == 2
    assert image(table_of(one.figure)[ROW]["density"]).get_clim() == (0, np.quantile(bare["model"], 0.999))
    (one,) = drawn({"maf": {"box": BOX, "test": POINTS, "forward": POINTS}})
    assert "colours" not in one.caption


def test_a_wide_box_keeps_units_alike():
    wide = {"box": np.array([[-4.0, -1.0], [4.0, 1.0]]), "test": POINTS, "truth": GRID, "model": GRID}
    (one,) = drawn({"otflow": wide})
    axis = table_of(one.figure)["data"]["density"]
    assert (axis.get_xlim(), axis.get_ylim()) == ((-4, 4), (-4, 4))
    assert image(axis).get_extent() == [-4, 4, -1, 1]
    red, green, blue, _ = axis.get_facecolor()
    assert red == green == blue != 1, "grey, no colour of a density, where nothing was evaluated"
    assert axis.get_box_aspect() == 1


def test_many_rows_stay_on_a_page():
    names = [f"solver{i}" for i in range(20)]
    row = {name: {"box": BOX, "test": POINTS, "generated": POINTS} for name in names}
    (one,) = drawn(row, [*map(fake.make, names)])
    assert one.figure.get_size_inches()[1] < 8


MARGINALS = {
    "marginal_test": np.arange(200.0).reshape(50, 4),
    "marginal_target_points": np.arange(200.0).reshape(50, 4) + 1,
    "marginal_generated": np.arange(200.0).reshape(50, 4) + 2,
    "marginal_forward": np.arange(200.0).reshape(50, 4) + 3,
}


def test_marginals_are_of_pairs_of_coordinates_below_what_they_are_held_to():
    half = {name: MARGINALS[name] for name in ("marginal_test", "marginal_target_points", "marginal_forward")}
    (one,) = marginals.all_of(group(RECORDS), {"8gaussians": {"maf": half, "otflow": MARGINALS}}, "otflow")
    assert one.name == "marginals_8gaussians"
    data, flow, maf = table_of(one.figure).values()
    assert list(data) == ["generated\nx1, x2", "latent\nx1, x2", "generated\nx3, x4", "latent\nx3, x4"]
    for title, part in (("x1, x2", slice(0, 2)), ("x3, x4", slice(2, 4))):
        for line, kind, name in (
            (data, "generated", "test"),
            (data, "latent", "target_points"),
            (flow, "generated", "generated"),
            (flow, "latent", "forward"),
            (maf, "latent", "forward"),
        ):
            np.testing.assert_array_equal(cloud(line[f"{kind}\n{title}"]), MARGINALS[f"marginal_{name}"][:, part])
        assert says(maf[f"generated\n{title}"]) == [NOT_GIVEN]
    assert flow["generated\nx1, x2"].get_xlim() == data["generated\nx1, x2"].get_xlim()
    figures.close(one.figure)
    assert list(marginals.all_of(group(RECORDS), {"8gaussians": {"otflow": FLOW}}, "otflow")) == []


def overlapping(boxes):
    return any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize("venue", [None, "icml", "jmlr"])
def test_words_fit_in_a_column_of_text_and_rows_on_a_page(venue):
    figures.use_theme(VENUES[venue] if venue else None)
    names = ("otflow_warm", "neural_hjb")
    away = FLOW | {"generated": POINTS + 99}
    records = [fake.make(name, metrics={"nll": 12.345}, failed=["finite"]) for name in names]
    made = [*gallery.all_of(group(records), {"8gaussians": dict.fromkeys(names, away)}, "otflow")]
    made += marginals.all_of(group(records), {"8gaussians": dict.fromkeys(names, MARGINALS)}, "otflow")
    for one in made:
        figure = one.figure
        width, height = VENUES[venue].fitted(*figure.get_size_inches()) if venue else figure.get_size_inches()
        assert width <= (VENUES[venue].column if venue else NARROW)
        assert height <= 8
        figure.set_size_inches(width, height)
        figure.draw_without_rendering()
        figure.draw_without_rendering()
        titles = [axis.title.get_window_extent() for axis in figure.axes if axis.get_title()]
        labels = [axis.yaxis.label.get_window_extent() for axis in figure.axes if axis.get_ylabel()]
        assert len(labels) == 1 + len(names)
        words = [(text, axis) for axis in figure.axes for text in axis.texts if text.get_text()]
        assert one.name.startswith("marginals") or "100 %\noutside" in {text.get_text() for text, _ in words}
        for text, axis in words:
            box, room = text.get_window_extent(), axis.get_window_extent()
            assert room.x0 <= box.x0 < box.x1 <= room.x1
        assert not overlapping(titles)
        assert not overlapping(labels)
        for box in (*titles, *labels):
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
        figures.close(figure)

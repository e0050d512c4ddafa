"""The report shows what the experiments on kernels left."""

import json

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

from bench.report import experiments
from bench.report.__main__ import main
from tests.bench import fake_records as fake


def leave(folder, name, slopes=None):
    (folder / name).mkdir(parents=True)
    Figure(figsize=(1, 1)).savefig(folder / name / "cpu.png")
    if slopes is not None:
        (folder / name / "cpu.json").write_text(json.dumps({"slopes": slopes}))


def test_they_lie_beside_runs_and_within_reference_folders(tmp_path):
    leave(tmp_path / "results", "trace")
    leave(tmp_path / "reference", "gradient_error")
    found = experiments.pictures([tmp_path / "results/runs", tmp_path / "reference"])
    assert [one.caption.partition(":")[0] for one in found] == [
        "The exact trace in closed form against Hutchinson's estimate by AD",
        "Discretize-optimize (direct) against optimize-discretize (adjoint)",
    ]


def test_slopes_are_a_table_and_a_torn_file_is_passed_over(tmp_path):
    leave(tmp_path, "scaling", {"d": 0.98, "width": 1.9})
    (tmp_path / "scaling/cuda.json").write_text('{"slopes": {"d":')
    (table,) = experiments.slopes([tmp_path])
    assert table.columns == ["d", "width"]
    assert [(label, [c.text for c in row]) for label, row in table.rows] == [("cpu", ["0.98", "1.90"])]


def test_the_page_has_a_part_for_them(tmp_path, capsys):
    fake.store(tmp_path / "results/runs", fake.sweep(1, ["moons"]))
    leave(tmp_path / "results", "scaling", {"d": 1.0})
    out = tmp_path / "report"
    assert main([f"records={tmp_path / 'results/runs'}", f"out={out}"]) == 0
    page = (out / "index.html").read_text()
    assert page.count("roofline") == 2  # figure and caption
    assert "slope of log seconds" in page
    assert (out / "tables/scaling.csv").exists()
    assert "slope of log seconds" in capsys.readouterr().out

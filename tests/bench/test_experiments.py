"""The report draws what the experiments on kernels measured."""

import json

import matplotlib as mpl

mpl.use("Agg")

import pytest

from bench import advection, gradient_error, scaling, trace
from bench.report import experiments, kernels
from bench.report.__main__ import main
from tests.bench import fake_records as fake
from tests.bench.labels import assert_legible

SLOPES = {"d": 0.98, "width": 1.9, "batch": 1.0, "steps": 1.0}
SCALING = {
    "limits": {"flop_per_second": 1e11, "bytes_per_second": 1e10},
    "slopes": SLOPES,
    "rows": [
        {"varied": name, "shape": {name: size}, "seconds": 0.1 * size**power, "flop": 1e9 * size, "bytes": 1e9}
        for name, power in SLOPES.items()
        for size in (2, 4, 8)
    ],
}
GRADIENT_ERROR = {
    "dataset": "moons",
    "rows": [
        {"method": m, "adjoint": a, "error": e, "seconds": 1.0 / e}
        for m in ("dopri5", "rk4") for a in (False, True) for e in (0.1, 0.01)
    ],
}  # fmt: skip
TRACE = {"rows": kernels.published()}
ALL = {"trace": TRACE, "scaling": SCALING, "gradient_error": GRADIENT_ERROR}


def leave(folder, name, measured=None):
    (folder / name).mkdir(parents=True)
    (folder / name / "cpu.json").write_text(json.dumps(ALL[name] if measured is None else measured))


def test_they_lie_beside_runs_and_within_reference_folders(tmp_path):
    leave(tmp_path / "results", "trace")
    leave(tmp_path / "reference/epyc", "gradient_error")
    found = kernels.all_of([tmp_path / "results/runs", tmp_path / "reference/epyc"])
    assert [one.name for one in found] == ["trace-here-cpu", "gradient_error-epyc-cpu"]


def test_slopes_are_a_table_and_a_torn_file_is_passed_over(tmp_path):
    leave(tmp_path / "epyc", "scaling")
    for name, text in {"torn": '{"slopes": {"d":', "list": "[1]", "text": '{"slopes": {"d": "x"}}'}.items():
        (tmp_path / f"epyc/scaling/{name}.json").write_text(text)
    (table,) = experiments.slopes([tmp_path / "epyc"])
    assert table.columns == list(SLOPES)
    assert [(label, [c.text for c in row]) for label, row in table.rows] == [
        ("epyc, cpu", ["0.98", "1.90", "1.00", "1.00"])
    ]
    assert [one.name for one in kernels.all_of([tmp_path / "epyc"])] == ["scaling-epyc-cpu"]


def test_what_cannot_be_drawn_is_passed_over(tmp_path):
    leave(tmp_path / "epyc", "scaling", {**SCALING, "rows": []})
    assert kernels.all_of([tmp_path / "epyc"]) == []


def test_the_page_has_a_part_for_them(tmp_path, capsys):
    fake.store(tmp_path / "results/runs", fake.sweep(1, ["moons"]))
    leave(tmp_path / "results", "scaling")
    out = tmp_path / "report"
    assert main([f"records={tmp_path / 'results/runs'}", f"out={out}"]) == 0
    page = (out / "index.html").read_text()
    assert page.count("roofline") == 2  # figure and caption
    assert "slope of log seconds" in page
    assert (out / "tables/scaling.csv").exists()
    assert (out / "figures/scaling-here-cpu.pdf").exists()
    assert "slope of log seconds" in capsys.readouterr().out


def test_published_traces():
    theirs = kernels.published()
    assert {row["dim"] for row in theirs} == {43, 63, 784}
    slowest = max(theirs, key=lambda row: row["seconds"])
    assert (slowest["dim"], slowest["vectors"]) == (784, 784)
    assert slowest["seconds"] == pytest.approx(2.492589)


@pytest.mark.parametrize("name", ALL)
def test_figures_show_what_was_measured_and_no_label_lies_over_another(name, tmp_path):
    kernels.draw(name, ALL[name], tmp_path / name)
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".png"}
    figure = kernels.DRAW[name](ALL[name])
    figure.draw_without_rendering()
    assert_legible(figure)
    labels = {"trace": "d = 63", "scaling": "width, slope 1.90", "gradient_error": "rk4, adjoint"}
    (line,) = [one for one in figure.axes[0].lines if one.get_label() == labels[name]]
    assert len(line.get_xdata()) == {"trace": 7, "scaling": 3, "gradient_error": 2}[name]


@pytest.mark.parametrize("module", [scaling, trace])
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("xyz", "argument --device: device must be cpu, cuda or cuda:<number>, not 'xyz'"),
        ("cuda", "argument --device: device cuda: torch finds 0 CUDA devices here"),
    ],
)
def test_a_device_that_is_not_here_is_one_line(module, device, said, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(module, "measure", lambda *given, **more: pytest.fail("work was done"))
    monkeypatch.setattr("sys.argv", [module.__name__, "--device", device])
    with pytest.raises(SystemExit) as exit:
        module.main()
    assert exit.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"python -m {module.__name__}: error: {said}")


def test_a_solver_that_cannot_take_the_problem_is_one_line_before_any_control(monkeypatch, capsys, tmp_path):
    class Picky:
        def unfit(self, source, target):
            return "it is too near"

    monkeypatch.setattr(advection, "FOLDER", tmp_path)
    monkeypatch.setattr(advection, "solvers", lambda dataset: {"neural_hjb": Picky()})
    monkeypatch.setattr(advection, "judged", lambda *given: pytest.fail("work was done"))
    monkeypatch.setattr("sys.argv", ["advection", "gaussians"])
    with pytest.raises(SystemExit) as exit:
        advection.main()
    assert exit.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line == "python -m bench.advection: error: neural_hjb cannot take gaussians: it is too near"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "dataset"), [(advection, "gaussians"), (gradient_error, "8gaussians"), (scaling, None), (trace, None)]
)
def test_what_was_found_before_stays_where_it_cannot_be_written_anew(module, dataset, monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    for name in ("experiment", "loaded", "measure", "limits", "slope", "where", "keep_memory"):
        monkeypatch.setattr(module, name, lambda *given, **more: [], raising=False)
    monkeypatch.setattr("bench.env.keep_memory", lambda: None)
    monkeypatch.setattr(module, "OUT" if dataset is None else "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", [module.__name__, *([dataset] if dataset else [])])
    monkeypatch.setattr("os.fsync", full)
    before = tmp_path / f"{dataset or 'cpu'}.json"
    before.write_text("{}")
    with pytest.raises(OSError, match="No space"):
        module.main()
    assert before.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [before]

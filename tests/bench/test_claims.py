"""Queries over hand-made records, and the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import claims, ledger, queries, record, stats
from bench.ledger import (
    NOT_MEASURABLE,
    PARTLY,
    REPRODUCED,
    Bounds,
    Claim,
    ClaimError,
    Entry,
    Finding,
    Measured,
    Missing,
    Part,
    Refused,
    judge,
)
from bench.queries import Compare, Evidence, built
from bench.record import Record
from bench.report import claims as shown
from bench.report import frame
from bench.report.render import Table
from bench.stats import Interval
from tests.bench.fake_records import ENV, make, store

TOYS = ("8gaussians", "moons")
SIX = (*TOYS, "circles", "rings", "swissroll", "pinwheel")
IDS = {"T1", "T2", "T3", "T4", "T5", "O1", "O2", "O3", "O4", "O5", "D1", "R2", "C1", "C2", "C3", "W1", "W2"}


def curve(best: float, seconds: float) -> list[dict[str, float]]:
    """A run that is at `best` + 1 until `seconds`, then at `best`."""
    times = [0.5 * seconds, seconds, 1.5 * seconds, 2 * seconds]
    losses = [best + 1, best, best, best]
    return [{"step": i, "seconds": t, "valid_nll": v} for i, (t, v) in enumerate(zip(times, losses, strict=True))]


def run(solver: str, dataset: str, seed: int, seconds: float, best: float = 2.0, **more: Any) -> Record:
    return make(solver, dataset, seed, trace=curve(best, seconds), **more)


def evidence(records: list[Record], folder: Path = Path()) -> Evidence:
    return Evidence(frame.of(records, folder), [folder])


def measure(records: list[Record], **query: Any) -> Measured:
    return built({"kind": "compare", "of": "seconds_to_q", "solver": "ffjord", "over": "otflow"} | query).measure(
        evidence(records)
    )


def pairs(seconds: dict[str, tuple[float, float]], seeds: int = 3, **more: Any) -> list[Record]:
    """FFJORD and OT-Flow reach q after so many seconds on each dataset."""
    return [
        run(solver, dataset, seed, times[i], **more)
        for dataset, times in seconds.items()
        for i, solver in enumerate(("ffjord", "otflow"))
        for seed in range(seeds)
    ]


def test_the_runs_that_claims_compare_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    found = Compare._found

    def counted(self: Compare, *given: Any) -> Any:
        looked.append(self)
        return found(self, *given)

    monkeypatch.setattr(Compare, "_found", counted)
    here = evidence([*pairs({"moons": (8.0, 4.0)}), *(run("rnode", "moons", seed, 8.0) for seed in range(3))])
    base = Compare("seconds_to_q", "ffjord", "otflow")
    same = [base, replace(base, mean="arithmetic"), replace(base, of="fit_seconds")]
    others = [
        replace(base, of="parameters"),  # of any environment
        replace(base, solver="rnode"),
        replace(base, datasets=["moons"]),
        replace(base, setting={"hidden": [64, 64, 64]}),
        replace(base, over_setting={"width": 32}),
    ]
    assert len({id(query.pairs(here)) for query in same}) == 1
    assert len({id(query.pairs(here)) for query in others}) == len(others)
    assert len(looked) == 1 + len(others)


def test_the_means_of_the_ratios_of_times_to_q() -> None:
    records = pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})
    expected = {"arithmetic": 5.0, "geometric": 4.0, "ratio of sums": 16 / 5, "share above 1": 1.0}
    for mean, value in expected.items():
        found = measure(records, mean=mean)
        assert found.interval.value == pytest.approx(value)
        assert (found.runs, found.seeds, found.problems) == (12, 3, TOYS)
        assert found.hardware == "Fake CPU 3000, threads 2"


def test_the_interval_holds_all_seeds_and_needs_three() -> None:
    records = [run("ffjord", "moons", seed, 6.0 + 2 * seed) for seed in range(3)]
    records += [run("otflow", "moons", seed, 2.0) for seed in range(3)]
    expected = stats.ratio_of_medians(np.array([6.0, 8.0, 10.0]), np.full(3, 2.0), np.random.default_rng(0))
    assert measure(records).interval == pytest.approx(expected)
    assert expected.low < 4.0 < expected.high
    two = measure([r for r in records if r["config"]["seed"] < 2])
    assert two.seeds == 2
    assert np.isnan(two.interval.low)


def test_a_run_that_does_not_reach_q_is_penalised_and_named() -> None:
    records = pairs({"moons": (8.0, 1.0)})
    records[-1] = run("otflow", "moons", 2, 1.0, best=3.0)  # never reaches q = 2.02
    found = measure(records)
    assert found.notes == ("penalised, as a run did not reach q: moons",)
    assert found.runs == 6
    assert found.interval.low < 1 < found.interval.value == pytest.approx(8.0)


def test_failed_certificates_leave_the_ranking() -> None:
    records = pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})
    records[0] = run("ffjord", "8gaussians", 0, 8.0, failed=["nll_effort"])
    found = measure(records)
    assert found.problems == ("moons",)
    assert found.notes[0] == "without 8gaussians: a certificate failed"


def test_what_is_unfair_leaves_the_ranking() -> None:
    records = pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})
    records[:3] = [run("ffjord", "8gaussians", s, 8.0, config={"tuning": {"trials": 9}}) for s in range(3)]
    found = measure(records)
    assert found.problems == ("moons",)
    assert "without 8gaussians: unfair, as tuning" in found.notes[0]


def test_weights_are_those_of_the_smallest_width_that_reaches_q() -> None:
    widths = {16: (100, 2.5), 32: (400, 2.01), 64: (1600, 2.0)}  # width -> parameters, best NLL
    records = [
        run("otflow", "moons", seed, 1.0, best=best, settings={"width": width}, cost={"parameters": count})
        for width, (count, best) in widths.items()
        for seed in range(3)
    ]
    records += [run("ffjord", "moons", seed, 1.0, cost={"parameters": 3200}) for seed in range(3)]
    assert measure(records, of="parameters_at_q").interval.value == pytest.approx(8.0)  # of width 32, not 16 or 64


def test_inference_is_at_equal_accuracy_where_both_have_it() -> None:
    def records(accurate: bool) -> list[Record]:
        return [
            run(solver, "moons", seed, 1.0, cost={"evaluate_seconds": whole, **(
                {"accurate_seconds": fair, "accurate_rows": 2000} if accurate else {})})
            for solver, whole, fair in (("ffjord", 10.0, 6.0), ("otflow", 5.0, 1.0))
            for seed in range(3)
        ]  # fmt: skip

    fair, own = (measure(records(accurate), of="inference") for accurate in (True, False))
    assert (fair.interval.value, fair.notes) == (pytest.approx(6.0), ())
    assert (own.interval.value, own.notes) == (pytest.approx(2.0), ("at the solvers' own settings on moons",))
    mixed = records(True)
    mixed[0]["cost"]["accurate_rows"] = 500
    assert measure(mixed, of="inference") == own
    lacking = records(True)  # one seed of which no effort was within 0.01 nat, as the table says too
    lacking[0]["cost"]["accurate_seconds"] = None
    assert measure(lacking, of="inference") == own


def test_settings_are_told_apart() -> None:
    records = [
        run("ffjord", "moons", seed, 9.0 if adjoint else 3.0, settings={"adjoint": adjoint})
        for adjoint in (False, True)
        for seed in range(3)
    ]
    query = {"over": "ffjord", "setting": {"adjoint": True}, "over_setting": {"adjoint": False}}
    assert measure(records, **query).interval.value == pytest.approx(3.0)


def test_a_setting_is_named_by_some_of_its_values_whatever_else_differs() -> None:
    records = [
        run("eulerian", "moons", 0, 1.0, best=best, settings={"levels": levels, "tolerance": tolerance},
            metrics={"l2_uvp": uvp})
        for levels, tolerance, best, uvp in ((2, 1e-4, 1.0, 20.0), (4, 1e-3, 2.0, 4.0), (4, 1e-4, 1.9, 3.0))
    ]  # fmt: skip
    query = {"kind": "value", "of": "l2_uvp", "solver": "eulerian"}

    def value(**setting: Any) -> float:
        return built(query | {"setting": setting}).measure(evidence(records)).interval.value

    assert value() == 20.0  # the best by validation of all
    assert value(levels=4) == 3.0
    assert value(levels=4, tolerance=1e-3) == 4.0
    with pytest.raises(Missing, match="eulerian with levels=5"):
        value(levels=5)
    with pytest.raises(ClaimError, match="setting must give settings"):
        built(query | {"setting": "levels=4"})


def test_a_difference_may_be_of_negative_numbers() -> None:
    records = [run("ffjord", "digits", seed, 1.0, best=-60.0) for seed in range(3)]
    records += [run("otflow", "digits", seed, 1.0, best=-61.5) for seed in range(3)]
    assert measure(records, of="best_nll", mean="difference").interval.value == pytest.approx(1.5)


def test_budgets_of_one_problem_are_not_mixed() -> None:
    long = {"config": {"budget": {"seconds": 600.0, "steps": None, "evaluations": None, "target": None}}}
    records = pairs({"moons": (8.0, 4.0)}) + pairs({"moons": (30.0, 1.0)}, seeds=2, **long)
    assert measure(records).interval.value == pytest.approx(2.0)  # of the budget with more seeds
    records = pairs({"moons": (8.0, 4.0)}) + pairs({"moons": (30.0, 1.0)}, seeds=3, **long)
    assert measure(records).interval.value == pytest.approx(30.0)  # of as many, the longer


def test_seconds_of_other_environments_are_not_mixed() -> None:
    records = pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})
    records += [run(s, "digits", seed, 9.0, env={"threads": 1}) for s in ("ffjord", "otflow") for seed in range(3)]
    assert measure(records).problems == TOYS


def test_records_of_two_machines_are_refused() -> None:
    records = pairs({"8gaussians": (8.0, 1.0)}) + pairs({"moons": (8.0, 4.0)}, env={"cpu": "Other CPU"})
    with pytest.raises(Refused, match=r"records from 2 machines \(Fake CPU 3000; Other CPU\): give records= of one"):
        measure(records)
    assert measure(records, datasets=["moons"]).problems == ("moons",)


def test_a_record_of_an_older_schema_is_refused() -> None:
    old = run("ffjord", "moons", 0, 8.0) | {"schema": record.SCHEMA - 1}
    with pytest.raises(Refused, match=f"{old['key']}.json has schema 0, older than 1: move it away"):
        measure([old, *pairs({"8gaussians": (8.0, 1.0)})])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"of": "speed"}, "no metric speed: choose from .*seconds_to_q"),
        ({"mean": "harmonic"}, "no mean 'harmonic'"),
        ({"kind": "guess"}, "no query 'guess': choose from compare"),
        ({"opponent": "rnode"}, "the query compare has no opponent"),
        ({"kind": "value", "solver": "otflow", "over": None}, "the query value has no over"),
    ],
)
def test_a_query_that_no_record_answers(query: dict[str, Any], said: str) -> None:
    with pytest.raises(ClaimError, match=said):
        measure(pairs({"moons": (8.0, 4.0)}), **query)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"solver": "w2ot"}, "this suite has no solver w2ot"),
        ({"datasets": ["mnist"]}, "this suite has no dataset mnist"),
        ({"solver": "rnode"}, "no problem that both rnode and otflow were run on"),
        ({"of": "estimated_inference"}, "no problem on which ffjord and otflow both have estimated inference"),
    ],
)
def test_records_that_are_missing(query: dict[str, Any], said: str) -> None:
    with pytest.raises(Missing, match=said):
        measure(pairs({"moons": (8.0, 4.0)}), **query)


def hjb(dim: int, gap: float, **more: Any) -> Record:
    dataset = {"_target_": "datasets.mixtures.MixtureToGaussian", "version": 1, "dim": dim}
    return make("neural_hjb", seed=dim, config={"dataset": dataset}, metrics={"relaxed_objective_gap": gap}, **more)


def test_the_worst_over_dimensions() -> None:
    names = [f"mixture_to_gaussian d={d}" for d in (2, 10, 50)]
    records = [hjb(2, 0.01), hjb(10, -0.03), hjb(50, 0.9, failed=["lost_mass"])]

    def value(**more: Any) -> Measured:
        query = {"kind": "value", "of": "relaxed_objective_gap", "solver": "neural_hjb", "datasets": names}
        return built({**query, **more}).measure(evidence(records))

    assert value(magnitude=True).interval.value == 0.03
    assert value().interval.value == 0.01
    assert value(worst="smallest").interval.value == -0.03
    assert value().notes == ("nothing on mixture_to_gaussian d=50",)  # its certificate failed


def test_ours_beside_published(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("experiment,dim,method,percent\nA,2,ID,40\nA,4,ID,50\nA,8,ID,>100\nB,2,ID,1\n")
    target = {"_target_": "datasets.w2benchmark.W2Benchmark", "version": 1}
    records = [
        make("identity", seed=0, config={"dataset": {**target, "dim": dim}}, metrics={"l2_uvp": value},
             settings={"_target_": "solvers.baselines.Identity"})
        for dim, value in ((2, 44.0), (4, 45.0), (8, 90.0))
    ]  # fmt: skip
    query = dict(kind="beside", of="l2_uvp", family="w2benchmark", table=str(table), column="percent", experiment="A",
                 methods={"identity": "ID"})  # fmt: skip
    found = built(query).measure(evidence(records))
    assert found.interval.value == pytest.approx(1.1)
    assert found.problems == ("w2benchmark d=2", "w2benchmark d=4")  # theirs at d = 8 is no number
    assert built({**query, "deviation": True}).measure(evidence(records)).interval.value == pytest.approx(0.1)
    with pytest.raises(ClaimError, match="cannot be read"):
        built({**query, "column": "share"}).measure(evidence(records))


def trace_row(dim: int, method: str, vectors: int, seconds: float, error: float) -> dict[str, Any]:
    return {"dim": dim, "method": method, "vectors": vectors, "seconds": seconds, "relative_error": error}


def test_the_trace_experiment(tmp_path: Path) -> None:
    rows = [trace_row(43, "closed form", 0, 3.0, 0.0), trace_row(43, "Hutchinson", 1, 2.0, 0.2)]
    rows += [trace_row(784, "closed form", 0, 1.0, 0.0), trace_row(784, "Hutchinson", 1, 2.0, 0.25)]
    rows += [trace_row(784, "Hutchinson", 784, 900.0, 0.01)]
    folder = tmp_path / "trace"
    folder.mkdir()
    here = Evidence(frame.of(pairs({"moons": (8.0, 4.0)})), [tmp_path])
    with pytest.raises(Missing, match=r"no results of bench\.trace"):
        built({"kind": "trace", "of": "seconds"}).measure(here)
    (folder / "cpu.json").write_text(json.dumps({"environment": ENV, "rows": rows}))
    assert built({"kind": "trace", "of": "seconds"}).measure(here).interval.value == 1.5
    assert built({"kind": "trace", "of": "error"}).measure(here).interval.value == 0.25
    (folder / "cuda.json").write_text(json.dumps({"environment": {**ENV, "device": "GPU"}, "rows": rows}))
    with pytest.raises(Refused, match="2 machines"):
        built({"kind": "trace", "of": "error"}).measure(here)
    (folder / "cuda.json").write_text("[]")
    with pytest.raises(Refused, match=r"cuda.json: not a result of bench.trace"):
        built({"kind": "trace", "of": "error"}).measure(here)


def test_the_gradient_experiment(tmp_path: Path) -> None:
    def rows(*points: tuple[bool, float, float]) -> list[dict[str, Any]]:
        return [{"adjoint": way, "error": error, "seconds": seconds} for way, error, seconds in points]

    folder = tmp_path / "gradient_error"
    folder.mkdir()
    found = {
        "moons": rows((False, 1e-4, 1.0), (False, 1e-2, 0.1), (True, 1e-5, 8.0), (True, 1e-4, 4.0)),
        "digits": rows((False, 1e-4, 1.0), (True, 1e-4, 1.0)),
        "rings": rows((False, 1e-4, 1.0), (True, 1e-2, 1.0)),
    }
    for name, points in found.items():
        (folder / f"{name}.json").write_text(json.dumps({"dataset": name, "env": ENV, "rows": points}))
    here = Evidence(frame.of(pairs({"moons": (8.0, 4.0)})), [tmp_path])
    measured = built({"kind": "gradient_error", "error": 1e-3}).measure(here)
    assert measured.interval.value == pytest.approx(2.0)  # sqrt(4 x 1)
    assert measured.problems == ("digits", "moons")
    assert measured.notes == ("not reached by both on rings",)


# The claims that are there


def test_every_claim_is_there_and_answers_to_records() -> None:
    known = ledger.load()
    assert {claim.id for claim in known} == IDS
    entries = queries.judged(known, evidence(pairs({"moons": (8.0, 4.0)})))
    by_id = {entry.claim.id: entry for entry in entries}
    assert by_id["R2"].verdict == NOT_MEASURABLE
    assert "no dataset mnist" in by_id["R2"].findings[0].why
    assert by_id["T2"].findings[0].why == "only 1 of 6 problems"
    assert by_id["T2"].findings[0].command.startswith("python -m bench.run -m suite=toy")


def test_claims_are_reproduced_or_partly_by_what_the_records_say() -> None:
    claim = [c for c in ledger.load() if c.id == "T2"]
    fast = evidence(pairs({name: (24.0, 2.0) for name in SIX}))
    slow = evidence(pairs({name: (10.0, 2.0) for name in SIX}))
    assert queries.judged(claim, fast)[0].verdict == REPRODUCED
    assert queries.judged(claim, slow)[0].verdict == PARTLY


def test_the_velocities_of_the_grid_and_of_the_method_are_compared_in_both_directions() -> None:
    dataset = {"_target_": "datasets.mixtures.MixtureToGaussian", "version": 3, "dim": 2}

    def advected(solver: str, forward: float, backward: float, **settings: Any) -> Record:
        found = {"upwind_objective": forward, "upwind_objective_backward": backward, "cost_estimate": 5.0}
        return make(solver, config={"dataset": dataset}, settings=settings, metrics=found)

    method = advected("neural_hjb", 5.61, 5.13, alpha4=3, alpha5=3, optimizer="bfgs")
    here = evidence([method, advected("eulerian", 5.68, 5.32, levels=4)])
    (entry,) = queries.judged([claim for claim in ledger.load() if claim.id == "T5"], here)
    verdicts = {finding.part.query["of"]: finding.verdict for finding in entry.findings}
    assert verdicts == {
        "upwind_objective": REPRODUCED, "upwind_objective_backward": PARTLY, "cost_estimate": REPRODUCED,
    }  # fmt: skip
    assert entry.verdict == PARTLY


def test_the_page_folds_the_claims_that_records_tell_nothing_of() -> None:
    part = Part("x", "2x", {}, Bounds(at_least=1.0), "make it")
    claims = {name: Claim(name, "Somebody", (part,) * n) for name, n in (("A", 1), ("B", 2), ("C", 1), ("D", 1))}
    unknown = Finding(part, NOT_MEASURABLE, "no records")
    refused = Finding(part, NOT_MEASURABLE, "two machines", refused=True)
    known = judge(part, Measured(Interval(2.0, 1.5, 2.5), 3, 3, ("moons",), "cpu"))
    found = {"A": (unknown,), "B": (unknown, known), "C": (refused,), "D": (unknown,)}
    entries = [Entry(claims[name], findings) for name, findings in found.items()]
    headline = Table("headline_x", "", "", [], [])
    made = [replace(shown.ledger(entries), name="claims_x"), headline]

    def ids(table: Table) -> list[str]:
        return [label.split()[0] for label, _ in table.rows if not label.startswith("·")]

    (told, last), folded = shown.of_page(entries, made)
    assert folded is not None
    assert (ids(told), ids(folded), last) == (["B", "C"], ["A", "D"], headline)
    assert folded.title == "2 claims not measurable from these records"
    assert (told.name, folded.name) == ("claims_x", "claims_x_not_measurable")
    assert "Records wanting for A, D: make it" in folded.notes
    assert "Records wanting for B: make it" in told.notes
    assert shown.of_page(entries[1:3], made)[1] is None
    assert shown.of_page(entries[:1], made)[0] == [headline]


def test_the_headline_by_mean_and_opponent() -> None:
    (table,) = shown.headlines(evidence(pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})))
    rows = dict(table.rows)
    assert [cell.value for cell in rows["training time to q, FFJORD"][:3]] == pytest.approx([5.0, 4.0, 3.2])
    assert [cell.value for cell in rows["training time ratio, RNODE (published)"][:3]] == [7.944, 6.463, 9.677]
    assert not shown.headlines(evidence([make("moments")]))


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store(tmp_path / "records", pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)}))
    assert claims.main([f"records={folder}", f"out={tmp_path / 'out'}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "python -m bench.run -m suite=toy" in printed
    for suffix in ("md", "tex", "csv"):
        assert "only 2 of 6 problems" in (tmp_path / "out" / "records" / f"claims.{suffix}").read_text()


@pytest.mark.parametrize("mixed", [True, False])
def test_two_machines_and_old_schemas_are_one_line_and_no_success(
    tmp_path: Path, mixed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    records = pairs({"8gaussians": (8.0, 1.0)})
    if mixed:
        records += pairs({"moons": (8.0, 4.0)}, env={"cpu": "Other CPU"})
        said = "T2 refused: records from 2 machines (Fake CPU 3000; Other CPU): give records= of one"
    else:
        records[0]["schema"] = 0
        said = f"{records[0]['key']}.json has schema 0, older than 1: move it away and run its cell again"
    folder = store(tmp_path / "records", records)
    assert claims.main([f"records={folder}", f"out={tmp_path / 'out'}"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("T2")]
    assert len(lines) == 1
    assert said in lines[0]


def test_a_claim_that_names_a_missing_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store(tmp_path / "records", pairs({"moons": (8.0, 4.0)}))
    text = (ledger.FOLDER / "T2.yaml").read_text().replace("of: seconds_to_q", "of: seconds_to_p")
    (tmp_path / "X1.yaml").write_text(text)
    wrong = ledger.load(tmp_path)
    monkeypatch.setattr(ledger, "load", lambda: wrong)
    assert claims.main([f"records={folder}", f"out={tmp_path / 'out'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench.claims: X1: no metric seconds_to_p: choose from ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["record=x"], "cannot use record: give records=..."), (["records=nowhere"], "no such folder: nowhere")],
)
def test_there_is_nothing_to_judge(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert claims.main(arguments) == 1
    assert said in capsys.readouterr().err

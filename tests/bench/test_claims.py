"""Queries over hand-made records, and the command."""

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from bench import accuracy, claims, gradient_error, ledger, queries, record, stats
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
from bench.names import CONF, dataset_name
from bench.queries import BY_HAND, Beside, Compare, Evidence, Value, built
from bench.record import Record
from bench.report import claims as shown
from bench.report import frame, render
from bench.report.build import claims_parts, load, names_of
from bench.report.options import Options
from bench.report.published import KIN, PAPER
from bench.report.render import Table
from bench.run import build, lenient
from bench.sizes import Search
from bench.stats import Interval
from tests.bench.fake_records import ENV, make, store
from tests.bench.test_suites import jobs_of, jobs_of_suite

TOYS = ("8gaussians", "moons")
SIX = (*TOYS, "circles", "rings", "swissroll", "pinwheel")
COMPARED = "weights: ffjord 9,224, otflow 1,229"
T2 = ledger.read(ledger.FOLDER / "T2.yaml")
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
    assert found.notes == ("penalised, as a run did not reach q: moons", COMPARED, BY_HAND)
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


def sized(solver: str, sizes: dict[int, float], dataset: str = "moons", seeds: int = 3, **more: Any) -> list[Record]:
    """Runs of a solver in several sizes: parameters -> the best NLL that it reaches."""
    return [
        run(solver, dataset, seed, 1.0, best=best, settings={"width": count}, cost={"parameters": count}, **more)
        for count, best in sizes.items()
        for seed in range(seeds)
    ]


SWEPT = sized("ffjord", {50: 4.0, 3200: 2.0})
WIDTHS = {100: 2.5, 400: 2.01, 1600: 2.0}


def test_solvers_that_share_no_seed_are_not_compared() -> None:
    records = pairs({"8gaussians": (8.0, 1.0)})
    records += [run("ffjord", "moons", seed, 8.0) for seed in range(3)]
    records += [run("otflow", "moons", seed, 4.0) for seed in range(3, 6)]
    found = measure(records)
    assert found.problems == ("8gaussians",)
    assert found.notes[0].startswith("without moons: unfair, as seeds 0, 1, 2 (ffjord) or 3, 4, 5 (otflow)")
    long = {"config": {"budget": {"seconds": 600.0, "steps": None, "evaluations": None, "target": None}}}
    both = measure([*records, *pairs({"moons": (9.0, 1.0)}, seeds=2, **long)])
    assert both.problems == TOYS  # of the budget in which they share seeds


def test_a_void_density_sets_no_target_and_the_claim_says_why() -> None:
    records = pairs({"moons": (8.0, 1.0)}, failed=["nll_effort"])
    with pytest.raises(Missing, match=r"both have seconds to q \(without moons: a certificate failed\)"):
        measure(records)


def test_seconds_of_a_machine_that_others_used_decide_nothing() -> None:
    noisy = pairs({"moons": (8.0, 1.0)}, env=ENV | {"noise": {"steal": 0.5}})
    found = measure([*noisy, *pairs({"8gaussians": (8.0, 4.0)})])
    assert (found.problems, found.notes[0]) == (("8gaussians",), "without moons: others used the processor")
    with pytest.raises(Missing, match="without moons: others used the processor"):
        measure(noisy, of="best_nll")  # a budget in seconds buys fewer steps there
    steps = {"config": {"budget": {"seconds": None, "steps": 100, "evaluations": None, "target": None}}}
    free = pairs({"moons": (8.0, 1.0)}, env=ENV | {"noise": {"steal": 0.5}}, **steps)
    assert measure(free, of="best_nll").problems == ("moons",)
    quiet = pairs({"moons": (6.0, 1.0)}, config={"budget": {"seconds": 30.0}})
    assert measure([*noisy, *quiet]).interval.value == pytest.approx(6.0), "of the shorter budget, as it was quiet"


def test_a_part_of_a_set_does_not_count_beside_the_whole() -> None:
    part, whole = {"miniboone_small": (2.0, 1.0)}, {"miniboone": (8.0, 1.0)}
    other = {"gas_sample": (8.0, 1.0)}
    both = measure(pairs(part | whole | other))
    assert both.problems == ("gas_sample", "miniboone")
    assert both.notes[0] == "without miniboone_small: miniboone counts, which it stands in for"
    assert {name.lower() for name in KIN.values()} <= {path.stem for path in (CONF / "dataset").glob("*.yaml")}
    lost = pairs(whole, failed=["nll_effort"])
    assert measure([*pairs(part), *lost]).problems == ("miniboone_small",), "the whole takes no part itself"


def test_a_validation_at_no_seconds_counts_nowhere() -> None:
    ffjord = sized("ffjord", {50: 4.0, 3200: 2.0})
    for one in ffjord:
        one["trace"].insert(0, {"step": 0, "seconds": 0.0, "valid_nll": -50.0})
    records = [*ffjord, *sized("otflow", WIDTHS)]
    assert measure(records, of="best_nll", mean="difference").interval.value == pytest.approx(0.0)
    assert measure(records, of="parameters_at_q").interval.value == pytest.approx(8.0)


def test_weights_are_those_of_the_smallest_width_that_reaches_q() -> None:
    found = measure([*SWEPT, *sized("otflow", WIDTHS)], of="parameters_at_q")
    assert found.interval.value == pytest.approx(8.0)  # of width 400, not 100 or 1600
    assert found.notes == ("the largest tried of ffjord sets q, and larger ones might lower it on moons", BY_HAND)
    past = [*sized("ffjord", {50: 4.0, 3200: 2.0, 6400: 2.1}), *sized("otflow", WIDTHS | {6400: 1.9})]
    assert measure(past, of="parameters_at_q").notes == (BY_HAND,), "the better one's largest sets nothing"


def test_the_interval_of_weights_resamples_the_whole_search() -> None:
    """The median of width 100 is 0.001 nat below q; of its resamples some are above, and width 400 is the smallest."""
    edge = [
        run("otflow", "moons", seed, 4.0, best=best, settings={"width": 100}, cost={"parameters": 100})
        for seed, best in enumerate((2.005, 2.019, 2.05))
    ]
    found = measure([*SWEPT, *edge, *sized("otflow", {400: 2.0, 1600: 2.0})], of="parameters_at_q")
    assert found.interval == pytest.approx((32.0, 8.0, 32.0))
    assert found.runs == 15  # of all sizes, not of the two that are compared
    sure = measure([*SWEPT, *sized("otflow", WIDTHS)], of="parameters_at_q")
    assert sure.interval == pytest.approx((8.0, 8.0, 8.0))


def test_a_width_of_which_no_run_ended_well_is_no_size() -> None:
    """Its records have no parameters; widths come in the order of their text, and sizes in that of their numbers."""
    widths = {16: 365, 32: 1229, 8: 125, 96: 9805}
    records = [
        run("otflow", "moons", seed, 1.0, settings={"width": width}, cost={"parameters": count})
        for width, count in widths.items() for seed in range(3)
    ]  # fmt: skip
    failed = [run("otflow", "moons", seed, 1.0, settings={"width": 64}, status="diverged") for seed in range(3)]
    assert measure([*SWEPT, *records, *failed], of="parameters_at_q").interval.value == pytest.approx(3200 / 125)


def test_a_resample_in_which_nothing_is_finite_sets_no_target() -> None:
    """The first has medians of both, in the second FFJORD has none: its largest size counts, and q is OT-Flow's."""
    search = Search({50: np.zeros(3), 3200: np.zeros(3)}, {100: np.zeros(3), 400: np.zeros(3)}, margin=0.02)
    inf = math.inf
    medians = [np.array(pair) for pair in ([4.0, inf], [2.0, inf], [2.5, 2.5], [2.01, 2.01])]
    ffjord, otflow = search.found(medians)
    assert (ffjord.tolist(), otflow.tolist()) == ([3200, 3200], [400, 400])


@pytest.mark.parametrize("mean", ["arithmetic", "geometric", "ratio of sums", "share above 1", "difference"])
def test_weights_have_every_mean(mean: str) -> None:
    found = measure([*SWEPT, *sized("otflow", WIDTHS)], of="parameters_at_q", mean=mean)
    assert found.interval.value == pytest.approx({"share above 1": 1.0, "difference": 2800.0}.get(mean, 8.0))


def test_a_width_reaches_q_where_two_validations_in_succession_do() -> None:
    lucky = sized("otflow", {100: 2.5})
    for one in lucky:
        one["trace"][2]["valid_nll"] = 2.0
    found = measure([*SWEPT, *lucky, *sized("otflow", {400: 2.01, 1600: 2.0})], of="parameters_at_q")
    assert found.interval.value == pytest.approx(8.0)  # of width 400


def test_weights_of_two_budgets_in_seconds_on_unlike_machines_are_not_pooled() -> None:
    other = [{**one, "env": {**one["env"], "threads": 7}} for one in sized("otflow", {100: 2.0, 200: 2.0})]
    found = measure([*SWEPT, *sized("otflow", WIDTHS), *other], of="parameters_at_q")
    assert found.interval.value == pytest.approx(8.0)


def test_a_seed_that_is_there_twice_is_no_second_one() -> None:
    gaps = {"metrics": {"cost_gap": 0.01}}
    again = [make("otcfm", "moons", 0, env={**ENV, "threads": n}, **gaps) for n in (1, 2, 4)]
    with pytest.raises(Refused, match=r"otcfm on moons has seed 0 3 times, differing in threads: give records= of one"):
        Value("cost_gap", "otcfm").measure(evidence(again))


def test_a_schedule_without_a_budget_in_seconds_is_the_longest() -> None:
    """C2's own command makes such runs beside those of 90 seconds: they are taken, and no others are counted."""
    steps = {"config": {"budget": {"seconds": None, "steps": 19_500, "evaluations": None, "target": None}}}
    short = [make("otcfm", "moons", s, metrics={"cost_gap": 0.3}, reason="budget.seconds") for s in range(3)]
    took = {"cost": {"fit_seconds": 700.0}}
    whole = [make("otcfm", "moons", s, metrics={"cost_gap": 0.1}, reason="schedule", **steps, **took) for s in range(3)]
    found = Value("cost_gap", "otcfm").measure(evidence([*short, *whole]))
    assert (found.interval.value, found.notes) == (pytest.approx(0.1), ())


def test_a_setting_that_failed_in_all_runs_is_not_better_than_one_that_is_void() -> None:
    records = [*pairs({"moons": (8.0, 2.0)}), *pairs({"8gaussians": (8.0, 2.0)}, failed=["nll_valid"]),
               *(run("ffjord", "8gaussians", seed, 2.0, settings={"atol": 0.5}, status="diverged")
                 for seed in range(3))]  # fmt: skip
    found = measure(records)
    assert found.problems == ("moons",)
    assert "without 8gaussians: a certificate failed" in found.notes


def test_what_no_schedule_ended_is_said() -> None:
    ended = {"otcfm": "budget.seconds", "cfm": "schedule"}
    records = [
        make(solver, "moons", seed, metrics={"cost_gap": gap}, reason=ended[solver])
        for solver, gap in (("otcfm", 0.01), ("cfm", 0.1)) for seed in range(3)
    ]  # fmt: skip
    both = measure(records, of="cost_gap", solver="cfm", over="otcfm")
    assert "cfm ended by schedule, otcfm ended by budget.seconds" in both.notes
    alone = Value("cost_gap", "otcfm").measure(evidence(records))
    assert alone.notes == ("3 of 3 runs ended by their budget, not by their schedule",)
    assert Value("cost_gap", "cfm").measure(evidence(records)).notes == ()


def test_a_target_that_is_not_converged_is_said() -> None:
    late = pairs({"moons": (8.0, 4.0)})
    for one in late:
        one["trace"][-1]["valid_nll"] -= 0.1
    found = measure([*late, *pairs({"8gaussians": (8.0, 4.0)})])
    assert "q is not converged on moons" in found.notes


def test_a_setting_whose_validations_are_not_certified_is_not_the_best_one() -> None:
    records = [*pairs({"moons": (8.0, 2.0)}),
               *(run("ffjord", "moons", seed, 2.0, best=1.0, settings={"atol": 0.5}, failed=["nll_valid"])
                 for seed in range(3))]  # fmt: skip
    assert measure(records).interval.value == pytest.approx(4.0)


def test_weights_of_one_width_are_left_out() -> None:
    """They would be the ratio of two settings, whatever they reach."""
    single = [*sized("ffjord", {3200: 2.0}, "rings"), *sized("otflow", WIDTHS, "rings")]
    with pytest.raises(Missing, match=r"both have parameters at q \(without rings: no two certified sizes of ffjord\)"):
        measure(single, of="parameters_at_q")
    found = measure([*single, *SWEPT, *sized("otflow", WIDTHS)], of="parameters_at_q")
    assert found.problems == ("moons",)
    assert found.notes[0] == "without rings: no two certified sizes of ffjord"


def test_the_smallest_width_tried_is_noted_where_it_reaches_q() -> None:
    found = measure([*SWEPT, *sized("otflow", {400: 2.01, 1600: 2.0})], of="parameters_at_q")
    smallest, largest = "the smallest tried of otflow reaches q, and less might", "the largest tried of ffjord sets q"
    assert found.notes[0] == f"{smallest}; {largest}, and larger ones might lower it on moons"
    assert (found.above, found.below) == (True, False), "FFJORD's 3,200 over OT-Flow's 400 or less"
    swept = [*sized("ffjord", {50: 2.0, 3200: 2.0}), *sized("otflow", WIDTHS)]
    least = measure(swept, of="parameters_at_q")
    assert (least.above, least.below) == (False, True), "FFJORD's 50 or less over OT-Flow's 400"
    both = [*sized("ffjord", {50: 2.0, 3200: 2.0}), *sized("otflow", {400: 2.01, 1600: 2.0})]
    with pytest.raises(Missing, match="without moons: the smallest tried of ffjord and otflow reaches q"):
        measure(both, of="parameters_at_q")


def test_a_run_that_failed_reaches_no_target_with_its_width() -> None:
    failed = [run("otflow", "moons", seed, 1.0, settings={"width": 400}, status="diverged") for seed in (1, 2)]
    records = [*SWEPT, *sized("otflow", {1600: 2.0}), *sized("otflow", {400: 2.01}, seeds=1), *failed]
    assert measure(records, of="parameters_at_q").interval.value == pytest.approx(2.0)  # 3200 / 1600


def test_widths_that_are_void_are_not_searched() -> None:
    void = sized("ffjord", {50: 4.0, 3200: 2.0}, "rings", failed=["nll_effort"])
    records = [*SWEPT, *sized("otflow", WIDTHS), *void, *sized("otflow", WIDTHS, "rings")]
    assert "without rings: no two certified sizes of ffjord" in measure(records, of="parameters_at_q").notes
    least = [*SWEPT, *sized("otflow", {100: 2.5}, failed=["nll_effort"]), *sized("otflow", {400: 2.01, 1600: 2.0})]
    assert measure(least, of="parameters_at_q").above, "100 is void, so 400 is the smallest that was searched"


def test_that_no_width_holds_q_is_said() -> None:
    lucky = sized("ffjord", {50: 4.0, 3200: 4.0}, "rings")
    for one in lucky:
        one["trace"][2]["valid_nll"] = 2.0
    records = [*SWEPT, *sized("otflow", WIDTHS), *lucky, *sized("otflow", WIDTHS, "rings")]
    assert "without rings: no certified size of ffjord reaches q" in measure(records, of="parameters_at_q").notes


def test_a_width_of_one_seed_beside_those_of_three_takes_no_part() -> None:
    one = sized("otflow", {200: 1.9}, seeds=1)
    assert measure([*SWEPT, *sized("otflow", WIDTHS), *one], of="parameters_at_q").interval.value == pytest.approx(8.0)
    found = measure([*SWEPT, *sized("otflow", WIDTHS), *one])
    assert found.seeds == 3, "nor does it displace a setting of three seeds"


def test_a_superseded_version_of_a_setting_takes_no_part() -> None:
    old = [run("otflow", "moons", seed, 1.0, best=1.0) for seed in range(3)]
    new = [run("otflow", "moons", seed, 4.0, settings={"version": 2}) for seed in range(3)]
    ffjord = [run("ffjord", "moons", seed, 8.0) for seed in range(3)]
    assert measure([*old, *new, *ffjord]).interval.value == pytest.approx(2.0)


def test_a_tuned_solver_is_compared_with_those_that_were_not_by_its_settings_before() -> None:
    tuned = {"tuning": {"trials": 20, "seconds": 30.0}}
    records = [*pairs({"moons": (8.0, 4.0)}), *(run("otflow", "moons", s, 1.0, 1.9, config=tuned) for s in range(3))]
    found = measure(records)
    assert (found.interval.value, found.problems) == (pytest.approx(2.0), ("moons",))
    equal = pairs({"moons": (9.0, 1.0)}, config=tuned)
    longer = pairs({"moons": (7.0, 1.0)}, config={"tuning": {"trials": 9, "seconds": 99.0}})
    by_hand = records[:6]
    assert measure([*by_hand, *equal]).interval.value == pytest.approx(9.0), "of equal searches before those by hand"
    assert measure([*by_hand, *equal, *longer]).interval.value == pytest.approx(7.0)


def test_a_setting_whose_survivor_is_lucky_is_not_the_best() -> None:
    """Of three runs two diverge: the other setting sets q, and its runs reach it."""
    lucky = [run("ffjord", "moons", 0, 1.0, best=2.5, settings={"lr": 1})]
    lucky += [run("ffjord", "moons", seed, 1.0, settings={"lr": 1}, status="diverged") for seed in (1, 2)]
    sound = [run("ffjord", "moons", seed, 8.0, best=2.8) for seed in range(3)]
    otflow = [run("otflow", "moons", seed, 2.0, best=2.6) for seed in range(3)]
    found = measure([*lucky, *sound, *otflow])
    assert found.interval.value == pytest.approx(4.0)
    assert not any("penalised" in note for note in found.notes)


def test_enough_seeds_go_before_seconds_and_seconds_before_more_seeds() -> None:
    def budget(seconds: float) -> dict[str, Any]:
        return {"config": {"budget": {"seconds": seconds, "steps": None, "evaluations": None, "target": None}}}

    long, short, single = (
        pairs({"moons": times}, seeds=seeds, **budget(seconds))
        for times, seeds, seconds in (((8.0, 4.0), 3, 90.0), ((8.0, 1.0), 5, 9.0), ((9.0, 1.0), 1, 900.0))
    )
    assert measure([*long, *short, *single]).interval.value == pytest.approx(2.0)


def test_an_environment_with_enough_seeds_goes_before_one_with_more_problems() -> None:
    env = {"env": {**ENV, "threads": 7}}
    found = measure([*pairs({"moons": (8.0, 4.0)}), *pairs(dict.fromkeys(SIX, (9.0, 1.0)), seeds=1, **env)])
    assert (found.problems, found.seeds) == (("moons",), 3)


def test_settings_without_a_validation_nll_are_not_chosen_among() -> None:
    records = [
        run("enot", "moons", 0, 1.0, best=math.nan, settings={"lr": lr}, metrics={"l2_uvp": lr}) for lr in (0.1, 0.2)
    ]
    query = {"kind": "value", "of": "l2_uvp", "solver": "enot"}
    with pytest.raises(
        Missing, match="without moons: enot has several settings and no validation NLL to choose one by"
    ):
        built(query).measure(evidence(records))
    assert built(query | {"setting": {"lr": 0.1}}).measure(evidence(records)).interval.value == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"of": ["seconds_to_q"]}, "of must be a word, not ['seconds_to_q']"),
        ({"datasets": "moons"}, "datasets must be a list of problems, not 'moons'"),
        ({"mean": 3}, "mean must be a word, not 3"),
    ],
)
def test_a_query_of_other_types_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ClaimError, match=re.escape(said)):
        measure([], **given)


def accurate(dataset: str = "moons") -> list[Record]:
    """FFJORD at half of its effort, OT-Flow at a quarter."""
    return [
        run(solver, dataset, seed, 1.0, cost={
            "accurate_seconds": seconds, "accurate_effort": effort, "accurate_rows": 2000,
            "work_precision": [
                {"effort": e, "seconds": seconds * e / effort, "error": 0.02 if e < effort else 0.001}
                for e in (effort / 2, effort, 2.0)
            ],
        })
        for solver, seconds, effort in (("ffjord", 6.0, 0.5), ("otflow", 1.0, 0.25))
        for seed in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"accurate_rows": None}, "a run has no seconds at equal accuracy"),
        ({"accurate_rows": 0}, "a run has no seconds at equal accuracy"),
        ({"work_precision": None}, "a run has no seconds at equal accuracy"),
    ],
)
def test_inference_is_at_equal_accuracy_or_left_out(changed: dict[str, Any], said: str) -> None:
    found = measure(accurate(), of="inference")
    assert (found.interval.value, found.notes) == (pytest.approx(6.0), (COMPARED, BY_HAND))
    lacking = accurate("rings")
    lacking[0]["cost"] |= changed
    both = measure([*accurate(), *lacking], of="inference")
    assert (both.interval.value, both.problems) == (pytest.approx(6.0), ("moons",))
    assert both.notes[0] == f"without rings: {said}"
    with pytest.raises(Missing, match=said):
        measure(lacking, of="inference")


def test_inference_is_a_point_and_penalised_where_it_is_never_accurate() -> None:
    fewer = accurate()
    for one in fewer[3:]:
        one["cost"] |= {"accurate_rows": 500, "accurate_seconds": 0.5}
    assert measure(fewer, of="inference").interval.value == pytest.approx(3.0)  # 6 s / 2000 over 0.5 s / 500
    never = accurate()
    for one in never[:3]:
        one["cost"] |= {"accurate_seconds": None, "accurate_effort": None}
    found = measure(never, of="inference")
    assert found.interval.value == pytest.approx(48.0)  # twice the 24 s of effort 2
    assert "penalised, as a run of ffjord is never within the accuracy on moons" in found.notes
    void = [one | {"certificates": make(failed=["nll_effort"])["certificates"]} for one in accurate()]
    with pytest.raises(Missing, match="a certificate failed"):
        measure(void, of="inference")


def test_that_less_effort_than_was_tried_may_do_is_said() -> None:
    records = accurate()
    for one in records[3:]:
        one["cost"] |= {"accurate_effort": accuracy.EFFORTS[0]}
        one["cost"]["work_precision"] = [{"effort": e, "seconds": 1.0, "error": 0.001} for e in accuracy.EFFORTS]
    said = "the least effort tried of otflow is within the accuracy, and less may be on moons"
    assert said in measure(records, of="inference").notes
    for one in records[3:]:
        one["cost"]["work_precision"].insert(0, {"effort": accuracy.EFFORTS[0] / 2, "seconds": 1.0, "error": 0.02})
    assert measure(records, of="inference").notes == (COMPARED, BY_HAND)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"failed": ["nll_effort"]}, "a certificate failed"), ({"best": math.nan}, "a run has no finite validation NLL")],
)
def test_a_best_nll_is_of_certified_runs_that_all_have_one(changed: dict[str, Any], said: str) -> None:
    def records(**of_one: Any) -> list[Record]:
        more: list[dict[str, Any]] = [{}, {}, of_one]
        return [run(s, "moons", seed, 1.0, **more[seed]) for s in ("ffjord", "otflow") for seed in range(3)]

    assert measure(records(), of="best_nll", mean="difference").interval.value == pytest.approx(0.0)
    with pytest.raises(Missing, match=said):
        measure(records(**changed), of="best_nll", mean="difference")


def test_an_estimated_density_is_for_the_whole_test_set() -> None:
    cut = {"evaluate_seconds": 9.0, "estimate_seconds": 2.0, "evaluate_rows": 500, "test_rows": 2000}
    records = [run("ffjord", "moons", seed, 1.0, cost=cut) for seed in range(3)]
    records += [
        run("otflow", "moons", seed, 1.0, cost={"evaluate_seconds": 4.0, "evaluate_rows": 2000, "test_rows": 2000})
        for seed in range(3)
    ]
    assert measure(records, of="estimated_inference").interval.value == pytest.approx(2.0)  # 2 s x 4 over 4 s


def test_settings_that_no_search_found_are_noted() -> None:
    assert BY_HAND in measure(pairs({"moons": (8.0, 4.0)})).notes
    searched = pairs({"moons": (8.0, 4.0)}, config={"tuning": {"trials": 20, "seconds": 30.0}})
    assert measure(searched).notes == (COMPARED,)


def test_settings_are_told_apart() -> None:
    records = [
        run("ffjord", "moons", seed, 9.0 if adjoint else 3.0, settings={"adjoint": adjoint})
        for adjoint in (False, True)
        for seed in range(3)
    ]
    query = {"over": "ffjord", "setting": {"adjoint": True}, "over_setting": {"adjoint": False}}
    found = measure(records, **query)
    assert found.interval.value == pytest.approx(3.0)
    assert BY_HAND not in found.notes  # one solver both ways: its settings favour neither


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
    with pytest.raises(ClaimError, match="setting must be settings"):
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


def test_a_problem_with_fewer_seeds_than_are_asked_for_voids_no_other() -> None:
    few, enough = pairs({"digits": (80.0, 1.0)}, seeds=1), pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})
    query = built({"kind": "compare", "of": "seconds_to_q", "solver": "ffjord", "over": "otflow"})
    found = query.measure(replace(evidence([*few, *enough]), seeds=3))
    assert (found.problems, found.seeds) == (TOYS, 3)
    assert found.notes[0] == "without digits: only 1 of 3 seeds"
    alone = query.measure(replace(evidence(few), seeds=3))  # the number is shown, and no verdict given
    assert (alone.problems, alone.seeds) == (("digits",), 1)

    wherever = {name: value for name, value in T2.parts[0].query.items() if name != "datasets"}
    claim = Claim("X1", "Somebody", (replace(T2.parts[0], problems=2, query=wherever),))
    (entry,) = queries.judged([claim], evidence([*few, *enough]))
    assert entry.verdict == PARTLY
    (entry,) = queries.judged([claim], evidence(few))
    assert entry.findings[0].why == "only 1 of 3 seeds and 1 of 2 problems"


def test_seconds_of_other_environments_are_not_mixed() -> None:
    records = pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})
    records += [run(s, "digits", seed, 9.0, env={"threads": 1}) for s in ("ffjord", "otflow") for seed in range(3)]
    assert measure(records).problems == TOYS


def test_records_of_two_machines_are_refused() -> None:
    records = pairs({"8gaussians": (8.0, 1.0)}) + pairs({"moons": (8.0, 4.0)}, env={"cpu": "Other CPU"})
    with pytest.raises(Refused, match=r"records from 2 machines \(Fake CPU 3000; Other CPU\): give records= of one"):
        measure(records)
    assert measure(records, datasets=["moons"]).problems == ("moons",)


def test_parts_of_a_claim_from_two_machines_are_refused() -> None:
    records = pairs({"8gaussians": (8.0, 1.0)}) + pairs({"moons": (8.0, 4.0)}, env={"cpu": "Other CPU"})
    parts = [
        replace(T2.parts[0], query={**T2.parts[0].query, "datasets": [name]}, problems=1) for name in (*TOYS, "rings")
    ]
    here = evidence(records)
    (mixed,) = queries.judged([Claim("X1", "Somebody", tuple(parts))], here)
    refused = "records from 2 machines (Fake CPU 3000; Other CPU): give records= of one"
    assert [(f.why, f.refused) for f in mixed.findings[:2]] == [(refused, True)] * 2
    assert not mixed.findings[2].refused
    assert mixed.verdict == NOT_MEASURABLE
    (single,) = queries.judged([Claim("X1", "Somebody", tuple(parts[:1]))], here)
    assert single.findings[0].measured is not None


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
    assert value().notes == ("without mixture_to_gaussian d=50: 1 of 1 runs of neural_hjb have no certified number",)


@pytest.mark.parametrize("kind", ["value", "compare"])
def test_the_survivors_of_runs_that_mostly_failed_measure_nothing(kind: str) -> None:
    """Three seeds are asked for and three are fine: of ten, whose median nobody knows."""
    good = [make(name, "moons", seed, metrics={"mmd": 1.0}) for name in ("otcfm", "cfm") for seed in range(3)]
    query = {"kind": kind, "of": "mmd", "solver": "otcfm"} | ({"over": "cfm"} if kind == "compare" else {})

    def found(more: list[Record]) -> Measured:
        return built(query).measure(replace(evidence([*good, *more]), seeds=3))

    assert found([]).interval.value == 1.0
    for more in ({"status": "diverged", "reason": "NaN"}, {"metrics": {"mmd": 9.0}, "failed": ["finite"]}):
        bad = [make(name, "moons", seed, **more) for name in ("otcfm", "cfm") for seed in range(3, 10)]
        with pytest.raises(Missing, match=r"7 of 10 runs of otcfm have no certified number|a certificate failed"):
            found(bad)


def test_the_worst_is_of_problems_with_the_seeds_that_are_asked_for() -> None:
    records = [make("otcfm", "moons", seed, metrics={"mmd": 1.0}) for seed in range(3)]
    records += [make("otcfm", "rings", metrics={"mmd": 9.0})]
    found = built({"kind": "value", "of": "mmd", "solver": "otcfm"}).measure(replace(evidence(records), seeds=3))
    assert (found.interval.value, found.problems) == (1.0, ("moons",))
    assert found.notes == ("without rings: only 1 of 3 seeds",)


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


def test_ours_beside_published_are_of_one_protocol_and_of_enough_seeds(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("experiment,dim,method,percent\nA,2,ID,10\nA,4,ID,10\n")

    def runs(dim: int, values: list[float], **more: Any) -> list[Record]:
        dataset = {"_target_": "datasets.w2benchmark.W2Benchmark", "version": 1, "dim": dim}
        return [
            make("identity", seed=seed, config={"dataset": dataset, **more}, metrics={"l2_uvp": value},
                 settings={"_target_": "solvers.baselines.Identity"})
            for seed, value in enumerate(values)
        ]  # fmt: skip

    given = dict(family="w2benchmark", table=str(table), column="percent", experiment="A", methods={"identity": "ID"})
    query = built({"kind": "beside", "of": "l2_uvp", **given})
    other = {"validation": {"rows": 7, "spacing": 0.05}}
    found = query.measure(evidence([*runs(2, [11.0, 12.0, 13.0]), *runs(2, [90.0, 91.0], **other)]))
    assert (found.interval.value, found.runs) == (pytest.approx(1.2), 3)
    both = [*runs(2, [11.0, 12.0, 13.0]), *runs(4, [90.0])]
    found = query.measure(replace(evidence(both), seeds=3))
    assert (found.interval.value, found.problems) == (pytest.approx(1.2), ("w2benchmark d=2",))
    assert found.notes == ("without identity on w2benchmark d=4: only 1 of 3 seeds",)


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
    (folder / "cuda.json").write_text(json.dumps({"environment": ENV, "rows": rows}))
    with pytest.raises(Refused, match=r"cuda.json: another result has d = 43 too"):
        built({"kind": "trace", "of": "error"}).measure(here)
    (folder / "cuda.json").write_text("[]")
    with pytest.raises(Refused, match=r"cuda.json: not a result of bench.trace"):
        built({"kind": "trace", "of": "error"}).measure(here)


FINE = [trace_row(43, "closed form", 0, 3.0, 0.0), trace_row(43, "Hutchinson", 1, 2.0, 0.2)]


@pytest.mark.parametrize("of", ["seconds", "error"])
@pytest.mark.parametrize(
    "rows",
    [
        [],
        None,
        {"dim": 43},
        FINE[:1],
        [FINE[0], FINE[1] | {"relative_error": None, "seconds": None}],
        [FINE[0], FINE[1] | {"relative_error": float("nan"), "seconds": float("nan")}],
        [FINE[0] | {"seconds": -1.0}, FINE[1] | {"relative_error": -0.2}],
        [row | {"dim": "43"} for row in FINE],
    ],
)
def test_a_trace_that_is_none_is_refused(rows: Any, of: str, tmp_path: Path) -> None:
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "cpu.json").write_text(json.dumps({"environment": ENV, "rows": rows}))
    here = Evidence(frame.of(pairs({"moons": (8.0, 4.0)})), [tmp_path])
    with pytest.raises(Refused, match=r"cpu\.json: not a result of bench\.trace"):
        built({"kind": "trace", "of": of}).measure(here)


@pytest.mark.parametrize("changed", [{"error": None}, {"seconds": None}, {"seconds": float("nan")}, {"seconds": 0.0}])
def test_gradients_that_are_none_are_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    row = {"adjoint": False, "error": 1e-4, "seconds": 1.0}
    (tmp_path / "gradient_error").mkdir()
    found = {"dataset": "moons", "env": ENV, "rows": [row, row | {"adjoint": True} | changed]}
    (tmp_path / "gradient_error" / "moons.json").write_text(json.dumps(found))
    here = Evidence(frame.of(pairs({"moons": (8.0, 4.0)})), [tmp_path])
    with pytest.raises(Refused, match=r"moons\.json: not a result of bench\.gradient_error"):
        built({"kind": "gradient_error", "error": 1e-3}).measure(here)


def test_the_gradient_experiment(tmp_path: Path) -> None:
    def rows(*points: tuple[bool, float, float]) -> list[dict[str, Any]]:
        return [{"adjoint": way, "error": error, "seconds": seconds} for way, error, seconds in points]

    folder = tmp_path / "gradient_error"
    folder.mkdir()
    found = {
        "moons": rows((False, 1e-4, 1.0), (False, math.nan, 0.1), (True, 1e-5, 8.0), (True, 1e-4, 4.0)),
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
    (folder / "rings_again.json").write_text((folder / "rings.json").read_text())
    with pytest.raises(Refused, match=r"rings_again\.json: another result has rings too"):
        built({"kind": "gradient_error", "error": 1e-3}).measure(here)


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


def published(table: str, column: str, **where: str) -> float:
    """The value in `column` of the first row of results/paper that is so: of a method's own paper."""
    with (PAPER / f"{table}.csv").open(newline="") as file:
        return next(float(row[column]) for row in csv.DictReader(file) if where.items() <= row.items())


def times(opponent: str, mean: str) -> float:
    return published("otflow_ratios", mean, quantity="training time ratio", numerator=opponent, denominator="OT-Flow")


def energy(task: str, method: str) -> float:
    return published("otcfm", "value", task=f"{task}->8gaussians", metric="NPE", method=method)


def training(method: str) -> float:
    return published("otcfm", "value", metric="mean training time (1e3 s)", method=method)


def minutes(method: str) -> float:
    experiment = "Gaussian-mixture pairs (HD): runtime"
    return published("w2benchmark", "runtime_min", experiment=experiment, method=method, dim="256")


def trace(column: str, vectors: str) -> float:
    return published("otflow_trace", column, dataset="MNIST", hutchinson_vectors=vectors)


WEIGHTS = published("otflow_ratios", "arithmetic_mean", quantity="parameter ratio", numerator="OT-Flow")
REPLICATIONS = {
    "C1": (training("Reg. CNF") / training("OT-CFM"), training("CNF") / training("OT-CFM")),
    "C2": (energy("N", "OT-CFM"), energy("moons", "OT-CFM"), energy("N", "I-CFM") / energy("N", "OT-CFM"),
           energy("moons", "I-CFM") / energy("moons", "OT-CFM")),
    "D1": (6 / 7, 1 / (1 - 0.39), 1),  # 39 to 97 % less time; cheaper
    "O1": (WEIGHTS, times("FFJORD", "arithmetic_mean"), 28),
    "O2": (times("FFJORD", "ratio_of_sums"), 28),
    "O3": (WEIGHTS, times("RNODE", "arithmetic_mean"), 24),
    "O4": (trace("runtime_s_mean", "") / trace("runtime_s_mean", "1"), trace("rel_error_mean", "1")),
    "T1": (8,),
    "T2": (10,),
    "T3": (30,),
    "W1": (0,),
    "W2": (1, minutes("W2OT") / minutes("ENOT")),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLICATIONS)
def test_who_measures_what_was_published_has_reproduced_it(name: str) -> None:
    """No bound is rounded beyond the paper's own numbers."""
    claim = ledger.read(ledger.FOLDER / f"{name}.yaml")
    for part, value in zip(claim.parts, REPLICATIONS[name], strict=True):
        exact = Measured(Interval(value, math.nan, math.nan), 9, part.seeds, SIX, "cpu")
        assert judge(part, exact).verdict == REPRODUCED, (part.quantity, value)
        worse = value / 2.5 if part.reproduced.at_least is not None else 2.5 * value + 1
        other = replace(exact, interval=Interval(worse, math.nan, math.nan))
        assert judge(part, other).verdict != REPRODUCED, (part.quantity, worse)


# The commands that make the records


@cache
def jobs_of_command(command: str) -> tuple[str, ...]:
    """The cells of `python -m bench.run -m ...`, each by its overrides."""
    *_, words = command.partition("bench.run -m ")
    given = [word for one in words.split() for word in lenient(one)]
    suites = [word.removeprefix("suite=") for word in given if word.startswith("suite=")]
    others = [word for word in given if not word.startswith("suite=")]
    return tuple(jobs_of_suite(*suites, *others) if suites else jobs_of(others))


def given_by(job: str) -> dict[str, str]:
    return dict(word.lstrip("+").split("=", 1) for word in job.split())


@cache
def problem_of(name: str, dim: str | None) -> str:
    """What frames call the dataset `name`, of dimension `dim` where it is given."""
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / "dataset" / f"{name}.yaml"))
    return dataset_name(config | ({} if dim is None else {"dim": int(dim)}))


def seeds_of(
    jobs: Iterable[str], solver: str, setting: Mapping[str, Any], datasets: Sequence[str] | None
) -> dict[str, list[str]]:
    """Problem, of `datasets` where they are named -> the seed of each cell of the solver that has the `setting`."""
    found: dict[str, list[str]] = {}
    for job in jobs:
        given = given_by(job)
        name = problem_of(given["dataset"], given.get("dataset.dim"))
        asked = given["solver"] == solver and (datasets is None or name in datasets)
        if asked and (not setting or setting.items() <= settings_of(seedless(job)).items()):
            found.setdefault(name, []).append(given.get("seed", "0"))
    return found


def seedless(job: str) -> str:
    return " ".join(word for word in job.split() if not word.startswith("seed="))


@cache
def settings_of(job: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return record.describe(build(compose("config", job.split()))[0])


def sides(query: queries.Query) -> list[tuple[str, Mapping[str, Any]]]:
    """The solvers that a query uses, each with its setting."""
    match query:
        case Compare():
            return [(query.solver, query.setting), (query.over, query.over_setting)]
        case Value():
            return [(query.solver, query.setting)]
        case Beside():
            return [(solver, {}) for solver in query.methods]
    raise AssertionError(f"{query.kind} needs no cells")


def lacking(part: Part, jobs: Iterable[str]) -> str:
    """What the cells do not have of what the claim asks for; empty where they have it."""
    query = built(part.query)
    asked = part.query.get("datasets")
    sizes = 2 if part.query["of"] == "parameters_at_q" else 1
    enough = [
        {name for name, seeds in seeds_of(jobs, *side, asked).items() if fully(seeds, part.seeds, sizes)}
        for side in sides(query)
    ]
    problems = set.intersection(*enough)
    wanted = part.problems if part.published_on else len(asked or ()) or part.problems  # some, or all that are named
    return "" if len(problems) >= wanted else f"{part.quantity}: only {sorted(problems)}"


def fully(found: Sequence[str], seeds: int, sizes: int) -> bool:
    return len(set(found)) >= seeds and len(found) >= seeds * sizes


PARTS = [
    (f"{claim.id} {part.quantity}", part)
    for claim in ledger.load()
    for part in claim.parts
    if "bench.run" in part.command
]


@pytest.mark.parametrize("part", [part for _, part in PARTS], ids=[name for name, _ in PARTS])
def test_a_command_makes_what_its_claim_asks_for(part: Part) -> None:
    assert lacking(part, jobs_of_command(part.command)) == ""


@pytest.mark.parametrize("by_setting", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_suite_of_the_claims_makes_what_all_of_them_ask_for(by_setting: bool) -> None:
    jobs = jobs_of_command("python -m bench.run -m suite=paper")
    parts = [part for _, part in PARTS if ("setting" in part.query) == by_setting]
    assert [said for part in parts if (said := lacking(part, jobs))] == []


@pytest.mark.parametrize("command", sorted({p.command for _, p in PARTS if not re.search(r"suite=\w+$", p.command)}))
def test_every_command_names_cells_that_can_be_built(command: str) -> None:
    """One of each solver with each set of overrides; those of a suite alone are built with it."""
    kinds = {(given_by(job)["solver"], *given_by(job)): job for job in jobs_of_command(command)}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for job in kinds.values():
            build(compose("config", job.split()))


def test_the_other_commands_are_experiments_that_can_be_run() -> None:
    others = {part.command for claim in ledger.load() for part in claim.parts if "bench.run" not in part.command}
    text = (CONF / "suite" / "paper.yaml").read_text()
    for command in others - {""}:
        _, _, module, *datasets = command.split()
        assert (CONF.parents[1] / module.replace(".", "/")).with_suffix(".py").exists()
        assert set(datasets) <= set(gradient_error.tuned_for())
        assert command in text, "suite=paper names it"


def test_claims_are_reproduced_or_partly_by_what_the_records_say() -> None:
    claim = [T2]
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
    here = evidence([method, advected("eulerian", 5.68, 5.32, levels=4, tolerance=5e-4)])
    (entry,) = queries.judged([claim for claim in ledger.load() if claim.id == "T5"], here)
    verdicts = {finding.part.query["of"]: finding.verdict for finding in entry.findings}
    assert verdicts == {
        "upwind_objective": REPRODUCED, "upwind_objective_backward": PARTLY, "cost_estimate": REPRODUCED,
    }  # fmt: skip
    assert entry.verdict == PARTLY


def test_an_undecided_claim_is_told_and_wants_no_records_that_are_there() -> None:
    part = Part("x", "2x", {}, Bounds(at_least=1.0), "make it")
    finding = judge(part, Measured(Interval(1.1, 0.9, 1.3), 6, 3, ("moons",), "cpu"))
    assert (finding.verdict, finding.command) == (NOT_MEASURABLE, "")
    entry = Entry(Claim("X1", "Somebody", (part,)), (finding,))
    told, folded = shown.of_page([entry], [shown.ledger([entry])])
    assert folded is None
    assert len(told[0].rows) == 1


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


def test_a_row_names_the_problems_and_those_of_the_publication() -> None:
    here = evidence(pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)}))
    part = replace(T2.parts[0], published_on=["power", "moons"], published_hardware="a GPU")

    def source(*parts: Part) -> list[str]:
        table = shown.ledger(queries.judged([Claim("X1", "Somebody", parts)], here))
        return [cells[table.columns.index("from")].text for _, cells in table.rows]

    (row,) = source(part)
    assert row.startswith("12 runs, 3 seeds, on 2 problems (8gaussians, moons); Fake CPU 3000, threads 2; ")
    assert row.endswith("; published on power, moons with a GPU, 1 of them measured here")
    (other,) = source(replace(part, published_on=["power", "gas"], published_hardware=""))
    assert other.endswith("; published on power, gas, none of them measured here")
    assert source(replace(part, published_on=[]))[0].endswith("threads 2")


def test_a_claim_that_no_command_measures_says_so() -> None:
    notes = shown.ledger(queries.judged(ledger.load(), evidence(pairs({"moons": (8.0, 4.0)})))).notes
    assert "Records wanting for R2, W2: no command of this suite makes them" in notes


def test_the_headline_is_of_problems_with_enough_seeds() -> None:
    (table,) = shown.headlines(evidence([*pairs({"moons": (8.0, 4.0)}), *pairs({"digits": (90.0, 1.0)}, seeds=1)]))
    *means, problems = dict(table.rows)["training time to q, FFJORD"]
    assert [cell.value for cell in means] == pytest.approx([2.0] * 3)
    assert problems.text == "1, 3 seeds: moons"


def test_the_headline_by_mean_and_opponent() -> None:
    (table,) = shown.headlines(evidence(pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})))
    rows = dict(table.rows)
    assert [cell.value for cell in rows["training time to q, FFJORD"][:3]] == pytest.approx([5.0, 4.0, 3.2])
    assert [cell.value for cell in rows["training time ratio, RNODE (published)"][:3]] == [7.944, 6.463, 9.677]
    assert not shown.headlines(evidence([make("moments")]))


def test_a_headline_of_which_no_problem_is_left_says_why() -> None:
    noisy = ENV | {"noise": {"steal": 0.5}}
    (table,) = shown.headlines(evidence(pairs({"moons": (8.0, 1.0)}, env=noisy)))
    cells = dict(table.rows)["training time to q, FFJORD"]
    assert [cell.text for cell in cells] == ["–"] * 4
    why = "no problem on which ffjord and otflow both have seconds to q (without moons: others used the processor)"
    assert f"training time to q, FFJORD: {why}." in table.notes


def test_a_headline_that_may_not_be_measured_says_why() -> None:
    records = [*pairs({"8gaussians": (8.0, 1.0)}), *pairs({"moons": (8.0, 4.0)}, env={"cpu": "Other CPU"})]
    (table,) = shown.headlines(evidence(records))
    assert [cell.text for cell in dict(table.rows)["training time to q, FFJORD"]] == ["–"] * 4
    assert any(note.startswith("training time to q, FFJORD: records from 2 machines") for note in table.notes)


def test_the_headline_says_of_what_it_is_and_that_a_bound_is_one() -> None:
    swept = [*SWEPT, *sized("otflow", {400: 2.01, 1600: 2.0})]
    (table,) = shown.headlines(evidence(swept))
    first = dict(table.rows)["weights at equal quality, FFJORD"][0]
    assert (first.text, first.value) == (">= 8.00 [8.00, inf]", 8.0)
    assert any("training time to q, FFJORD: weights: ffjord 3,200, otflow 1,600" in note for note in table.notes)
    assert table.notes[-2].startswith("No equal tuning budget")
    assert table.notes[-1] == "Computed on Fake CPU 3000, threads 2."
    assert sum("tuning budget" in note for note in table.notes) == 1


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = store(tmp_path / "records", pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)}))
    assert claims.main([f"records={folder}", f"out={tmp_path / 'out'}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "python -m bench.run -m suite=toy" in printed
    for suffix in ("md", "tex", "csv"):
        assert "only 2 of 5 problems" in (tmp_path / "out" / "records" / f"claims.{suffix}").read_text()


def test_the_claims_of_the_talk_come_first() -> None:
    assert [claim.id for claim in ledger.load()][:6] == ["T1", "T2", "T3", "T4", "T5", "C1"]


def test_verdicts_of_several_ledgers_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"fast": (8.0, 0.4), "slow": (1.0, 2.0)}
    folders = [store(tmp_path / name, pairs(dict.fromkeys(SIX, both))) for name, both in named.items()]
    store(tmp_path / "mixed", [*pairs({"moons": (8.0, 4.0)}), *pairs({"rings": (8.0, 4.0)}, env={"cpu": "Other CPU"})])
    monkeypatch.setattr(claims, "default_folders", lambda: (*folders, tmp_path / "mixed"))
    assert claims.main([f"out={tmp_path / 'out'}"]) == 2
    assert "The verdicts" in capsys.readouterr().out
    evidence_of = {name: claims.gather([tmp_path / name])[0] for name in (*named, "mixed")}
    table = shown.verdicts({name: queries.judged(ledger.load(), found) for name, found in evidence_of.items()})
    rows = {label: [cell.text for cell in cells] for label, cells in table.rows}
    assert table.columns == ["published", "fast", "slow", "mixed"]
    (training,) = (cells for label, cells in rows.items() if label.startswith("T2 training time"))
    assert training[0] == "10-40x"
    assert training[1].startswith("reproduced: 20.0")
    assert training[2].startswith("not reproduced: 0.500")
    assert training[3] == "refused"
    (parts,) = (cells for label, cells in rows.items() if label.startswith("O3 ") and label.endswith(" more"))
    assert parts[0] == "several"
    assert rows[next(label for label in rows if label.startswith("W1 "))][1:] == ["–"] * 3
    assert (tmp_path / "out" / "verdicts" / "verdicts.csv").read_text() == render.csv(table)


def test_the_report_judges_each_folder_as_the_command_does(tmp_path: Path) -> None:
    """Although another machine's folder of the same name has the same keys, and settings and metrics of its own."""
    here = [*pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)}), make("enot", metrics={"new": 1.0})]
    here += [run("otflow", "moons", seed, 9.0, settings={"width": 8}) for seed in range(3)]
    there = pairs({"8gaussians": (6.0, 2.0), "moons": (9.0, 3.0)}, env={"cpu": "Other CPU"})
    folders = [store(tmp_path / name / "runs", records) for name, records in (("a", here), ("b", there))]
    found, problems = load(folders)
    out = tmp_path / "report"
    parts = list(claims_parts(found, Options(tuple(folders), out), Console(quiet=True), [], problems))
    assert problems == []
    assert len({part.name for part in parts}) == 2
    for folder, name in names_of(folders).items():
        assert claims.main([f"records={folder}", f"out={tmp_path / name}"]) == 0
        for table in ("claims", "headline"):
            wanted = (tmp_path / name / "runs" / f"{table}.csv").read_text()
            assert (out / "tables" / f"{table}_{name}.csv").read_text() == wanted


def test_a_record_that_two_folders_have_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = pairs({"8gaussians": (8.0, 1.0), "moons": (8.0, 4.0)})
    folders = [store(tmp_path / name, records) for name in "ab"]
    for name, given in (("one", folders[:1]), ("two", folders)):
        assert claims.main([f"records={','.join(map(str, given))}", f"out={tmp_path / name}"]) == 0
    assert (tmp_path / "two/a/claims.csv").read_text() == (tmp_path / "one/a/claims.csv").read_text()
    note = "Counted once, as an earlier folder has them too: 12 of 24 records."
    assert capsys.readouterr().out.count(note) == 1


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

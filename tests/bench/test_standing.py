"""What may be ranked across problems, held to hand-made records and to what the tables say of the same problems."""

import numpy as np
import pytest

from bench.report import explore, standing, tables
from tests.bench import fake_records as fake
from tests.bench.test_report import group, three


def sweep():
    """otflow, ffjord and rnode on three problems: medians 2, 4, 8; 3, 1, failed; 5, 10, void; enot on one of them."""
    records = [*three("otflow", (1, 2, 3), dataset="a"), *three("ffjord", (4, 4, 4), dataset="a")]
    records += [*three("rnode", (8, 8, 9), dataset="a"), *three("rnode", (1, 1), dataset="b")]
    records += [fake.make("rnode", "b", 2, status="diverged", reason="x")]
    records += [*three("otflow", (3, 3, 3), dataset="b"), *three("ffjord", (1, 1, 1), dataset="b")]
    records += [*three("otflow", (5, 5, 5), dataset="c"), *three("ffjord", (10, 10, 10), dataset="c")]
    records += [*three("rnode", (1, 1, 1), dataset="c", failed=["nll_valid"]), *three("enot", (1, 1, 1), dataset="c")]
    return [*records, *(fake.make("moments", name, seed) for name in "abc" for seed in range(3))]


SECONDS = np.array([[2.0, 3.0, 5.0], [4.0, 1.0, 10.0], [8.0, np.inf, np.inf]])


def test_seconds_are_medians_and_what_fails_or_is_void_is_infinite():
    found = standing.of(group(sweep()), "otflow")
    assert (found.solvers, found.problems) == (["otflow", "ffjord", "rnode"], ["a", "b", "c"])
    np.testing.assert_array_equal(found.seconds, SECONDS)
    assert (found.absent, found.refused) == (["enot"], [])
    assert "Not run on all of them, or with fewer seeds: enot." in found.told


def test_the_most_pairs_of_solvers_and_problems_are_ranked():
    ran = {"a": {"x", "y"}, "b": {"x", "y", "z"}, "c": {"x", "z"}, "d": {"x", "y"}, "e": {"u"}}
    assert standing.block(ran) == ({"x", "y"}, {"a", "b", "d"})
    assert standing.block({"a": {"x", "y", "z"}, "b": {"x", "y", "z"}, "c": {"x", "y"}}) == (
        {"x", "y", "z"},
        {"a", "b"},
    )
    assert standing.block({"a": {"x", "y"}, "b": {"x", "z"}}) == standing.block({}) == (set(), set())


def test_problems_that_each_lack_another_solver_end_in_time():
    names = [chr(ord("a") + i) for i in range(26)]
    found = standing.block({name: set(names) - {name} for name in names})
    assert all(name not in found[0] for name in found[1])
    assert min(map(len, found)) >= standing.LEAST


def other_tolerance():
    """The sweep without enot, with another tolerance of ffjord on problem a."""
    records = [one for one in sweep() if "enot" not in one["config"]["solver"]["_target_"]]
    for one in records:
        solver = one["config"]["solver"]
        if one["config"]["dataset"]["_target_"] == "fake.a":
            solver["atol"] = 1e-3 if "ffjord" in solver["_target_"] else 1e-5
    return records


def test_what_is_unfair_is_not_ranked_and_named_until_allowed():
    records = other_tolerance()
    found = standing.of(group(records), "otflow")
    assert (found.problems, found.refused) == (["b", "c"], ["a (runs differ in tolerance)"])
    np.testing.assert_array_equal(found.seconds, SECONDS[:, 1:])
    assert standing.of(group(records, "tolerance"), "otflow").problems == ["a", "b", "c"]


def test_a_seed_that_one_lacks_refuses_the_problem_as_the_table_does_on_the_page_too():
    records = [one for one in sweep() if one["config"]["seed"] != 2 or one["config"]["dataset"]["_target_"] != "fake.b"]
    records.append(fake.make("otflow", "b", 2))
    only = group(records)
    found = standing.of(only, "otflow")
    assert found.problems == ["a", "c"]
    assert found.told.endswith(" Not ranked: b (runs differ in seeds).")
    assert any(note.startswith("Nothing is ranked: runs differ in seeds") for note in notes(only, "b"))
    assert explore.data(only, "otflow")["mixed"] == {"b": "runs differ in seeds"}


def test_fewer_seeds_than_two_others_have_put_a_solver_aside_and_refuse_nothing():
    only = group([*sweep(), *(fake.make("cfm", name, 1) for name in "abc")])
    found = standing.of(only, "otflow")
    assert (found.problems, found.refused, found.absent) == (["a", "b", "c"], [], ["cfm", "enot"])
    np.testing.assert_array_equal(found.seconds, SECONDS)
    told = explore.data(only, "otflow")
    assert (told["mixed"], told["aside"]) == ({}, ["moments", "cfm", "enot"])
    assert {cell["solver"] for cell in told["cells"] if cell["beside"]} == {"cfm"}
    assert not any(cell["chosen"] for cell in told["cells"] if cell["beside"])
    with_all = group([*sweep(), *(fake.make("cfm", name, 1) for name in "abc")], "seeds")
    assert "cfm" in standing.of(with_all, "otflow").solvers


@pytest.mark.parametrize(
    ("name", "on", "records"),
    [("seeds", "b", [*sweep(), fake.make("otflow", "b", 3)]), ("tolerance", "a", other_tolerance())],
)
def test_what_is_ranked_although_runs_differ_is_told(name, on, records):
    only = group(records, name)
    found = standing.of(only, "otflow")
    assert (found.problems, found.refused) == (["a", "b", "c"], [])
    assert found.told.endswith(f" allow={name}: ranked although runs differ in {name} on {on}.")
    assert any(note.startswith(f"allow={name}: ranked") for note in notes(only, on)), "as in the table"
    assert explore.data(only, "otflow")["mixed"] == {}


def notes(only, dataset):
    return tables.summary(only, dataset, "otflow").notes


def test_a_problem_on_which_no_median_run_ends_is_left_out_by_name():
    solvers = ("otflow", "ffjord")
    records = [run for solver in solvers for name in "ab" for run in three(solver, (1, 2), dataset=name)]
    for solver in solvers:
        records += [fake.make(solver, "c", 0), fake.make(solver, "c", 1, status="diverged", reason="x")]
    found = standing.of(group(records), "otflow")
    assert (found.problems, found.refused) == (["a", "b"], ["c (no target q)"])

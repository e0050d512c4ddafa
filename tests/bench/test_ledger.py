"""Verdicts on hand-made measurements, and claims that are not claims."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from bench import ledger
from bench.ledger import (
    NOT_MEASURABLE,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    Bounds,
    Claim,
    ClaimError,
    Entry,
    Finding,
    Measured,
    Part,
    judge,
)
from bench.stats import Interval

NAN = math.nan


def part(**given: object) -> Part:
    fields = dict(quantity="q", published="10x", query={"kind": "compare"}, reproduced=Bounds(at_least=10.0),
                  partly=Bounds(at_least=1.0), command="run it", problems=2)  # fmt: skip
    return Part(**{**fields, **given})  # type: ignore[arg-type]


def measured(value: float, low: float = NAN, high: float = NAN, seeds: int = 3, problems: int = 2) -> Measured:
    return Measured(Interval(value, low, high), 12, seeds, tuple("abcdefgh"[:problems]), "a machine")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (measured(12.0, 10.5, 14.0), REPRODUCED),
        (measured(12.0), REPRODUCED),  # one seed was asked for: no interval
        (measured(12.0, 9.0, 14.0), PARTLY),  # the interval reaches below 10
        (measured(12.0, 0.9, 40.0), NOT_MEASURABLE),  # and below 1: undecided
        (measured(8.0, 7.0, 9.0), PARTLY),
        (measured(8.0, 7.0, 11.0), PARTLY),
        (measured(8.0, 0.9, 12.0), NOT_MEASURABLE),  # neither side of either is excluded
        (measured(8.0, 0.9, 9.0), NOT_REPRODUCED),  # not even the direction is sure, but it is below 10
        (measured(0.5, 0.4, 0.6), NOT_REPRODUCED),
        (measured(12.0, 10.5, 14.0, seeds=2), NOT_MEASURABLE),
        (measured(12.0, 10.5, 14.0, problems=1), NOT_MEASURABLE),
    ],
)
def test_every_verdict(found: Measured, verdict: str) -> None:
    assert judge(part(), found).verdict == verdict


def test_why_tells_an_estimate_out_of_bounds_from_an_interval_that_is() -> None:
    assert judge(part(), measured(8.0, 0.9, 9.0)).why == "not >= 10; >= 1, but the interval reaches beyond"
    assert judge(part(), measured(0.5, 0.4, 0.6)).why == "not >= 1"
    assert judge(part(), measured(12.0, 9.0, 14.0)).why == ">= 10, but the interval reaches beyond"
    undecided = "undecided: the interval reaches to both sides of >= 10; more seeds would tell"
    assert judge(part(), measured(12.0, 0.9, 14.0)).why == undecided
    assert judge(part(), measured(8.0, 0.9, 14.0)).why == undecided
    other = replace(measured(8.0, 1.5, 12.0), geometric=Interval(0.5, 0.3, 0.8))
    assert judge(part(), other).why == f"{undecided}; the geometric mean is 0.5"
    assert judge(part(), measured(12.0)).why == ">= 10; no interval"


def test_a_bound_is_reproduced_only_where_its_open_side_does_not_matter() -> None:
    sure = measured(12.0, 10.5, 14.0)
    assert judge(part(), replace(sure, above=True)).verdict == REPRODUCED
    found = judge(part(), replace(sure, below=True))
    assert (found.verdict, found.why) == (
        NOT_MEASURABLE, "undecided: the interval reaches to both sides of >= 10; smaller sizes would tell"
    )  # fmt: skip
    more = judge(part(), replace(measured(8.0, 7.0, 9.0), above=True))
    assert (more.verdict, more.why) == (PARTLY, ">= 1, and as a bound it does not exclude >= 10")
    less = judge(part(), replace(measured(8.0, 7.0, 9.0), below=True))
    assert (less.verdict, less.why) == (NOT_REPRODUCED, "not >= 10; >= 1, but it is a bound")
    assert judge(part(), replace(measured(8.0, 7.0, 9.0), above=True, below=True)).verdict == NOT_MEASURABLE


def test_an_arithmetic_mean_within_the_bounds_needs_the_geometric_one_within_the_wider() -> None:
    high = replace(measured(17.0, 16.0, 18.0), geometric=Interval(0.06, 0.05, 0.07))
    found = judge(part(), high)
    assert (found.verdict, found.why) == (PARTLY, ">= 10, but the geometric mean is not >= 1")
    assert judge(part(), replace(high, geometric=Interval(8.0, 7.0, 9.0))).verdict == REPRODUCED
    wide = judge(part(), replace(high, geometric=Interval(1.2, 0.9, 1.6)))
    assert (wide.verdict, wide.why) == (PARTLY, ">= 10, but the geometric mean's interval reaches beyond >= 1")


def test_as_many_problems_as_were_published_are_enough() -> None:
    few = part(problems=6, published_on=["a", "b"])
    assert judge(few, measured(12.0, 10.5, 14.0)).verdict == REPRODUCED
    assert judge(replace(few, published_on=["a", "z"]), measured(12.0, 10.5, 14.0)).verdict == NOT_MEASURABLE


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_what_is_no_finite_number_is_not_reproduced(value: float) -> None:
    every = part(reproduced=Bounds(at_least=-1e300), partly=None)
    found = judge(every, measured(value))
    assert (found.verdict, found.why) == (NOT_MEASURABLE, f"the estimate is {value}, no finite number")


def test_bounds_hold_a_number_and_the_ends_of_its_interval_that_are_known() -> None:
    bounds = Bounds(at_most=1.0)
    assert bounds.hold(0.5, NAN, NAN)
    assert not bounds.hold(0.5, 0.4, 1.1)
    assert not bounds.hold(NAN)


def test_an_upper_bound_is_kept_by_the_upper_end() -> None:
    smaller = part(reproduced=Bounds(at_most=0.25), partly=None)
    assert judge(smaller, measured(0.2, 0.1, 0.24)).verdict == REPRODUCED
    assert judge(smaller, measured(0.2, 0.1, 0.3)).verdict == NOT_MEASURABLE
    assert judge(smaller, measured(0.3, 0.1, 0.4)).verdict == NOT_MEASURABLE
    assert judge(smaller, measured(0.3, 0.26, 0.4)).verdict == NOT_REPRODUCED


def test_wider_bounds_never_make_a_verdict_worse() -> None:
    order = [NOT_REPRODUCED, NOT_MEASURABLE, PARTLY, REPRODUCED]
    for found in (
        measured(*v) for v in [(12.0, 9.0, 14.0), (12.0, 0.9, 40.0), (8.0, 0.9, 9.0), (0.5, 0.4, 0.6), (8.0,)]
    ):
        wide, narrow = (order.index(judge(part(partly=p), found).verdict) for p in (Bounds(at_least=1.0), None))
        assert wide >= narrow


def test_an_arithmetic_mean_of_ratios_is_partly_reproduced_only_where_the_geometric_one_is_too() -> None:
    """Of 0.762, 5.89, 0.232, 0.368, 0.510, 2.76 it is 1.75, and of their reciprocals 1.81."""
    there = replace(measured(1.75, 1.14, 4.06), geometric=Interval(0.903, 0.646, 1.16))
    back = replace(measured(1.81, 1.1, 3.0), geometric=Interval(1.107, 0.862, 1.55))
    assert [judge(part(), m).verdict for m in (there, back)] == [NOT_REPRODUCED, NOT_REPRODUCED]
    assert judge(part(), there).why == "not >= 10, nor is the geometric mean, 0.903, >= 1"
    sure = replace(there, geometric=Interval(1.5, 1.1, 2.0))
    assert judge(part(), sure).verdict == PARTLY


def test_agreement_is_bounded_on_both_sides() -> None:
    both = part(reproduced=Bounds(0.98, 1.02), partly=Bounds(0.9, 1.1))
    assert [judge(both, measured(v)).verdict for v in (1.0, 0.95, 1.05, 1.2)] == [
        REPRODUCED,
        PARTLY,
        PARTLY,
        NOT_REPRODUCED,
    ]


def test_too_few_records_say_what_is_wanting_and_which_command_makes_it() -> None:
    found = judge(part(), measured(12.0, seeds=1, problems=1))
    assert found.why == "only 1 of 3 seeds and 1 of 2 problems"
    assert found.command == "run it"
    nothing = judge(part(command=""), measured(12.0, seeds=1))
    assert nothing.command == "no command of this suite makes them"
    assert judge(part(), measured(12.0)).command == ""


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, NOT_MEASURABLE], PARTLY),
        ([REPRODUCED, NOT_REPRODUCED], PARTLY),
        ([PARTLY, NOT_REPRODUCED], PARTLY),
        ([NOT_REPRODUCED, NOT_MEASURABLE], NOT_REPRODUCED),
        ([NOT_MEASURABLE, NOT_MEASURABLE], NOT_MEASURABLE),
    ],
)
def test_a_claim_of_several_parts(verdicts: list[str], verdict: str) -> None:
    findings = tuple(Finding(part(), v, "why") for v in verdicts)
    assert Entry(Claim("X1", "a paper", (part(), part())), findings).verdict == verdict


GOOD = """
source: a paper
parts:
  - quantity: something
    published: 10x
    query: {kind: compare, of: seconds_to_q, solver: ffjord, over: otflow}
    reproduced: {at_least: 10}
    command: run it
"""


def test_a_claim_is_read(tmp_path: Path) -> None:
    (tmp_path / "X1.yaml").write_text(GOOD)
    (claim,) = ledger.load(tmp_path)
    assert (claim.id, claim.source, claim.parts[0].reproduced) == ("X1", "a paper", Bounds(at_least=10))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("reproduced: {at_least: 10}", "reproduced: {}", "bounds need at_least or at_most"),
        ("reproduced: {at_least: 10}", "reproduced: {at_least: ten}", "at_least must be a number, not 'ten'"),
        ("reproduced: {at_least: 10}", "", "part lacks reproduced"),
        ("published: 10x", "publisht: 10x", "part has no publisht: choose from quantity, published"),
        ("source: a paper", "", "claim lacks source"),
        ("command: run it", "command: run it\n    seeds: 0", "seeds must be a whole number of 1 or more, not 0"),
        ("query: {kind: compare, of: seconds_to_q, solver: ffjord, over: otflow}", "query: fast", "query must have"),
        ("parts:", "parts: 3\nrest:", "claim has no rest"),
        ("command: run it", "command: run it\n    published_on: power", "published_on must be a list of problems"),
        ("source: a paper", "source: [", "cannot be read"),
    ],
)
def test_what_is_no_claim_is_one_clear_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    (tmp_path / "X1.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(ClaimError, match=r"^X1\.yaml: ") as error:
        ledger.load(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)

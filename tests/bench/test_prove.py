from bench.gate import FAIL, PASS, UNKNOWN, Interval, Verdict
from bench.prove import DELAYED, summed, table


def verdicts(**outcomes):
    return [Verdict(case.replace("_", " "), outcome, Interval(1, 1, 1), 12) for case, outcome in outcomes.items()]


def test_failures_are_counted_by_run_and_case():
    step = DELAYED.replace(" ", "_")
    runs = [
        verdicts(**{step: FAIL, "ffjord_step_toy": PASS}),
        verdicts(**{step: UNKNOWN, "ffjord_step_toy": FAIL}),
        verdicts(**{step: PASS, "ffjord_step_toy": PASS}),
    ]
    found = summed(0.15, runs)
    assert (found.runs, found.found, found.others, found.unknown) == (3, 1, 1, 1)
    assert "| 15 % | 3 | 1 | at least 9 of 10 | 1 | 1 |" in table([found])
    nothing = summed(0.0, runs)
    assert "| 0 % | 3 | 2 | at most 1 of 20 | – | 1 |" in table([nothing])

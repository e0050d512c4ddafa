"""The gate tried on itself: how often does it find a slow-down that is there, and one that is not?

    python -m bench.prove       this commit against itself, OT-Flow's step delayed; writes results/reference/gate.md

Each run is one of `bench.gate.compare`, over all cases where nothing is delayed, over the two of the toy's step where
OT-Flow's is. About ten minutes on two cores.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench import env, gate
from bench.counters import REFERENCE
from bench.gate import CASES, FAIL, UNKNOWN, Pair, Verdict
from bench.record import write_over

DELAYED = "otflow step toy"
PAIR = (DELAYED, "ffjord step toy")
TRIALS = ((0.0, 20), (0.15, 10), (0.30, 10))  # delay as a share of the step, and runs
OUT = REFERENCE.with_name("gate.md")


@dataclass(frozen=True)
class Trial:
    """Runs of the gate with one delay: in how many OT-Flow's step, and anything else, failed or stayed unknown."""

    delay: float
    runs: int
    found: int
    others: int
    unknown: int

    def row(self) -> str:
        wanted = "at most 1 of 20" if self.delay == 0 else "at least 9 of 10"
        failed = self.found + self.others if self.delay == 0 else self.found
        return (
            f"| {100 * self.delay:.0f} % | {self.runs} | {failed} | {wanted} | {self.others if self.delay else '–'} "
            f"| {self.unknown} |"
        )


def trial(sides: Pair, delay: float, runs: int) -> Trial:
    sides.head.slow = {DELAYED: delay}
    cases = PAIR if delay else CASES
    return summed(delay, [gate.compare(sides, cases)[0] for _ in range(runs)])


def summed(delay: float, runs: Sequence[Sequence[Verdict]]) -> Trial:
    failed = [{one.case for one in verdicts if one.outcome == FAIL} for verdicts in runs]
    unknown = sum(any(one.outcome == UNKNOWN for one in verdicts) for verdicts in runs)
    found = sum(DELAYED in cases for cases in failed)
    others = sum(bool(cases - {DELAYED}) and DELAYED not in cases for cases in failed)
    return Trial(delay, len(runs), found, others, unknown)


def table(trials: Iterable[Trial]) -> str:
    where = f"{env.cpu_model()}, {env.threads_allowed()} threads, commit {str(env.commit()['commit'])[:10]}"
    head = "| OT-Flow's step delayed by | runs | failed | wanted | failed for another case | with an unknown case |"
    lines = [head, "|---:|---:|---:|---|---:|---:|", *(one.row() for one in trials)]
    return f"The gate on speed tried on itself (`python -m bench.prove`): {where}.\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m bench.prove", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with gate.pair("HEAD") as sides:
        trials = []
        for delay, runs in TRIALS:
            trials.append(trial(sides, delay, runs))
            print(trials[-1].row(), flush=True)  # noqa: T201
    write_over(OUT, table(trials).encode())


if __name__ == "__main__":
    main()

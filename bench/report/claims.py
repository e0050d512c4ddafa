"""The ledger of claims as tables: a row a claim and a part of it, and how the headline is put together."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.ledger import (
    NOT_MEASURABLE,
    REPRODUCED,
    VERDICTS,
    Entry,
    Finding,
    Measured,
    Missing,
    NoneLeft,
    Part,
    Refused,
)
from bench.queries import BY_HAND, Compare, Evidence
from bench.report.published import PAPER
from bench.report.render import NOTHING, Cell, Table, counted
from bench.report.tables import MIN_SEEDS, significant

PUBLISHED = PAPER / "otflow_ratios.csv"
HEADLINE = {  # quantity -> (what it is called, its name among the published ratios)
    "parameters_at_q": ("weights at equal quality", "parameter ratio"),
    "seconds_to_q": ("training time to q", "training time ratio"),
    "inference": ("inference, exact divergence", ""),
    "estimated_inference": ("inference, estimated divergence", ""),
}
OPPONENTS = {"ffjord": "FFJORD", "rnode": "RNODE"}
COLUMNS = {"arithmetic": "arithmetic_mean", "geometric": "geometric_mean", "ratio of sums": "ratio_of_sums"}

LEGEND = (
    "The verdicts are computed (bench.ledger): reproduced where the estimate and its 95 % interval lie within the "
    "claim's bounds; partly where both lie within wider ones, for most the direction alone; an arithmetic mean of "
    "ratios needs the geometric one within these too; not measurable here where there are too few records, or the "
    "interval reaches to both sides of the bounds (undecided). >=, <= and an infinite end: a bound. Equal quality: "
    "seconds to the common target q, or the smallest size that reaches it; a run that does not reach it counts as "
    "twice its budget, or twice its seconds where it far overran that.",
)
HEADLINE_LEGEND = (
    "How many times more the opponent takes than OT-Flow: ratios of medians over seeds, their means over problems. A "
    "mean is a choice: the papers' own numbers, grey, depend on it as much. *: a run did not reach q and is penalised.",
)


def all_of(entries: Sequence[Entry], evidence: Evidence, suffix: str = "") -> list[Table]:
    """The ledger, and the headline where it is measured."""
    made = [ledger(entries), *headlines(evidence)]
    return [replace(table, name=table.name + suffix) for table in made]


def ledger(entries: Sequence[Entry]) -> Table:
    """A row a claim, where it has several parts one for each below it; the commands that are wanting in the notes."""
    columns = ["published", "measured", "from", "verdict", "why"]
    rows: list[tuple[str, Sequence[Cell]]] = []
    for entry in entries:
        several = len(entry.findings) > 1
        if several:
            rows.append((entry.claim.id, [NOTHING, NOTHING, NOTHING, Cell(entry.verdict, best=True), NOTHING]))
        for finding in entry.findings:
            name = finding.part.quantity
            rows.append((f"· {name}" if several else f"{entry.claim.id} {name}", _cells(finding, several)))
    notes = [f"{entry.claim.id}: {entry.claim.source}." for entry in entries]
    return Table("claims", f"Claims: {summary(entries)}", "claim", columns, rows, [*notes, *commands(entries)], LEGEND,
                 text=True)  # fmt: skip


def verdicts(judged: Mapping[str, Sequence[Entry]]) -> Table:
    """A row a claim, a column for each of the ledgers: the verdicts side by side, of one number with that number."""
    entries = next(iter(judged.values()))
    rows = [
        (_called(entry), [_published_of(entry), *(_verdict(several[i]) for several in judged.values())])
        for i, entry in enumerate(entries)
    ]
    notes = [f"{name}: {summary(several)}." for name, several in judged.items()]
    notes.append(f"{NOTHING}: nothing was measured, which is not measurable here.")
    title, columns = "The verdicts, a column for each folder of records", ["published", *judged]
    return Table("verdicts", title, "claim", columns, rows, notes, text=True)


def _called(entry: Entry) -> str:
    first, *others = (finding.part.quantity for finding in entry.findings)
    return f"{entry.claim.id} {first}" + (f", and {len(others)} more" if others else "")


def _published_of(entry: Entry) -> Cell:
    return Cell("several" if len(entry.findings) > 1 else entry.findings[0].part.published)


def _verdict(entry: Entry) -> Cell:
    """The verdict, and of a claim with one part what was measured; NOTHING where nothing was."""
    if any(finding.refused for finding in entry.findings):
        return Cell("refused", best=True)
    if not any(finding.measured for finding in entry.findings):
        return NOTHING
    found = entry.findings[0].measured if len(entry.findings) == 1 else None
    return Cell(entry.verdict + (f": {_text(found)}" if found else ""), best=entry.verdict == REPRODUCED)


def of_page(entries: Sequence[Entry], made: Sequence[Table]) -> tuple[list[Table], Table | None]:
    """`made` of all `entries`, its ledger without the claims that no record tells of, and a ledger of these, if any."""
    whole, *rest = made
    told, silent = ([entry for entry in entries if _silent(entry) == which] for which in (False, True))
    shown = [replace(ledger(told), name=whole.name)] if told else []
    title = f"{counted(len(silent), 'claim')} not measurable from these records"
    folded = replace(ledger(silent), name=f"{whole.name}_not_measurable", title=title) if silent else None
    return [*shown, *rest], folded


def _silent(entry: Entry) -> bool:
    told = any(finding.refused or finding.undecided for finding in entry.findings)
    return entry.verdict == NOT_MEASURABLE and not told


def summary(entries: Sequence[Entry]) -> str:
    """How many claims have which verdict: "2 reproduced, 1 partly"."""
    verdicts = [entry.verdict for entry in entries]
    return ", ".join(f"{verdicts.count(name)} {name}" for name in VERDICTS if name in verdicts)


def commands(entries: Sequence[Entry]) -> list[str]:
    """A note for each command that makes records which claims lack."""
    wanted: dict[str, list[str]] = {}
    for entry in entries:
        for command in dict.fromkeys(finding.command for finding in entry.findings if finding.command):
            wanted.setdefault(command, []).append(entry.claim.id)
    return [f"Records wanting for {', '.join(ids)}: {command}" for command, ids in wanted.items()]


def _cells(finding: Finding, part: bool) -> list[Cell]:
    verdict = Cell("refused" if finding.refused else finding.verdict, best=not part)
    published, found = Cell(finding.part.published), finding.measured
    if found is None:
        return [published, NOTHING, NOTHING, verdict, Cell(finding.why)]
    source = "; ".join(filter(None, (_measured_on(found), _published_on(finding.part, found))))
    value = Cell(_text(found), *found.interval)
    return [published, value, Cell(source), verdict, Cell("; ".join([finding.why, *found.notes]))]


def _measured_on(found: Measured) -> str:
    named, many = ", ".join(found.problems), len(found.problems)
    where = f"{many} problems ({named})" if many > 1 else named
    return f"{counted(found.runs, 'run')}, {counted(found.seeds, 'seed')}, on {where}; {found.hardware}"


def _published_on(part: Part, found: Measured) -> str:
    """What the published number is of, and how much of that was measured; empty where the claim does not say."""
    if not part.published_on:
        return ""
    where = f" with {part.published_hardware}" if part.published_hardware else ""
    shared = len(set(part.published_on) & set(found.problems))
    return f"published on {', '.join(part.published_on)}{where}, {shared or 'none'} of them measured here"


def _text(found: Measured) -> str:
    """The estimate and its interval; of a bound the side that is open."""
    value, low, high = found.reach
    sign = {(True, False): ">= ", (False, True): "<= "}.get((found.above, found.below), "")
    if math.isnan(found.interval.low) or low == high:
        return sign + significant(value)
    return f"{sign}{significant(value)} [{significant(low)}, {significant(high)}]"


def headlines(evidence: Evidence) -> list[Table]:
    """OT-Flow's headline against each opponent by each mean, and the published one; nothing where no record tells."""
    evidence = replace(evidence, seeds=MIN_SEEDS)
    rows: list[tuple[str, list[Cell]]] = []
    notes, hardware, by_hand = [], set(), False
    for of, (name, published) in HEADLINE.items():
        for solver, title in OPPONENTS.items():
            row = f"{name}, {title}"
            try:
                cells, several = _measured(of, solver, evidence)
                owed = [note for note in several.notes if note != BY_HAND]
                by_hand |= BY_HAND in several.notes
                hardware.add(several.hardware)
                rows.append((row, cells))
                notes += [f"{row}: {'; '.join(owed)}."] if owed else []
            except (NoneLeft, Refused) as why:
                rows.append((row, [NOTHING] * (len(COLUMNS) + 1)))
                notes.append(f"{row}: {why}.")
            except Missing:
                pass
            rows += _published(published, title)
    if not hardware and not notes:
        return []
    notes += [f"{BY_HAND[0].upper()}{BY_HAND[1:]}."] if by_hand else []
    notes += [f"Computed on {' and '.join(sorted(hardware))}."] if hardware else []
    title, columns = "The headline by mean and opponent", [*COLUMNS, "problems"]
    return [Table("headline", title, "opponent / OT-Flow", columns, rows, notes, HEADLINE_LEGEND)]


def _measured(of: str, solver: str, evidence: Evidence) -> tuple[list[Cell], Measured]:
    """The cells of a row, and what its geometric mean was measured of. Raises Missing and Refused."""
    found = {mean: Compare(of, solver, "otflow", mean).measure(evidence) for mean in COLUMNS}
    several = found["geometric"]
    marks = "*" if any("penalised" in note for note in several.notes) else ""
    cells = [Cell(_text(one) + marks, *one.interval) for one in found.values()]
    whose = f"{len(several.problems)}, {counted(several.seeds, 'seed')}: {', '.join(several.problems)}"
    return [*cells, Cell(whose)], several


def _published(quantity: str, opponent: str, path: Path = PUBLISHED) -> list[tuple[str, list[Cell]]]:
    """The row of the papers' own numbers; none where they are not known."""
    if not quantity or not path.exists():
        return []
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            if (line["quantity"], line["numerator"], line["denominator"]) == (quantity, opponent, "OT-Flow"):
                values = [float(line[column]) for column in COLUMNS.values()]
                cells = [Cell(f"{value:.3g}", value, quoted=True) for value in values]
                return [
                    (f"{quantity}, {opponent} (published)", [*cells, Cell("5: the standard tabular sets", quoted=True)])
                ]
    return []

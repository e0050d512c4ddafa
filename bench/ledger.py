"""The ledger of claims: what was published, as data in bench/conf/claims, against what records say.

A claim has parts, each one number with the query that measures it (bench.queries) and the bounds within which it
counts as reproduced. The verdict on a part, where `value` is the estimate and `interval` its confidence interval:

    not measurable here   there are no records for it, or fewer seeds or problems than the part asks for and not all of
                          those that were published, or value is no finite number, or it is undecided: see below
    reproduced            value and interval lie within the bounds `reproduced`
    partly                value and interval lie within the wider bounds `partly`
    not reproduced        the interval, or the value that has none, lies outside of `reproduced`

Undecided is an interval that reaches into `reproduced` and beyond, and is not partly: it excludes neither. An interval
has no end where what was measured is a bound. Where value is an arithmetic mean of ratios, which may be above 1 for a
over b and b over a at once, the geometric one and its interval must lie within the wider bounds too: without them
reproduced is partly, and partly is not reproduced or undecided.

A claim is reproduced where all its parts are, not reproduced where none of those measured is even partly, not
measurable here where no part was measured, and else partly. Imports no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from bench.names import CONF
from bench.record import finite
from bench.stats import Interval

FOLDER = CONF / "claims"
REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURABLE = "reproduced", "partly", "not reproduced", "not measurable here"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURABLE)
NO_COMMAND = "no command of this suite makes them"


class ClaimError(ValueError):
    """A claim that is not one, or that asks for what no record can have; the message names it."""


class Missing(Exception):
    """Records that a query needs and that are not there; the message says which."""


class NoneLeft(Missing):
    """Records are there, and none of them may take part; the message says why."""


class Refused(Exception):
    """Records that must not be measured together; the message says why."""


@dataclass(frozen=True)
class Bounds:
    """at_least <= value <= at_most; None is no bound."""

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("bounds need at_least or at_most")
        for name in ("at_least", "at_most"):
            value = getattr(self, name)
            if value is not None and not finite(value):
                raise ValueError(f"{name} must be a number, not {value!r}")

    def hold(self, value: float, *ends: float) -> bool:
        """Whether `value` lies within, and those of the `ends` of its interval that are numbers; NaN does not."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return all(low <= one <= high for one in (value, *(end for end in ends if not math.isnan(end))))

    def meet(self, value: float, *ends: float) -> bool:
        """Whether some of the interval from the least to the greatest of `value` and the `ends` lies within."""
        known = [one for one in (value, *ends) if not math.isnan(one)]
        above = self.at_least is None or max(known) >= self.at_least
        return above and (self.at_most is None or min(known) <= self.at_most)

    def __str__(self) -> str:
        ends = ((">=", self.at_least), ("<=", self.at_most))
        return " and ".join(f"{sign} {end:g}" for sign, end in ends if end is not None)


@dataclass(frozen=True)
class Part:
    """One number of a claim: what is measured, what was published, the query, and what counts as reproduced.

    `seeds` of every problem and so many `problems` are needed for a verdict; `command` makes the records, empty where
    none can. `published_on` are the problems that the published number is of, and `published_hardware` its machine.
    """

    quantity: str
    published: str
    query: Mapping[str, Any]
    reproduced: Bounds
    command: str
    partly: Bounds | None = None
    seeds: int = 3
    problems: int = 1
    published_on: Sequence[str] = ()
    published_hardware: str = ""

    def __post_init__(self) -> None:
        for name in ("quantity", "published", "command", "published_hardware"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text, in quotes where it is a number, not {getattr(self, name)!r}")
        if isinstance(self.published_on, str) or not all(isinstance(name, str) for name in self.published_on):
            raise ValueError(f"published_on must be a list of problems, not {self.published_on!r}")
        for name in ("seeds", "problems"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, not {value!r}")


@dataclass(frozen=True)
class Claim:
    """A published claim under its id."""

    id: str
    source: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a claim needs parts")


@dataclass(frozen=True)
class Measured:
    """What records say: the estimate, from how many runs, the least seeds of a problem, which problems, where.

    `threads` are those that the runs had, as text; empty where nothing tells. `geometric` is the geometric mean of
    ratios whose arithmetic mean the estimate is; None where it is another. `above` where the truth may be any amount
    greater than what was measured, which is a bound, `below` where it may be less.
    """

    interval: Interval
    runs: int
    seeds: int
    problems: tuple[str, ...]
    machine: str
    notes: tuple[str, ...] = ()
    threads: str = ""
    geometric: Interval | None = None
    above: bool = False
    below: bool = False

    @property
    def reach(self) -> Interval:
        """The estimate with its interval, without an end where it is a bound."""
        return self._opened(self.interval)

    @property
    def geometric_reach(self) -> Interval | None:
        return None if self.geometric is None else self._opened(self.geometric)

    def _opened(self, found: Interval) -> Interval:
        low = -math.inf if self.below else found.low
        return Interval(found.value, low, math.inf if self.above else found.high)

    @property
    def hardware(self) -> str:
        return f"{self.machine}, threads {self.threads}" if self.threads else self.machine


@dataclass(frozen=True)
class Finding:
    """The verdict on a part, why, and what was measured."""

    part: Part
    verdict: str
    why: str
    measured: Measured | None = None
    refused: bool = False
    undecided: bool = False

    @property
    def command(self) -> str:
        """What would make the records that are missing, or that nothing does; empty where none are."""
        wanting = self.verdict == NOT_MEASURABLE and not self.refused and not self.undecided
        return (self.part.command or NO_COMMAND) if wanting else ""


@dataclass(frozen=True)
class Entry:
    """A claim and its findings, one a part."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        found = {finding.verdict for finding in self.findings}
        if len(found) == 1:
            return found.pop()
        return PARTLY if found & {REPRODUCED, PARTLY} else NOT_REPRODUCED


def load(folder: Path = FOLDER) -> list[Claim]:
    """All claims, a file each, in the order of their names, the talk's (T1, T2, ...) first. Raises ClaimError."""
    return [read(path) for path in sorted(folder.glob("*.yaml"), key=lambda path: (path.stem[0] != "T", path.stem))]


def read(path: Path) -> Claim:
    """One claim. Raises ClaimError, which names the file and says what is wrong with it."""
    from omegaconf import OmegaConf
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        given = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OSError, ValueError) as error:
        raise ClaimError(f"{path.name}: cannot be read ({' '.join(str(error).split())[:120]})") from None
    try:
        plain = _fields(Claim, given, "id")
        parts = plain.pop("parts", None)
        if not isinstance(parts, list):
            raise ValueError("parts must be a list")
        return Claim(id=path.stem, parts=tuple(map(_part, parts)), **plain)
    except (ValueError, TypeError) as error:
        raise ClaimError(f"{path.name}: {error}") from None


def _part(given: Any) -> Part:
    plain = _fields(Part, given)
    for name in ("reproduced", "partly"):
        if name in plain:
            plain[name] = Bounds(**_fields(Bounds, plain[name]))
    if not isinstance(plain.get("query"), dict):
        raise ValueError("query must have a kind and its fields")
    return Part(**plain)


def _fields(kind: type, given: Any, *never: str) -> dict[str, Any]:
    """`given` if it is a mapping of fields of the dataclass `kind`, all that have no default among them."""
    known = [f for f in fields(kind) if f.name not in never]
    names = [f.name for f in known]
    if not isinstance(given, dict):
        raise ValueError(f"{kind.__name__.lower()} must have {', '.join(names)}, not {given!r}")
    if wrong := [str(name) for name in given if name not in names]:
        raise ValueError(f"{kind.__name__.lower()} has no {', '.join(wrong)}: choose from {', '.join(names)}")
    if lacking := [f.name for f in known if f.default is MISSING and f.name not in given]:
        raise ValueError(f"{kind.__name__.lower()} lacks {', '.join(lacking)}")
    return {str(name): value for name, value in given.items()}


def judge(part: Part, measured: Measured) -> Finding:
    """The verdict on what was measured."""
    value, low, high = measured.reach
    if not math.isfinite(value):
        return Finding(part, NOT_MEASURABLE, f"the estimate is {value}, no finite number", measured)
    lacking = []
    if measured.seeds < part.seeds:
        lacking.append(f"{measured.seeds} of {part.seeds} seeds")
    published = bool(part.published_on) and set(part.published_on) <= set(measured.problems)
    if len(measured.problems) < part.problems and not published:
        lacking.append(f"{len(measured.problems)} of {part.problems} problems")
    if lacking:
        return Finding(part, NOT_MEASURABLE, f"only {' and '.join(lacking)}", measured)
    if part.reproduced.hold(value, low, high):
        if not _geometric_holds(part, measured):
            return Finding(part, PARTLY, f"{part.reproduced}, but {_but_geometric(part, measured)}", measured)
        alone = "; no interval" if math.isnan(measured.interval.low) else ""
        return Finding(part, REPRODUCED, f"{part.reproduced}{alone}", measured)
    if _partly(part, measured):
        return Finding(part, PARTLY, _only_partly(part, measured), measured)
    if part.reproduced.meet(value, low, high):
        return Finding(part, NOT_MEASURABLE, _undecided(part, measured), measured, undecided=True)
    return Finding(part, NOT_REPRODUCED, _not_reproduced(part, measured), measured)


def _partly(part: Part, measured: Measured) -> bool:
    return part.partly is not None and part.partly.hold(*measured.reach) and _geometric_holds(part, measured)


def _geometric_holds(part: Part, measured: Measured) -> bool:
    """Whether the geometric mean beside an arithmetic one lies within the wider bounds; true where there is none."""
    found = measured.geometric_reach
    return found is None or _widest(part).hold(*found)


def _but_geometric(part: Part, measured: Measured) -> str:
    """What the geometric mean has against an arithmetic one that lies within the bounds."""
    assert measured.geometric is not None
    if _widest(part).hold(measured.geometric.value):
        return f"the geometric mean's interval reaches beyond {_widest(part)}"
    return f"the geometric mean is not {_widest(part)}"


def _only_partly(part: Part, measured: Measured) -> str:
    """What keeps a number within the wider bounds from being reproduced."""
    if part.reproduced.hold(measured.interval.value):
        return f"{part.reproduced}, but the interval reaches beyond"
    if part.reproduced.meet(*measured.reach) and not part.reproduced.meet(*measured.interval):
        return f"{part.partly}, and as a bound it does not exclude {part.reproduced}"
    return f"not {part.reproduced}, but {part.partly}"


def _widest(part: Part) -> Bounds:
    return part.partly or part.reproduced


def _undecided(part: Part, measured: Measured) -> str:
    """Which bounds the interval reaches to both sides of, and what the geometric mean has against an arithmetic one."""
    would_tell = "smaller sizes" if measured.above or measured.below else "more seeds"
    why = f"undecided: the interval reaches to both sides of {part.reproduced}; {would_tell} would tell"
    if measured.geometric is None or _widest(part).hold(measured.geometric.value):
        return why
    return f"{why}; the geometric mean is {measured.geometric.value:.3g}"


def _not_reproduced(part: Part, measured: Measured) -> str:
    """Which bounds do not hold; of an arithmetic mean within the wider ones, that the geometric one is not."""
    widest = _widest(part)
    if not widest.hold(measured.interval.value):
        return f"not {widest}"
    if measured.geometric is None or widest.hold(measured.geometric.value):
        reaches = "it is a bound" if measured.above or measured.below else "the interval reaches beyond"
        return f"not {part.reproduced}; {widest}, but {reaches}"
    return f"not {part.reproduced}, nor is the geometric mean, {measured.geometric.value:.3g}, {widest}"

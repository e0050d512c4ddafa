"""The command line of the report, read without pandas or matplotlib: bad arguments are answered at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.commandline import Usage
from bench.report.venues import VENUES, Venue

# what may not differ between runs whose seconds are compared,
ENVIRONMENT = ("device", "cpu", "threads", "dtype", "launcher", "slots", "allocator", "torch")
WITHIN = ("budget", "protocol")  # what may differ between problems, not within one,
RANKED = ("tolerance", "tuning", "seeds")  # and what those that are ranked against each other on a problem share
NAMES = (*ENVIRONMENT, *WITHIN, *RANKED)  # what may be overridden


@dataclass(frozen=True)
class Options:
    """The command line."""

    records: tuple[Path, ...]
    out: Path = Path("results/report")
    reference: str = "otflow"
    allow: tuple[str, ...] = ()
    venue: Venue | None = None
    only: str | None = None


NAMED = ("records", "out", "reference", "allow", "paper.venue", "only")
PARTS = ("tables", "figures")


def parse(arguments: Sequence[str]) -> Options:
    """Options from key=value arguments. Raises Usage, naming what it does not know."""
    given = {name: value for name, _, value in (a.partition("=") for a in arguments)}
    if wrong := [name for name in given if name not in NAMED or not given[name]]:
        known = "records=DIR[,DIR...], out=DIR, reference=, allow=, paper.venue= or only="
        raise Usage(f"cannot use {', '.join(wrong)}: give {known}")
    allow = tuple(given["allow"].split(",")) if "allow" in given else ()
    if unknown := [name for name in allow if name not in NAMES]:
        raise Usage(f"cannot allow {', '.join(unknown)} to differ: choose from {', '.join(NAMES)}")
    venue = given.get("paper.venue")
    if venue is not None and venue not in VENUES:
        raise Usage(f"no venue {venue}: choose paper.venue from {', '.join(VENUES)}")
    only = given.get("only")
    if only == "tables" and venue is not None:
        raise Usage("paper.venue is of figures and papers: only=tables has none")
    if only is not None and only not in PARTS:
        raise Usage(f"only={only} is no part of a report: choose from {', '.join(PARTS)}")
    folders = tuple(dict.fromkeys(map(Path, given["records"].split(",")))) if "records" in given else default_folders()
    if missing := [str(f) for f in folders if not f.is_dir()]:
        raise Usage(f"no such folder: {', '.join(missing)}")
    chosen = {"out": Path(given["out"])} if "out" in given else {}
    reference, asked = given.get("reference", Options.reference), VENUES[venue] if venue else None
    return Options(folders, reference=reference, allow=allow, venue=asked, only=only, **chosen)


def default_folders() -> tuple[Path, ...]:
    """results/runs and the folders of results/reference, where they hold records."""
    folders = [Path("results/runs"), *sorted(Path("results/reference").glob("*/"))]
    found = tuple(f for f in folders if any(f.glob("*.json")))
    if not found:
        raise Usage("no records in results/runs or results/reference: run `python -m bench.run` first")
    return found

"""The report as one page of HTML that needs nothing else."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.report.render import Table


@dataclass(frozen=True)
class Picture:
    """A figure's PNG, base64, and what it shows."""

    png: str
    caption: str

    @classmethod
    def read(cls, path: Path, caption: str) -> "Picture":
        return cls(base64.b64encode(path.read_bytes()).decode(), caption)


@dataclass(frozen=True)
class Part:
    """What the page shows of one group of records."""

    name: str
    title: str
    notes: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[Picture]


def render(
    frame: pd.DataFrame,
    folders: Sequence[Path],
    problems: Sequence[str],
    why: str,
    legend: Sequence[str],
    parts: Sequence[Part],
) -> str:
    """The page; everything that comes from records is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(
        records=len(frame),
        folders=[str(folder) for folder in folders],
        statuses=statuses(frame),
        problems=problems,
        why=why,
        legend=legend,
        parts=parts,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )


def statuses(frame: pd.DataFrame) -> str:
    """How many records ended how: "5 ok, 1 diverged"."""
    counts = frame["status"].value_counts()
    return ", ".join(f"{n} {status}" for status, n in counts.items())

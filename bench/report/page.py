"""The report as one page of HTML that needs nothing else: browser/page.html with its style and its scripts inside."""

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from bench.report import tables
from bench.report.render import Table
from bench.report.venues import TEXT

COLOURS = 16  # of a picture in the page, a third of the bytes; those beside it, which papers take, have all
WIDEST = 46.0  # rem: what a figure as wide as a paper's text is shown in
EACH = 3  # pixels a side, of which one is asked for its colour
WHITE = 250  # levels from which on what a palette makes of white is white again
HEAVY = 50_000  # bytes of a PNG, above which a picture has no more pixels than a plain screen shows
REM = 12  # pixels, of the 16 that it has: a picture may be a quarter coarser than the screen
SCRIPTS = ("statistics", "standing", "document", "charts", "tables", "explore", "start")  # the last calls the others


@dataclass(frozen=True)
class Picture:
    """A figure as WebP, base64, what it shows, and its width in rem: all figures have one scale."""

    image: str
    caption: str
    width: float = WIDEST

    @classmethod
    def read(cls, path: Path, caption: str, dpi: float) -> "Picture":
        """The picture of a PNG file of `dpi` pixels an inch, in COLOURS colours."""
        with Image.open(path) as file:
            image = file.convert("RGB")
        width = round(min(1.0, image.width / dpi / TEXT) * WIDEST, 2)
        if path.stat().st_size > HEAVY and image.width > width * REM:
            shown = round(width * REM)
            image = image.resize((shown, round(image.height * shown / image.width)))
        return cls(base64.b64encode(_webp(image)).decode(), caption, width)


def _webp(image: Image.Image) -> bytes:
    """`image` in COLOURS colours, chosen by a ninth of its pixels: by all of them it takes ten times as long."""
    sample = image.resize((max(1, image.width // EACH), max(1, image.height // EACH)), Image.Resampling.NEAREST)
    palette = sample.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    palette.putpalette([255 if level >= WHITE else level for level in palette.getpalette() or []])
    file = io.BytesIO()
    few = image.quantize(palette=palette, dither=Image.Dither.NONE).convert("RGB")
    few.save(file, "WEBP", lossless=True)  # a fifth less than PNG
    return file.getvalue()


@dataclass(frozen=True)
class Part:
    """A section of the page: tables and figures under a title, and what explore.data gave, if its runs are explored.

    `name` is its anchor; `folded` is shown below the others by a click, and in print.
    """

    name: str
    title: str
    notes: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[Picture]
    data: Mapping[str, Any] | None = None
    folded: Table | None = None


def render(
    frame: pd.DataFrame,
    folders: Sequence[Path],
    problems: Sequence[str],
    why: str,
    legend: Sequence[str],
    parts: Sequence[Part],
) -> str:
    """The page, the same for the same records; everything that comes from records is escaped."""
    here = Path(__file__).parent / "browser"
    environment = Environment(loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined)
    environment.filters["packed"] = packed
    script = "\n".join((here / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return environment.get_template("page.html").render(
        records=len(frame),
        folders=[str(folder) for folder in folders],
        statuses=statuses(frame),
        problems=problems,
        why=why,
        legend=legend,
        parts=parts,
        made=span(frame),
        slack=tables.SLACK,
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
    )


def packed(data: Mapping[str, Any]) -> Markup:
    """JSON by DEFLATE, base64: three fifths of the bytes, and nothing of a record that could end a script."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(base64.b64encode(zlib.compress(text.encode())).decode())


def statuses(frame: pd.DataFrame) -> str:
    """How many records ended how: "5 ok, 1 diverged"."""
    counts = frame["status"].value_counts()
    return ", ".join(f"{n} {status}" for status, n in counts.items())


def span(frame: pd.DataFrame) -> str:
    """When the first and the last run started: the day a report was made is nobody's result."""
    first, last = frame["started"].min()[:10], frame["started"].max()[:10]
    return f"Run {first}." if first == last else f"Run {first} to {last}."

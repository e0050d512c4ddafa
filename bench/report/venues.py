"""Where papers are published: how wide their text and columns are, in what size and font it is set.

Widths and fonts are those of neurips_2024.sty, icml2024.sty, aaai24.sty, jmlr2e.sty (its sample paper has 11 points)
and tmlr.sty. AAAI's forbids fontenc, with which PGF figures are set: its papers take the PDF. The fonts of PDF, SVG and
PNG are matplotlib's own alone, so that a figure is the same on every machine: STIX stands for Times, which it is cut
after, and for Computer Modern, whose copy in matplotlib lacks underscores and signs. A PGF figure is set by LaTeX
itself in the very font of the paper. And in which formats figures are written, with a venue or without.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TEXT = 5.5  # inches: what figures are drawn for where no venue is named
NARROW = 3.5  # inches, up to which a figure goes into a column
TIMES, MODERN = ("mathptmx",), ("lmodern",)  # the packages of LaTeX that set them


@dataclass(frozen=True)
class Venue:
    """`text` and `column` are widths in inches, `size` is that of the text in points, `fonts` are LaTeX packages."""

    name: str
    text: float
    column: float
    size: float
    fonts: tuple[str, ...]

    def fitted(self, width: float, height: float) -> tuple[float, float]:
        """The inches of a figure that is drawn for a text of TEXT inches: the text's width here, or a column's."""
        ours = min(width, self.column) if width <= NARROW else width * self.text / TEXT
        return ours, height * ours / width

    @property
    def rc(self) -> Mapping[str, object]:
        """What figures of this venue set otherwise than others, for matplotlib."""
        label, tick = round(0.8 * self.size, 1), round(0.7 * self.size, 1)
        return {
            "font.family": "STIXGeneral",
            "mathtext.fontset": "stix" if self.fonts == TIMES else "cm",
            **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize"), label),
            **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), tick),
            "pgf.texsystem": "pdflatex",
            "pgf.rcfonts": False,  # the paper's own
            "pgf.preamble": self.preamble,
        }

    @property
    def preamble(self) -> str:
        """The lines of LaTeX that choose the fonts."""
        packages = "".join(f"\\usepackage{{{name}}}" for name in self.fonts)
        return f"\\usepackage[T1]{{fontenc}}{packages}\\usepackage{{amsmath}}"


VENUES = {
    venue.name: venue
    for venue in (
        Venue("neurips", 5.5, 5.5, 10, TIMES),
        Venue("icml", 6.75, 3.25, 10, TIMES),
        Venue("aaai", 7.0, 3.3125, 10, TIMES),
        Venue("jmlr", 6.0, 6.0, 11, MODERN),
        Venue("tmlr", 6.5, 6.5, 10, MODERN),
    )
}

# no dates: the same records give the same file
FORMATS: Mapping[str, Mapping[str, Any]] = {
    ".pdf": {"dpi": 300, "metadata": {"CreationDate": None}},
    ".png": {"dpi": 200},
}
OF_PAPERS: Mapping[str, Mapping[str, Any]] = {".svg": {"dpi": 300, "metadata": {"Date": None}}, ".pgf": {"dpi": 300}}


def formats(venue: Venue | None) -> Mapping[str, Mapping[str, Any]]:
    """How figures are written, by suffix: for a venue OF_PAPERS too, .pgf where there is a LaTeX to measure it."""
    chosen = {**FORMATS, **(OF_PAPERS if venue else {})}
    return {suffix: how for suffix, how in chosen.items() if suffix != ".pgf" or shutil.which("pdflatex")}

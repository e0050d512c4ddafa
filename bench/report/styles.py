"""How a solver looks, in every figure and on the page."""

import zlib
from dataclasses import dataclass

from bench.report.frame import BASELINE

# seaborn's "colorblind" without its grey, which is what is void or published, and what is too light or too brown
PALETTE = ("#0173B2", "#D55E00", "#029E73", "#CC78BC", "#DE8F05", "#56B4E9")
VOID = "0.7"  # the grey of what failed a certificate
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.")
SOLVERS = [
    "otflow",
    "ffjord",
    "rnode",
    "otcfm",
    "cfm",
    "maf",
    "nsf",
    "exact",
    "sinkhorn",
    "neural_hjb",
    "eulerian",
    "enot",
    "identity",
    "constant",
    "otflow_warm",
    "otflow_hutchinson",
    "cfm_moments",
    "cfm_soap",
]


@dataclass(frozen=True)
class Style:
    """How a solver looks in every figure."""

    colour: str
    marker: str
    line: str


def style(solver: str) -> Style:
    """The same colour, marker and line for a solver in all figures of all reports."""
    if solver == BASELINE:
        return Style("#000000", "*", ":")
    i = SOLVERS.index(solver) if solver in SOLVERS else zlib.crc32(solver.encode())
    return Style(PALETTE[i % 6], MARKERS[i % 7], LINES[i // 6 % 3])  # solvers of one colour have other lines

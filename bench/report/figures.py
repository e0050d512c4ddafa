"""What all figures share: sizes and fonts."""

from dataclasses import dataclass

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator

from bench.report.render import tex
from bench.report.venues import TEXT, Venue

WIDTH = TEXT  # inches
PASSES = 2  # of a layout, at most
RC = {
    "pdf.fonttype": 42,
    "svg.hashsalt": "cnf-ot-bench",  # or the names of clips would differ from run to run
    "font.size": 8,
    "figure.labelsize": "medium",
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


@dataclass(frozen=True)
class Drawn:
    """A figure under its file name, and what it shows."""

    name: str
    figure: Figure
    caption: str
    explored: bool = False  # the page draws it itself, and better


def use_theme(venue: Venue | None = None) -> None:
    """Set what all figures share, and what those of a venue have of their own."""
    sns.set_theme(style="ticks", rc=RC | (dict(venue.rc) if venue else {}))


def for_latex(figure: Figure) -> None:
    """Escape the texts of a figure that LaTeX will set; what matplotlib's own formatters write is LaTeX already."""
    for text in figure.findobj(Text):
        text.set_text(_escaped(text.get_text()))
    for axis in (one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)):
        locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
        # drawing sets the texts of ticks anew; axes that are shared have one formatter
        if isinstance(locator, FixedLocator) and not isinstance(formatter, FixedFormatter):
            labels = formatter.format_ticks(list(locator()))
            axis.set_major_formatter(FixedFormatter([_escaped(label) for label in labels]))


def _escaped(shown: str) -> str:
    if "$\\math" in shown:
        return shown
    return "\n".join(map(tex, shown.replace(r"\$", "$").split("\n")))


def settle(figure: Figure) -> LayoutEngine | None:
    """Lay a figure out until nothing moves: in one pass titles are cut. Gives what laid it out.

    It is left without an engine, or each file would be drawn twice.
    """
    if engine := figure.get_layout_engine():
        for _ in range(PASSES):
            before = _positions(figure)
            engine.execute(figure)
            if np.array_equal(before, _positions(figure)):
                break
        figure.set_layout_engine(None)
    return engine


def _positions(figure: Figure) -> np.ndarray:
    return np.array([axes.get_position().bounds for axes in figure.axes])


def close(figure: Figure) -> None:
    """Free a figure."""
    plt.close(figure)

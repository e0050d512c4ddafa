"""What the lines of a figure are called: at their ends where all names fit there, else in one legend above all axes."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from bench.report.axes import small
from bench.report.frame import by_reference
from bench.report.styles import style

GAP = 5  # points from the end of a line, which a marker may cover, to its name
COLUMNS, ROOM = 5, 0.92  # the most that a legend has, and its share of the width: a venue's may be less than ours
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # a grid line does not cross the letters


def name_lines(figure: Figure, axes: np.ndarray, reference: str) -> None:
    """Name each labelled line of all axes: at its right end where no name then lies on another or on a line."""
    seen = [axis for axis in axes.flat if axis.get_visible()]
    names = {axis: list(_at_ends(axis)) for axis in seen}
    if not _fit(figure, names):
        for text in (text for texts in names.values() for text in texts):
            text.remove()
        legend(figure, axes, reference)


def legend(figure: Figure, axes: np.ndarray, reference: str) -> None:
    """One legend above all axes, in the order of tables; in the colours of solvers, whatever is grey in a panel."""
    found: dict[str, Artist] = {}
    for axis in axes.flat:
        handles, shown = axis.get_legend_handles_labels()
        found.update(zip(shown, handles, strict=True))
    names = by_reference(found, reference)
    texts = [name.replace("$", r"\$") for name in names]  # no mathematics
    keys = [_key(found[name], name) for name in names]
    for columns in range(min(COLUMNS, len(names)), 0, -1):
        made = figure.legend(keys, texts, loc="outside upper center", ncols=columns, frameon=False)
        if columns == 1 or made.get_window_extent().width < ROOM * figure.bbox.width:
            break
        made.remove()


def _key(line: Artist, name: str) -> Line2D:
    key = Line2D([], [])
    key.update_from(line)
    key.set_color(style(name.partition(" (")[0]).colour)
    return key


def _labelled(axis: Axes) -> list[Line2D]:
    return [line for line in axis.lines if not str(line.get_label()).startswith("_")]


def _at_ends(axis: Axes) -> Iterator[Text]:
    for line in _labelled(axis):
        x, y = max(np.stack(line.get_data(), 1).tolist())
        yield axis.annotate(
            str(line.get_label()),
            (x, y),
            xytext=(GAP, 0),
            textcoords="offset points",
            va="center",
            fontsize=small(),
            color="0.15",
            bbox=BEHIND,
            annotation_clip=False,
            parse_math=False,
        )


def _fit(figure: Figure, names: dict[Axes, list[Text]]) -> bool:
    """Whether no name is covered: by a first look without the layout, which takes long, then with it."""
    if any(_covered(axis, texts) for axis, texts in names.items()):
        return False
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    return not any(_covered(axis, texts) for axis, texts in names.items())


def _covered(axis: Axes, names: list[Text]) -> bool:
    """Whether any of the `names` lies on another text of the axis, or on one of its labelled lines."""
    boxes = {text: text.get_window_extent() for text in axis.texts}
    lines = [line.get_path().transformed(line.get_transform()) for line in _labelled(axis)]
    pairs = [pair for pair in combinations(boxes, 2) if pair[0] in names or pair[1] in names]
    return any(boxes[a].overlaps(boxes[b]) for a, b in pairs) or any(
        line.intersects_bbox(boxes[text], filled=False) for line in lines for text in names
    )

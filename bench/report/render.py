"""One table, four forms: terminal, Markdown, LaTeX and CSV. (HTML is in page.html.)"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from rich import box
from rich.console import Console
from rich.text import Text

VOID = "†"


@dataclass(frozen=True)
class Cell:
    """What a table shows at one place, and the number behind it with its interval.

    `void`: a certificate failed, so that the number is grey and ranked nowhere. `best`: shown in bold.
    """

    text: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    void: bool = False
    best: bool = False

    def __str__(self) -> str:
        return self.text + VOID if self.void else self.text


NOTHING = Cell("–")


@dataclass(frozen=True)
class Table:
    """`rows` are (label, cells), one cell for each of `columns`; `heading` stands over the labels."""

    name: str
    title: str
    heading: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    notes: Sequence[str] = ()
    text: bool = False  # a table of words: left-aligned

    def __post_init__(self) -> None:
        assert all(len(cells) == len(self.columns) for _, cells in self.rows)


def show(table: Table, console: Console) -> None:
    """Print for a terminal: void numbers dim, the best bold."""
    from rich.table import Table as Grid

    grid = Grid(title=Text(table.title), title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column(Text(table.heading), no_wrap=not table.text)
    for name in table.columns:
        grid.add_column(Text(name), justify="left" if table.text else "right")
    for label, cells in table.rows:
        grid.add_row(Text(label), *(Text(str(c), style="dim" if c.void else "bold" if c.best else "") for c in cells))
    console.print(grid)
    for note in table.notes:
        console.print(Text(f"  {note}", style="dim"))
    console.print()


def markdown(table: Table) -> str:
    """A pipe table, its title above and its notes below."""

    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(p.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for p in parts) + " |"

    head = [
        f"**{table.title}**",
        "",
        line([table.heading, *table.columns]),
        "|---|" + ("---|" if table.text else "---:|") * len(table.columns),
    ]
    body = [line([label, *(f"**{c}**" if c.best else str(c) for c in cells)]) for label, cells in table.rows]
    return "\n".join([*head, *body, *(f"\n{note}".replace("<", "&lt;") for note in table.notes)]) + "\n"


def csv(table: Table) -> str:
    """Full numbers: for each column its value, and where there is an interval its ends; then what is void."""
    columns: dict[str, list[object]] = {table.heading: [label for label, _ in table.rows]}
    for i, name in enumerate(table.columns):
        cells = [row[i] for _, row in table.rows]
        plain = " ".join(name.split())
        if all(math.isnan(c.value) for c in cells):
            columns[plain] = [c.text.replace("\n", " ") for c in cells]
            continue
        columns[plain] = [c.value for c in cells]
        if not all(math.isnan(c.low) for c in cells):
            columns[f"{plain} low"] = [c.low for c in cells]
            columns[f"{plain} high"] = [c.high for c in cells]
        if any(c.void for c in cells):
            columns[f"{plain} void"] = [c.void for c in cells]
    return pd.DataFrame(columns).to_csv(index=False)


def latex(table: Table) -> str:
    """A booktabs table; it needs \\usepackage{booktabs,xcolor}."""
    names = [" ".join(name.split()) for name in table.columns]
    frame = pd.DataFrame(
        [[str(c).replace("\n", " ") for c in cells] for _, cells in table.rows],
        index=pd.Index([label for label, _ in table.rows], name=table.heading),
        columns=names,
    ).reset_index()
    css = [["", *("color: gray" if c.void else "font-weight: bold" if c.best else "" for c in cells)]
           for _, cells in table.rows]
    style = (
        frame.style.hide(axis="index")
        .apply(lambda _: pd.DataFrame(css, index=frame.index, columns=frame.columns), axis=None)
        .format(str, escape="latex")
        .format_index(escape="latex", axis=1)
    )
    width = "l" + ("l" if table.text else "r") * len(names)
    body = style.to_latex(hrules=True, convert_css=True, column_format=width).translate(SYMBOLS)
    notes = "\n".join(_escape(note) + r"\\" for note in table.notes)
    return f"% {_escape(table.title)}. Needs \\usepackage{{booktabs,xcolor}}.\n{body}\\par\\footnotesize\n{notes}\n"


SYMBOLS = str.maketrans(
    {
        "†": r"$^\dagger$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "·": r"$\cdot$",
        "–": "--",
        "…": r"\ldots{}",
    }
)


def _escape(text: str) -> str:
    from pandas.io.formats.style_render import _escape_latex

    return _escape_latex(text).translate(SYMBOLS)

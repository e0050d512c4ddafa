"""One table, four forms: terminal, Markdown, LaTeX and CSV. (HTML is in page.html.)"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import rich.table
from rich import box
from rich.console import Console, OverflowMethod
from rich.text import Text

VOID = "†"


@dataclass(frozen=True)
class Cell:
    """What a table shows at one place, and the number behind it with its interval.

    `void`: a certificate failed, so that the number is grey and ranked nowhere. `best`: shown in bold. `quoted`:
    published by others, grey.
    """

    text: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    void: bool = False
    best: bool = False
    quoted: bool = False

    @property
    def grey(self) -> bool:
        return self.void or self.quoted

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
    legend: Sequence[str] = ()  # what any reader of the table alone must know
    text: bool = False  # a table of words: left-aligned

    def __post_init__(self) -> None:
        assert all(len(cells) == len(self.columns) for _, cells in self.rows)


def show(table: Table, console: Console) -> None:
    """Print for a terminal: void numbers dim, the best bold."""
    # one space between columns: twelve must fit
    grid = rich.table.Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    grid.add_column(Text(table.heading), no_wrap=not table.text)
    for i, name in enumerate(table.columns):
        wraps = table.text or any(" " in cells[i].text for _, cells in table.rows)
        # a long word of a command is folded, not cut
        overflow: OverflowMethod = "fold" if table.text else "ellipsis"
        grid.add_column(Text(name), justify="left" if table.text else "right", no_wrap=not wraps, overflow=overflow)
    for label, cells in table.rows:
        grid.add_row(Text(label), *(Text(str(c), style="dim" if c.grey else "bold" if c.best else "") for c in cells))
    console.print(Text(table.title, style="bold"))
    console.print(grid)
    for note in table.notes:
        console.print(Text(f"  {note}", style="dim"))
    console.print()


def markdown(table: Table) -> str:
    """A pipe table, its title above and its notes below."""

    def line(parts: Sequence[str]) -> str:
        return "| " + " | ".join(p.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for p in parts) + " |"

    head = [
        f"**{_plain(table.title)}**",
        "",
        line([table.heading, *table.columns]),
        "|---|" + ("---|" if table.text else "---:|") * len(table.columns),
    ]
    body = [line([label, *(f"**{c}**" if c.best else str(c) for c in cells)]) for label, cells in table.rows]
    return (
        "\n".join([*head, *body, *(f"\n{note}".replace("<", "&lt;") for note in (*table.notes, *table.legend))]) + "\n"
    )


def _plain(text: str) -> str:
    """`text` as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


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
    headings = [_tex(name) for name in (table.heading, *table.columns)]
    # numbered columns, named last: two headings may be the same
    frame = pd.DataFrame([[_tex(label), *(_tex(str(c)) for c in cells)] for label, cells in table.rows])
    css = pd.DataFrame([["", *(_css(c) for c in cells)] for _, cells in table.rows])
    style = frame.style.hide(axis="index").apply(lambda _: css, axis=None).relabel_index(headings, axis=1)
    columns = "l" + ("l" if table.text else "r") * len(table.columns)
    body = style.to_latex(hrules=True, convert_css=True, column_format=columns)
    notes = "\n".join(_tex(note) + r"\\" for note in (*table.notes, *table.legend))
    return (
        f"% {_tex(table.title)}. Needs \\usepackage{{booktabs,xcolor}}.\n{body}\\par{{\\footnotesize\n{notes}\\par}}\n"
    )


def _css(cell: Cell) -> str:
    return "color: gray" if cell.grey else "font-weight: bold" if cell.best else ""


def _tex(text: str) -> str:
    return MINUS.sub("−", " ".join(text.split())).translate(TEX)


MINUS = re.compile(r"(?<![\w.])-(?=\d)")  # that of -61.2, not that of 1.2e-4

TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "†": r"$^\dagger$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "−": "$-$",
        "–": "--",
        "…": r"\ldots{}",
    }
)

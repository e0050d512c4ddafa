"""One table, four forms: terminal, Markdown, LaTeX and CSV. (HTML is in browser/page.html.)"""

import math
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import rich.table
from rich import box
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.text import Text

VOID = "†"


@dataclass(frozen=True)
class Cell:
    """What a table shows at one place, and the number behind it with its interval.

    `void`: a certificate failed, so that the number is grey and ranked nowhere. `best`: shown in bold. `quoted`:
    published by others, grey. `ranked`: compared with others of its column.
    """

    text: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    void: bool = False
    best: bool = False
    quoted: bool = False
    ranked: bool = field(default=False, compare=False)

    @property
    def grey(self) -> bool:
        return self.void or self.quoted

    def __str__(self) -> str:
        return self.text + VOID if self.void else self.text


NOTHING = Cell("–")


def counted(n: int, name: str) -> str:
    """So many of what `name` is the singular of: "1 seed", "3 seeds"."""
    return f"{n} {name}" if n == 1 else f"{n} {name}s"


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
    naming: Callable[[str, str], str] | None = None  # (row, column) -> what its number is called, for macros

    @property
    def file(self) -> str:
        """Its name as that of a file."""
        return file_name(self.name)

    def __post_init__(self) -> None:
        assert all(len(cells) == len(self.columns) for _, cells in self.rows)


def show(table: Table, console: Console, told: Collection[str] = ()) -> None:
    """Print for a terminal: void numbers dim, the best bold; columns that do not fit beside others stand below them.

    Of the legend what is not `told` once for all tables.
    """
    console.print(Text(table.title, style="bold"))
    grids = [range(len(table.columns))] if table.text else _beside(table, console.width)
    for columns in grids if table.rows else ():
        console.print(_grid(table, columns))
    for note in (*table.notes, *(line for line in table.legend if line not in told)):
        console.print(Text(f"  {note}", style="dim"))
    console.print()


def _grid(table: Table, columns: Sequence[int]) -> rich.table.Table:
    """Some columns of a table, after its labels."""
    # one space between columns: twelve must fit
    grid = rich.table.Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    overflow: OverflowMethod = "fold" if table.text else "ellipsis"  # a long word of a command is folded, not cut
    grid.add_column(Text(table.heading), no_wrap=not table.text, overflow=overflow)
    for i in columns:
        justify: JustifyMethod = "left" if table.text else "right"
        grid.add_column(Text(table.columns[i]), justify=justify, no_wrap=not _wraps(table, i), overflow=overflow)
    for label, cells in table.rows:
        shown = (cells[i] for i in columns)
        grid.add_row(Text(label), *(Text(str(c), style="dim" if c.grey else "bold" if c.best else "") for c in shown))
    return grid


def _wraps(table: Table, column: int) -> bool:
    return table.text or any(" " in cells[column].text for _, cells in table.rows)


def _beside(table: Table, width: int) -> list[list[int]]:
    """The columns in as few grids as fit `width`, in order; no number is cut unless it alone is wider."""
    first = max(map(len, [table.heading, *(label for label, _ in table.rows)]))
    grids: list[list[int]] = [[]]
    room = width - first
    for i, heading in enumerate(table.columns):
        texts = [*heading.split("\n"), *(line for _, cells in table.rows for line in str(cells[i]).split("\n"))]
        wraps = _wraps(table, i)
        parts = [word for text in texts for word in (text.split() if wraps else [text])]
        needed = 1 + max(map(len, parts))
        if needed > room and grids[-1]:
            grids.append([])
            room = width - first
        grids[-1].append(i)
        room -= needed
    return grids


def markdown(table: Table) -> str:
    """A pipe table, its title above and its notes below."""

    escaped = _plain if table.text else _number

    def line(parts: Iterable[str]) -> str:
        return "| " + " | ".join(parts) + " |"

    head = [
        f"**{_plain(table.title)}**",
        "",
        line(map(escaped, [table.heading, *table.columns])),
        "|---|" + ("---|" if table.text else "---:|") * len(table.columns),
    ]
    body = [
        line([escaped(label), *(f"**{escaped(str(c))}**" if c.best else escaped(str(c)) for c in cells)])
        for label, cells in table.rows
    ]
    return (
        "\n".join([*head, *body, *(f"\n{note}".replace("<", "&lt;") for note in (*table.notes, *table.legend))]) + "\n"
    )


def _plain(text: str) -> str:
    """`text` as Markdown that shows it as it is."""
    shown = re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split()))
    return shown.replace("&", "&amp;").replace("<", "&lt;")


def _number(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def csv(table: Table) -> str:
    """Full numbers: for each column its value, and where there is an interval its ends; then what is void.

    And its text, where that says more than the number: that a run did not get there, or of how many it is. Text comes
    from records, so that none of it begins like a formula, which a spreadsheet would compute.
    """
    columns: dict[str, list[object]] = {table.heading: [_inert(label) for label, _ in table.rows]}
    for i, name in enumerate(table.columns):
        cells = [row[i] for _, row in table.rows]
        plain = _inert(" ".join(name.split()))
        if all(math.isnan(c.value) for c in cells):
            columns[plain] = [_inert(c.text.replace("\n", " ")) for c in cells]
            continue
        columns[plain] = [c.value for c in cells]
        if not all(math.isnan(c.low) for c in cells):
            columns[f"{plain} low"] = [c.low for c in cells]
            columns[f"{plain} high"] = [c.high for c in cells]
        if any(c.void for c in cells):
            columns[f"{plain} void"] = [c.void for c in cells]
        if any(_says_more(c) for c in cells):
            columns[f"{plain} shown"] = [_inert(" ".join(c.text.split())) for c in cells]
    return pd.DataFrame(columns).to_csv(index=False)


def _inert(text: str) -> str:
    return f"'{text}" if re.match(r"[=+@\t\r]|-(?![\d.])", text) else text


def _says_more(cell: Cell) -> bool:
    return cell != NOTHING and (math.isnan(cell.value) or any(mark in cell.text for mark in "*("))


NEEDS = r"\usepackage{adjustbox,array,booktabs,longtable,xcolor}"


def latex(table: Table) -> str:
    """A booktabs table that is no wider than the text: one of words breaks its lines, and between pages."""
    # numbered columns, named last: two headings may be the same
    frame = pd.DataFrame([[tex(label), *(tex(str(c)) for c in cells)] for label, cells in table.rows])
    css = pd.DataFrame([["", *(_css(c) for c in cells)] for _, cells in table.rows])
    headings = [tex(name) if table.text else _stacked(name) for name in (table.heading, *table.columns)]
    headings = [heading.replace("{", "{{").replace("}", "}}") for heading in headings]  # pandas formats them
    style = frame.style.hide(axis="index").apply(lambda _: css, axis=None).relabel_index(headings, axis=1)
    if table.text:
        body = style.to_latex(hrules=True, convert_css=True, environment="longtable", column_format=_paragraphs(table))
    else:
        columns = "@{}l" + "r" * len(table.columns) + "@{}"
        body = style.to_latex(hrules=True, convert_css=True, column_format=columns)
        body = f"\\begin{{adjustbox}}{{max width=\\linewidth}}\n{body}\\end{{adjustbox}}\n"
    notes = "\n".join(tex(note) + r"\par" for note in (*table.notes, *table.legend))
    return (
        f"% {tex(table.title)}. Needs {NEEDS}.\n{{\\footnotesize\\raggedright\\setlength{{\\tabcolsep}}{{4pt}}\n"
        f"{body}\\par\\smallskip\n{notes}\n\\par}}\n"
    )


def _stacked(heading: str) -> str:
    """A heading on its lines."""
    return r"\shortstack[r]{" + r"\\".join(tex(line) for line in heading.split("\n")) + "}"


ROOM = 90  # characters of small print across the narrowest text


def _paragraphs(table: Table) -> str:
    """The columns of a table of words: each as wide as its longest word, and of what is left what its text is long."""
    texts = zip(
        (table.heading, *table.columns), *([label, *map(str, cells)] for label, cells in table.rows), strict=True
    )
    columns = [[" ".join(text.split()) for text in column] for column in texts]
    words = [max(len(word) for text in column for word in re.split(r"[\s_]", text)) + 1 for column in columns]
    more = [max(map(len, column)) + 1 - word for column, word in zip(columns, words, strict=True)]
    spare = min(1.0, max(0.0, ROOM - sum(words)) / max(1, sum(more)))
    widths = [word + spare * rest for word, rest in zip(words, more, strict=True)]
    of = max(ROOM, sum(widths))
    shares = (r">{\raggedright\arraybackslash}p{\dimexpr %.3f\linewidth-2\tabcolsep\relax}" % (w / of) for w in widths)
    return "".join(shares)


def _css(cell: Cell) -> str:
    return "color: gray" if cell.grey else "font-weight: bold" if cell.best else ""


def tex(text: str) -> str:
    """`text` on one line as LaTeX that shows it as it is; what is a number may stand in a formula too.

    A character that pdflatex has no letter for in T1 fonts stands as its code point, U+03C3.
    """
    line = " ".join(text.split())
    plain = line.isascii() and line.isprintable()  # as most are: ten thousands of cells
    known = line if plain else "".join(c if _has_letter(c) else f"U+{ord(c):04X}" for c in line)
    shown = MINUS.sub("−", known).translate(TEX)
    return "{}" + shown if shown.startswith(("*", "[")) else shown  # the end of a row before would take it as its own


def _has_letter(character: str) -> bool:
    return ord(character) in TEX or (character < "\u0100" and character.isprintable())


def slug(name: str) -> str:
    """`name` as a file name: names of datasets and solvers come from records."""
    return re.sub(r"[^A-Za-z0-9_=-]+", "-", name).strip("-") or "table"


def file_name(name: str) -> str:
    """`name` as a file's, by its checksum too where a slug alone could be another's as well: a.b and a-b."""
    plain = re.fullmatch(r"[A-Za-z0-9_= ()-]+", name)
    return slug(name) if plain else f"{slug(name)}-{zlib.crc32(name.encode()):08x}"


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
        "†": r"\ensuremath{^\dagger}",
        "±": r"\ensuremath{\pm}",
        "×": r"\ensuremath{\times}",
        "·": r"\ensuremath{\cdot}",
        "−": r"\ensuremath{-}",
        "–": "--",
        "…": r"\ldots{}",
        "²": r"\ensuremath{^2}",
    }
)

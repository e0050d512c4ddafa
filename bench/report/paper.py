"""What a paper is written with: the numbers of the tables as LaTeX macros, and a document that includes everything.

A macro is named by solver, quantity and dataset, letters only: \\OTFlowTrainEightGaussians is OT-Flow's seconds to the
target on 8gaussians as its table prints them, \\OTFlowSpeedupTrainPower how many times as long FFJORD takes on POWER.
Of other rivals the name says which: \\OTFlowSpeedupTrainOverRNODEPower. A number that is not there has no macro. Where
the report has several parts, each name ends with its part: no number is the one that goes without saying.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bench import stats
from bench.report import written
from bench.report.render import Cell, Table, tex
from bench.report.venues import Venue

WORDS = {  # what people write otherwise than with one capital
    "otflow": "OTFlow", "otcfm": "OTCFM", "neural_hjb": "NeuralHJB",
    **{name: name.upper() for name in ("ffjord", "rnode", "cfm", "maf", "nsf", "enot", "nll", "mmd", "kl", "hjb", "uvp",
                                       "nfe", "bsds")},
}  # fmt: skip
QUANTITIES = {  # headings that are more than the name of a quantity
    "seconds to q": "train",
    "seconds a step": "step",
    "ms a step": "step",
    "test NLL": "nll",
    "params": "parameters",
    "density (s)": "density",
    "samples (s)": "samples",
    "%": "percent",
}
FILES = ("macros.tex", "paper.tex")
DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


@dataclass(frozen=True)
class Section:
    """A part of the report: its `number`, its tables, and the files of its figures with what they show."""

    number: int
    title: str
    notes: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Macro:
    """A number of a table under its name, `text` as LaTeX has it; `source` is its place."""

    name: str
    text: str
    source: str

    def __str__(self) -> str:
        return f"\\newcommand{{\\{self.name}}}{{{self.text}}} % {self.source}"


def name_of(text: str) -> str:
    """Letters that say `text`: "otflow NLL 8gaussians" is OTFlowNLLEightGaussians."""
    for solver, word in WORDS.items():
        text = re.sub(rf"(?<![a-z]){solver}(?![a-z])", word, text)
    parts = re.findall(r"[A-Za-z]+|[0-9]", text)
    return "".join(DIGITS[int(part)] if part.isdigit() else part[0].upper() + part[1:] for part in parts)


def macros(sections: Sequence[Section]) -> list[Macro]:
    """A macro for each number of the tables that name theirs, each under a name of its own.

    Numbers whose words differ in nothing that a name can hold are counted: ...NumberOne, ...NumberTwo.
    """
    found = [
        (name_of(words) + _end(section, sections), cell, source)
        for section in sections
        for words, cell, source in _numbers(section.tables)
    ]
    times = Counter(name for name, _, _ in found)
    made: dict[str, Macro] = {}
    for name, cell, source in found:
        one = name if times[name] == 1 else next(new for new in _counted(name) if new not in times and new not in made)
        made[one] = Macro(one, printed(cell), source)
    return list(made.values())


def _end(section: Section, sections: Sequence[Section]) -> str:
    """What names of a part end with: nothing where it has no number, or no other part has one."""
    several = sum(other.number > 0 for other in sections) > 1
    return name_of(f"part{section.number}") if section.number and several else ""


def _counted(name: str) -> Iterator[str]:
    return (name + name_of(f"number{n}") for n in count(1))


def _numbers(tables: Sequence[Table]) -> Iterator[tuple[str, Cell, str]]:
    """Words for each number that is there, its cell, and table, row and column."""
    for table in tables:
        if table.naming is None:
            continue
        for label, cells in table.rows:
            for heading, cell in zip(table.columns, cells, strict=True):
                column = " ".join(heading.split())
                if cell.value == cell.value and not cell.quoted:
                    words = table.naming(label, QUANTITIES.get(column, column))
                    yield words, cell, tex(f"{table.name}: {label}, {column}")


def printed(cell: Cell) -> str:
    """A cell as LaTeX tables print it, grey where it is void."""
    return f"\\textcolor{{gray}}{{{tex(str(cell))}}}" if cell.grey else tex(str(cell))


def write(sections: Sequence[Section], venue: Venue, folder: Path) -> None:
    """macros.tex and paper.tex in `folder`, where tables/ and figures/ are."""
    lines = [*(f"% {line}" for line in _head(sections)), *map(str, macros(sections))]
    for name, text in zip(FILES, ("\n".join(lines) + "\n", document(sections, venue)), strict=True):
        written.write(folder / name, text)


def _head(sections: Sequence[Section]) -> Iterator[str]:
    """What a reader of the numbers alone must know: their parts and signs, and the legends of their tables."""
    yield r"Needs \usepackage{xcolor}. Behind each number: its table, row and column. Grey: void, a certificate failed."
    yield f"[a, b]: the {stats.LEVEL:.0%} interval. (k of n): so many of the runs or problems alone."
    for section in sections:
        if end := _end(section, sections):
            yield f"{end}: {tex(section.title)}"
    named = [table for section in sections for table in section.tables if table.naming]
    yield from dict.fromkeys(tex(line) for table in named for line in table.legend)


def document(sections: Sequence[Section], venue: Venue) -> str:
    """A document of the venue's text width and fonts that includes every table, figure and macro."""
    return "\n".join([*_preamble(venue), r"\begin{document}", *_body(sections), r"\end{document}"]) + "\n"


def _preamble(venue: Venue) -> list[str]:
    return [
        "% Written anew by each report: change a copy.",
        f"\\documentclass[{venue.size:g}pt]{{article}}",
        venue.preamble,
        f"\\usepackage[letterpaper,textwidth={venue.text}in,textheight=9in]{{geometry}}",
        r"\usepackage[export]{adjustbox}\usepackage{array,booktabs,caption,longtable,xcolor}",
        r"\let\plainunderscore\_\renewcommand{\_}{\plainunderscore\allowbreak}% long names may be broken after it",
        r"\setlength{\emergencystretch}{3em}\captionsetup{font=small,justification=raggedright,singlelinecheck=false}",
        r"\input{macros}",
    ]


def _body(sections: Sequence[Section]) -> Iterator[str]:
    for section in sections:
        yield f"\\section{{{tex(section.title)}}}"
        yield from (tex(note) + r"\par" for note in section.notes)
        for table in section.tables:
            yield f"\\captionof{{table}}{{{tex(table.title)}}}\\nopagebreak\n\\input{{tables/{table.file}}}\n"
        for file, caption in section.figures:
            yield "\\begin{center}\\includegraphics[max width=\\linewidth,max totalheight=0.85\\textheight]"
            yield f"{{figures/{file}.pdf}}\\captionof{{figure}}{{{tex(caption)}}}\\end{{center}}\n"
    if numbers := macros(sections):
        yield r"\section{Numbers}" + "\n\\begin{longtable}{@{}ll@{}}\\toprule macro & value\\\\\\midrule\\endhead"
        yield from (f"\\texttt{{\\textbackslash {one.name}}} & \\{one.name}\\\\" for one in numbers)
        yield "\\bottomrule\\end{longtable}"

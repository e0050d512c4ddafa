"""Published claims against records:   python -m bench.claims [records=DIR[,DIR...]] [out=DIR]

records     folders to read as one, where a record that several have of one environment counts once; by default
            results/runs and every folder of results/reference, a ledger for each, and last their verdicts side by side
out         folder to write each ledger to, and to verdicts/ their verdicts, as Markdown, LaTeX and CSV; default
            results/report/claims

The claims are data in bench/conf/claims. Exit code 0; 1 if there is nothing to judge; 2 if a claim asks for what no
record has, or if records that it would use must not be used together (the claim is refused, with the reason).
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench import ledger, queries
from bench.commandline import Usage, words
from bench.ledger import Claim, ClaimError, Entry
from bench.queries import Evidence
from bench.report import claims as shown
from bench.report import frame, lint, render, written
from bench.report.beside import Lost
from bench.report.build import WIDTH, load, names_of, write_tables
from bench.report.options import default_folders


def main(arguments: Sequence[str]) -> int:
    """The command; gives its exit code."""
    if {"-h", "--help"} & set(arguments):
        Console(soft_wrap=True).print(Text(__doc__ or ""))
        return 0
    errors = Console(stderr=True, soft_wrap=True)
    try:
        given = words(arguments, {"records": "", "out": "results/report/claims"})
        claims = ledger.load()
        ledgers = [tuple(map(Path, given["records"].split(",")))] if given["records"] else default_ledgers()
        names = names_of([folders[0] for folders in ledgers])
        out = Path(given["out"])
        written.clear(out / "verdicts")
        judged, codes = {}, []
        for folders in ledgers:
            name = names[folders[0]]
            judged[name], code = show(claims, folders, out / name, errors)
            codes.append(code)
        if len(judged) > 1:
            compare(judged, out / "verdicts")
    except ClaimError as error:
        errors.print(Text(f"bench.claims: {error}"))
        return 2
    except (Usage, Lost, OSError) as error:
        errors.print(Text(f"bench.claims: {error}"))
        return 1
    return max(codes)


def default_ledgers() -> list[tuple[Path, ...]]:
    """Each folder that has records by itself: they may be of different machines. Raises Usage."""
    return [(folder,) for folder in default_folders()]


def show(claims: Sequence[Claim], folders: tuple[Path, ...], out: Path, errors: Console) -> tuple[Sequence[Entry], int]:
    """Judge, print and write to `out`; what was judged and the exit code. Raises Usage and ClaimError."""
    console = _console()
    evidence, problems, notes = gather(folders)
    entries = queries.judged(claims, evidence)
    console.rule(Text(f"Claims against {', '.join(map(str, folders))}", style="bold"), align="left")
    for note in notes:
        console.print(Text(note, style="dim"))
    made = shown.all_of(entries, evidence)
    for table in made:
        render.show(table, console)
    written.clear(out)
    write_tables(made, out)
    refused = [f"{entry.claim.id} refused: {f.why}" for entry in entries for f in entry.findings if f.refused]
    for line in dict.fromkeys([*refused, *(f"left out: {problem}" for problem in problems)]):
        errors.print(Text(line))
    return entries, 2 if refused or problems else 0


def compare(judged: Mapping[str, Sequence[Entry]], out: Path) -> None:
    """Print and write the verdicts of several ledgers side by side."""
    table = shown.verdicts(judged)
    render.show(table, _console())
    write_tables([table], out)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def gather(folders: Sequence[Path]) -> tuple[Evidence, list[str], Sequence[str]]:
    """The records of the folders as one, a line for each file that is none, and notes. Raises Usage for no records."""
    if absent := [str(folder) for folder in folders if not folder.is_dir()]:
        raise Usage(f"no such folder: {', '.join(absent)}")
    found, problems = load(folders)
    records, notes = lint.once(frame.together(found.values()), ["key", *lint.ENVIRONMENT])
    return Evidence(records, folders), problems, notes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

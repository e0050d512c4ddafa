"""What reports wrote to a folder, so that the next one removes it and nothing of the user's.

A folder's LIST has a line for each file, as sha256sum has it (`sha256sum -c .written` checks them). What is not in it,
or was changed since, is the user's.
"""

import hashlib
from pathlib import Path

LIST = ".written"


def write(path: Path, text: str) -> None:
    """Write a file. It is listed first: the other way round, a kill between the two would make it the user's."""
    content = text.encode()
    _list(path, content)
    path.write_bytes(content)


def note(*paths: Path) -> None:
    """List these files, each in its folder."""
    for path in paths:
        _list(path, path.read_bytes())


def clear(folder: Path) -> None:
    """Remove what is listed and unchanged: it may be of records that are no more."""
    known = folder / LIST
    lines = known.read_text(encoding="utf-8", errors="replace").splitlines() if known.exists() else []
    for digest, _, name in (line.partition("  ") for line in lines):
        path = folder / Path(name).name  # in this folder, whatever the list says
        if path.is_file() and _sum(path.read_bytes()) == digest:
            path.unlink()
    known.unlink(missing_ok=True)


def order(folder: Path) -> None:
    """Put the list in the order of names: of files that two processes made, either may have come first."""
    known = folder / LIST
    if known.exists():
        lines = known.read_text(encoding="utf-8").splitlines(keepends=True)
        known.write_text("".join(sorted(lines, key=lambda line: line.partition("  ")[2])), encoding="utf-8")


def _list(path: Path, content: bytes) -> None:
    with open(path.with_name(LIST), "a", encoding="utf-8") as file:
        file.write(f"{_sum(content)}  {path.name}\n")


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

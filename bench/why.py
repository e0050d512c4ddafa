"""Why two runs are not the same cell:   python -m bench.why KEY KEY [records=DIR[,DIR...]]

Prints every part of the configuration that differs. A key may be shortened to what is unique, be the path of a record,
or both. Default records: results/runs and every folder of results/reference.

Exit code 0: something differs; 1: nothing does; 2: there is no such record.
"""

import glob
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import record
from bench.commandline import Usage, words
from bench.record import Record

ABSENT = "(absent)"


def main(arguments: Sequence[str]) -> int:
    """The command; gives its exit code."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        keys = [word for word in arguments if "=" not in word]
        given = words([word for word in arguments if "=" in word], {"records": ""})
        if len(keys) != 2:
            raise Usage(f"give two keys, not {len(keys)}")
        one, two = (find(key, folders(given["records"])) for key in keys)
    except (Usage, record.RecordError, OSError) as error:
        print(f"bench.why: {error}", file=sys.stderr)
        return 2
    found = differences(one["config"], two["config"])
    for made in (one, two):
        print(f"{made['key']}  {record.line(made)}")
    for name, (a, b) in found.items():
        print(f"  {name}: {a} | {b}")
    if not found:
        print("  no part of the configuration differs")
    return 0 if found else 1


def folders(given: str) -> list[Path]:
    """Those that are named, or all that records are kept in."""
    if given:
        return [Path(name) for name in given.split(",")]
    return [Path("results/runs"), *sorted(Path("results/reference").glob("*/"))]


def find(key: str, where: Sequence[Path]) -> Record:
    """The record of `key`. Raises Usage where there is none or several, RecordError where it is not one."""
    if key.endswith(".json"):
        return record.read(Path(key))
    if Path(key).name != key:
        where, key = [Path(key).parent], Path(key).name
    paths = {path.stem: path for folder in reversed(where) for path in folder.glob(f"{glob.escape(key)}*.json")}
    if not paths:
        raise Usage(f"no record {key} in {', '.join(map(str, where))}: set records=DIR")
    if len(paths) > 1:
        raise Usage(f"{key} begins {len(paths)} keys: {', '.join(sorted(paths)[:5])}")
    return record.read(*paths.values())


def differences(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The dotted names whose values differ, each with both values as JSON."""
    a, b = record.flat(one), record.flat(two)
    names = dict.fromkeys([*a, *b])
    shown = {name: (_shown(a, name), _shown(b, name)) for name in names}
    return {name: pair for name, pair in shown.items() if pair[0] != pair[1]}


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name], sort_keys=True) if name in fields else ABSENT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

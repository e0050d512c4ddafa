"""The record of one run: its schema, its key, and a store that never holds half a record.

    {schema, key, config{solver{_target_, version, ...}, dataset{...}, budget{...}, validation{...},
            evaluate{seconds}, seed, dtype, device, threads, tuning{trials, seconds} where a search found the settings},
     status, reason, metrics{name: number|null}, certificates{name: {value, limit, ok}},
     cost{...}, trace[{step, seconds, loss, ..., valid_nll}], env{...}, started}

`cost` has COST as its keys. `trace` has one entry a validation. This module imports neither torch nor solvers.
"""

import dataclasses
import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from bench.names import dataset_name, solver_name

Record = dict[str, Any]

SCHEMA = 1
FOREIGN_SECONDS = 3600.0  # a temporary file of another machine may be swept after so long

STATUSES = {
    "ok": "ended by its schedule, target, step or time budget, with a finite validated transport",
    "budget": "the budget ended before the first finite validated transport",
    "timeout": "killed by the hard time limit",
    "diverged": "the numerical method broke down",
    "oom": "out of memory",
    "crash": "an error that is not the method's",
    "unfit": "the solver cannot take this problem",
    "not_installed": "a package that the solver needs is missing",
}

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

FINE = ("ok", "unfit")  # what a sweep may hold and still have succeeded
OVERRUN = 1.25  # times its budget, from which on a line says that a run took longer

COST = {
    "fit_seconds": "seconds on the step clock until the run ended",
    "steps": "steps taken",
    "seconds_per_step": "median seconds of a step",
    "parameters": "numbers learnt",
    "nfe_forward": "function evaluations a step, forward, mean over the run",
    "nfe_backward": "function evaluations a step, backward, mean over the run",
    "nfe_forward_max": "the most function evaluations of one forward pass",
    "flops": "FLOPs of matrix products a step, forward and backward: those of one evaluation in the first steps, times "
    "the mean evaluations a step; those of one of the first steps where the solver counts no evaluations; none where "
    "later steps minimise something else",
    "evaluate_seconds": "seconds to evaluate the log-density at evaluate_rows test points, median of the repeats",
    "evaluate_rows": "rows of the test set that were evaluated",
    "test_rows": "rows of the whole test set",
    "estimate_seconds": "seconds to estimate the log-density at those points as the authors do, median of the repeats",
    "estimate_spread": "root mean square of estimate minus log-density, in nats, over at most 2,000 test points",
    "sample_seconds": "seconds to sample evaluate_rows points, median of the repeats",
    "accurate_seconds": "seconds of the log-density at accurate_rows test points with the least effort from which on "
    "its mean absolute error stays within accuracy.TOLERANCE nat; null where none does",
    "accurate_effort": "that effort; 1 is the solver's own setting",
    "accurate_rows": "rows that it was evaluated at",
    "work_precision": "for each effort {effort, seconds, error}: error in nats against the finest (bench.accuracy)",
    "evaluate_repeats": "seconds of each repeat of the evaluation",
    "estimate_repeats": "seconds of each repeat of the estimate",
    "sample_repeats": "seconds of each repeat of the sampling",
    "step_seconds": "seconds of up to 200 steps, evenly spread over the run",
    "peak_bytes": "peak memory of the process while it trained",
    "warmup_seconds": "seconds of first calls, off the clock: imports, compilation",
    "validate_seconds": "seconds of validation, off the clock",
    "wall_seconds": "seconds from start to record, everything included",
}

KEYS = ("schema", "key", "config", "status", "reason", "metrics", "certificates", "cost", "trace", "env", "started")


class BadInput(ValueError):
    """What the user asked for cannot be; the message says what can."""


class RecordError(ValueError):
    """A file that is not a record this version can read; the message names it and says why."""


def describe(built: Any) -> dict[str, Any]:
    """A built solver or dataset as plain data: `_target_`, `version` and every field, defaults included."""
    kind = type(built)
    fields = {f.name: _plain(getattr(built, f.name)) for f in dataclasses.fields(built)}
    target = f"{kind.__module__}.{kind.__qualname__}"
    return {"_target_": target, "version": getattr(kind, "version", 0), **fields}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return describe(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as one level, their names joined by dots."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value})
    return found


def key(config: Mapping[str, Any]) -> str:
    """Sixteen hex digits of the SHA-256 of the canonical JSON of `config`."""
    return _key_of_plain(_plain(config))


def _key_of_plain(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(CANONICAL.encode(config).encode()).hexdigest()[:16]


def new(config: Mapping[str, Any], status: str, reason: str, started: str, **parts: Any) -> Record:
    """A record of `config`, with `parts` (metrics, certificates, cost, trace, env) where there are any."""
    cost = {**dict.fromkeys(COST), **parts.pop("cost", {})}
    empty: Record = {"metrics": {}, "certificates": {}, "trace": [], "env": {}}
    head = {"schema": SCHEMA, "key": key(config), "config": _plain(config), "status": status, "reason": reason}
    return {**head, **empty, **parts, "cost": cost, "started": started}


def title(config: Mapping[str, Any]) -> str:
    """What a person calls the cell, in a line: `otflow 8gaussians seed 0`."""
    return f"{solver_name(config['solver'])} {dataset_name(config['dataset'])} seed {config['seed']}"


def line(record: Record) -> str:
    """A record in one line: title, status, test NLL and seconds, or the reason why there are none."""
    head = f"{title(record['config'])}: {record['status']}"
    if record["status"] != "ok":
        return f"{head} ({record['reason']})"
    nll, seconds = record["metrics"].get("nll"), record["cost"].get("fit_seconds")
    took = ""
    if finite(seconds):  # `check` leaves costs alone: files come from elsewhere
        took = f", {seconds:.2f} s"
        budget = (record["config"].get("budget") or {}).get("seconds")
        if isinstance(budget, int | float) and finite(budget) and seconds > OVERRUN * budget:
            took += f" of a budget of {budget:g}"
    return head + ("" if nll is None else f", test NLL {nll:.4f}") + took


def write(folder: Path, record: Record) -> bool:
    """Write `record` to folder/<key>.json, whole or not at all; False if another process was first.

    Raises ValueError for a record that is not one (a NaN included), and OSError where the disk is full or
    read-only; neither leaves a file behind.
    """
    check(record)
    return write_new(folder / f"{record['key']}.json", dumps(record).encode())


def dumps(record: Record) -> str:
    """The text of a record's file. Raises ValueError for a number that JSON does not have."""
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def write_new(path: Path, content: bytes) -> bool:
    """Create `path` with `content` in one step; False, and nothing changed, if it exists."""
    with _temporary(path, content) as whole:
        try:
            os.link(whole, path)  # unlike os.replace, fails where the record is there already
        except FileExistsError:
            return False
    return True


def write_over(path: Path, content: "bytes | memoryview") -> None:
    """Create `path` with `content`, or replace it, in one step."""
    with _temporary(path, content) as whole:
        os.replace(whole, path)


def write_json(path: Path, value: Any) -> None:
    """Create `path` with `value` as JSON, or replace it, in one step."""
    write_over(path, (json.dumps(value, indent=1) + "\n").encode())


def probe(folder: Path) -> None:
    """Make `folder`, and raise OSError where no record can be written there: not every file system has hard links."""
    with _temporary(folder / "probe", b"") as whole:
        link = whole.with_name(f"link.{whole.name}")
        link.unlink(missing_ok=True)
        os.link(whole, link)
        link.unlink()


@contextmanager
def _temporary(path: Path, content: "bytes | memoryview") -> Iterator[Path]:
    """A file beside `path` with `content`, on the disk; gone after the block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp.{machine()}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # may be a record's second name, left by a process of our number that was killed
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@cache
def machine() -> str:
    """Eight hex digits for whatever gives processes their numbers: a shared folder is written to by several."""
    with suppress(OSError):
        return _digest(f"{socket.gethostname()} {os.stat('/proc/self/ns/pid').st_ino}")
    return _digest(socket.gethostname())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def sweep_stale(folder: Path) -> None:
    """Remove temporary files in `folder` whose process is gone; those of another machine once they are old."""
    for path in folder.glob("*.tmp.*"):
        where, _, pid = path.name.rpartition(".tmp.")[2].rpartition(".")
        with suppress(OSError):  # its process has just renamed it, or the folder is read-only
            if where in ("", machine()):
                stale = pid.isdigit() and not alive(pid)
            else:
                stale = time.time() - path.stat().st_mtime > FOREIGN_SECONDS
            if stale:
                path.unlink()


def alive(pid: str) -> bool:
    """Whether this machine has a process of that number that has not ended."""
    with suppress(OSError):  # where there is no /proc, or no such process
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]  # names are bytes, cut anywhere
        return not state.startswith(b" Z")  # ended, nobody asked how
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def read(path: Path) -> Record:
    """Read one record. Raises RecordError for anything that is not one, or whose configuration was edited since."""
    content = path.read_bytes()
    try:
        record = orjson.loads(content)
        check(record)
    except (ValueError, RecursionError):
        # orjson knows no lone surrogates, as in the name of a file, and whole numbers of 64 bits only
        record = _read_slowly(path, content)
    if path.stem != record["key"]:
        raise RecordError(f"{path}: holds the record of key {record['key']}")
    return record


def _read_slowly(path: Path, content: bytes) -> Record:
    try:
        record = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a record ({error})") from None
    try:
        check(record)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: {error}") from None
    return record


def read_all(folders: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """All records of the folders, the first of each key, and a line for each file that is not one."""
    records: dict[str, Record] = {}
    problems: list[str] = []
    for folder in folders:
        for record in each(folder, problems):
            records.setdefault(record["key"], record)
    return list(records.values()), problems


def files(folder: Path) -> list[Path]:
    """The files of a folder that should be records, in the order of their names."""
    return sorted(folder.glob("*.json"))


def each(folder: Path, problems: list[str]) -> Iterator[Record]:
    """The records of a folder, one in memory at a time; a line is added to `problems` for each file that is not one."""
    return each_of(files(folder), problems)


def each_of(paths: Iterable[Path], problems: list[str]) -> Iterator[Record]:
    """The same of these files."""
    for path in paths:
        try:
            record = read(path)
        except (RecordError, OSError) as error:
            problems.append(str(error))
        else:
            yield record


def check(record: Any) -> None:
    """Raise ValueError, saying what is wrong, unless `record` has the shape described above."""
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    if missing := [name for name in KEYS if name not in record]:
        raise ValueError(f"lacks {', '.join(missing)}")
    schema = record["schema"]
    if not isinstance(schema, int) or schema > SCHEMA:
        raise ValueError(f"has schema {schema!r}; this version reads up to {SCHEMA}: update cnf-ot-bench")
    if not isinstance(record["status"], str) or record["status"] not in STATUSES:
        raise ValueError(f"has the unknown status {record['status']!r}")
    for name, kind in (
        ("config", dict),
        ("metrics", dict),
        ("certificates", dict),
        ("cost", dict),
        ("env", dict),
        ("trace", list),
        ("key", str),
        ("started", str),
    ):
        if not isinstance(record[name], kind):
            raise ValueError(f"{name} is not a {kind.__name__}")
    for name in ("solver", "dataset"):
        part = record["config"].get(name)
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            raise ValueError(f"config names no {name}")
    for name in ("budget", "validation", "evaluate", "tuning"):
        if not isinstance(record["config"].get(name, {}), dict):
            raise ValueError(f"config {name} is not a dict")
    if "seed" not in record["config"]:
        raise ValueError("config names no seed")
    for name, value in record["metrics"].items():
        if value is not None and not finite(value):
            raise ValueError(f"metric {name} is {value!r}, not a finite number or null")
    for name, value in record["certificates"].items():
        if not isinstance(value, dict) or set(value) != {"value", "limit", "ok"}:
            raise ValueError(f"certificate {name} is not {{value, limit, ok}}")
    if record["key"] != (own := _key_of_plain(record["config"])):
        raise ValueError(f"its configuration was edited: the key of it is {own}, not {record['key']}")


def finite(value: Any) -> bool:
    """Whether `value` is a number that a float can hold, and no infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")

"""Run cells again:   python -m bench.rerun failed=true [status=oom,crash] [key=KEY,...] [results=DIR] [more overrides]

failed    every cell whose record is neither ok nor unfit
status    those of these statuses
key       those of these keys
results   the folder of the records; default results

Other words go to bench.run, as long as they change no key: data.root=..., hydra.launcher.memory_gb=8. A new record
takes the place of the old one once it is there, not before; the old one is kept beside it as
<key>.json.superseded.<n>, which no report reads. Interrupted, the same command goes on. One at a time can run in a
folder of results: a second says so and ends.

Exit code 0: all that ran are ok or unfit now, or there was nothing to run; 1: some are not; 2: bad input;
130: interrupted.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bench import lease, record
from bench.commandline import apart
from bench.record import BadInput, Record

if TYPE_CHECKING:  # imported where they are used: --help does without
    from bench.launcher import Job
    from hydra_plugins.isolated import IsolatedLauncher

OWN = ("failed", "status", "key", "results")
CONF = Path(__file__).parent / "conf"


def main(arguments: Sequence[str]) -> int:
    """The command; gives its exit code."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return 0
    try:
        return rerun(*apart(arguments, OWN))
    except (BadInput, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here")
        return 130


def rerun(own: Mapping[str, str], others: Sequence[str]) -> int:
    """Run the cells that `own` asks for in a store of their own, whose records then take the place of the old ones.

    One process at a time: a second would take the records of the first for what an interrupted one has left.
    """
    runs = Path(own.get("results", "results")) / "runs"
    store = runs.parent / ".rerun"
    with suppress(OSError):  # no results, or a read-only folder: what follows will tell
        store.mkdir(exist_ok=True)
    with lease.alone(store / "lock") as mine:
        if not mine:
            raise BadInput(f"another bench.rerun is at work in {store}: run this once it has ended")
        return _rerun(own, others, runs, store)


def _rerun(own: Mapping[str, str], others: Sequence[str], runs: Path, store: Path) -> int:
    problems: list[str] = []
    supersede_all(store / "runs", runs)  # what an interrupted rerun has left
    cells = {one["key"]: words(one["config"]) for one in record.each(runs, problems) if wanted(one, own)}
    for line in problems:
        print(f"left out: {line}", file=sys.stderr)
    if missing := [key for key in names(own, "key") if key not in cells]:
        raise BadInput(f"{runs} has no record {', '.join(missing)}")
    if not cells:
        print("nothing to run again")
        return 0
    try:
        statuses = run(cells, [*others, f"results={value(str(store))}"])
    finally:
        supersede_all(store / "runs", runs)
    return int(any(status not in record.FINE for status in statuses))


def wanted(one: Record, own: Mapping[str, str]) -> bool:
    """Whether the record is one of those to run again. Raises BadInput where nothing says which."""
    statuses, keys = names(own, "status"), names(own, "key")
    if unknown := [name for name in statuses if name not in record.STATUSES]:
        raise BadInput(f"no status {', '.join(unknown)}: choose from {', '.join(record.STATUSES)}")
    failed = switch(own, "failed")
    if not (failed or statuses or keys):
        raise BadInput("say which cells to run again: failed=true, status=... or key=...")
    return (failed and one["status"] not in record.FINE) or one["status"] in statuses or one["key"] in keys


def switch(own: Mapping[str, str], word: str) -> bool:
    """Whether `word` is on; it is off by default. Raises BadInput for what is neither true nor false."""
    if own.get(word, "false") not in ("true", "false"):
        raise BadInput(f"{word} is true or false, not {own[word]!r}")
    return own.get(word) == "true"


def names(own: Mapping[str, str], word: str) -> list[str]:
    """What `word` lists."""
    return [name for name in own.get(word, "").split(",") if name]


def words(config: Mapping[str, Any]) -> list[str]:
    """The overrides that make the cell of this `config`, whatever the published settings and defaults are by now."""
    given = ["~solver", "~dataset", "tuned=none"]
    given += [f"+{name}={value(fields_of(config[name]))}" for name in ("solver", "dataset")]
    for name, part in config.items():
        if name in ("budget", "validation", "evaluate", "tuning"):
            given += [f"{name}.{field}={value(one)}" for field, one in part.items()]
        elif name not in ("solver", "dataset"):
            given.append(f"{name}={value(part)}")
    return given


def fields_of(described: Any) -> Any:
    """What record.describe was given: without the versions, which are no fields."""
    if isinstance(described, list):
        return [fields_of(part) for part in described]
    if not isinstance(described, Mapping):
        return described
    return {k: fields_of(v) for k, v in described.items() if not (k == "version" and "_target_" in described)}


def value(given: Any) -> str:
    """Plain data as Hydra's command line has it."""
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    if isinstance(given, Mapping):
        return "{" + ",".join(f"{name}:{value(part)}" for name, part in given.items()) + "}"
    if isinstance(given, list | tuple):
        return "[" + ",".join(map(value, given)) + "]"
    if not isinstance(given, str):
        return repr(given)
    if re.fullmatch(r"[\w./ -]*", given):
        return f"'{given}'"
    from hydra.core.override_parser.types import Quote, QuotedString  # half a second

    return QuotedString(given, Quote.single).with_quotes()


def run(cells: Mapping[str, Sequence[str]], others: Sequence[str]) -> list[str]:
    """Run the cells, each by its overrides and `others`; the status of each. Raises BadInput and launcher.Stopped."""
    launcher, given = launcher_for(others)
    same, refused = [], []
    for key, overrides in cells.items():
        try:
            (job,) = jobs_of(launcher, [[*overrides, *given]])
        except BadInput as error:
            refused.append(error)
            print(f"{key} cannot be made any more ({error}): its record stays as it is", flush=True)
            continue
        if (now := record.key(job.config)) == key:
            same.append(job)
        else:
            print(f"{key} ({job.title}) is another cell by now, {now}: its record stays as it is", flush=True)
    if len(refused) == len(cells):
        raise refused[0]
    return launcher.sweep(same)


def launcher_for(others: Sequence[str]) -> "tuple[IsolatedLauncher, list[str]]":
    """The launcher that the words `others` ask for, and those of them that its cells take. Raises BadInput."""
    import hydra
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    from bench.run import lenient, one_line

    try:
        others = [word for given in others for word in lenient(given)]  # as on the command line of bench.run
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", list(others), return_hydra_config=True)
            launcher = hydra.utils.instantiate(cfg.hydra.launcher)
            loader = GlobalHydra.instance().hydra.config_loader  # type: ignore[union-attr]
            launcher.setup(hydra_context=SimpleNamespace(config_loader=loader), task_function=None, config=cfg)
    except HydraException as error:
        raise BadInput(one_line(error)) from None
    return launcher, [word for word in others if not word.lstrip("+~").startswith("hydra")]


def jobs_of(launcher: "IsolatedLauncher", cells: Sequence[Sequence[str]]) -> "list[Job]":
    """The cells of these overrides. Raises BadInput."""
    from hydra.errors import HydraException

    from bench.run import one_line

    try:
        return launcher.jobs(cells)
    except HydraException as error:
        raise BadInput(one_line(error)) from None


def supersede_all(fresh: Path, runs: Path) -> None:
    """Put the records in `fresh`, with their pictures, in the place of those in `runs`, which are kept aside.

    Whenever this is cut off, no picture lies beside a record that it is not of, and the next call goes on.
    """
    problems: list[str] = []
    for one in record.each(fresh, problems):
        new, old = fresh / f"{one['key']}.json", runs / f"{one['key']}.json"
        content = new.read_bytes()
        if not old.exists() or old.read_bytes() != content:  # else this was cut off below
            aside(old)
            old.with_suffix(".npz").unlink(missing_ok=True)
            record.write_over(old, content)
        with suppress(FileNotFoundError):
            os.replace(new.with_suffix(".npz"), old.with_suffix(".npz"))
        new.unlink()
    if problems:
        raise BadInput(f"{problems[0]}: move it away and run again")


def aside(path: Path) -> None:
    """Keep the record `path` under a second name, the first that is free. Nothing to do where it has one already."""
    with suppress(FileNotFoundError):
        if any(path.samefile(kept) for kept in path.parent.glob(f"{path.name}.superseded.*")):
            return  # a crash came between this and the record that takes its place
        for n in range(1, 1_000_000):
            with suppress(FileExistsError):
                os.link(path, f"{path}.superseded.{n}")
                return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

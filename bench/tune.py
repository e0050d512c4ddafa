"""Find settings by random search, every solver with the same budget:

    python -m bench.tune solver=otflow,ffjord dataset=8gaussians trials=20 seconds=30

solver    solvers, each searched over its own space, bench/conf/tune/<solver>.yaml
dataset   problems, each a search of its own; default 8gaussians
trials    runs of a solver on a problem; the first has the solver's defaults
seconds   of step time, each trial
seed      of the draws, and of the trials; default 0
results   the folder of the trials' records; default results/tune, where no report looks by itself
write     folder to write the best settings to, as <solver>_<dataset>_<trials>x<seconds>s.yaml: where it is
          bench/conf/tuned, `tuned=` finds them
plan      true: only say which trials there are, what is done, time and memory to expect

Other words go to bench.run: dtype=float64, hydra.launcher.slots=2. A setting of the solver among them is not searched.
tuned=NAME starts from that file of bench/conf/tuned, whose settings may have cost trials of their own: without it all
searches start from the defaults (tuned=none), so that no solver has had more trials than another. Only the tolerances
for the dataset are kept, as the report ranks no solvers whose tolerances differ.

A trial is a cell of bench.run with a record: the same command skips what is done and resumes what is not. The best
trial is that of the lowest validation NLL which no certificate voids; test points have no say. The command that is
printed for it takes other seeds than the search's, and puts the search's budget into the records (`tuning`), where the
report's lint looks for it.

Exit code 0: every search has its best trial; 1: one has none or is not complete; 2: bad input; 130: interrupted.
"""

import math
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from bench import forecast, record
from bench.commandline import apart
from bench.names import CONF
from bench.record import BadInput, Record
from bench.rerun import fields_of, jobs_of, launcher_for, switch, value
from bench.search import Tuning, draw, space_of

if TYPE_CHECKING:  # imported where they are used: --help does without
    from bench.launcher import Job
    from bench.report.render import Table

OWN = {
    "solver": "", "dataset": "8gaussians", "trials": "0", "seconds": "0", "seed": "0", "results": "results/tune",
    "write": "", "plan": "false",
}  # fmt: skip
REFUSED = ("budget.", "tuning.", "suite", "solver._target_")  # what a search sets itself
FROM_DEFAULTS = "tuned=none"
TOLERANCES = ("atol", "rtol", "test_atol", "test_rtol")
JUDGING_SECONDS = 10  # of a trial, whose test metrics nobody needs
SEEDS = 3  # of the command for the best


@dataclass(frozen=True)
class Search:
    """The trials of a solver on a problem: the settings that each sets, in the first none but tolerances."""

    solver: str
    dataset: str
    tuning: Tuning
    seed: int
    trials: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, solver: str, dataset: str, tuning: Tuning, seed: int, others: Sequence[str]) -> "Search":
        """Draw the settings; those that `others` fix are not searched. Raises BadInput."""
        fixed = {word.lstrip("+").partition("=")[0] for word in others}
        space = {name: part for name, part in space_of(solver).items() if f"solver.{name}" not in fixed}
        start = tolerances(solver, dataset) if FROM_DEFAULTS in others else {}
        start = {name: part for name, part in start.items() if f"solver.{name}" not in fixed}
        drawn = [start | draw(space, seed, k) for k in range(1, tuning.trials)]
        return cls(solver, dataset, tuning, seed, (start, *drawn))

    @property
    def title(self) -> str:
        return f"{self.solver} on {self.dataset}: {self.tuning}, random search, seed {self.seed}"

    @property
    def name(self) -> str:
        return f"{self.solver}_{self.dataset}_{self.tuning.trials}x{self.tuning.seconds:g}s"

    def cell(self, k: int) -> list[str]:
        """The overrides of trial k, without those that are common to all."""
        given = [f"++solver.{name}={value(part)}" for name, part in self.trials[k].items()]
        return [f"solver={self.solver}", f"dataset={self.dataset}", *given]

    def command(self, k: int, others: Sequence[str]) -> str:
        """The command line that runs trial k with seeds which the search has not seen."""
        words = [re.sub(r"'(\w+)'$", r"\1", word.lstrip("+")) for word in self.cell(k)]  # a name needs no quotes
        words += [f"tuning.{name}={part:g}" for name, part in asdict(self.tuning).items()]
        seeds = ",".join(str(self.seed + i) for i in range(1, SEEDS + 1))
        words += [*others, f"budget.seconds={self.tuning.seconds:g}", f"seed={seeds}"]
        return f"python -m bench.run -m {shlex.join(words)}"


@dataclass(frozen=True)
class Trial:
    """A trial of a search: what it set, and its record, None while there is none."""

    number: int
    job: "Job"
    record: Record | None

    @property
    def nll(self) -> float:
        """The lowest validation NLL; infinity where the run did not end with a finite validated transport, or void."""
        from bench.report.frame import curve

        if self.record is None or self.record["status"] != "ok" or self.failed:
            return math.inf
        best = curve(self.record["trace"]).best
        return best if math.isfinite(best) else math.inf

    @property
    def failed(self) -> list[str]:
        """The certificates that failed of those which validations stand on."""
        from bench.report.tables import TO_Q

        certificates = {} if self.record is None else self.record["certificates"]
        return [name for name in TO_Q if name in certificates and certificates[name]["ok"] is False]

    @property
    def status(self) -> str:
        if self.record is None:
            return "no record"
        return f"{self.record['status']}, but for {', '.join(self.failed)}" if self.failed else self.record["status"]


def main(arguments: Sequence[str]) -> int:
    """The command; gives its exit code."""
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    if {"-h", "--help"} & set(arguments):
        console.print(Text(__doc__ or ""))
        return 0
    own, others = apart(arguments, OWN)
    try:
        return tune(OWN | own, started(others), console)
    except (BadInput, OSError) as error:
        errors.print(Text(f"error: {error}"))
        return 2
    except KeyboardInterrupt:
        console.print("stopped: the same command goes on from here")
        return 130


def started(others: Sequence[str]) -> list[str]:
    """`others`, and that searches start from the defaults where they do not say: a file of bench/conf/tuned may be of
    more trials than the search has.
    """
    return [*others] if any(word.startswith("tuned=") for word in others) else [*others, FROM_DEFAULTS]


def tolerances(solver: str, dataset: str) -> dict[str, float]:
    """Those that bench/conf/tuned gives the solver for the dataset."""
    own = tuned(f"{solver}_{dataset}").get("solver", {})
    return {name: own[name] for name in TOLERANCES if name in own}


def tuned(name: str) -> DictConfig:
    """The file `name` of bench/conf/tuned; empty where there is none."""
    path = CONF / "tuned" / f"{name}.yaml"
    found = OmegaConf.load(path) if path.exists() else OmegaConf.create()
    assert isinstance(found, DictConfig)
    return found


def tune(own: Mapping[str, str], others: Sequence[str], console: Console) -> int:
    """Run all searches, their solvers in turn, and show each; the exit code. Raises BadInput and launcher.Stopped."""
    planned = switch(own, "plan")
    searches = searches_of(own, others)
    turns = in_turn(searches)
    common = [f"budget.seconds={searches[0].tuning.seconds}", f"seed={searches[0].seed}"]
    common += [f"evaluate.seconds={JUDGING_SECONDS}", *others, f"results={value(own['results'])}"]
    launcher, given = launcher_for(common)
    jobs = jobs_of(launcher, [[*search.cell(k), *given] for search, k in turns])
    if planned:
        for line in forecast.of_jobs(jobs, launcher.at_once):
            console.print(Text(line))
        return 0
    launcher.sweep(jobs)
    codes = []
    for search in searches:
        ours = [(k, job) for (other, k), job in zip(turns, jobs, strict=True) if other is search]
        codes.append(conclude(search, [Trial(k, job, read(job)) for k, job in ours], others, own["write"], console))
    return max(codes)


def searches_of(own: Mapping[str, str], others: Sequence[str]) -> list[Search]:
    """The searches that are asked for. Raises BadInput."""
    if refused := [word for word in others if word.lstrip("+").startswith(REFUSED)]:
        raise BadInput(f"cannot use {', '.join(refused)}: give solver=... and seconds=..., the budget of a trial")
    if not own["solver"]:
        raise BadInput("say what to tune: solver=... dataset=... trials=... seconds=...")
    try:
        tuning, seed = Tuning(int(own["trials"]), float(own["seconds"])), int(own["seed"])
    except ValueError as error:
        raise BadInput(f"trials=, seconds= and seed= are the budget and seed of a search: {error}") from None
    pairs = [(solver, dataset) for dataset in own["dataset"].split(",") for solver in own["solver"].split(",")]
    return [Search.of(solver, dataset, tuning, seed, others) for solver, dataset in dict.fromkeys(pairs)]


def in_turn(searches: Sequence[Search]) -> list[tuple[Search, int]]:
    """The trials of all searches: first each one's first, as a machine that slows down should slow all alike."""
    return [(search, k) for k in range(searches[0].tuning.trials) for search in searches]


def read(job: "Job") -> Record | None:
    """The record of a trial. Raises BadInput where its place is taken by something else."""
    try:
        return record.read(job.path) if job.path.exists() else None
    except record.RecordError as error:
        raise BadInput(f"{error}: move it away and run again") from None


def conclude(search: Search, trials: Sequence[Trial], others: Sequence[str], write: str, console: Console) -> int:
    """Show the trials, and the command for the best; the exit code. Raises BadInput."""
    from bench.report import render

    render.show(table(search, trials), console)
    best = min(trials, key=lambda trial: trial.nll)
    if any(trial.record is None for trial in trials):
        console.print("Not all trials have a record: the same command runs those again.\n")
        return 1
    if best.nll == math.inf:
        console.print("No trial ended with a finite validated transport.\n")
        return 1
    console.print(Text(f"Trial {best.number + 1}, with other seeds:\n{search.command(best.number, others)}\n"))
    if write:
        path = written(search, best, others, Path(write))
        console.print(Text(f"Its settings are in {path}.\n"))
    return 0


def table(search: Search, trials: Sequence[Trial]) -> "Table":
    """The trials, the best first."""
    from bench.report.render import NOTHING, Cell, Table

    names = [name for name in search.trials[-1] if name not in TOLERANCES]
    rows = []
    ranked = sorted(trials, key=lambda trial: (trial.nll, trial.number))
    for trial in ranked:
        solver, cost = trial.job.config["solver"], {} if trial.record is None else trial.record["cost"]
        nll = Cell(f"{trial.nll:.4f}", trial.nll, best=trial is ranked[0]) if math.isfinite(trial.nll) else NOTHING
        spent = [Cell(f"{cost[name]:,.{n}f}") if cost.get(name) else NOTHING for name, n in SPENT.items()]
        cells = [*(Cell(_short(solver[name])) for name in names), Cell(trial.status), nll, *spent]
        rows.append((str(trial.number + 1), cells))
    columns = [*names, "status", "validation NLL", "steps", "s"]
    notes = ["Trial 1 has the settings that the search started from."]
    return Table(f"tune_{search.name}", search.title, "trial", columns, rows, notes)


SPENT = {"steps": 0, "fit_seconds": 1}  # of a record's cost, and the decimals to show


def _short(setting: Any) -> str:
    if isinstance(setting, list | tuple):
        return ", ".join(map(_short, setting))
    return f"{setting:.3g}" if isinstance(setting, float) else str(setting)


def written(search: Search, best: Trial, others: Sequence[str], folder: Path) -> Path:
    """Write the settings of `best`; the file. Raises BadInput where there is another one of that name."""
    path = folder / f"{search.name}.yaml"
    text = "".join(_lines(search, best, others))
    if not record.write_new(path, text.encode()) and path.read_text() != text:
        raise BadInput(f"{path} is there already: move it away and run again")
    return path


def _lines(search: Search, best: Trial, others: Sequence[str]) -> Iterator[str]:
    """A file of bench/conf/tuned: what the published settings say beside the solver's, its own, and the budget."""
    yield f"# @package _global_\n# Ours: the best by validation NLL of {search.tuning} each, by python -m bench.tune,\n"
    yield f"# trial {best.number + 1}, seed {search.seed}.\n"
    named = next(word.partition("=")[2] for word in others if word.startswith("tuned="))
    solver = {name: part for name, part in fields_of(best.job.config["solver"]).items() if name != "_target_"}
    yield OmegaConf.to_yaml(OmegaConf.merge(tuned(named), {"tuning": asdict(search.tuning), "solver": solver}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

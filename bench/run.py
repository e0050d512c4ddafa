"""One cell of the benchmark, a solver on a dataset with a seed, becomes one record.

    python -m bench.run solver=otflow dataset=8gaussians seed=0 budget.seconds=60
    python -m bench.run -m suite=quick          a sweep; the same command again resumes it
    python -m bench.run -m suite=toy plan=true  its cells, what is done, time and memory to expect; runs nothing

Exit status: 0 ok, 1 the run failed (its record says how), 2 bad input, 3 the record could not be written, 4 another
process computes the cell, 130 interrupted (the same command resumes).
"""

import dataclasses
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from bench import attempt, env, forecast, lease, process, record
from bench.record import BadInput

if TYPE_CHECKING:  # torch is imported where it is used: --help and --cfg job do without
    import torch

    from bench.loop import Budget, Outcome, Validation
    from datasets.base import Dataset, Problem
    from solvers.base import Fit, Solver, Transport

METRICS_SEED = 1804
SPREAD_ROWS = 2000
DTYPES = ("float32", "float64")
SEEDS = 2**63  # what a generator of torch takes

Draw = Callable[[Path], None]  # writes a picture

OK, FAILED, BAD_INPUT, NOT_WRITTEN, INTERRUPTED = 0, 1, 2, 3, 130


def main() -> None:
    """The command line."""
    env.keep_memory()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us whole, and become one line here
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)  # and then the groups and defaults, by Hydra
    try:
        words = [word for given in sys.argv[1:] for word in lenient(given)]
        sys.argv[1:] = sorted(words, key=lambda word: word not in ("-m", "--multirun"))  # argparse wants it first
        _app()
    except (HydraException, OmegaConfBaseException, BadInput) as error:
        sys.exit(complain(one_line(error)))
    except KeyboardInterrupt:
        process.excuse()
        print("interrupted: the same command resumes", file=sys.stderr)
        sys.exit(INTERRUPTED)


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def _app(cfg: DictConfig) -> None:
    try:
        code = run_cell(cfg)
    except BadInput as error:
        code = complain(str(error))
    sys.exit(code)


def lenient(override: str) -> list[str]:
    """Let `solver.x=1` set a field that the configuration leaves to its default; it is checked when built.

    `solver._target_=package.Class` replaces solver and published settings altogether. Raises BadInput for published
    settings that do not exist: being optional, Hydra would pass over them.
    """
    for name in override.removeprefix("tuned=").split(",") if override.startswith("tuned=") else ():
        tuned = sorted(path.stem for path in (Path(__file__).parent / "conf" / "tuned").glob("*.yaml"))
        if name not in (*tuned, "none"):
            raise BadInput(f"no tuned {name}: choose from {', '.join(tuned)}")
    if override == "hydra/launcher=submitit_slurm":  # Hydra would check ours against the plugin's schema of that name
        return ["hydra/launcher=slurm"]
    if match := re.match(r"(solver|dataset)\._target_=", override):
        return [f"~{match[1]}", "tuned=none", f"++{override}"]
    return [f"++{override}"] if re.match(r"(solver|dataset)\.", override) else [override]


def complain(message: str, code: int = BAD_INPUT) -> int:
    """Say why there is no record, and to a launcher that this is no crash; the exit status."""
    process.excuse()
    print(f"error: {message}", file=sys.stderr)
    return code


def one_line(error: Exception) -> str:
    """An error of Hydra's in one line, with the choices there are."""
    first = str(error).strip().splitlines() or [type(error).__name__]
    options = getattr(error, "options", None)
    if isinstance(cause := error.__cause__, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        return f"no {cause.full_key}: choose from {', '.join(map(str, cause.parent_node))}"
    if options:
        wanted = str(getattr(error, "missing_cfg_file", "")).removesuffix(".yaml")
        return f"no {wanted.replace('/', ' ', 1)}: choose from {', '.join(sorted(options))}"
    return first[0]


def run_cell(cfg: DictConfig) -> int:
    """Run the cell `cfg` unless its record exists; the exit status. Raises BadInput."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    solver, dataset = build(cfg)
    config = identity(cfg, solver, dataset)
    runs, checkpoint = folders(cfg, record.key(config))
    if cfg.plan:
        print("\n".join(forecast.lines([forecast.Cell(config, runs, checkpoint)], forecast.past([runs]))))
        return OK
    if (code := _cached(runs, checkpoint, record.key(config))) is not None:
        return code
    find_device(str(cfg.device))
    with lease.hold(Path(cfg.results), record.key(config)) as mine:
        if (code := _cached(runs, checkpoint, record.key(config))) is not None:  # by now
            return code
        if not mine:
            return complain(f"another process computes {record.title(config)} into {cfg.results}", lease.HELD)
        return _run(cfg, solver, dataset, config, started)


def _cached(runs: Path, checkpoint: Path, key: str) -> int | None:
    """The exit status where the record is there. Raises BadInput."""
    done = finished(runs, key)
    if done is None:
        return None
    attempt.discard(checkpoint)
    _say(done, runs, " [cached]")
    return OK if done["status"] == "ok" else FAILED


def _run(cfg: DictConfig, solver: "Solver", dataset: "Dataset", config: dict[str, Any], started: str) -> int:
    """Run the cell, whose lease is ours; the exit status. Raises BadInput."""
    runs, checkpoint = folders(cfg, record.key(config))
    try:
        attempt.adopt(checkpoint)
        record.probe(runs)
        _picture(runs, record.key(config)).unlink(missing_ok=True)  # a new record is not shown by an old picture
    except OSError as error:
        return complain(f"{runs} cannot be written to ({error.strerror}): see to it, or set results", NOT_WRITTEN)
    for folder in (runs, checkpoint.parent):
        record.sweep_stale(folder)
    made, draw = _measured(cfg, solver, dataset, config, started, checkpoint)
    return _kept(made, draw, runs, checkpoint)


def identify(cfg: DictConfig) -> dict[str, Any]:
    """What the key of a cell is made of. Raises BadInput."""
    return identity(cfg, *build(cfg))


def folders(cfg: DictConfig, key: str) -> tuple[Path, Path]:
    """The folder of the records, and the checkpoint of the cell `key`."""
    results = Path(cfg.results)
    return results / "runs", attempt.path(results, key)


def _picture(runs: Path, key: str) -> Path:
    return runs / f"{key}.npz"


def finished(runs: Path, key: str) -> record.Record | None:
    """The record of `key`, if there is one. Raises BadInput where its place is taken by something else."""
    path = runs / f"{key}.json"
    if not path.exists():
        return None
    try:
        return record.read(path)
    except (record.RecordError, OSError) as error:
        raise BadInput(f"{error}: move it away and run again") from None


def build(cfg: DictConfig) -> "tuple[Solver, Dataset]":
    """The solver and the dataset that `cfg` names. Raises BadInput."""
    return _built("solver", cfg.solver), _built("dataset", cfg.dataset)


def _built(what: str, node: DictConfig) -> Any:
    target = node.get("_target_")
    if target is None:
        raise BadInput(f"{what}._target_ is missing: set it to the name of a class")
    try:
        for name in _targets(_plain(node)):
            _refuse_unless_settings(name)
        _refuse_other_kinds(what, hydra.utils.get_class(target), node)
        return hydra.utils.instantiate(node, _convert_="all")
    except HydraException as error:
        cause = error.__cause__ or error
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(cause))
        if unknown is None:
            raise BadInput(f"{what} {target}: {' '.join(str(cause).split())}") from None  # the reason is its 2nd line
        names = [f.name for f in dataclasses.fields(hydra.utils.get_class(target))]
        raise BadInput(f"{what}.{unknown[1]}: {target} has no such field: choose from {', '.join(names)}") from None
    except BadInput:
        raise
    except (ValueError, TypeError) as error:
        raise BadInput(f"{what} {target}: {error}") from None


def _targets(part: Any) -> Iterator[Any]:
    """Every `_target_` in a configuration, at any depth."""
    if isinstance(part, Mapping):
        if "_target_" in part:
            yield part["_target_"]
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from _targets(inner)


def _refuse_unless_settings(target: Any) -> None:
    """Raise TypeError unless `target` names a dataclass, without a call of it: the configuration may be a stranger's.

    Raises HydraException where there is none of that name.
    """
    named = hydra.utils.instantiate({"_target_": target}, _partial_=True).func
    if not (isinstance(named, type) and dataclasses.is_dataclass(named)):
        raise TypeError(f"{target} is not a dataclass of settings")


def _refuse_other_kinds(what: str, settings: Any, node: DictConfig) -> None:
    """Raise BadInput where a value is of another kind than the default of its field: "no" is true to Python."""
    for field in dataclasses.fields(settings):
        value, kind = node.get(field.name, field.default), _kind(field.default)
        if kind is not None and value is not None and _kind(value) != kind:
            raise BadInput(f"{what}.{field.name} must be {kind}, not {value!r}")


def _kind(value: Any) -> str | None:
    """What a person calls the kind of a value; None of those that tell nothing."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a word"
    return "a list, as in [64,64]" if isinstance(value, tuple | list | ListConfig) else None


def identity(cfg: DictConfig, solver: Any, dataset: Any) -> dict[str, Any]:
    """The `config` of a record, of which its key is the hash. Raises BadInput."""
    budget, validation = limits(cfg)
    return {
        "solver": record.describe(solver),
        "dataset": record.describe(dataset),
        "budget": dataclasses.asdict(budget),
        "validation": dataclasses.asdict(validation),
        "evaluate": {"seconds": float(cfg.evaluate.seconds)},
        "seed": _seed(cfg.seed),
        "dtype": _dtype(cfg.dtype),
        "device": device_type(cfg.device),
        "threads": env.threads_allowed() if cfg.threads is None else _whole("threads", cfg.threads, 1),
        **_tuning(cfg),
    }


def _tuning(cfg: DictConfig) -> dict[str, Any]:
    """The budget of the search that found the settings; without one no part of the key. Raises BadInput."""
    from bench.search import Tuning

    given = _plain(cfg.tuning) if cfg.tuning is not None else {}
    if not any(part is not None for part in given.values()):
        return {}
    try:
        return {"tuning": dataclasses.asdict(Tuning(**given))}
    except (TypeError, ValueError) as error:
        raise BadInput(f"tuning: {error}") from None


def limits(cfg: DictConfig) -> "tuple[Budget, Validation]":
    """Budget and validation as `cfg` has them. Raises BadInput."""
    from bench.loop import Budget, Validation

    seconds = cfg.evaluate.seconds
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise BadInput(f"evaluate.seconds must be a number above 0, not {seconds!r}")
    try:
        return Budget(**_plain(cfg.budget)), Validation(**_plain(cfg.validation))
    except ValueError as error:
        raise BadInput(str(error)) from None
    except TypeError as error:
        raise BadInput(f"budget and validation: {error}") from None


def _plain(node: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=True)
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name} must be a whole number of {least} or more, not {value!r}")
    return value


def _seed(value: Any) -> int:
    if _whole("seed", value, 0) >= SEEDS:
        raise BadInput(f"seed must be less than 2^63, not {value}")
    return int(value)


def _dtype(name: Any) -> str:
    if name not in DTYPES:
        raise BadInput(f"dtype must be one of {', '.join(DTYPES)}, not {name!r}")
    return str(name)


def device_type(name: Any) -> str:
    """`cpu` or `cuda`; the machine that names the cells of a cluster need not have one. Raises BadInput."""
    match = re.fullmatch(r"(cpu|cuda)(?::(\d+))?", str(name))
    if match is None or (match[1] == "cpu" and match[2]):
        raise BadInput(f"device must be cpu, cuda or cuda:<number>, not {name!r}")
    return match[1]


def find_device(name: str) -> None:
    """Raise BadInput where that device is not there."""
    import torch

    there, (kind, _, number) = torch.cuda.device_count(), name.partition(":")
    if kind == "cuda" and int(number or 0) >= there:
        raise BadInput(f"device {name}: torch finds {there} CUDA devices here: use device=cpu")


def _measured(
    cfg: DictConfig, solver: "Solver", dataset: "Dataset", config: dict[str, Any], started: str, checkpoint: Path
) -> tuple[record.Record, Draw | None]:
    """Run the cell; its record, and what draws it. Raises BadInput for data that is missing, and KeyboardInterrupt."""
    import torch

    from bench.loop import failure
    from bench.measure import Noise

    begin, noise = time.monotonic(), Noise()
    device = torch.device(cfg.device)
    torch.set_default_dtype(getattr(torch, config["dtype"]))
    torch.set_num_threads(config["threads"])
    where = env.describe(config["device"], _model(device), config["threads"])
    parts: dict[str, Any] = {}
    draw: Draw | None = None
    try:
        problem = _loaded(cfg, dataset).to(device)
        status, reason, draw = _solved(cfg, solver, problem, config, checkpoint, parts)
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # nothing that is called here may end the process without a record
        status, reason = failure(error)
    if status != "ok":
        parts["metrics"], parts["certificates"] = {}, {}
    cost = parts.setdefault("cost", {})
    cost["wall_seconds"] = cost.get("wall_seconds", 0.0) + time.monotonic() - begin  # resumed runs: all of it
    parts["env"] = {**where, "noise": noise.read()}
    return record.new(config, status, reason, started, **tidy(parts)), draw


def _loaded(cfg: DictConfig, dataset: "Dataset") -> "Problem":
    from datasets.base import DataError
    from datasets.download import data_root

    try:
        return dataset.load(data_root(cfg.data.root))
    except (DataError, OSError) as error:
        raise BadInput(" ".join(str(error).split())) from None


def _solved(
    cfg: DictConfig,
    solver: "Solver",
    problem: "Problem",
    config: dict[str, Any],
    checkpoint: Path,
    parts: dict[str, Any],
) -> tuple[str, str, Draw | None]:
    """Status and reason of the run, and what draws it; what was found goes to `parts`, also where this raises."""
    from torch import Generator

    from bench import loop
    from bench.progress import Progress

    if why := solver.unfit(problem.source, problem.target):
        return "unfit", why, None
    rng = Generator(cfg.device).manual_seed(config["seed"])
    progress = Progress(record.title(config), bool(cfg.progress))
    outcome: Outcome = loop.run(solver, problem, rng, *limits(cfg), checkpoint, progress)
    parts["cost"] = {**outcome.tally.cost(), "wall_seconds": outcome.tally.wall_seconds}
    parts["trace"] = outcome.tally.trace
    if outcome.fit is None:
        return outcome.status, outcome.reason, None
    with progress:
        progress.now("judging")
        _judge(cfg, problem, outcome.fit, parts)
    return outcome.status, outcome.reason, partial(_draw, cfg, problem, outcome.fit)


def _judge(cfg: DictConfig, problem: "Problem", fit: "Fit", parts: dict[str, Any]) -> None:
    """Metrics, certificates, and the seconds that evaluation and sampling take."""
    from bench import accuracy
    from bench.certificates import certify
    from bench.metrics import evaluate

    transport = fit.transport("test")
    parts["cost"].update(parameters=transport.parameters, test_rows=len(problem.test))
    timing = inference(problem, transport, float(cfg.evaluate.seconds))
    parts["cost"].update(timing)
    if timing["evaluate_rows"] < len(problem.test):
        problem = dataclasses.replace(problem, test=problem.test[: timing["evaluate_rows"]])
    rng = _metrics_rng(cfg)
    parts["metrics"] = evaluate(problem, transport, rng)
    parts["certificates"] = certify(problem, fit, transport, rng)
    parts["cost"].update(accuracy.measure(fit, problem, float(cfg.evaluate.seconds)))  # last: it may use its buffers


def inference(problem: "Problem", transport: "Transport", seconds: float) -> dict[str, Any]:
    """The `evaluate_`, `estimate_` and `sample_` parts of a record's cost, None where the transport cannot.

    All test points, or as many as their evaluation, estimate and sampling, once each, get done in `seconds`; density
    and sampling are repeated three times at least where that stays below `seconds` too.
    """
    from statistics import median

    from torch import Generator

    from bench.measure import repeat, rows_within
    from solvers.base import Diverged

    test, device = problem.test, problem.test.device
    rng = Generator(device).manual_seed(METRICS_SEED)
    works: dict[str, Any] = {}
    if (log_prob := transport.log_prob) is not None:
        works["evaluate"] = lambda n: log_prob(test[:n])
    if (estimate := transport.log_prob_estimate) is not None:
        works["estimate"] = lambda n: estimate(test[:n])
    if (inverse := transport.inverse) is not None:
        works["sample"] = lambda n: inverse(problem.target.sample(n, rng))
    names = ("evaluate", "estimate", "sample")
    found: dict[str, Any] = {f"{name}_{what}": None for name in names for what in ("seconds", "repeats")}
    found["evaluate_rows"] = len(test)
    predicted = {}
    for name, work in works.items():
        try:
            found["evaluate_rows"], predicted[name] = rows_within(work, found["evaluate_rows"], seconds, device)
        except Diverged:
            continue
    for name, once in predicted.items():
        wanted = 1 if name == "estimate" else 3  # it is shown beside the density's seconds, in no comparison of its own
        least = min(wanted, max(1, int(seconds / max(once, 1e-9))))
        try:
            found[f"{name}_repeats"] = repeat(partial(works[name], found["evaluate_rows"]), device, least)
        except Diverged:
            continue
        found[f"{name}_seconds"] = median(found[f"{name}_repeats"])
    found["estimate_spread"] = estimate_spread(transport, test[: found["evaluate_rows"]])
    return found


def estimate_spread(transport: "Transport", test: "torch.Tensor") -> float | None:
    """Root mean square of log_prob_estimate - log_prob over at most SPREAD_ROWS rows drawn from `test`, in nats."""
    from torch import Generator

    from bench.metrics import subset
    from solvers.base import Diverged

    if transport.log_prob is None or transport.log_prob_estimate is None:
        return None
    x = subset(test, SPREAD_ROWS, Generator(test.device).manual_seed(METRICS_SEED))
    try:
        gaps = (transport.log_prob_estimate(x) - transport.log_prob(x)).detach().double()
    except Diverged:
        return None
    return gaps.square().mean().sqrt().item()


def _draw(cfg: DictConfig, problem: "Problem", fit: "Fit", path: Path) -> None:
    """The arrays of the figures, beside the record; without them the record still stands."""
    from bench import pictures

    try:
        pictures.save(path, problem, fit.transport("test"), _metrics_rng(cfg))
    except Exception as error:  # whatever a transport raises
        print(f"warning: no picture: {type(error).__name__}: {error}", file=sys.stderr)


def _metrics_rng(cfg: DictConfig) -> "torch.Generator":
    from torch import Generator

    return Generator(cfg.device).manual_seed(METRICS_SEED)


def _model(device: "torch.device") -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def tidy(value: Any) -> Any:
    """Plain data whose numbers are finite: None stands for the others."""
    from bench.tally import finite

    if isinstance(value, Mapping):
        return {str(name): tidy(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(part) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    return finite(float(value))


def _kept(made: record.Record, draw: Draw | None, runs: Path, checkpoint: Path) -> int:
    """Write the record, and then its picture, on which nothing waits; the exit status."""
    try:
        first = record.write(runs, made)
    except OSError as error:
        return complain(f"the record was not written ({error.strerror}): the same command tries again", NOT_WRITTEN)
    attempt.discard(checkpoint)
    _say(made, runs, "" if first else " [another process was first: its record stands]")
    if first and draw is not None:
        draw(_picture(runs, made["key"]))
    return OK if made["status"] == "ok" else FAILED


def _say(made: record.Record, runs: Path, remark: str) -> None:
    print(f"{record.line(made)}{remark}\nrecord {made['key']}: {runs / made['key']}.json")


if __name__ == "__main__":
    main()

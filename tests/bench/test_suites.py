import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from torch import Generator

from bench import record
from bench.run import build, identify, lenient
from datasets.base import Problem
from datasets.toy import Moons
from solvers.base import Solver
from solvers.ffjord import FFJORD
from solvers.otflow import OTFlow

CONF = Path(__file__).parents[2] / "bench" / "conf"
FLOWS = ("otflow", "ffjord", "rnode")


def jobs_of(arguments: list[str], typed: tuple[str, ...] = (), **suite: Any) -> list[str]:
    """The jobs that a sweep of `suite` launches, each as one string; `typed` are overrides of Hydra's own."""
    launched: list[Any] = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        from hydra_plugins.suites import SuiteSweeper  # Hydra makes the base class anew when it looks for plugins

        sweeper = SuiteSweeper(**suite)
        loader = GlobalHydra.instance().hydra.config_loader  # type: ignore[union-attr]
        sweeper.hydra_context = SimpleNamespace(config_loader=loader)  # type: ignore[assignment]
        sweeper.config = OmegaConf.create({"hydra": {"overrides": {"hydra": list(typed)}}})
        sweeper.launcher = SimpleNamespace(launch=lambda jobs, initial_job_idx: launched.extend(jobs))  # type: ignore[assignment]
        sweeper.sweep(arguments)
    return [" ".join(job) for job in launched]


def test_products_run_one_after_the_other() -> None:
    products = [{"solver": "otflow,ffjord", "seed": "0,1"}, {"solver": "moments", "seed": 0}]
    assert jobs_of(["budget.steps=3"], params={"dataset": "moons"}, products=products) == [
        "dataset=moons solver=otflow seed=0 budget.steps=3",
        "dataset=moons solver=otflow seed=1 budget.steps=3",
        "dataset=moons solver=ffjord seed=0 budget.steps=3",
        "dataset=moons solver=ffjord seed=1 budget.steps=3",
        "dataset=moons solver=moments seed=0 budget.steps=3",
    ]


def test_the_command_line_replaces_lists_and_no_cell_runs_twice() -> None:
    products = [{"solver": "otflow,ffjord", "seed": "0,1"}, {"solver": "moments", "seed": 0}]
    assert jobs_of(["solver=moments"], products=products) == ["solver=moments seed=0", "solver=moments seed=1"]


@pytest.mark.parametrize("prefix", ["", "++"])
@pytest.mark.parametrize("word", ["dataset=circles", "++solver.width=8", "solver.width=8"])
def test_a_name_in_products_of_the_command_line_and_beside_them_is_refused(prefix: str, word: str) -> None:
    products = [{"dataset": "moons", "solver.width": "16,32"}]
    typed = (f"{prefix}hydra.sweeper.products=[{{dataset:moons,solver.width:'16,32'}}]",)
    assert len(jobs_of(["budget.steps=3"], typed, products=products)) == 2
    with pytest.raises(HydraException, match="and beside it: write it once"):
        jobs_of([word], typed, products=products)
    assert jobs_of([word], products=products), "a suite's products may be narrowed"


def test_without_products_it_is_the_basic_sweeper() -> None:
    assert jobs_of(["seed=0,1"]) == ["seed=0", "seed=1"]


def test_several_suites_at_once_are_refused() -> None:
    with pytest.raises(HydraException, match="suite takes one name"):
        jobs_of(["suite=quick,tabular"])


def test_the_hard_limit_leaves_time_to_judge() -> None:
    from hydra_plugins.isolated import IsolatedLauncher

    with initialize_config_dir(str(CONF), version_base="1.3"):
        endless, minute = (compose("config", overrides=[f"budget.seconds={s}"]) for s in ("null", 60))
    assert IsolatedLauncher()._limit(endless) == 24 * 3600
    assert IsolatedLauncher()._limit(minute) == 3 * 60 + 300 + 8 * 300
    assert IsolatedLauncher(limit_seconds=5.0)._limit(minute) == 5.0


def test_the_quick_suite() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=["suite=quick"], return_hydra_config=True)
    sweeper = cfg.hydra.sweeper
    jobs = jobs_of([], params=sweeper.params, products=sweeper.products)
    datasets = ("8gaussians", "moons", "breast_cancer", "digits")
    cells = {d: f"dataset={d} budget.seconds={9 if d in datasets[:2] else 4}" for d in datasets}
    flows = [f"{cells[d]} seed={n} solver={s}" for d in datasets for n in (0, 1, 2) for s in ("otflow", "ffjord")]
    transports = {
        f"dataset={d} budget.seconds=15 seed=0 dtype=float64 solver={s}"
        for d in ("gaussians", "mixture_to_gaussian")
        for s in ("moments", "exact", "sinkhorn", "neural_hjb")
    }
    assert set(jobs) == {*flows, *(f"{cells[d]} seed=0 solver=moments" for d in datasets), *transports}
    assert len(jobs) == 36
    assert [job for job in jobs if job in flows] == flows, "solvers take turns"


def test_published_settings_come_between_configuration_and_suite() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = compose("config", overrides=["tuned=none"])
        tuned = compose("config")
        quick = compose("config", overrides=["suite=quick", "budget.seconds=7"])
    assert "alpha_nll" not in plain.solver
    assert "alpha_nll" in tuned.solver
    assert quick.validation.rows == 500
    assert quick.budget.seconds == 7


def jobs_of_suite(name: str, *arguments: str) -> list[str]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[f"suite={name}"], return_hydra_config=True)
    sweeper = cfg.hydra.sweeper
    return jobs_of(list(arguments), params=sweeper.params, products=sweeper.products, suites=sweeper.suites)


def test_the_toy_suite_has_three_seeds_of_the_compared_flows_and_one_of_the_others() -> None:
    jobs = jobs_of_suite("toy")
    for solver in FLOWS:
        assert sum(job.endswith(f"solver={solver}") for job in jobs) == 8 * 3
    for solver in ("cfm", "otcfm", "otflow_warm", "cfm_moments", "cfm_soap", "maf", "nsf", "moments"):
        assert sum(job.endswith(f"solver={solver}") for job in jobs) == 8


def test_a_suite_of_suites_has_their_cells_with_their_settings() -> None:
    jobs, toys = jobs_of_suite("paper"), jobs_of_suite("toy")
    assert [job for job in jobs if job.startswith("budget.seconds=90 validation.rows=2000")][: len(toys)] == [
        f"budget.seconds=90 validation.rows=2000 {job}" for job in toys
    ]
    own = 2 * 3 * 2 + 2 * 2 * 2 + 6 * 2  # flow matching's problems, and its other seeds on the toys
    own += 2 * 3 * 2  # the exact trace and an estimated one
    suites = ("toy", "tabular_small", "discretize", "width", "transport")
    assert len(jobs) == own + sum(len(jobs_of_suite(name)) for name in suites)


def parameters(solver: Solver, moons: Problem) -> int | None:
    return solver.start(moons.source, moons.target, Generator().manual_seed(0)).transport("test").parameters


@pytest.mark.slow
def test_widths_of_all_solvers_span_alike_ranges_of_parameters() -> None:
    jobs = [job.split() for job in jobs_of_suite("width") if "dataset=moons seed=0" in job]
    of = {name: [json.loads(job[-1].partition("=")[2]) for job in jobs if f"solver={name}" in job] for name in FLOWS}
    moons = Moons().load(Path())
    assert [parameters(OTFlow(width=width), moons) for width in of["otflow"]] == [53, 125, 365, 1229, 4493, 9805]
    assert [parameters(FFJORD(hidden=hidden), moons) for hidden in of["ffjord"]] == [104, 264, 776, 2568, 9224]
    assert of["rnode"] == of["ffjord"]


def test_the_published_widths_are_cells_of_the_toy_suite() -> None:
    def key(suite: str, *own: str) -> str:
        given = [f"suite={suite}", "dataset=moons", "seed=1", "threads=2", *own]
        return record.key(identify(compose("config", given)))

    with initialize_config_dir(str(CONF), version_base="1.3"):
        for solver, width in (("otflow", "width=32"), ("ffjord", "hidden=[64,64,64]"), ("rnode", "hidden=[64,64,64]")):
            own = f"solver={solver}", f"++solver.{width}"
            assert key("width", *own) == key("toy", own[0])


@pytest.mark.parametrize("suite", ["tabular", "tabular_small", "mnist_latent"])
def test_a_suite_validates_all_solvers_on_a_dataset_alike(suite: str) -> None:
    dataset = {"tabular": "miniboone", "tabular_small": "miniboone_small"}.get(suite, suite)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = [
            compose("config", [f"suite={suite}", f"dataset={dataset}", f"solver={solver}"]).validation
            for solver in ("otflow", "ffjord", "cfm", "maf")
        ]
    assert all(one == found[0] for one in found), "or the report compares nothing"


def test_a_suite_of_a_suite_that_is_not_there() -> None:
    with pytest.raises(HydraException, match=r"no suite toys: choose from .*toy"):
        jobs_of([], suites=["toys"])


def cells_of_suites(every: bool) -> set[tuple[str, ...]]:
    """Of each product of each suite the first cell; with `every`, one for each value too."""
    parser, found = OverridesParser.create(), set()
    for path in sorted((CONF / "suite").glob("*.yaml")):
        sweeper: Any = OmegaConf.to_container(OmegaConf.load(path).hydra.sweeper)
        for product in sweeper.get("products", ()):
            words = [f"{name}={value}" for name, value in {**sweeper.get("params", {}), **product}.items()]
            overrides = parser.parse_overrides([word for given in words for word in lenient(given)])
            choices = [
                [f"{o.get_key_element()}={v}" for v in (
                    o.sweep_string_iterator() if o.is_sweep_override() else [o.get_value_element_as_str()])]
                for o in overrides
            ]  # fmt: skip
            first = [values[0] for values in choices]
            for i, values in enumerate(choices):
                found |= {(*first[:i], value, *first[i + 1 :]) for value in values[: None if every else 1]}
    return found


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_suite_names_cells_that_can_be_built(every: bool) -> None:
    """Configurations are composed and solver and dataset are made, as a sweep would."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for cell in cells_of_suites(every):
            build(compose("config", list(cell)))

"""The files of bench/conf/tuned/ against the published numbers (bench/conf/tuned says where each was read)."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from solvers.potential import Potential

CONF = Path(__file__).parents[1] / "bench/conf"
TUNED = sorted(path.stem for path in (CONF / "tuned").glob("*.yaml"))

# alpha_C, alpha_R, width, steps of training, validation and test, batch, rate, drop factor, iterations, validations
OTFLOW = {
    "power": (500, 5, 128, 10, 22, 24, 10_000, 0.03, 10, 36_000, 30),
    "gas": (1200, 40, 350, 10, 28, 30, 2_000, 0.01, 10, 60_000, 50),
    "hepmass": (500, 40, 256, 12, 24, 24, 2_000, 0.02, 10, 40_000, 50),
    "miniboone": (100, 15, 256, 6, 10, 18, 2_000, 0.02, 10, 8_000, 20),
    "bsds300": (2000, 800, 512, 14, 30, 40, 300, 0.001, 3.3, 120_000, 100),
}
# alpha_C, alpha_R, steps of training and validation, batch, rate, halved every, iterations
OTFLOW_TOYS = {
    "8gaussians_2022": (30, 1, 8, 12, 5_000, 0.1, 500, 5_000),
    "checkerboard": (15, 2, 12, 16, 10_000, 0.05, 1_000, 20_000),
    "swissroll": (30, 15, 8, 16, 5_000, 0.05, 1_000, 5_000),
    "circles": (5, 1, 8, 12, 5_000, 0.05, 1_000, 5_000),
    "moons": (8, 1, 8, 12, 5_000, 0.05, 1_000, 5_000),
    "pinwheel": (30, 15, 8, 12, 5_000, 0.05, 1_000, 5_000),
    "2spirals": (10, 1, 8, 12, 5_000, 0.05, 1_000, 5_000),
}
# dimension, nonlinearity, layers, width multiplier, flows, batch
FFJORD_TABULAR = {
    "power": (6, "tanh", 3, 10, 5, 10_000),
    "gas": (8, "tanh", 3, 20, 5, 1_000),
    "hepmass": (21, "softplus", 2, 10, 10, 10_000),
    "miniboone": (43, "softplus", 2, 20, 1, 1_000),
    "bsds300": (63, "softplus", 3, 20, 2, 10_000),
}
PARAMETERS = {
    "8gaussians": 1_229,
    "power": 17_721,
    "gas": 126_791,
    "hepmass": 72_179,
    "miniboone": 78_053,
    "bsds300": 297_153,
}
DIM = {"8gaussians": 2} | {name: row[0] for name, row in FFJORD_TABULAR.items()}


def tuned(name: str):
    return OmegaConf.load(CONF / "tuned" / f"{name}.yaml")


def solver_of(name: str) -> str:
    """The solver that the file's name begins with: of otflow and otflow_warm the longer one."""
    return max((p.stem for p in (CONF / "solver").glob("*.yaml") if name.startswith(f"{p.stem}_")), key=len)


def built(name: str):
    target = OmegaConf.load(CONF / "solver" / f"{solver_of(name)}.yaml")
    return instantiate(OmegaConf.merge(target, tuned(name).solver), _convert_="all")


@pytest.mark.parametrize("name", TUNED)
def test_every_file_builds_its_solver(name):
    assert type(built(name)).__module__ == f"solvers.{solver_of(name)}"


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "dataset").glob("*.yaml")))
def test_a_dataset_tuned_for_one_flow_is_tuned_for_the_other(name):
    assert (f"otflow_{name}" in TUNED) == (f"ffjord_{name}" in TUNED)


@pytest.mark.parametrize("variant", ["otflow_warm", "otflow_hutchinson"])
@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "dataset").glob("*.yaml")))
def test_a_variant_has_otflows_own_settings(name, variant):
    assert (f"{variant}_{name}" in TUNED) == (f"otflow_{name}" in TUNED)
    if f"otflow_{name}" in TUNED:
        assert tuned(f"{variant}_{name}") == tuned(f"otflow_{name}")


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "dataset").glob("*.yaml")))
def test_flow_matching_after_the_moments_has_the_settings_of_flow_matching(name):
    density = not name.endswith("_to_8gaussians")  # those are judged by their paths, and it has none
    assert (f"cfm_moments_{name}" in TUNED) == (f"cfm_{name}" in TUNED and density)
    if f"cfm_moments_{name}" in TUNED:
        assert tuned(f"cfm_moments_{name}") == tuned(f"cfm_{name}")


@pytest.mark.parametrize("name", OTFLOW)
def test_otflow_on_tabular_data(name):
    s, published = built(f"otflow_{name}"), OTFLOW[name]
    found = (s.alpha_nll, s.alpha_hjb, s.width, s.n_steps, s.n_steps_valid, s.n_steps_test, s.batch_size, s.lr)
    assert (*found, s.lr_drop_factor, s.max_steps, tuned(f"otflow_{name}").validation.every) == published
    assert (s.depth, s.rank, s.clamp, s.lr_drop_steps) == (2, 10, 1.5, None)


@pytest.mark.parametrize("name", OTFLOW_TOYS)
def test_otflow_on_toys(name):
    s = built(f"otflow_{name}")
    found = (s.alpha_nll, s.alpha_hjb, s.n_steps, s.n_steps_valid, s.batch_size, s.lr, s.lr_drop_steps, s.max_steps)
    assert found == OTFLOW_TOYS[name]
    assert (s.width, s.depth, s.rank, s.lr_drop_factor, s.lr_patience) == (32, 2, 10, 2, None)


@pytest.mark.parametrize("name", FFJORD_TABULAR)
def test_ffjord_on_tabular_data(name):
    s = built(f"ffjord_{name}")
    dim, nonlinearity, layers, multiplier, flows, batch = FFJORD_TABULAR[name]
    assert s.hidden == (multiplier * dim,) * layers
    assert (s.nonlinearity, s.n_blocks, s.batch_size) == (nonlinearity, flows, batch)
    assert (s.divergence, s.method, s.atol, s.rtol, s.lr) == ("hutchinson", "dopri5", 1e-8, 1e-6, 1e-3)
    assert (s.weight_decay, s.adjoint, tuned(f"ffjord_{name}").validation.every) == (1e-6, True, 200)


@pytest.mark.parametrize("name", DIM)
def test_otflows_numbers_of_parameters(name):
    s = built(f"otflow_{name}")
    assert sum(p.numel() for p in Potential(DIM[name], s.width, s.depth, s.rank).parameters()) == PARAMETERS[name]


def test_the_masked_flow_that_miniboone_small_is_measured_against():
    pytest.importorskip("zuko", reason="the solver is an extra")
    s = built("maf_miniboone_small")
    assert sum(p.numel() for p in s.network(43).parameters()) == 166_190
    assert (s.optimizer, s.weight_decay) == ("adamw", 1e-2)


def test_neural_hjb_on_its_papers_problem():
    s = built("neural_hjb_mixture_to_gaussian")
    assert (s.alpha1, s.alpha3, s.alpha4, s.alpha5) == (2, 5, 3, 3)
    assert (s.n_steps, s.level_steps, s.resample_every, s.optimizer, s.width) == (2, 500, 25, "bfgs", 16)
    assert [s.levels(d) for d in (2, 10, 50, 100)] == [
        (32**2, 48**2), (64**2, 80**2), (112**2, 128**2), (160**2, 192**2)
    ]  # fmt: skip
    assert tuned("neural_hjb_mixture_to_gaussian").dtype == "float64"


def test_published_settings_are_picked_up_by_themselves():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=["solver=otflow", "dataset=miniboone"])
        assert (cfg.solver.width, cfg.validation.every) == (256, 20)
        assert compose("config", overrides=["dataset=8gaussians", "tuned=otflow_8gaussians_2022"]).dtype == "float64"
        warm = compose("config", overrides=["solver=otflow_warm", "dataset=miniboone"])
        assert (warm.solver.width, warm.validation.every) == (256, 20)

"""Certificates pass for exact transports and fail when they must."""

import math
from dataclasses import dataclass, replace
from itertools import product

import pytest
import torch
from torch import Tensor

from bench import certificates
from bench.certificates import CELLS, certify, mass
from bench.grid import Box, box_around, density_on, integral
from datasets.base import Problem
from datasets.gaussians import Gaussian, random_gaussian, standard_normal, transport_map
from datasets.mixtures import ring
from solvers.base import Diverged, Transport
from tests.oracles import Ridges

ALL = {"finite", "inverse", "nll_effort", "nll_valid", "density_integral"}


@dataclass
class Answers:
    """A fit that has a transport ready for effort 2, and one for validations: the same, if none is given."""

    finer: Transport
    valid: Transport | None = None

    def transport(self, use: str = "test", effort: float = 1.0) -> Transport:
        assert (use, effort) in (("test", 2.0), ("valid", 1.0))
        return self.valid or self.finer if use == "valid" else self.finer


def exact(dim: int, rng) -> tuple[Problem, Transport]:
    source, target = random_gaussian(dim, rng), standard_normal(dim)
    transport = Transport(transport_map(source, target), transport_map(target, source), source.log_prob)
    return Problem(source, target, source.sample(3000, rng)), transport


def failed(found: dict) -> set[str]:
    return {name for name, certificate in found.items() if not certificate["ok"]}


@pytest.mark.parametrize("dim", [1, 2])
def test_the_exact_transport_passes(dim, rng):
    problem, transport = exact(dim, rng)
    found = certify(problem, Answers(transport), transport, rng)
    assert set(found) == ALL
    assert failed(found) == set()
    assert found["nll_effort"]["value"] == found["finite"]["value"] == 0
    assert found["inverse"]["value"] < 1e-12
    assert found["density_integral"]["value"] < 1e-5
    assert {n: c["limit"] for n, c in found.items()} == {
        "finite": 0.0, "inverse": 1e-2, "nll_effort": 0.01, "nll_valid": 0.01, "density_integral": 1e-3
    }  # fmt: skip


def test_the_integral_is_left_out_in_higher_dimensions(rng):
    problem, transport = exact(3, rng)
    assert set(certify(problem, Answers(transport), transport, rng)) == ALL - {"density_integral"}


def test_what_a_transport_cannot_give_is_left_out(rng):
    problem, transport = exact(2, rng)
    assert set(certify(problem, Answers(transport), Transport(forward=transport.forward), rng)) == {"finite"}
    maps = Transport(transport.forward, lambda z: transport.inverse(z) + 1)  # two estimates, as a coupling gives them
    assert set(certify(problem, Answers(maps), maps, rng)) == {"finite"}
    only = Transport(log_prob=transport.log_prob)
    assert set(certify(problem, Answers(only), only, rng)) == ALL - {"inverse"}


def test_a_wrong_log_determinant_fails(rng):
    problem, transport = exact(2, rng)
    twice = replace(transport, log_prob=lambda x: transport.log_prob(x) + math.log(2))
    found = certify(problem, Answers(twice), twice, rng)
    assert failed(found) == {"density_integral"}
    assert found["density_integral"]["value"] == pytest.approx(1, abs=1e-5)


def test_a_slightly_wrong_log_determinant_fails(rng):
    problem, transport = exact(2, rng)
    off = replace(transport, log_prob=lambda x: transport.log_prob(x) + 1.5e-3)
    assert failed(certify(problem, Answers(off), off, rng)) == {"density_integral"}


def test_a_wrong_inverse_fails(rng):
    problem, transport = exact(2, rng)
    shifted = replace(transport, inverse=lambda z: transport.inverse(z) + torch.tensor([0.0, 0.02]))
    found = certify(problem, Answers(shifted), shifted, rng)
    assert failed(found) == {"inverse"}
    assert found["inverse"]["value"] == pytest.approx(0.02)


def test_a_log_likelihood_that_moves_with_the_effort_fails(rng):
    problem, transport = exact(2, rng)
    finer = replace(transport, log_prob=lambda x: transport.log_prob(x) - 0.02)
    found = certify(problem, Answers(finer, valid=transport), transport, rng)
    assert failed(found) == {"nll_effort"}
    assert found["nll_effort"]["value"] == pytest.approx(0.02)


def test_validations_of_another_log_likelihood_fail_where_they_go_by_it(rng):
    problem, transport = exact(2, rng)
    better = replace(transport, log_prob=lambda x: transport.log_prob(x) + 0.02)
    found = certify(problem, Answers(transport, valid=better), transport, rng)
    assert failed(found) == {"nll_valid"}
    assert found["nll_valid"]["value"] == pytest.approx(0.02)
    own = replace(transport, objective=transport.log_prob)
    assert set(certify(problem, Answers(own, valid=better), own, rng)) == ALL - {"nll_valid"}
    mute = replace(transport, log_prob=None)  # as the grid solver's
    assert set(certify(problem, Answers(transport, valid=mute), transport, rng)) == ALL - {"nll_valid"}


@pytest.mark.parametrize(("part", "bad"), [*product(["forward", "inverse", "log_prob"], [math.nan, math.inf])])
def test_one_number_that_is_not_finite_fails(part, bad, rng):
    problem, transport = exact(3, rng)

    def spoilt(x: Tensor) -> Tensor:
        values = getattr(transport, part)(x).clone()
        values[0] = bad
        return values

    found = certify(problem, Answers(transport), replace(transport, **{part: spoilt}), rng)
    assert {"finite"} <= failed(found)
    assert 0 < found["finite"]["value"] < 1e-2
    for consequence in ("nll_effort", "nll_valid") if part == "log_prob" else ("inverse",):
        assert found[consequence] == {"value": None, "limit": found[consequence]["limit"], "ok": False}


def test_a_breakdown_is_a_failed_certificate(rng):
    problem, transport = exact(2, rng)

    def underflow(x: Tensor) -> Tensor:
        raise Diverged("underflow in dt")

    found = certify(problem, Answers(replace(transport, log_prob=underflow)), transport, rng)
    assert failed(found) == {"nll_effort", "nll_valid"}
    assert found["nll_effort"]["value"] is None


def test_mass_that_the_data_do_not_show_is_missed(rng):
    """A density with half its mass far from its own samples integrates to 1/2 around them."""
    problem, transport = exact(2, rng)
    far = Gaussian(problem.source.mean + 100, problem.source.covariance)
    halves = replace(
        transport, log_prob=lambda x: torch.logaddexp(transport.log_prob(x), far.log_prob(x)) - math.log(2)
    )
    found = certify(problem, Answers(halves), halves, rng)
    assert found["density_integral"]["value"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("deviation", [0.5, 0.1, 0.05, 0.02])
def test_the_mass_of_sharp_mixtures(deviation, rng):
    mixture = ring(4.0, deviation**2)
    problem = Problem(mixture, standard_normal(2), mixture.sample(10_000, rng))
    found = mass(problem, Transport(log_prob=mixture.log_prob), mixture.log_prob, rng)
    assert found == pytest.approx(1, abs=1e-6)


class Pushed:
    """The law of inverse(z), z normal."""

    dim = 2

    def __init__(self, ridges: Ridges) -> None:
        self.ridges = ridges

    def sample(self, n, rng):
        return self.ridges.inverse(torch.randn(n, 2, generator=rng))


@pytest.mark.parametrize("width", [1 / 3, 1 / 10, 1 / 30])
def test_the_mass_of_a_potential_map_with_ridges(width, rng):
    W, a, b = torch.randn(6, 2, generator=rng) / width, torch.rand(6, generator=rng) * 6, torch.randn(6, generator=rng)
    ridges = Ridges(W, a * width, b / width)
    problem = Problem(Pushed(ridges), standard_normal(2), ridges.inverse(torch.randn(3000, 2, generator=rng)))
    transport = Transport(ridges.forward, ridges.inverse, ridges.log_prob)
    found = certify(problem, Answers(transport), transport, rng)
    assert failed(found) == set()
    assert found["density_integral"]["value"] < 3e-4


def test_the_grid_is_refined_only_where_it_must_be(rng, monkeypatch):
    sizes = []

    def spy(box: Box, cells: int, log_prob) -> Tensor:
        sizes.append(cells)
        return density_on(box, cells, log_prob)

    monkeypatch.setattr(certificates, "density_on", spy)
    for deviation in (0.5, 0.02):
        mixture = ring(4.0, deviation**2)
        problem = Problem(mixture, standard_normal(2), mixture.sample(2000, rng))
        mass(problem, Transport(log_prob=mixture.log_prob), mixture.log_prob, rng)
    assert sizes == [CELLS[2], CELLS[2], 2 * CELLS[2], 4 * CELLS[2]]


def test_the_trapezoid_rule_is_exact_for_bilinear_functions():
    box = Box(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 1.0]))
    values = density_on(box, 5, lambda x: torch.log(x[:, 0] * (x[:, 1] + 3)))
    assert values.shape == (6, 6)
    assert values[0, -1].item() == pytest.approx(1 * 4)  # first axis first
    assert integral(values, box) == pytest.approx(4 * 7.5)  # [x^2/2] = 4, [y^2/2 + 3 y] = -1.5 + 9


def test_the_trapezoid_rule_is_off_by_what_the_docstring_says():
    box = Box(torch.tensor([-10.0]), torch.tensor([10.0]))
    for h in (2.0, 1.0):
        values = density_on(box, round(20 / h), standard_normal(1).log_prob)
        predicted = 2 * math.exp(-2 * math.pi**2 / h**2)
        assert integral(values, box) - 1 == pytest.approx(predicted, rel=1e-4)


def test_the_box_has_its_margin():
    box = box_around(torch.tensor([[0.0, 1.0], [2.0, 5.0]]), 0.25)
    assert box.low.tolist() == [-0.5, 0.0]
    assert box.high.tolist() == [2.5, 6.0]


def test_float32_densities_are_summed_in_float64(rng):
    torch.set_default_dtype(torch.float32)
    mixture = ring(4.0, 0.25)
    problem = Problem(mixture, standard_normal(2), mixture.sample(10_000, rng))
    assert problem.test.dtype == torch.float32
    assert density_on(box_around(problem.test, 0.1), 8, mixture.log_prob).dtype == torch.float64
    assert mass(problem, Transport(log_prob=mixture.log_prob), mixture.log_prob, rng) == pytest.approx(1, abs=1e-5)


def test_the_sampling_bias_is_the_share_of_the_cost_between_samples_of_one_law(rng):
    problem, _ = exact(3, rng)
    for bias, ok in ((0.049, True), (0.051, False)):
        said = Transport(cost=2.0, same_law_cost=lambda bias=bias: 2 * bias)
        found = certify(problem, Answers(said), said, rng)["sampling_bias"]
        assert found == {"value": pytest.approx(bias), "limit": 0.05, "ok": ok}
    for bare in (Transport(cost=2.0), Transport(same_law_cost=lambda: 1.0)):
        assert "sampling_bias" not in certify(problem, Answers(bare), bare, rng)
    nothing = Transport(cost=0.0, same_law_cost=lambda: 0.0)
    assert not certify(problem, Answers(nothing), nothing, rng)["sampling_bias"]["ok"]


def test_straightness_is_what_curves_are_longer_than_lines(rng):
    """A detour of half the distance to one side and back, at even speed along either half: twice the energy."""
    problem, transport = exact(2, rng)
    line = replace(transport, cost=1.0, energy=lambda x: (transport.forward(x) - x).square().sum(1) / 2)
    assert certify(problem, Answers(line), line, rng)["straightness"]["value"] == pytest.approx(0.0, abs=1e-12)
    detour = replace(line, energy=lambda x: 2 * line.energy(x))
    found = certify(problem, Answers(detour), detour, rng)["straightness"]
    assert found == {"value": pytest.approx(1.0), "limit": 0.02, "ok": False}
    still = replace(line, forward=lambda x: x, inverse=lambda x: x)  # of no length: nothing to be compared with
    assert certify(problem, Answers(still), still, rng)["straightness"]["ok"] is False
    assert "straightness" not in certify(problem, Answers(line), replace(line, cost=None), rng)


def test_a_transport_brings_certificates_of_its_own(rng):
    problem, transport = exact(3, rng)

    def breaks():
        raise Diverged("no convergence")

    own = {"met": lambda: (1.0, 1.0), "missed": lambda: (1.1, 1.0), "nan": lambda: (math.nan, 1.0), "broken": breaks}
    found = certify(problem, Answers(transport), Transport(certificates=own, same_law_cost=breaks, cost=1.0), rng)
    assert found["met"] == {"value": 1.0, "limit": 1.0, "ok": True}
    assert found["missed"] == {"value": 1.1, "limit": 1.0, "ok": False}
    assert found["nan"] == {"value": None, "limit": 1.0, "ok": False}
    assert found["broken"] == {"value": None, "limit": None, "ok": False}
    assert found["sampling_bias"] == {"value": None, "limit": 0.05, "ok": False}

"""What a transport is judged by: METRICS, name -> f(evaluation) -> float | None.

A metric is None where the transport cannot give it or the truth is not known. Distances between samples compare
generated points, inverse(target.sample(n)), with as many test points, at most MAX_ROWS of each. All sums are taken
in float64. A metric named `relaxed_...` is held against `Problem.relaxed(transport.relaxation)`, every other one
against `Problem.truth`. To add a metric, write the function, formula and source in its docstring, and add it to the
list below.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from bench.upwind import Advected, compare
from datasets.base import Density, Measure, Points, Problem, Truth, Values
from datasets.gaussians import Gaussian
from datasets.gaussians import transport_cost as gelbrich_cost
from solvers.base import Diverged, Transport
from solvers.exact import empirical_cost

MAX_ROWS = 10_000
TARGET_SEED = 0x7A26E7  # far from the seeds of runs, and from that of test points
MOMENT_ROWS = 2**14
COUPLED_ROWS = 2000
COUPLED_DIM = 3
PROJECTIONS = 200
CHUNK = 100  # rows of a block of distances: 8 MB of 10,000 columns, which stays in cache


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A transport at work on a problem; each expensive part is computed once, when first asked for.

    Every part is None where the transport does not give it. Raises Diverged where one is not finite.
    """

    problem: Problem
    transport: Transport
    rng: Generator

    @cached_property
    def log_q(self) -> Values | None:
        """The transport's log-density at the test points (n,)."""
        if self.transport.log_prob is None:
            return None
        return finite("log_prob", self.transport.log_prob(self.problem.test))

    @cached_property
    def log_p(self) -> Values | None:
        """The exact log-density of the source at the test points (n,), where the source knows it."""
        if not isinstance(self.problem.source, Density):
            return None
        return finite("the exact log-density", self.problem.source.log_prob(self.problem.test))

    @cached_property
    def forward(self) -> Points | None:
        """The test points, carried to the target (n, d)."""
        if self.transport.forward is None:
            return None
        return finite("forward", self.transport.forward(self.problem.test))

    @cached_property
    def energy(self) -> Values | None:
        """int 1/2 |v|^2 dt along the curves from the test points (n,)."""
        if self.transport.energy is None:
            return None
        return finite("energy", self.transport.energy(self.problem.test))

    @cached_property
    def back(self) -> Points | None:
        """The test points, carried to the target and back (n, d)."""
        if self.forward is None or self.transport.inverse is None:
            return None
        return finite("inverse", self.transport.inverse(self.forward.to(self.problem.test.dtype)))

    @cached_property
    def optimal(self) -> Points | None:
        """The test points under the optimal map (n, d), where that is known."""
        return None if self.problem.truth.map is None else finite("the optimal map", self.problem.truth.map(self.test))

    @cached_property
    def relaxed(self) -> Truth | None:
        """The truth of the relaxed problem that the transport solves; None if it is not known or it solves none."""
        weight, relaxed = self.transport.relaxation, self.problem.relaxed
        if weight is None or relaxed is None:
            return None
        try:
            return relaxed(weight)
        except ArithmeticError:  # a weight so small that the truth's own solver finds no minimiser
            return None

    @cached_property
    def relaxed_optimal(self) -> Points | None:
        """The test points under the optimal map of the relaxed problem (n, d)."""
        if self.relaxed is None or self.relaxed.map is None:
            return None
        return finite("the relaxed optimal map", self.relaxed.map(self.test))

    @cached_property
    def targets(self) -> Points:
        """Points of the target (n, d) in float64, as many as test points: the same ones for every transport.

        Where the optimal map is known and its inverse is not, they are the images of the test points, whose optimal
        inverse is known all the same (Korotin et al. 2021, section 4).
        """
        if self.problem.truth.inverse is None and self.optimal is not None:
            return self.optimal
        return fixed_draw(self.problem.target, len(self.problem.test)).to(self.test)

    @cached_property
    def inverse(self) -> Points | None:
        """`targets`, carried to the source (n, d)."""
        if self.transport.inverse is None:
            return None
        return finite("inverse", self.transport.inverse(self.targets.to(self.problem.test.dtype)))

    @cached_property
    def optimal_inverse(self) -> Points | None:
        """`targets` under the optimal inverse map (n, d), where that is known."""
        inverse = self.problem.truth.inverse
        if inverse is None:
            return None if self.optimal is None else self.test
        return finite("the optimal inverse map", inverse(self.targets))

    @cached_property
    def advected(self) -> tuple[Advected, Advected] | None:
        """The source carried forward and the target backward by upwinding, for transports of relaxed problems."""
        p = self.problem
        if self.transport.relaxation is None:
            return None
        return compare(p.source, p.target, self.transport, p.test.dtype, device=p.test.device)

    @cached_property
    def target_variance(self) -> Values:
        """The variance of each of the target's coordinates (d,), from MOMENT_ROWS draws unless it is a Gaussian."""
        return moments(self.problem.target, None).covariance.diagonal().to(self.test)

    @cached_property
    def same_law_cost(self) -> float | None:
        """Transport.same_law_cost(); None also where it breaks down, which its certificate then says."""
        try:
            return None if self.transport.same_law_cost is None else self.transport.same_law_cost()
        except Diverged:
            return None

    @cached_property
    def coupled(self) -> Tensor | None:
        """Which test points are coupled exactly: COUPLED_ROWS at most. None beyond COUPLED_DIM dimensions."""
        if self.test.shape[1] > COUPLED_DIM:
            return None
        return subset(torch.arange(len(self.test)), COUPLED_ROWS, Generator().manual_seed(TARGET_SEED))

    @cached_property
    def optimum(self) -> tuple[Tensor | slice, float] | None:
        """The optimal cost, and the test points that have it: all where it is known, else those of `coupled`.

        Between `coupled` points and as many of the target it is too high by the bias of samples, O(n^-1/2) up to
        three dimensions and O(n^-1 log n) on the plane for smooth densities (Fournier and Guillin 2015; Ambrosio,
        Stra and Trevisan 2019).
        """
        if self.problem.truth.cost is not None:
            return slice(None), self.problem.truth.cost
        if self.coupled is None:
            return None
        return self.coupled, empirical_cost(self.test[self.coupled], self.targets[self.coupled])

    @property
    def test(self) -> Points:
        """The test points (n, d) in float64."""
        return self.problem.test.double()

    @cached_property
    def generated(self) -> Points | None:
        """Points drawn from the model (min(n, MAX_ROWS), d)."""
        if self.transport.inverse is None:
            return None
        n = min(len(self.problem.test), MAX_ROWS)
        return finite("inverse", self.transport.inverse(self.problem.target.sample(n, self.rng)))

    @cached_property
    def held_out(self) -> Points:
        """Test points to compare the generated ones with (min(n, MAX_ROWS), d)."""
        return subset(self.test, MAX_ROWS, self.rng)

    @cached_property
    def pairs(self) -> "tuple[Pairs, Pairs, Pairs] | None":
        """Sums over pairs: generated-generated, test-test, generated-test. None for fewer than two points."""
        if self.generated is None or len(self.held_out) < 2:
            return None
        x, y = self.generated, self.held_out
        return Pairs.of(x, x), Pairs.of(y, y), Pairs.of(x, y)


Metric = Callable[[Evaluation], float | None]


@dataclass(frozen=True)
class Pairs:
    """Sums over all pairs (x_i, y_j), n m of them, of exp(-s), exp(-s/2) and sqrt(s), where s = |x_i - y_j|^2."""

    n: int
    m: int
    kernel: float
    wide_kernel: float
    distance: float

    @classmethod
    def of(cls, x: Points, y: Points) -> "Pairs":
        kernel, wide_kernel, distance = 0.0, 0.0, 0.0
        for rows in x.split(CHUNK):
            d = torch.cdist(rows, y)
            distance += d.sum().item()
            wide = d.square_().mul_(-0.5).exp_()
            wide_kernel += wide.sum().item()
            kernel += wide.square_().sum().item()
        return cls(len(x), len(y), kernel, wide_kernel, distance)


def evaluate(problem: Problem, transport: Transport, rng: Generator) -> dict[str, float | None]:
    """All metrics by name. Raises Diverged, naming what it is, where anything is not finite."""
    evaluation = Evaluation(problem, transport, rng)
    values: dict[str, float | None] = {}
    for name, metric in METRICS.items():
        values[name] = value = metric(evaluation)
        if value is not None and not math.isfinite(value):
            raise Diverged(f"metric {name} is {value}")
    return values


def finite(name: str, values: Tensor) -> Tensor:
    """`values` in float64, without their graph. Raises Diverged unless all are finite."""
    rows = values.detach().double().reshape(len(values), -1)
    if bad := int((~rows.isfinite()).any(1).sum()):
        raise Diverged(f"{name} is not finite at {bad} of {len(values)} points")
    return values.detach().double()


def subset(points: Points, n: int, rng: Generator) -> Points:
    """All points, or `n` of them drawn without replacement: files of test points can be sorted."""
    if len(points) <= n:
        return points
    return points[torch.randperm(len(points), generator=rng, device=rng.device)[:n]]


def fixed_draw(measure: Measure, n: int, seed: int = TARGET_SEED) -> Points:
    """n points of the measure (n, d), always the same ones, drawn on the CPU."""
    return measure.sample(n, torch.Generator().manual_seed(seed))


def moments(measure: Measure, points: Points | None) -> Gaussian:
    """The Gaussian with the measure's mean and covariance: those of `points` (n, d), by default MOMENT_ROWS draws.

    A Gaussian is its own.
    """
    if isinstance(measure, Gaussian):
        return measure
    x = (fixed_draw(measure, MOMENT_ROWS) if points is None else points).double()
    centred = x - x.mean(0)
    return Gaussian(x.mean(0), centred.T @ centred / len(x))


def _mean(values: Values | None) -> float | None:
    return None if values is None else values.mean().item()


def _stderr(values: Values | None) -> float | None:
    """The sample's standard deviation over sqrt(n)."""
    return None if values is None or len(values) < 2 else values.std().item() / math.sqrt(len(values))


def _norms(e: Evaluation) -> Values | None:
    return None if e.back is None else (e.back - e.test).norm(dim=1)


def _gaps(e: Evaluation) -> Values | None:
    return None if e.log_p is None or e.log_q is None else e.log_p - e.log_q


def nll(e: Evaluation) -> float | None:
    """Negative log-likelihood, mean of -log q(x) over the test points, in nats."""
    return None if e.log_q is None else -e.log_q.mean().item()


def nll_stderr(e: Evaluation) -> float | None:
    """Standard error of `nll`."""
    return _stderr(e.log_q)


def nll_gap(e: Evaluation) -> float | None:
    """Mean of log p(x) - log q(x) over the test points, in nats: KL(p || q), estimated in pairs.

    Pairs cancel the scatter of log p: near the truth the error is far below that of `nll` minus the entropy.
    """
    return _mean(_gaps(e))


def nll_gap_stderr(e: Evaluation) -> float | None:
    """Standard error of `nll_gap`."""
    return _stderr(_gaps(e))


def mmd(e: Evaluation) -> float | None:
    """Squared maximum mean discrepancy with k(x, y) = exp(-|x - y|^2), unbiased (so it can be negative).

    mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
    (Gretton et al. 2012, eq. 3).
    """
    if e.pairs is None:
        return None
    xx, yy, xy = e.pairs
    within = sum((p.kernel - p.n) / (p.n * (p.n - 1)) for p in (xx, yy))
    return within - 2 * xy.kernel / (xy.n * xy.m)


def mmd_otflow(e: Evaluation) -> float | None:
    """The variant of the OT-Flow paper (Onken et al. 2021): k(x, y) = exp(-|x - y|^2 / 2), i = j included (biased).

    1/N^2 sum k(x_i, x_j) + 1/M^2 sum k(y_i, y_j) - 2/(N M) sum k(x_i, y_j).
    """
    if e.pairs is None:
        return None
    xx, yy, xy = (p.wide_kernel / (p.n * p.m) for p in e.pairs)
    return xx + yy - 2 * xy


def energy_distance(e: Evaluation) -> float | None:
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'|, unbiased (x' and y' are other points than x and y).

    No root is taken: this is the square of a metric (Szekely and Rizzo 2013, eq. 5).
    """
    if e.pairs is None:
        return None
    xx, yy, xy = e.pairs
    within = sum(p.distance / (p.n * (p.n - 1)) for p in (xx, yy))
    return 2 * xy.distance / (xy.n * xy.m) - within


def sliced_wasserstein(e: Evaluation) -> float | None:
    """Sliced Wasserstein distance of order 2, sqrt(mean over theta of W2^2(theta . x, theta . y)), a distance.

    PROJECTIONS directions theta, uniform on the sphere. In one dimension, with as many x as y, the optimal
    coupling joins the sorted points (Bonneel et al. 2015, section 3).
    """
    if e.generated is None:
        return None
    assert e.generated.shape == e.held_out.shape
    theta = torch.randn(
        e.problem.target.dim, PROJECTIONS, generator=e.rng, device=e.rng.device, dtype=e.generated.dtype
    )
    theta = theta / theta.norm(dim=0)
    x, y = ((points @ theta).sort(dim=0).values for points in (e.generated, e.held_out))
    return (x - y).square().mean().sqrt().item()


def inverse_error_mean(e: Evaluation) -> float | None:
    """Mean of |f^-1(f(x)) - x| over the test points."""
    return _mean(_norms(e))


def inverse_error_max(e: Evaluation) -> float | None:
    """Maximum of |f^-1(f(x)) - x| over the test points."""
    norms = _norms(e)
    return None if norms is None else norms.max().item()


def transport_cost(e: Evaluation) -> float | None:
    """Mean of 1/2 |f(x) - x|^2 over the test points: the cost of the map that was found."""
    return None if e.forward is None else 0.5 * (e.forward - e.test).square().sum(1).mean().item()


def cost_gap(e: Evaluation) -> float | None:
    """(transport_cost - C) / C, where C is the optimal cost; negative where the map misses the target.

    Where C is not known and there are at most COUPLED_DIM dimensions, it is the exact cost between some test points
    and points of the target, see `Evaluation.optimum`, and the map's cost is that of the same test points.
    """
    if e.forward is None or e.optimum is None:
        return None
    rows, optimal = e.optimum
    return _relative(0.5 * (e.forward - e.test)[rows].square().sum(1).mean().item(), optimal)


def kinetic_energy(e: Evaluation) -> float | None:
    """E int 1/2 |v|^2 dt along the curves from the test points: half the path energy of Tong et al. (2024).

    No less than transport_cost, with equality where the curves are straight and of constant speed.
    """
    return _mean(e.energy)


def normalized_path_energy(e: Evaluation) -> float | None:
    """NPE = |E int |v|^2 dt - W2^2| / W2^2 (Tong et al. 2024, section 5.1), W2^2 = 2 C with the C of `cost_gap`."""
    if e.energy is None or e.optimum is None:
        return None
    rows, optimal = e.optimum
    gap = _relative(e.energy[rows].mean().item(), optimal)
    return None if gap is None else abs(gap)


def wasserstein_2(e: Evaluation) -> float | None:
    """W2, a distance, between test points carried to the target and points of the target, by an exact coupling.

    Of COUPLED_ROWS points each at most, in at most COUPLED_DIM dimensions; two such samples of one law are not at
    distance 0 either, but at `wasserstein_2_floor`.
    """
    if e.forward is None or e.coupled is None:
        return None
    return math.sqrt(2 * empirical_cost(e.forward[e.coupled], e.targets[e.coupled]))


def wasserstein_2_floor(e: Evaluation) -> float | None:
    """W2 between those points of the target and one other draw of as many: `wasserstein_2` of one perfect transport.

    Between mixtures it is mostly that samples differ in how many points each mode has, and another draw gives another.
    """
    if e.forward is None or e.coupled is None:
        return None
    others = fixed_draw(e.problem.target, len(e.coupled), seed=TARGET_SEED + 1).to(e.targets)
    return math.sqrt(2 * empirical_cost(others, e.targets[e.coupled]))


def cost_backward(e: Evaluation) -> float | None:
    """Mean of 1/2 |S(y) - y|^2 over points y of the target, S the inverse map; of relaxed transports alone."""
    if e.transport.relaxation is None or e.inverse is None:
        return None
    return 0.5 * (e.inverse - e.targets).square().sum(1).mean().item()


def kl_backward(e: Evaluation) -> float | None:
    """KL(S # target || source) in nats, the mean of log q(S(y)) - log p(S(y)) over points y of the target.

    By characteristics what `upwind_kl_backward` is by upwinding, as `nll_gap` is to `upwind_kl`.
    """
    source, log_prob = e.problem.source, e.transport.log_prob
    if e.transport.relaxation is None or e.inverse is None or log_prob is None or not isinstance(source, Density):
        return None
    x = e.inverse.to(e.problem.test.dtype)
    return _mean(finite("log_prob", log_prob(x)) - finite("the exact log-density", source.log_prob(x)))


def cost_estimate(e: Evaluation) -> float | None:
    """The solver's own estimate of 1/2 W2^2."""
    return e.transport.cost


def cost_bound(e: Evaluation) -> float | None:
    """Gelbrich's lower bound of 1/2 W2^2 (Gelbrich 1990): what it is between Gaussians with the measures' moments.

    1/2 |m_0 - m_1|^2 + 1/2 tr(S_0 + S_1 - 2 (S_0^1/2 S_1 S_0^1/2)^1/2), where the moments of a measure that is no
    Gaussian are those of the test points, for the source, and of MOMENT_ROWS draws, for the target. Given beside a
    transport that says what it costs; None where there are no more points than dimensions.
    """
    if (e.forward is None and e.transport.cost is None) or len(e.test) <= e.test.shape[1]:
        return None
    return gelbrich_cost(moments(e.problem.source, e.test.cpu()), moments(e.problem.target, None))


def same_law_cost(e: Evaluation) -> float | None:
    """What the solver finds between two samples of one law: the bias of its `cost_estimate`."""
    return e.same_law_cost


def hjb_residual(e: Evaluation) -> float | None:
    """Mean over the test points of int |Phi_t - 1/2 |grad Phi|^2| dt along their curves (Ruthotto et al. 2020)."""
    hjb = e.transport.hjb
    return None if hjb is None else finite("hjb", hjb(e.problem.test)).mean().item()


def relaxation(e: Evaluation) -> float | None:
    """The weight of KL(push-forward || target) where that penalty stands in place of the constraint."""
    return e.transport.relaxation


def l2_uvp(e: Evaluation) -> float | None:
    """Unexplained variance 100 E|T - T*|^2 / tr Cov(target) in per cent (Korotin et al. 2021, eq. 14).

    The target's covariance is that of T*(x) over the test points. None where they do not scatter.
    """
    return None if e.optimal is None else _unexplained(e.forward, e.optimal, _scatter(e.optimal))


def uvp_2(e: Evaluation) -> float | None:
    """`l2_uvp` of the first two coordinates, normalised by their variance alone.

    Where two measures differ in two coordinates only, `l2_uvp` falls with the dimension by itself; this does not.
    """
    return None if e.optimal is None else _unexplained(e.forward, e.optimal, _scatter(e.optimal), 2)


def l2_uvp_inverse(e: Evaluation) -> float | None:
    """`l2_uvp` of the inverse map, over points of the target: 100 E|S - S*|^2 / tr Cov(source), S* = T*^-1."""
    best = e.optimal_inverse
    return None if best is None else _unexplained(e.inverse, best, _scatter(best))


def estimate_gap(e: Evaluation) -> float | None:
    """(cost_estimate - C) / C, where C is the optimal cost, known exactly."""
    return _relative(e.transport.cost, e.problem.truth.cost)


def kl_estimate(e: Evaluation) -> float | None:
    """The solver's own estimate of KL(push-forward || target), in nats."""
    return e.transport.kl


def relaxed_estimate_gap(e: Evaluation) -> float | None:
    """(cost_estimate - C) / C, where C is the cost of the relaxed problem's optimal map: of L along its curves."""
    return _relative(e.transport.cost, None if e.relaxed is None else e.relaxed.cost)


def relaxed_objective_gap(e: Evaluation) -> float | None:
    """L + relaxation KL by the solver's own estimates over that of the relaxed problem's optimum, - 1."""
    cost, kl, weight = e.transport.cost, e.transport.kl, e.transport.relaxation
    if cost is None or kl is None or weight is None or e.relaxed is None:
        return None
    if e.relaxed.cost is None or e.relaxed.kl is None:
        return None
    return _relative(cost + weight * kl, e.relaxed.cost + weight * e.relaxed.kl)


def _relative(found: float | None, truth: float | None) -> float | None:
    return None if found is None or not truth else (found - truth) / truth


def relaxed_cost_gap(e: Evaluation) -> float | None:
    """(transport_cost - C) / C, where C is the cost of the relaxed problem's optimal map."""
    cost, optimal = transport_cost(e), None if e.relaxed is None else e.relaxed.cost
    return _relative(cost, optimal)


def relaxed_kl_gap(e: Evaluation) -> float | None:
    """|KL(f # source || target) - K| in nats, where K is that of the relaxed problem's optimal map.

    The divergence is `nll_gap`, KL(source || pull-back of the target): both are E[log p(x) - log q(x)].
    """
    found = nll_gap(e)
    return None if found is None or e.relaxed is None or e.relaxed.kl is None else abs(found - e.relaxed.kl)


def relaxed_l2_uvp(e: Evaluation) -> float | None:
    """100 E|T - T_r|^2 / tr Cov(target) in per cent, where T_r is the relaxed problem's optimal map.

    The covariance is the target's own, which T_r only approaches.
    """
    return None if e.relaxed_optimal is None else _unexplained(e.forward, e.relaxed_optimal, e.target_variance)


def relaxed_uvp_2(e: Evaluation) -> float | None:
    """`relaxed_l2_uvp` of the first two coordinates, normalised by the target's variance in those."""
    return None if e.relaxed_optimal is None else _unexplained(e.forward, e.relaxed_optimal, e.target_variance, 2)


def cosine(e: Evaluation) -> float | None:
    """<T - id, T* - id> / (|T - id| |T* - id|) in L2 of the source (Korotin et al. 2021, section 4).

    None where either map moves nothing.
    """
    return _cosine(e.forward, e.optimal, e.test)


def cosine_inverse(e: Evaluation) -> float | None:
    """`cosine` of the inverse map, over points of the target."""
    return None if e.optimal_inverse is None else _cosine(e.inverse, e.optimal_inverse, e.targets)


def _scatter(points: Points) -> Values:
    return points.var(0, correction=0)


def _unexplained(found: Points | None, optimal: Points, variance: Values, first: int | None = None) -> float | None:
    """100 E|found - optimal|^2 / sum of `variance`, over the `first` coordinates; None where nothing scatters."""
    scatter = variance[:first].sum().item()
    if found is None or not scatter:
        return None
    return 100 * (found - optimal)[:, :first].square().sum(1).mean().item() / scatter


def _cosine(found: Points | None, optimal: Points | None, points: Points) -> float | None:
    if found is None or optimal is None:
        return None
    found, optimal = found - points, optimal - points
    norms = found.norm().item() * optimal.norm().item()
    return (found * optimal).sum().item() / norms if norms else None


def upwind_cost(e: Evaluation) -> float | None:
    """int int 1/2 |v|^2 rho dx dt of the source advected by upwind finite volumes (bench.upwind)."""
    return None if e.advected is None else e.advected[0].cost


def upwind_kl(e: Evaluation) -> float | None:
    """KL(rho(1) || target) in nats of the source advected by upwinding."""
    return None if e.advected is None else e.advected[0].kl


def upwind_objective(e: Evaluation) -> float | None:
    """upwind_cost + weight upwind_kl: the paper's objective divided by alpha1, weight = alpha3 / alpha1."""
    return _upwind_objective(e, 0)


def upwind_cost_backward(e: Evaluation) -> float | None:
    """int int 1/2 |v|^2 rho dx dt of the target advected backward in time by upwinding."""
    return None if e.advected is None else e.advected[1].cost


def upwind_kl_backward(e: Evaluation) -> float | None:
    """KL(rho(0) || source) in nats of the target advected backward in time by upwinding."""
    return None if e.advected is None else e.advected[1].kl


def upwind_objective_backward(e: Evaluation) -> float | None:
    """upwind_cost_backward + weight upwind_kl_backward."""
    return _upwind_objective(e, 1)


def _upwind_objective(e: Evaluation, direction: int) -> float | None:
    if e.advected is None or e.transport.relaxation is None:
        return None
    return e.advected[direction].cost + e.transport.relaxation * e.advected[direction].kl


def upwind_mass_error(e: Evaluation) -> float | None:
    """The larger of both directions' |mass at the end - 1|."""
    return None if e.advected is None else max(part.mass_error for part in e.advected)


def upwind_lost_mass(e: Evaluation) -> float | None:
    """|mass - 1| of the density on the scheme's grid, the larger of both measures', before it is made 1 there."""
    return None if e.advected is None else max(part.lost_mass for part in e.advected)


METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        nll,
        nll_stderr,
        nll_gap,
        nll_gap_stderr,
        mmd,
        mmd_otflow,
        sliced_wasserstein,
        energy_distance,
        inverse_error_mean,
        inverse_error_max,
        transport_cost,
        cost_backward,
        kl_backward,
        cost_gap,
        kinetic_energy,
        normalized_path_energy,
        wasserstein_2,
        wasserstein_2_floor,
        estimate_gap,
        cost_estimate,
        cost_bound,
        same_law_cost,
        hjb_residual,
        l2_uvp,
        uvp_2,
        cosine,
        l2_uvp_inverse,
        cosine_inverse,
        relaxation,
        kl_estimate,
        relaxed_estimate_gap,
        relaxed_objective_gap,
        relaxed_cost_gap,
        relaxed_kl_gap,
        relaxed_l2_uvp,
        relaxed_uvp_2,
        upwind_cost,
        upwind_kl,
        upwind_objective,
        upwind_cost_backward,
        upwind_kl_backward,
        upwind_objective_backward,
        upwind_mass_error,
        upwind_lost_mass,
    )
}

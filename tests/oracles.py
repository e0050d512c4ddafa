"""Closed forms that tests compare with: one function an equation, cited; and maps whose density is known.

Covariances and means are of d-dimensional Gaussians; nothing here is shared with the code under test, but for the
steps of `potential_flow`.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import hyp1f1
from torch import Tensor

from solvers.integrate import integrate


def gaussian_kernel_mean(mean: Tensor, covariance: Tensor, gamma: float) -> float:
    """E exp(-gamma |z|^2), z ~ N(m, S):  det(I + 2 gamma S)^-1/2 exp(-gamma m' (I + 2 gamma S)^-1 m).

    Mathai and Provost 1992, "Quadratic forms in random variables", theorem 3.2a.1 at t = -gamma.
    """
    A = torch.eye(len(mean)).to(mean) + 2 * gamma * covariance
    return (A.det().rsqrt() * torch.exp(-gamma * mean @ torch.linalg.solve(A, mean))).item()


def gaussian_mmd(m: Tensor, A: Tensor, n: Tensor, B: Tensor, gamma: float) -> float:
    """Squared MMD of N(m, A) and N(n, B) for exp(-gamma |x - y|^2): the kernel's mean over x - y of each pair."""
    zero = torch.zeros_like(m)
    within = gaussian_kernel_mean(zero, 2 * A, gamma) + gaussian_kernel_mean(zero, 2 * B, gamma)
    return within - 2 * gaussian_kernel_mean(m - n, A + B, gamma)


def mean_norm(length: float, variance: float, dim: int) -> float:
    """E|z|, z ~ N(m, s^2 I_d), |m| = length:  s sqrt(2) Gamma((d+1)/2) / Gamma(d/2) 1F1(-1/2; d/2; -|m|^2 / (2 s^2)).

    The first moment of the noncentral chi distribution (Johnson, Kotz and Balakrishnan 1995, chapter 29).
    """
    gammas = math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
    return math.sqrt(2 * variance) * gammas * float(hyp1f1(-0.5, dim / 2, -(length**2) / (2 * variance)))


def isotropic_energy_distance(length: float, a: float, b: float, dim: int) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| of N(0, a I) and N(m, b I), |m| = length (Szekely and Rizzo 2013, eq. 5)."""
    return 2 * mean_norm(length, a + b, dim) - mean_norm(0.0, 2 * a, dim) - mean_norm(0.0, 2 * b, dim)


def isotropic_sliced_w2(length: float, a: float, b: float, dim: int) -> float:
    """Sliced W2 of N(0, a I) and N(m, b I), |m| = length:  sqrt(|m|^2 / d + (sqrt a - sqrt b)^2).

    On a line W2^2 of two Gaussians is (difference of means)^2 + (of standard deviations)^2, and
    E (theta . m)^2 = |m|^2 / d.
    """
    return math.sqrt(length**2 / dim + (math.sqrt(a) - math.sqrt(b)) ** 2)


def relaxed_objective(
    shift: Tensor, matrix: Tensor, m: Tensor, A: Tensor, n: Tensor, B: Tensor, weight: float
) -> Tensor:
    """1/2 E|T(x) - x|^2 + weight KL(T # N(m, A) || N(n, B)) of T(x) = shift + matrix x, from its moments.

    The push-forward is N(shift + matrix m, matrix A matrix'), and E|z|^2 = |E z|^2 + tr cov z.
    """
    moved = matrix - torch.eye(len(m)).to(m)
    cost = ((shift + moved @ m).square().sum() + (moved @ A @ moved.T).trace()) / 2
    pushed = torch.distributions.MultivariateNormal(shift + matrix @ m, matrix @ A @ matrix.T)
    return cost + weight * torch.distributions.kl_divergence(pushed, torch.distributions.MultivariateNormal(n, B))


def relaxed_normal(m: float, a: float, n: float, b: float, weight: float) -> tuple[float, float]:
    """Mean and variance of the minimiser of 1/2 W2^2(N(m, a), mu) + weight KL(mu || N(n, b)) on the line.

    With standard deviation s the objective is 1/2 (mean - m)^2 + 1/2 (s - sqrt a)^2
    + weight ((mean - n)^2 / (2 b) + s^2 / (2 b) - log s) + constant, whence s^2 (1 + weight / b) - s sqrt a = weight.
    """
    mean = (m + weight * n / b) / (1 + weight / b)
    k = 1 + weight / b
    s = (math.sqrt(a) + math.sqrt(a + 4 * k * weight)) / (2 * k)
    return mean, s**2


def grid_sinkhorn(
    axis: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    epsilon: float,
    weight: float,
) -> tuple[float, float]:
    """Cost E 1/2 |x - y|^2 and KL(second marginal || b) of the minimiser of cost + epsilon entropy + weight KL.

    a and b (n, n) are probabilities on the square grid axis x axis, the first marginal is a. Sinkhorn's iteration
    with the exponent weight / (weight + epsilon) on the relaxed side (Chizat et al. 2018, table 1); the kernel is a
    product over coordinates.
    """
    squares = (axis[:, None] - axis) ** 2 / 2
    kernel, power = np.exp(-squares / epsilon), 1 / (1 + epsilon / weight)
    v = np.ones_like(b)
    for _ in range(5000):
        u = a / (kernel @ v @ kernel)
        before, v = v, (b / (kernel @ u @ kernel)) ** power
        if np.abs(np.log(v / before)).max() < 1e-9:
            break
    u = a / (kernel @ v @ kernel)
    second = v * (kernel @ u @ kernel)
    cost = (u * ((kernel * squares) @ v @ kernel + kernel @ v @ (kernel * squares))).sum()
    return float(cost), float((second * np.log(second / b)).sum())


class Ridges:
    """The gradient map f(x) = x + sum_i a_i tanh(w_i . x + b_i) w_i of a convex potential, a > 0, W (m, d).

    Its Jacobian I + sum_i a_i (1 - tanh^2) w_i w_i' is symmetric and >= I, so f is one to one; its density
    log N(f(x); 0, I) + log det has a ridge of width 1 / |w_i| along w_i . x = -b_i, as a trained potential
    flow has between the modes of its data.
    """

    def __init__(self, W: Tensor, a: Tensor, b: Tensor) -> None:
        self.W, self.a, self.b = W, a, b

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.a * torch.tanh(x @ self.W.T + self.b)) @ self.W

    def jacobian(self, x: Tensor) -> Tensor:
        slopes = self.a * (1 - torch.tanh(x @ self.W.T + self.b) ** 2)
        return torch.eye(x.shape[1]).to(x) + torch.einsum("nm,mi,mj->nij", slopes, self.W, self.W)

    def inverse(self, z: Tensor) -> Tensor:
        """Newton's method with halved steps until |f(x) - z| falls: it converges, f being monotone."""
        x = torch.zeros_like(z)
        for _ in range(200):
            residual = self.forward(x) - z
            step = torch.linalg.solve(self.jacobian(x), residual)
            size = torch.ones_like(residual[:, :1])
            for _ in range(30):
                worse = (self.forward(x - size * step) - z).norm(dim=1) > residual.norm(dim=1)
                size[worse] /= 2
            x = x - size * step
            if residual.abs().max() < 1e-11:
                break
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        z = self.forward(x)
        normal = -0.5 * z.square().sum(1) - x.shape[1] / 2 * math.log(2 * math.pi)
        return normal + self.jacobian(x).logdet()


def potential_flow(potential: Callable[[Tensor], Tensor], x: Tensor, n_steps: int) -> tuple[Tensor, ...]:
    """z, logdet, cost and hjb of solvers.otflow.integrate, by automatic differentiation of Phi alone."""

    def rates(t: float, x: Tensor) -> tuple[Tensor, ...]:
        s = torch.cat([x, torch.full_like(x[:, :1], t)], 1).requires_grad_()
        (g,) = torch.autograd.grad(potential(s).sum(), s, create_graph=True)
        columns = g[:, :-1].unbind(1)
        laplacian = sum(torch.autograd.grad(c.sum(), s, create_graph=True)[0][:, i] for i, c in enumerate(columns))
        kinetic = 0.5 * g[:, :-1].square().sum(1)
        return -g[:, :-1], -laplacian, kinetic, (g[:, -1] - kinetic).abs()

    return integrate(rates, x, n_steps)

"""Entropic optimal transport between two finite samples, as it follows from its dual potentials.

The potentials f (n,) on the rows of x and g (m,) on those of y stand for the coupling, with c = 1/2 |x - y|^2,

    P_ij = exp((f_i + g_j - c_ij) / epsilon) / (n m),

whose marginals are uniform when f_i = softmin_j(c_ij - g_j) and g_j = softmin_i(c_ij - f_i), where
softmin_j(z_j) = -epsilon log mean_j exp(-z_j / epsilon) (Peyre and Cuturi 2019, section 4.4). Everything is
computed by blocks of rows: no matrix of n m numbers is ever held.
"""

import math
from dataclasses import dataclass

import torch

from datasets.base import Points, Values
from solvers.discrete import Audit, blocks, dual_bound, in_chunks


def softmin(x: Points, y: Points, g: Values, epsilon: float) -> Values:
    """f_i = -epsilon log mean_j exp((g_j - c_ij) / epsilon) (n,)."""
    least = math.log(torch.finfo(x.dtype).tiny) / 2
    found = []
    for _, cost in blocks(x, y):
        exponent = cost.sub_(g).div_(-epsilon)
        top = exponent.amax(1, keepdim=True)
        # far below lie denormal numbers, of no weight but slow
        total = exponent.sub_(top).clamp_min_(least).exp_().sum(1)
        found.append(top[:, 0] + total.log_())
    return torch.cat(found).sub_(math.log(len(y))).mul_(-epsilon)


@dataclass(frozen=True, eq=False)
class Entropic:
    """Potentials (f, g) between x and y at `epsilon`; rounding errors are least where the points' mean is 0."""

    x: Points
    y: Points
    f: Values
    g: Values
    epsilon: float

    def audit(self) -> Audit:
        """The marginals of P, and the bounds of the unregularised cost.

        The upper one is the cost of P after it was rounded to exact marginals: rows, then columns, too heavy are
        scaled down, and the product of what then lacks is added (Altschuler, Weed and Rigollet 2017, algorithm 2).
        """
        x, y, f, g = (part.double() for part in (self.x, self.y, self.f, self.g))
        n, m = len(x), len(y)
        row = torch.zeros_like(f)
        column, scaled = torch.zeros_like(g), torch.zeros_like(g)
        moved = torch.zeros_like(g)  # the cost of each column, its rows scaled
        for part, cost in blocks(x, y):
            P = torch.sub(g, cost).add_(f[part, None]).div_(self.epsilon).exp_().div_(n * m)
            row[part] = P.sum(1)
            column += P.sum(0)
            P.mul_((1 / n / row[part]).clamp_max(1)[:, None])
            scaled += P.sum(0)
            moved += P.mul_(cost).sum(0)
        fit = (1 / m / scaled).clamp_max(1)
        short = 1 / m - scaled * fit
        upper = (moved * fit).sum()
        if (lacking := short.sum()) > 0:
            rows_left = self._rows_left(x, y, f, g, row, fit)
            upper += _product_cost(x, y, rows_left, short, lacking)
        return Audit(
            source=(row - 1 / n).abs().sum().item(),
            target=(column - 1 / m).abs().sum().item(),
            mass=abs(row.sum().item() - 1),
            upper=upper.item(),
            lower=dual_bound(x, y, g),
        )

    def _rows_left(self, x: Points, y: Points, f: Values, g: Values, row: Values, fit: Values) -> Values:
        """What the rows of P lack (n,) once rows and columns were scaled down."""
        n, m = len(x), len(y)
        left = torch.empty_like(f)
        for part, cost in blocks(x, y):
            P = cost.neg_().add_(g).add_(f[part, None]).div_(self.epsilon).exp_().div_(n * m)
            left[part] = 1 / n - (P @ fit) * (1 / n / row[part]).clamp_max(1)
        return left.clamp_min(0)


def _product_cost(x: Points, y: Points, a: Values, b: Values, mass: Values) -> Values:
    """sum_ij a_i b_j c_ij / mass, by moments: O(n + m)."""
    squares = b.sum() * (a @ x.square().sum(1)) + a.sum() * (b @ y.square().sum(1))
    return (squares / 2 - (a @ x) @ (b @ y)) / mass


def project(points: Points, sites: Points, h: Values, epsilon: float) -> Points:
    """The entropic map: the mean of `sites` under weights exp((h_j - c(p, site_j)) / epsilon), for any points p.

    On a sample that is coupled with the sites it is the barycentric projection (Pooladian and Niles-Weed 2021).
    """
    sites, h = sites.to(points), h.to(points)

    def barycentre(part: Points) -> Points:
        # c(p, y) up to |p|^2 / 2, which the weights do not feel
        exponent = torch.addmm(h - sites.square().sum(1) / 2, part, sites.T)
        return exponent.div_(epsilon).softmax(1) @ sites

    return in_chunks(barycentre, points, len(sites))

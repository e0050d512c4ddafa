"""Optimal transport between two finite samples by the network simplex."""

from datasets.base import Points
from solvers.base import Diverged
from solvers.discrete import pot, strictly

MAX_ITER = 10_000_000


def empirical_cost(x: Points, y: Points) -> float:
    """1/2 W2^2 between the rows of x (n, d) and of y (m, d), equally heavy each; O(n m) memory, about O(n^2.5) time.

    Raises Diverged where a row is not finite or the network simplex does not end.
    """
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise Diverged("the points to be coupled are not all finite")  # POT's answer would be 0
    ot = pot()
    a, b = x.detach().cpu().double().numpy(), y.detach().cpu().double().numpy()
    return strictly("emd2", lambda: float(ot.emd2([], [], ot.dist(a, b), numItermax=MAX_ITER))) / 2

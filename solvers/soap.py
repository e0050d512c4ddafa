"""SOAP: ADAM in the eigenbasis of Shampoo's preconditioner.

Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson and Kakade, SOAP: Improving and Stabilizing Shampoo using
Adam (ICLR 2025, arXiv 2409.11321), algorithm 3. For a matrix of weights with gradient G,

    L <- beta L + (1 - beta) G G',   R <- beta R + (1 - beta) G'G,   Q_L, Q_R their eigenvectors,

and ADAM's second moment is that of Q_L' G Q_R. One step of power iteration and a QR factorisation renew the
eigenvectors every `every` steps. Vectors take ADAM itself. On small networks its steps cost one to two times those of
ADAM.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class SOAP(torch.optim.Optimizer):
    """`betas` are ADAM's, `shampoo_beta` is that of L and R. Its first step only finds the eigenvectors.

    Matrices with fewer rows or columns than `min_side` take ADAM itself, as vectors do: the basis of a single long
    column costs as much as that of a square.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        shampoo_beta: float = 0.95,
        every: int = 10,
        eps: float = 1e-12,
        min_side: int = 1,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "shampoo_beta": shampoo_beta, "every": every, "eps": eps}
        super().__init__(parameters, defaults)
        self.min_side = min_side  # of none of the groups: checkpoints older than it have groups without

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "SOAP takes the gradients that are there"
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        if p.ndim == 2 and min(p.shape) >= self.min_side:
            first = "L" not in state
            self._precondition(state, gradient, group)
            if first:
                return
        rotated = _rotate(gradient, state)
        b1, b2 = group["betas"]
        state["step"] += 1
        k = int(state["step"])
        state["mean"].lerp_(gradient, 1 - b1)
        state["square"].lerp_(rotated.square(), 1 - b2)
        direction = _rotate(state["mean"], state) / (state["square"] / (1 - b2**k)).sqrt_().add_(group["eps"])
        p.sub_(_rotate_back(direction, state), alpha=group["lr"] / (1 - b1**k))

    def _precondition(self, state: dict[str, Any], G: Tensor, group: dict[str, Any]) -> None:
        for name, square in (("L", G @ G.T), ("R", G.T @ G)):
            if name not in state:
                state[name] = square
                state[f"Q_{name}"] = torch.linalg.eigh(square).eigenvectors.flip(1)
                continue
            state[name].lerp_(square, 1 - group["shampoo_beta"])
            if int(state["step"]) % group["every"] == group["every"] - 1:
                state[f"Q_{name}"] = torch.linalg.qr(state[name] @ state[f"Q_{name}"]).Q


def _rotate(G: Tensor, state: dict[str, Any]) -> Tensor:
    return state["Q_L"].T @ G @ state["Q_R"] if "Q_L" in state else G


def _rotate_back(G: Tensor, state: dict[str, Any]) -> Tensor:
    return state["Q_L"] @ G @ state["Q_R"].T if "Q_L" in state else G

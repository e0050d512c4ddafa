import copy

import pytest
import torch

from solvers.soap import SOAP


def problem(rng):
    """Least squares |A W B - C|^2 whose Hessian is a Kronecker product with condition 100 in either factor."""
    m, n = 6, 5
    A, B = (torch.linalg.qr(torch.randn(k, k, generator=rng))[0] * torch.logspace(0, -1, k) for k in (m, n))
    A, B = (
        A @ torch.linalg.qr(torch.randn(m, m, generator=rng))[0],
        torch.linalg.qr(torch.randn(n, n, generator=rng))[0] @ B,
    )
    C = A @ torch.randn(m, n, generator=rng) @ B
    return torch.nn.Parameter(torch.zeros(m, n)), lambda W: (A @ W @ B - C).square().sum()


def minimised(make, W, loss, steps=300):
    optimizer = make([W])
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - k / steps)
        optimizer.zero_grad()
        loss(W).backward()
        optimizer.step()
    return loss(W).item()


def test_a_kronecker_conditioned_problem_yields_to_it_and_not_to_adam(rng):
    W, loss = problem(rng)
    with_adam = minimised(lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.9, 0.99)), copy.deepcopy(W), loss)
    with_soap = minimised(lambda p: SOAP(p, lr=0.05), copy.deepcopy(W), loss)
    assert with_soap < 0.1 * with_adam


def test_matrices_with_a_short_side_take_adam_where_that_is_asked_for(rng):
    target = torch.randn(7, 1, generator=rng)
    ours, theirs, square = (torch.nn.Parameter(torch.zeros(7, 1)) for _ in range(3))
    optimizers = (
        SOAP([ours], lr=0.1, min_side=2),
        torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-12),
        SOAP([square], lr=0.1),
    )
    for _ in range(20):
        for parameter, optimizer in zip((ours, theirs, square), optimizers, strict=True):
            optimizer.zero_grad()
            (parameter - target).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(square, theirs)


def test_a_checkpoint_that_is_older_than_an_option_resumes(rng):
    W, loss = problem(rng)
    optimizer = SOAP([W], lr=0.1)
    state = optimizer.state_dict()
    assert set(state["param_groups"][0]) == {"lr", "betas", "shampoo_beta", "every", "eps", "params"}
    optimizer.load_state_dict(state)
    loss(W).backward()
    optimizer.step()


def test_vectors_take_adam(rng):
    target = torch.randn(7, generator=rng)
    ours, theirs = (torch.nn.Parameter(torch.zeros(7)) for _ in range(2))
    optimizers = SOAP([ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-12)
    for _ in range(10):
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (p - target).pow(4).sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_its_steps_turn_with_the_weights(rng):
    """Equivariance: in coordinates Q W R' the trajectory is the rotated one, unlike ADAM's."""
    A, B, C = (torch.randn(shape, generator=rng) for shape in 3 * ((5, 5),))
    A, B = torch.eye(5) + 0.1 * A, torch.eye(5) + 0.1 * B  # with eps, conditioned so that rounding stays rounding
    W = torch.nn.Parameter(torch.zeros(5, 5))

    def loss(W):
        return (A @ W @ B - C).square().sum()

    Q, R = (torch.linalg.qr(torch.randn(k, k, generator=rng))[0] for k in W.shape)
    turned = torch.nn.Parameter(Q @ W.detach() @ R.T)
    minimised(lambda p: SOAP(p, lr=0.05, every=1, eps=1e-6), W, loss, 5)
    minimised(lambda p: SOAP(p, lr=0.05, every=1, eps=1e-6), turned, lambda V: loss(Q.T @ V @ R), 5)
    assert W.abs().max() > 0.05
    torch.testing.assert_close(turned, Q @ W @ R.T, rtol=0, atol=1e-6)


def test_the_basis_follows_the_gradients(rng):
    W, (first, G) = torch.nn.Parameter(torch.zeros(4, 4)), torch.randn(2, 4, 4, generator=rng)
    optimizer = SOAP([W], lr=0.0, every=5)
    for gradient in (first, *400 * (G,)):
        W.grad = gradient.clone()
        optimizer.step()
    state = optimizer.state[W]
    for name, square in (("L", G @ G.T), ("R", G.T @ G)):
        torch.testing.assert_close(state[name], square, rtol=0, atol=1e-6)
        turned = state[f"Q_{name}"].T @ square @ state[f"Q_{name}"]
        torch.testing.assert_close(turned, turned.diagonal().diag(), rtol=0, atol=1e-4)


def test_it_resumes(rng):
    W, loss = problem(rng)
    V = copy.deepcopy(W)
    first = SOAP([W], lr=0.01)
    for _ in range(15):
        first.zero_grad()
        loss(W).backward()
        first.step()
    state, weights = copy.deepcopy(first.state_dict()), W.detach().clone()
    second = SOAP([V], lr=0.01)
    second.load_state_dict(state)
    with torch.no_grad():
        V.copy_(weights)
    for _ in range(15):
        for p, optimizer in ((W, first), (V, second)):
            optimizer.zero_grad()
            loss(p).backward()
            optimizer.step()
    assert torch.equal(W, V)


def test_a_parameter_without_a_gradient_stays():
    W = torch.nn.Parameter(torch.ones(2, 2))
    SOAP([W], lr=0.1).step()
    assert torch.equal(W, torch.ones(2, 2))
    with pytest.raises(AssertionError):
        SOAP([W], lr=0.1).step(lambda: 0.0)

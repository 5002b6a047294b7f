"""The loss on the sphere and its walks: what the formulas of mechanism 1 say of the length happens, step by step."""

import pytest
import torch

from nnlib.weight_decay import effective_lr, equilibrium_norm, equilibrium_turn
from tenpapers.weight_decay.sphere import Sphere, walk


def test_direction_moves_as_with_the_effective_learning_rate_up_to_second_order():
    """u' = u - lr/|theta|^2 P g_hat + O(lr^2): halving lr divides the error by four."""
    problem = Sphere(torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)))
    theta = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64)  # |theta| = 3
    u = theta / 3
    errors = []
    for lr in (0.1, 0.05, 0.025):
        new = theta - lr * problem.gradient(theta)
        predicted = u - effective_lr("SGD", lr, 3.0) * problem.gradient(u)
        errors.append(float((new / new.norm() - predicted).norm()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05) and errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("weight_decay", [0.03, 0.3])
@pytest.mark.parametrize("start", [0.3, 8.0])
def test_length_settles_where_growth_and_decay_cancel(weight_decay, start):
    """From a short and from a long start; the paper's |theta|^4 = lr |g_hat|^2/(2 wd)."""
    problem = Sphere(torch.diag(torch.linspace(1, 4, 20, dtype=torch.float64)), noise=1.0)
    theta = start * torch.nn.functional.normalize(torch.ones(20, dtype=torch.float64), dim=0)
    path = walk(problem, theta, "SGD", 0.2, 6000, weight_decay=weight_decay)
    late = slice(3000, None)
    measured = float(path.norm[late].pow(4).mean())
    mean_square = float(path.gradient[late].square().mean())
    assert measured == pytest.approx(0.2 * mean_square / (2 * weight_decay), rel=0.06)
    assert measured == pytest.approx(equilibrium_norm(0.2, weight_decay, mean_square**0.5) ** 4, rel=0.03)


@pytest.mark.parametrize("method", ["SGD", "K-FAC"])
def test_at_equilibrium_every_step_turns_the_weights_by_the_same_angle_whatever_the_method(method):
    """The root of twice lr times decay: the gradient's size and the curvature have dropped out."""
    problem = Sphere(torch.diag(torch.linspace(1, 4, 40, dtype=torch.float64)), noise=1.0)
    theta = torch.full((40,), 0.3, dtype=torch.float64)
    path = walk(problem, theta, method, 0.1, 2500, weight_decay=0.05, damping=0.03)
    turn = float(path.turn[1500:].square().mean().sqrt())
    assert turn == pytest.approx(equilibrium_turn(0.1, 0.05), rel=0.03)
    assert equilibrium_turn(0.1, 0.05) == pytest.approx((2 * 0.1 * 0.05) ** 0.5, rel=0.01)


def test_walk_follows_the_formulas_of_its_docstring_for_one_step():
    problem = Sphere(torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)))
    theta = torch.tensor([2.0, 1.0, -1.0], dtype=torch.float64)
    g, C = problem.gradient(theta), problem.curvature(theta)
    x = theta.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(problem.loss(x), x)[0], g)
    steps = {
        "SGD": g,
        "Adam": g.sign(),  # v starts without bias: the first step is g/|g|, entry by entry
        "K-FAC": torch.linalg.solve(C + 0.1 * torch.eye(3, dtype=torch.float64), g),
    }
    for method, step in steps.items():
        quiet = Sphere(problem.H, noise=0.0)
        path = walk(quiet, theta, method, 0.05, 1, weight_decay=0.5, damping=0.1)
        expected = (1 - 0.05 * 0.5) * theta - 0.05 * step
        torch.testing.assert_close(path.norm[1], expected.norm())
        torch.testing.assert_close(path.loss[1], problem.loss(expected))
        cosine = expected @ theta / (expected.norm() * theta.norm())
        torch.testing.assert_close(path.turn[0].cos(), cosine)


@pytest.mark.parametrize("method", ["SGD", "K-FAC"])
@pytest.mark.parametrize("c", [0.5, 4.0])
def test_on_the_sphere_a_rescaled_walk_has_the_same_losses(method, c):
    problem = Sphere(torch.diag(torch.linspace(1, 4, 5, dtype=torch.float64)), noise=0.5)
    theta = torch.ones(5, dtype=torch.float64)
    lr = 0.1
    other = lr * c**2 if method == "SGD" else lr
    first = walk(problem, theta, method, lr, 40, damping=0.01)
    second = walk(problem, c * theta, method, other, 40, damping=0.01 / c**2)
    torch.testing.assert_close(first.loss, second.loss, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(c * first.norm, second.norm, rtol=1e-8, atol=1e-10)


def test_without_damping_the_length_under_kfac_does_not_come_to_rest():
    """Steps grow with the weights: a run from ten times the length stays ten times as long, with any decay."""
    problem = Sphere(torch.diag(torch.linspace(1, 4, 24, dtype=torch.float64)), noise=1.0)
    theta = torch.ones(24, dtype=torch.float64)
    for weight_decay in (0.0, 0.1, 3.0):
        options = {"weight_decay": weight_decay, "seed": 1}
        short, long = (walk(problem, c * theta, "K-FAC", 0.1, 200, **options).norm for c in (1.0, 10.0))
        torch.testing.assert_close(long, 10 * short)
        assert not 0.1 < short[-1] / short[0] < 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_walk_lives_where_its_start_does(dtype):
    """Breaks if a tensor is made without a device, or in another dtype."""
    h, theta, found = torch.linspace(1, 3, 4, dtype=dtype), torch.ones(4, dtype=dtype), []
    for where in ("cpu", "meta"):
        with torch.device(where):
            for method in ("SGD", "Adam", "K-FAC"):
                found += walk(Sphere(torch.diag(h), noise=0.1), theta, method, 0.1, 3, weight_decay=0.1, damping=0.1)
    for a, b in zip(found[:12], found[12:], strict=True):
        assert a.device.type == b.device.type == "cpu" and a.dtype == dtype and torch.equal(a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sphere(torch.eye(1)), "2 x 2 or larger"),
        (lambda: Sphere(torch.ones(2, 2)), "symmetric positive definite"),
        (lambda: Sphere(torch.eye(2), -1.0), "noise must not be negative"),
        (lambda: walk(Sphere(torch.eye(2)), torch.ones(2), "GD", 0.1, 1), "method must be SGD, Adam or K-FAC"),
        (lambda: walk(Sphere(torch.eye(2)), torch.ones(2), "SGD", 0.1, 0), "steps >= 1"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

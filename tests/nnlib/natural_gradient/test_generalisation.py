"""Claims about ``nnlib.natural_gradient.generalisation``: quantity, bound, what the infinite network predicts."""

import math

import pytest
import torch

from nnlib.natural_gradient import (
    TwoLayer,
    complexity,
    infinite_gram,
    interpolate,
    loss_bound,
    train,
)
from tenpapers.natural_gradient.workloads import pair, sphere

assert_close = torch.testing.assert_close


def test_complexity_is_the_distance_that_a_linearised_network_moves():
    """n complexity^2 = |J^+ y|^2. Breaks if the root or the mean is lost."""
    J = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    moved = (torch.linalg.pinv(J) @ y).norm()
    assert complexity(J @ J.T, y) == pytest.approx(float(moved) / math.sqrt(5))


def test_a_wide_network_moves_that_far():
    """From outputs made 0 by taking the start off the targets; within 2 %."""
    x, y, *_ = sphere(n=12, d=6)
    net = TwoLayer(6, 2**16, dtype=torch.float64)
    start = net.weight.detach().clone()
    with torch.no_grad():
        u = net(x)[:, 0]
    train(net, x, y + u, "Natural gradient", 0.5, 20, watch=False)
    moved = float((net.weight.detach() - start).norm())
    assert moved == pytest.approx(complexity(infinite_gram(x), y) * math.sqrt(12), rel=0.02)


@pytest.mark.parametrize("method", ["Natural gradient", "K-FAC"])
def test_infinite_network_predicts_what_a_wide_one_trained_by_the_natural_gradient_does(method):
    """The minimum-norm solution. K-FAC fits the same targets by another solution: the negative control."""
    x, y, z, *_ = sphere(n=12, d=6)
    net = TwoLayer(6, 2**16, dtype=torch.float64)
    with torch.no_grad():
        u, v = net(x)[:, 0], net(z)[:, 0]
    train(net, x, y + u, method, 0.5, 60, watch=False)
    with torch.no_grad():
        off = float((net(z)[:, 0] - v - interpolate(x, y, z)).norm() / z.shape[0] ** 0.5)
    assert off < 0.05 if method == "Natural gradient" else off > 0.2


def test_interpolation_fits_its_targets():
    x, y, *_ = sphere(n=12, d=6)
    assert_close(interpolate(x, y, x), y)


def test_bound_is_its_written_out_formula_and_rounds_the_distance_up():
    """Breaks if the union over balls is forgotten: B = 3 has a third of a twelfth of delta's share."""
    n, trace, delta = 200, 100.0, 0.1
    expected = 2 * 3 * math.sqrt(trace) / n + 3 * math.sqrt(math.log(2 / (delta / (3 * 4))) / (2 * n))
    assert loss_bound(2.2, trace, n, delta) == pytest.approx(expected)
    assert loss_bound(3.0, trace, n, delta) == pytest.approx(expected)
    assert loss_bound(0.0, trace, n, delta) == loss_bound(1.0, trace, n, delta)
    assert sum(1 / (B * (B + 1)) for B in range(1, 10_000)) <= 1  # the shares of delta add up to at most delta


def test_rademacher_complexity_of_the_ball_is_at_most_what_the_bound_uses():
    """E |sum_i s_i J_i| / n <= sqrt(tr G) / n over random signs s, by Jensen's inequality, and not far below it."""
    G = infinite_gram(sphere(n=40, d=6).x)
    signs = 2.0 * torch.randint(0, 2, (20_000, 40), generator=torch.Generator().manual_seed(0)) - 1
    measured = float(((signs.double() @ G) * signs).sum(1).clamp(min=0).sqrt().mean())
    assert 0.85 * math.sqrt(20.0) < measured <= math.sqrt(20.0)


def test_bound_holds_on_many_samples_of_a_linear_model():
    """Ramp loss on fresh data, 200 draws of the training set: never above the bound at delta = 0.5."""
    generator = torch.Generator().manual_seed(0)
    n, d = 200, 5
    for _ in range(200):
        x = torch.randn(n + 1000, d, generator=generator, dtype=torch.float64)
        x = x / x.norm(dim=1, keepdim=True)
        y = torch.where(x[:, 0] > 0, 1.0, -1.0).double()
        v = torch.linalg.lstsq(x[:n], y[:n, None]).solution[:, 0]
        fit = (1 - y * (x @ v)).clamp(0, 1)
        bound = loss_bound(float(v.norm()), n, n, 0.5)
        assert fit[n:].mean() <= fit[:n].mean() + bound  # not interpolated here: the training loss is added


def test_bound_says_something_for_an_easy_pair_of_digits_and_holds_there():
    """MNIST, 0 against 1, 1,000 images: below 1, and above the error on the test images."""
    x, y, z, labels, _ = pair("mnist", 0, 1, 1000, vendored=True)
    G = infinite_gram(x)
    bound = loss_bound(complexity(G, y) * 1000**0.5, float(G.trace()), 1000)
    loss = (1 - labels * interpolate(x, y, z)).clamp(0, 1).mean()
    assert loss < bound < 0.8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: complexity(torch.eye(3), torch.ones(4)), r"G must have shape \(n, n\), where n = 4"),
        (lambda: complexity(torch.ones(2, 2), torch.ones(2)), "positive definite: two inputs may be parallel"),
        (lambda: loss_bound(-1.0, 1.0, 10), "distance must be a number in"),
        (lambda: loss_bound(1.0, 1.0, 10, 0.0), "delta must be a number in"),
        (lambda: loss_bound(float("nan"), 1.0, 10), "distance must be a number in"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

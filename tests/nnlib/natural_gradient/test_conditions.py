"""Claims about ``nnlib.natural_gradient.conditions``: the theorem's constants, the theorem itself, the certificate."""

import copy
import math

import pytest
import torch

from nnlib.natural_gradient import (
    TwoLayer,
    certified_radius,
    jacobian_change,
    largest_lr,
    natural_gradient,
    radius,
    stability_constant,
    train,
)
from tenpapers.natural_gradient.workloads import Bent, sphere

assert_close = torch.testing.assert_close
X = sphere(n=6, d=4).x


@pytest.mark.parametrize("C", [0.0, 0.1, 0.3, 0.45, 0.499])
def test_at_the_largest_lr_the_proofs_contraction_is_exactly_the_theorems_rate(C):
    """(1 - lr (1 - C))^2 = 1 - lr there, below it is smaller, above larger. Breaks if the constant is another."""
    lr = largest_lr(C)
    assert math.isclose((1 - lr * (1 - C)) ** 2, 1 - lr, abs_tol=1e-12)
    assert (1 - 0.9 * lr * (1 - C)) ** 2 < 1 - 0.9 * lr
    assert C == 0 or (1 - 1.1 * lr * (1 - C)) ** 2 > 1 - 1.1 * lr


@pytest.mark.parametrize("C", [0.0, 0.2, 0.4, 0.5])
def test_the_proof_never_leaves_the_ball_of_condition_two(C):
    """Total movement 1 / ((1 - C/3) (1 - C)) in units of |r| / sigma is below the 3 of the ball."""
    assert 1 / ((1 - C / 3) * (1 - C)) < 3
    assert 2 * C / (3 - C) <= C  # the error of a step that the proof replaces by C


@pytest.mark.parametrize("bend", [0.01, 0.05, 0.08])
def test_the_theorem_holds_where_condition_two_is_known_to_hold(bend):
    """A model with C known in closed form, at the largest covered learning rate, from targets far and near."""
    C = stability_constant(2 * bend, (1 + bend) ** 2)  # sqrt(lambda_min) = 1 + bend
    lr, x = largest_lr(C), torch.eye(5, dtype=torch.float64)
    assert 0 < C < 0.5
    for scale in (0.1, 3.0, 30.0):
        model = Bent(5, bend)
        y = scale * torch.tensor([1.0, -2.0, 3.0, 0.5, -0.2], dtype=torch.float64)[:, None]
        start = y.square().sum()
        for k in range(1, 15):
            with torch.no_grad():
                step = natural_gradient(model, x, model(x) - y)
                model.theta -= lr * step
                left = (model(x) - y).square().sum()
            assert left <= (1 - lr) ** k * start + 1e-20
            assert model.theta.norm() <= radius(float(start.sqrt()), (1 + bend) ** 2)


def test_outside_its_conditions_the_rate_can_fail():
    """A negative control for the test above: with a strong bend the squared residual exceeds (1 - lr)^k."""
    model, x = Bent(1, 0.95), torch.ones(1, 1, dtype=torch.float64)
    y, lr, failed = torch.full((1, 1), 12.0, dtype=torch.float64), 0.9, False
    for k in range(1, 10):
        with torch.no_grad():
            model.theta -= lr * natural_gradient(model, x, model(x) - y)
            failed |= bool((model(x) - y).square() > (1 - lr) ** k * y.square())
    assert failed


def change_after(net, x, distance, direction):
    """|J(W) - J(W_0)|_2 of weights at this distance from the start."""
    moved = copy.deepcopy(net)
    with torch.no_grad():
        moved.weight += distance * direction / direction.norm()
    return float(jacobian_change(moved, net, x))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("change", [0.1, 0.3, 0.6])
def test_no_weights_within_the_certified_radius_change_the_jacobian_by_more(seed, change):
    """Random directions and greedy ones, that turn over the cheapest ReLUs first."""
    net = TwoLayer(4, 64, seed=seed, dtype=torch.float64)
    R = certified_radius(net, X, change)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        direction = torch.randn(64, 4, generator=generator, dtype=torch.float64)
        assert change_after(net, X, R, direction) <= change
    product = net.weight.detach() @ X.T  # (m, n)
    for count in range(1, 40):
        chosen = product.abs().flatten().argsort()[:count]
        shift = torch.zeros_like(product).flatten()
        shift[chosen] = -product.flatten()[chosen] * (1 + 1e-9)
        direction = shift.view_as(product) @ X
        if direction.norm() <= R:
            assert change_after(net, X, float(direction.norm()), direction) <= change


def test_a_radius_larger_by_the_number_of_examples_is_too_large():
    """The certificate is not vacuous: spending n R on a single example's ReLUs breaks the allowed change."""
    net, x, change = TwoLayer(4, 4096, dtype=torch.float64), X, 0.3
    R = certified_radius(net, x, change)
    product = net.weight.detach() @ x[0]  # (m,)
    order = product.abs().argsort()
    count = int((product[order].square().cumsum(0) <= (len(x) * R) ** 2).sum())
    direction = torch.zeros_like(net.weight)
    direction[order[:count]] = -(1 + 1e-9) * product[order[:count], None] * x[0]
    assert direction.norm() <= (1 + 1e-6) * len(x) * R
    assert change_after(net, x, float(direction.norm()), direction) > change


@pytest.mark.parametrize("nu", [0.5, 1.0, 2.0])
def test_certified_radius_has_its_large_width_form(nu):
    """nu change^3 sqrt(pi m / 6) / n. Breaks if prices, values or the allowance are scaled wrongly."""
    net, change = TwoLayer(4, 2**16, nu=nu, dtype=torch.float64), 0.15
    expected = nu * change**3 * math.sqrt(math.pi * 2**16 / 6) / len(X)
    assert certified_radius(net, X, change) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("width", [2**17, 2**19])
def test_turning_over_one_examples_relus_breaks_condition_two_at_the_distance_of_its_formula(width):
    """beta^3 sqrt(pi m / 6) with C = 1/2; far inside the theorem's ball at these widths."""
    x, y, *_ = sphere(n=24, d=10)
    net = TwoLayer(10, width, dtype=torch.float64)
    smallest = float(torch.linalg.eigvalsh(net.gram(x))[0])
    product = net.weight.detach() @ x[0]
    count = math.floor(width * smallest / 36) + 1
    chosen = product.abs().argsort()[:count]
    change = math.sqrt(count / width)  # the norm of row 0 of J - J(0), at most its spectral norm
    assert stability_constant(change, smallest) > 0.5
    distance = float(product[chosen].norm())
    beta = math.sqrt(smallest) / 6
    assert distance == pytest.approx(beta**3 * math.sqrt(math.pi * width / 6), rel=0.2)
    with torch.no_grad():
        assert distance < 0.01 * radius(float((net(x)[:, 0] - y).norm()), smallest)


def test_the_theorem_holds_on_a_relu_network_where_the_certificate_reaches():
    """Both conditions certified in the whole ball, no assumption left: the rate at the largest lr covered."""
    net, C = TwoLayer(4, 2**14, dtype=torch.float64), 0.25
    smallest = float(torch.linalg.eigvalsh(net.gram(X))[0])
    R = certified_radius(net, X, C / 3 * math.sqrt(smallest))
    distance = R * math.sqrt(smallest) / 3  # so that radius(distance, smallest) = R
    with torch.no_grad():
        u = net(X)[:, 0]
    direction = torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = u + distance * direction / direction.norm()
    lr = largest_lr(C)
    run = train(net, X, y, "Natural gradient", lr, steps=3)
    left = (run.distance(y) / distance).square()
    assert (left <= (1 - lr) ** torch.arange(4.0) + 1e-6).all()  # 1e-6: u is rounded at 1e-16, distance is 1e-5
    assert run.constant.max() <= C


def test_no_radius_is_too_large_for_a_change_of_all_inputs_and_units_do_not_matter():
    """|J - J_0|_F <= |X|_F for every W. Breaks, in units of 1e25, where squares overflow in single precision."""
    net, x = TwoLayer(4, 8), X.float()
    most = float(x.norm())
    assert certified_radius(net, x, 1.001 * most) == math.inf > certified_radius(net, x, 0.999 * most)
    assert certified_radius(net, 1e25 * x, 1e25 * 0.3) == pytest.approx(certified_radius(net, x, 0.3), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: stability_constant(0.1, 0.0),
            "condition 1 asks for a positive eigenvalue of the Gram matrix: smallest must be",
        ),
        (lambda: stability_constant(-0.1, 1.0), "change must be a number in"),
        (lambda: radius(1.0, -1.0), "condition 1 asks for a positive eigenvalue of the Gram matrix: smallest must be"),
        (lambda: radius(-1.0, 1.0), "residual must be a number in"),
        (lambda: largest_lr(-0.1), "constant must be a number in"),
        (lambda: largest_lr(float("nan")), "constant must be a number in"),
        (lambda: certified_radius(TwoLayer(4, 8), X.float(), 0.0), "change must be a number in"),
        (lambda: certified_radius(TwoLayer(4, 8), 0 * X.float(), 0.1), "x must have no row of zeros"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

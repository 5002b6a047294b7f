"""Claims about ``nnlib.natural_gradient.train``: closed-form steps, the monitors, and the infinitely wide network."""

import copy

import pytest
import torch

from nnlib.natural_gradient import (
    METHODS,
    TwoLayer,
    ideal_run,
    jacobian_change,
    logistic,
    natural_gradient,
    stable_lr,
    train,
)
from nnlib.natural_gradient.losses import SQUARED
from tenpapers.natural_gradient.workloads import sphere

assert_close = torch.testing.assert_close
X, Y, *_ = sphere(n=10, d=4)


def net(width=32, seed=0):
    return TwoLayer(4, width, seed=seed, dtype=torch.float64)


@pytest.mark.parametrize("method", ["Natural gradient", "Gauss-Newton"])
@pytest.mark.parametrize("damping", [0.0, 0.2])
@pytest.mark.parametrize("loss", [SQUARED, logistic(0.3)], ids=["squared", "logistic"])
def test_step_in_closed_form_is_that_of_any_module(method, damping, loss):
    """Against ``natural_gradient``, which knows nothing of the network's structure."""
    model, start = net(), net()
    with torch.no_grad():
        u = model(X)[:, 0]
    h = loss.curvature(u, Y)[:, None] if method == "Gauss-Newton" else None
    expected = natural_gradient(model, X, loss.slope(u, Y)[:, None], damping=damping, curvature=h)
    train(model, X, Y, method, lr=0.4, steps=1, loss=loss, damping=damping)
    assert_close((start.weight - model.weight).detach().flatten() / 0.4, expected, rtol=1e-7, atol=1e-9)


def test_gradient_descent_is_autograds():
    model, start = net(), net()
    (0.5 * (start(X)[:, 0] - Y).square().sum()).backward()
    train(model, X, Y, "GD", lr=0.1, steps=1)
    assert_close(model.weight.detach(), (start.weight - 0.1 * start.weight.grad).detach())


def test_monitors_are_the_condition_s_quantities():
    """Against the Jacobians of autograd. Breaks if they are taken after the step in place of before."""
    model, start = net(), net()
    run = train(model, X, Y, "Natural gradient", lr=0.3, steps=3)
    smallest = torch.linalg.eigvalsh(start.gram(X))[0]
    assert_close(run.smallest[0], smallest)
    assert_close(run.smallest[-1], torch.linalg.eigvalsh(model.gram(X))[0])
    assert_close(run.constant[-1], 3 * jacobian_change(model, start, X) / smallest.sqrt())
    assert_close(run.movement[-1], ((model.weight - start.weight).norm() / start.weight.norm()).detach())
    assert_close(run.outputs[-1], model(X)[:, 0].detach())
    assert run.constant[0] == 0 and run.movement[0] == 0 and len(run.outputs) == 4


def test_where_condition_one_fails_there_is_no_constant():
    """Three neurons can't fit ten examples: G is singular, and its smallest eigenvalue is rounding of either sign."""
    for seed in range(5):
        model = TwoLayer(2, 3, seed=seed, dtype=torch.float64)
        run = train(model, X[:, :2], Y, "Natural gradient", lr=0.1, steps=2)
        assert run.constant.isnan().all() and run.smallest.abs().max() < 1e-12


def test_without_watching_the_run_is_the_same():
    watched, plain = (train(net(), X, Y, "K-FAC", 0.3, 3, watch=w) for w in (True, False))
    assert torch.equal(watched.outputs, plain.outputs) and plain.constant.isnan().all() and plain.smallest.isnan().all()


@pytest.mark.parametrize("method", ["GD", "Natural gradient", "K-FAC"])
def test_outputs_approach_those_of_the_infinite_network_as_one_over_the_root_of_the_width(method):
    """16 times the width, a quarter of the deviation. Breaks if an ideal operator is wrong by any fixed amount."""
    deviations = []
    for width in (2**10, 2**14):
        found = []
        for seed in range(6):
            model = net(width, seed)
            lr = 0.5 * stable_lr(model, X) if method == "GD" else 0.5
            run = train(model, X, Y, method, lr, steps=5, watch=False)
            found.append((run.outputs - ideal_run(X, run.outputs[0], Y, method, 0.5, 5)).norm())
        deviations.append(torch.stack(found).mean())
    assert 2.2 < deviations[0] / deviations[1] < 7.5


def over_widths(column, lr):
    """Means over three seeds at two widths, of what a run of the natural gradient says."""
    found = []
    for width in (256, 4096):
        runs = [train(net(width, seed), X, Y, "Natural gradient", lr, steps=6) for seed in range(3)]
        found.append(sum(float(column(run)) for run in runs) / 3)
    return found


def test_wider_networks_change_their_jacobian_and_their_weights_less():
    """Weights as one over the root of the width, a quarter; the Jacobian by less. Breaks if 1/sqrt(m) is lost."""
    narrow, wide = over_widths(lambda run: run.movement[-1], 0.3)
    assert 3.2 < narrow / wide < 5
    narrow, wide = over_widths(lambda run: run.constant.max(), 0.3)
    assert 1.4 < narrow / wide < 4


def test_one_step_with_lr_one_leaves_less_in_wider_networks():
    narrow, wide = over_widths(lambda run: run.distance(Y)[1] / run.distance(Y)[0], 1.0)
    assert wide < 0.1 and 2 < narrow / wide < 6


def test_natural_gradient_walks_straight_and_gradient_descent_makes_a_detour():
    runs = {}
    for method in ("GD", "Natural gradient"):
        model = net(2**14)
        runs[method] = train(model, X, Y, method, stable_lr(model, X) if method == "GD" else 0.3, 40, watch=False)
    assert runs["Natural gradient"].detour() < 1.001 and runs["GD"].detour() > 1.05


def test_natural_gradient_does_not_care_for_the_scale_of_the_inputs_and_gradient_descent_does():
    """f is homogeneous: X / 3 and 3 W are the same function and the same path of outputs, for the natural gradient."""
    ends = {}
    for method, lr in (("Natural gradient", 0.4), ("GD", 0.05)):
        for scale in (1.0, 3.0):
            model = net(64)
            with torch.no_grad():
                model.weight *= scale
            ends[method, scale] = train(model, X / scale, Y, method, lr, 4, watch=False).outputs[-1]
    assert_close(ends["Natural gradient", 1.0], ends["Natural gradient", 3.0], rtol=1e-6, atol=1e-8)
    assert (ends["GD", 1.0] - ends["GD", 3.0]).norm() > 0.1


def test_damping_makes_the_step_shorter_in_the_directions_of_small_eigenvalues():
    """In function space a damped step multiplies the residual along an eigenvector by 1 - lr e / (e + damping)."""
    model = net(2**16)
    G = model.gram(X)
    values, vectors = torch.linalg.eigh(G)
    run = train(model, X, Y, "Natural gradient", lr=1.0, steps=1, damping=0.1, watch=False)
    before, after = vectors.T @ (run.outputs[0] - Y), vectors.T @ (run.outputs[1] - Y)
    assert_close(after, before * (1 - values / (values + 0.1)), rtol=0, atol=0.03)


def test_a_step_far_beyond_the_limit_is_an_error_that_names_it():
    with pytest.raises(
        FloatingPointError, match=r"GD: outputs are not finite after step \d+: lr = 1e\+200 is too large"
    ):
        train(net(), X, Y, "GD", 1e200, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "Adam"}, "method must be one of GD, Natural gradient, Gauss-Newton, K-FAC: got 'Adam'"),
        ({"lr": 0.0}, "lr must be a number in"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"damping": -0.1}, "damping must be a number in"),
        ({"method": "K-FAC", "damping": 0.1}, "K-FAC takes no damping here: got 0.1"),
        ({"method": "GD", "damping": 0.1}, "GD takes no damping here: got 0.1"),
    ],
)
def test_bad_input_is_refused_and_nothing_changes(options, message):
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=message):
        train(model, X, Y, **({"method": "Natural gradient", "lr": 0.1, "steps": 1} | options))
    assert torch.equal(model.weight, before["weight"])


def test_there_is_no_ideal_of_an_unknown_method():
    with pytest.raises(ValueError, match="method must be one of GD, Natural gradient, K-FAC: got 'Gauss-Newton'"):
        ideal_run(X, Y, Y, "Gauss-Newton", 0.1, 1)
    assert set(METHODS) == {"GD", "Natural gradient", "Gauss-Newton", "K-FAC"}

"""Claims about ``nnlib.natural_gradient.losses``: derivatives, constants, and the contraction beyond squared error."""

import pytest
import torch

from nnlib.natural_gradient import SQUARED, TwoLayer, logistic, train
from tenpapers.natural_gradient.workloads import sphere

assert_close = torch.testing.assert_close
LOSSES = {"squared": SQUARED, "logistic 0.1": logistic(0.1), "logistic 1": logistic(1.0)}
VALUES = {
    "squared": lambda u, y: 0.5 * (u - y) ** 2,
    "logistic 0.1": lambda u, y: torch.log1p((-y * u).exp()) + 0.05 * u**2,
    "logistic 1": lambda u, y: torch.log1p((-y * u).exp()) + 0.5 * u**2,
}
U = torch.linspace(-6, 6, 61, dtype=torch.float64)
Y = torch.where(torch.arange(61) % 2 == 0, 1.0, -1.0).double()


@pytest.mark.parametrize("name", LOSSES)
def test_slope_and_curvature_are_the_derivatives_of_the_written_out_loss(name):
    loss, u = LOSSES[name], U.clone().requires_grad_()
    slope = torch.autograd.grad(VALUES[name](u, Y).sum(), u, create_graph=True)[0]
    assert_close(loss.slope(U, Y), slope.detach())
    assert_close(loss.curvature(U, Y), torch.autograd.grad(slope.sum(), u)[0])


@pytest.mark.parametrize("name", LOSSES)
def test_curvature_stays_between_the_constants_and_reaches_them(name):
    """mu <= l'' <= L, with equality at u = 0 and far out: no tighter constants would do."""
    loss = LOSSES[name]
    h = loss.curvature(torch.linspace(-60, 60, 2001, dtype=torch.float64), torch.ones(2001, dtype=torch.float64))
    assert h.min() >= loss.mu - 1e-15 and h.max() <= loss.smoothness + 1e-15
    assert_close(h.min().item(), loss.mu, rtol=1e-6, atol=0)
    assert_close(h.max().item(), loss.smoothness, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_minimiser_has_slope_zero(name):
    assert_close(LOSSES[name].slope(LOSSES[name].minimiser(Y), Y), torch.zeros_like(Y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_a_gradient_step_on_the_outputs_contracts_as_promised(name, share):
    """|u - lr l'(u) - u*|^2 <= contraction |u - u*|^2, for every u. Breaks if mu and L are mixed up."""
    loss = LOSSES[name]
    lr, best = share * 2 / (loss.mu + loss.smoothness), loss.minimiser(Y)
    after = (U - lr * loss.slope(U, Y) - best).square()
    assert (after <= loss.contraction(lr) * (U - best).square() + 1e-12).all()


def test_contraction_of_the_squared_error_is_the_theorems_rate():
    assert SQUARED.contraction(0.3) == pytest.approx(1 - 0.3)


@pytest.mark.parametrize("l2", [0.1, 1.0])
def test_a_wide_network_contracts_as_its_outputs_would(l2):
    """The natural gradient with J'J on the logistic loss: |u - u*|^2 falls by the bound or faster at every step."""
    x, y, *_ = sphere(n=12, d=6)
    loss = logistic(l2)
    lr = 2 / (loss.mu + loss.smoothness)
    run = train(TwoLayer(6, 2**15, dtype=torch.float64), x, y, "Natural gradient", lr, steps=8, loss=loss, watch=False)
    left = run.distance(loss.minimiser(y)).square()
    assert (left[1:] <= (loss.contraction(lr) + 0.02) * left[:-1] + 1e-12).all()
    ideal = [run.outputs[0]]
    for _ in range(8):
        ideal.append(ideal[-1] - lr * loss.slope(ideal[-1], y))
    assert_close(run.outputs, torch.stack(ideal), rtol=0, atol=0.15)


def test_gauss_newton_is_newtons_method_on_the_outputs():
    """With J'HJ and lr 1 a wide network's outputs take Newton's steps; the plain natural gradient is slower."""
    x, y, *_ = sphere(n=12, d=6)
    loss, distances = logistic(0.1), {}
    for method, lr in (("Gauss-Newton", 1.0), ("Natural gradient", 2 / 0.45)):
        net = TwoLayer(6, 2**15, dtype=torch.float64)
        run = train(net, x, y, method, lr, steps=5, loss=loss, watch=False)
        distances[method] = run.distance(loss.minimiser(y))
        if method == "Gauss-Newton":
            u = run.outputs[0]
            newton = u - loss.slope(u, y) / loss.curvature(u, y)
            assert_close(run.outputs[1], newton, rtol=0, atol=0.15)
    assert distances["Gauss-Newton"][-1] < 0.01 * distances["Natural gradient"][-1]


def test_gauss_newton_is_the_natural_gradient_for_the_squared_error():
    x, y, *_ = sphere(n=8, d=4)
    ends = []
    for method in ("Natural gradient", "Gauss-Newton"):
        net = TwoLayer(4, 64, dtype=torch.float64)
        train(net, x, y, method, 0.5, steps=3, damping=0.1)
        ends.append(net.weight.detach())
    assert_close(*ends)


def test_numbers_out_of_their_range_are_refused():
    with pytest.raises(ValueError, match="l2 must be a number in"):
        logistic(0.0)
    with pytest.raises(ValueError, match=r"lr must be a number in \(0, 1.0\]: got 1.5"):
        SQUARED.contraction(1.5)


@pytest.mark.parametrize("l2", [1e-300, 1e-30, 1e-3, 0.25, 10.0, 1e6, 1e300])
def test_the_minimiser_balances_both_terms_however_weak_the_second_is(l2):
    """l2 t = sigmoid(-t) for t = y u. Breaks if Newton's steps end on the way, where t is large."""
    y = torch.tensor([1.0, -1.0], dtype=torch.float64)
    t = y * logistic(l2).minimiser(y)
    torch.testing.assert_close(l2 * t, torch.sigmoid(-t), rtol=1e-12, atol=0)

"""Mechanism 3: the length of the weights multiplies the damping that their direction sees."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nnlib.curvature import dense_fisher, dense_gauss_newton, factors, layer_index
from nnlib.models import MLP
from nnlib.weight_decay import damped_direction, normalised_curvature, rescale_
from tenpapers.data import load

DIGITS = load("digits").to(dtype=torch.float64).train
X, Y = DIGITS.x[:60], DIGITS.y[:60]


def net(c=1.0):
    model = MLP([64, 6, 10], batch_norm=True, seed=0, dtype=torch.float64)
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-30  # torch wants it positive
    rescale_(model, c)
    return model


def step(c, damping, fisher, damp):
    """The damped K-FAC step of the first layer's weights at c theta."""
    model = net(c)
    block = factors(model, X, fisher=fisher, layers=["layers.1"])["layers.1"]
    cross_entropy(model(X), Y).backward()
    layer = model.get_submodule("layers.1")
    grad = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)
    if damp == "factored":
        return block.damped(damping).cholesky().solve(grad)[:, :-1]
    return block.eigen().solve(grad, damping)[:, :-1]


@pytest.mark.parametrize("fisher", ["exact", "gauss_newton_exact"])
@pytest.mark.parametrize("damp", ["factored", "exact"])
@pytest.mark.parametrize("c", [0.2, 6.0])
def test_a_damped_step_at_long_weights_is_the_step_at_short_ones_with_more_damping(c, fisher, damp):
    """U(c theta; damping) = c U(theta; c^2 damping), for both ways to damp Kronecker factors."""
    torch.testing.assert_close(step(c, 1e-3, fisher, damp), c * step(1.0, c**2 * 1e-3, fisher, damp))


def test_the_same_holds_for_the_exact_curvature_of_the_layer():
    """With the dense Fisher and Gauss-Newton matrices of the network in evaluation mode."""
    for dense in (dense_fisher, dense_gauss_newton):
        found = []
        for c in (1.0, 3.0):
            model = net(c)
            model(X)  # running statistics at this scale, with full momentum
            for module in model.modules():
                if hasattr(module, "momentum"):
                    module.momentum = 1.0
            model(X)
            model.eval()
            index = layer_index(model, "layers.1").view(6, 65)[:, :-1].flatten()
            found.append(dense(model, X)[index][:, index])
        torch.testing.assert_close(found[0], 9 * found[1])


def test_growing_weights_turn_the_kfac_step_into_the_gradient():
    """The angle between the step and the gradient falls with the length, at the same damping."""
    model = net()
    cross_entropy(model(X), Y).backward()
    g = model.get_submodule("layers.1").weight.grad.flatten()
    cosines = []
    for c in (0.1, 1.0, 10.0, 100.0, 1000.0):
        U = step(c, 1e-3, "gauss_newton_exact", "exact").flatten()
        cosines.append(float(U @ g / (U.norm() * g.norm())))
    assert cosines == sorted(cosines) and cosines[0] < 0.7 and cosines[-1] > 0.999


def test_damped_direction_turns_from_the_natural_to_the_plain_gradient():
    C, g = torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64)), torch.ones(2, dtype=torch.float64)
    natural, plain = torch.tensor([9.0, 1.0]) / 82**0.5, torch.ones(2) / 2**0.5
    torch.testing.assert_close(damped_direction(C, g, 0.0), natural.double())
    torch.testing.assert_close(damped_direction(C, g, 1e9), plain.double(), rtol=1e-7, atol=1e-7)
    angles = [float(damped_direction(C, g, 10.0**k) @ plain.double()) for k in range(-3, 4)]
    assert angles == sorted(angles)


@pytest.mark.parametrize("fisher", ["exact", "gauss_newton_exact"])
def test_normalised_curvature_does_not_depend_on_the_length(fisher):
    values = [normalised_curvature(net(c), X, "layers.1", fisher) for c in (0.1, 1.0, 7.0)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-9)


def test_fisher_vanishes_with_certain_predictions_and_gauss_newton_does_not():
    """F = E J'(diag p - p p')J and G = E J'J; a thousand times longer logits make p a corner."""
    values = {}
    for c in (1.0, 1000.0):
        model = net()
        with torch.no_grad():
            model.layers[-1].weight.mul_(c)
        for fisher in ("exact", "gauss_newton_exact"):
            values[fisher, c] = normalised_curvature(model, X, "layers.1", fisher)
    assert values["gauss_newton_exact", 1000.0] == pytest.approx(1000**2 * values["gauss_newton_exact", 1.0])
    relative = values["exact", 1000.0] / values["gauss_newton_exact", 1000.0]
    assert relative < 0.02 * values["exact", 1.0] / values["gauss_newton_exact", 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 2), torch.ones(2), 0.0), "curvature must be positive definite with damping 0.0"),
        ((torch.eye(2), torch.zeros(2), 1.0), "gradient must not be zero"),
        ((torch.eye(2), torch.ones(2), -1.0), r"damping must be a number in \[0, inf\)"),
    ],
)
def test_a_step_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        damped_direction(*arguments)

"""Mechanism 1: what the length of weights under BatchNorm does and does not do."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from nnlib.models import MLP, VGG, ResNet, SmallCNN
from nnlib.weight_decay import (
    effective_lr,
    equilibrium_norm,
    equilibrium_turn,
    invariant_layers,
    make_optimizer,
    matched_lr,
    rescale_,
    set_norms_,
    weight_norms,
)
from nnlib.weight_decay.damping import effective_damping
from tenpapers.data import load

DIGITS = load("digits").to(dtype=torch.float64).train


EPS = 1e-30  # torch wants it positive


def net(eps=EPS, batch_norm=True):
    model = MLP([64, 24, 24, 10], batch_norm=batch_norm, seed=0, dtype=torch.float64)
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = eps
    return model


def losses(model, optimizer, steps=30):
    found = []
    for step in range(steps):
        batch = slice(40 * (step % 30), 40 * (step % 30) + 40)
        loss = cross_entropy(model(DIGITS.x[batch]), DIGITS.y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


def freeze_last(model):
    """Only the layers under BatchNorm are trained: their scale is all that changes between the two runs."""
    for parameter in model.layers[-1].parameters():
        parameter.requires_grad_(False)
    return model


CASES = {
    "SGD": ("SGD", {"momentum": 0.0}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "Adam": ("Adam", {"eps": 1e-300}),
    "K-FAC-G": ("K-FAC-G", {"damping": 1e-3, "update_factors_every": 1, "update_inverses_every": 3}),
    "K-FAC-F": ("K-FAC-F", {"damping": 1e-3, "update_factors_every": 1, "update_inverses_every": 3}),
}


def pair(case, c, power_shift=0.0, damping_matched=True):
    """Losses of the run from theta and of the run from c theta with the matched learning rate."""
    method, options = CASES[case]
    lr = {"SGD": 0.5, "Adam": 0.01}.get(method, 0.05)
    plain, scaled = freeze_last(net()), freeze_last(net())
    rescale_(scaled, c)
    if "damping" in options and damping_matched:
        other = options | {"damping": options["damping"] / c**2}
    else:
        other = options
    first = losses(plain, make_optimizer(plain, method, lr, **options))
    second = losses(scaled, make_optimizer(scaled, method, matched_lr(method, lr, c) * c**power_shift, **other))
    return first, second


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("c", [0.3, 3.7])
def test_a_rescaled_start_with_the_matched_learning_rate_visits_the_same_functions(case, c):
    """(c theta, c^2 lr) for SGD and momentum, (c theta, c lr) for Adam, (c theta, lr) for K-FAC with damping/c^2."""
    first, second = pair(case, c)
    assert first[0] > 1.2 * first[-1]  # something was learnt
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_another_learning_rate_does_not(case):
    """Negative control: half a power of c more changes the losses."""
    first, second = pair(case, 3.7, power_shift=0.5)
    assert (first - second).abs().max() > 1e-3


def test_kfac_with_the_same_damping_does_not_visit_the_same_functions():
    """The damping that the direction sees has changed by c^2."""
    first, second = pair("K-FAC-G", 3.7, damping_matched=False)
    assert (first - second).abs().max() > 1e-3


def test_the_eps_of_batch_norm_breaks_the_invariance_of_short_weights():
    x = DIGITS.x[:100]
    for c, differs in ((1e-3, True), (1.0, False)):
        model = net(eps=1e-5)
        expected = net()(x)
        rescale_(model, c)
        error = (model(x) - expected).abs().max()
        assert (error > 1e-2) == differs


def test_the_gradient_is_orthogonal_to_the_weights_and_shrinks_with_their_length():
    for c in (1.0, 5.0):
        model = net()
        rescale_(model, c)
        cross_entropy(model(DIGITS.x), DIGITS.y).backward()
        weights = [model.get_submodule(name).weight for name in invariant_layers(model)]
        for w in weights:
            assert abs((w * w.grad).sum()) < 1e-12 * w.norm() * w.grad.norm() + 1e-14
        grads = [w.grad for w in weights]
        if c == 1.0:
            first = grads
    for a, b in zip(first, grads, strict=True):
        torch.testing.assert_close(a, 5 * b)


def test_squared_length_grows_by_the_square_of_each_step():
    """|W|^2 -> |W|^2 + lr^2 |g|^2 for SGD without momentum and without decay; the output layer does not do so."""
    model, lr = net(), 0.5
    optimizer = make_optimizer(model, "SGD", lr, momentum=0.0)
    for step in range(20):
        batch = slice(50 * step, 50 * step + 50)
        before = weight_norms(model)
        model.zero_grad()
        cross_entropy(model(DIGITS.x[batch]), DIGITS.y[batch]).backward()
        optimizer.step()
        after = weight_norms(model)
        for name in after:
            g = float(model.get_submodule(name).weight.grad.norm())
            exact = math.isclose(after[name] ** 2, before[name] ** 2 + lr**2 * g**2, rel_tol=1e-12)
            assert exact == (name in invariant_layers(model)), name


def test_equilibrium_is_a_fixed_point_of_the_exact_recursion():
    lr, wd, g = 0.3, 0.7, 2.0
    square = equilibrium_norm(lr, wd, g) ** 2
    assert (1 - lr * wd) ** 2 * square + lr**2 * g**2 / square == pytest.approx(square, rel=1e-12)


def test_layers_under_batch_norm_are_found_in_every_family_of_networks():
    cnn = SmallCNN(width=2, image_size=8, batch_norm=True)
    assert invariant_layers(cnn) == ["layers.0", "layers.4", "layers.9"]
    for model in (VGG(11, width=1 / 32), ResNet(8), net()):
        *hidden, last = [name for name, m in model.named_modules() if hasattr(m, "weight") and m.weight is not None]
        assert invariant_layers(model) == hidden and last not in invariant_layers(model)
    assert invariant_layers(SmallCNN(width=2, image_size=8)) == []


def test_norms_can_be_set_and_only_lengths_change():
    model = net()
    rescale_(model, 2.0)
    before = {name: model.get_submodule(name).weight.detach().clone() for name in weight_norms(model)}
    set_norms_(model, {"layers.1": 3.0})
    assert weight_norms(model)["layers.1"] == pytest.approx(3.0, rel=1e-12)
    after = model.get_submodule("layers.1").weight
    torch.testing.assert_close(after / after.norm(), before["layers.1"] / before["layers.1"].norm())
    assert torch.equal(model.get_submodule("layers.4").weight, before["layers.4"])


def test_effective_rates_have_the_powers_of_the_matched_ones():
    for method in ("SGD", "Adam", "K-FAC-G"):
        assert effective_lr(method, matched_lr(method, 0.1, 3.0), 3.0) == pytest.approx(0.1)
    assert effective_damping(0.1, 3.0) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: set_norms_(net(), {"layers.0": 1.0}), "norms must be among .* got 'layers.0'"),
        (lambda: set_norms_(net(), {"layers.1": 0.0}), "norms must be a number in"),
        (
            lambda: rescale_(net(batch_norm=False), 2.0),
            "model must have a linear or convolutional layer directly followed by BatchNorm",
        ),
        (lambda: rescale_(net(), -1.0), "c must be a number in"),
        (lambda: matched_lr("K-FAC", 0.1, 2.0), "method must be one of SGD"),
        (lambda: equilibrium_norm(0.1, 0.0, 1.0), "weight_decay must be a number in"),
        (lambda: equilibrium_turn(1.0, 1.5), r"lr \* weight_decay must be below 1"),
        (lambda: equilibrium_norm(1.0, 2.5, 1.0), r"lr \* weight_decay must be below 2"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("norms", [{"layers.1": 3.0, "layers.4": 0.0}, {"layers.1": 3.0, "no": 1.0}])
def test_norms_that_are_refused_change_no_layer(norms):
    """Breaks if layers are rescaled one by one until the first bad norm."""
    model = net()
    before = weight_norms(model)
    with pytest.raises(ValueError, match="norms must be"):
        set_norms_(model, norms)
    assert weight_norms(model) == before


def test_the_turn_at_rest_is_right_where_its_cosine_rounds_to_one():
    """sqrt(2 lr wd) up to lr wd / 12 of itself. Breaks for acos(1 - lr wd), which is 0."""
    assert equilibrium_turn(1e-12, 1e-8) == pytest.approx(math.sqrt(2e-20), rel=1e-12)

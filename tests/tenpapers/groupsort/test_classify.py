"""Classifiers train under every constraint; certificates, attacks and accuracy stay in order."""

import math

import pandas as pd
import pytest
import torch

from nnlib.groupsort import jacobian_spectrum, undead_share
from nnlib.lipschitz import accuracies, certify
from tenpapers.data import load
from tenpapers.groupsort import classify, margin, train_classifier


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.mark.parametrize("constraint", ["Björck", "spectral norm", "Parseval", "rows", "rows after step", "mixed"])
def test_every_constraint_learns_the_digits_and_certifies_some(digits, constraint):
    radius = 0.02 if constraint.startswith("rows") else 0.1
    found = classify(
        digits,
        constraint=constraint,
        hidden=(32,),
        epochs=6,
        epsilon=2 * radius,
        radii=[radius],
        attacks=[radius],
        attack_steps=5,
    )
    assert found["clean"] > 0.8
    assert found["clean"] >= found[f"attacked {radius:g}"] >= found[f"certified {radius:g}"] > 0.4


@pytest.mark.parametrize("constraint", ["none", "dropout", "Jacobian penalty"])
def test_baselines_without_a_constraint_learn_and_have_a_worthless_certificate(digits, constraint):
    found = classify(
        digits, activation="ReLU", constraint=constraint, hidden=(32,), epsilon=None, epochs=6, radii=[0.5]
    )
    assert found["clean"] > 0.85
    assert found["proven"] > 3
    assert found["certified 0.5"] < 0.05


def test_the_margin_is_what_certifies_the_radius():
    # logits at exactly the margin have exactly the radius
    for constraint, q in (("Björck", 2), ("rows", math.inf)):
        from nnlib.lipschitz import certified_radius

        logits = torch.tensor([[margin(constraint, 0.3, constant=5.0), 0.0]], dtype=torch.float64)
        assert certified_radius(logits, torch.tensor([0]), 5.0, q=q).item() == pytest.approx(0.3)


def test_inf_norm_networks_are_attacked_in_the_inf_norm(digits):
    model = train_classifier(digits, constraint="rows", hidden=(16,), epochs=2, epsilon=0.05, dtype=torch.float64)
    data = digits.to(dtype=torch.float64)
    certificate = certify(model, data.test)
    assert certificate.p == math.inf
    frame = pd.DataFrame(accuracies(model, data.test, certificate, [0.0, 0.02, 0.1], steps=10))
    assert (frame.clean >= frame.attacked).all()
    assert (frame.attacked >= frame.certified).all()
    assert frame.attacked.iloc[2] < frame.clean.iloc[2]


def test_bad_input_is_refused(digits):
    with pytest.raises(ValueError, match="constraint must be one of"):
        train_classifier(digits, constraint="orthogonal")
    with pytest.raises(ValueError, match="epsilon asks for a margin"):
        train_classifier(digits, constraint="none", epsilon=0.5)


@pytest.mark.parametrize("activation", ["MaxMin", "GroupSort4", "FullSort", "Abs"])
@pytest.mark.parametrize("depth", [1, 20])
def test_with_orthogonal_weights_sorting_is_an_isometry_at_any_depth(activation, depth):
    values = jacobian_spectrum(activation, depth, width=32)
    torch.testing.assert_close(values, torch.ones(32, dtype=torch.float64))


def test_relu_and_spectral_normalisation_each_lose_the_spectrum_with_depth():
    relu = [jacobian_spectrum("ReLU", depth).mean().item() for depth in (2, 5, 10)]
    assert relu == sorted(relu, reverse=True)
    assert relu[0] == pytest.approx(0.5, abs=0.07)  # half of the units are off
    assert relu[2] < 0.05
    spectral = [jacobian_spectrum("MaxMin", depth, weights="spectral norm").mean().item() for depth in (2, 5, 10)]
    assert spectral == sorted(spectral, reverse=True)
    assert spectral[2] < 2e-3
    assert jacobian_spectrum("MaxMin", 2, weights="spectral norm")[0] <= 1 + 1e-6


def test_undead_units_are_counted_by_how_often_they_are_on():
    linear = torch.nn.Linear(1, 3, bias=True)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0], [-1.0], [0.0]]))
        linear.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    x = torch.tensor([[-1.0], [1.0], [2.0], [3.0]])  # on: 3/4, 1/4, always
    found = undead_share(torch.nn.Sequential(linear, torch.nn.ReLU()), x, torch.tensor([0.0, 0.5, 0.75, 1.0]))
    assert found.tolist() == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3])
    with pytest.raises(ValueError, match="no ReLU"):
        undead_share(torch.nn.Sequential(linear), x, torch.tensor([0.5]))

"""What the chapter measures: spectra, estimates below exact distances, accuracies in their order."""

import math

import pytest
import torch

from nnlib.groupsort import relu_ceiling
from nnlib.lipschitz import accuracies, certify
from tenpapers.groupsort import measure
from tenpapers.groupsort.gan import generator_network, train_gan
from tenpapers.groupsort.measure import (
    ROBUST,
    absolute_value_run,
    classify,
    cone_run,
    gan_distance,
    gan_run,
    jacobian_spectrum,
    lwgan_run,
    robust_run,
    spectrum_run,
    undead_run,
)
from tenpapers.groupsort.workloads import images, train_classifier


@pytest.fixture(scope="module")
def digits():
    return images("digits")


@pytest.mark.parametrize("activation", ["MaxMin", "GroupSort4", "FullSort", "Abs"])
@pytest.mark.parametrize("depth", [1, 20])
def test_with_orthogonal_weights_sorting_is_an_isometry_at_any_depth(activation, depth):
    values = jacobian_spectrum(activation, depth, width=32)
    torch.testing.assert_close(values, torch.ones(32, dtype=torch.float64))


def test_relu_and_spectral_normalisation_each_lose_the_spectrum_with_depth():
    relu = [spectrum_run("ReLU", "orthogonal", depth)["mean"] for depth in (2, 5, 10)]
    assert relu == sorted(relu, reverse=True)
    assert relu[0] == pytest.approx(0.5, abs=0.07)  # half of the units are off
    assert relu[2] < 0.05
    spectral = [spectrum_run("MaxMin", "spectral norm", depth)["mean"] for depth in (2, 5, 10)]
    assert spectral == sorted(spectral, reverse=True)
    assert spectral[2] < 2e-3
    assert jacobian_spectrum("MaxMin", 2, weights="spectral norm")[0] <= 1 + 1e-6


def test_a_row_of_spectra_says_which_value_is_which():
    values = jacobian_spectrum("tanh", 3, 8, "spectral norm", seed=2)
    row = spectrum_run("tanh", "spectral norm", depth=3, width=8, seed=2)
    expected = {"mean": values.mean(), "largest": values.max(), "smallest": values.min()}
    assert row == {name: value.item() for name, value in expected.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "none"}, "weights must be one of orthogonal, spectral norm"),
        ({"depth": 0}, "depth must be at least"),
    ],
)
def test_a_spectrum_of_nothing_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        jacobian_spectrum(**{"activation": "MaxMin", "depth": 1} | change)


@pytest.mark.parametrize("activation", ["MaxMin", "Abs", "FullSort"])
def test_one_hidden_layer_that_keeps_gradients_makes_the_absolute_value(activation):
    assert absolute_value_run(activation, width=32, steps=300)["estimate"] == pytest.approx(1, abs=5e-3)


def test_relu_with_one_hidden_layer_stops_at_one_half():
    found = absolute_value_run("ReLU", dtype="float64")["estimate"]
    assert 0.49 < found <= 0.5 + 1e-9


def test_relu_with_two_hidden_layers_stops_at_the_observed_ceiling():
    found = absolute_value_run("ReLU", 2, width=6, steps=500, dtype="float64")["estimate"]
    assert relu_ceiling(2) - 0.01 < found <= relu_ceiling(2) + 1e-6


@pytest.mark.parametrize("constraint", ["Björck", "mixed"])
def test_a_critic_never_exceeds_the_exact_distance_of_the_same_points(constraint):
    for seed in range(2):
        found = cone_run(2, "MaxMin", constraint=constraint, width=16, hidden=2, steps=60, seed=seed, n_test=90)
        assert 0.1 < found["estimate"] <= found["exact"] * found["constant"] * (1 + 1e-5)


def test_in_16_dimensions_larger_groups_see_more_and_relu_least():
    names = ("ReLU", "MaxMin", "GroupSort4", "FullSort")
    estimates = [cone_run(16, name, width=32, hidden=2, steps=150)["estimate"] for name in names]
    assert estimates == sorted(estimates)
    assert estimates[3] > 0.95
    assert estimates[0] < 0.75


def test_three_cones_are_seen_by_sorting_and_not_by_relu():
    shared = {"centres": (-2.0, 0.0, 2.0), "width": 32, "hidden": 2, "steps": 150, "batch_size": 66, "n_test": 90}
    found = {name: cone_run(2, name, lr=0.03, **shared)["estimate"] for name in ("ReLU", "MaxMin", "Abs")}
    assert min(found["MaxMin"], found["Abs"]) > found["ReLU"] + 0.2


def test_the_critics_estimate_is_below_the_exact_distance_of_the_same_images(digits):
    x = digits.train.x[:400]
    generator = train_gan(x, steps=2, batch_size=16, n_critic=1)
    found = gan_distance(x, generator, "MaxMin", hidden=(32,), steps=60, lr=0.01, n_test=100)
    assert 0.5 < found["estimate"] <= found["exact"] * found["constant"]
    assert found["trained"] == pytest.approx(found["estimate"], rel=0.1)


def test_what_a_distance_is_measured_on_is_kept_from_training(digits, monkeypatch):
    """Breaks if a critic or a generator is trained on the images that it is measured on."""
    drawn = []

    def spied(critic, sample, **options):
        drawn.append(sample(1000, torch.Generator().manual_seed(0))[0])
        return [{"step": 1, "estimate": 0.0}]

    monkeypatch.setattr(measure, "train_critic", spied)
    x = digits.train.x[:100]
    gan_distance(x, generator_network(1, 8), "MaxMin", hidden=(8,), steps=1, n_test=20)
    monkeypatch.setattr(measure, "train_gan", lambda x, **options: drawn.append(x) or generator_network(1, 8))
    lwgan_run("digits", "clipped", 1, n_images=100, n_test=20)
    kept = {tuple(image.flatten().tolist()) for image in x[-20:]}
    assert all(len(images) and not kept & {tuple(i.flatten().tolist()) for i in images} for images in drawn)
    assert len(drawn) == 2


def test_all_critics_of_a_table_judge_the_same_images():
    shared = {"gan_steps": 1, "hidden": (8,), "steps": 2, "n_images": 100, "n_test": 20}
    rows = [gan_run("digits", name, **shared) for name in ("ReLU", "MaxMin")]
    assert rows[0]["exact"] == rows[1]["exact"] and rows[0]["estimate"] != rows[1]["estimate"]
    assert gan_run("digits", "ReLU", **shared, seed=1)["exact"] != rows[0]["exact"]


def test_a_generator_comes_closer_to_its_data_against_a_lipschitz_critic():
    found = lwgan_run("digits", "Lipschitz", 2, n_images=200, n_test=60, batch_size=16, n_critic=2, lr=(2e-3, 2e-3))
    assert found["after"] < found["before"] - 0.01


@pytest.mark.parametrize("constraint", ["Björck", "spectral norm", "Parseval", "rows", "rows after step", "mixed"])
def test_every_constraint_learns_the_digits_and_certifies_some(digits, constraint):
    radius = 0.02 if constraint.startswith("rows") else 0.1
    radii = {"epsilon": 2 * radius, "radii": [radius], "attacks": [radius], "attack_steps": 5}
    found = classify(digits, constraint=constraint, hidden=(32,), epochs=6, **radii)
    assert found["clean"] > 0.8
    assert found["clean"] >= found[f"attacked {radius:g}"] >= found[f"certified {radius:g}"] > 0.4


@pytest.mark.parametrize("constraint", ["none", "dropout", "Jacobian penalty"])
def test_baselines_without_a_constraint_learn_and_have_a_worthless_certificate(digits, constraint):
    shared = {"hidden": (32,), "epsilon": None, "epochs": 6, "radii": [0.5]}
    found = classify(digits, activation="ReLU", constraint=constraint, **shared)
    assert found["clean"] > 0.85
    assert found["proven"] > 3
    assert found["certified 0.5"] < 0.05


def test_a_row_measures_the_split_that_it_names(digits):
    """Breaks if the training split is measured as the test, or the other way round."""
    options = {"hidden": (32,), "epochs": 3, "dtype": torch.float64}
    row, model = classify(digits, **options), train_classifier(digits, **options)
    for name, split in (("clean", digits.test), ("train", digits.train)):
        right = (model(split.x.double()).argmax(1) == split.y).double().mean()
        assert row[name] == pytest.approx(right.item(), abs=1e-12)
    assert row["clean"] != row["train"]


def test_sorting_certifies_more_of_the_digits_than_relu(digits):
    shared = {"epsilon": 0.25, "hidden": (64,), "epochs": 8, "radii": [0.5]}
    found = {a: classify(digits, activation=a, **shared)["certified 0.5"] for a in ("ReLU", "MaxMin", "GroupSort4")}
    assert min(found["MaxMin"], found["GroupSort4"]) > found["ReLU"] + 0.02


def test_the_constraint_costs_little_accuracy_on_the_digits(digits):
    shared = {"epsilon": None, "hidden": (64,), "epochs": 8}
    free = classify(digits, constraint="none", **shared)["clean"]
    assert classify(digits, constant=10.0, **shared)["clean"] > free - 0.02


def test_inf_norm_networks_are_attacked_in_the_inf_norm(digits):
    model = train_classifier(digits, constraint="rows", hidden=(16,), epochs=2, epsilon=0.05, dtype=torch.float64)
    data = digits.to(dtype=torch.float64)
    certificate = certify(model, data.test)
    assert certificate.p == math.inf
    rows = accuracies(model, data.test, certificate, [0.0, 0.02, 0.1], steps=10)
    assert all(row["clean"] >= row["attacked"] >= row["certified"] for row in rows)
    assert rows[2]["attacked"] < rows[2]["clean"]


def test_a_table_of_two_norms_has_none_where_a_radius_was_not_asked():
    row = robust_run("digits", hidden=(8,), epochs=1, radii=[0.05, 0.1], attacks=[0.1], attack_steps=2, constant=3.0)
    assert [name for name in ROBUST if row[name] is None] == ["certified 0.3", "certified 1.58", "attacked 1.58"]
    assert row["constant"] == 3.0 and row["proven"] == pytest.approx(3.0)


def test_a_tight_constraint_keeps_relu_units_on():
    shared = {"epsilon": None, "epochs": 4, "hidden": (32,)}
    tight, free = undead_run("digits", "Björck", constant=1.0, **shared), undead_run("digits", "none", **shared)
    assert tight["undead"] > free["undead"] + 0.2
    assert min(tight["clean"], free["clean"]) > 0.8

"""One training run: drops, the norm transfer, what it measures, and going on after an interruption."""

import pandas as pd
import pytest
import torch

from nnlib.models import MLP
from nnlib.weight_decay import invariant_layers, make_optimizer
from tenpapers.weight_decay import follow_curvature, measure, train, transfer
from tenpapers.weight_decay.train import MEASURED, build, prepared, standardise

DATA = prepared("digits", 200, torch.float64)
SETTINGS = {"epochs": 4, "batch_size": 50}


def net():
    return MLP([64, 12, 10], batch_norm=True, dtype=torch.float64)


def test_learning_rate_drops_after_the_named_epochs():
    model = net()
    optimizer = make_optimizer(model, "SGD", 0.1)
    frame = pd.DataFrame(train(model, DATA, optimizer, drops=[1, 3], **SETTINGS).rows)
    seen = frame[frame.split == "train"].set_index("epoch").lr  # noted before the drop
    assert seen.to_dict() == pytest.approx({0: 0.1, 1: 0.1, 2: 0.01, 3: 0.01, 4: 0.001})


@pytest.mark.parametrize("method", ["SGD", "K-FAC-G"])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(method, tmp_path):
    """Stopped while looking after epoch 3: same weights and same history as an unbroken run, drops included."""

    def run(path, breaks_at=None):
        looks = []

        def watch(model):
            looks.append(1)
            if len(looks) == breaks_at:
                raise KeyboardInterrupt
            return {"bias": float(model.layers[-1].bias.detach().sum())}

        model = net()
        optimizer = make_optimizer(model, method, 0.1, decay="decoupled", weight_decay=0.1)
        settings = {"drops": [1, 3], "checkpoint": path, "checkpoint_every": 2, "watch": watch}
        history = train(model, DATA, optimizer, **settings, **SETTINGS)
        return pd.DataFrame(history.rows), [p.detach().clone() for p in model.parameters()]

    whole = run(tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken.pt", breaks_at=4)  # looks at epochs 0, 1, 2 and then 3
    resumed = run(tmp_path / "broken.pt")
    assert all(torch.equal(a, b) for a, b in zip(whole[1], resumed[1], strict=True))
    assert whole[0].equals(resumed[0])


def test_norm_transfer_gives_the_layers_their_lengths_and_leaves_the_direction_to_training():
    """After each epoch but the last, the next run starts from the given lengths."""
    rows = transfer("digits", 0.5, 0.01, examples=300, epochs=4, batch_size=50, drops=(3,), hidden=[12])
    by_run = {}
    for row in rows:
        by_run.setdefault(row["run"], []).append(row)
    assert list(by_run) == ["none", "decay", "norms given", "norms given, decay on last"]
    assert all(len(found) == 5 for found in by_run.values())
    last = {name: found[-1]["norm"] for name, found in by_run.items()}
    assert last["decay"] < last["none"]
    # The last rescaling is an epoch before the end; in one epoch at the low rate lengths hardly grow.
    assert last["norms given"] == pytest.approx(last["decay"], rel=0.05)
    assert by_run["none"][0]["loss"] == by_run["norms given"][0]["loss"]  # one start, one order
    assert by_run["none"][1]["loss"] == by_run["norms given"][1]["loss"]
    assert by_run["none"][2]["loss"] != by_run["norms given"][2]["loss"]


def test_curvature_is_followed_without_changing_the_run():
    """Breaks if looking draws from the optimiser's generator, or the traces are those of other weights."""
    sizes = {"examples": 200, "epochs": 3, "batch_size": 50, "drops": (2,), "hidden": [12]}
    rows = follow_curvature("digits", "K-FAC-F", 0.02, "decoupled", 0.1, **sizes)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    plain = measure("digits", "K-FAC-F", 0.02, "decoupled", 0.1, **sizes)
    assert rows[-1]["loss"] == plain["train_loss"]
    assert rows[-1]["norm"] == pytest.approx(plain["norm"])  # the only hidden layer is the first
    assert all(row["effective_damping"] == pytest.approx(1e-3 * row["norm"] ** 2) for row in rows)
    assert all(0 < row["fisher"] < row["gauss_newton"] for row in rows)  # diag(p) - pp' <= I


def test_measure_says_what_it_measured_and_is_repeatable():
    settings = {"hidden": [12], "examples": 200, "epochs": 6, "drops": [4], "batch_size": 20}
    first, second = (measure("digits", "K-FAC-G", 0.02, "decoupled", 0.1, **settings) for _ in range(2))
    assert first == second and set(first) == {*MEASURED, "diverged"}
    assert first["train_accuracy"] > 0.6 and not first["diverged"]
    assert measure("digits", "K-FAC-G", 0.02, "decoupled", 0.1, seed=1, **settings) != first


def test_measure_reports_a_diverged_run_as_such():
    row = measure("digits", "SGD", 1e200, hidden=[12], batch_norm=False, epochs=1, drops=[], examples=200)
    assert row["diverged"] and all(row[name] != row[name] for name in MEASURED)


@pytest.mark.parametrize(
    ("method", "lr", "l2"), [("SGD", 0.1, 0.03), ("Adam", 0.01, 0.1), ("K-FAC-G", 0.02, 1e-3), ("K-FAC-F", 0.02, 1e-3)]
)
def test_decay_makes_weights_shorter_in_every_method(method, lr, l2):
    """Breaks if an argument of measure does not reach the optimiser."""
    settings = {"hidden": [12], "examples": 200, "epochs": 6, "drops": [], "batch_size": 20}
    without = measure("digits", method, lr, **settings)
    for decay, weight_decay in (("l2", l2), ("decoupled", 0.3 if method == "SGD" else 1.0)):
        decayed = measure("digits", method, lr, decay, weight_decay, **settings)
        assert decayed["norm"] < 0.98 * without["norm"], decay
    only_last = measure("digits", method, lr, "decoupled", 1.0, where="last", **settings)
    assert only_last["last_norm"] < 0.9 * without["last_norm"] and only_last["norm"] > 0.9 * decayed["norm"]


def test_inputs_are_standardised_by_the_training_images_alone():
    data = prepared("digits", 300, torch.float64)
    torch.testing.assert_close(data.train.x.mean(), torch.tensor(0.0, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(data.train.x.std(), torch.tensor(1.0, dtype=torch.float64))
    assert data.test.x.mean().abs() > 1e-6 and "first 300" in data.source
    assert "mean 0" in standardise(data).info["scaling"]


def test_networks_fit_their_images():
    assert invariant_layers(build(DATA, True, None, 2, True, 0, torch.float32)) == ["layers.0", "layers.4", "layers.9"]
    assert build(DATA, False, [5], 4, False, 0, torch.float32).layers[1].bias is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, o: train(m, DATA, o, drops=[4], **SETTINGS), "drops must lie between 0 and 4"),
        (lambda m, o: train(m, DATA, o, norms={1: {}}, **SETTINGS), r"norms lack the epochs \[2, 3\]"),
        (lambda m, o: train(m, DATA, o, splits=(), **SETTINGS), "at least one split"),
        (lambda m, o: prepared("digits", 0), "examples must be from 1 to 1400"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    model = net()
    with pytest.raises(ValueError, match=message):
        call(model, make_optimizer(model, "SGD", 0.1))

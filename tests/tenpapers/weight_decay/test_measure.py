"""One training run: drops, what it measures and on which images, and going on after an interruption."""

import numpy as np
import pandas as pd
import pytest
import torch

from nnlib.models import MLP
from nnlib.training import Dataset, Split, evaluate
from nnlib.weight_decay import make_optimizer
from tenpapers.weight_decay.measure import MEASURED, correlate, final, measure, train
from tenpapers.weight_decay.workloads import prepared

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


def test_the_first_step_after_a_drop_has_the_lower_rate():
    """Four steps an epoch."""
    model, rates = net(), []
    optimizer = make_optimizer(model, "SGD", 0.3)
    optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    train(model, DATA, optimizer, drops=[1, 3], **SETTINGS)
    assert rates == [0.3] * 4 + [0.3 / 10] * 8 + [0.3 / 10 / 10] * 4


def test_each_epoch_begins_with_the_lengths_that_were_given_after_the_one_before():
    """With a learning rate of nothing a layer keeps its length until the next one is given."""
    model = net()
    norms = {epoch: {"layers.1": float(epoch)} for epoch in (1, 2, 3)}
    history = train(model, DATA, make_optimizer(model, "SGD", 1e-9), norms=norms, **SETTINGS)
    seen = {row["epoch"]: row["layers.1"] for row in history.rows}
    assert [seen[epoch] for epoch in (2, 3, 4)] == pytest.approx([1, 2, 3])


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


def test_measure_says_what_it_measured_and_is_repeatable():
    settings = {"hidden": [12], "examples": 200, "epochs": 6, "drops": [4], "batch_size": 20}
    first, second = (measure("digits", "K-FAC-G", 0.02, "decoupled", 0.1, **settings) for _ in range(2))
    assert first == second and set(first) == {*MEASURED, "diverged"}
    assert first["train_accuracy"] > 0.6 and not first["diverged"]
    assert measure("digits", "K-FAC-G", 0.02, "decoupled", 0.1, seed=1, **settings) != first


def test_each_split_is_measured_under_its_own_name():
    """Breaks if validation is reported as test, or the training images as either."""
    splits = [Split(DATA.train.x[60 * i : 60 * i + 60], DATA.train.y[60 * i : 60 * i + 60]) for i in range(3)]
    found = final(net(), Dataset(*splits, DATA.info, "digits", "none"), norms_on=5)
    model = net().eval()
    train_, validation, test = (evaluate(model, split) for split in splits)
    assert len({train_["accuracy"], validation["accuracy"], test["accuracy"]}) == 3
    assert (found["train_loss"], found["test_loss"]) == (train_["loss"], test["loss"])
    for name, split in (("train", train_), ("validation", validation), ("test", test)):
        assert found[f"{name}_accuracy"] == split["accuracy"]


def test_lengths_are_of_the_hidden_layers_together_and_of_the_last_alone():
    model = net()
    found = final(model, DATA, norms_on=5)
    weights = [layer.weight for layer in model.layers if isinstance(layer, torch.nn.Linear)]
    assert found["norm"] == pytest.approx(torch.cat([w.flatten() for w in weights[:-1]]).norm().item())
    assert found["last_norm"] == pytest.approx(weights[-1].norm().item())


def test_decay_shrinks_the_jacobian_more_and_the_length_less_under_kfac_than_under_sgd():
    """Mechanism 2, on a small ReLU network without biases that fits all its images."""
    shape = {"hidden": (64, 64), "batch_norm": False, "bias": False, "norms_on": 50}
    sizes = {"epochs": 20, "batch_size": 100, "drops": (10, 16)} | shape
    falls = {}
    for method, options in (("SGD", {"lr": 0.1}), ("K-FAC-G", {"lr": 0.03, "kl_clip": 1e-3})):
        without, decayed = (
            measure("digits", method, decay=kind, weight_decay=value, **options, **sizes)
            for kind, value in (("none", 0.0), ("decoupled", 0.3))
        )
        falls[method] = without["jacobian"] / decayed["jacobian"], without["norm"] / decayed["norm"]
    assert falls["K-FAC-G"][0] > 1.5 * falls["SGD"][0] and falls["K-FAC-G"][1] < 0.7 * falls["SGD"][1]


def test_correlations_are_those_of_the_networks_that_are_trained():
    """Against the runs one by one: logarithms, the gap's sign, and which networks decay."""
    sizes = {"examples": 100, "epochs": 2, "drops": (), "batch_size": 20}
    found = {row["networks"]: row for row in correlate(3, widths=(4, 8), depths=(1, 2), data="digits", **sizes)}
    assert list(found) == ["all", "without decay", "with decay"]
    points = {}
    for name, kind, value in (("without decay", "none", 0.0), ("with decay", "decoupled", 0.1)):
        rows = [
            measure("digits", "SGD", 0.03, kind, value, hidden=hidden, batch_norm=False, bias=False, seed=3, **sizes)
            for hidden in ([4], [4, 4], [8], [8, 8])
        ]
        points[name] = pd.DataFrame(rows).assign(gap=lambda rows: rows.test_loss - rows.train_loss)
    points["all"] = pd.concat(points.values())
    for name, frame in points.items():
        log = np.log(frame.jacobian)
        assert found[name]["with_kfac_norm"] == pytest.approx(log.corr(np.log(frame.kfac_norm)))
        assert found[name]["with_gap"] == pytest.approx(log.corr(frame.gap))


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, o: train(m, DATA, o, drops=[4], **SETTINGS), "drops must lie between 0 and 4"),
        (lambda m, o: train(m, DATA, o, norms={1: {}}, **SETTINGS), r"norms lack the epochs \[2, 3\]"),
        (lambda m, o: train(m, DATA, o, splits=(), **SETTINGS), "at least one split"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    model = net()
    with pytest.raises(ValueError, match=message):
        call(model, make_optimizer(model, "SGD", 0.1))

"""Runs followed over their epochs: what the norm transfer hands over, and how curvature and damping change."""

import pytest

from tenpapers.weight_decay.follow import follow_curvature, norm_transfer
from tenpapers.weight_decay.measure import measure


def by_run(rows):
    found = {}
    for row in rows:
        found.setdefault(row["run"], []).append(row)
    return found


def test_norm_transfer_gives_the_layers_their_lengths_and_leaves_the_direction_to_training():
    """After each epoch but the last, the next run starts from the given lengths."""
    found = by_run(norm_transfer("digits", 0.5, 0.01, examples=300, epochs=4, batch_size=50, drops=(3,), hidden=[12]))
    assert list(found) == ["none", "decay", "norms given", "norms given, decay on last"]
    assert all(len(rows) == 5 for rows in found.values())
    last = {name: rows[-1]["norm"] for name, rows in found.items()}
    assert last["decay"] < last["none"]
    # The last rescaling is an epoch before the end; in one epoch at the low rate lengths hardly grow.
    assert last["norms given"] == pytest.approx(last["decay"], rel=0.05)
    assert found["none"][0]["loss"] == found["norms given"][0]["loss"]  # one start, one order
    assert found["none"][1]["loss"] == found["norms given"][1]["loss"]
    assert found["none"][2]["loss"] != found["norms given"][2]["loss"]
    assert [row["learning_rate"] for row in found["none"]] == [0.5, 0.5, 0.5, 0.5, 0.05]  # of the epoch that has ended


def test_the_effective_learning_rate_falls_without_decay_only():
    """At a constant learning rate; with decay it comes to rest, after the first epochs, and does not fall further."""
    sizes = {"examples": 300, "epochs": 8, "batch_size": 20, "drops": (), "hidden": [12]}
    found = by_run(norm_transfer("digits", 0.5, 0.01, seed=1, **sizes))
    rates = {name: [row["learning_rate"] / row["norm"] ** 2 for row in rows] for name, rows in found.items()}
    assert rates["none"] == sorted(rates["none"], reverse=True) and rates["none"][0] > 10 * rates["none"][-1]
    assert rates["decay"][-1] > 0.8 * rates["decay"][4] and rates["decay"][-1] > 5 * rates["none"][-1]


@pytest.fixture(scope="module")
def followed():
    """Until K-FAC-F is certain of every image, without and with decay."""
    sizes = {"hidden": [64, 64], "epochs": 10, "batch_size": 50, "drops": ()}
    kinds = {"none": 0.0, "decoupled": 1.0}
    return {kind: follow_curvature("digits", "K-FAC-F", 0.003, kind, value, **sizes) for kind, value in kinds.items()}


def change(rows, name):
    return rows[-1][name] / rows[0][name]


def test_the_fisher_falls_and_the_gauss_newton_matrix_does_not(followed):
    assert change(followed["none"], "fisher") < 0.2 and change(followed["none"], "gauss_newton") > 1.5


def test_decay_holds_down_the_effective_damping(followed):
    growth = {kind: change(rows, "effective_damping") for kind, rows in followed.items()}
    assert growth["none"] > 3 and growth["none"] > 2 * growth["decoupled"]


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

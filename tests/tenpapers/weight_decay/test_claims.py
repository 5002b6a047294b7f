"""The paper's claims on trained networks, checked again from the recorded runs; exact ones are in the other files."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

RESULTS = Path(__file__).parents[3] / "tenpapers" / "results" / "weight_decay.json"


@lru_cache
def recorded(name):
    entry = json.loads(RESULTS.read_text())["tables"][name]["laptop"]
    return pd.DataFrame(entry["rows"], columns=entry["columns"])


def accuracy(data="fashion_mnist", where="all"):
    """Mean test accuracy in points, rows (BatchNorm, method), columns decay."""
    rows = recorded("networks").query("data == @data and where == @where")
    table = rows.pivot_table(index=["batch_norm", "method"], columns="decay", values="test_accuracy")
    return 100 * table


def by_layers():
    """Gain of decay in points over no decay, with BatchNorm, by the layers that decay."""
    rows = recorded("networks").query("data == 'fashion_mnist' and batch_norm and decay != 'l2'")
    rows = rows.assign(on=np.where(rows.decay == "none", "none", rows["where"]))
    table = 100 * rows.pivot_table(index="method", columns="on", values="test_accuracy")
    return table.sub(table["none"], axis=0).drop(columns="none")


def jacobians(column):
    return recorded("jacobian").groupby(["method", "weight_decay"])[column].mean()


def test_every_recorded_run_is_there_and_none_diverged():
    """Two seeds a cell; breaks if a run is left out of the means below."""
    rows = recorded("networks")
    counts = rows.groupby(["data", "batch_norm", "method", "decay", "where"]).seed.nunique()
    assert (counts == 2).all() and not rows.diverged.any()
    assert len(rows.query("data == 'fashion_mnist' and where == 'all'")) == 48
    assert recorded("transfer").groupby("run").seed.nunique().eq(3).all()
    assert recorded("jacobian").groupby(["method", "weight_decay"]).seed.nunique().eq(3).all()


def test_the_effective_learning_rate_falls_without_decay_only():
    rows = recorded("transfer")
    rates = rows.assign(effective=rows.learning_rate / rows["norm"] ** 2)
    rates = rates.groupby(["run", "epoch"]).effective.mean()
    assert rates["none", 0] > 1.5 * rates["none", 8]
    assert rates["decay", 0] < rates["decay", 8]


def transfer_gains():
    ends = recorded("transfer").dropna(subset="test_accuracy").groupby("run").test_accuracy.mean()
    return (ends - ends["none"]).drop("none")


def test_decay_shrinks_the_jacobian_more_under_kfac_than_under_sgd():
    """In every seed, not in the mean alone."""
    rows = recorded("jacobian").pivot_table(index=["method", "seed"], columns="weight_decay", values="jacobian")
    falls = rows[0.0] / rows[0.1]
    assert falls["K-FAC-G"].min() > 2 * falls["SGD"].max()
    assert (rows.diff(axis=1).dropna(axis=1) < 0).all(axis=None)  # monotone in the coefficient


def test_weights_shrink_less_under_kfac_than_under_sgd():
    norms = jacobians("norm") ** 2
    assert norms["K-FAC-G", 0.0] / norms["K-FAC-G", 0.1] < 0.5 * norms["SGD", 0.0] / norms["SGD", 0.1]


def test_the_jacobian_norm_correlates_with_the_kfac_norm_and_the_gap():
    rows = recorded("scatter")
    log, gap = np.log(rows[["jacobian", "kfac_norm"]]), rows.test_loss - rows.train_loss
    assert len(rows) == 24 and log.jacobian.corr(log.kfac_norm) > 0.8 and log.jacobian.corr(gap) > 0.8
    for _, part in rows.assign(gap=gap).groupby("decay"):  # within each group too, but weaker
        assert np.log(part.jacobian).corr(np.log(part.kfac_norm)) > 0.2
        assert np.log(part.jacobian).corr(part.gap) > 0.3


def changes(seed):
    rows = recorded("curvature").query("seed == @seed").set_index(["decay", "epoch"])
    last = rows.index.get_level_values("epoch").max()
    columns = ["fisher", "gauss_newton", "effective_damping"]
    return {decay: rows.loc[(decay, last), columns] / rows.loc[(decay, 0), columns] for decay in ("none", "decoupled")}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_fisher_falls_and_the_gauss_newton_rises(seed):
    change = changes(seed)["none"]
    assert change.fisher < 0.2 and change.gauss_newton > 1.5


@pytest.mark.parametrize("seed", [0, 1])
def test_decay_holds_down_the_effective_damping(seed):
    found = changes(seed)
    assert found["none"].effective_damping > 2 * found["decoupled"].effective_damping


def test_given_norms_recover_the_gain_of_decay():
    """In test accuracy; the training loss of the run with decay comes back with decay on the last layer only."""
    gains = transfer_gains()
    assert gains["decay"] > 0.005 and gains["norms given"] > 0.8 * gains["decay"]
    assert gains["norms given, decay on last"] >= gains["norms given"]
    losses = recorded("transfer").dropna(subset="test_accuracy").groupby("run").loss.mean()
    assert losses["norms given"] < 1.1 * losses["none"]
    assert losses["norms given, decay on last"] > 2 * losses["none"]


def test_decoupled_decay_beside_l2():
    """Against the paper: with BatchNorm L2 wins for Adam and K-FAC-F; without, the K-FACs are within a point."""
    difference = accuracy().decoupled - accuracy().l2
    assert difference[True, "Adam"] < -1 and difference[True, "K-FAC-F"] < -1
    assert abs(difference[False, "K-FAC-G"]) < 1 and abs(difference[False, "K-FAC-F"]) < 1


def test_decay_gains_most_for_kfac_without_batch_norm():
    """Larger than for first-order methods in every K-FAC, and on MNIST too."""
    gain = accuracy().decoupled - accuracy().none
    kfac = gain[False].loc[["K-FAC-G", "K-FAC-F"]]
    assert kfac.min() > 2 and kfac.mean() > gain[True].loc[["K-FAC-G", "K-FAC-F"]].mean()
    assert kfac.min() > 2 * max(gain[False].loc[["SGD", "Adam"]].max(), gain[True].loc[["SGD", "Adam"]].max())
    mnist = accuracy("mnist")
    assert mnist.decoupled[False, "K-FAC-G"] - mnist.none[False, "K-FAC-G"] > 5


def test_decay_closes_most_of_the_gap_between_kfac_and_sgd():
    table = accuracy().loc[True]
    without, with_decay = (table[decay]["SGD"] - table[decay]["K-FAC-G"] for decay in ("none", "decoupled"))
    assert without > 1 and with_decay < 0.5 * without


def test_gain_by_layers_for_first_order_methods():
    """Against the paper: here the last layer alone gains at least as much as the hidden layers alone."""
    gains = by_layers().loc[["SGD", "Adam"]].mean()
    assert 0 < gains.hidden < gains["last"] and gains["all"] < gains["last"]


def test_decay_on_the_last_layer_does_more_for_kfac_than_on_hidden_ones():
    gains = by_layers().loc[["K-FAC-G", "K-FAC-F"]]
    assert (gains["last"] > 0.5).all() and (gains["last"] > gains.hidden).all()


def test_decay_on_hidden_layers_alone_for_kfac():
    """Against the paper: it helps K-FAC-F a little and makes K-FAC-G worse."""
    gains = by_layers().hidden
    assert 0 < gains["K-FAC-F"] < 1.5 and gains["K-FAC-G"] < -0.5

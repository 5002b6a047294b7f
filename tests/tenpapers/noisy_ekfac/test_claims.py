"""The claims on trained networks, checked again from the recorded runs."""

import json
from pathlib import Path

import pandas as pd

from tenpapers.noisy_ekfac import paired, verdict
from tenpapers.noisy_ekfac.classification import RATES

LARGE = ["kin8nm", "power"]
SEEDS = {"MLP, digits": 10, "CNN, MNIST": 10, "VGG, Fashion-MNIST": 5}
RESULTS = json.loads((Path(__file__).parents[3] / "tenpapers" / "results" / "noisy_ekfac.json").read_text())


def recorded(table):
    entry = RESULTS["tables"][table]["laptop"]
    return pd.DataFrame(entry["rows"], columns=entry["columns"])


def usual():
    """The main table of the regression sets."""
    rows = recorded("uci")
    return rows[(rows.kl_weight == 1) & rows.on_basis_change.isna()]


def difference(column, damping="factored"):
    """Noisy EK-FAC minus noisy K-FAC with a kind of damping, by set: mean and standard error over splits."""
    rows = usual()
    K = (rows.method == "Noisy K-FAC") & (rows.damping_kind == damping)
    return paired(rows, "data", "split", column, rows.method == "Noisy EK-FAC", K)


def beyond(found):
    """The sets whose difference is more than two standard errors from zero."""
    return set(found.index[found["mean"].abs() > 2 * found.error])


def images(column):
    """Means over seeds: a row a workload, a column a method."""
    rows = recorded("images").query("kl_weight == 0.1")
    return rows.pivot_table(index="workload", columns="method", values=column)


def test_every_recorded_run_is_there():
    counts = usual().groupby(["data", "method", "damping_kind"], dropna=False).split.nunique()
    assert counts.eq(20).all() and len(counts) == 8 * 5
    images = recorded("images").query("kl_weight == 0.1")
    assert set(images.method) == set(RATES)
    seeds = images.groupby(["workload", "method"]).seed.nunique().unstack()
    assert seeds.nunique(axis=1).eq(1).all() and seeds["SGD"].to_dict() == SEEDS


def test_noisy_ekfac_beside_noisy_kfac_on_regression():
    found = difference("rmse")
    assert RESULTS["claims"]["uci-rmse"]["verdict"] == verdict(found, sign=-1)
    assert beyond(found) == {"kin8nm", "yacht"} and (found["mean"][["kin8nm", "yacht"]] < 0).all()
    assert 0 < (found["mean"].drop(["kin8nm", "yacht"]) < 0).sum() < 6  # not of one sign


def test_on_small_sets_corrected_eigenvalues_help_and_factored_damping_helps_more():
    """In log likelihood; EK-FAC - K-FAC is the sum of what the eigenvalues and what exact damping change."""
    whole, eigenvalues = (difference("log_likelihood", kind).drop(LARGE) for kind in ("factored", "exact"))
    assert (whole["mean"] < 0).all() and beyond(whole) == {"boston", "concrete", "diabetes", "yacht"}
    assert (eigenvalues["mean"] > 0).sum() == 5 and beyond(eigenvalues) == {"boston", "concrete", "yacht"}
    damping = whole["mean"] - eigenvalues["mean"]
    assert (damping < whole["mean"]).sum() == 5
    published, equal = (difference("log_likelihood", kind)["mean"]["kin8nm"] for kind in ("factored", "exact"))
    assert published > equal > 0


def test_a_colder_posterior_predicts_better():
    rows = recorded("uci")
    rows = rows[rows.data.isin(rows.data[rows.kl_weight < 1]) & rows.on_basis_change.isna()]
    rows = rows[rows.method.isin(rows.method[rows.kl_weight < 1])]
    error = rows.pivot_table(index=["data", "method", "damping_kind"], columns="kl_weight", values="rmse")
    error = error.dropna()  # some methods were run warm only
    assert len(error) >= 6 and (error[error.columns.min()] < error[1.0]).all()


def test_noisy_ekfac_beside_noisy_kfac_on_images():
    rows = recorded("images").query("kl_weight == 0.1")
    pair = (rows.method == "Noisy EK-FAC", rows.method == "Noisy K-FAC")
    found = paired(rows, "workload", "seed", "accuracy", *pair)
    assert RESULTS["claims"]["images"]["verdict"] == verdict(found, sign=1)
    assert (found["mean"] > 0).all() and beyond(found) == {"MLP, digits", "VGG, Fashion-MNIST"}
    sure = paired(rows, "workload", "seed", "log_likelihood", *pair)
    assert (sure["mean"] > 0).all() and beyond(sure) == {"CNN, MNIST", "VGG, Fashion-MNIST"}


def test_noise_helps_on_mnist_and_hurts_on_a_few_digits():
    plain, noisy = ["SGD", "K-FAC"], [name for name in RATES if name not in ("SGD", "K-FAC")]
    likely = images("log_likelihood").loc["CNN, MNIST"]
    assert likely[noisy].min() > likely[plain].max()
    off = images("calibration_error").loc["MLP, digits"]
    assert off[plain].max() < off[noisy].min()


def test_a_colder_posterior_is_better_on_digits():
    rows = recorded("images").query("workload == 'MLP, digits'")
    rows = rows[rows.method.isin(rows.method[rows.kl_weight == 1])]
    likely = rows.pivot_table(index="method", columns="kl_weight", values="log_likelihood")
    assert len(likely) == 3 and (likely[likely.columns.min()] > likely[1.0]).all()

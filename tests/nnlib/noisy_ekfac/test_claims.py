"""The claims on trained networks, checked again from the recorded runs."""

import json
from pathlib import Path

import pandas as pd

from nnlib.noisy_ekfac import paired, verdict
from nnlib.noisy_ekfac.classification import RATES

LARGE = ["kin8nm", "power"]
RESULTS = json.loads((Path(__file__).parents[3] / "results" / "noisy_ekfac.json").read_text())


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
    assert counts.eq(10).all() and len(counts) == 8 * 5
    images = recorded("images").query("kl_weight == 0.1")
    assert set(images.method) == set(RATES)
    assert images.groupby(["workload", "method"]).seed.nunique().eq(3).all()


def test_noisy_ekfac_beside_noisy_kfac_on_regression():
    found = difference("rmse")
    assert RESULTS["claims"]["uci-rmse"]["verdict"] == verdict(found, sign=-1)
    assert beyond(found) == {"kin8nm"} and found["mean"]["kin8nm"] < 0
    assert (found["mean"].drop("kin8nm") > 0).all()


def test_the_damping_and_not_the_eigenvalues_decides_the_log_likelihood_of_small_sets():
    small = difference("log_likelihood").drop(LARGE)
    assert (small["mean"] < 1e-3).all() and {"diabetes", "yacht"} <= beyond(small)
    assert not beyond(difference("log_likelihood", "exact").drop(LARGE))


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
    assert not beyond(found)
    sure = paired(rows, "workload", "seed", "log_likelihood", *pair)
    assert (sure["mean"] > 0).all() and "VGG, Fashion-MNIST" in beyond(sure)


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

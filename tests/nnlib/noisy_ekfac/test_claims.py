"""The claims on trained networks, checked again from the recorded runs."""

import json
from pathlib import Path

import pandas as pd

from nnlib.noisy_ekfac import paired, verdict
from nnlib.noisy_ekfac.classification import RATES

RESULTS = json.loads((Path(__file__).parents[3] / "results" / "noisy_ekfac.json").read_text())


def recorded(table):
    entry = RESULTS["tables"][table]["laptop"]
    return pd.DataFrame(entry["rows"], columns=entry["columns"])


def usual():
    """The main table of the regression sets."""
    rows = recorded("uci")
    return rows[(rows.kl_weight == 1) & rows.on_basis_change.isna()]


def difference(column):
    """Noisy EK-FAC minus noisy K-FAC with factored damping, by set: mean and standard error over splits."""
    rows = usual()
    K = (rows.method == "Noisy K-FAC") & (rows.damping_kind == "factored")
    return paired(rows, "data", "split", column, rows.method == "Noisy EK-FAC", K)


def test_every_recorded_run_is_there():
    counts = usual().groupby(["data", "method", "damping_kind"], dropna=False).split.nunique()
    assert counts.eq(10).all() and len(counts) == 8 * 5
    images = recorded("images").query("kl_weight == 0.1")
    assert set(images.method) == set(RATES)
    assert images.groupby(["workload", "method"]).seed.nunique().eq(3).all()


def test_noisy_ekfac_beside_noisy_kfac_on_regression():
    found = difference("rmse")
    assert RESULTS["claims"]["uci-rmse"]["verdict"] == verdict(found, sign=-1)


def test_noisy_ekfac_beside_noisy_kfac_on_images():
    rows = recorded("images").query("kl_weight == 0.1")
    pair = (rows.method == "Noisy EK-FAC", rows.method == "Noisy K-FAC")
    found = paired(rows, "workload", "seed", "accuracy", *pair)
    assert RESULTS["claims"]["images"]["verdict"] == verdict(found, sign=1)

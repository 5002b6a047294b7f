"""The claims on trained networks, checked again from the recorded runs."""

import json
from pathlib import Path

import pandas as pd

RESULTS = Path(__file__).parents[3] / "results" / "noisy_ekfac.json"


def recorded():
    entry = json.loads(RESULTS.read_text())["tables"]["uci"]["laptop"]
    return pd.DataFrame(entry["rows"], columns=entry["columns"])


def test_every_recorded_run_is_there():
    rows = recorded().query("kl_weight == 1")
    assert rows.groupby(["data", "method", "damping_kind"], dropna=False).split.nunique().eq(3).all()
    assert len(rows) == 4 * 5 * 3


def difference(column):
    """Noisy EK-FAC minus noisy K-FAC with factored damping, by set and split."""
    table = recorded().query("kl_weight == 1")
    table = table.pivot_table(index=["data", "split"], columns=["method", "damping_kind"], values=column)
    return (table["Noisy EK-FAC", "exact"] - table["Noisy K-FAC", "factored"]).groupby("data")


def test_noisy_ekfac_beside_noisy_kfac():
    """Against the paper: no gain in RMSE beyond two standard errors on any set, and not of one sign on all of them."""
    rmse = difference("rmse")
    assert (rmse.mean().abs() < 2 * rmse.sem()).all()
    assert 0 < (rmse.mean() < 0).sum() < 4


def test_factored_damping_is_level_or_ahead_in_log_likelihood():
    assert (difference("log_likelihood").mean() < 1e-3).all()

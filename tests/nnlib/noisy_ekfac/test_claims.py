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


def test_noisy_ekfac_beside_noisy_kfac():
    """Against the paper: no consistent gain in RMSE, and factored K-FAC is ahead in log likelihood everywhere."""
    rows = recorded().query("kl_weight == 1")
    groups = rows.groupby(["data", "method", "damping_kind"])
    means, logs, data = groups.rmse.mean(), groups.log_likelihood.mean(), rows.data.unique()
    assert all(logs[name, "Noisy EK-FAC", "exact"] < logs[name, "Noisy K-FAC", "factored"] for name in data)
    ahead = [means[name, "Noisy EK-FAC", "exact"] > means[name, "Noisy K-FAC", "factored"] for name in data]
    assert sum(ahead) >= len(data) / 2

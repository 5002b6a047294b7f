"""The paper's claims, checked again on the recorded runs; claims with exact answers are in the other files."""

import json
from pathlib import Path

import pandas as pd
import pytest

RECORD = Path(__file__).resolve().parents[3] / "tenpapers" / "results" / "functional_bnn.json"


@pytest.fixture(scope="module")
def tables():
    content = json.loads(RECORD.read_text())["tables"]
    return {
        name: pd.DataFrame(run["laptop"]["rows"], columns=run["laptop"]["columns"]) for name, run in content.items()
    }


def test_every_table_is_there_and_every_number_is_finite(tables):
    assert set(tables) == {"toys", "measurement", "piecewise", "series", "small", "large", "bandits", "searches"}
    for frame in tables.values():
        numbers = frame.select_dtypes("number")
        assert len(frame) and numbers.notna().all().all()


def test_periodic_prior_extrapolates_and_weight_space_does_not(tables):
    """Breaks if any of three seeds of the fBNN misses the sine, or any of weight-space VI finds it."""
    frame = tables["toys"].query("toy == 'sine' and kernel == 'periodic + RBF'").groupby("method").outside
    assert frame.max()["fBNN"] < 0.2
    assert frame.min()["weight-space VI"] > 0.5


def test_networks_follow_the_exact_process_and_are_too_sure_under_rbf(tables):
    mean = tables["toys"].query("method == 'fBNN'").groupby(["toy", "kernel"]).mean(numeric_only=True)
    assert mean.loc["sine"]["to gp"].max() < 0.15
    assert 0.8 < mean.loc["sine", "periodic + RBF"]["sd ratio"] < 1.1
    assert mean.loc["sine", "RBF"]["sd ratio"] < 0.7


def test_training_points_alone_do_not_carry_the_prior_outside(tables):
    frame = tables["measurement"].set_index(["strategy", "n_random"]).outside
    assert frame["training", 1] > 3 * frame.drop(("training", 1)).max()


def test_posteriors_of_a_short_run_are_not_piecewise_constant(tables):
    """Breaks if the posterior's functions become as flat as the prior's: the claim must then be called reproduced."""
    mean = tables["piecewise"].groupby("prior").mean(numeric_only=True)
    assert mean["prior flat"]["piecewise constant"] > 0.9
    assert mean.flat["piecewise constant"] < 0.5


def test_structured_priors_forecast_better_than_weight_space(tables):
    assert tables["series"].seed.nunique() == 3
    errors = tables["series"].groupby(["name", "method"]).rmse.mean()
    for name in ("airline", "co2"):
        assert errors[name, "fBNN"] < 0.7 * errors[name, "weight-space VI"]


def test_functional_inference_beats_weight_space_on_yacht(tables):
    mean = tables["small"].query("name == 'yacht'").groupby(["method", "kl_scale"]).rmse.mean()
    assert mean["fBNN", "batch"] < mean["weight-space VI", "batch"]


def test_functional_inference_does_not_beat_weight_space_on_diabetes(tables):
    mean = tables["small"].query("name == 'diabetes'").groupby(["method", "kl_scale"]).rmse.mean()
    assert mean["fBNN", "batch"] > mean["weight-space VI", "batch"]


def verdict(claim):
    return json.loads(RECORD.read_text())["claims"][claim]["verdict"]


def test_the_verdict_on_bandits_counts_the_problems_where_the_fbnn_has_the_least_regret(tables):
    frame = tables["bandits"]
    assert frame.seed.nunique() == 3 and frame.problem.nunique() == 3
    mean = frame.groupby(["problem", "agent"]).regret.mean().unstack("agent").drop(columns="uniform")
    wins = int((mean.idxmin(axis=1) == "fBNN").sum())
    assert verdict("bandits") == {3: "agrees", 2: "agrees in trend"}.get(wins, "disagrees")


def test_the_verdict_on_the_large_table_compares_error_and_likelihood_with_weight_space(tables):
    frame = tables["large"]
    assert frame.split.nunique() == 3
    mean = frame.groupby("method")[["rmse", "log_likelihood"]].mean()
    ours, other = mean.loc["fBNN"], mean.loc["weight-space VI"]
    as_good = int(ours.rmse <= other.rmse) + int(ours.log_likelihood >= other.log_likelihood)
    assert verdict("large-data") == {2: "agrees", 1: "agrees in trend"}.get(as_good, "disagrees")


def test_the_verdict_on_bayesian_optimisation_compares_regrets_with_chance_and_the_exact_process(tables):
    frame = tables["searches"]
    counts = frame.groupby(["kernel", "d", "method"]).seed.nunique()
    assert (counts == 10).all() and len(counts) == 3 * 3 * 4
    assert (frame["after 10"] <= frame["after 0"]).all()
    mean = frame.groupby("method")["after 10"].mean()
    ahead = mean["fBNN"] < min(mean["random search"], mean["Bayes by backprop"])
    closed = (mean["random search"] - mean["fBNN"]) / (mean["random search"] - mean["exact GP"])
    expected = "agrees" if ahead and closed >= 0.75 else "agrees in trend" if ahead else "disagrees"
    assert verdict("bayesian-optimisation") == expected
    assert mean["exact GP"] == mean.min()
    by_inputs = frame.groupby(["d", "method"])["after 10"].mean().unstack()
    others = by_inputs[["random search", "Bayes by backprop"]]
    assert (by_inputs["fBNN"] < others.min(axis=1)).to_dict() == {1: True, 2: False, 3: True}
    assert by_inputs["fBNN"][2] > others.max(axis=1)[2]

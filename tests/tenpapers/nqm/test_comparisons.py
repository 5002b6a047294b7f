"""What is compared, seed by seed, and what is refused: on made-up runs."""

import math

import pandas as pd
import pytest

from tenpapers.claims import Unfair
from tenpapers.nqm import comparisons, runs
from tenpapers.runs import NotRun

SEEDS = (3, 4)
# Steps of each method at batch sizes 8 and 32, on the two seeds.
STEPS = {
    "SGD": {8: (800, 600), 32: (400, 150)},
    "Momentum": {8: (800, 300), 32: (100, 75)},
    "Adam": {8: (400, 400), 32: (50, 50)},
    "K-FAC": {8: (100, 200), 32: (10, 20)},
}
AVERAGED = {8: (400, 300), 32: (400, 150)}


class Recorded:
    """A table that holds these rows."""

    def __init__(self, rows):
        self.frame = pd.DataFrame(rows)
        self.frame.attrs["waiting"] = 0

    def read(self, profile):
        assert profile == "laptop"
        return self.frame

    def how(self, profile):
        return "nothing"


def case(optimizer, batch_size, decay=0.0, **more):
    return {"workload": "net", "optimizer": optimizer, "batch_size": batch_size} | {
        "lr": 1 / batch_size, "momentum": 0.5, "decay": decay, **more
    }  # fmt: skip


@pytest.fixture
def recorded(monkeypatch):
    """Tuned settings, and each run again from two seeds; where averaging does not help, decay 0 is its best."""
    tuned, again = [], []
    for optimizer, at in STEPS.items():
        for batch_size, steps in at.items():
            tuned.append(case(optimizer, batch_size, average=False, edge=""))
            again += [case(optimizer, batch_size, seed=s, steps=t) for s, t in zip(SEEDS, steps, strict=True)]
    tuned += [case("SGD", 8, 0.9, average=True, edge="decay"), case("SGD", 32, average=True, edge="")]
    again += [case("SGD", 8, 0.9, seed=seed, steps=steps) for seed, steps in zip(SEEDS, AVERAGED[8], strict=True)]
    again += [case("SGD", 8, 0.1, seed=seed, steps=1) for seed in SEEDS]  # settings that are no longer the best
    monkeypatch.setattr(runs, "networks", Recorded(tuned))
    monkeypatch.setattr(runs, "by_seed", Recorded(again))
    return tuned, again


def test_steps_are_those_of_the_tuned_settings_by_seed(recorded):
    """Breaks if runs of other settings are counted, or the averaged runs as plain ones."""
    found = comparisons.steps_of("laptop", "SGD", "SGD, averaged", "Adam")["net"]
    assert {m: {b: s.values for b, s in at.items()} for m, at in found.items()} == {
        "SGD": STEPS["SGD"], "SGD, averaged": AVERAGED, "Adam": STEPS["Adam"]
    }  # fmt: skip


def test_medians_count_a_run_that_did_not_arrive_as_infinitely_long(recorded):
    _, again = recorded
    table = comparisons.medians("laptop").set_index("batch_size")
    assert table.loc[8, list(STEPS)].tolist() == [700, 550, 400, 150] and table.loc[32, "K-FAC"] == 15
    runs.by_seed = Recorded([row | {"steps": None if row["optimizer"] == "Adam" else row["steps"]} for row in again])
    assert comparisons.medians("laptop").Adam.tolist() == [math.inf, math.inf]


def test_momentum_s_gain_is_sgd_s_steps_over_its_own(recorded):
    small, large = comparisons.gain("laptop", min), comparisons.gain("laptop", max)
    assert small.ours["net, B = 8"].values == (1, 2) and large.ours["net, B = 32"].values == (4, 2)
    assert large.tested["net, B = 32"].values == (math.log(4), math.log(2))


def test_critical_batch_sizes_are_where_the_asymptotes_cross(recorded):
    """8 T(8) / T(32): 16 and 32 for SGD, 64 and 32 for momentum. Breaks if the two ends change places."""
    found = comparisons.critical("laptop", {"Momentum": ("SGD",), "Adam": ("SGD", "Momentum")})
    assert found.ours["net, SGD"].values == (16, 32) and found.ours["net, Momentum"].values == (64, 32)
    assert set(found.tested) == {
        f"net, {pair}" for pair in ("Momentum over SGD", "Adam over SGD", "Adam over Momentum")
    }
    assert found.tested["net, Momentum over SGD"].values == pytest.approx((math.log(4), 0))
    with pytest.raises(NotRun):
        comparisons.critical("laptop", {"K-FAC": ("SGD",)}, ("another net",))


def test_averaging_is_judged_by_how_much_more_it_saves_at_small_batches(recorded):
    found = comparisons.averaging("laptop")
    assert found.ours["net, B = 8"].values == (2, 2) and found.ours["net, B = 32"].values == (1, 1)
    assert found.tested["net"].values == (math.log(2), math.log(2))


def test_kfac_is_compared_with_the_fastest_of_the_others_on_each_seed(recorded):
    found = comparisons.kfac("laptop")
    assert found.ours["net, B = 8"].values == (4, 1.5) and found.ours["net, B = 32"].values == (5, 2.5)


def test_best_rates_are_compared_seed_by_seed(monkeypatch):
    rows = [
        {"workload": "net", "batch_size": batch_size, "seed": seed, "lr": lr}
        for batch_size, lrs in ((8, (0.1, 0.2)), (32, (0.4, 0.4)), (128, (0.4, 0.8)))
        for seed, lr in zip(SEEDS, lrs, strict=True)
    ]
    monkeypatch.setattr(runs, "rates", Recorded(rows))
    assert comparisons.rate_grows("laptop").tested["net"].values == pytest.approx((math.log(4), math.log(4)))
    assert comparisons.rate_stays("laptop").ours["net, B = 128 over 32"].values == (1, 2)


def test_a_comparison_is_refused_where_a_rate_is_at_the_end_of_its_grid_or_a_run_did_not_arrive(recorded):
    tuned, again = recorded
    runs.networks = Recorded([row | {"edge": "lr, momentum" if row["optimizer"] == "SGD" else ""} for row in tuned])
    with pytest.raises(Unfair, match="best learning rate at the end of its grid: SGD on net"):
        comparisons.gain("laptop", max)
    runs.networks = Recorded(tuned)
    runs.by_seed = Recorded([row | {"steps": None if row["optimizer"] == "Adam" else row["steps"]} for row in again])
    with pytest.raises(Unfair, match="4 of 16 runs did not reach the target: Adam on net at B = 8"):
        comparisons.kfac("laptop")
    runs.by_seed = Recorded([row for row in again if (row["optimizer"], row["seed"]) != ("Momentum", 4)])
    with pytest.raises(Unfair, match="seeds: Momentum 1, SGD 2"):
        comparisons.gain("laptop", max)
    runs.by_seed = Recorded([row for row in again if row["optimizer"] != "Momentum"])
    with pytest.raises(NotRun):
        comparisons.gain("laptop", max)

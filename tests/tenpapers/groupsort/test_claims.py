"""The paper's claims, checked again on the recorded runs; claims on constructions are in test_constructions.py."""

import json
from pathlib import Path

import pandas as pd
import pytest

from nnlib.groupsort import relu_ceiling

RECORD = Path(__file__).resolve().parents[3] / "tenpapers" / "results" / "groupsort.json"


@pytest.fixture(scope="module")
def tables():
    content = json.loads(RECORD.read_text())["tables"]
    return {
        name: pd.DataFrame(run["laptop"]["rows"], columns=run["laptop"]["columns"]) for name, run in content.items()
    }


def test_no_recorded_run_failed(tables):
    """Breaks if a cell of a sweep raised and its row has an error in place of numbers."""
    assert len(tables) == 8
    assert all(frame.error.isna().all() for frame in tables.values())


def test_relu_stays_below_the_v_and_sorting_reaches_it(tables):
    """Breaks if a ReLU network exceeds what is observed, or sorting misses what it can make."""
    best = tables["absolute"].groupby(["activation", "hidden"]).estimate.max()
    for hidden in range(1, 7):
        ceiling = relu_ceiling(hidden)
        assert 0.985 * ceiling < best["ReLU", hidden] <= ceiling + 1e-5
    assert all(best[name, 1] > 0.999 for name in ("MaxMin", "Abs", "FullSort"))


def test_larger_groups_see_more_of_a_cone_in_every_dimension(tables):
    """Breaks if the order of the activations changes in any dimension."""
    mean = tables["cones"].groupby(["dim", "activation"]).estimate.mean().unstack()
    assert (mean.FullSort > mean.GroupSort4).all()
    assert (mean.GroupSort4 > mean.MaxMin).all()
    assert (mean.MaxMin > mean.ReLU + 0.25).all()
    assert (mean.FullSort > 0.99).all()
    assert mean.MaxMin.is_monotonic_decreasing or mean.MaxMin[128] < 0.9


@pytest.mark.parametrize("name", ["cones", "three-cones", "gan-distance"])
def test_no_critic_exceeds_the_exact_distance_of_its_points(tables, name):
    """Breaks if a critic's constraint is broken, or the exact distance is not exact."""
    frame = tables[name]
    assert (frame.estimate <= frame.exact * frame.constant * (1 + 1e-5)).all()
    assert (frame.constant < 1 + 1e-4).all()


def test_three_cones_are_seen_by_sorting_and_not_by_relu(tables):
    """Breaks if ReLU comes close to the sorting critics."""
    estimate = tables["three-cones"].set_index("activation").estimate
    assert estimate.ReLU < 0.6
    assert (estimate.drop("ReLU") > 0.9).all()


def test_sorting_critics_see_a_larger_distance_to_a_gan(tables):
    """Breaks if the ReLU critic's estimate reaches that of the sorting critics."""
    estimate = tables["gan-distance"].set_index("activation").estimate
    assert min(estimate.MaxMin, estimate.GroupSort4) > estimate.ReLU


def test_sorting_certifies_more_than_relu_on_digits(tables):
    """Breaks if ReLU certifies as much at radius 0.5, at any of the three margins."""
    frame = tables["digits"].query("constraint == 'Björck'")
    mean = frame.groupby(["epsilon", "activation"])["certified 0.5"].mean().unstack()
    assert (mean.MaxMin > mean.ReLU).all()
    assert (mean.GroupSort4 > mean.ReLU).all()


@pytest.mark.parametrize(
    ("name", "radius"), [("digits", "0.5"), ("digits-inf", "0.05"), ("mnist-robust", "1.58"), ("mnist-robust", "0.1")]
)
def test_no_attack_breaks_a_certificate(tables, name, radius):
    """Breaks if a run has clean < attacked or attacked < certified."""
    frame = tables[name].dropna(subset=[f"attacked {radius}"])  # the table holds two norms
    assert len(frame) >= 2
    assert (frame.clean >= frame[f"attacked {radius}"]).all()
    assert (frame[f"attacked {radius}"] >= frame[f"certified {radius}"]).all()


def test_the_constraint_costs_little_accuracy_on_mnist(tables):
    """Breaks if the best constrained network is more than two points behind the best free one."""
    clean = tables["mnist"].groupby("constraint").clean.max()
    assert clean[["Björck", "spectral norm", "Parseval"]].min() > clean["none"] - 0.02


def test_in_the_inf_norm_maxmin_certifies_more_of_mnist_than_relu(tables):
    """Breaks if ReLU is as accurate or certifies as much at radius 0.1, for either margin."""
    frame = tables["mnist-robust"].query("constraint == 'rows after step'").set_index(["epsilon", "activation"])
    for epsilon in (0.3, 0.1):
        assert frame.clean[epsilon, "MaxMin"] > frame.clean[epsilon, "ReLU"]
        assert frame["certified 0.1"][epsilon, "MaxMin"] > frame["certified 0.1"][epsilon, "ReLU"]


def test_constrained_relu_units_stay_on():
    """Breaks if the recorded share of constrained ReLU units that are nearly always on is not the larger one."""
    runs = json.loads(RECORD.read_text())["claims"]["undead-units"]["runs"]
    assert all(run["ours"]["constrained"] > run["ours"]["free"] for run in runs.values())

"""The experiments: what is trained, with which box, floor and prior, and what a row says."""

import numpy as np
import pytest
import torch
from gpytorch.kernels import RBFKernel

from nnlib.functional_bnn import fit_evidence, posterior
from tenpapers.functional_bnn import measure
from tenpapers.functional_bnn.measure import (
    bandit_run,
    extrapolate,
    forecast,
    free_gaussian,
    piecewise_run,
    play,
    regress,
    regress_large,
    score_error,
    search,
    search_run,
)
from tenpapers.functional_bnn.workloads import (
    LARGE_METHODS,
    METHODS,
    SEARCHES,
    Landscape,
    ard_prior,
    drawn_landscape,
    prepared,
    sine,
    table,
    toy_prior,
    wheel,
)


def test_a_free_gaussian_finds_the_posterior_of_the_gaussian_process():
    """Mean within 0.03 and standard deviations within a fifth, by samples alone (the estimator makes them small)."""
    row = free_gaussian()
    assert row["mean error"] < 0.03
    assert 0.8 < row["smallest sd"] <= row["largest sd"] < 1.1


def test_error_of_the_score_is_over_its_own_size():
    row = score_error(400, seed=0)
    assert 0.05 < row["error"] < 0.5
    assert score_error(400, eigenfunctions=1, seed=0)["error"] > 2 * row["error"]


@pytest.mark.parametrize("strategy", ["training", "random", "mixed", "adversarial"])
def test_every_measurement_strategy_trains(strategy):
    found = extrapolate(steps=20, samples=20, kernel="RBF", strategy=strategy, n_random=10)
    assert all(value == value and value < 100 for value in found.values())


def test_periodic_prior_extrapolates_and_a_prior_on_weights_does_not():
    """The paper's first figure, in one short run of each."""
    functional = extrapolate(steps=300, samples=40)
    weights = extrapolate(steps=300, samples=40, method="weight-space VI")
    assert functional["outside"] < 0.3
    assert weights["outside"] > 0.5
    assert functional["to gp"] < 0.2


def test_without_random_points_the_prior_does_not_reach_beyond_the_data():
    alone = extrapolate(steps=200, samples=30, strategy="training", n_random=1)
    mixed = extrapolate(steps=200, samples=30, strategy="mixed", n_random=10)
    assert alone["outside"] > 1.5 * mixed["outside"]


def test_a_run_on_a_toy_is_measured_against_the_exact_process(monkeypatch):
    """A network that *is* the exact process has no distance to it, and its band."""
    problem, evidence = sine(), toy_prior("sine", "RBF")

    def drawn(network, x, samples=4000, seed=1):
        mean, covariance = posterior(evidence.kernel, problem.x, problem.y, x, problem.noise_sd)
        normal = torch.randn(4000, len(x), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return mean + covariance.diagonal().clamp_min(0).sqrt() * normal

    monkeypatch.setattr(measure, "predict", drawn)
    row = extrapolate(kernel="RBF", steps=0)
    mean, _ = posterior(evidence.kernel, problem.x, problem.y, problem.grid, problem.noise_sd)
    miss = (mean - problem.truth)[problem.outside].square().mean().sqrt().item()
    assert row["to gp"] < 0.03 and abs(row["sd ratio"] - 1) < 0.02
    assert abs(row["outside"] - miss) < 0.02 and row["gp outside"] == pytest.approx(miss)
    assert row["at data"] < 0.2


def test_the_flat_share_is_that_of_small_steps_in_the_gap():
    row = piecewise_run("piecewise constant", steps_of_adam=2, samples=10)
    assert row["prior flat"] > 0.95 and row["flat"] < 0.3
    f = torch.tensor([[0.0, 0.005, 0.5, 0.495]], dtype=torch.float64)
    assert measure._flat(f) == pytest.approx(2 / 3)


def test_forecasts_are_of_the_last_years_and_in_their_units():
    """The exact process on the logarithm of passengers: within a tenth; a hardly trained network far from it."""
    series = prepared("airline")
    spread = (series.y_test - series.y_test.mean()).square().mean().sqrt().item() * series.y_scale
    row = forecast("airline", "exact GP")
    assert row["rmse"] < 0.1 < spread < 0.3 and row["coverage"] > 0.8
    rows = {m: forecast("airline", m, steps=5, samples=10) for m in ("fBNN", "weight-space VI")}
    assert all(found["rmse"] > 2 * row["rmse"] and found["coverage"] < 0.8 for found in rows.values())


@pytest.fixture
def fitted(monkeypatch):
    """What was given to the training: network, inputs, penalty, likelihood and options."""
    seen = []

    def note(network, x, y, penalty, likelihood, **options):
        seen.append((x, penalty, likelihood, options))

    monkeypatch.setattr(measure, "fit", note)
    return seen


def test_small_tables_have_the_floor_of_the_noise_and_one_box_for_all_features(fitted):
    for method in ("fBNN", "weight-space VI"):
        regress("diabetes", 0, method, epochs=2, prior_steps=5, kl_scale="data", n_random=7)
    (x, penalty, likelihood, options), (_, other, same_noise, same_options) = fitted
    evidence = ard_prior("diabetes", 0, 5, device="cpu")
    assert penalty.low.tolist() == [x.min().item()] * 10 and penalty.high.tolist() == [x.max().item()] * 10
    assert (penalty.n_random, penalty.kl_scale) == (7, "data") and penalty.prior.kernel is evidence.kernel
    assert likelihood.floor == same_noise.floor == max(evidence.noise_sd, 0.05)
    assert options == same_options and options["steps"] == 2 * (len(x) // 20)
    assert other.prior_sd == 1.0


def test_the_noise_of_a_small_table_is_never_below_its_floor(fitted, monkeypatch):
    small = fit_evidence(RBFKernel(ard_num_dims=10).double(), *(t[:20] for t in training_part()), 0.01, steps=1)
    monkeypatch.setattr(measure.workloads, "ard_prior", lambda *_, **__: small)
    regress("diabetes", 0, "fBNN", epochs=1)
    assert small.noise_sd < 0.05 and fitted[0][2].floor == 0.05


def training_part():
    train = table("diabetes", 0).train
    return train.x, train.y[:, 0]


def test_large_tables_are_compared_in_a_box_twice_as_wide_as_the_data(fitted):
    for method in ("fBNN", "weight-space VI"):
        regress_large("diabetes", 0, method, steps=3, kernel_steps=2)
    (x, penalty, likelihood, options), (_, _, same_noise, same_options) = fitted
    low, high = x.min(0).values, x.max(0).values
    torch.testing.assert_close(penalty.high - penalty.low, 2 * (high - low))
    torch.testing.assert_close(penalty.high + penalty.low, high + low)
    assert penalty.kl_scale == "batch" and penalty.n_random == 5
    assert likelihood.floor == same_noise.floor == 0.05 and options == same_options


@pytest.mark.parametrize("method", LARGE_METHODS)
def test_every_method_on_a_large_table_predicts_better_than_the_mean(method):
    """77 is the standard deviation of the targets of diabetes."""
    found = regress_large("diabetes", 0, method, steps=150, batch_size=50, samples=20, kernel_steps=40)
    assert found["rmse"] < 70
    assert found["log_likelihood"] > -6.0 and 0.5 < found["coverage"] <= 1


@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_a_small_table_predicts_better_than_the_mean(method):
    found = regress("diabetes", 0, method, epochs=20, samples=20, prior_steps=10, kl_scale="data")
    assert found["rmse"] < 65
    assert found["log_likelihood"] > -5.8 and 0.7 < found["coverage"] <= 1


def test_intervals_of_the_exact_process_hold_the_share_they_should():
    covered = [regress("diabetes", split, "exact GP", prior_steps=10)["coverage"] for split in (0, 1)]
    assert all(abs(share - 0.9) < 0.1 for share in covered)


def test_the_same_seed_gives_the_same_numbers():
    options = {"steps": 5, "batch_size": 20, "samples": 5, "kernel_steps": 3}
    first, second = (regress_large("diabetes", 1, "fBNN", **options) for _ in range(2))
    assert first == second
    assert first != regress_large("diabetes", 1, "fBNN", seed=1, **options)
    assert bandit_run("wheel", "linear", 100, 3) == bandit_run("wheel", "linear", 100, 3)


def test_the_global_generator_is_left_alone():
    state = torch.random.get_rng_state()
    regress_large("diabetes", 0, "weight-space VI", steps=2, batch_size=20, samples=3)
    bandit_run("wheel", "fBNN", 20)
    assert torch.equal(state, torch.random.get_rng_state())


def test_regret_counts_expected_rewards_and_never_falls():
    bandit = wheel(100, seed=1)
    regret = play(bandit, "uniform", seed=1)
    assert (np.diff(regret) >= 0).all()
    assert 0 < regret[-1] < bandit.expected.max(1).values.sum().item()
    row = bandit_run("wheel", "uniform", 100, 1)
    assert row["regret"] == regret[-1] and row["late"] == pytest.approx((regret[-1] - regret[74]) / 25)


def hill(d=1, candidates=60):
    """−|x − 0.3|² at points of a lattice: any sensible search finds the top."""
    axis = torch.linspace(-1, 1, candidates if d == 1 else 9, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * d).reshape(-1, d)
    kernel = RBFKernel().double()
    kernel.lengthscale = 0.7
    return Landscape(points, -(points - 0.3).square().sum(1), kernel.requires_grad_(False), noise_sd=0.01)


@pytest.mark.parametrize("method", ["exact GP", "fBNN"])
def test_search_finds_the_top_of_a_hill(method):
    regret = search(hill(), method, queries=8, seed=0)
    assert regret[-1] < 0.01 < regret[0]


def test_queries_are_answered_with_the_noise_of_the_function(monkeypatch):
    """The model is told values of the function at the queries, each with one draw of noise that it keeps."""
    seen, land = [], hill(candidates=60)

    class Recorder:
        def __init__(self, landscape, seed):
            pass

        def belief(self, x, y):
            seen.append(y + (x - 0.3).square().sum(1))  # the noise
            zero = torch.zeros_like(land.values)
            return zero, zero + 1, zero[:1] + 1

    monkeypatch.setattr(measure, "ExactSearcher", Recorder)
    search(land, "exact GP", queries=50)
    assert [len(noise) for noise in seen] == list(range(3, 53))
    torch.testing.assert_close(seen[-1][:3], seen[0])
    assert 0.5 < seen[-1].std().item() / land.noise_sd < 1.5


def test_exact_process_finds_the_top_of_a_hill_in_three_dimensions_sooner_than_chance():
    land = hill(3)
    found = [search(land, method, queries=12, seed=1)[-1].item() for method in ("exact GP", "random search")]
    assert found[0] < 0.05 < found[1]


def test_regret_never_rises_and_starts_the_same_for_all_methods():
    land = drawn_landscape("RBF", 2, seed=3, candidates=80)
    curves = [search(land, method, queries=3, seed=3) for method in SEARCHES]
    assert len({round(curve[0].item(), 12) for curve in curves}) == 1
    for curve in curves:
        assert curve.shape == (4,) and bool((curve.diff() <= 0).all()) and bool((curve >= 0).all())


def test_a_search_says_the_regret_along_the_way():
    row = search_run("RBF", 1, "exact GP", queries=4, seed=0)
    assert list(row) == ["after 0", "after 2", "after 4"]
    regret = search(drawn_landscape("RBF", 1, 0), "exact GP", queries=4, seed=0)
    assert list(row.values()) == regret[::2].tolist()


def test_what_is_unknown_is_refused():
    for call, what in (
        (lambda: regress_large("diabetes", 0, "kriging"), "method must be one of GP of a subset"),
        (lambda: regress("diabetes", 0, "kriging"), "method must be one of exact GP"),
        (lambda: forecast("airline", "kriging"), "method must be one of exact GP"),
        (lambda: play(wheel(10), "oracle"), "agent must be one of uniform"),
        (lambda: search(hill(), "grid"), "method must be one of random search"),
        (lambda: search(hill(), "random search", queries=58), "1 to 60: got 3 and 58"),
    ):
        with pytest.raises(ValueError, match=what):
            call()

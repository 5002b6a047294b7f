"""A first passage is the first, the tuner picks the best and says how sure, and what the claims rest on shows live."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tenpapers.nqm import measure, runs, workloads
from tenpapers.nqm.measure import best_rates, evaluation_steps, measure_steps, repeated, settings, tune, tuned
from tenpapers.nqm.workloads import MOMENTA, OPTIMIZERS, WORKLOADS


def oracle(optimizer, batch_size, seed, decays, limit):
    """First passages by a plain loop that measures after every step and averages by hand."""
    work = WORKLOADS["digits"]
    data = workloads.load(work.data).to(dtype=work.dtype)
    model = work.model(seed=seed, dtype=work.dtype)
    step_of = optimizer(model)
    average = {d: {k: v.clone() for k, v in model.state_dict().items()} for d in (0.0, *decays)}
    order_of, reached, order = torch.Generator().manual_seed(seed), {}, []
    for step in range(1, limit + 1):
        if len(order) < batch_size:
            order = torch.randperm(len(data.train.y), generator=order_of)
        batch, order = order[:batch_size], order[batch_size:]
        loss = nn.functional.cross_entropy(model(data.train.x[batch]), data.train.y[batch])
        step_of.zero_grad()
        loss.backward()
        step_of.step()
        for decay, mean in average.items():
            for key, theta in model.state_dict().items():
                mean[key] = decay * mean[key] + (1 - decay) * theta
            with torch.no_grad():
                outputs = torch.func.functional_call(model, mean, data.train.x)
                if nn.functional.cross_entropy(outputs, data.train.y) <= work.target:
                    reached.setdefault(decay, step)
        if 0.0 in reached:
            break
    return reached


CASES = {
    "SGD": (0.6, 0.0, lambda model: torch.optim.SGD(model.parameters(), lr=0.6)),
    "Momentum": (0.2, 0.9, lambda model: torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)),
    "Adam": (0.03, 0.9, lambda model: torch.optim.Adam(model.parameters(), lr=0.03)),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_are_the_first_passage_of_a_plain_loop(name, monkeypatch):
    """Raw and averaged, measured after each step: fails for a late start of an average, or a later passage."""
    monkeypatch.setattr(measure, "evaluation_steps", lambda limit: range(1, limit + 1))
    lr, momentum, optimizer = CASES[name]
    rows = measure_steps("digits", name, 128, lr, momentum, seed=1, decays=[0.5, 0.9])
    expected = oracle(optimizer, 128, 1, [0.5, 0.9], 500)
    assert {r["decay"]: r["steps"] for r in rows if not np.isnan(r["steps"])} == expected
    assert 0.0 in expected and not any(r["diverged"] for r in rows)


def test_coarse_measuring_is_late_by_its_resolution_at_most():
    lr, momentum, optimizer = CASES["SGD"]
    true = oracle(optimizer, 128, 0, [], 500)[0.0]
    steps = measure_steps("digits", "SGD", 128, lr, momentum, decays=[])[0]["steps"]
    # The loss is noisy: it can touch the target between two looks and leave again, so the bound is for this seed.
    assert true <= steps <= 1.04 * true + 1


def test_average_with_large_decay_lags_behind_at_full_batch():
    """Breaks if the averages are not followed: without noise an average can only be late."""
    rows = measure_steps("digits", "SGD", batch_size=1400, lr=0.6, seed=0, decays=(0.8, 0.98))
    steps = {row["decay"]: row["steps"] for row in rows}
    assert np.isnan(steps[0.98]) and not (steps[0.8] < steps[0.0])


@pytest.mark.parametrize("resolution", [0.01, 0.04, 0.5])
def test_evaluation_steps_start_at_one_end_at_the_last_and_grow_by_the_resolution(resolution):
    steps = np.array(evaluation_steps(5000, resolution))
    assert steps[0] == 1 and steps[-1] == 5000
    assert (np.diff(steps) >= 1).all() and (np.diff(steps) <= np.maximum(1, resolution * steps[:-1])).all()
    assert len(steps) < 2 / resolution * np.log(5000 * np.e)


def test_run_that_does_not_reach_the_target_is_a_row_without_steps():
    (row,) = measure_steps("digits", "SGD", 256, lr=1e-4, decays=[], max_steps=20)
    assert np.isnan(row["steps"]) and row["diverged"] is False


def test_diverging_run_is_a_row_that_says_so():
    rows = measure_steps("digits", "SGD", 256, lr=1e200, decays=[0.9], max_steps=20)
    assert [r["diverged"] for r in rows] == [True, True] and all(np.isnan(r["steps"]) for r in rows)


def test_another_optimizer_joins_by_its_name(monkeypatch):
    # A factory of (model, lr, momentum) is all that is needed.
    made = []

    def factory(model, lr, momentum):
        made.append((lr, momentum))
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)

    monkeypatch.setitem(OPTIMIZERS, "mine", factory)
    ours = measure_steps("digits", "mine", 256, 0.2, 0.9)
    assert ours == measure_steps("digits", "Momentum", 256, 0.2, 0.9) and made == [(0.2, 0.9)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workload": "cifar"}, "workload must be one of digits, mnist"),
        ({"optimizer": "sgd"}, "optimizer must be one of SGD, Momentum, Adam, K-FAC: got 'sgd'"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": float("nan")}, "lr must be positive"),
        ({"momentum": 1.0}, r"momentum in \[0, 1\)"),
        ({"batch_size": 1401}, "batch_size must be a whole number from 1 to 1400"),
    ],
)
def test_arguments_out_of_range_are_refused(change, message):
    good = {"workload": "digits", "optimizer": "SGD", "batch_size": 32, "lr": 0.1}
    with pytest.raises(ValueError, match=message):
        measure_steps(**(good | change))


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_search_tries_five_rates_for_each_momentum_at_every_batch_size(workload):
    for optimizer in OPTIMIZERS:
        for batch_size in WORKLOADS[workload].batch_sizes:
            tried = settings(workload, optimizer, batch_size)
            assert [momentum for _, momentum in tried] == [m for m in MOMENTA[optimizer] for _ in range(5)]
            assert len(set(tried)) == len(tried) and all(lr > 0 for lr, _ in tried)


def test_rates_of_momentum_are_effective_learning_rates():
    # lr / (1 - momentum) is what acts on slow directions: its range must not depend on the momentum.
    first, second = (
        [lr / (1 - momentum) for lr, momentum in settings("digits", "Momentum", 32) if momentum == m]
        for m in MOMENTA["Momentum"]
    )
    assert np.allclose(first, second) and np.isclose(max(first) / min(first), 4)


def test_cells_ask_for_every_optimiser_and_batch_size_of_every_network():
    for profile, names in runs.NETWORKS.items():
        cells = pd.DataFrame(runs.networks.declared(profile))
        for name in names:
            part = cells[cells.workload == name]
            expected = {(o, b) for o in OPTIMIZERS for b in WORKLOADS[name].batch_sizes}
            assert set(zip(part.optimizer, part.batch_size, strict=True)) == expected and len(part) == len(expected)


def test_settings_are_judged_on_seeds_that_they_were_not_tuned_on():
    """Breaks if the luck of the tuning counts twice."""
    for profile, seeds in runs.FRESH.items():
        assert min(seeds) >= runs.SEEDS[profile]


def searched(steps_of, lrs=(1, 2, 4, 8), decays=(0.0, 0.9, 0.99), momenta=(0.0,), seeds=(0, 1, 2)):
    """All runs of a search, with ``steps_of(lr, decay, momentum, seed)``."""
    return pd.DataFrame(
        {
            "workload": "w", "optimizer": "SGD", "batch_size": 8, "lr": lr, "momentum": momentum, "seed": seed,
            "decay": decay, "steps": steps_of(lr, decay, momentum, seed),
        }
        for lr in lrs for decay in decays for momentum in momenta for seed in seeds
    )  # fmt: skip


def test_tuner_takes_the_smallest_median_over_seeds():
    # lr 4 has the luckiest seed and the smallest mean of reached runs, lr 2 the smallest median.
    table = {2: [100, 110, 300], 4: [1, 200, 210]}
    best = tune(searched(lambda lr, d, m, seed: table.get(lr, [500] * 3)[seed], decays=(0.0,)))
    assert best.lr.tolist() == [2, 2] and best.steps.tolist() == [110, 110]
    assert best[["low", "high", "seeds", "edge"]].iloc[0].tolist() == [100, 300, 3, ""]


def test_run_that_did_not_reach_counts_as_infinitely_long():
    # A mean or median over the reached runs alone would choose lr 4, which fails two times of three.
    table = {2: [100, 110, 300], 4: [10, np.nan, np.nan]}
    best = tune(searched(lambda lr, d, m, seed: table.get(lr, [500] * 3)[seed], decays=(0.0,)))
    assert best.lr.iloc[0] == 2
    one_failure = tune(searched(lambda lr, d, m, seed: [10, 20, np.nan][seed] if lr == 4 else 500, decays=(0.0,)))
    assert one_failure[["lr", "steps", "high"]].iloc[0].tolist() == [4, 20, np.inf]


def test_averaging_is_tuned_apart_and_never_does_worse():
    best = tune(searched(lambda lr, d, m, s: 100 + 10 * abs(lr - 2) - 30 * (d == 0.9 and lr == 4) + 50 * (d == 0.99)))
    plain, averaged = best[~best.average].iloc[0], best[best.average].iloc[0]
    assert (plain.lr, plain.decay, plain.steps) == (2, 0.0, 100)
    assert (averaged.lr, averaged.decay, averaged.steps) == (4, 0.9, 90)
    useless = tune(searched(lambda lr, d, m, s: 100 + lr + 1000 * d))
    assert useless[useless.average].decay.iloc[0] == 0.0


@pytest.mark.parametrize(
    ("best_lr", "best_decay", "best_momentum", "edge"),
    [
        (2, 0.9, 0.5, ""),
        (1, 0.9, 0.5, "lr"),
        (8, 0.9, 0.5, "lr"),
        (2, 0.99, 0.5, "decay"),
        (2, 0.0, 0.0, ""),
        (4, 0.9, 0.9, "momentum"),
        (8, 0.99, 0.9, "lr, momentum, decay"),
    ],
)
def test_optimum_at_the_end_of_what_was_tried_is_told(best_lr, best_decay, best_momentum, edge):
    def steps(lr, decay, momentum, seed):
        return 1 + (lr != best_lr) + (decay != best_decay) + (momentum != best_momentum)

    best = tune(searched(steps, momenta=(0.0, 0.5, 0.9)))
    assert best[best.average].edge.iloc[0] == edge


def test_of_equals_the_smallest_learning_rate_is_taken_whatever_the_order_of_rows():
    frame = searched(lambda *_: 7)
    for order in (frame, frame.iloc[::-1], frame.sample(frac=1, random_state=0)):
        best = tune(order)
        assert best[["lr", "decay"]].values.tolist() == [[1, 0.0], [1, 0.0]]


def test_case_that_nothing_solves_is_infinite():
    assert tune(searched(lambda *_: np.nan)).steps.tolist() == [np.inf, np.inf]
    with pytest.raises(ValueError, match="no run to choose from"):
        tune(pd.DataFrame())


@pytest.mark.parametrize("workload", ["mnist_cnn", "fashion_mnist_cnn"])
def test_paper_sized_workloads_run_through_the_same_code(workload, tmp_path, monkeypatch):
    """Shortened: ten steps on a small set in the place of the full one."""
    draw = np.random.default_rng(0)
    arrays = {
        f"{kind}_{part}": draw.integers(0, high, shape).astype(np.uint8)
        for part, n in (("train", 200), ("test", 50))
        for kind, high, shape in (("x", 256, (n, 28, 28)), ("y", 10, n))
    }
    np.savez(tmp_path / f"{WORKLOADS[workload].data}.npz", **arrays)
    monkeypatch.setenv("NNLIB_DATA", str(tmp_path))
    workloads.data_of.cache_clear()
    easy = replace(WORKLOADS[workload], target=100.0)
    rows = measure_steps(workload, "Adam", 16, 0.001, 0.9, max_steps=10)
    monkeypatch.setitem(WORKLOADS, workload, easy)
    at_once = measure_steps(workload, "Adam", 16, 0.001, 0.9, max_steps=10)
    workloads.data_of.cache_clear()
    assert all(np.isnan(r["steps"]) and not r["diverged"] for r in rows)  # random labels are not learnt in ten steps
    assert [r["steps"] for r in at_once] == [1.0] * len(at_once)


@pytest.fixture
def easy(monkeypatch):
    """The digits until a loss of 1: a few steps a run."""
    monkeypatch.setitem(WORKLOADS, "digits", replace(WORKLOADS["digits"], target=1.0, examples=0, floor_steps=60))


def test_tuned_settings_are_the_best_of_all_that_was_tried(easy):
    plain, averaged = tuned("digits", "Adam", 256, seeds=2)
    tried = {
        lr: [measure_steps("digits", "Adam", 256, lr, 0.9, seed, ())[0]["steps"] for seed in (0, 1)]
        for lr, _ in settings("digits", "Adam", 256)
    }
    best = min(np.median(steps) for steps in tried.values())
    assert plain["steps"] == best == np.median(tried[plain["lr"]]) and plain["seeds"] == 2
    assert (plain["low"], plain["high"]) == (min(tried[plain["lr"]]), max(tried[plain["lr"]]))
    assert (plain["average"], averaged["average"]) == (False, True) and averaged["steps"] <= plain["steps"]


def test_settings_run_again_give_a_row_a_seed(easy):
    """Breaks if the average's steps are mixed up with the iterate's, or a seed with another."""
    rows = repeated("digits", "SGD", 256, 0.5, 0.0, 0.8, seeds=(5, 3))
    for row, seed in zip(rows, (5, 3), strict=True):
        raw, average = measure_steps("digits", "SGD", 256, 0.5, 0.0, seed, (0.8,), until=0.8)
        assert row == {"seed": seed, "steps": average["steps"]} and raw["decay"] == 0
    assert repeated("digits", "SGD", 256, 0.5, 0.0, 0.0, seeds=(5,))[0]["steps"] == raw_steps(5)


def raw_steps(seed):
    return measure_steps("digits", "SGD", 256, 0.5, 0.0, seed, ())[0]["steps"]


def test_a_run_that_waits_for_an_average_goes_on_until_it_is_there():
    """Breaks if a run ends with the iterate, so that a slower average never arrives."""
    case = {"workload": "digits", "optimizer": "SGD", "batch_size": 1400, "lr": 0.6, "decays": (0.98,)}
    raw, average = measure_steps(**case, until=0.98)
    assert raw["steps"] < average["steps"] and np.isnan(measure_steps(**case)[1]["steps"])
    with pytest.raises(ValueError, match="until must be 0 or one of the decays"):
        measure_steps(**case, until=0.5)


def test_the_best_rate_of_a_seed_is_the_first_of_the_fastest(easy):
    (row,) = best_rates("digits", 256, seeds=(4,))
    tried = settings("digits", "SGD", 256, halfwidth=3)
    steps = {lr: measure_steps("digits", "SGD", 256, lr, 0.0, 4, ())[0]["steps"] for lr, _ in tried}
    fastest = [lr for lr in steps if steps[lr] == np.nanmin(list(steps.values()))]
    assert len(tried) == 7 and (row["seed"], row["lr"], row["steps"]) == (4, fastest[0], steps[fastest[0]])


# Settings near the best ones on the digits, at a small batch and at the whole set: (lr, momentum).
NEAR_BEST = {
    ("SGD", 8): (0.17, 0.0),
    ("SGD", 1400): (0.6, 0.0),
    ("Momentum", 8): (0.01, 0.95),
    ("Momentum", 1400): (0.156, 0.95),
    ("Adam", 8): (0.0054, 0.9),
    ("Adam", 1400): (0.03, 0.9),
    ("K-FAC", 8): (0.044, 0.0),
    ("K-FAC", 1400): (0.14, 0.8),
}


@pytest.fixture(scope="module")
def steps_at_both_ends():
    return {
        case: measure_steps("digits", *case, lr, momentum, seed=2, decays=())[0]["steps"]
        for case, (lr, momentum) in NEAR_BEST.items()
    }


def test_momentum_saves_more_at_the_whole_set_than_at_small_batches(steps_at_both_ends):
    """Breaks if the momentum of the optimiser is not the one asked for."""
    small, large = (steps_at_both_ends["SGD", b] / steps_at_both_ends["Momentum", b] for b in (8, 1400))
    assert large > 1.3 and large > 1.2 * small


def test_sgd_has_the_smallest_critical_batch_size(steps_at_both_ends):
    """Breaks if a method's steps do not fall as they should from a small batch to the whole set."""
    knee = {name: 8 * steps_at_both_ends[name, 8] / steps_at_both_ends[name, 1400] for name in OPTIMIZERS}
    assert knee["SGD"] < 0.8 * min(knee[name] for name in ("Momentum", "Adam", "K-FAC"))


def test_kfac_needs_the_fewest_steps_at_both_ends(steps_at_both_ends):
    """Breaks if K-FAC loses its preconditioner."""
    for b in (8, 1400):
        others = min(steps_at_both_ends[name, b] for name in ("SGD", "Momentum", "Adam"))
        assert steps_at_both_ends["K-FAC", b] < 0.7 * others


def test_averaging_saves_steps_at_small_batches_and_none_at_the_whole_set():
    """Breaks if the average does not follow the iterates."""
    raw, average = measure_steps("digits", "SGD", 8, 0.24, seed=2, decays=(0.98,))
    assert average["steps"] < 0.9 * raw["steps"]
    raw, average = measure_steps("digits", "SGD", 1400, 0.6, seed=2, decays=(0.8,), until=0.8)
    assert average["steps"] >= raw["steps"]


def test_best_rate_of_a_small_batch_is_too_small_for_the_whole_set_and_the_other_way_round(steps_at_both_ends):
    """Breaks if the learning rate asked for is not the one that the optimiser takes."""
    slow = measure_steps("digits", "SGD", 1400, NEAR_BEST["SGD", 8][0], seed=2, decays=())[0]["steps"]
    assert not slow < 1.5 * steps_at_both_ends["SGD", 1400]
    wild = measure_steps("digits", "SGD", 8, NEAR_BEST["SGD", 1400][0], seed=2, decays=())[0]["steps"]
    assert not wild < 1.5 * steps_at_both_ends["SGD", 8]

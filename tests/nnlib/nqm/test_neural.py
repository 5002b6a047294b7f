"""Steps to a target on networks: one run, the grid of runs, and the choice among them."""

import numpy as np
import pandas as pd
import pytest
import torch

from nnlib.nqm import neural
from nnlib.training import evaluate


def test_steps_are_the_first_evaluation_at_which_the_target_is_reached():
    """Breaks if the step is off by one, or the loss is measured on a batch instead of the whole set."""
    work = neural.WORKLOADS["digits"]
    found = neural.measure_steps("digits", "SGD", batch_size=1400, lr=0.6, seed=0, decays=())[0]["steps"]
    data = neural._data("digits")
    model = work.model(seed=0, dtype=work.dtype)
    x, y = data.train.x.to(work.dtype), data.train.y
    losses = {}
    for step in range(1, int(found) + 1):  # at B = n every batch is the whole set, in whatever order
        loss = torch.nn.functional.cross_entropy(model(x), y)
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(model.parameters(), grads, strict=True):
                parameter -= 0.6 * grad
        losses[step] = float(torch.nn.functional.cross_entropy(model(x), y).detach())
    evaluated = [step for step in neural.evaluation_steps(int(found)) if losses[step] <= work.target]
    assert evaluated == [found]
    assert evaluate(model, data.train.__class__(x, y))["loss"] <= work.target


def test_average_with_large_decay_lags_behind_at_full_batch():
    """Breaks if the averages are not followed: without noise an average can only be late."""
    rows = neural.measure_steps("digits", "SGD", batch_size=1400, lr=0.6, seed=0, decays=(0.8, 0.98))
    steps = {row["decay"]: row["steps"] for row in rows}
    assert np.isnan(steps[0.98]) and not (steps[0.8] < steps[0.0])


def test_divergence_and_running_out_of_steps_are_rows_not_crashes():
    """Breaks if a too large learning rate raises, which would lose a sweep's cell."""
    diverged = neural.measure_steps("digits", "SGD", batch_size=64, lr=1e300, decays=())[0]
    unfinished = neural.measure_steps("digits", "SGD", batch_size=64, lr=1e-4, decays=(), max_steps=5)[0]
    assert diverged["diverged"] and np.isnan(diverged["steps"])
    assert not unfinished["diverged"] and np.isnan(unfinished["steps"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workload": "cifar"}, "workload must be one of"),
        ({"optimizer": "Lion"}, "optimizer must be one of"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"momentum": 1.0}, "momentum in"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, message):
    """Breaks if a typo trains something else."""
    good = {"workload": "digits", "optimizer": "SGD", "batch_size": 64, "lr": 0.1}
    with pytest.raises(ValueError, match=message):
        neural.measure_steps(**good | change)


@pytest.mark.parametrize("workload", neural.WORKLOADS)
def test_grid_holds_every_case_once_with_its_guess_in_the_middle(workload):
    """Breaks if a case is left out: its curve would be missing a point."""
    frame = pd.DataFrame(neural.grid(workload, seeds=[0, 1]))
    assert not frame.duplicated().any()
    work = neural.WORKLOADS[workload]
    for (optimizer, _, momentum), part in frame.groupby(["optimizer", "batch_size", "momentum"]):
        assert len(part) == 5 * 2
        assert momentum in neural.MOMENTA[optimizer]
    assert set(frame.batch_size) == set(work.batch_sizes)


def rows(steps_by_lr, decay=0.0, momentum=0.0):
    case = {"workload": "digits", "optimizer": "SGD", "batch_size": 8, "momentum": momentum, "decay": decay}
    return [
        case | {"lr": lr, "seed": seed, "steps": float(steps), "error": None}
        for lr, per_seed in steps_by_lr.items()
        for seed, steps in enumerate(per_seed)
    ]


def test_tune_takes_the_median_over_seeds_and_counts_unreached_targets_as_infinite():
    """Breaks if a learning rate that fails for most seeds wins by its one lucky run."""
    frame = pd.DataFrame(rows({0.1: (50, 60, 70), 0.2: (10, np.nan, np.nan), 0.4: (90, 90, 90)}))
    best = neural.tune(frame)
    plain = best[~best.average].iloc[0]
    assert (plain.lr, plain.steps, plain.low, plain.high) == (0.1, 60, 50, 70)


def test_tune_says_when_the_best_learning_rate_is_the_last_that_was_tried():
    """Breaks if an optimum at the edge of its grid passes for an optimum."""
    inside = neural.tune(pd.DataFrame(rows({0.1: (60,), 0.2: (50,), 0.4: (70,)})))
    outside = neural.tune(pd.DataFrame(rows({0.1: (60,), 0.2: (50,), 0.4: (40,)})))
    assert inside.edge.tolist() == ["", ""] and outside.edge.tolist() == ["lr", "lr"]


def test_averaging_is_chosen_only_where_it_is_faster():
    """Breaks if averaged and plain runs are mixed up."""
    frame = pd.DataFrame(rows({0.1: (60,), 0.2: (50,), 0.4: (70,)}) + rows({0.1: (30,), 0.2: (55,), 0.4: (80,)}, 0.9))
    best = neural.tune(frame).set_index("average")
    assert (best.loc[False].steps, best.loc[True].steps, best.loc[True].decay) == (50, 30, 0.9)


@pytest.mark.parametrize("workload", ["mnist_cnn", "fashion_mnist_cnn"])
def test_paper_profile_takes_its_first_steps_through_the_same_code(workload, monkeypatch):
    """A few steps on the small vendored images stand in for the full sets, which are fetched."""
    monkeypatch.setitem(neural.WORKLOADS[workload].options, "download", False)
    neural._data.cache_clear()
    run = neural.measure_steps(workload, "Adam", batch_size=32, lr=1e-3, momentum=0.9, decays=(0.9,), max_steps=3)
    neural._data.cache_clear()
    assert [row["decay"] for row in run] == [0.0, 0.9] and not any(row["diverged"] for row in run)

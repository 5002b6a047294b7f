"""The paper's claims, checked again: on curvature from nnlib, on trained networks from the recorded runs."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from nnlib.curvature import Kronecker
from nnlib.eigendamage import bottleneck, importance, kron_obd, kron_obs, kron_obs_update
from tenpapers.eigendamage.neural import share_on_the_diagonal
from tests.oracles.curvature import draw

RESULTS = Path(__file__).parents[3] / "tenpapers" / "results" / "eigendamage.json"


@lru_cache
def table(name):
    entry = json.loads(RESULTS.read_text())["tables"][name]["laptop"]
    return pd.DataFrame(entry["rows"], columns=entry["columns"])


def at_equal_size(network, share=0.3):
    """Accuracy with new batch statistics where this share of the parameters is left: every method, mean over seeds."""
    runs, found = table("trade-off"), {}
    for (method, _), part in runs[runs.workload == network].groupby(["method", "seed"], sort=False):
        part = part.sort_values("parameters")
        assert part.parameters.min() <= share <= part.parameters.max(), (network, method)
        found.setdefault(method, []).append(np.interp(share, part.parameters, part.accuracy_bn))
    return {method: np.mean(values) for method, values in found.items()}


def finetuned(network, ratio):
    runs = table("trade-off")
    runs = runs[(runs.workload == network) & (runs.ratio == ratio)]
    return runs.groupby("method").accuracy_finetuned.mean()


def test_costs_add_up_in_the_eigenbasis_and_not_over_filters():
    """Breaks if the scores were those of another basis than the one in which entries are deleted."""
    X, D, W = draw(40, 20), draw(40, 32, seed=1), draw(32, 20, seed=2)
    D = D @ draw(32, 32, seed=3)  # correlated gradients
    block = Kronecker(X.T @ X / 40, D.T @ D / 40)
    basis = block.eigen()
    rows = importance(W, basis).sum(1).argsort()[:24]
    gone = torch.zeros(32, 1, dtype=torch.bool)
    gone[rows] = True
    cost = block.quadratic(basis.rotate_back(-basis.rotate(W) * gone)) / 2
    torch.testing.assert_close(cost, importance(W, basis).sum(1)[rows].sum())
    for score, update in ((kron_obd, lambda W, block, P: -W * P[:, None]), (kron_obs, kron_obs_update)):
        scores = score(W, block)
        P = torch.zeros(32, dtype=torch.bool)
        P[scores.argsort()[:24]] = True
        assert abs(block.quadratic(update(W, block, P)) / 2 / scores[P].sum() - 1) > 0.1


def test_the_fisher_is_closer_to_diagonal_in_the_eigenbasis():
    """Breaks if gradients were rotated by the wrong side or by the transpose."""
    share = share_on_the_diagonal("CNN", examples=25)
    assert (share.eigenbasis > 1.5 * share.weights).all()
    assert share.eigenbasis.iloc[-1] > 5 * share.weights.iloc[-1]
    assert (share.eigenbasis < 0.2).all()  # and it is not diagonal


def test_the_three_parts_have_the_shares_of_the_papers_example():
    layer, kept = nn.Conv2d(512, 512, 3, bias=False), torch.arange(512) < 32
    made = bottleneck(layer, torch.eye(512), torch.eye(512), kept, kept)
    assert [round(100 * part.weight.numel() / layer.weight.numel(), 2) for part in made] == [0.69, 0.39, 0.69]


@pytest.mark.parametrize("network", ["VGG", "VGG, CIFAR-10", "ResNet", "CNN by Adam"])
def test_eigendamage_keeps_most_without_fine_tuning_at_equal_size(network):
    found = at_equal_size(network)
    best = found.pop("EigenDamage")
    assert best > max(found.values()) + 0.1, found


def test_eigendamage_is_barely_ahead_on_the_cnn_trained_by_sgd():
    found = at_equal_size("CNN")
    best = found.pop("EigenDamage")
    assert max(found.values()) < best < max(found.values()) + 0.05


def test_on_dense_layers_eigendamage_is_behind():
    found = at_equal_size("MLP")
    assert found["EigenDamage"] < min(found["Kron-OBD"], found["Kron-OBS"]) - 0.1


@pytest.mark.parametrize("network", ["VGG", "VGG, CIFAR-10", "ResNet"])
@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_eigendamage_is_the_most_accurate_after_fine_tuning_at_equal_ratio(network, ratio):
    found = finetuned(network, ratio)
    assert found.idxmax() == "EigenDamage"


def test_rounds_shrink_the_network_and_its_depth_stays():
    rounds = table("rounds")
    pruned = rounds[rounds.stage.str.startswith("round")]
    assert (np.diff(pruned.parameters) < 0).all() and (np.diff(pruned.flops) < 0).all()
    assert pruned.layers.nunique() == 1

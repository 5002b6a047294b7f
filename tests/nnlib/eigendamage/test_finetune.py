"""Training after pruning, batch statistics, and several rounds."""

from itertools import pairwise

import pandas as pd
import pytest
import torch
from torch import nn

from nnlib.eigendamage import Bottleneck, prune, prune_iteratively, reestimate_batch_norm, train
from nnlib.models import MLP
from nnlib.training import Dataset, Split, evaluate
from tenpapers.data import load
from tests.oracles.curvature import draw, randomised


def few(n=280):
    data = load("digits")
    part = Split(data.train.x[:n], data.train.y[:n])
    return Dataset(part, data.validation, data.test, data.info, data.source, data.licence)


def test_batch_statistics_are_the_means_over_the_batches():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.9), nn.Linear(4, 2)).double()
    x = draw(25, 3)
    reestimate_batch_norm(model, x, batch_size=10)
    s = model[0](x[:20]).view(2, 10, 4)
    torch.testing.assert_close(model[1].running_mean, s.mean((0, 1)))
    torch.testing.assert_close(model[1].running_var, s.var(1).mean(0))


def test_reestimation_changes_nothing_else():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout()).double()
    model[2].eval()
    before = {name: p.clone() for name, p in model.named_parameters()}
    reestimate_batch_norm(model, draw(20, 3))
    assert [layer.training for layer in model] == [True, True, False] and model[1].momentum == 0.3
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_reestimation_repairs_a_pruned_network_whose_layers_changed_their_scale():
    torch.manual_seed(0)
    model = MLP([64, 40, 10], batch_norm=True, seed=0)
    data = few()
    train(model, data, epochs=5, lr=0.1, batch_size=40)
    good = evaluate(model, data.train)["accuracy"]
    with torch.no_grad():
        model.layers[1].weight.mul_(10)
    bad = evaluate(model, data.train)["accuracy"]
    again = evaluate(reestimate_batch_norm(model, data.train.x), data.train)["accuracy"]
    assert good > 0.9 and again > good - 0.02 and bad < again


def test_the_learning_rate_falls_to_a_tenth_after_half_and_three_quarters(monkeypatch):
    from nnlib.eigendamage import finetune

    seen = []

    def spy(model, data, optimizer, **options):
        seen.append((options["steps"], round(optimizer.param_groups[0]["lr"], 6)))

    monkeypatch.setattr(finetune, "fit", spy)
    train(MLP([64, 10]), few(), epochs=4, lr=0.1, batch_size=40)  # 7 steps an epoch
    assert seen == [(14, 0.1), (7, 0.01), (7, 0.001)]
    seen.clear()
    train(MLP([64, 10]), few(), epochs=1, lr=0.1, batch_size=40)
    assert seen == [(3, 0.1), (2, 0.01), (2, 0.001)]


def test_fine_tuning_moves_the_rotations_and_lowers_the_loss():
    data = few()
    model = train(MLP([64, 40, 40, 10], seed=0), data, epochs=5, lr=0.1, batch_size=40)
    pruned = prune(model, data.train.x, ratio=0.9, fisher="exact").model
    before = {name: p.clone() for name, p in pruned.named_parameters()}
    loss = evaluate(pruned, data.train)["loss"]
    train(pruned, data, epochs=5, lr=0.02, batch_size=40)
    assert evaluate(pruned, data.train)["loss"] < 0.8 * loss
    assert isinstance(pruned.layers[3], Bottleneck)
    assert all(not torch.equal(p, before[name]) for name, p in pruned.named_parameters())


def test_rounds_prune_what_the_last_round_left_and_train_each():
    data, trained = few(40), []
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3)]
    model = randomised(nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)))
    rounds = prune_iteratively(model, data.train.x.double(), 4, trained.append, ratio=0.5, fisher="exact")
    assert [id(pruned.model) for pruned in rounds] == [id(network) for network in trained]
    for earlier, later in pairwise(rounds):
        pd.testing.assert_series_equal(
            pd.DataFrame(earlier.layers).parameters_kept, pd.DataFrame(later.layers).parameters, check_names=False
        )
        assert (pd.DataFrame(later.layers).outputs_kept >= pd.DataFrame(later.layers).outputs / 2).all()
    sizes = [int(pd.DataFrame(pruned.layers).parameters_kept.sum()) for pruned in rounds]
    assert all(later < earlier for earlier, later in pairwise(sizes))


def test_a_dense_layer_is_left_whole_for_ever_where_a_round_may_take_half():
    # A bottleneck of it pays below 41 % of rows and columns, and each round starts anew from all of them.
    data = few()
    rounds = prune_iteratively(MLP([64, 40, 40, 10]), data.train.x, 3, lambda network: None, fisher="exact")
    assert all(pd.DataFrame(pruned.layers).whole.all() for pruned in rounds)
    assert not pd.DataFrame(prune(MLP([64, 40, 40, 10]), data.train.x, ratio=0.9, fisher="exact").layers).whole.any()


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be a whole number of at least 1: got 0"):
        prune_iteratively(MLP([4, 3, 2]), torch.ones(2, 4), 0, print)

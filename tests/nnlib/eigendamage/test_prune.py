"""Pruning a network as a user calls it: statistics, choice, surgery and report belong together."""

import copy
import io

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from nnlib.curvature import joint_weight, layer_index
from nnlib.eigendamage import (
    METHODS,
    Bottleneck,
    choose,
    eigenbases,
    filter_scores,
    importance,
    kron_obd,
    prunable,
    prune,
    rotate,
)
from nnlib.models import MLP, VGG, PreResNet, ResNet
from tests.oracles import curvature
from tests.oracles import eigendamage as oracle
from tests.oracles.curvature import draw, randomised

FILTERS = [method for method in METHODS if method != "EigenDamage"]


def small():
    """Two convolutions, the second strided, and a linear layer, all with biases; no padding."""
    layers = [nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 5)]
    return randomised(nn.Sequential(*layers, nn.Tanh(), nn.Linear(5, 3)), seed=4)


def images(n=6, seed=0):
    return draw(n, 1, 8, 8, seed=seed)


def vgg():
    return oracle.randomise_norms(VGG(11, 1, width=1 / 16, affine=True, dtype=torch.float64))


def resnet():
    return oracle.randomise_norms(ResNet(8, 1, affine=True, dtype=torch.float64))


def preresnet():
    return oracle.randomise_norms(PreResNet(11, 1, dtype=torch.float64))


def test_c_obd_scores_use_the_exact_diagonal_of_the_fisher_matrix():
    """Breaks with K-FAC's diagonal, or a square of mean gradients in place of the mean of squares."""
    model, x = small(), images(4)
    diagonal = curvature.fisher(model, x).diagonal()
    for name, (score, _) in filter_scores(model, x, "C-OBD", prunable(model, x), fisher="exact").items():
        W = joint_weight(model.get_submodule(name))
        mine = diagonal[layer_index(model, name)].view_as(W)
        torch.testing.assert_close(score, (mine * W.square()).sum(1) / 2)


@pytest.mark.parametrize("name", ["0", "2"])
def test_eigenbases_are_those_of_the_channel_factors_without_the_bias(name):
    model, x = small(), images(3)
    A, S = oracle.channel_factors(model, name, x)
    basis = eigenbases(model, x, [name], fisher="exact")[name]
    torch.testing.assert_close(basis.dense(), torch.kron(S, A))


def test_ekfac_measures_the_mean_square_of_the_rotated_gradients_offset_by_offset():
    model, x = small(), images(4)
    bases = eigenbases(model, x, ["2", "5"], fisher="exact", ekfac=True)
    for name, basis in bases.items():
        layer = model.get_submodule(name)
        total = torch.zeros(*layer.weight.shape[:2], layer.weight[0, 0].numel(), dtype=torch.float64)
        for example in x:
            f = model(example[None])[0]
            for p, loss in zip(f.softmax(0).detach(), -f.log_softmax(0), strict=True):
                (G,) = torch.autograd.grad(loss, layer.weight, retain_graph=True)
                G = G if G.ndim > 2 else G[:, :, None]
                total += p * rotate(G.flatten(2), basis.Q_S, basis.Q_A).square()
        torch.testing.assert_close(basis.values, total / len(x))


def test_bases_are_found_in_single_precision_where_factors_have_low_rank():
    # 512 channels seen at four places: single-precision LAPACK gives up on most of these.
    model, x = VGG(19, 3, affine=True), draw(4, 3, 16, 16).float()
    bases = eigenbases(model.eval(), x, prunable(model, x))
    for basis in bases.values():
        for Q in (basis.Q_A, basis.Q_S):
            torch.testing.assert_close(Q.T @ Q, torch.eye(len(Q)), rtol=0, atol=1e-5)
        assert basis.values.isfinite().all() and (basis.values >= 0).all()


def test_weights_that_are_not_finite_are_refused():
    model = small()
    with torch.no_grad():
        model[0].weight[0] = float("inf")
    with pytest.raises(ValueError, match="curvature is not finite"):
        prune(model, images())


def two_linear_maps():
    """A linear network at its least-squares solution: K-FAC is exact there, and so is the second-order model."""
    model = randomised(nn.Sequential(nn.Linear(12, 10, bias=False), nn.Linear(10, 10, bias=False)), seed=2)
    x = draw(30, 12, seed=5) @ draw(12, 12, seed=6)
    noise = draw(30, 10, seed=7)
    noise = noise - x @ torch.linalg.lstsq(x, noise).solution  # orthogonal to every input: the gradient is zero
    y = model(x).detach() + noise
    return model, x, y


def loss(model, x, y):
    return mse_loss(model(x), y, reduction="sum") / 2 / len(x)


@pytest.mark.parametrize("ratio", [0.7, 0.8, 0.9])
def test_on_a_linear_network_eigendamage_predicts_the_rise_of_the_loss_exactly(ratio):
    """The sum of the scores of all deleted entries is the rise: second-order model, K-FAC and eigenbasis at once."""
    model, x, y = two_linear_maps()
    statistics = {"fisher": "exact", "likelihood": "gaussian"}
    theta = importance(model[0].weight.detach(), eigenbases(model, x, ["0"], **statistics)["0"])
    kept = choose({"rows": theta.sum(1), "columns": theta.sum(0)}, ratio)
    pruned = prune(model, x, ratio=ratio, layers=["0"], **statistics)
    assert not pd.DataFrame(pruned.layers).whole[0]
    predicted = theta[~torch.outer(kept["rows"], kept["columns"])].sum()
    torch.testing.assert_close(loss(pruned.model, x, y) - loss(model, x, y), predicted)


@pytest.mark.parametrize("method", ["Kron-OBD", "Kron-OBS"])
def test_on_a_linear_network_a_filters_score_is_the_rise_of_the_loss_when_it_goes(method):
    model, x, y = two_linear_maps()
    statistics = {"fisher": "exact", "likelihood": "gaussian"}
    (score, _) = filter_scores(model, x, method, ["0"], damping=0.0, **statistics)["0"]
    pruned = prune(model, x, method, 0.1, layers=["0"], damping=0.0, **statistics)
    torch.testing.assert_close(loss(pruned.model, x, y) - loss(model, x, y), score.min())
    assert pd.DataFrame(pruned.layers).outputs_kept.tolist() == [9]


def test_on_a_linear_network_compensation_for_several_filters_lowers_the_rise():
    model, x, y = two_linear_maps()
    options = {"layers": ["0"], "damping": 0.0, "fisher": "exact", "likelihood": "gaussian"}
    plain, made_up = (loss(prune(model, x, m, 0.6, **options).model, x, y) for m in ("Kron-OBD", "Kron-OBS"))
    assert loss(model, x, y) < made_up < plain


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [vgg, resnet])
def test_with_nothing_pruned_the_network_is_the_original(method, build):
    model = build().eval()
    x = draw(4, 1, 16, 16)
    pruned = prune(model, x, method, ratio=0.0)
    torch.testing.assert_close(pruned.model(x), model(x), rtol=1e-10, atol=1e-10)
    assert (
        pd.DataFrame(pruned.layers).whole.all()
        and (pd.DataFrame(pruned.layers).outputs_kept == pd.DataFrame(pruned.layers).outputs).all()
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [vgg, resnet, preresnet])
def test_every_method_leaves_a_smaller_ordinary_network(method, build):
    """It saves, loads and trains on; the original is as it was."""
    model, x = build(), draw(4, 1, 16, 16)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    pruned = prune(model, x, method, ratio=0.6)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and model.training and pruned.model.training
    assert all(p.is_contiguous() for p in pruned.model.parameters())  # else training may write out of bounds
    left = sum(p.numel() for p in pruned.model.parameters())
    assert left < sum(p.numel() for p in model.parameters())
    network = pruned.model.eval()
    expected = network(x)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    torch.testing.assert_close(torch.load(file, weights_only=False)(x), expected)
    cross_entropy(network.train()(x), torch.tensor([0, 1, 2, 3])).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("method", ["Kron-OBS", "EigenDamage"])
@pytest.mark.parametrize("build", [vgg, preresnet])
def test_the_pruned_network_can_be_exported(method, build):
    model, x = build().eval(), draw(4, 1, 16, 16)
    network = prune(model, x, method, ratio=0.6).model
    torch.testing.assert_close(torch.export.export(network, (x,)).module()(x), network(x))


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize("ratio", [0.2, 0.4, 0.7])
def test_the_share_of_filters_that_go_is_the_ratio_over_all_layers_until_the_cap_stops_it(method, ratio):
    layers = pd.DataFrame(prune(vgg(), draw(4, 1, 16, 16), method, ratio).layers)
    gone, asked = layers.outputs.sum() - layers.outputs_kept.sum(), int(ratio * layers.outputs.sum() + 1e-9)
    at_cap = layers.outputs - layers.outputs_kept == (0.95 * layers.outputs + 1e-9).astype(int)
    assert gone == asked or (gone < asked and at_cap.any())
    assert layers.outputs_kept.min() >= 1


@pytest.mark.parametrize("method", METHODS)
def test_no_layer_loses_more_than_the_cap(method):
    layers = pd.DataFrame(prune(vgg(), draw(4, 1, 16, 16), method, 0.9, cap=0.5).layers)
    assert (layers.outputs_kept >= layers.outputs / 2).all()
    if method == "EigenDamage":
        assert (layers.inputs_kept >= layers.inputs / 2).all()


def test_the_report_counts_what_is_in_the_network():
    pruned = prune(vgg(), draw(4, 1, 16, 16), ratio=0.6)
    for row in pd.DataFrame(pruned.layers).itertuples():
        layer = pruned.model.get_submodule(row.layer)
        assert isinstance(layer, Bottleneck) != row.whole
        assert sum(p.numel() for p in layer.parameters()) == row.parameters_kept
        core = layer.core if isinstance(layer, Bottleneck) else layer
        assert tuple(core.weight.shape[:2]) == (row.outputs_kept, row.inputs_kept)
    assert pd.DataFrame(pruned.layers).whole.any() and not pd.DataFrame(pruned.layers).whole.all()


def test_a_layer_stays_whole_exactly_where_its_bottleneck_would_be_larger():
    model, x = MLP([64, 40, 40, 10]), draw(20, 64).float()
    for ratio in (0.2, 0.4, 0.6, 0.8):
        layers = pd.DataFrame(prune(model, x, ratio=ratio, fisher="exact").layers)
        for row in layers.itertuples():
            assert row.parameters_kept <= row.parameters
            assert row.whole == (row.outputs_kept == row.outputs)
    assert not pd.DataFrame(prune(model, x, ratio=0.8, fisher="exact").layers).whole.any()
    assert pd.DataFrame(prune(model, x, ratio=0.2, fisher="exact").layers).whole.all()


def test_compensation_is_added_before_the_filters_are_removed():
    model, x = small(), images()
    pruned = prune(model, x, "Kron-OBS", 0.5, layers=["2"], fisher="exact")
    (score, update) = filter_scores(model, x, "Kron-OBS", ["2"], fisher="exact")["2"]
    gone = score <= score.sort().values[1]
    expected = (joint_weight(model[2]) + update(gone))[~gone]
    torch.testing.assert_close(joint_weight(pruned.model[2]), expected)


def test_a_higher_damping_brings_kron_obs_to_kron_obd_in_direction():
    # S + c I for large c is a multiple of I: nothing is correlated any more, and nothing is compensated.
    model, x = small(), images()
    (score, update) = filter_scores(model, x, "Kron-OBS", ["2"], fisher="exact", damping=1e8)["2"]
    (plain, _) = filter_scores(model, x, "Kron-OBD", ["2"], fisher="exact")["2"]
    gone = torch.tensor([True, False, False, False])
    assert update(gone)[~gone].abs().max() < 1e-3
    assert plain.shape == score.shape


def test_the_quadratic_form_is_not_the_shortcut_of_the_authors_code():
    # W^2 (A 1) in place of W A W': they agree where A is diagonal only.
    model, x = small(), images()
    from nnlib.curvature import factors

    W, block = joint_weight(model[2]), factors(model, x, layers=["2"], fisher="exact")["2"]
    shortcut = block.S.diagonal() * (W.square() @ block.A.sum(1)) / 2
    assert ((shortcut / kron_obd(W, block)).log().abs() > 0.1).any()


def test_a_second_pruning_merges_bases_and_depth_stays():
    model, x = vgg().eval(), draw(4, 1, 16, 16)
    first = prune(model, x, ratio=0.5, cap=0.5)
    second = prune(first.model, x, ratio=0.5, cap=0.5)
    kinds = [[type(m) for m in pruned.model.layers] for pruned in (first, second)]
    assert all(later in (earlier, Bottleneck) for earlier, later in zip(*kinds, strict=True))
    assert not any(
        isinstance(part, Bottleneck) for m in second.model.modules() if isinstance(m, Bottleneck) for part in m
    )
    merged = pd.DataFrame(second.layers).set_index("layer")
    for row in pd.DataFrame(first.layers)[~pd.DataFrame(first.layers).whole].itertuples():
        assert merged.outputs[row.layer] == row.outputs_kept and merged.inputs[row.layer] == row.inputs_kept
    assert pd.DataFrame(second.layers).parameters_kept.sum() < pd.DataFrame(first.layers).parameters_kept.sum()


def test_layers_run_in_order_and_the_classifier_is_left_out():
    x = draw(2, 1, 16, 16)
    assert prunable(vgg(), x) == [f"layers.{i}" for i, m in enumerate(vgg().layers) if isinstance(m, nn.Conv2d)]
    model = nn.ModuleDict({"head": nn.Linear(3, 2), "first": nn.Linear(4, 3)}).double()
    model.forward = lambda x: model["head"](model["first"](x))
    assert prunable(model, draw(2, 4)) == ["first"]
    pruned = prune(vgg(), x, ratio=0.8).model
    assert prunable(pruned, x) == prunable(vgg(), x)


def test_the_same_seed_gives_the_same_network_and_another_seed_other_labels():
    model, x = small(), images(4)
    one, again, other = (prune(model, x, ratio=0.8, seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(one[key].shape != other[key].shape or not torch.equal(one[key], other[key]) for key in one)


def test_statistics_in_pieces_are_those_of_the_whole():
    model, x = small(), images(7)
    whole, pieces = (prune(model, x, ratio=0.8, fisher="exact", batch_size=size).model(x) for size in (None, 3))
    torch.testing.assert_close(whole, pieces)


def test_statistics_are_taken_in_evaluation_mode():
    """Breaks if BatchNorm sees the batch: the pruned network of one in training mode would be another."""
    model, x = vgg(), draw(4, 1, 16, 16)
    training = prune(model.train(), x, ratio=0.6).model.eval()
    evaluating = prune(copy.deepcopy(model).eval(), x, ratio=0.6).model
    torch.testing.assert_close(training(x), evaluating(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "OBD"}, "method must be one of Magnitude, NN Slimming"),
        ({"method": "Kron-OBD", "ekfac": True}, "ekfac is about EigenDamage"),
        ({"ratio": 1.0}, "ratio must be a number in"),
        ({"layers": ["9"]}, "has no"),
        ({"fisher": "true"}, "fisher must be one of"),
        ({"method": "NN Slimming"}, "affine=True"),
        ({"method": "Kron-OBD", "layers": ["7"]}, "output would lose channels"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises((ValueError, AttributeError), match=message):
        prune(small(), images(), **{"ratio": 0.5} | options)

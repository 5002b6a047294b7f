"""What the paper says of EigenDamage, and what decides it here. Paper: arXiv 1905.05934."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from nnlib.curvature import Kronecker
from nnlib.eigendamage import bottleneck, importance, prune_iteratively
from tenpapers.claims import Claim, Deterministic, Direction, Evidence, Exact, Figure, Sample, Threshold, held_equal
from tenpapers.claims import sample as sample_of
from tenpapers.eigendamage import runs

ONE_PASS = "section 5, tables and figures on one-pass pruning"
TESTS = "tests/nnlib/eigendamage/"


def at_equal_size(network: str, profile: str = "laptop", share: float = 0.3) -> dict[str, Sample]:
    """Accuracy with new batch statistics where this share of the parameters is left: interpolated, by method."""
    frame, found = runs.trade_off.read(profile, workload=network), {}
    for method, part in frame.groupby("method", sort=False):
        values = []
        for _, one in part.groupby("seed"):
            one = one.sort_values("parameters")
            inside = one.parameters.min() <= share <= one.parameters.max()
            values.append(np.interp(share, one.parameters, one.accuracy_bn) if inside else np.nan)
        if np.isfinite(values).all():
            found[str(method)] = Sample(tuple(values))
    return found


def _ahead(values: dict[str, Sample]) -> Evidence:
    """EigenDamage beside the best of the others; tested against each of them, seed by seed."""
    others = {method: value for method, value in values.items() if method != "EigenDamage"}
    best = max(others, key=lambda method: others[method].mean)
    shown = {"EigenDamage": values["EigenDamage"], f"best other ({best})": others[best]}
    return Evidence(shown, {f"over {method}": values["EigenDamage"] - value for method, value in others.items()})


def _one_shot(network: str, id: str) -> Claim:
    return Claim(
        "eigendamage",
        id,
        "Without fine-tuning, EigenDamage keeps more accuracy than any removal of filters "
        f"({network}: test accuracy where 30 % of the parameters are left)",
        ONE_PASS,
        Direction(),
        lambda profile: _ahead(at_equal_size(network, profile)),
        equal="parameters left (30 %, interpolated), images for the statistics, new batch statistics",
        test=TESTS + "test_prune.py::test_on_a_linear_network_eigendamage_predicts_the_rise_of_the_loss_exactly",
    )


one_shot_vgg = _one_shot("VGG", "one_shot_vgg")
one_shot_resnet = _one_shot("ResNet", "one_shot_resnet")
one_shot_vgg_cifar10 = _one_shot("VGG, CIFAR-10", "one_shot_vgg_cifar10")
one_shot_cnn_by_adam = _one_shot("CNN by Adam", "one_shot_cnn_by_adam")
one_shot_cnn = _one_shot("CNN", "one_shot_cnn")
one_shot_mlp = _one_shot("MLP", "one_shot_mlp")


def _fine_tuned(network: str, id: str) -> Claim:
    def evidence(profile: str) -> Evidence:
        frame = runs.trade_off.read(profile, workload=network, ratio=0.8)
        parts = {str(method): part for method, part in frame.groupby("method", sort=False)}
        found = _ahead({method: sample_of(part, "accuracy_finetuned") for method, part in parts.items()})
        left = {method: float(part.parameters.mean()) for method, part in parts.items()}
        held_equal("parameters left", left, within=0.1, ours=found.ours)
        return found

    return Claim(
        "eigendamage",
        id,
        "At a high ratio and after fine-tuning, EigenDamage is the most accurate "
        f"({network}, ratio 0.8: test accuracy)",
        ONE_PASS,
        Direction(),
        evidence,
        equal="epochs of fine-tuning, parameters left",
        test=TESTS + "test_finetune.py::test_fine_tuning_moves_the_rotations_and_lowers_the_loss",
    )


fine_tuned_vgg = _fine_tuned("VGG", "fine_tuned_vgg")
fine_tuned_resnet = _fine_tuned("ResNet", "fine_tuned_resnet")
fine_tuned_vgg_cifar10 = _fine_tuned("VGG, CIFAR-10", "fine_tuned_vgg_cifar10")


def _diagonal(profile: str) -> Evidence:
    frame = runs.diagonals.read(profile)
    frame = frame.assign(gain=frame.eigenbasis / frame.weights)
    return Evidence({f"layer {layer}": sample_of(part, "gain") for layer, part in frame.groupby("layer")})


diagonal = Claim(
    "eigendamage",
    "diagonal",
    "A layer's Fisher block is closer to diagonal in the Kronecker-factored eigenbasis "
    "(share of its squared entries on the diagonal, over that in the weights' own coordinates)",
    "section 4",
    Threshold(above=1.0),
    _diagonal,
    test="tests/tenpapers/eigendamage/test_measure.py::test_the_fisher_is_closer_to_diagonal_in_the_eigenbasis",
)


def _additive(profile: str) -> Evidence:
    draw = torch.Generator().manual_seed(0)
    shapes = ((40, 20), (40, 32), (32, 20), (32, 32))
    X, D, W, mix = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in shapes)
    D = D @ mix  # correlated gradients
    block = Kronecker(X.T @ X / 40, D.T @ D / 40)
    basis = block.eigen()
    theta = importance(W, basis)  # (32, 20)
    gone = torch.rand(32, 20, generator=draw) < 0.4
    joint = block.quadratic(basis.rotate_back(-basis.rotate(W) * gone)) / 2
    return Evidence({"joint cost over sum of scores, less 1": (joint / theta[gone].sum() - 1).item()})


additive = Claim(
    "eigendamage",
    "additive",
    "In the eigenbasis the costs of deletions add up, so that a diagonal rule is right",
    "section 4",
    Exact(1e-9),
    _additive,
    same=("laptop", "paper"),
    test=TESTS + "test_scores.py::test_deleting_rows_and_columns_in_the_eigenbasis_costs_the_sum_of_what_is_deleted",
)


def _filters(profile: str) -> Evidence:
    frame = runs.additions.read(profile)
    return Evidence({method: sample_of(frame, method) for method in ("Kron-OBD", "Kron-OBS")})


filters_do_not_add_up = Claim(
    "eigendamage",
    "filters_do_not_add_up",
    "Over filters the costs of deletions do not add up "
    "(joint cost over sum of scores under K-FAC, the 24 lowest of 32 filters of the small CNN)",
    "section 4",
    Threshold(above=1.0),
    _filters,
    test="tests/tenpapers/eigendamage/test_measure.py::test_costs_add_up_in_the_eigenbasis_and_not_over_filters",
)


def _parts(profile: str) -> Evidence:
    layer, kept = nn.Conv2d(512, 512, 3, bias=False), torch.arange(512) < 32
    made = bottleneck(layer, torch.eye(512), torch.eye(512), kept, kept)
    three = (made.input, made.core, made.output)
    shares = (round(100 * part.weight.numel() / layer.weight.numel(), 2) for part in three)
    return Evidence(dict(zip(("first", "core", "last"), shares, strict=True)))


parts = Claim(
    "eigendamage",
    "parts",
    "A 3 x 3 convolution with 512 channels, 32 rows and columns kept: shares of its weights, in %",
    "section 4",
    Deterministic(0.0),
    _parts,
    paper={"first": 0.69, "core": 0.39, "last": 0.69},
    certainty="printed",
    same=("laptop", "paper"),
    test=TESTS + "test_cost.py::test_the_papers_example_has_its_shares",
)


def _rounds(profile: str) -> Evidence:
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)),
        ).double()
    x = torch.randn(40, 1, 8, 8, generator=draw, dtype=torch.float64)
    found = prune_iteratively(model, x, 4, lambda network: None, ratio=0.5, fisher="exact")
    counts = [sum(isinstance(m, nn.Conv2d | nn.Linear) for m in pruned.model.modules()) for pruned in found]
    sizes = [sum(p.numel() for p in pruned.model.parameters()) for pruned in found]
    tested = {f"round {i}: smaller": bool(b < a) for i, (a, b) in enumerate(pairwise(sizes), start=2)}
    return Evidence(tested | {"layers stay": counts[-1] == counts[-2] == counts[-3]})


rounds = Claim(
    "eigendamage",
    "rounds",
    "Bases of successive rounds are merged: the network shrinks round by round and its number of layers stays",
    "section 5, iterative pruning",
    Exact(0.0),
    _rounds,
    same=("laptop", "paper"),
    test=TESTS + "test_finetune.py::test_rounds_prune_what_the_last_round_left_and_train_each",
)


def _wide_resnet(profile: str) -> Evidence:
    frame = runs.rounds.read(profile, workload="ResNet32, CIFAR-10")
    last = frame[frame.stage.str.startswith("round")].iloc[-1]
    return Evidence(
        {"times smaller": Sample((1 / last.parameters,)), "times fewer operations": Sample((1 / last.flops,))}
    )


wide_resnet = Claim(
    "eigendamage",
    "wide_resnet",
    "In rounds, a wide ResNet32 becomes about ten times smaller with about eight times fewer operations, with a "
    "negligible loss of accuracy",
    "abstract",
    Figure(margin=1.0, reading=0.5),
    _wide_resnet,
    paper={"times smaller": 10, "times fewer operations": 8},
    certainty="printed",
)
vgg19_cifar100 = Claim(
    "eigendamage",
    "vgg19_cifar100",
    "CIFAR-100, VGG19 at ratio 0.9, test accuracy after fine-tuning",
    "table on CIFAR-100",
    Figure(margin=1.0, reading=0.01),
    paper={"Kron-OBD": 60.70, "Kron-OBS": 60.66, "EigenDamage": 65.18},
    certainty="quoted by Wang et al., ICLR 2021",
    missing="CIFAR-100, which has no loader here, and a GPU",
)

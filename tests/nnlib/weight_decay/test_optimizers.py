"""Where the decay enters, for each optimiser, against a loop and against the paper's reading of it."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.curvature import KFAC, joint_weight
from nnlib.models import MLP, SmallCNN
from nnlib.weight_decay import (
    DECAYS,
    METHODS,
    DecoupledSGD,
    damped_direction,
    decayed_layers,
    effective_damping,
    effective_lr,
    equilibrium_norm,
    make_optimizer,
    matched_lr,
    set_norms_,
    weight_norms,
)
from tests.oracles import weight_decay as oracle

COEFFICIENT = {"none": 0.0, "l2": 0.1, "decoupled": 0.1}


def meet(optimizer, w, gradients):
    """The weights after the optimiser was handed these gradients."""
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
    return w.detach()


def layer(seed=0):
    model = nn.Sequential(nn.Linear(3, 2, bias=False, dtype=torch.float64))
    torch.manual_seed(seed)
    nn.init.normal_(model[0].weight)
    gradients = list(torch.randn(6, 2, 3, dtype=torch.float64))
    return model, model[0].weight, gradients


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_decays_where_the_loop_does(decay, momentum):
    """Breaks if decoupled decay passes through the momentum, uses the new weights, or is added twice."""
    model, w, gradients = layer()
    expected = oracle.sgd(w.detach(), gradients, 0.1, momentum, decay, COEFFICIENT[decay])
    optimizer = make_optimizer(model, "SGD", 0.1, decay=decay, weight_decay=COEFFICIENT[decay], momentum=momentum)
    torch.testing.assert_close(meet(optimizer, w, gradients), expected)


@pytest.mark.parametrize("decay", DECAYS)
def test_adam_decays_where_the_loop_does(decay):
    model, w, gradients = layer()
    expected = oracle.adam(w.detach(), gradients, 0.1, decay, COEFFICIENT[decay])
    optimizer = make_optimizer(model, "Adam", 0.1, decay=decay, weight_decay=COEFFICIENT[decay])
    torch.testing.assert_close(meet(optimizer, w, gradients), expected)


def test_l2_and_decoupled_decay_are_the_same_for_sgd_without_momentum_only():
    """The definition's first consequence; with momentum, and for Adam, they differ."""
    for method, momentum, same in (("SGD", 0.0, True), ("SGD", 0.9, False), ("Adam", 0.9, False)):
        results = []
        for decay in ("l2", "decoupled"):
            model, w, gradients = layer()
            options = {"decay": decay, "weight_decay": 0.1, "momentum": momentum}
            results.append(meet(make_optimizer(model, method, 0.1, **options), w, gradients))
        assert torch.allclose(*results, rtol=1e-10, atol=1e-12) == same, (method, momentum)


@pytest.mark.parametrize("method", ["K-FAC-G", "K-FAC-F"])
def test_decoupled_decay_of_kfac_is_a_preconditioned_penalty_in_the_curvature_norm(method):
    """A step on loss + wd/2 |W|_C^2 with C held constant: C^-1 (grad + wd C W) = C^-1 grad + wd W."""
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.arange(20) % 3

    def step(decay, weight_decay, blocks=()):
        model = MLP([4, 5, 3], seed=1, dtype=torch.float64)
        options = {"decay": decay, "weight_decay": weight_decay, "damping": 0.1, "seed": 3}
        optimizer = make_optimizer(model, method, 0.1, **options)
        cross_entropy(model(x), y).backward()
        for name in blocks:  # the gradient of the penalty
            layer = model.get_submodule(name)
            extra = weight_decay_of_penalty * blocks[name].matvec(joint_weight(layer))
            layer.weight.grad += extra[:, :-1]
            layer.bias.grad += extra[:, -1]
        optimizer.step()
        return optimizer, [p.detach().clone() for p in model.parameters()]

    weight_decay_of_penalty = 0.5
    optimizer, decoupled = step("decoupled", 0.5)
    blocks = {name: curvature.factors.damped(0.1) for name, curvature in optimizer.curvature.items()}
    _, penalised = step("none", 0.0, blocks)
    for a, b in zip(decoupled, penalised, strict=True):
        torch.testing.assert_close(a, b)
    assert not torch.allclose(decoupled[0], step("l2", 0.5)[1][0])  # the plain norm is another penalty


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["all", "hidden", "last"])
def test_only_the_chosen_layers_decay(method, where):
    """From zero gradients: what shrinks is what was chosen, biases with it."""
    model = SmallCNN(width=2, image_size=8, dtype=torch.float64)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    before = copy.deepcopy(model.state_dict())
    options = {"damping": 1.0} if method.startswith("K-FAC") else {}
    optimizer = make_optimizer(model, method, 0.1, decay="decoupled", weight_decay=0.5, where=where, **options)
    model(torch.randn(4, 1, 8, 8, dtype=torch.float64))  # statistics for K-FAC
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    chosen = decayed_layers(model, where)
    for name, p in model.named_parameters():
        factor = 0.95 if name.rpartition(".")[0] in chosen else 1.0
        torch.testing.assert_close(p.detach(), factor * before[name])


def test_layers_are_split_into_the_last_and_the_others():
    model = SmallCNN(batch_norm=True)
    assert decayed_layers(model, "hidden") + decayed_layers(model, "last") == decayed_layers(model, "all")
    assert len(decayed_layers(model, "all")) == 4 and model.get_submodule(decayed_layers(model, "last")[0]).out_features


def test_decoupled_sgd_goes_on_from_its_state_bit_for_bit():
    """Breaks if the coefficient is lost from the groups, which a step sets to zero for a moment."""
    _, w, gradients = layer()
    whole = meet(DecoupledSGD([w], lr=0.1, weight_decay=0.2), w, gradients).clone()
    w = layer()[1]
    first = DecoupledSGD([w], lr=0.1, weight_decay=0.2)
    meet(first, w, gradients[:3])
    second = DecoupledSGD([w], lr=0.5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(meet(second, w, gradients[3:]), whole)
    assert second.param_groups[0]["weight_decay"] == 0.2


def test_decoupled_sgd_takes_a_closure():
    w = layer()[1]
    optimizer = DecoupledSGD([w], lr=0.1, momentum=0.0, weight_decay=0.5)
    before = w.detach().clone()

    def closure():
        optimizer.zero_grad()
        loss = 0.5 * w.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 0.5 * before.square().sum()
    torch.testing.assert_close(w.detach(), before * (1 - 0.1 * 0.5 - 0.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "LBFGS"}, "method must be one of SGD"),
        ({"decay": "weight"}, "decay must be one of none"),
        ({"decay": "l2"}, "weight_decay must be 0 exactly where decay is 'none': got 0.0 and 'l2'"),
        ({"weight_decay": 0.1}, "weight_decay must be 0 exactly where decay is 'none'"),
        ({"decay": "l2", "weight_decay": -1.0}, r"weight_decay must be a number in \[0, inf\)"),
        ({"lr": 0.0}, r"lr must be a number in \(0, inf\)"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\)"),
        ({"where": "conv"}, "where must be one of all, hidden, last: got 'conv'"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(MLP([2, 2]), **({"method": "SGD", "lr": 0.1} | arguments))


def test_options_reach_kfac():
    optimizer = make_optimizer(MLP([2, 2]), "K-FAC-G", 0.1, damping=0.7, kl_clip=1e-3)
    assert isinstance(optimizer, KFAC) and (optimizer.fisher, optimizer.kl_clip) == ("gauss_newton", 1e-3)
    assert optimizer.param_groups[0]["damping"] == 0.7 and optimizer.decay is None
    assert make_optimizer(MLP([2, 2]), "K-FAC-F", 0.1).fisher == "sampled"


class Many(nn.Module):
    """A layer of every kind that decays, and of some that do not."""

    def __init__(self):
        super().__init__()
        self.grouped, self.one, self.three = nn.Conv2d(4, 4, 3, groups=2), nn.Conv1d(2, 2, 1), nn.Conv3d(1, 1, 1)
        self.embedding, self.norm, self.linear = nn.Embedding(3, 3), nn.LayerNorm(2), nn.Linear(2, 2)


@pytest.mark.parametrize("decay", ["l2", "decoupled"])
@pytest.mark.parametrize("method", ["SGD", "Adam"])
def test_every_linear_and_convolutional_layer_decays_and_no_other(method, decay):
    """Breaks if only layers with a Kronecker block do: grouped convolutions then stay as they are."""
    model = Many()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, method, 0.1, decay=decay, weight_decay=0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"grouped", "one", "three", "linear"} == set(decayed_layers(model))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DecoupledSGD(MLP([2, 2]).parameters(), lr=math.nan), "lr must be a number"),
        (lambda: DecoupledSGD(MLP([2, 2]).parameters(), lr=math.inf), "lr must be a number"),
        (lambda: DecoupledSGD(MLP([2, 2]).parameters(), lr=0.1, momentum=2.0), "momentum must be a number in"),
        (
            lambda: DecoupledSGD(MLP([2, 2]).parameters(), lr=0.1, weight_decay=math.nan),
            "weight_decay must be a number",
        ),
        (
            lambda: DecoupledSGD([{"params": MLP([2, 2]).parameters(), "weight_decay": -1.0}], lr=0.1),
            "weight_decay must be a number",
        ),
        (lambda: make_optimizer(MLP([2, 2]), "SGD", math.inf), "lr must be a number"),
        (lambda: make_optimizer(MLP([2, 2]), "Adam", 0.1, decay="l2", weight_decay=math.inf), "weight_decay must be"),
        (lambda: make_optimizer(nn.LayerNorm(2), "SGD", 0.1, decay="l2", weight_decay=0.1), "no layer decays"),
        (
            lambda: make_optimizer(MLP([2, 2]), "SGD", 0.1, decay="l2", weight_decay=0.1, where="hidden"),
            "no layer decays: the model has no linear or convolutional layer of where='hidden'",
        ),
        (lambda: matched_lr("SGD", 0.1, -2.0), "c must be a number in"),
        (lambda: matched_lr("SGD", -0.1, 2.0), "lr must be a number in"),
        (lambda: effective_lr("SGD", 0.1, -3.0), r"norm must be a number in \(0, inf\): got -3.0"),
        (lambda: effective_lr("SGD", 0.1, 0.0), r"norm must be a number in \(0, inf\)"),
        (lambda: effective_lr("SGD", 0.1, torch.tensor([1.0, math.nan])), "norm must hold finite numbers"),
        (lambda: effective_damping(-1.0, 2.0), "damping must be a number in"),
        (lambda: effective_damping(1.0, -2.0), r"norm must be a number in \[0, inf\)"),
        (lambda: damped_direction(torch.eye(3), torch.ones(2), 0.1), r"gradient must have shape \(d\), where d = 3"),
        (lambda: damped_direction(torch.tensor([[1.0, 5.0], [0.0, 1.0]]), torch.ones(2), 9.0), "must be symmetric"),
        (lambda: damped_direction(torch.eye(2), torch.ones(2) * math.nan, 0.1), "gradient must hold finite"),
        (lambda: DecoupledSGD([], lr=0.1), "params must hold at least one parameter"),
        (lambda: DecoupledSGD(MLP([2, 2]).parameters(), lr=0.1).add_param_group({}), "param_group must have params"),
        (lambda: weight_norms(MLP([2, 2]), ["no"]), "layers must be among the model's layers, layers.1: got 'no'"),
        (lambda: set_norms_(MLP([2, 2]), {"layers.1": math.inf}), "norms must be a number in"),
        (lambda: equilibrium_norm(0.1, 0.1, math.inf), "gradient_norm must be a number in"),
    ],
)
def test_what_no_length_rate_or_decay_can_be_is_refused_by_name(call, message):
    """Breaks where an even power hides a sign."""
    with pytest.raises(ValueError, match=message):
        call()

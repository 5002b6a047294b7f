"""Do independent libraries find the same numbers? curvlinops, nngeometry and BackPACK, from requirements-peers.txt."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nnlib.curvature import dense_fisher, factors, joint_weight, layer_index, rescale
from tests.oracles.curvature import draw, randomised

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of torch, in what they import
    import curvlinops
    from backpack import backpack, extend
    from backpack.extensions import KFLR
    from nngeometry.metrics import FIM
    from nngeometry.object import PMatKFAC

DAMPING = 0.03


def mlp():
    layers = [nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)]
    return randomised(nn.Sequential(*layers))


def cnn():
    layers = [nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten()]
    return randomised(nn.Sequential(*layers, nn.Linear(8, 3)))


NETS = {"mlp": (mlp, draw(30, 4)), "cnn": (cnn, draw(12, 2, 5, 5))}


def peer(net, kind, loss):
    """The network, its inputs, and curvlinops' operator; type-2 Fisher: all outputs enumerated."""
    model, x = NETS[net][0](), NETS[net][1]
    y = torch.arange(len(x)) % 3 if isinstance(loss, nn.CrossEntropyLoss) else draw(len(x), 3)
    options = dict(fisher_type="type-2", separate_weight_and_bias=False, check_deterministic=False)
    return model, x, kind(model, loss, list(model.parameters()), [(x, y)], **options)


def dense(operator, model):
    """The operator's matrix, in the order of the model's parameters."""
    return operator @ torch.eye(sum(p.numel() for p in model.parameters()), dtype=torch.float64)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("likelihood", ["categorical", "gaussian"])
@pytest.mark.parametrize("kind", ["KFACLinearOperator", "EKFACLinearOperator"])
def test_curvlinops_has_the_same_matrices(net, likelihood, kind):
    """Block by block, with biases. torch's MSELoss is a mean over C outputs too: its curvature is 2/C of ours."""
    loss = nn.CrossEntropyLoss() if likelihood == "categorical" else nn.MSELoss()
    model, x, operator = peer(net, getattr(curvlinops, kind), loss)
    ours = factors(model, x, likelihood=likelihood)
    if kind.startswith("E"):
        ours = rescale(model, x, {name: block.eigen() for name, block in ours.items()}, likelihood=likelihood)
    theirs, scale = dense(operator, model), 1 if likelihood == "categorical" else 2 / 3
    for name, block in ours.items():
        index = layer_index(model, name)
        torch.testing.assert_close(scale * block.dense(), theirs[index[:, None], index], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("how", ["pi-damping", "exact damping", "EKFAC"])
def test_curvlinops_has_the_same_inverses(net, how):
    """Applied to the weights themselves. Breaks if pi is inverted or the damping is not under a root."""
    kind = curvlinops.EKFACLinearOperator if how == "EKFAC" else curvlinops.KFACLinearOperator
    model, x, operator = peer(net, kind, nn.CrossEntropyLoss())
    damped = "use_heuristic_damping" if how == "pi-damping" else "use_exact_damping"
    inverse = curvlinops.KFACInverseLinearOperator(operator, damping=DAMPING, min_damping=0.0, **{damped: True})
    theirs = inverse @ torch.cat([p.detach().flatten() for p in model.parameters()])
    ours, layers = factors(model, x), dict(model.named_modules())
    bases = {name: block.eigen() for name, block in ours.items()}
    if how == "EKFAC":
        bases = rescale(model, x, bases)
    for name, block in ours.items():
        W = joint_weight(layers[name])
        solved = block.damped(DAMPING).cholesky().solve(W) if how == "pi-damping" else bases[name].solve(W, DAMPING)
        torch.testing.assert_close(solved.flatten(), theirs[layer_index(model, name)], rtol=1e-7, atol=1e-9)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # in what it uses
@pytest.mark.parametrize("net", NETS)
def test_curvlinops_has_the_same_fisher_matrix(net):
    model, x, _ = peer(net, curvlinops.KFACLinearOperator, nn.CrossEntropyLoss())
    y = torch.arange(len(x)) % 3
    GGN = curvlinops.GGNLinearOperator(model, nn.CrossEntropyLoss(), list(model.parameters()), [(x, y)])
    torch.testing.assert_close(dense_fisher(model, x), dense(GGN, model), rtol=1e-9, atol=1e-12)


def test_nngeometry_has_the_same_products():
    """It splits the number of examples and outputs between A and S in its own way, so products are compared."""
    model, x = NETS["mlp"][0](), NETS["mlp"][1].clone()
    loader = DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=len(x))
    torch.set_default_dtype(torch.float64)  # it makes tensors of the default dtype
    try:
        found = FIM(model, loader, PMatKFAC).data
    finally:
        torch.set_default_dtype(torch.float32)
    for (A, S), block in zip(found.values(), factors(model, x).values(), strict=True):
        torch.testing.assert_close(torch.kron(S, A), block.dense(), rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # its hook, on inputs without gradients
def test_backpack_has_the_same_factors():
    """Its KFLR enumerates classes; weights and biases are apart, so A is ours without the last row and column."""
    model, x = NETS["mlp"][0](), NETS["mlp"][1]
    theirs = extend(copy.deepcopy(model))
    loss = extend(nn.CrossEntropyLoss())(theirs(x), torch.arange(len(x)) % 3)
    with backpack(KFLR()):
        loss.backward()
    layers = dict(theirs.named_modules())
    for name, block in factors(model, x).items():
        S, A = layers[name].weight.kflr
        torch.testing.assert_close(block.S, S)
        torch.testing.assert_close(block.A[: len(A), : len(A)], A)

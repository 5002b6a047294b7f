"""Is the block-tridiagonal inverse the inverse of the right matrix, and of which?"""

from itertools import pairwise

import pytest
import torch
from torch import nn

from nnlib.curvature import Chain, Kronecker, NotPositiveDefinite, chain, dense_fisher, factors, layer_index
from nnlib.curvature.chain import Between
from nnlib.models import MLP
from tests.oracles import chain as oracle
from tests.oracles.curvature import draw, randomised

close = torch.testing.assert_close


def mlp(*sizes):
    return randomised(MLP(list(sizes)))


def matrix(found):
    """A chain's matrix, all blocks filled in."""
    return oracle.filled([b.dense() for b in found.blocks], [torch.kron(b.S, b.A) for b in found.between])


def dense(inverse, shapes):
    """What the inverse does to each unit vector, as a matrix."""
    sizes = [rows * columns for rows, columns in shapes]
    columns = []
    for unit in torch.eye(sum(sizes), dtype=torch.float64):
        parts = [part.view(shape) for part, shape in zip(unit.split(sizes), shapes, strict=True)]
        solved = inverse.solve(dict(zip(inverse.names, parts, strict=True)))
        columns.append(torch.cat([solved[name].flatten() for name in inverse.names]))
    return torch.stack(columns, 1)


def markov(sizes, seed):
    """Covariance of blocks of these sizes, each a linear function of the next plus noise: its blocks, all of them."""
    joint, at = None, []
    for number, size in enumerate(reversed(sizes)):
        noise = draw(size, size + 3, seed=seed + number)
        own = noise @ noise.T
        if joint is None:
            joint = own
        else:
            gain = torch.zeros(size, len(joint), dtype=torch.float64)
            gain[:, : sizes[-number]] = draw(size, sizes[-number], seed=seed + 50 + number)
            cross = gain @ joint
            joint = torch.cat([torch.cat([own + cross @ gain.T, cross], 1), torch.cat([cross.T, joint], 1)])
    for a, b in pairwise([0, *torch.tensor(sizes).cumsum(0).tolist()]):
        at.append(slice(a, b))
    return [[joint[i, j] for j in at] for i in at]


def synthetic(seed=0, inputs=(4, 3, 5), outputs=(3, 4, 2)):
    """A chain whose moments of inputs and of gradients are both those of Markov chains; and all its true blocks."""
    A, S = markov(inputs, seed), markov(outputs, seed + 200)
    blocks = tuple(Kronecker(A[i][i], S[i][i]) for i in range(len(inputs)))
    between = tuple(Between(A[i][i + 1], S[i][i + 1]) for i in range(len(inputs) - 1))
    n = range(len(inputs))
    whole = torch.cat([torch.cat([torch.kron(S[i][j], A[i][j]) for j in n], 1) for i in n])
    return Chain(tuple("abc"[: len(inputs)]), blocks, between), whole


@pytest.mark.parametrize("fisher, likelihood", [("exact", "categorical"), ("gauss_newton_exact", "gaussian")])
def test_moments_equal_the_loop_oracle(fisher, likelihood):
    """Breaks if a layer is paired with another than the next, classes lose their weight, or the bias is missing."""
    model, x = mlp(4, 5, 4, 3), draw(6, 4)
    found, layers = chain(model, x, fisher=fisher, likelihood=likelihood), factors(model, x, likelihood=likelihood)
    assert found.names == tuple(layers)
    for name, block in zip(found.names, found.blocks, strict=True):
        if fisher == "exact":
            close(block.A, layers[name].A)
            close(block.S, layers[name].S)
    for (first, second), got in zip(pairwise(found.names), found.between, strict=True):
        A, S = oracle.between(model, first, second, x, fisher, likelihood)
        close(got.A, A)
        close(got.S, S)


@pytest.mark.parametrize("sizes", [(4, 3), (4, 5, 3), (3, 4, 5, 2)])
def test_inverse_is_that_of_the_chains_matrix(sizes):
    """Against the matrix filled in and inverted. Breaks if a gain is transposed, or a layer's rest is its block."""
    found = chain(mlp(*sizes), draw(40, sizes[0])).damped(0.1)
    ours = dense(found.inverse(), [block.shape for block in found.blocks])
    close(ours, torch.linalg.inv(matrix(found)), rtol=1e-7, atol=1e-8)


def test_inverse_is_block_tridiagonal_and_the_matrix_keeps_its_own_blocks():
    """Which says all of it: there is one such matrix. Breaks if a wrong sign is right for the neighbours alone."""
    found = chain(mlp(3, 4, 5, 2), draw(40, 3)).damped(0.1)
    ours = dense(found.inverse(), [block.shape for block in found.blocks])
    sizes = [len(block.dense()) for block in found.blocks]
    tiles = [part.split(sizes, 1) for part in ours.split(sizes)]
    assert tiles[0][2].abs().max() < 1e-12 * ours.abs().max() and tiles[0][1].abs().max() > 1e-3 * ours.abs().max()
    back = [part.split(sizes, 1) for part in torch.linalg.inv(ours).split(sizes)]
    for i, block in enumerate(found.blocks):
        close(back[i][i], block.dense(), rtol=1e-7, atol=1e-8)
    for i, beside in enumerate(found.between):
        close(back[i][i + 1], torch.kron(beside.S, beside.A), rtol=1e-7, atol=1e-8)


def test_inverse_is_exact_where_the_true_inverse_is_block_tridiagonal():
    """Where inputs and gradients are Markov chains, so is their product, with every block between layers."""
    found, whole = synthetic()
    true = torch.linalg.inv(whole)
    assert true[:12, 24:].abs().max() < 1e-9 * true.abs().max()
    close(dense(found.inverse(), [block.shape for block in found.blocks]), true, rtol=1e-6, atol=1e-9)
    alone = torch.block_diag(*(torch.linalg.inv(block.dense()) for block in found.blocks))
    assert (alone - true).norm() > 0.1 * true.norm()


def test_chain_of_a_deep_linear_network_is_its_whole_fisher_matrix():
    """Blocks between layers that are no neighbours included: backwards each gradient follows from the next."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5, bias=False), nn.Linear(5, 4, bias=False), nn.Linear(4, 4, bias=False)]
    model, x = randomised(nn.Sequential(*layers)), draw(30, 6)
    found = chain(model, x, likelihood="gaussian")
    index = torch.cat([layer_index(model, name) for name in found.names])
    close(matrix(found), dense_fisher(model, x, "gaussian")[index][:, index], rtol=1e-6, atol=1e-8)


def test_without_blocks_between_layers_it_is_kfac():
    found = chain(mlp(4, 5, 3), draw(20, 4)).damped(0.2)
    empty = tuple(Between(0 * b.A, 0 * b.S) for b in found.between)
    V = {
        name: draw(*block.shape, seed=i) for i, (name, block) in enumerate(zip(found.names, found.blocks, strict=True))
    }
    solved = Chain(found.names, found.blocks, empty).inverse().solve(V)
    for name, block in zip(found.names, found.blocks, strict=True):
        close(solved[name], block.cholesky().solve(V[name]))


def test_one_layer_alone_and_layers_in_an_order_of_ones_own():
    model, x = mlp(4, 5, 3), draw(20, 4)
    (block,) = chain(model, x, layers=["layers.3"]).blocks
    close(block.S, factors(model, x)["layers.3"].S)
    backwards = chain(model, x, layers=["layers.3", "layers.1"])
    close(backwards.between[0].A, chain(model, x).between[0].A.T)


def test_sampled_moments_have_the_exact_ones_as_their_mean_and_a_seed():
    model, x = mlp(3, 4, 3), draw(5, 3)
    mean = torch.stack([chain(model, x, fisher="sampled", seed=s).between[0].S for s in range(400)]).mean(0)
    exact = chain(model, x).between[0].S
    assert (mean - exact).norm() < 0.2 * exact.norm()
    same = [chain(model, x, fisher="sampled", seed=7).between[0].S for _ in range(2)]
    assert torch.equal(*same)


def test_model_is_left_as_it_is():
    model, x = mlp(4, 5, 3), draw(6, 4)
    before = [p.clone() for p in model.parameters()]
    chain(model, x)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model


def frozen():
    model = MLP([3, 3, 2])
    model.layers[1].requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "model, x, options, told",
    [
        (tied(), torch.ones(2, 3), {}, "layer '0' must be a linear layer of its own in a chain: it shares"),
        (nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(2, 2)), torch.ones(2, 1, 2, 2), {}, "a Conv2d"),
        (frozen(), torch.ones(2, 3), {}, "layer 'layers.1' must be called, trained"),
        (MLP([3, 3, 2]), torch.ones(2, 3), {"fisher": "empirical"}, "true targets y"),
        (MLP([3, 3, 2]), torch.ones(2, 3), {"likelihood": "poisson"}, "likelihood must be one of"),
        (MLP([3, 3, 2]), torch.ones(0, 3), {}, "no axis empty"),
        (MLP([3, 3, 2]), torch.full((2, 3), float("nan")), {}, "finite"),
        (MLP([3, 3, 2]), torch.ones(2, 3), {"layers": ["layers.9"]}, "no layer 'layers.9'"),
        (nn.Sequential(nn.Linear(3, 2), nn.Dropout()), torch.ones(2, 3), {}, "evaluation mode"),
        (nn.Sequential(nn.Linear(3, 2), nn.Flatten()), torch.ones(2, 4, 3), {}, "one row for each example: got 4"),
    ],
)
def test_refused(model, x, options, told):
    with pytest.raises(ValueError, match=told):
        chain(model, x, **options)


def test_a_singular_chain_and_foreign_vectors_are_refused():
    eye = torch.eye(2, dtype=torch.float64)
    for A, told in ((eye, "leaves nothing open in a layer of .2, 2. weights"), (0 * eye, "factor A, 2 x 2")):
        with pytest.raises(NotPositiveDefinite, match=f"{told}.*raise the damping"):
            Chain(("a", "b"), (Kronecker(A, eye),) * 2, (Between(A, eye),)).inverse()
    found = chain(mlp(4, 5, 3), draw(20, 4))
    with pytest.raises(ValueError, match=r"damping must be a number in \[0, inf\): got -1"):
        found.damped(-1)
    inverse = found.damped(0.1).inverse()
    with pytest.raises(ValueError, match=r"V must have the layers layers\.1, layers\.3: got layers\.1"):
        inverse.solve({"layers.1": torch.zeros(5, 5)})
    with pytest.raises(ValueError, match=r"V\['layers.3'\] must have shape \(3, 6\)"):
        inverse.solve({"layers.1": draw(5, 5), "layers.3": draw(3, 5)})

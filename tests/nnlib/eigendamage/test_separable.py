"""Bottlenecks with depthwise cores: the decomposition and the network around it."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from nnlib.eigendamage import Bottleneck, bottleneck, cost, cp, separate
from tests.oracles.curvature import draw, randomised


def assembled(U, V, D):
    return torch.einsum("or,ir,tr->oit", U, V, D)


@pytest.mark.parametrize("shape", [(6, 5, 9), (4, 7, 3)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_tensor_of_low_rank_is_found_again(shape, rank):
    W = assembled(*(draw(n, rank, seed=n) for n in shape))
    found = assembled(*cp(W, rank, sweeps=500))
    torch.testing.assert_close(found, W, rtol=0, atol=1e-4 * W.abs().max().item())


def test_more_sweeps_and_more_rank_never_fit_worse():
    W = draw(6, 5, 9)
    by_sweeps = [(assembled(*cp(W, 3, sweeps=n)) - W).norm() for n in (1, 2, 5, 20)]
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(by_sweeps))
    by_rank = [(assembled(*cp(W, r, sweeps=50)) - W).norm() for r in (1, 3, 6, 12)]
    assert all(more < less for less, more in pairwise(by_rank))


def test_each_factor_is_the_least_squares_solution_given_the_others():
    W = draw(6, 5, 9)
    U, V, D = cp(W, 3, sweeps=400)
    for factor in (U, V, D):
        factor.requires_grad_()
    (assembled(U, V, D) - W).square().sum().backward()
    assert D.grad.abs().max() < 1e-9 and max(U.grad.abs().max(), V.grad.abs().max()) < 1e-2


def test_one_factor_for_each_offset_of_rank_one_is_the_svd():
    # With a single offset CP is matrix factorisation, whose best error is known.
    W = draw(6, 5)
    values = torch.linalg.svdvals(W)
    error = (assembled(*cp(W[:, :, None], 2, sweeps=400))[:, :, 0] - W).norm()
    torch.testing.assert_close(error, values[2:].norm(), rtol=1e-5, atol=0)


def pruned(k=3, stride=2):
    layer = randomised(nn.Conv2d(5, 6, k, stride=stride, padding=k // 2), seed=3)
    eye = torch.eye(6, dtype=torch.float64)
    return bottleneck(layer, eye[:5, :5], eye, torch.arange(6) < 4, torch.arange(5) < 3)


def test_the_separable_bottleneck_applies_the_decomposed_kernel():
    model, x = nn.Sequential(pruned()), draw(2, 5, 7, 7)
    made = separate(model, rank=2, sweeps=30)
    expected = copy.deepcopy(model)
    with torch.no_grad():
        core = expected[0].core.weight
        core.copy_(assembled(*cp(core.flatten(2), 2, sweeps=30)).view_as(core))
    torch.testing.assert_close(made(x), expected(x))
    assert made[0].core.groups == 2 and made[0].core.weight.shape == (2, 1, 3, 3)


def test_a_core_of_rank_r_is_separated_without_error_and_with_fewer_weights():
    model, x = nn.Sequential(pruned()), draw(2, 5, 7, 7)
    with torch.no_grad():
        core = model[0].core.weight
        core.copy_(assembled(draw(4, 2), draw(3, 2), draw(9, 2)).view_as(core))
    made = separate(model, rank=2, sweeps=500)
    torch.testing.assert_close(made(x), model(x), rtol=0, atol=1e-3 * model(x).abs().max().item())
    assert cost(made, x).parameters < cost(model, x).parameters


def test_the_default_rank_is_the_smaller_side_of_the_core():
    assert separate(nn.Sequential(pruned()), sweeps=1)[0].core.groups == 3


def test_only_k_by_k_convolutions_are_separated():
    linear = bottleneck(nn.Linear(5, 6), torch.eye(5), torch.eye(6), torch.arange(6) < 4, torch.arange(5) < 3)
    model = nn.Sequential(pruned(), linear).double()
    made = separate(model, sweeps=1)
    assert isinstance(made[1], Bottleneck) and torch.equal(made[1].core.weight, linear.core.weight)
    with pytest.raises(ValueError, match="no bottleneck with a k x k convolution"):
        separate(made)
    with pytest.raises(ValueError, match="no bottleneck"):
        separate(nn.Sequential(pruned(k=1, stride=1)))
    with pytest.raises(ValueError, match=r"W must have shape \(o, i, t\)"):
        cp(torch.ones(2, 2), 1)

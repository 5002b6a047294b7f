"""Mechanism 2: the gradient of the Gauss-Newton norm, and the four-layer example. Lemmas: tests/nnlib/curvature."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.autograd.functional import jvp
from torch.func import functional_call

from nnlib.curvature import dense_gauss_newton, kfac_norm
from nnlib.models import MLP


def net(sizes):
    return MLP(sizes, bias=False, seed=2, dtype=torch.float64)


@pytest.mark.parametrize("sizes", [[5, 3], [5, 7, 3], [5, 7, 6, 7, 3]])
def test_differentiating_through_the_curvature_multiplies_the_gradient_by_the_number_of_weight_matrices(sizes):
    """d/d theta of theta' G(theta) theta is D times 2 G theta, so a constant G only rescales the coefficient."""
    model, D = net(sizes), len(sizes) - 1
    x = torch.randn(6, sizes[0], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names, theta = zip(*model.named_parameters(), strict=True)

    def outputs(*values):
        return functional_call(model, dict(zip(names, values, strict=True)), (x,))

    norm = jvp(outputs, theta, theta, create_graph=True)[1].square().sum() / len(x)  # theta' G theta
    through = torch.cat([g.flatten() for g in torch.autograd.grad(norm, theta)])
    constant = 2 * dense_gauss_newton(model, x) @ torch.cat([p.detach().flatten() for p in theta])
    torch.testing.assert_close(through, D * constant)


def test_kfac_norm_of_a_relu_net_is_near_the_number_of_weight_matrices_times_the_output_and_not_equal():
    """Kronecker factors of a ReLU net are an approximation: a few per cent to some tens off, in four layers."""
    sizes = [10, 32, 32, 32, 5]
    x = torch.randn(500, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ratios = []
    for seed in range(5):
        model = MLP(sizes, bias=False, seed=seed, dtype=torch.float64)
        ratios.append(float(kfac_norm(model, x) / (model(x).detach().square().sum() / len(x))))
    assert all(2.5 < ratio < 4.5 and abs(ratio - 4) > 0.01 for ratio in ratios), ratios


def test_biases_break_the_identity():
    """With biases the network is not homogeneous in its parameters."""
    model = MLP([5, 7, 3], seed=0, dtype=torch.float64)
    with torch.no_grad():
        for a, b in pairwise(list(model.parameters())):
            if a.ndim == 2 and b.ndim == 1:
                b.fill_(0.5)
    assert isinstance(model.layers[1], nn.Linear)
    x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    ratio = theta @ dense_gauss_newton(model, x) @ theta / (model(x).detach().square().sum() / len(x))
    assert abs(ratio - 4) > 0.1

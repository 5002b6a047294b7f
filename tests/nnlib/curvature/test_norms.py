"""Do the norms equal the quadratic forms that they stand for, and the identities of the weight-decay paper hold?"""

from itertools import pairwise

import pytest
import torch
from torch import nn

from nnlib.curvature import (
    dense_gauss_newton,
    factors,
    gauss_newton_norm,
    jacobian,
    jacobian_norm,
    joint_weight,
    kfac_norm,
    layer_index,
)
from tests.oracles.curvature import draw, randomised


def net(sizes, activation=nn.ReLU, bias=False):
    """len(sizes) - 1 weight matrices with an activation between them; nn.Identity for a deep linear net."""
    layers = [part for i, o in pairwise(sizes) for part in (nn.Linear(i, o, bias=bias), activation())]
    return randomised(nn.Sequential(*layers[:-1]))


def cnn(bias=True):
    layers = [nn.Conv2d(2, 3, 3, padding=1, bias=bias), nn.ReLU(), nn.Conv2d(3, 2, 2, stride=2, bias=bias), nn.ReLU()]
    return randomised(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 3, bias=bias)))


CASES = {"mlp": (net([4, 5, 3], nn.Tanh, bias=True), draw(6, 4)), "cnn": (cnn(), draw(3, 2, 4, 4))}
SIZES = ([4, 3], [4, 6, 3], [4, 6, 5, 6, 3])


def whitened(n, dim):
    """Inputs with mean 0 and covariance I, exactly."""
    x = draw(n, dim, seed=3)
    x = x - x.mean(0)
    return torch.linalg.svd(x, full_matrices=False).U * n**0.5


@pytest.mark.parametrize("case", CASES)
def test_norms_equal_dense_quadratic_forms(case):
    """theta' G theta with the dense matrix, and its Kronecker version layer by layer."""
    model, x = CASES[case]
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(gauss_newton_norm(model, x), theta @ dense_gauss_newton(model, x) @ theta)
    layers, total = dict(model.named_modules()), 0.0
    for name, block in factors(model, x, fisher="gauss_newton_exact").items():
        w = theta[layer_index(model, name)]
        assert torch.equal(w, joint_weight(layers[name]).flatten())
        total = total + w @ block.dense() @ w
    torch.testing.assert_close(kfac_norm(model, x), total)


@pytest.mark.parametrize("case", CASES)
def test_jacobian_norm_equals_gradients_one_output_at_a_time(case):
    """Breaks if examples are summed, or a gradient of one example reaches another."""
    model, x = CASES[case]
    total = 0.0
    for example in x:
        example = example.clone().requires_grad_()
        for output in model(example[None])[0]:
            total = total + torch.autograd.grad(output, example, retain_graph=True)[0].square().sum()
    torch.testing.assert_close(jacobian_norm(model, x), total / len(x))


@pytest.mark.parametrize("sizes", SIZES)
def test_jacobian_times_parameters_is_the_number_of_weight_matrices_times_the_output(sizes):
    """Lemmas 1 and 2, for ReLU nets without biases: J_theta theta = L f, so theta' G theta = L^2 E|f|^2.

    L counts weight matrices, not hidden layers. Each layer alone gives f: blocks without the terms between them, L.
    """
    model, x, L = net(sizes), draw(7, sizes[0]), len(sizes) - 1
    f, J = model(x).detach(), jacobian(model, x)
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(J @ theta, L * f)
    square = f.square().sum() / len(x)
    torch.testing.assert_close(gauss_newton_norm(model, x), L**2 * square)
    blocks = sum(
        ((J[:, :, index] @ theta[index]).square().sum() / len(x))
        for index in (layer_index(model, str(i)) for i in range(0, 2 * L, 2))
    )
    torch.testing.assert_close(blocks, L * square)


def test_convolutions_and_pooling_keep_the_identity_and_biases_break_it():
    x = draw(3, 2, 4, 4)
    model = cnn(bias=False)
    torch.testing.assert_close(gauss_newton_norm(model, x), 9 * model(x).detach().square().sum() / 3)
    model = cnn(bias=True)
    ratio = gauss_newton_norm(model, x) / (9 * model(x).detach().square().sum() / 3)
    assert abs(ratio - 1) > 0.01


@pytest.mark.parametrize("sizes", SIZES)
def test_kfac_norm_of_deep_linear_nets_is_the_number_of_weight_matrices_times_the_output(sizes):
    """There the Kronecker factors are exact; with ReLU they are not, unless there is one layer."""
    x, L = draw(7, sizes[0]), len(sizes) - 1
    linear, relu = net(sizes, nn.Identity), net(sizes)
    torch.testing.assert_close(kfac_norm(linear, x), L * linear(x).detach().square().sum() / len(x))
    ratio = kfac_norm(relu, x) / (L * relu(x).detach().square().sum() / len(x))
    assert (abs(ratio - 1) < 1e-9) == (L == 1)


@pytest.mark.parametrize("sizes", SIZES)
def test_norms_of_deep_linear_nets_on_whitened_inputs_are_the_jacobian_norm(sizes):
    """Theorem 1: L^2 |J_x|_F^2 and L |J_x|_F^2. Needs E x x' = I."""
    model, x, L = net(sizes, nn.Identity), whitened(20, sizes[0]), len(sizes) - 1
    torch.testing.assert_close(gauss_newton_norm(model, x), L**2 * jacobian_norm(model, x))
    torch.testing.assert_close(kfac_norm(model, x), L * jacobian_norm(model, x))

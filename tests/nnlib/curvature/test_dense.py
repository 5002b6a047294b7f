"""Are the exact matrices of small nets what their definitions say?"""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nnlib.curvature import (
    dense_fisher,
    dense_gauss_newton,
    dense_hessian,
    jacobian,
    joint_weight,
    layer_index,
)
from tests.oracles import curvature as oracle
from tests.oracles.curvature import draw, randomised


def half_square(f, y):
    return 0.5 * (f - y).square().sum() / len(f)


def mlp():
    return randomised(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3, bias=False)))


def cnn():
    return randomised(nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)))


NETS = {"mlp": (mlp, draw(5, 3)), "cnn": (cnn, draw(4, 1, 4, 4))}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize(
    ("fisher", "likelihood"),
    [("exact", "categorical"), ("exact", "gaussian"), ("empirical", "categorical"), ("empirical", "gaussian")],
)
def test_fisher_equals_the_loop_over_examples_and_classes(net, fisher, likelihood):
    """Breaks if classes lose their weight, or the matrix is summed over examples."""
    model, x = NETS[net][0](), NETS[net][1]
    y = None
    if fisher == "empirical":
        y = torch.arange(len(x)) % 3 if likelihood == "categorical" else draw(len(x), 3, seed=4)
    expected = oracle.fisher(model, x, fisher, likelihood, y)
    torch.testing.assert_close(dense_fisher(model, x, likelihood, y), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("net", NETS)
def test_gauss_newton_equals_the_loop_over_outputs(net):
    model, x = NETS[net][0](), NETS[net][1]
    expected = oracle.fisher(model, x, "gauss_newton_exact")
    torch.testing.assert_close(dense_gauss_newton(model, x), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("net", NETS)
def test_fisher_is_the_gauss_newton_matrix_of_the_loss(net):
    """F = mean J' H_out J with H_out = diag(p) - p p' for classes and I for a Gaussian."""
    model, x = NETS[net][0](), NETS[net][1]
    J, p = jacobian(model, x), model(x).softmax(1).detach()
    H = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]  # (B, C, C)
    GGN = torch.einsum("bcp,bcd,bdq->pq", J, H, J) / len(x)
    torch.testing.assert_close(dense_fisher(model, x), GGN)
    torch.testing.assert_close(dense_fisher(model, x, "gaussian"), dense_gauss_newton(model, x))


def test_fisher_is_the_hessian_where_the_outputs_are_linear_in_the_parameters():
    """Then the Gauss-Newton matrix is all of the Hessian; with a hidden layer it is not."""
    x, y = draw(5, 3), torch.tensor([0, 1, 2, 0, 1])
    one = randomised(nn.Sequential(nn.Linear(3, 3)))
    torch.testing.assert_close(dense_hessian(one, x, y, cross_entropy), dense_fisher(one, x))
    torch.testing.assert_close(dense_hessian(one, x, draw(5, 3), half_square), dense_gauss_newton(one, x))
    assert (dense_hessian(mlp(), x, y, cross_entropy) - dense_fisher(mlp(), x)).norm() > 0.01


def test_hessian_of_the_expected_loss_is_the_fisher_where_the_model_is_right():
    """-E log p has Hessian F at the parameters that y is drawn from, averaged over all y (Fisher's identity)."""
    model, x = mlp(), draw(2, 3)
    p = model(x).softmax(1).detach()
    total = 0.0
    for a in range(3):
        for b in range(3):
            y = torch.tensor([a, b])
            total = total + p[0, a] * p[1, b] * dense_hessian(model, x, y, cross_entropy)
    torch.testing.assert_close(total, dense_fisher(model, x))


@pytest.mark.parametrize("net", NETS)
def test_hessian_equals_that_of_autograd(net):
    model, x = NETS[net][0](), NETS[net][1]
    y, start = torch.arange(len(x)) % 3, parameters_to_vector(model.parameters()).detach()

    def gradient(vector):
        vector_to_parameters(vector, model.parameters())
        loss = cross_entropy(model(x), y)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    H, step = dense_hessian(model, x, y, cross_entropy), 1e-5
    torch.testing.assert_close(H, H.T)
    for i in range(0, len(start), 5):  # columns by central differences
        e = torch.zeros_like(start).index_fill_(0, torch.tensor([i]), step)
        column = (gradient(start + e) - gradient(start - e)) / (2 * step)
        torch.testing.assert_close(H[:, i], column, rtol=1e-6, atol=1e-8)


def test_jacobian_equals_gradients_one_output_at_a_time():
    model, x = cnn(), draw(3, 1, 4, 4)
    J = jacobian(model, x)
    for b in range(3):
        for c in range(3):
            g = torch.autograd.grad(model(x[b : b + 1])[0, c], list(model.parameters()))
            torch.testing.assert_close(J[b, c], torch.cat([part.flatten() for part in g]))


@pytest.mark.parametrize("net", NETS)
def test_layer_index_finds_the_joint_weight_in_the_vector_of_parameters(net):
    """Breaks if the bias's places stand at the end instead of in each row's last column."""
    model = NETS[net][0]()
    theta = parameters_to_vector(model.parameters()).detach()
    seen = []
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            index = layer_index(model, name)
            assert torch.equal(theta[index].view(layer.weight.shape[0], -1), joint_weight(layer))
            assert torch.equal(joint_weight(layer), oracle.joint(layer))
            seen += index.tolist()
    assert sorted(seen) == list(range(len(theta)))


def test_joint_weight_is_a_copy():
    layer = nn.Linear(2, 2)
    joint_weight(layer).zero_()
    assert layer.weight.abs().min() > 0
    assert not joint_weight(nn.Linear(2, 2, bias=False)).requires_grad


def test_trace_of_the_fisher_is_the_mean_squared_gradient():
    model, x = mlp(), draw(6, 3)
    J, p = jacobian(model, x), model(x).softmax(1).detach()
    scores = J - torch.einsum("bc,bcp->bp", p, J)[:, None]  # gradient of log p(c | x): (B, C, P)
    torch.testing.assert_close(dense_fisher(model, x).trace(), (p[:, :, None] * scores.square()).sum() / len(x))

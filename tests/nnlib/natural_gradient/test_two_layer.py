"""Claims about ``nnlib.natural_gradient.two_layer``: the network, its Jacobian in closed form, and its limit."""

import math

import pytest
import torch

from nnlib.natural_gradient import TwoLayer, gram, infinite_gram
from tenpapers.natural_gradient.workloads import sphere
from tests.oracles import natural_gradient as oracle

assert_close = torch.testing.assert_close
X = sphere(n=7, d=4).x


def double(width=16, **options):
    return TwoLayer(4, width, dtype=torch.float64, **options)


def test_jacobian_in_closed_form_is_autograds():
    """Row i of J is S_ir x_i. Breaks if a sign or the factor 1/sqrt(m) is lost."""
    net = double()
    J = (net.features(X)[:, :, None] * X[:, None]).flatten(1)  # (n, m d)
    assert_close(J, oracle.dense_jacobian(net, X))
    assert_close(net.gram(X), J @ J.T)
    assert_close(net.gram(X), gram(net, X))


def test_network_is_homogeneous_of_degree_one_in_its_weights():
    """u = J vec(W), Euler's identity for ReLU."""
    net = double()
    assert_close(oracle.dense_jacobian(net, X) @ net.weight.detach().flatten(), net(X)[:, 0].detach())


def test_limit_is_the_mean_over_random_weights():
    """Breaks if the arc-cosine formula has another angle or factor. Five standard errors of 10^5 samples."""
    mean, error = oracle.sampled_gram(X.numpy(), 100_000)
    assert ((infinite_gram(X) - torch.from_numpy(mean)).abs() <= 5 * torch.from_numpy(error) + 1e-12).all()


def test_limit_in_closed_form_at_three_angles():
    """1/2 at angle 0, 0 at a right angle, and for opposite inputs -1 times a share of 0."""
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.5, math.sqrt(0.75)]], dtype=torch.float64)
    expected = torch.tensor([0.5, 0.0, 0.0, 0.5 * (math.pi - math.pi / 3) / (2 * math.pi)], dtype=torch.float64)
    assert_close(infinite_gram(x)[0], expected, atol=1e-15, rtol=0)


def test_gram_matrix_deviates_from_its_limit_by_one_over_the_root_of_the_width():
    """Breaks if G is not normalised by the width: four times the width halves the deviation on average."""
    limit, means = infinite_gram(X), []
    for width in (400, 1600, 6400):
        means.append(sum(float((double(width, seed=s).gram(X) - limit).norm()) for s in range(12)) / 12)
    assert 1.6 < means[0] / means[1] < 2.4 and 1.6 < means[1] / means[2] < 2.4


def test_smallest_eigenvalue_of_the_limit_is_zero_only_for_parallel_inputs():
    """Condition 1 in the limit. Breaks if the diagonal is not that of the angle 0."""
    assert torch.linalg.eigvalsh(infinite_gram(X))[0] > 0.01
    doubled = torch.cat([X, 2 * X[:1]])
    assert abs(torch.linalg.eigvalsh(infinite_gram(doubled))[0]) < 1e-14


def test_nearly_parallel_inputs_keep_all_their_digits():
    """G_11 - G_12 = sin(gap/2)^2 + cos(gap) gap / (2 pi). Breaks if arccos is taken: it loses half the digits."""
    gap = torch.tensor(1e-6, dtype=torch.float64)
    x = torch.stack([torch.stack([torch.ones_like(gap), 0 * gap]), torch.stack([gap.cos(), gap.sin()])])
    G = infinite_gram(x)
    angle = (math.pi - 2 * math.pi * G[0, 1] / (x[0] @ x[1])) / gap
    assert_close(angle, torch.ones_like(angle), rtol=1e-8, atol=0)


def test_limit_between_two_sets_is_a_block_of_the_limit_of_both():
    assert_close(infinite_gram(X[:3], X[3:]), infinite_gram(X)[:3, 3:])


def test_same_seed_gives_the_same_network_in_any_precision():
    assert torch.equal(double(seed=3).weight.float(), TwoLayer(4, 16, seed=3, dtype=torch.float32).weight)
    assert not torch.equal(double(seed=3).weight, double(seed=4).weight)
    assert_close(double(nu=2.0).weight, 2 * double().weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4), "in_features must be a whole number of at least 1: got 0"),
        ((4, 0), "width must be a whole number of at least 1: got 0"),
        ((4, 4, 0.0), "nu must be a number in"),
        ((4, 4, float("inf")), "nu must be a number in"),
    ],
)
def test_bad_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TwoLayer(*arguments)


def test_an_input_without_an_angle_is_refused():
    with pytest.raises(ValueError, match="row 1 is"):
        infinite_gram(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="row 0 is"):
        infinite_gram(torch.eye(2), torch.zeros(1, 2))

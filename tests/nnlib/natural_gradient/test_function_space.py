"""Claims about ``nnlib.natural_gradient.function_space``: any module, any size of block, with and without damping."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nnlib.natural_gradient import TwoLayer, function_space, gram, jacobian_change, natural_gradient, pull_back
from tests.oracles import natural_gradient as oracle

assert_close = torch.testing.assert_close


def mlp(seed=0, outputs=3, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, outputs)).double()


def conv(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(2 * 4 * 4, 2))
    return net.double()


CASES = {"mlp": (mlp, (7, 4)), "conv": (conv, (5, 1, 4, 4))}


def data(shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
def test_direction_is_that_of_the_dense_fisher_or_gauss_newton_matrix(name, damping, weighted):
    """Breaks if the push-through identity is used with H on the wrong side, or J's rows are in another order."""
    make, shape = CASES[name]
    model, x = make(), data(shape)
    slope = data(model(x).shape, seed=2)
    curvature = data(slope.shape, seed=3).square() + 0.2 if weighted else None
    ours = natural_gradient(model, x, slope, damping=damping, curvature=curvature)
    assert_close(ours, oracle.natural_gradient(model, x, slope, damping, curvature), rtol=1e-6, atol=1e-8)


def test_direction_is_the_pseudo_inverse_when_there_are_more_outputs_than_parameters():
    """Breaks if an inverse is taken for the pseudo-inverse: G is singular here."""
    model, x = nn.Linear(3, 2, bias=False).double(), data((20, 3))
    slope = data((20, 2), seed=2)
    ours = natural_gradient(model, x, slope)
    assert_close(ours, oracle.natural_gradient(model, x, slope))
    assert_close(ours, torch.linalg.lstsq(oracle.dense_jacobian(model, x), slope.flatten()[:, None]).solution[:, 0])


def test_first_order_change_of_the_outputs_is_minus_the_residual():
    """J d = r: with full row rank the natural gradient moves the outputs straight at the targets."""
    model, x = mlp(width=20), data((5, 4))
    r = data((5, 3), seed=2)
    J = oracle.dense_jacobian(model, x)
    assert_close(J @ natural_gradient(model, x, r), r.flatten(), rtol=1e-7, atol=1e-9)


def test_a_step_does_not_depend_on_how_the_parameters_are_written_down():
    """The same function with inputs x A and first weights W A^-T: the outputs' first-order change is the same."""
    A = data((4, 4), seed=5) + 3 * torch.eye(4, dtype=torch.float64)
    model, other, x, r = mlp(width=20), mlp(width=20), data((5, 4)), data((5, 3), seed=2)
    with torch.no_grad():
        other[0].weight.copy_(model[0].weight @ torch.linalg.inv(A).T)
    assert_close(other(x @ A), model(x))
    after = []
    for net, z in ((model, x), (other, x @ A)):
        vector_to_parameters(
            parameters_to_vector(net.parameters()) - 1e-5 * natural_gradient(net, z, r), net.parameters()
        )
        after.append(net(z).detach())
    assert_close(*after, rtol=0, atol=1e-8)  # second-order terms differ: lr^2 = 1e-10


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
def test_gram_matrix_is_the_same_from_blocks_of_any_size(rows):
    """Breaks if a block is dropped, repeated or transposed."""
    model, x = mlp(), data((7, 4))
    J = oracle.dense_jacobian(model, x)
    each = 3 * sum(p.numel() for p in model.parameters()) * 8
    assert_close(gram(model, x, max_bytes=2 * rows * each), J @ J.T)


def test_no_more_of_the_jacobian_is_held_than_was_allowed(monkeypatch):
    """Breaks if the whole J is built where it is larger than max_bytes."""
    model, x, sizes = mlp(), data((9, 4)), []
    true = function_space.jacobian

    def watched(model, part):
        J = true(model, part)
        sizes.append(J.numel() * J.element_size())
        return J

    monkeypatch.setattr(function_space, "jacobian", watched)
    each = 3 * sum(p.numel() for p in model.parameters()) * 8
    gram(model, x, max_bytes=4 * each)
    assert 2 * max(sizes) <= 4 * each and len(sizes) > 1
    sizes.clear()
    gram(model, x, max_bytes=9 * each)
    assert sizes == [9 * each]


def test_pull_back_is_the_transposed_jacobian():
    model, x = mlp(), data((7, 4))
    v = data((7, 3), seed=2)
    assert_close(pull_back(model, x, v), oracle.dense_jacobian(model, x).T @ v.flatten())


def test_change_of_the_jacobian_is_a_spectral_norm_from_blocks_too():
    """Breaks if the Frobenius norm is taken, or differences of Gram matrices instead of Jacobians."""
    model, reference, x = mlp(1), mlp(0), data((7, 4))
    D = oracle.dense_jacobian(model, x) - oracle.dense_jacobian(reference, x)
    for max_bytes in (1, 2**28):
        assert_close(jacobian_change(model, reference, x, max_bytes), torch.linalg.matrix_norm(D, 2))
    assert float(jacobian_change(model, model, x)) == 0


def test_model_is_left_as_it_was():
    """Breaks if gradients are left in .grad or parameters lose requires_grad."""
    model, x = mlp(), data((7, 4))
    before = [p.detach().clone() for p in model.parameters()]
    natural_gradient(model, x, data((7, 3)), damping=0.1)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for p, b in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, b)


def test_tensors_are_made_on_the_device_of_the_inputs():
    """Under a default device of "meta" a tensor made without a device would end there."""
    model, x, slope = mlp(), data((5, 4)), data((5, 3), seed=2)
    net, inputs = TwoLayer(4, 8, dtype=torch.float64), data((5, 4))
    expected = natural_gradient(model, x, slope, damping=0.1)
    with torch.device("meta"):
        assert_close(natural_gradient(model, x, slope, damping=0.1), expected)
        assert natural_gradient(net, inputs, slope[:, :1]).device.type == "cpu"
        assert jacobian_change(model, model, x).device.type == "cpu"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": -1.0}, "damping must be a number in"),
        ({"damping": float("nan")}, "damping must be a number in"),
        ({"curvature": torch.zeros(7, 3)}, "curvature must be positive: got 0"),
        ({"curvature": torch.ones(7)}, r"curvature must have shape \(n, C\), where n = 7, C = 3"),
        ({"slope": torch.ones(7)}, r"slope must have shape \(n, C\), where n = 7, C = 3"),
        ({"slope": torch.ones(3, 7)}, r"slope must have shape \(n, C\), where n = 7, C = 3"),
        ({"max_bytes": 0}, "max_bytes must be a whole number"),
    ],
)
def test_bad_input_is_refused(options, message):
    arguments = {"slope": torch.ones(7, 3, dtype=torch.float64)} | options
    with pytest.raises(ValueError, match=message):
        natural_gradient(mlp(), data((7, 4)), **arguments)

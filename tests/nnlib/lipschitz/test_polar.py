"""The polar factor's derivative without the steps: exact, never where it isn't, and invisible to whoever asks."""

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.autograd.functional import jacobian
from torch.func import grad, jvp, vmap
from torch.utils.checkpoint import checkpoint

from nnlib.lipschitz import bjorck, orthogonal_matrix, polar, residual
from nnlib.lipschitz.polar import Polar, polar_gradient
from tests.oracles.lipschitz import polar as by_svd

F64 = torch.float64
LARGE = [(130, 130), (130, 150), (150, 130), (4, 70, 70), (4, 66, 80)]


def draw(shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def moved(shape, seed=0, condition=None):
    """An orthogonal matrix after some training, or one with singular values from 1 to 1 / condition, float64."""
    *batch, m, n = shape
    matrices = []
    for i in range(max(1, torch.Size(batch).numel())):
        q = orthogonal_matrix(m, n, seed + 2 * i)
        if condition is None:
            matrices.append(q + 0.3 * draw((m, n), seed + 2 * i + 1) / max(m, n) ** 0.5)
        else:
            s = torch.linspace(1, 1 / condition, min(m, n), dtype=F64)
            u, v = orthogonal_matrix(len(s), len(s), seed + 1), q if m <= n else q.T
            matrices.append((u * s) @ v if m <= n else ((u * s) @ v).T)
    return torch.stack(matrices).view(shape)


def gradient(function, weight, direction, **options):
    weight = weight.clone().requires_grad_()
    return torch.autograd.grad((function(weight) * direction).sum(), weight, **options)[0]


def by_svd_gradient(weight, direction):
    return gradient(by_svd, weight.double(), direction.double())


def away(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


def without_steps(weight):
    return "PolarBackward" in type(weight.grad_fn).__name__ or any(
        "PolarBackward" in type(before).__name__ for before, _ in weight.grad_fn.next_functions
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 5), (3, 8), (3, 4, 4), (2, 3, 4, 9)])
def test_the_formula_is_the_derivative_of_the_polar_factor(shape, monkeypatch):
    monkeypatch.setattr(polar, "MAX_ITERATIONS", 200)
    for seed in range(5):
        weight, direction = draw(shape, seed), draw(shape, seed + 10)
        found = polar_gradient(weight, by_svd(weight), direction)
        torch.testing.assert_close(found, by_svd_gradient(weight, direction), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (2, 3, 4)])
def test_finite_differences_agree_once_and_twice(shape):
    """The second derivative goes through the steps: breaks if the graph of the gradient ends at the formula."""
    weight = moved(shape).requires_grad_()

    def function(w):
        return Polar.apply(w, by_svd(w.detach()), bjorck)

    assert gradcheck(function, weight)
    assert gradgradcheck(function, weight)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", LARGE)
def test_float32_gradients_are_exact_to_rounding(shape, order):
    weight, direction = moved(shape), draw(shape, seed=9)
    asked = weight.float().requires_grad_()
    assert without_steps(bjorck(asked, order))
    torch.testing.assert_close(bjorck(asked, order).detach(), bjorck(weight.float(), order), rtol=0, atol=0)
    found = gradient(lambda w: bjorck(w, order), weight.float(), direction.float())
    assert found.dtype == torch.float32 and away(found, by_svd_gradient(weight, direction)) < 3e-6


@pytest.mark.parametrize("shape", [(130, 130), (130, 150)])
@pytest.mark.parametrize(("size", "upstream"), [(1e-6, 1.0), (1e6, 1.0), (1.0, 1e-25), (1.0, 1e25)])
def test_neither_the_weights_size_nor_the_gradients_matters(shape, size, upstream):
    """Breaks if a square of a small number underflows."""
    weight, direction = moved(shape).float(), draw(shape, seed=9, dtype=torch.float32)
    plain = gradient(bjorck, weight, direction)
    found = gradient(bjorck, size * weight, upstream * direction)
    assert away(found.double() * size / upstream, plain.double()) < 3e-6


def test_each_matrix_of_a_batch_has_a_size_of_its_own():
    shape, sizes = (3, 80, 80), torch.tensor([1e-4, 1.0, 1e4]).view(3, 1, 1)
    weight, direction = moved(shape).float(), draw(shape, seed=9, dtype=torch.float32)
    upstream = torch.tensor([1e3, 1e-3, 0.0]).view(3, 1, 1)
    asked = (sizes * weight).requires_grad_()
    found = bjorck(asked)
    assert without_steps(found)
    (found,) = torch.autograd.grad((found * upstream * direction).sum(), asked)
    for i in range(2):
        exact = by_svd_gradient(sizes[i] * weight[i], upstream[i] * direction[i])
        assert away(found[i], exact) < 3e-6
    assert (found[2] == 0).all()


@pytest.mark.parametrize("shape", [(130, 130), (130, 150), (150, 130)])
def test_badly_conditioned_weights_go_through_the_steps(shape):
    weight, direction = moved(shape, condition=1e3), draw(shape, seed=9)
    asked = weight.float().requires_grad_()
    assert not without_steps(bjorck(asked))
    found = gradient(bjorck, weight.float(), direction.float())
    assert away(found, by_svd_gradient(weight, direction)) < 1e-3  # of condition number times rounding


@pytest.mark.parametrize("shape", [(130, 130), (130, 150)])
def test_weights_without_full_rank_have_the_gradient_of_the_steps(shape):
    weight = moved(shape).float()
    weight[-1] = 0
    asked = weight.clone().requires_grad_()
    found = bjorck(asked)
    assert not without_steps(found) and residual(found.detach()) > 0.9
    (found,) = torch.autograd.grad(found.sum(), asked)
    assert found.isfinite().all()


@pytest.mark.parametrize("shape", [(40, 40), (40, 50)])
def test_an_equation_that_is_not_solved_has_no_answer(shape):
    weight = moved(shape, condition=1e6)
    assert polar_gradient(weight, by_svd(weight), draw(shape)) is None
    rows = torch.eye(2, 3, dtype=F64)
    assert polar_gradient(-rows, rows, rows) is None  # H has no Cholesky factor: P is not the polar factor


def test_what_the_formula_does_not_solve_the_steps_do(monkeypatch):
    shape = (130, 140)
    weight, direction = moved(shape), draw(shape, seed=9)
    monkeypatch.setattr(polar, "MAX_ITERATIONS", 2)
    asked = weight.float().requires_grad_()
    found = bjorck(asked)
    assert without_steps(found)
    (found,) = torch.autograd.grad((found * direction.float()).sum(), asked)
    assert not found.requires_grad
    assert away(found, by_svd_gradient(weight, direction)) < 3e-6


def test_a_gradient_with_a_graph_is_differentiated_again():
    """Of ‖gradient‖²; also where the weight is itself computed from something."""
    shape = (130, 132)
    weight, direction = moved(shape), draw(shape, seed=9)

    def twice(function, w, d, factor):
        w = w.clone().requires_grad_()
        first = gradient_of(function(factor * w), d, w)
        return torch.autograd.grad(first.square().sum(), w)[0]

    def gradient_of(value, d, w):
        return torch.autograd.grad((value * d).sum(), w, create_graph=True)[0]

    for factor in (1.0, 2.0):
        exact = twice(by_svd, weight, direction, factor)
        assert away(twice(bjorck, weight.float(), direction.float(), factor), exact) < 3e-5


def test_gradients_in_batches_are_those_one_by_one():
    shape = (130, 131)
    weight = moved(shape).float().requires_grad_()
    directions = draw((3, *shape), seed=9, dtype=torch.float32)
    found = bjorck(weight)
    (batched,) = torch.autograd.grad(found, weight, directions, is_grads_batched=True, retain_graph=True)
    for direction, row in zip(directions, batched, strict=True):
        (single,) = torch.autograd.grad(found, weight, direction, retain_graph=True)
        torch.testing.assert_close(row, single, rtol=0, atol=1e-5)
    rows = jacobian(lambda w: (bjorck(w) * directions).sum((1, 2)), weight.detach(), vectorize=True)
    torch.testing.assert_close(rows, batched, rtol=0, atol=1e-5)


def test_transforms_and_forward_derivatives_go_through_the_steps():
    shape = (130, 130)
    weight, other = moved(shape).float(), moved(shape, seed=5).float()
    direction = draw(shape, seed=9, dtype=torch.float32)
    exact = by_svd_gradient(weight, direction)

    def value(w):
        return (bjorck(w) * direction).sum()

    assert away(grad(value)(weight), exact) < 3e-6
    assert away(vmap(grad(value))(torch.stack([weight, other]))[0], exact) < 3e-6
    _, tangent = jvp(value, (weight,), (other,))
    inner = (exact * other).sum().item()
    assert abs(tangent.item() - inner) < 1e-4 * exact.norm() * other.norm()
    asked = weight.clone().requires_grad_()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(asked, other)
        assert abs(forward_ad.unpack_dual(value(dual)).tangent.item() - inner) < 1e-4 * exact.norm() * other.norm()
    # a parameter that stands outside the transform
    by_x = grad(lambda x: (bjorck(asked) @ x).sum())(torch.ones(130))
    torch.testing.assert_close(by_x, bjorck(weight).sum(0), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_compiled_checkpointed_and_under_autocast_it_is_the_same():
    shape = (130, 140)
    weight, direction = moved(shape).float(), draw(shape, seed=9, dtype=torch.float32)
    expected = gradient(bjorck, weight, direction)
    torch._dynamo.reset()
    ways = {
        "compiled": torch.compile(bjorck, fullgraph=True, backend="eager"),
        "checkpointed": lambda w: checkpoint(bjorck, w, use_reentrant=False),
        "of a product": lambda w: bjorck(2 * w),
    }
    for name, function in ways.items():
        assert away(gradient(function, weight, direction), expected.double()) < 3e-6, name
    asked = weight.clone().requires_grad_()
    loss = (bjorck(asked) * direction).sum()
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(loss, asked)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_results_may_be_changed_and_backpropagated_twice():
    shape = (130, 130)
    weight = moved(shape).float().requires_grad_()
    direction = draw(shape, seed=9, dtype=torch.float32)
    found = bjorck(weight)
    found.mul_(2)
    loss = (found * direction).sum()
    loss.backward(retain_graph=True)
    first = weight.grad.clone()
    loss.backward()
    torch.testing.assert_close(weight.grad, 2 * first)
    torch.testing.assert_close(first, 2 * gradient(bjorck, weight.detach(), direction))
    with torch.inference_mode():
        assert bjorck(weight).grad_fn is None
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value = bjorck(weight)
        weight.data.add_(0)
        with torch.no_grad():
            weight.add_(1)
        value.sum().backward()

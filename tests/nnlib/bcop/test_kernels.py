"""Block convolution, the BCOP kernel and the doubling, against slow versions and against the operator itself."""

import pytest
import torch

from nnlib.bcop import (
    bcop_kernel,
    block_convolution,
    double,
    extend,
    gram_kernel,
    operator_matrix,
    orthogonality_residual,
    projector,
)
from nnlib.lipschitz import conv_singular_values, orthogonal_matrix
from tests.oracles import bcop as oracle

F64 = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def bases(count, c, rank, seed=0):
    found = [orthogonal_matrix(c, rank, 100 * seed + t) for t in range(count)]
    return torch.stack(found) if found else torch.zeros(0, c, rank, dtype=F64)


def test_block_convolution_is_the_sum_over_pairs_of_blocks_in_this_order():
    """Breaks if X and Y are exchanged: matrix products do not commute."""
    x, y = random(3, 4, 2, 3), random(4, 5, 3, 2, seed=1)
    torch.testing.assert_close(block_convolution(x, y), oracle.block_convolution(x, y))


def test_block_convolution_is_one_convolution_after_another():
    """Breaks if the kernel is turned: composing operators is what the product is for."""
    x, y = random(3, 3, 2, 2), random(3, 3, 2, 2, seed=1)
    whole = operator_matrix(block_convolution(x, y), (5, 5))
    # Even kernels reach k // 2 = 1 back each, and 3 x 3 only 1: the pair shifts the image by one more pixel.
    parts = operator_matrix(x, (5, 5)) @ operator_matrix(y, (5, 5))
    shifted = whole.view(3, 5, 5, -1).roll((1, 1), (1, 2)).reshape(whole.shape)
    torch.testing.assert_close(shifted, parts)


def test_extend_is_the_block_convolution_with_a_projector_and_its_complement():
    kernel, basis = random(4, 3, 2, 2), orthogonal_matrix(4, 2, seed=3)
    p = basis @ basis.T
    pair = torch.stack([p, torch.eye(4, dtype=F64) - p], -1)
    torch.testing.assert_close(extend(kernel, basis, 3), oracle.block_convolution(pair[:, :, None, :], kernel))
    torch.testing.assert_close(extend(kernel, basis, 2), oracle.block_convolution(pair[:, :, :, None], kernel))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_kernel_is_the_papers_product_of_two_by_two_blocks(k):
    """Breaks if PQ becomes QP within a block, or the factors change their order."""
    h, rows, columns = orthogonal_matrix(4, 3, 9), bases(k - 1, 4, 2, seed=1), bases(k - 1, 4, 2, seed=2)
    torch.testing.assert_close(bcop_kernel(h, rows, columns), oracle.bcop_kernel(h, rows, columns))


@pytest.mark.parametrize("widths", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1), (2, 7)])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_every_singular_value_is_one_for_odd_and_even_kernels_and_all_widths(k, widths):
    c_out, c_in = widths
    c = max(widths)
    h = orthogonal_matrix(c_out, c_in, seed=k)
    kernel = bcop_kernel(h, bases(k - 1, c, c // 2, seed=1), bases(k - 1, c, c // 2, seed=2))
    assert kernel.shape == (c_out, c_in, k, k)
    for size in (7, (6, 9)):
        values = conv_singular_values(kernel, size)
        torch.testing.assert_close(values, torch.ones_like(values), rtol=0, atol=1e-12)


def test_the_gram_kernel_is_the_kernel_of_the_operator_times_its_transpose():
    """Breaks if the shift a has the wrong sign, or the wrong side is chosen."""
    for kernel in (random(4, 3, 3, 3), random(3, 4, 3, 3)):
        matrix = operator_matrix(kernel, (7, 7))
        gram = matrix.T @ matrix if kernel.shape[1] < kernel.shape[0] else matrix @ matrix.T
        torch.testing.assert_close(operator_matrix(gram_kernel(kernel), (7, 7)), gram)


@pytest.mark.parametrize("size", [(7, 7), (2, 2), (3, 5)])
def test_the_residual_bounds_the_distance_of_every_singular_value_from_one(size):
    """Also where the kernel wraps round a small image onto itself."""
    c = 4
    kernel = bcop_kernel(orthogonal_matrix(c, c, 0), bases(2, c, 2, seed=1), bases(2, c, 2, seed=2))
    kernel = kernel + 0.01 * random(*kernel.shape)
    squares = conv_singular_values(kernel, size).square()
    assert (squares - 1).abs().max() <= orthogonality_residual(kernel)
    assert orthogonality_residual(kernel) > 0.01


def test_a_projector_of_vectors_that_are_not_orthonormal_breaks_orthogonality():
    """A negative control: R Rᵀ is a projector only for orthonormal columns."""
    c = 4
    wrong = 1.05 * bases(2, c, 2, seed=2)
    kernel = bcop_kernel(orthogonal_matrix(c, c, 0), bases(2, c, 2, seed=1), wrong)
    assert orthogonality_residual(kernel) > 0.05


@pytest.mark.parametrize("ranks", [(0, 3, 1, 2), (3, 3, 3, 3), (0, 0, 0, 0), (1, 1, 2, 2)])
def test_doubling_gives_half_ranks_and_the_old_kernel_in_its_corner(ranks):
    """Theorem 2. Breaks if H' is not diag(H, I), or the ranks are not completed to n."""
    n = 3
    found = torch.stack([projector(n, rank, seed=t) for t, rank in enumerate(ranks)])
    h = orthogonal_matrix(n, n, seed=7)
    kernel = bcop_kernel(h, found[:2], found[2:])
    h2, rows, columns = double(h, found[:2], found[2:])
    wide = bcop_kernel(h2, rows, columns)
    assert {round(p.trace().item()) for p in (*rows, *columns)} == {n}
    torch.testing.assert_close(wide[:n, :n], kernel, rtol=0, atol=1e-14)
    assert orthogonality_residual(wide) < 1e-12


EYE = torch.eye(4)[:, :, None, None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: block_convolution(torch.ones(1, 2, 1, 1), torch.ones(3, 1, 1, 1)),
            "x must take as many channels as y",
        ),
        (lambda: block_convolution(EYE[0], EYE), r"x must have shape \(c_out, c, h, w\)"),
        (lambda: block_convolution(EYE, EYE.long()), "y must be a tensor of real numbers"),
        (lambda: block_convolution(EYE, EYE[..., :0]), "y must have shape .* no axis empty"),
        (lambda: block_convolution(EYE, None), "y must be Tensor: got None"),
        (lambda: extend(EYE, torch.ones(3, 1), 3), r"basis must have shape \(4, r\)"),
        (lambda: extend(EYE, torch.ones(4), 3), r"basis must have shape \(4, r\)"),
        (lambda: extend(EYE, torch.ones(4, 1).long(), 3), r"basis must have shape .* got a tensor of int64"),
        (lambda: extend(EYE, torch.ones(4, 1), 1), "axis must be one of 2, -2, 3, -1: got 1"),
        (lambda: extend(EYE[:, :, 0], torch.ones(4, 1), 3), r"kernel must have shape \(c, n, h, w\)"),
        (lambda: bcop_kernel(EYE, torch.zeros(1, 4, 1), torch.zeros(1, 4, 1)), r"h must have shape \(c_out, c_in\)"),
        (lambda: bcop_kernel(torch.eye(4), torch.zeros(1, 3, 1), torch.zeros(1, 4, 1)), "rows .* act on 4 channels"),
        (lambda: bcop_kernel(torch.eye(4), torch.zeros(1, 4, 1), torch.zeros(4, 1)), "columns .* act on 4 channels"),
        (lambda: bcop_kernel(torch.eye(4), [], torch.zeros(1, 4, 1)), r"rows must be Tensor: got \[\]"),
        (lambda: projector(3, 4), "rank must be a whole number from 0 to 3: got 4"),
        (lambda: double(torch.eye(2), torch.full((1, 2, 2), 0.4), projector(2, 1)[None]), "rows must hold projectors"),
        (lambda: double(torch.eye(2), projector(2, 1)[None], projector(3, 1)[None]), "columns must have shape"),
    ],
)
def test_what_is_no_kernel_is_refused_by_name(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()

"""Operator norms are those of the operator, written out as a matrix."""

import math

import pytest
import torch

from nnlib.lipschitz import conv_norm, conv_norm_bound, conv_singular_values, dense_norm
from tests.oracles.lipschitz import conv_matrix, operator_norm

inf = math.inf


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("norms", [(2, 2), (1, 1), (1, 2), (1, inf), (2, inf), (inf, inf)])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4)])
def test_dense_norm_is_the_largest_gain_over_the_ball(norms, shape):
    weight = draw(*shape)
    assert dense_norm(weight, norms).item() == pytest.approx(operator_norm(weight, *norms), rel=1e-12)


def test_norms_that_are_hard_to_compute_are_refused():
    with pytest.raises(ValueError, match=r"norms must be .* got \(inf, 1\)"):
        dense_norm(torch.eye(2), (inf, 1))


CONVOLUTIONS = [  # c_out, c_in, k, stride, size
    (3, 2, 3, 1, 6),
    (2, 3, 3, 1, 5),
    (4, 2, 4, 2, 8),
    (2, 3, 3, 2, 6),
    (3, 2, 1, 1, 4),
    (3, 2, 5, 1, 4),  # a kernel larger than the image
    (2, 1, 3, 1, 2),
    (2, 2, 2, 1, 5),
]


@pytest.mark.parametrize(("c_out", "c_in", "k", "stride", "size"), CONVOLUTIONS)
def test_singular_values_of_a_circular_convolution_are_those_of_its_matrix(c_out, c_in, k, stride, size):
    weight = draw(c_out, c_in, k, k)
    matrix = conv_matrix(weight, size, stride)
    found = conv_singular_values(weight, size, stride=stride)
    assert found.shape == ((size // stride) ** 2, min(c_out, c_in * stride**2))
    expected = torch.linalg.svdvals(matrix)
    torch.testing.assert_close(found.flatten().sort(descending=True).values, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(conv_norm(weight, size, stride=stride), expected[0])


@pytest.mark.parametrize(("c_out", "c_in", "k", "stride", "size"), CONVOLUTIONS)
@pytest.mark.parametrize("padding", [0, 1])
def test_norm_with_zero_padding_is_that_of_the_matrix(c_out, c_in, k, stride, size, padding):
    if k > size + 2 * padding:
        padding = k  # so that there is an output at all
    weight = draw(c_out, c_in, k, k)
    exact = torch.linalg.svdvals(conv_matrix(weight, size, stride, padding))[0]
    torch.testing.assert_close(
        conv_norm(weight, size, stride=stride, padding_mode="zeros", padding=padding), exact, rtol=1e-8, atol=0
    )
    assert exact <= conv_norm_bound(weight, stride=stride)


def test_images_that_are_not_square_have_frequencies_of_both_lengths():
    weight = draw(2, 2, 3, 3)
    tall = conv_singular_values(weight, (4, 7))
    assert tall.shape == (28, 2)
    turned = conv_singular_values(weight.mT, (7, 4))
    torch.testing.assert_close(tall.flatten().sort().values, turned.flatten().sort().values)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_bound_holds_for_all_sizes_and_is_close(k, stride):
    weight = draw(3, 2, k, k, seed=k)
    bound = conv_norm_bound(weight, stride=stride)
    largest = max(conv_norm(weight, size, stride=stride) for size in (4, 10, 62, 130))
    assert largest <= bound * (1 + 1e-12)
    assert bound <= 1.02 * largest


def test_without_the_rise_between_grid_points_the_bound_would_be_wrong():
    # a polynomial with its peak midway between two points of a grid of 8
    weight = torch.zeros(1, 1, 1, 3, dtype=torch.float64)
    weight[0, 0, 0] = torch.tensor([1.0, 2 * math.cos(math.pi / 8), 1.0])
    theta = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    phases = torch.exp(-1j * theta[:, None] * torch.arange(3))
    supremum = (phases @ weight[0, 0, 0].to(torch.complex128)).abs().max()
    on_grid = conv_norm(weight, (1, 8))
    shifted = weight[0, 0, 0].to(torch.complex128) * torch.exp(1j * math.pi / 8 * torch.arange(3))
    between = torch.fft.fft(shifted, 8).abs().max()
    assert conv_norm_bound(weight, grid=8) >= supremum - 1e-12
    assert min(on_grid, between) < supremum


def test_reshaped_kernel_is_not_the_operator():
    constant = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    reshaped = torch.linalg.matrix_norm(constant.reshape(1, -1), 2)
    assert (conv_norm(constant, 12) / reshaped).item() == pytest.approx(3.0)


@pytest.mark.parametrize(("size", "padding"), [(1, 1), (3, 0), ((3, 4), 0)])
def test_a_convolution_of_a_single_input_or_output_is_as_long_as_its_vector(size, padding):
    """Breaks if there is nothing to iterate on; the last is a matrix again."""
    kernel = draw(1, 1, 3, 3)
    found = conv_norm(kernel, size, padding_mode="zeros", padding=padding)
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    matrix = torch.nn.functional.conv2d(images, kernel, padding=padding).flatten(1)
    torch.testing.assert_close(found, torch.linalg.svdvals(matrix)[0])
    assert conv_norm(0 * kernel, size, padding_mode="zeros", padding=padding) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda w: conv_norm(w, 8, padding_mode="reflect"),
            "padding_mode must be one of circular, zeros: got 'reflect'",
        ),
        (lambda w: conv_norm(w, 9, stride=2), "multiple of the stride 2: got 9 x 9"),
        (lambda w: conv_norm(w[0], 8), r"weight must have shape \(c_out, c_in, k_h, k_w\)"),
        (lambda w: conv_norm(w, (8, 8, 8)), r"size must be one number or two, height and width: got \(8, 8, 8\)"),
        (lambda w: conv_norm(w, (8, 0)), "size must be a whole number of at least 1: got 0"),
        (
            lambda w: conv_norm(w, (8, 2), padding_mode="zeros", padding=0),
            r"weight must fit .* got a kernel of \(3, 3\)",
        ),
        (lambda w: conv_norm_bound(w, grid=3), "grid must be a whole number of at least 4: got 3"),
        (lambda w: dense_norm(w[0, 0], (2, 2, 2)), r"norms must be .* got \(2, 2, 2\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(1, 1, 3, 3))

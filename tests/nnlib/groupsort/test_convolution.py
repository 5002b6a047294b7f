"""The reshaped convolution is 1-Lipschitz because it is divided by its overlap, and no smaller number would do."""

import pytest
import torch

from nnlib.groupsort import ReshapedConv
from nnlib.lipschitz import conv_norm, lipschitz_constant
from tests.oracles.lipschitz import conv_matrix


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 1), (5, 2)])
def test_the_reshaped_convolution_is_1_lipschitz_because_it_is_divided_by_its_overlap(kernel, stride):
    layer = ReshapedConv(3, 5, kernel, stride, dtype=torch.float64).eval()
    with torch.no_grad():
        layer.raw.add_(torch.randn(layer.raw.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    bound, residual = layer.lipschitz_bound()
    true = conv_norm(layer.weight, 12, stride=stride, padding_mode="zeros", padding=layer.padding)
    assert true <= bound <= 1 + 1e-9
    assert residual < 1e-12
    # the published layer has no such division
    assert conv_norm(layer.weight * layer.overlap, 12, stride=stride) > 1.2


@pytest.mark.parametrize(("kernel", "stride", "overlap"), [(5, 2, 3), (3, 2, 2), (4, 2, 2), (5, 3, 2), (3, 1, 3)])
def test_the_bound_holds_for_a_constant_kernel_which_adds_up_all_the_copies_of_a_pixel(kernel, stride, overlap):
    """Breaks if the overlap is rounded down: at k = 5, s = 2 the true norm would be 1.27."""
    layer = ReshapedConv(1, 1, kernel, stride, dtype=torch.float64).eval()
    with torch.no_grad():
        layer.raw.fill_(1.0)
    matrix = conv_matrix(layer.weight.detach(), 6 * stride + kernel - 2 * layer.padding, stride, layer.padding)
    true = torch.linalg.svdvals(matrix)[0]
    assert layer.overlap == overlap
    assert true <= layer.lipschitz_bound()[0] <= 1 + 1e-9
    floor = kernel // stride
    assert kernel % stride == 0 or true * overlap / floor > 1  # rounded down it would exceed its bound


def test_its_bound_counts_in_a_network_and_its_weight_is_that_of_its_mode():
    layer = ReshapedConv(1, 4, 4, 2, seed=3)
    assert lipschitz_constant(torch.nn.Sequential(layer, torch.nn.ReLU())) == pytest.approx(1, abs=1e-5)
    assert layer.train().weight.requires_grad
    assert layer.eval().weight.requires_grad
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert layer(x).shape == (2, 4, 4, 4)


def test_a_stride_larger_than_the_kernel_and_other_images_are_refused():
    with pytest.raises(ValueError, match="stride must be a whole number from 1 to 2: got 3"):
        ReshapedConv(1, 1, 2, 3)
    for shape in ((1, 1, 8, 8), (1, 2, 8, 1), (8, 8)):
        with pytest.raises(ValueError, match=r"x must have shape \(n, 2, H, W\), H and W at least 2"):
            ReshapedConv(2, 1, 4, 2)(torch.zeros(shape))

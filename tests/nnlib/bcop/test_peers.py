"""Other libraries' convolutions, measured by ours: AOC is orthogonal too, a reshaped kernel is not."""

import pytest
import torch

from nnlib.bcop import orthogonality_residual
from nnlib.lipschitz import conv_singular_values


def test_orthogoniums_aoc_is_orthogonal_by_our_measure():
    """Two implementations, one definition: its kernel passes our test of orthogonality."""
    layers = pytest.importorskip("orthogonium.layers.conv.AOC")
    torch.manual_seed(0)
    layer = layers.AdaptiveOrthoConv2d(4, 8, 3, padding=1, padding_mode="circular", bias=False).eval()
    weight = layer.weight.detach()
    values = conv_singular_values(weight, 8)
    assert (values - 1).abs().max() < 1e-3
    assert orthogonality_residual(weight) < 1e-2


def test_torchlips_spectral_convolution_has_the_gain_of_a_reshaped_kernel():
    """1 / k in root mean square, which is RKO's: the reason why a gradient is lost."""
    torchlip = pytest.importorskip("deel.torchlip")
    torch.manual_seed(0)
    layer = torchlip.SpectralConv2d(6, 6, 3, padding=1, padding_mode="circular", bias=False)
    layer(torch.zeros(1, 6, 8, 8))
    values = conv_singular_values(layer.weight.detach(), 8)
    assert values.square().mean().sqrt().item() == pytest.approx(1 / 3, abs=0.01)

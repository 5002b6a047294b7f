"""What does a layer multiply its weights by? A convolution sees patches of its image, a linear layer its rows.

Chapter: ``book/curvature.ipynb``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnlib.curvature.layers import Layer


def patches(layer: Layer, x: Tensor, channels: bool) -> Tensor:
    """What the joint weight is multiplied by: (leading axes, in) or, for a convolution, (N, T, in)."""
    if isinstance(layer, nn.Linear):
        rows = x  # (..., in)
        ones = rows.new_ones(*rows.shape[:-1], 1)
    else:
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = functional.pad(x, list(layer._reversed_padding_repeated_twice), mode=mode)
        if channels:
            weights = _visits(layer, x).sqrt()  # (1, 1, H, W)
            rows = (x * weights).flatten(2).transpose(1, 2)  # (B, H W, c)
            ones = (weights / math.prod(layer.kernel_size)).flatten()[:, None].expand(len(x), -1, 1)
        else:
            rows = functional.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride).transpose(1, 2)
            ones = rows.new_ones(*rows.shape[:2], 1)  # rows: (B, T, c k k)
    return rows if layer.bias is None else torch.cat([rows, ones], -1)


def _visits(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """How often patches see each pixel of the padded input, (1, 1, H, W), as multiples of the mean over pixels.

    The mean over patches and offsets of x x' is then the mean over pixels of visits * x x', k k times fewer products.
    """
    size, options = x.shape[2:], (layer.kernel_size, layer.dilation, 0, layer.stride)
    patches = functional.unfold(x.new_ones(1, 1, *size), *options)  # (1, k k, T)
    counts = functional.fold(patches, size, *options)
    return counts / counts.mean()


def locations(layer: Layer, ds: Tensor) -> Tensor:
    """Gradients at a layer's output, with the outputs as last axis: (leading axes, out) or (N, T, out)."""
    return ds.flatten(2).transpose(1, 2) if isinstance(layer, nn.Conv2d) and ds.ndim == 4 else ds

"""The paper's networks, with any of the convolutions in them.

Source: arXiv 1911.00937, section 6 and appendix. Chapter: book/bcop.ipynb.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from nnlib.bcop.baselines import L2NEConv, OSSNConv, RKOConv, SVCMConv
from nnlib.bcop.convolution import LipschitzConv
from nnlib.bcop.layers import BCOPConv
from nnlib.lipschitz import OrthogonalLinear, Upsample
from nnlib.lipschitz import activation as make_activation

METHODS: dict[str, Callable[..., LipschitzConv]] = {
    "BCOP": BCOPConv,
    "RKO": RKOConv,
    "OSSN": OSSNConv,
    "SVCM": SVCMConv,
    "RK-L2NE": L2NEConv,
    "BCOP-Fixed": partial(BCOPConv, trainable=False),
}

# (channels, kernel size, stride) of each convolution, then the units of each dense layer but the last.
ARCHITECTURES: dict[str, tuple[list[tuple[int, int, int]], list[int]]] = {
    "mini": ([(16, 2, 2), (16, 3, 1), (32, 3, 1)], [64]),  # not the paper's: for 8 x 8 digits
    "small": ([(16, 4, 2), (32, 4, 2)], [100]),
    "large": ([(32, 3, 1), (32, 4, 2), (64, 3, 1), (64, 4, 2)], [512, 512]),
    "fc3": ([], [1024, 1024, 1024]),
    "critic": ([(64, 4, 2), (128, 4, 2), (256, 4, 2), (512, 4, 2)], []),
    "mini critic": ([(16, 4, 2), (32, 3, 1), (32, 3, 1)], []),  # not the paper's: for 8 x 8 digits
}


def conv_layer(method: str, c_in: int, c_out: int, kernel_size: int, **options: Any) -> LipschitzConv:
    """A convolution by the name of its method: a key of ``METHODS``.

    Args:
        method: "BCOP", "RKO", "OSSN", "SVCM", "RK-L2NE" or "BCOP-Fixed".
        c_in: Channels of the image.
        c_out: Channels of the output.
        kernel_size: k.
        options: For the layer.

    Raises:
        ValueError: for another name.

    >>> conv_layer("RKO", 3, 8, 3)
    RKOConv(3, 8, kernel_size=3)
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}: got {method!r}")
    return METHODS[method](c_in, c_out, kernel_size, **options)


class LipschitzCNN(nn.Sequential):
    """A 1-Lipschitz network: convolutions of one method and activations, then dense layers with orthonormal weights.

    Dense layers are Björck's for every method. There is no pooling, no residual sum and no normalisation: none of them
    keeps the norm of a gradient (section 5 of the paper).

    Args:
        shape: (c, H, W) of the input.
        outputs: Classes, or 1 for a critic.
        architecture: A key of ``ARCHITECTURES``.
        method: A key of ``METHODS``.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        width: Multiplies the channels and units of the hidden layers.
        upsample: Repeats each pixel so many times along both axes first, which multiplies the Lipschitz constant.
        seed: Of all weights.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: an architecture or a method that is not known, or a size that the strides do not divide.

    Source: arXiv 1911.00937, appendix. Chapter: book/bcop.ipynb

    >>> from nnlib.lipschitz import lipschitz_constant
    >>> model = LipschitzCNN((1, 8, 8), 10, "mini", "BCOP")
    >>> round(lipschitz_constant(model), 4), model(torch.zeros(2, 1, 8, 8)).shape
    (1.0, torch.Size([2, 10]))
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        architecture: str = "small",
        method: str = "BCOP",
        *,
        activation: str = "MaxMin",
        width: float = 1.0,
        upsample: int = 1,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}: got {architecture!r}")
        channels, *size = shape
        size = [n * upsample for n in size]
        convolutions, hidden = ARCHITECTURES[architecture]
        seeds = iter(range(100 * seed, 100 * seed + 100))
        placed = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = [Upsample(upsample)] if upsample > 1 else []
        for c, k, stride in convolutions:
            c = round(width * c)
            options = {"stride": stride, "size": tuple(size), "seed": next(seeds)} | placed
            layers += [conv_layer(method, channels, c, k, **options), make_activation(activation)]
            channels, size = c, [n // stride for n in size]
        layers.append(nn.Flatten())
        features = channels * size[0] * size[1]
        for units in (round(width * u) for u in hidden):
            dense = OrthogonalLinear(features, units, seed=next(seeds), **placed)
            layers += [dense, make_activation(activation)]
            features = units
        layers.append(OrthogonalLinear(features, outputs, seed=next(seeds), **placed))
        super().__init__(*layers)

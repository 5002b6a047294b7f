"""The paper's networks, with any of the convolutions in them.

Source: arXiv 1911.00937, section 6 and appendix. Chapter: book/bcop.ipynb.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from nnlib.arguments import one_of, shown, typed, whole, within
from nnlib.bcop.baselines import L2NEConv, OSSNConv, RKOConv, SVCMConv
from nnlib.bcop.convolution import LipschitzConv
from nnlib.bcop.layers import BCOPConv
from nnlib.lipschitz import OrthogonalLinear, Upsample
from nnlib.lipschitz import activation as make_activation
from nnlib.lipschitz.activations import ACTIVATIONS, check_groups

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


@typed
def conv_layer(method: str, c_in: int, c_out: int, kernel_size: int, **options: Any) -> LipschitzConv:
    """A convolution by the name of its method: a key of ``METHODS``.

    Args:
        method: "BCOP", "RKO", "OSSN", "SVCM", "RK-L2NE" or "BCOP-Fixed".
        c_in: Channels of the image.
        c_out: Channels of the output.
        kernel_size: k.
        options: For the layer.

    Raises:
        ValueError: for another name, or as the layer does.

    >>> conv_layer("RKO", 3, 8, 3)
    RKOConv(3, 8, kernel_size=3)
    """
    one_of(METHODS, method=method)
    return METHODS[method](c_in, c_out, kernel_size, **options)


@typed
class LipschitzCNN(nn.Sequential):
    """A 1-Lipschitz network: convolutions of one method and activations, then dense layers with orthonormal weights.

    Dense layers are Björck's for every method. There is no pooling, no residual sum and no normalisation: none of them
    keeps the norm of a gradient (section 5 of the paper).

    Args:
        shape: (c, H, W) of the input.
        outputs: Classes, or 1 for a critic.
        architecture: A key of ``ARCHITECTURES``.
        method: A key of ``METHODS``.
        activation: A name for :func:`nnlib.lipschitz.activation`; not Maxout, which would change the sizes.
        width: Multiplies the channels and units of the hidden layers, up to 16.
        upsample: Repeats each pixel so many times along both axes first, which multiplies the Lipschitz constant.
        seed: Of all weights.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: an architecture, a method or an activation that is not known, a size that the strides do not divide,
            a width whose channels the activation's groups do not divide, or a number out of range.

    Source: arXiv 1911.00937, appendix. Chapter: book/bcop.ipynb

    >>> from nnlib.lipschitz import lipschitz_constant
    >>> model = LipschitzCNN((1, 8, 8), 10, "mini", "BCOP")
    >>> round(lipschitz_constant(model), 4), model(torch.zeros(2, 1, 8, 8)).shape
    (1.0, torch.Size([2, 10]))
    """

    def __init__(
        self,
        shape: Sequence[int],
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
        one_of(ARCHITECTURES, architecture=architecture)
        one_of(METHODS, method=method)
        one_of([name for name in ACTIVATIONS if name != "Maxout"], activation=activation)
        if len(shape) != 3:
            raise ValueError(f"shape must be three numbers, (c, H, W): got {shown(shape)}")
        for n in shape:
            whole(1, shape=n)
        whole(1, outputs=outputs, upsample=upsample)
        whole(0, seed=seed)
        within("(0, 16]", width=width)
        channels, *size = shape
        size = [n * upsample for n in size]
        convolutions, hidden = ARCHITECTURES[architecture]
        seeds = iter(range(100 * seed, 100 * seed + 100))
        placed = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = [Upsample(upsample)] if upsample > 1 else []
        for c, k, stride in convolutions:
            c = max(1, round(width * c))
            if any(n % stride for n in size):
                raise ValueError(f"shape must be images that each stride divides: got {tuple(size)} at one of {stride}")
            options = {"stride": stride, "size": tuple(size), "seed": next(seeds)} | placed
            layers += [conv_layer(method, channels, c, k, **options), make_activation(activation)]
            check_groups(layers[-1], width=c)
            channels, size = c, [n // stride for n in size]
        layers.append(nn.Flatten())
        features = channels * size[0] * size[1]
        for units in (max(1, round(width * u)) for u in hidden):
            dense = OrthogonalLinear(features, units, seed=next(seeds), **placed)
            layers += [dense, make_activation(activation)]
            check_groups(layers[-1], width=units)
            features = units
        layers.append(OrthogonalLinear(features, outputs, seed=next(seeds), **placed))
        super().__init__(*layers)

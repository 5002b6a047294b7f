"""Residual networks whose blocks normalise first, with bottlenecks. Chapter: ``book/eigendamage.ipynb``."""

import torch
from torch import Tensor, nn

from nnlib.arguments import whole
from nnlib.models.init import glorot_


class PreActivation(nn.Module):
    """x -> shortcut(x) + conv1x1(conv3x3(conv1x1(x))), each convolution after batch normalisation and ReLU."""

    def __init__(self, c: int, width: int, stride: int, where: dict):
        super().__init__()
        out = 4 * width
        self.residual = nn.Sequential(
            *normalised_conv(c, width, 1, 1, where),
            *normalised_conv(width, width, 3, stride, where),
            *normalised_conv(width, out, 1, 1, where),
        )
        same = stride == 1 and c == out
        self.shortcut = nn.Identity() if same else nn.Conv2d(c, out, 1, stride, bias=False, **where)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)


class PreResNet(nn.Module):
    """A 3 x 3 convolution, three stages of (depth - 2)/9 blocks, normalisation, ReLU, the mean, and one linear layer.

    Shapes for an image of s x s pixels and ``width`` w: (c, s, s) -> (16w, s, s) -> (64w, s, s) -> (128w, s/2, s/2)
    -> (256w, s/4, s/4) -> 256w -> classes. Convolutions have no biases; batch normalisation has scale and shift.

    Args:
        depth: 9 n + 2 with n blocks a stage: 11, 20, 29, ...
        in_channels: c.
        classes: Number of outputs.
        width: Factor on the number of channels.
        seed: Of the Glorot initialisation.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: if ``depth`` is not 9 n + 2, or ``width`` not a positive whole number.

    Source: He et al., arXiv 1603.05027, figure 4(e) with the bottleneck of its appendix.
    Chapter: ``book/eigendamage.ipynb``.

    >>> tuple(PreResNet(11)(torch.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """

    def __init__(
        self,
        depth: int = 29,
        in_channels: int = 3,
        classes: int = 10,
        *,
        width: int = 1,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        whole(1, depth=depth, in_channels=in_channels, classes=classes, width=width)
        if depth < 11 or depth % 9 != 2:
            raise ValueError(f"depth must be 9 n + 2 with n at least 1: got {depth}")
        where = {"device": device, "dtype": dtype}
        super().__init__()
        c = 16 * width
        layers: list[nn.Module] = [nn.Conv2d(in_channels, c, 3, padding=1, bias=False, **where)]
        for stage in range(3):
            inner = 16 * width * 2**stage
            for i in range((depth - 2) // 9):
                layers.append(PreActivation(c, inner, 2 if stage > 0 and i == 0 else 1, where))
                c = 4 * inner
        head = [nn.BatchNorm2d(c, **where), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, *head, nn.Linear(c, classes, **where))
        glorot_(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (n, c, s, s) -> (n, classes)


def normalised_conv(c: int, out: int, size: int, stride: int, where: dict) -> list[nn.Module]:
    """Batch normalisation, ReLU, and a convolution that keeps the resolution up to its stride."""
    layer = nn.Conv2d(c, out, size, stride, padding=size // 2, bias=False, **where)
    return [nn.BatchNorm2d(c, **where), nn.ReLU(), layer]

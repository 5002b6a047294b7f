"""Residual networks for small images: three stages of blocks with a shortcut. Chapter: ``book/weight_decay.ipynb``."""

import torch
from torch import Tensor, nn

from nnlib.arguments import shown, whole
from nnlib.models.init import glorot_


class BasicBlock(nn.Module):
    """x -> relu(shortcut(x) + conv(relu(conv(x)))); the shortcut is a 1 x 1 convolution where the shape changes."""

    def __init__(self, c: int, out: int, stride: int, batch_norm: bool, where: dict, affine: bool = False):
        super().__init__()
        how = (batch_norm, where, affine)
        self.residual = nn.Sequential(*conv(c, out, 3, stride, *how), nn.ReLU(), *conv(out, out, 3, 1, *how))
        same = stride == 1 and c == out
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv(c, out, 1, stride, *how))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.residual(x))


class ResNet(nn.Module):
    """A 3 x 3 convolution, three stages of (depth - 2)/6 blocks, the mean over all positions, and one linear layer.

    Shapes for an image of s x s pixels and ``width`` w: (c, s, s) -> (16w, s, s) -> (32w, s/2, s/2)
    -> (64w, s/4, s/4) -> 64w -> classes.

    Args:
        depth: 6 n + 2 with n blocks a stage: 8, 14, 20, 26, 32, ...
        in_channels: c.
        classes: Number of outputs.
        width: Factor on the number of channels; the paper on weight decay has 4.
        batch_norm: Whether each convolution is followed by batch normalisation without scale and shift.
        affine: Whether batch normalisation has scale and shift, and convolutions therefore no biases, as in
            arXiv 1905.05934.
        block: The kind of block.
        seed: Of the Glorot initialisation.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: if ``depth`` is not 6 n + 2, or ``width`` not a positive whole number, or ``affine`` without batch
            normalisation.

    Source: He et al., arXiv 1512.03385, section 4.2, with projections at the two changes of shape.
    Chapters: ``book/weight_decay.ipynb``, ``book/eigendamage.ipynb``.

    >>> tuple(ResNet(8)(torch.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """

    def __init__(
        self,
        depth: int = 32,
        in_channels: int = 3,
        classes: int = 10,
        *,
        width: int = 1,
        batch_norm: bool = True,
        affine: bool = False,
        block: type[nn.Module] = BasicBlock,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        whole(1, depth=depth, in_channels=in_channels, classes=classes, width=width)
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 6 n + 2 with n at least 1: got {depth}")
        if not (isinstance(block, type) and issubclass(block, nn.Module)):
            raise TypeError(f"block must be a kind of torch.nn.Module: got {shown(block)}")
        if affine and not batch_norm:
            raise ValueError("affine is about batch normalisation: it needs batch_norm=True")
        where = {"device": device, "dtype": dtype}
        super().__init__()
        c = 16 * width
        layers: list[nn.Module] = [*conv(in_channels, c, 3, 1, batch_norm, where, affine), nn.ReLU()]
        for stage, out in enumerate((16 * width, 32 * width, 64 * width)):
            for i in range((depth - 2) // 6):
                layers.append(block(c, out, 2 if stage > 0 and i == 0 else 1, batch_norm, where, affine))
                c = out
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes, **where))
        glorot_(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (n, c, s, s) -> (n, classes)


def conv(
    c: int, out: int, size: int, stride: int, batch_norm: bool, where: dict, affine: bool = False
) -> list[nn.Module]:
    """A convolution that keeps the resolution up to its stride, and batch normalisation where asked for."""
    layer = nn.Conv2d(c, out, size, stride, padding=size // 2, bias=not affine, **where)
    return [layer, nn.BatchNorm2d(out, affine=affine, **where)] if batch_norm else [layer]

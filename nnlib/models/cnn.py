"""A small convolutional network for 28 x 28 and 32 x 32 images. Chapter: ``book/nqm.ipynb``."""

import torch
from torch import Tensor, nn

from nnlib.arguments import whole
from nnlib.models.init import he_


class SmallCNN(nn.Module):
    """Two 3 x 3 convolutions, each followed by ReLU and 2 x 2 max pooling, then a hidden and an output linear layer.

    Shapes for an image of s x s pixels and ``width`` w: (c, s, s) -> (w, s/2, s/2) -> (2w, s/4, s/4) -> 4w -> classes.
    Without ``batch_norm`` its output is a deterministic function of each example; there is no dropout.

    Args:
        in_channels: c, 1 for grey images and 3 for colour.
        image_size: s, a positive multiple of 4.
        classes: Number of outputs.
        width: w, channels after the first convolution.
        batch_norm: Whether each layer but the last is followed by batch normalisation without scale and shift, before
            its ReLU.
        seed: Of the He initialisation.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: if ``image_size`` is not a positive multiple of 4.

    Chapter: ``book/nqm.ipynb``.

    >>> tuple(SmallCNN(width=4)(torch.zeros(5, 1, 28, 28)).shape)
    (5, 10)
    """

    def __init__(
        self,
        in_channels: int = 1,
        image_size: int = 28,
        classes: int = 10,
        *,
        width: int = 16,
        batch_norm: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        whole(1, in_channels=in_channels, image_size=image_size, classes=classes, width=width)
        if image_size % 4:
            raise ValueError(f"image_size must be a positive multiple of 4: got {image_size}")
        where = {"device": device, "dtype": dtype}
        super().__init__()
        pooled = (image_size // 4) ** 2
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, **where),
            *_normalised(nn.BatchNorm2d, width, batch_norm, where),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, **where),
            *_normalised(nn.BatchNorm2d, 2 * width, batch_norm, where),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * pooled, 4 * width, **where),
            *_normalised(nn.BatchNorm1d, 4 * width, batch_norm, where),
            nn.Linear(4 * width, classes, **where),
        )
        he_(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (n, c, s, s) -> (n, classes)


def _normalised(kind: type[nn.Module], channels: int, batch_norm: bool, where: dict) -> list[nn.Module]:
    """What follows a layer: batch normalisation where asked for, and ReLU."""
    return [kind(channels, affine=False, **where), nn.ReLU()] if batch_norm else [nn.ReLU()]

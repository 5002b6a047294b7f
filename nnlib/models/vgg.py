"""VGG networks: stacks of 3 x 3 convolutions between poolings. Chapter: ``book/weight_decay.ipynb``."""

import torch
from torch import Tensor, nn

from nnlib.arguments import one_of, whole, within
from nnlib.models.init import glorot_

# Channels of the convolutions, one row for each resolution; another depth is another line.
CHANNELS = {
    11: [[64], [128], [256, 256], [512, 512], [512, 512]],
    16: [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]],
    19: [[64, 64], [128, 128], [256] * 4, [512] * 4, [512] * 4],
}


class VGG(nn.Module):
    """Convolutions of 3 x 3 with ReLU, five times halved by 2 x 2 max pooling, then one linear layer.

    Shapes: (c, 32, 32) -> (512, 1, 1) -> classes, for ``width=1``; with ``affine``, images of any size from 16 on.

    Args:
        depth: 11, 16 or 19, as in the network's usual name.
        in_channels: c.
        classes: Number of outputs.
        width: Factor on the number of channels, up to 16; below 1 for tests.
        batch_norm: Whether each convolution is followed by batch normalisation without scale and shift.
        affine: The network as arXiv 1905.05934 has it: batch normalisation with scale and shift, no biases, which the
            shift makes idle, and the mean over all positions in place of the last pooling.
        seed: Of the Glorot initialisation.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: for an unknown depth, or ``affine`` without batch normalisation.

    Source: Simonyan and Zisserman, arXiv 1409.1556, with the head of arXiv 1810.12281, section 3.
    Chapters: ``book/weight_decay.ipynb``, ``book/eigendamage.ipynb``.

    >>> tuple(VGG(16, width=1 / 16)(torch.zeros(2, 3, 32, 32)).shape)
    (2, 10)
    """

    def __init__(
        self,
        depth: int = 16,
        in_channels: int = 3,
        classes: int = 10,
        *,
        width: float = 1,
        batch_norm: bool = True,
        affine: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        one_of(CHANNELS, depth=depth)
        whole(1, in_channels=in_channels, classes=classes)
        within("(0, 16]", width=width)
        if affine and not batch_norm:
            raise ValueError("affine is about batch normalisation: it needs batch_norm=True")
        where = {"device": device, "dtype": dtype}
        super().__init__()
        layers: list[nn.Module] = []
        c = in_channels
        for stage in CHANNELS[depth]:
            for channels in stage:
                out = max(1, round(width * channels))
                layers.append(nn.Conv2d(c, out, 3, padding=1, bias=not affine, **where))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out, affine=affine, **where))
                layers.append(nn.ReLU())
                c = out
            layers.append(nn.MaxPool2d(2))
        if affine:
            layers[-1] = nn.AdaptiveAvgPool2d(1)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(c, classes, **where))
        glorot_(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (n, c, 32, 32) -> (n, classes)

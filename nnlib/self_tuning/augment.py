"""How are images changed at strengths that a tuner sets? Cutout, brightness, contrast, saturation, hue: on tensors.

Each image of a batch has its own strength; images are (B, C, H, W) with values in [0, 1].
Chapter: ``book/self_tuning.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.arguments import real, typed, whole
from nnlib.self_tuning.hyperparameters import floored
from nnlib.self_tuning.setting import Regularizer

GREY = (0.299, 0.587, 0.114)  # luma of red, green, blue


@typed
class Cutout(Regularizer):
    """Sets squares of an image to zero: ``holes`` of them, each ``length`` pixels wide, cut at the border.

    Args:
        length: Name of the hyperparameter that is the width, whole pixels; of another value, the whole number below.
        holes: Name of the one that is the number; the same.
        most: No image gets more holes.

    Source: DeVries and Taylor, arXiv 1708.04552. Chapter: ``book/self_tuning.ipynb``.
    """

    def __init__(self, length: str, holes: str, most: int = 4):
        whole(1, most=most)
        super().__init__(length, holes)
        self.length, self.holes, self.most = length, holes, most

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        B, _, H, W = images(x)
        length, holes = (floored(self.value(name, x, batch_dim=0)) for name in (self.length, self.holes))
        centre = self.uniform((2, B, self.most), x) * torch.tensor([H, W], device=x.device).view(2, 1, 1)
        left = (centre.floor() - (length.view(-1, 1) / 2).floor())[..., None]  # (2, B, most, 1): first row and column
        rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) for n in (H, W))
        width = length.view(-1, 1, 1)
        inside = [
            (pixel >= first) & (pixel < first + width) for pixel, first in zip((rows, columns), left, strict=True)
        ]
        used = torch.arange(self.most, device=x.device) < holes.view(-1, 1)  # (B or 1, most)
        hole = inside[0][..., :, None] & inside[1][..., None, :] & used[..., None, None]
        return x * (~hole.any(1, keepdim=True)).to(x)


@typed
class ColorJitter(Regularizer):
    """Changes brightness, contrast, saturation and hue of each image, in this order, and keeps values in [0, 1].

    A strength s draws a factor from U[max(0, 1 - s), 1 + s]; for hue, a turn from U[-s, s] of the whole circle.

    Args:
        brightness: Name of a hyperparameter, or None; the factor multiplies all values.
        contrast: Name, or None; the factor multiplies the distance from the image's mean grey.
        saturation: Name, or None; the factor multiplies the distance from each pixel's grey. Colour images only.
        hue: Name, or None; colours turn around the grey axis. Colour images only.
    """

    def __init__(
        self,
        brightness: str | None = None,
        contrast: str | None = None,
        saturation: str | None = None,
        hue: str | None = None,
    ):
        super().__init__(*(name for name in (brightness, contrast, saturation, hue) if name))
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def draw(self, name: str, x: Tensor) -> Tensor:
        """A factor for each image, (B, 1, 1, 1)."""
        strength = self.value(name, x, batch_dim=0)
        low = (1 - strength).clamp(min=0)
        return low + (1 + strength - low) * self.uniform((len(x), 1, 1, 1), x)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        images(x)
        if self.brightness:
            x = (x * self.draw(self.brightness, x)).clamp(0, 1)
        if self.contrast:
            x = blend(x, grey(x).mean((1, 2, 3), keepdim=True), self.draw(self.contrast, x))
        if self.saturation:
            x = blend(x, grey(x), self.draw(self.saturation, x))
        if self.hue:
            turn = (2 * self.uniform((len(x), 1, 1, 1), x) - 1) * self.value(self.hue, x, batch_dim=0)
            x = turn_hue(x, turn)
        return x


@typed
class ScaleNoise(Regularizer):
    """Multiplies each image by a factor from U[1 / (1 + s), 1 + s].

    Args:
        name: Of the hyperparameter that is s >= 0.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        high = 1 + self.value(self.name, x, batch_dim=0)
        factor = 1 / high + (high - 1 / high) * self.uniform((len(x), *[1] * (x.ndim - 1)), x)
        return x * factor


def images(x: Tensor) -> torch.Size:
    """The sizes of images (B, C, H, W).

    Raises:
        TypeError: for what is no tensor of real numbers.
        ValueError: for another shape.
    """
    real("B C H W", finite=False, x=x)
    return x.shape


def blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """other + factor (x - other), kept in [0, 1]."""
    return (other + factor * (x - other)).clamp(0, 1)


def grey(x: Tensor) -> Tensor:
    """Luma (B, 1, H, W) of images (B, 3, H, W); a grey image is its own."""
    if x.shape[1] == 1:
        return x
    if x.shape[1] != 3:
        raise ValueError(f"x must be images of 1 or 3 channels for colour: got {x.shape[1]}")
    weights = torch.tensor(GREY, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the colours of images (B, 3, H, W) around the axis of greys, by ``turn`` (B, 1, 1, 1) of the circle.

    A rotation about (1, 1, 1)/sqrt(3) by Rodrigues' formula: greys stay, and a third of the circle takes red to green.
    """
    if x.shape[1] != 3:
        raise ValueError(f"x must be images of 3 channels for hue: got {x.shape[1]}")
    angle = 2 * torch.pi * turn
    mean = x.mean(1, keepdim=True)
    crossed = (x.roll(1, 1) - x.roll(-1, 1)) / 3**0.5  # axis x colour
    turned = x * angle.cos() + crossed * angle.sin() + mean * (1 - angle.cos())
    return turned.clamp(0, 1)

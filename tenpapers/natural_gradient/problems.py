"""Which data? Points on the sphere, nearly parallel pairs among them, and two classes of images.

Inputs have length one, as in the paper; targets are +-1. Chapter: ``book/natural_gradient.ipynb``.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tenpapers.data import load


class Problem(NamedTuple):
    """Training inputs ``x`` (n, d), targets ``y`` (n,); test inputs and targets; where they come from, in words."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    source: str

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Problem":
        """The same problem elsewhere."""
        return Problem(*(t.to(device, dtype) for t in self[:4]), self.source)


def sphere(n: int = 24, d: int = 10, seed: int = 0, gap: float | None = None) -> Problem:
    """Independent uniform points on the unit sphere with fair-coin labels, in float64.

    Args:
        n: Points, for training and for test each, at least 2.
        d: Dimension, at least 2.
        seed: Of points and labels.
        gap: With a number > 0, the second point is put at this angle (its tangent) from the first and given the other
            label: the smaller, the worse conditioned the Gram matrix.

    Raises:
        ValueError: a size is too small, or the gap not positive.

    Chapter: ``book/natural_gradient.ipynb``.

    >>> problem = sphere(n=5, d=3)
    >>> problem.x.shape, problem.y.shape
    (torch.Size([5, 3]), torch.Size([5]))
    """
    if n < 2 or d < 2:
        raise ValueError(f"n and d must be at least 2: got {n} and {d}")
    if gap is not None and not gap > 0:
        raise ValueError(f"gap must be positive, or two inputs are parallel: got {gap}")
    generator = torch.Generator(device="cpu").manual_seed(seed)
    x = torch.randn(2 * n, d, generator=generator, dtype=torch.float64, device="cpu")
    y = 2 * torch.randint(0, 2, (2 * n,), generator=generator, device="cpu").to(x) - 1
    x = x / x.norm(dim=1, keepdim=True)
    if gap is not None:
        side = x[1] - (x[1] @ x[0]) * x[0]
        x[1] = x[0] + gap * side / side.norm()
        x[1] /= x[1].norm()
        y[1] = -y[0]
    return Problem(x[:n], y[:n], x[n:], y[n:], "points on the unit sphere, coin-flip labels (synthetic)")


def pair(name: str, first: int, second: int, n: int, seed: int = 0, **options: bool) -> Problem:
    """Two classes of an image data set as a regression onto +1 (first) and -1 (second), in float64.

    Args:
        name: As in :func:`tenpapers.data.load`: ``digits``, ``mnist``, ``fashion_mnist``.
        first: Class with target +1.
        second: Class with target -1.
        n: Training images, a random choice out of both classes' training images; the test images are all there are.
        seed: Of the choice.
        options: For :func:`tenpapers.data.load`.

    Raises:
        ValueError: the classes are the same or unknown, or there are fewer than n images.

    Chapter: ``book/natural_gradient.ipynb``.

    >>> pair("digits", 4, 9, n=40).x.shape
    torch.Size([40, 64])
    """
    data = load(name, **options).to(dtype=torch.float64)
    known = range(len(data.info["classes"]))
    if first == second or first not in known or second not in known:
        raise ValueError(f"two different classes out of 0..{known[-1]} are needed: got {first} and {second}")
    splits = []
    for split in (data.train, data.test):
        of_both = (split.y == first) | (split.y == second)
        x = split.x[of_both].flatten(1)  # (images, pixels)
        y = torch.where(split.y[of_both] == first, 1.0, -1.0).to(x)
        splits.append((x / x.norm(dim=1, keepdim=True), y))
    (x, y), test = splits
    if not 2 <= n <= len(x):
        raise ValueError(f"n must be 2 to {len(x)}, the training images of these classes: got {n}")
    chosen = torch.randperm(len(x), generator=torch.Generator(device="cpu").manual_seed(seed), device="cpu")[:n]
    classes = f"{data.info['classes'][first]} against {data.info['classes'][second]}"
    return Problem(x[chosen], y[chosen], *test, f"{data.source}; {classes}, {n} images for training")

"""Which data? Points on the sphere, nearly parallel pairs among them, two classes of images; and a model of known C.

Inputs have length one, as in the paper; targets are +-1.
Paper: arXiv 1905.10961. Chapter: ``book/natural_gradient.ipynb``.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tenpapers.data import load, remember
from tenpapers.data.sources import note


class Problem(NamedTuple):
    """Training inputs ``x`` (n, d), targets ``y`` (n,); test inputs and targets; where they come from, in words."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    source: str

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Problem":
        """The same problem elsewhere."""
        x, y, x_test, y_test = (t.to(device, dtype) for t in self[:4])
        return Problem(x, y, x_test, y_test, self.source)


SPHERE = "points on the unit sphere, coin-flip labels (synthetic)"
PROBLEMS = {  # name: how to make it, given n and a seed
    "sphere": lambda n, seed: sphere(n, d=10, seed=seed),
    "digits": lambda n, seed: pair("digits", 4, 9, n, seed),
    "mnist": lambda n, seed: pair("mnist", 4, 9, n, seed, vendored=True),
}


@remember(maxsize=8)
def problem(name: str, n: int, seed: int) -> Problem:
    """A problem by its name in ``PROBLEMS``.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PROBLEMS:
        raise ValueError(f"data must be one of {', '.join(PROBLEMS)}: got {name!r}")
    return PROBLEMS[name](n, seed)


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
    note(SPHERE)
    return Problem(x[:n], y[:n], x[n:], y[n:], SPHERE)


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
    (x, y), (x_test, y_test) = splits
    if not 2 <= n <= len(x):
        raise ValueError(f"n must be 2 to {len(x)}, the training images of these classes: got {n}")
    chosen = torch.randperm(len(x), generator=torch.Generator(device="cpu").manual_seed(seed), device="cpu")[:n]
    classes = f"{data.info['classes'][first]} against {data.info['classes'][second]}"
    source = f"{data.source}; {classes}, {n} images for training"
    return Problem(x[chosen], y[chosen], x_test, y_test, source)


def flip_labels(y: Tensor, share: float, seed: int = 0) -> Tensor:
    """A copy of the labels +-1 with round(share n) of them turned to the other class, chosen at random.

    Args:
        y: Shape (n,).
        share: In [0, 1].
        seed: Of the choice.

    Raises:
        ValueError: the share is outside [0, 1].

    >>> int((flip_labels(torch.ones(10), 0.3) < 0).sum())
    3
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1]: got {share}")
    generator = torch.Generator(device="cpu").manual_seed(seed)
    flipped = torch.randperm(len(y), generator=generator, device="cpu")[: round(share * len(y))]
    noisy = y.clone()
    noisy[flipped.to(y.device)] *= -1
    return noisy


class Bent(nn.Module):
    """u = theta + bend sin(theta), one parameter for each row of the identity matrix; theta starts at 0.

    Its Jacobian is diagonal, 1 + bend cos(theta), so that |J - J(0)| <= 2 bend everywhere, and sigma = 1 + bend.

    >>> Bent(2, bend=0.5)(torch.eye(2, dtype=torch.float64)).shape
    torch.Size([2, 1])
    """

    def __init__(self, n: int, bend: float):
        super().__init__()
        self.theta, self.bend = nn.Parameter(torch.zeros(n, dtype=torch.float64)), bend

    def forward(self, x: Tensor) -> Tensor:
        """Outputs, shape (n, 1), for rows of the identity matrix."""
        return x @ (self.theta + self.bend * self.theta.sin())[:, None]

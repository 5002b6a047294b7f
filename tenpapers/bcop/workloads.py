"""With which settings is each data set trained? One for each, the same for all methods; and the critics' images.

PAPER holds those of arXiv 1911.00937, appendix; LAPTOP has less data, fewer epochs, and smaller networks.
Chapter: book/bcop.ipynb.
"""

import math
from typing import Any

import torch
from torch import Tensor

from nnlib.bcop import LipschitzCNN
from nnlib.lipschitz import hinge_loss, project_, project_every
from nnlib.training import Dataset, fit
from tenpapers.data import load

# ``trained_for`` is the radius that the loss asks for, ``radii`` are those at which accuracy is measured.
LAPTOP: dict[str, dict[str, Any]] = {
    "digits": {
        **{"trained_for": 0.5, "radii": (0.5,), "epochs": 10, "batch_size": 100, "lr": 5e-3},
        **{"attacked": 100, "attack_steps": 20, "dtype": "float64"},
    },
    "mnist": {
        **{"trained_for": 1.5, "radii": (1.58,), "epochs": 4, "batch_size": 128, "lr": 2e-3},
        **{"attacked": 50, "attack_steps": 20, "dtype": "float32"},
    },
    "cifar10": {
        **{"trained_for": 0.5, "radii": (36 / 255,), "epochs": 4, "batch_size": 128, "lr": 2e-3},
        **{"attacked": 50, "attack_steps": 20, "dtype": "float32"},
    },
}
_LONG = {"epochs": 200, "batch_size": 128, "lr": 1e-3, "attacked": 200, "attack_steps": 200, "dtype": "float32"}
PAPER: dict[str, dict[str, Any]] = {
    "mnist": {"trained_for": 1.5, "radii": (1.58,), **_LONG, "full": True},
    "cifar10": {"trained_for": 0.5, "radii": (36 / 255,), **_LONG, "full": True},
}
# The attack of the recorded tables: one random start, on the margin.
ONE_START: dict[str, Any] = {"from_x": False, "restarts": 1, "losses": ("margin",)}
SMALL_RADIUS = {"mnist": 0.3, "cifar10": 0.1}  # the paper's table 8, of its Large network

CRITIC: dict[str, Any] = {"data": "digits", "width": 0.5, "steps": 150, "dtype": "float64"}
CRITIC_PAPER: dict[str, Any] = {
    **{"data": "cifar10", "full": True, "architecture": "critic", "upsample": 2},
    **{"n": 6400, "batch_size": 64, "steps": 25_600},
}


def images(name: str, full: bool = False) -> Dataset:
    """A data set: what comes with the package, or all of it, downloaded where $NNLIB_DATA has it not.

    Args:
        name: "digits", "mnist" or "cifar10" (of which the package has nothing: ``$NNLIB_DATA`` or ``full``).
        full: All of it; of the digits there is no more.
    """
    options: dict[str, dict[str, bool]] = {
        "digits": {},
        "mnist": {"download": True} if full else {"vendored": True},
        "cifar10": {"download": full},
    }
    return load(name, **options[name])


def train_classifier(
    data: Dataset,
    method: str = "BCOP",
    *,
    architecture: str = "small",
    activation: str = "MaxMin",
    width: float = 1.0,
    trained_for: float = 0.5,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    project: int = 100,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LipschitzCNN:
    """Train a classifier with the multi-class hinge loss, whose margin is sqrt(2) times the radius to be certified.

    Args:
        data: Images and labels.
        method: A key of ``METHODS``.
        architecture: A key of ``ARCHITECTURES``.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        width: Multiplies the hidden layers' widths.
        trained_for: The radius that the margin asks for.
        epochs: Passes over the training split; give this or ``steps``.
        steps: Number of steps.
        batch_size: Of Adam.
        lr: Of Adam; it falls to a tenth, exponentially, by the end (in the paper every 60 of 200 epochs).
        project: Steps between two projections of SVCM.
        seed: Of weights and batches.
        dtype: Of the training.
        device: Where to train.

    Returns:
        The network, in evaluation mode.

    Source: arXiv 1911.00937, appendix. Chapter: book/bcop.ipynb

    >>> model = train_classifier(images("digits"), architecture="mini", steps=3)
    >>> model.training
    False
    """
    (channels, height, wide), classes = data.info["shape"], len(data.info["classes"])
    options = {"activation": activation, "width": width, "seed": seed}
    model = LipschitzCNN((channels, height, wide), classes, architecture, method, **options, dtype=dtype, device=device)
    if steps is None:
        steps = (epochs or 0) * (len(data.train.y) // batch_size)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    project_every(optimizer, model, project)
    loss, how = hinge_loss(math.sqrt(2) * trained_for), {"evaluate_at": (), "progress": False}
    schedule = to_a_tenth(optimizer, steps)
    fit(model, data, optimizer, loss=loss, steps=steps, batch_size=batch_size, seed=seed, schedule=schedule, **how)
    project_(model)
    model.eval()
    return model


def to_a_tenth(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A learning rate that falls to a tenth over so many steps, exponentially."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 10 ** (-step / max(1, steps)))


def gaussian_images(x: Tensor, n: int, seed: int = 0) -> Tensor:
    """A simple generator: a Gaussian with the mean and covariance of the images, cut to [0, 1].

    Args:
        x: Real images, shape (m, c, H, W).
        n: How many to draw.
        seed: Of the draws.

    Returns:
        Shape (n, c, H, W), float64.

    Chapter: book/bcop.ipynb

    >>> gaussian_images(torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0)), 3).shape
    torch.Size([3, 1, 2, 2])
    """
    flat = x.flatten(1).double().cpu()
    values, vectors = torch.linalg.eigh(torch.cov(flat.mT))
    generator = torch.Generator("cpu").manual_seed(seed)
    z = torch.randn(n, flat.shape[1], generator=generator, dtype=torch.float64, device="cpu")
    drawn = flat.mean(0) + (z * values.clamp(min=0).sqrt()) @ vectors.mT
    return drawn.clamp(0, 1).view(n, *x.shape[1:])

"""How do the four posteriors classify images, and how sure are they? Beside them the two optimisers without noise.

Paper: arXiv 1811.12565, section 5.2. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from nnlib.bayes import classification_metrics
from nnlib.curvature import KFAC
from nnlib.models import MLP, VGG, SmallCNN
from nnlib.noisy_ekfac.optimizers import OPTIMIZERS
from nnlib.training import Dataset, Split
from tenpapers.data import load

# Learning rates, chosen by the validation log likelihood of MLP and CNN with the seed 100, which is in no table;
# the VGG takes them over.
RATES = {
    "SGD": 0.1,
    "K-FAC": 0.1,
    "Bayes by backprop": 0.01,
    "Noisy Adam": 0.1,
    "Noisy K-FAC": 0.1,
    "Noisy EK-FAC": 0.1,
}
BASIS_EVERY = 10  # updates of the statistics between two eigendecompositions


@dataclass(frozen=True)
class Workload:
    """A network, its images, and how long it is trained.

    Args:
        build: Network from ``seed``, ``dtype`` and ``device``.
        data: Loads the images.
        epochs: Of training; the learning rate is divided by ten at half and at three quarters of them.
        batch_size: Examples a step.
        statistics_every: Steps between two updates of the Fisher statistics.
    """

    build: Callable[..., nn.Module]
    data: Callable[[], Dataset]
    epochs: int
    batch_size: int = 50
    statistics_every: int = 5


def _few(n: int) -> Dataset:
    """The first n training digits: uncertainty matters where data are few."""
    data = load("digits")
    source = f"digits of scikit-learn, {n} training, 197 validation and 200 test images"
    return replace(data, train=Split(data.train.x[:n], data.train.y[:n]), source=source)


def _large(data: Dataset) -> Dataset:
    """28 x 28 images with a black frame, 32 x 32, as a VGG needs them."""
    names = ("train", "validation", "test")
    parts = {name: Split(pad(getattr(data, name).x, (2, 2, 2, 2)), getattr(data, name).y) for name in names}
    return replace(data, **parts, source=f"{data.source}, framed to 32 x 32 pixels")


WORKLOADS = {
    "MLP, digits": Workload(partial(MLP, [64, 50, 10]), partial(_few, 300), 60, statistics_every=2),
    "CNN, MNIST": Workload(partial(SmallCNN, width=8), lambda: load("mnist", vendored=True), 4),
    "VGG, Fashion-MNIST": Workload(
        partial(VGG, 11, 1, width=1 / 8), lambda: _large(load("fashion_mnist", vendored=True)), 6
    ),
    # The paper's: half of VGG16's usual widths, 150 epochs.
    "VGG16, CIFAR-10": Workload(partial(VGG, 16, 3, width=1 / 2), lambda: load("cifar10"), 150, 128, 10),
}


def classify(
    workload: str,
    method: str,
    *,
    seed: int = 0,
    epochs: int | None = None,
    lr: float | None = None,
    kl_weight: float = 0.1,
    prior_variance: float = 1.0,
    damping: float = 1e-2,
    kl_clip: float = 1e-2,
    decay: float = 0.95,
    particles: int = 20,
    steps: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    measured_on: str = "test",
) -> dict[str, Any]:
    """Train a network by one method, and measure what it predicts.

    SGD and K-FAC get the prior as weight decay kl_weight / (n prior_variance), so that their minimum is the mode of
    what the noisy methods approximate.

    Args:
        workload: One of ``WORKLOADS``.
        method: One of ``RATES``.
        seed: Of initialisation, order, weights and drawn labels.
        epochs: In place of the workload's own.
        lr: In place of ``RATES``'.
        kl_weight: Factor on the KL term; the paper has 1/2 without augmentation and 1/10 with it.
        prior_variance: Of the weights.
        damping: Extrinsic.
        kl_clip: Longest squared step in the metric of the Fisher matrix.
        decay: Of the running averages of Fisher statistics. The paper's 0.99 suits its 60,000 steps; the averages start
            at the identity, and after a few hundred steps most of that would still be there.
        particles: Weight samples in the prediction of the noisy methods.
        steps: At most so many, for a test.
        dtype: Of everything.
        device: Where to train.
        measured_on: Split.

    Returns:
        The metrics of :func:`nnlib.bayes.classification_metrics`, ``cpu_seconds`` of training, and
        ``source`` of the images.

    Raises:
        ValueError: for an unknown workload or method.

    Source: arXiv 1811.12565, section 5.2. Chapter: ``book/noisy_ekfac.ipynb``.

    >>> row = classify("MLP, digits", "Noisy EK-FAC", epochs=20)
    >>> row["accuracy"] > 0.5
    True
    """
    for name, value, known in (("workload", workload, WORKLOADS), ("method", method, RATES)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}: got {value!r}")
    w = WORKLOADS[workload]
    data = w.data().to(device, dtype)
    model = w.build(seed=seed, dtype=dtype, device=device)
    n, lr = len(data.train.y), RATES[method] if lr is None else lr
    shrink = kl_weight / (n * prior_variance)
    options = {"damping": damping, "kl_clip": kl_clip, "seed": seed}
    if method == "SGD":
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=shrink)
    elif method == "K-FAC":
        every = {"update_factors_every": w.statistics_every, "update_inverses_every": w.statistics_every * BASIS_EVERY}
        options |= {"weight_decay": shrink, "decay": "l2", "factor_decay": decay} | every
        optimizer = KFAC(model, lr, **options)
    else:
        options |= {"kl_weight": kl_weight, "prior_variance": prior_variance, "decay": decay}
        options |= {"update_statistics_every": w.statistics_every}
        options |= {"update_basis_every": BASIS_EVERY} if "K-FAC" in method else {}
        optimizer = OPTIMIZERS[method](model, n, lr, **options)
    begun = time.process_time()
    _train(model, optimizer, data.train, w.epochs if epochs is None else epochs, w.batch_size, seed, steps)
    spent = time.process_time() - begun
    part = getattr(data, measured_on)
    model.eval()
    with torch.no_grad():
        logits = optimizer.predict(part.x, particles, seed) if method in OPTIMIZERS else model(part.x)[None]
    return classification_metrics(logits, part.y) | {"cpu_seconds": spent, "source": data.source}


def _train(
    model: nn.Module, optimizer: Any, train: Split, epochs: int, batch_size: int, seed: int, steps: int | None
) -> None:
    """Minibatches without replacement, the remainder left out; the rate falls by ten at 1/2 and 3/4."""
    generator = torch.Generator("cpu").manual_seed(seed)
    noisy, done = not isinstance(optimizer, torch.optim.Optimizer), 0
    model.train()
    for epoch in range(epochs):
        if epoch in (-(-epochs // 2), -(-3 * epochs // 4)):
            _slow_down(optimizer)
        order = torch.randperm(len(train.y), generator=generator, device="cpu").to(train.y.device)
        for index in order.split(batch_size):
            if len(index) < batch_size or done == steps:
                continue
            x, y = train.x[index], train.y[index]
            if noisy:
                with optimizer.sample():
                    _backward(model, x, y)
            else:
                optimizer.zero_grad()
                _backward(model, x, y)
            optimizer.step()
            done += 1


def _backward(model: nn.Module, x: Tensor, y: Tensor) -> None:
    cross_entropy(model(x), y).backward()


def _slow_down(optimizer: Any) -> None:
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            group["lr"] /= 10
    else:
        optimizer.lr /= 10

"""What one run on images is: train by one method, and measure what it predicts.

``classify`` is a cell of the tables; ``covariances`` and ``gap`` say how far the posteriors of two weights are from the
exact one. Paper: arXiv 1811.12565, section 5. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import MultiStepLR

from nnlib import training
from nnlib.bayes import LinearGaussian, classification_metrics, gaussian_kl
from nnlib.curvature import KFAC
from nnlib.noisy_ekfac import OPTIMIZERS, Diagonal, EigenvalueCorrected, MatrixVariate, Rows
from nnlib.noisy_ekfac.optimizer import NoisyOptimizer
from nnlib.training import Dataset, Split, fit
from tenpapers.data.augment import Augmented
from tenpapers.noisy_ekfac.workloads import BASIS_EVERY, KRONECKER, RATES, WORKLOADS

FISHERS = {"Noisy Adam": Diagonal, "Noisy K-FAC": MatrixVariate, "Noisy EK-FAC": EigenvalueCorrected}


def classify(
    workload: str,
    method: str,
    *,
    seed: int = 0,
    epochs: int | None = None,
    lr: float | None = None,
    kl_weight: float = 0.1,
    prior_variance: float = 1.0,
    batch_norm: bool | None = None,
    augmented: bool = False,
    damping: float = 1e-2,
    kl_clip: float = 1e-2,
    decay: float = 0.95,
    particles: int = 20,
    steps: int | None = None,
    dtype: str = "float32",
    device: str = "cpu",
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
        batch_norm: Of a VGG, whether its convolutions are followed by it; None for what the workload has.
        augmented: Whether training images are shifted by up to four pixels and mirrored at random.
        damping: Extrinsic; SGD and Bayes by backprop have none.
        kl_clip: Longest squared step in the metric of the Fisher matrix.
        decay: Of the running averages of Fisher statistics. The paper's 0.99 suits its 60,000 steps; the averages start
            at the identity, and after a few hundred steps most of that would still be there.
        particles: Weight samples in the prediction of the noisy methods.
        steps: At most so many, for a test.
        dtype: ``float32`` or ``float64``.
        device: Where to train.
        measured_on: Split.

    Returns:
        The metrics of :func:`nnlib.bayes.classification_metrics`, ``cpu_seconds`` of training, and
        ``source`` of the images.

    Raises:
        ValueError: for an unknown workload, method or split.

    Source: arXiv 1811.12565, section 5.2. Chapter: ``book/noisy_ekfac.ipynb``.

    >>> row = classify("MLP, digits", "Noisy EK-FAC", epochs=20)
    >>> row["accuracy"] > 0.5
    True
    """
    parts = ("train", "validation", "test")
    choices = (("workload", workload, WORKLOADS), ("method", method, RATES), ("measured_on", measured_on, parts))
    for name, value, known in choices:
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}: got {value!r}")
    w = WORKLOADS[workload]
    where = training.device(device)
    data = w.data().to(where, getattr(torch, dtype))
    normalised = {} if batch_norm is None else {"batch_norm": batch_norm}
    model = w.build(seed=seed, dtype=getattr(torch, dtype), device=where, **normalised)
    model = Augmented(model, seed=seed) if augmented else model
    n, lr = len(data.train.y), RATES[method] if lr is None else lr
    epochs = w.epochs if epochs is None else epochs
    steps = epochs * (n // w.batch_size) if steps is None else steps
    shrink = kl_weight / (n * prior_variance)
    options: dict[str, Any] = {"damping": damping, "kl_clip": kl_clip, "seed": seed}
    part = getattr(data, measured_on)
    if method in OPTIMIZERS:
        options |= {"kl_weight": kl_weight, "prior_variance": prior_variance}
        if method == "Bayes by backprop":  # has no Fisher matrix to damp or to average
            del options["damping"]
        else:
            options |= {"decay": decay, "update_statistics_every": w.statistics_every}
        options |= {"update_basis_every": BASIS_EVERY} if method in KRONECKER else {}
        optimizer = OPTIMIZERS[method](model, n, lr, **options)
        begun = time.process_time()
        sample_and_step(model, optimizer, data.train, epochs, w.batch_size, seed, steps)
        spent = time.process_time() - begun
        logits = optimizer.predict(part.x, particles, seed)
    else:
        if method == "SGD":
            optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=shrink)
        else:
            options |= {"weight_decay": shrink, "decay": "l2", "factor_decay": decay}
            options |= {"update_factors_every": w.statistics_every}
            options |= {"update_inverses_every": w.statistics_every * BASIS_EVERY}
            optimizer = KFAC(model, lr, **options)
        begun = time.process_time()
        descend(model, optimizer, data, epochs, w.batch_size, seed, steps)
        spent = time.process_time() - begun
        model.eval()
        with torch.no_grad():
            logits = model(part.x)[None]
    return classification_metrics(logits, part.y) | {"cpu_seconds": spent, "source": data.source}


def falls(epochs: int) -> tuple[int, int]:
    """The epochs before which the learning rate falls by ten: half and three quarters of them, rounded up."""
    return -(-epochs // 2), -(-3 * epochs // 4)


def sample_and_step(
    model: nn.Module, optimizer: NoisyOptimizer, train: Split, epochs: int, batch_size: int, seed: int, steps: int
) -> None:
    """Noisy training on minibatches without replacement, the remainder left out; the same batches as ``fit``'s."""
    generator, done = torch.Generator("cpu").manual_seed(seed), 0
    model.train()
    for epoch in range(epochs):
        if epoch in falls(epochs):
            optimizer.lr /= 10
        order = torch.randperm(len(train.y), generator=generator, device="cpu").to(train.y.device)
        for index in order.split(batch_size):
            if len(index) < batch_size or done == steps:
                continue
            with optimizer.sample():
                cross_entropy(model(train.x[index]), train.y[index]).backward()
            optimizer.step()
            done += 1


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Dataset,
    epochs: int,
    batch_size: int,
    seed: int,
    steps: int,
) -> None:
    """Training without noise, with the same schedule."""
    per_epoch = len(data.train.y) // batch_size
    schedule = MultiStepLR(optimizer, [per_epoch * epoch for epoch in falls(epochs)], gamma=0.1)
    steps = min(steps, per_epoch * epochs)
    fit(
        model,
        data,
        optimizer,
        batch_size=batch_size,
        steps=steps,
        schedule=schedule,
        seed=seed,
        splits=(),
        progress=False,
    )


def covariances(correlation: float, n: int, noise: float, prior_variance: float) -> dict[str, Tensor]:
    """The covariance of each posterior at the Fisher matrix itself, and the exact one, each (2, 2).

    Args:
        correlation: Of the two inputs, in (-1, 1).
        n: Training examples, a multiple of 4.
        noise: Variance of the noise.
        prior_variance: Of each weight.
    """
    # n inputs whose second moment is [[1, c], [c, 1]] exactly.
    c = correlation
    z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64, device="cpu")
    L = torch.tensor([[1.0, 0.0], [c, math.sqrt(1 - c**2)]], dtype=torch.float64, device="cpu")
    x = (z @ L.T).repeat(n // 4, 1)
    exact = LinearGaussian(x, torch.zeros_like(x[:, 0]), noise, prior_variance).covariance
    found = {"Exact": exact}
    for name, kind in FISHERS.items():
        q = kind(torch.zeros(1, 2, dtype=x.dtype, device="cpu"), n, prior_variance, decay=0.0)
        q.observe(Rows(x, torch.full_like(x[:, :1], noise**-0.5)))
        found[name] = q.covariance()
    return found


def gap(covariance: Tensor, exact: Tensor) -> float:
    """KL[N(0, covariance) || N(0, exact)], in nats; below 0 is rounding."""
    zero = torch.zeros_like(exact[0])
    return max(0.0, float(gaussian_kl(zero, covariance, zero, exact)))

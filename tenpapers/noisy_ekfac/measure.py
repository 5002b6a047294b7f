"""What one run is: train by one method on images or on the splits of a regression set, and measure what it predicts.

``classify`` and ``regress`` are the cells of the tables; ``covariances`` and ``gap`` say how far the posteriors of two
weights are from the exact one. Paper: arXiv 1811.12565, section 5. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import MultiStepLR

from nnlib import training
from nnlib.bayes import GammaGaussian, LinearGaussian, classification_metrics, gaussian_kl, regression_metrics
from nnlib.curvature import KFAC
from nnlib.noisy_ekfac import OPTIMIZERS, Diagonal, EigenvalueCorrected, MatrixVariate, Rows
from nnlib.noisy_ekfac.optimizer import NoisyOptimizer
from nnlib.noisy_ekfac.posterior import Posterior
from nnlib.training import Dataset, Split, fit
from tenpapers.data import load
from tenpapers.noisy_ekfac.copies import forward, normal, train
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
    model = w.build(seed=seed, dtype=getattr(torch, dtype), device=where)
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


def regress(
    data: str,
    method: str,
    splits: Sequence[int] = (0,),
    *,
    update_basis_every: int | None = None,
    damping_kind: str | None = None,
    on_basis_change: str | None = None,
    test_particles: int = 100,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    **settings: Any,
) -> list[dict[str, Any]]:
    """Train one network for each split of a regression set and measure it on the split's test part.

    Args:
        data: Name of a regression set of :func:`tenpapers.data.load`.
        method: A key of ``METHODS``.
        splits: Standard splits, trained together.
        update_basis_every: An option of the posterior, for noisy K-FAC and noisy EK-FAC.
        damping_kind: An option of the posterior, for noisy K-FAC.
        on_basis_change: An option of the posterior, for noisy EK-FAC.
        test_particles: Weight samples for the prediction.
        seed: Of initialisation, order, weights and targets.
        dtype: ``float32`` or ``float64``.
        device: Where to train.
        settings: Of :func:`tenpapers.noisy_ekfac.copies.train`: ``epochs``, ``lr``, ``kl_weight``, ...

    Returns:
        A row for each split: ``split``, the metrics of :func:`nnlib.bayes.regression_metrics` on the test part,
        ``noise`` (standard deviation, in units of the targets), ``kl``, ``cpu_seconds`` of a split, and
        the options of the posterior, ``damping_kind`` as it was where none was asked for.

    Raises:
        ValueError: for an unknown method, or numbers out of range.
        ArithmeticError: where training diverges.

    Source: arXiv 1811.12565, section 5.1. Chapter: ``book/noisy_ekfac.ipynb``.

    >>> row = regress("diabetes", "Noisy EK-FAC", epochs=4, batch_size=50)[0]
    >>> 40 < row["rmse"] < 80
    True
    """
    begun = time.process_time()
    if not splits or test_particles < 1:
        raise ValueError("at least one split and one particle are needed")
    sets = [load(data, split=split) for split in splits]
    to = {"device": training.device(device), "dtype": getattr(torch, dtype)}
    x, y = (torch.stack([getattr(s.train, part) for s in sets]).to(**to) for part in ("x", "y"))
    asked = {"update_basis_every": update_basis_every, "damping_kind": damping_kind, "on_basis_change": on_basis_change}
    options = {name: value for name, value in asked.items() if value is not None}
    layers, head = train(x, y, method, seed=seed, **options, **settings)
    rows = _predicted(sets, splits, layers, head, test_particles, seed)
    usual = {"Noisy K-FAC": "factored", "Noisy EK-FAC": "exact"}.get(method)
    spent = {"cpu_seconds": (time.process_time() - begun) / len(rows)}
    return [row | spent | asked | {"damping_kind": damping_kind or usual} for row in rows]


@torch.no_grad()
def _predicted(
    sets: Sequence[Dataset],
    splits: Sequence[int],
    layers: Sequence[Posterior],
    head: GammaGaussian,
    particles: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Metrics of each split's network on its test part, from sampled weights and sampled precisions of the noise."""
    like = layers[0].mean
    generator = torch.Generator(like.device).manual_seed(seed + 1)
    weights = [q.sample(normal((particles, *q.mean.shape), generator, like)) for q in layers]
    outputs = forward(torch.stack([s.test.x for s in sets]).to(like), weights)[0]  # (P, R, m, 1)
    precisions = head.precisions(particles, generator)  # (P, R)
    kl = torch.stack([q.kl() for q in layers]).sum(0)  # (R,)
    rows = []
    for r, data in enumerate(sets):
        scale = data.info["y_scale"]
        metrics = regression_metrics(outputs[:, r], data.test.y.to(like), precisions[:, r], scale)
        noise = scale * float((head.rate[r] / head.shape).sqrt())
        rows.append({"split": splits[r]} | metrics | {"noise": noise, "kl": float(kl[r])})
    return rows


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

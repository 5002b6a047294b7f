"""How do the four posteriors predict on small regression sets? All splits of a set trained together, particles too.

The copies are a leading dimension of every tensor, so that ten small networks cost little more time than one. The
updates are those of :mod:`nnlib.noisy_ekfac.posteriors`; the backward pass of the two-layer network is written out.
Paper: arXiv 1811.12565, section 5.1. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nnlib.bayes import regression_metrics
from nnlib.bayes.likelihoods import gamma_quantile
from nnlib.noisy_ekfac.posteriors import METHODS, Posterior
from nnlib.noisy_ekfac.statistics import Rows
from tenpapers.data import load

PRIOR = 6.0  # shape and rate of the Gamma prior of the noise precision


def forward(x: Tensor, layers: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Outputs (P, R, n, 1) of ReLU networks and each layer's inputs, a column of ones last.

    Args:
        x: (R, n, d).
        layers: Joint weights (P, R, out, in + 1).
    """
    inputs, h = [], x.expand(len(layers[0]), *x.shape)
    for i, W in enumerate(layers):
        h = torch.cat([h.relu() if i else h, h.new_ones(*h.shape[:-1], 1)], -1)
        inputs.append(h)
        h = h @ W.mT
    return h, inputs


def backward(ds: Tensor, layers: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Gradients at each layer's outputs, from those at the last, (P, R, n, 1)."""
    found = [ds]
    for W, h in zip(reversed(layers[1:]), reversed(inputs[1:]), strict=True):
        found.append((found[-1] @ W)[..., :-1] * (h[..., :-1] > 0))
    return found[::-1]


def flat(t: Tensor) -> Tensor:
    """(P, R, n, k) -> (R, P n, k)."""
    return t.transpose(0, 1).flatten(1, 2)


def start(method: str, sizes: Sequence[int], copies: int, seed: int, like: Tensor, **options: Any) -> list[Posterior]:
    """Glorot's uniform means, biases zero, one posterior a layer over all copies."""
    generator = torch.Generator("cpu").manual_seed(seed)
    layers = []
    for n_in, n_out in pairwise(sizes):
        W = 2 * torch.rand(copies, n_out, n_in, generator=generator, dtype=torch.float64, device="cpu") - 1
        W = torch.cat([W * (6 / (n_in + n_out)) ** 0.5, torch.zeros_like(W[..., :1])], -1)
        layers.append(METHODS[method](W.to(like), **options))
    return layers


def fit_regression(
    data: str,
    method: str,
    splits: Sequence[int] = (0,),
    *,
    epochs: int = 40,
    batch_size: int = 10,
    particles: int = 10,
    test_particles: int = 100,
    hidden: int = 50,
    lr: float = 0.01,
    kl_weight: float = 1.0,
    prior_variance: float = 1.0,
    momentum: float = 0.9,
    decay: float = 0.99,
    every: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    **options: Any,
) -> list[dict[str, Any]]:
    """Train one network for each split and measure it on the split's test part.

    The learning rate is divided by ten at half of the epochs. The noise has an unknown precision with a Gamma(6, 6)
    prior, one for each split. The Fisher matrix is that of targets drawn by the model, for every particle and example.

    Args:
        data: Name of a regression set of :func:`tenpapers.data.load`.
        method: A key of ``METHODS``.
        splits: Standard splits, trained together.
        epochs: At least 2.
        batch_size: Examples a step, of each split.
        particles: Weight samples a step.
        test_particles: Weight samples for the prediction.
        hidden: Units of the one hidden layer.
        lr: Learning rate; for Bayes by backprop, Adam's.
        kl_weight: Factor on the KL term.
        prior_variance: Of the weights.
        momentum: In [0, 1).
        decay: Of the running averages of Fisher statistics and of the noise.
        every: Steps between two updates of the statistics.
        seed: Of initialisation, order, weights and targets.
        dtype: Of everything.
        device: Where to train.
        options: For the posteriors, as ``damping_kind`` and ``on_basis_change``.

    Returns:
        A row for each split: ``split``, the metrics of :func:`nnlib.bayes.regression_metrics` on the test part,
        ``noise`` (standard deviation, in units of the targets), ``kl``.

    Raises:
        ValueError: for an unknown method, or numbers out of range.
        ArithmeticError: where training diverges.

    Source: arXiv 1811.12565, section 5.1. Chapter: ``book/noisy_ekfac.ipynb``.

    >>> row = fit_regression("diabetes", "Noisy EK-FAC", epochs=4, batch_size=50)[0]
    >>> 40 < row["rmse"] < 80
    True
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}: got {method!r}")
    if epochs < 2 or min(batch_size, particles, test_particles, hidden, every) < 1 or not splits:
        raise ValueError("at least two epochs, one split, and positive sizes are needed")
    sets = [load(data, split=split) for split in splits]
    x, y = (torch.stack([getattr(s.train, part) for s in sets]).to(device, dtype) for part in ("x", "y"))
    R, n, d = x.shape  # y: (R, n, 1)
    if batch_size > n:
        raise ValueError(f"batch_size must be at most the {n} training examples: got {batch_size}")
    common = {"n_data": n, "kl_weight": kl_weight, "prior_variance": prior_variance, "decay": decay}
    layers = start(method, [d, hidden, 1], R, seed, x, **common, **options)
    generator = torch.Generator(x.device).manual_seed(seed)
    shape, rate = PRIOR + n / 2, x.new_full((R, 1, 1), PRIOR + n / 2)
    step = 0
    for epoch in range(epochs):
        order = torch.rand(R, n, generator=generator, device=x.device).argsort(1)
        rate_of = lr * (0.1 if epoch >= epochs / 2 else 1.0)
        for index in order.split(batch_size, 1):
            if index.shape[1] < batch_size:
                continue
            xb, yb = (t.gather(1, index[..., None].expand(-1, -1, t.shape[2])) for t in (x, y))
            noise = [_normal((particles, *q.mean.shape), generator, x) for q in layers]
            weights = [q.sample(e) for q, e in zip(layers, noise, strict=True)]
            f, inputs = forward(xb, weights)
            precision = shape / rate  # (R, 1, 1)
            rate = rate.lerp(PRIOR + n * (f - yb).square().mean((0, 2), keepdim=True)[0] / 2, 1 - decay)
            if step % every == 0 and method != "Bayes by backprop":
                drawn = backward(_normal(f.shape, generator, x) * precision.sqrt(), weights, inputs)
                for q, h, ds in zip(layers, inputs, drawn, strict=True):
                    q.observe(Rows(flat(h), flat(ds)))
            found = backward(precision * (f - yb), weights, inputs)
            for q, h, ds, W, e in zip(layers, inputs, found, weights, noise, strict=True):
                gradient = ds.mT @ h / batch_size  # (P, R, out, in)
                move = q.propose(gradient, W, e, lr=rate_of, damping_ex=0.0, momentum=momentum)[0]
                q.mean = q.mean + move
            step += 1
        if not math.isfinite(rate.sum().item()):
            raise ArithmeticError(f"{method} on {data} diverged in epoch {epoch}: lower lr")
    return _measure(sets, splits, layers, shape, rate, test_particles, seed)


@torch.no_grad()
def _measure(sets, splits, layers, shape, rate, particles, seed) -> list[dict[str, Any]]:
    like = layers[0].mean
    generator = torch.Generator(like.device).manual_seed(seed + 1)
    weights = [q.sample(_normal((particles, *q.mean.shape), generator, like)) for q in layers]
    x = torch.stack([s.test.x for s in sets]).to(like)
    outputs = forward(x, weights)[0]  # (P, R, m, 1)
    u = torch.rand(particles, generator=generator, dtype=torch.float64, device=like.device)
    draws = gamma_quantile(u, shape).to(like)
    kl = sum(q.kl() for q in layers)
    rows = []
    for r, data in enumerate(sets):
        scale = data.info["y_scale"]
        y, precision = data.test.y.to(like), draws / rate[r, 0, 0]
        metrics = regression_metrics(outputs[:, r], y, precision, scale)
        noise = scale * float((rate[r, 0, 0] / shape).sqrt())
        rows.append({"split": splits[r]} | metrics | {"noise": noise, "kl": float(kl[r])})
    return rows


def _normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def measure(data: str, method: str, splits: Sequence[int], **options: Any) -> list[dict[str, Any]]:
    """:func:`fit_regression` for :func:`tenpapers.runs.sweep`, with the CPU time of a split beside."""
    begun = time.process_time()
    rows = fit_regression(data, method, splits, **options)
    spent = (time.process_time() - begun) / len(rows)
    return [row | {"cpu_seconds": spent} for row in rows]

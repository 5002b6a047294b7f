"""Small regression networks, one a split, trained side by side: particles and splits are dimensions of every tensor.

So twenty small networks cost little more time than one. The updates are those of :mod:`nnlib.noisy_ekfac`; the backward
pass is written out, because each forward pass needs two of it: from the targets, and from targets that the model draws.
Paper: arXiv 1811.12565, section 5.1. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nnlib.arguments import whole, within
from nnlib.bayes import GammaGaussian
from nnlib.noisy_ekfac import EigenvalueCorrected, Rows
from nnlib.noisy_ekfac.natural import FisherPosterior
from nnlib.noisy_ekfac.posterior import Posterior
from tenpapers.noisy_ekfac.released import POSTERIORS

DIVERGED = 1e6  # variance of the noise, where targets have variance 1


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


def start(method: str, sizes: Sequence[int], copies: int, seed: int, like: Tensor, **options: Any) -> list[Posterior]:
    """Glorot's uniform means, biases zero, one posterior a layer over all copies."""
    generator = torch.Generator("cpu").manual_seed(seed)
    layers = []
    for n_in, n_out in pairwise(sizes):
        W = 2 * torch.rand(copies, n_out, n_in, generator=generator, dtype=torch.float64, device="cpu") - 1
        W = torch.cat([W * (6 / (n_in + n_out)) ** 0.5, torch.zeros_like(W[..., :1])], -1)
        layers.append(POSTERIORS[method](W.to(like), **options))
    return layers


def train(
    x: Tensor,
    y: Tensor,
    method: str,
    *,
    epochs: int = 40,
    batch_size: int = 10,
    particles: int = 10,
    hidden: int = 50,
    lr: float = 0.01,
    momentum: float = 0.9,
    decay: float = 0.99,
    statistics_every: int = 1,
    decays_fall: bool = False,
    seed: int = 0,
    **options: Any,
) -> tuple[list[Posterior], GammaGaussian]:
    """Train one network of one hidden layer for each split, its noise with it.

    The learning rate is divided by ten at half of the epochs. The noise has an unknown precision with a Gamma(6, 6)
    prior, one for each split. The Fisher matrix is that of targets drawn by the model, for every particle and example.

    Args:
        x: (R, n, d).
        y: (R, n, 1).
        method: A key of ``POSTERIORS``.
        epochs: At least 2.
        batch_size: Examples a step, of each split.
        particles: Weight samples a step.
        hidden: Units of the hidden layer.
        lr: Learning rate; for Bayes by backprop, Adam's.
        momentum: In [0, 1).
        decay: Of the running averages of Fisher statistics and of the noise.
        statistics_every: Steps between two updates of the statistics.
        decays_fall: Whether the Fisher statistics, too, move ten times more slowly in the second half, as the paper's.
        seed: Of initialisation, order, weights and targets.
        options: Of the posteriors: ``prior_variance``, ``kl_weight``, ...

    Returns:
        The posterior of each layer, and the noise.

    Raises:
        ValueError: for an unknown method, or numbers out of range.
        ArithmeticError: where training diverges: outputs are not finite, or a thousand times as far off as the mean.
    """
    if method not in POSTERIORS:
        raise ValueError(f"method must be one of {', '.join(POSTERIORS)}: got {method!r}")
    whole(2, epochs=epochs)
    whole(1, batch_size=batch_size, particles=particles, hidden=hidden, statistics_every=statistics_every)
    within("(0, inf)", lr=lr)
    within("[0, 1)", momentum=momentum)
    R, n, d = x.shape
    if batch_size > n:
        raise ValueError(f"batch_size must be at most the {n} training examples: got {batch_size}")
    layers = start(method, [d, hidden, 1], R, seed, x, n_data=n, decay=decay, **options)
    head = GammaGaussian(n, copies=(R,), decay=decay, device=x.device, dtype=x.dtype)
    generator, step = torch.Generator(x.device).manual_seed(seed), 0
    for epoch in range(epochs):
        rate = lr * (0.1 if epoch >= epochs / 2 else 1.0)
        if decays_fall and epoch == (epochs + 1) // 2:
            slow_down(layers)
        for xb, yb in batches(x, y, batch_size, generator):
            noise = [normal((particles, *q.mean.shape), generator, x) for q in layers]
            weights = [q.sample(e) for q, e in zip(layers, noise, strict=True)]
            f, inputs = forward(xb, weights)
            if not bool(f.isfinite().all()):
                raise ArithmeticError(f"{method} diverged in epoch {epoch}: lower lr")
            precision = head.precision[:, None, None]
            head.observe(f, yb)
            if step % statistics_every == 0 and isinstance(layers[0], FisherPosterior):
                drawn = backward(normal(f.shape, generator, x) * precision.sqrt(), weights, inputs)
                for q, h, ds in zip(layers, inputs, drawn, strict=True):
                    q.observe(Rows(flat(h), flat(ds)))
            found = backward(precision * (f - yb), weights, inputs)
            for q, h, ds, W, e in zip(layers, inputs, found, weights, noise, strict=True):
                gradient = ds.mT @ h / batch_size  # (P, R, out, in)
                q.mean = q.mean + q.propose(gradient, W, e, lr=rate, damping_ex=0.0, momentum=momentum)[0]
            step += 1
        if not head.rate.max().item() / head.shape < DIVERGED:
            raise ArithmeticError(f"{method} diverged in epoch {epoch}: lower lr")
    return layers, head


def slow_down(layers: Sequence[Posterior]) -> None:
    """Divide by ten how far a batch moves the running averages of the Fisher statistics."""
    for q in layers:
        q.decay = 0.9 + 0.1 * q.decay
        if isinstance(q, EigenvalueCorrected) and q.scale_decay is not None:
            q.scale_decay = 0.9 + 0.1 * q.scale_decay


def batches(x: Tensor, y: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches of one pass, (R, batch_size, ...), each split in an order of its own; the remainder is left out."""
    order = torch.rand(x.shape[:2], generator=generator, device=x.device).argsort(1)
    for index in order.split(batch_size, 1):
        if index.shape[1] == batch_size:
            rows = index[..., None]
            yield x.gather(1, rows.expand(-1, -1, x.shape[2])), y.gather(1, rows.expand(-1, -1, y.shape[2]))


def flat(t: Tensor) -> Tensor:
    """(P, R, n, k) -> (R, P n, k)."""
    return t.transpose(0, 1).flatten(1, 2)


def normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers of the generator."""
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)

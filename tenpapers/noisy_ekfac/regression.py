"""What one run on a regression set is: train a network for each standard split, measure predictions and the bound.

``regress`` is a cell of the tables. Paper: arXiv 1811.12565, section 5.1. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnlib import training
from nnlib.bayes import GammaGaussian, regression_metrics
from nnlib.bayes.metrics import log_likelihood
from nnlib.noisy_ekfac.posterior import Posterior
from tenpapers.data import load
from tenpapers.noisy_ekfac.copies import forward, normal, train

Pair = tuple[Tensor, Tensor]


def regress(
    data: str,
    method: str,
    splits: Sequence[int] = (0,),
    *,
    update_basis_every: int | None = None,
    damping_kind: str | None = None,
    on_basis_change: str | None = None,
    scale_decay: float | None = None,
    held_out: float = 0.0,
    test_particles: int = 100,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    **settings: Any,
) -> list[dict[str, Any]]:
    """Train one network for each split of a regression set and measure it on the split's test part.

    Args:
        data: Name of a regression set of :func:`tenpapers.data.load`.
        method: A key of ``POSTERIORS``.
        splits: Standard splits, trained together.
        update_basis_every: An option of the posterior, for noisy K-FAC and noisy EK-FAC.
        damping_kind: An option of the posterior, for noisy K-FAC.
        on_basis_change: An option of the posterior, for noisy EK-FAC.
        scale_decay: An option of the posterior, for noisy EK-FAC.
        held_out: Share of the training part that is kept for validation, in [0, 1).
        test_particles: Weight samples for the prediction.
        seed: Of initialisation, order, weights, targets, and what is held out.
        dtype: ``float32`` or ``float64``.
        device: Where to train.
        settings: Of :func:`tenpapers.noisy_ekfac.copies.train`: ``epochs``, ``lr``, ``kl_weight``, ...

    Returns:
        A row for each split: ``split``, the metrics of :func:`nnlib.bayes.regression_metrics` on the test part,
        ``validation`` (log likelihood of what was held out; None where nothing was), ``noise`` (standard deviation, in
        units of the targets), ``kl`` of the weights, ``elbo`` (evidence lower bound at a KL weight of 1, in nats an
        example of standardised targets), ``cpu_seconds`` of a split, and the options of the posterior,
        ``damping_kind`` as it was where none was asked for.

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
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out must be in [0, 1): got {held_out}")
    sets = [load(data, split=split) for split in splits]
    to = {"device": training.device(device), "dtype": getattr(torch, dtype)}
    x, y = (torch.stack([getattr(s.train, part) for s in sets]).to(**to) for part in ("x", "y"))
    kept, validation = divided(x, y, held_out, seed)
    asked = {"update_basis_every": update_basis_every, "damping_kind": damping_kind, "on_basis_change": on_basis_change}
    asked["scale_decay"] = scale_decay
    options = {name: value for name, value in asked.items() if value is not None}
    layers, head = train(*kept, method, seed=seed, **options, **settings)
    test = torch.stack([s.test.x for s in sets]).to(**to), torch.stack([s.test.y for s in sets]).to(**to)
    predicted = _Predictions(layers, head, test_particles, seed)
    scales = [s.info["y_scale"] for s in sets]
    rows = [{"split": split} | metrics for split, metrics in zip(splits, predicted.metrics(test, scales), strict=True)]
    spoken = predicted.likelihoods(validation, scales) if held_out else [None] * len(rows)
    kl, elbo = torch.stack([q.kl() for q in layers]).sum(0), predicted.elbo(kept)  # (R,)
    noise = (head.rate / head.shape).sqrt()
    spent = {"cpu_seconds": (time.process_time() - begun) / len(rows)}
    usual = {"Noisy K-FAC": "factored", "Noisy EK-FAC": "exact"}.get(method)
    named = spent | asked | {"damping_kind": damping_kind or usual}
    for r, row in enumerate(rows):
        row |= {"validation": spoken[r], "noise": scales[r] * float(noise[r]), "kl": float(kl[r])}
        row |= {"elbo": float(elbo[r])} | named
    return rows


def divided(x: Tensor, y: Tensor, share: float, seed: int) -> tuple[Pair, Pair]:
    """Examples to train on and examples held out, ((R, n, d), (R, n, 1)) each, the same rows of every split's part."""
    order = torch.randperm(x.shape[1], generator=torch.Generator("cpu").manual_seed(seed), device="cpu").to(x.device)
    if not share:
        return (x, y), (x[:, :0], y[:, :0])
    few = max(1, round(share * x.shape[1]))
    return (x[:, order[few:]], y[:, order[few:]]), (x[:, order[:few]], y[:, order[:few]])


class _Predictions:
    """Sampled weights and sampled precisions of the noise of every split's network, and what follows from them."""

    @torch.no_grad()
    def __init__(self, layers: Sequence[Posterior], head: GammaGaussian, particles: int, seed: int):
        like = layers[0].mean
        generator = torch.Generator(like.device).manual_seed(seed + 1)
        self.layers, self.head = layers, head
        self.weights = [q.sample(normal((particles, *q.mean.shape), generator, like)) for q in layers]
        self.precisions = head.precisions(particles, generator)  # (P, R)

    def metrics(self, part: Pair, scales: Sequence[float]) -> list[dict[str, float]]:
        """Metrics of each split on a part, (R, m, d) and (R, m, 1)."""
        f = forward(part[0], self.weights)[0]  # (P, R, m, 1)
        return [
            regression_metrics(f[:, r], y, self.precisions[:, r], scale)
            for r, (y, scale) in enumerate(zip(part[1], scales, strict=True))
        ]

    def likelihoods(self, part: Pair, scales: Sequence[float]) -> list[float]:
        """Log likelihood of each split on a part."""
        f = forward(part[0], self.weights)[0]
        return [
            float(log_likelihood(f[:, r], y, self.precisions[:, r], scale))
            for r, (y, scale) in enumerate(zip(part[1], scales, strict=True))
        ]

    def elbo(self, part: Pair) -> Tensor:
        """(E_q log p(D | w, noise) - KL[weights] - KL[noise]) / n of each split, (R,), on what it was trained on."""
        told = self.head.log_prob(forward(part[0], self.weights)[0], part[1]).mean(0).sum(-1)  # (P, R, n) -> (R,)
        kl = torch.stack([q.kl() for q in self.layers]).sum(0) + self.head.kl()
        return (told - kl) / part[1].shape[1]

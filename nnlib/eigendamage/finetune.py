"""What does training do for a pruned network? Fine-tuning, new batch statistics, and pruning in several rounds.

Paper: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.eigendamage.prune import Pruned, prune
from nnlib.modes import evaluating
from nnlib.training import Dataset, fit


def train(
    model: nn.Module,
    data: Dataset,
    *,
    epochs: int,
    lr: float,
    batch_size: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    seed: int = 0,
) -> nn.Module:
    """SGD with momentum whose learning rate falls to a tenth after half and again after three quarters of the epochs.

    All parameters are trained, the rotations of a bottleneck among them.

    Args:
        model: Trained in place.
        data: Its training split is used.
        epochs: Total number, not negative.
        lr: At the start; the paper fine-tunes from 1e-3.
        batch_size: B.
        momentum: Of SGD.
        weight_decay: Of SGD.
        seed: Of the permutations.

    Returns:
        ``model``, in training mode.

    Source: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    steps = epochs * (len(data.train.y) // batch_size)
    ends = [steps // 2, steps * 3 // 4, steps]
    for part, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.1**part
        options = {"steps": end - start, "batch_size": batch_size, "splits": (), "seed": 3 * seed + part}
        fit(model, data, optimizer, progress=False, **options)
    return model


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, x: Tensor, batch_size: int = 128) -> nn.Module:
    """Measure all running means and variances anew, by one pass over ``x``, every batch counting the same.

    Args:
        model: Changed in place; nothing but its batch statistics.
        x: Training inputs, (B, ...).
        batch_size: Examples in one pass; a remainder is left out.

    Returns:
        ``model``, every layer in the mode that it was in.

    Source: arXiv 1905.05934, in the authors' code. Chapter: ``book/eigendamage.ipynb``.
    """
    found = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    momenta = {layer: layer.momentum for layer in found}
    with evaluating(model):
        for norm in found:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over the batches
            norm.train()
        size = min(batch_size, len(x))
        for start in range(0, len(x) - size + 1, size):
            model(x[start : start + size])
    for norm in found:
        norm.momentum = momenta[norm]
    return model


def prune_iteratively(
    model: nn.Module,
    x: Tensor,
    rounds: int,
    finetune: Callable[[nn.Module], Any],
    method: str = "EigenDamage",
    ratio: float = 0.5,
    *,
    cap: float = 0.5,
    **options: Any,
) -> list[Pruned]:
    """Prune, fine-tune, and again. Bottlenecks are pruned in their cores and their bases merged: depth stays.

    Args:
        model: Left as it is.
        x: Inputs on which curvature is measured, (B, ...).
        rounds: Number of rounds, at least 1.
        finetune: Called with the pruned model after each round; trains it in place.
        method: One of ``METHODS``.
        ratio: Share of what is left that goes in each round.
        cap: Largest share of a layer in a round.
        options: More arguments of :func:`prune`.

    Returns:
        What each round left, fine-tuned.

    Source: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1: got {rounds}")
    results: list[Pruned] = []
    for _ in range(rounds):
        results.append(prune(results[-1].model if results else model, x, method, ratio, cap=cap, **options))
        finetune(results[-1].model)
    return results

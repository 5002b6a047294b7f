"""What does training do for a pruned network? Fine-tuning, new batch statistics, and pruning in several rounds.

Paper: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import examples, function, passing, real, typed, whole, within
from nnlib.eigendamage.prune import Pruned, prune
from nnlib.modes import evaluating
from nnlib.training import Dataset, fit


@typed
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

    Raises:
        NonFiniteLoss: where the loss is infinite or not a number.
        TypeError: for an argument of another class.
        ValueError: for a number out of range.

    Source: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
    """
    whole(0, epochs=epochs)
    whole(1, len(data.train.y), batch_size=batch_size)
    whole(0, 2**61, seed=seed)
    within("[0, inf)", lr=lr, weight_decay=weight_decay)
    within("[0, 1)", momentum=momentum)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    steps = epochs * (len(data.train.y) // batch_size)
    ends = [steps // 2, steps * 3 // 4, steps]
    for part, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.1**part
        options = {"steps": end - start, "batch_size": batch_size, "splits": (), "seed": 3 * seed + part}
        fit(model, data, optimizer, progress=False, **options)
    return model


@typed
@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, x: Tensor, batch_size: int = 128) -> nn.Module:
    """Measure all running means and variances anew, by one pass over ``x``, every batch counting the same.

    Args:
        model: Changed in place; nothing but its batch statistics.
        x: Training inputs, (B, ...).
        batch_size: Examples in one pass; a remainder is left out.

    Returns:
        ``model``, every layer in the mode that it was in.

    Raises:
        TypeError: for what is no model, or no tensor.
        ValueError: for inputs without an example, that are not finite, or that the model does not take: its statistics
            then are what they were.

    Source: arXiv 1905.05934, in the authors' code. Chapter: ``book/eigendamage.ipynb``.
    """
    examples(x)
    if x.is_floating_point():
        real("B ...", x=x)
    whole(1, batch_size=batch_size)
    found = [layer for layer in model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    before = {norm: (norm.momentum, copy.deepcopy(dict(norm.named_buffers()))) for norm in found}
    try:
        with evaluating(model), passing(x=x):
            for norm in found:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over the batches
                norm.train()
            size = min(batch_size, len(x))
            for start in range(0, len(x) - size + 1, size):
                model(x[start : start + size])
    except ValueError:
        for norm, (_, buffers) in before.items():
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
        raise
    finally:
        for norm, (momentum, _) in before.items():
            norm.momentum = momentum
    return model


@typed
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

    Raises:
        TypeError: for an argument of another class.
        ValueError: for a number out of range, or what :func:`prune` refuses.

    Source: arXiv 1905.05934, section 5. Chapter: ``book/eigendamage.ipynb``.
    """
    whole(1, rounds=rounds)
    function(finetune=finetune)
    results: list[Pruned] = []
    for _ in range(rounds):
        results.append(prune(results[-1].model if results else model, x, method, ratio, cap=cap, **options))
        finetune(results[-1].model)
    return results

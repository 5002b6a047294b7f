"""One training run with all that the chapter measures: norms of the weights, of the Jacobian, and of the curvature.

``train`` adds learning-rate drops and the norm transfer to :func:`nnlib.training.fit`; ``measure`` is one run of the
recorded tables, ``correlate`` of many of them.
Paper: arXiv 1810.12281, sections 3 and 4. Chapter: ``book/weight_decay.ipynb``.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from nnlib import training
from nnlib.curvature import NonFiniteGradient, NotPositiveDefinite, jacobian_norm, kfac_norm
from nnlib.modes import NonFiniteLoss
from nnlib.training import Dataset, History, evaluate, fit
from nnlib.weight_decay.invariance import set_norms_, weight_norms
from nnlib.weight_decay.optimizers import FISHER, decayed_layers, make_optimizer
from tenpapers.weight_decay.workloads import SIZES, build, prepared

DIVERGED = (NonFiniteLoss, NonFiniteGradient, NotPositiveDefinite)
OFTEN = {"update_factors_every": 10, "update_inverses_every": 20}  # the paper's 100 is a third of our runs
MEASURED = ("train_loss", "train_accuracy", "validation_accuracy", "test_loss", "test_accuracy", "norm", "last_norm")
MEASURED += ("jacobian", "kfac_norm")


class Drops(LRScheduler):
    """The learning rate divided by 10 after each of these steps; times 0.1 would round otherwise.

    Args:
        optimizer: Any.
        steps: Numbers of steps, from 1.

    ``used`` is the rate of the step just taken.

    >>> optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.3)
    >>> schedule = Drops(optimizer, [2])
    >>> for step in (1, 2):
    ...     optimizer.step()
    ...     schedule.step()
    >>> schedule.used, optimizer.param_groups[0]["lr"]
    (0.3, 0.03)
    """

    def __init__(self, optimizer: torch.optim.Optimizer, steps: Iterable[int]):
        self.steps, self.used = list(steps), optimizer.param_groups[0]["lr"]
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        """The rates of the next step."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.used = rates[0]
        return [rate / 10 for rate in rates] if self.last_epoch in self.steps else rates


def train(
    model: nn.Module,
    data: Dataset,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    batch_size: int,
    drops: Sequence[int] = (),
    norms: Mapping[int, Mapping[str, float]] | None = None,
    watch: Callable[[nn.Module], dict[str, float]] = weight_norms,
    splits: Sequence[str] = ("train", "validation"),
    look: Iterable[int] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 1000,
) -> History:
    """Train, lower the learning rate at the drops, and look at the model after epochs.

    Args:
        model: Trained in place.
        data: Train on ``data.train``.
        optimizer: Its learning rate changes at the drops.
        epochs: Number of passes, at least 1.
        batch_size: Examples a step.
        drops: Epochs after which the learning rate is divided by 10.
        norms: For each epoch, from 1, lengths |W| given to layers after it (not after the last): the norm transfer.
        watch: Given the model, returns numbers that become columns of the history.
        splits: Which splits to measure there, at least one.
        look: Epochs after which to look, 0 being before the first; by default, and with ``norms``, all.
        seed: Of the order of the examples.
        device: Where to train; by default where the model is.
        checkpoint: File to go on from, as in :func:`nnlib.training.fit`.
        checkpoint_every: Steps between two saves.

    Returns:
        The history; its rows have what ``watch`` returned and ``epoch`` and ``lr``, the learning rate of the epoch that
        has just ended, beside the columns of ``fit``.

    Raises:
        ValueError: for a drop outside the run, an epoch without norms, or no split.

    Source: arXiv 1810.12281, sections 3 and 4.1. Chapter: ``book/weight_decay.ipynb``.
    """
    per_epoch = len(data.train.y) // batch_size
    if not all(0 < drop < epochs for drop in drops):
        raise ValueError(f"drops must lie between 0 and {epochs} epochs, both excluded: got {list(drops)}")
    if norms is not None and (missing := set(range(1, epochs)) - set(norms)):
        raise ValueError(f"norms lack the epochs {sorted(missing)}")
    if not splits:
        raise ValueError("at least one split must be measured, or fit would not say which step it is")
    looked = range(epochs + 1) if look is None or norms is not None else look
    schedule = Drops(optimizer, [drop * per_epoch for drop in drops])

    def look_at(rows: list[dict[str, Any]]) -> bool:
        """Add what is seen to the history's own rows, so to the checkpoint too; give the norms; never end training."""
        epoch = rows[0]["step"] // per_epoch
        seen = {"epoch": epoch, "lr": schedule.used} | watch(model)
        for row in rows:
            row.update(seen)
        if norms is not None and 0 < epoch < epochs:
            set_norms_(model, norms[epoch])
        return False

    return fit(
        model,
        data,
        optimizer,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
        splits=splits,
        evaluate_at=[epoch * per_epoch for epoch in looked],
        stop=look_at,
        schedule=schedule,
        device=device,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=False,
    )


def measure(
    data: str,
    method: str,
    lr: float,
    decay: str = "none",
    weight_decay: float = 0.0,
    *,
    where: str = "all",
    batch_norm: bool = True,
    hidden: Sequence[int] | None = None,
    width: float | None = None,
    bias: bool = True,
    examples: int | None = None,
    epochs: int = 15,
    batch_size: int = 100,
    drops: Sequence[int] = (8, 12),
    norms_on: int = 200,
    seed: int = 0,
    dtype: str = "float64",
    device: str = "cpu",
    checkpoint: str | os.PathLike | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train one network and return what it is like in the end.

    Args:
        data: Name for :func:`tenpapers.data.load`; after commas one of the paper's networks and ``augmented``, as in
            ``cifar10, VGG16, augmented``.
        method: As in :func:`make_optimizer`, and so are ``lr``, ``decay``, ``weight_decay``, ``where``, ``options``.
        lr: Learning rate at the start.
        decay: Kind of decay.
        weight_decay: Its coefficient.
        where: Which layers decay.
        batch_norm: As in :func:`build`, and so are ``hidden``, ``width``, ``bias``.
        hidden: Units of the hidden layers of an MLP; by default a small CNN.
        width: Of the CNN or the paper's networks.
        bias: Whether an MLP has biases.
        examples: Number of training images; by default all.
        epochs: Passes over them.
        batch_size: Images a step.
        drops: Epochs after which the learning rate is divided by 10.
        norms_on: Number of test images for the norms of the function.
        seed: Of initialisation, order, augmentation and drawn targets.
        dtype: Of parameters and data, ``float32`` or ``float64``.
        device: Where to train.
        checkpoint: File to go on from.
        options: For the optimiser.

    Returns:
        ``train_loss, train_accuracy, validation_accuracy, test_loss, test_accuracy``; ``norm`` |W| of all hidden
        layers together, ``last_norm`` of the output layer, ``jacobian`` mean |df/dx|_F^2 and ``kfac_norm``, both on
        the first test images; ``diverged``, and then the rest is NaN.

    Source: arXiv 1810.12281, section 3. Chapter: ``book/weight_decay.ipynb``.

    >>> row = measure("digits", "SGD", 0.1, hidden=[16], epochs=2, drops=[])
    >>> row["test_accuracy"] > 0.5, row["diverged"]
    (True, False)
    """
    name, *more = data.split(", ")
    network, place = next(iter(more), ""), {"dtype": getattr(torch, dtype), "device": training.device(device)}
    images = prepared(name, examples, place["dtype"]).to(place["device"])
    shape = {"batch_norm": batch_norm, "hidden": hidden, "width": width, "bias": bias, "augmented": "augmented" in more}
    model = build(images, network, **shape, seed=seed, **place)
    if method in FISHER:
        options = OFTEN | {"seed": seed} | options
    optimizer = make_optimizer(model, method, lr, decay=decay, weight_decay=weight_decay, where=where, **options)
    settings = {"epochs": epochs, "batch_size": batch_size, "drops": drops, "seed": seed, "checkpoint": checkpoint}
    try:
        train(model, images, optimizer, look=[], **settings)
    except DIVERGED:
        return {name: float("nan") for name in MEASURED} | {"diverged": True}
    return final(model, images, norms_on) | {"diverged": False}


def final(model: nn.Module, data: Dataset, norms_on: int = 200) -> dict[str, float]:
    """All of ``MEASURED`` for a trained model, in evaluation mode; norms of the function on the first test images."""
    model.eval()
    train, validation, test = (evaluate(model, split) for split in (data.train, data.validation, data.test))
    norms, last = weight_norms(model), decayed_layers(model, "last")[0]
    hidden = sum(norm**2 for name, norm in norms.items() if name != last) ** 0.5
    x = data.test.x[:norms_on]
    return {
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        "validation_accuracy": validation["accuracy"],
        "test_loss": test["loss"],
        "test_accuracy": test["accuracy"],
        "norm": hidden,
        "last_norm": norms[last],
        "jacobian": float(jacobian_norm(model, x)),
        "kfac_norm": float(kfac_norm(model, x)),
    }


def correlate(
    seed: int,
    widths: Sequence[int] = (16, 32, 64, 128),
    depths: Sequence[int] = (1, 2, 3),
    data: str = "mnist",
    **sizes: Any,
) -> list[dict[str, Any]]:
    """Does the Jacobian norm go together with the K-FAC norm and the generalisation gap, over many networks?

    ReLU networks without biases and without BatchNorm, trained by SGD without decay and with decoupled decay.

    Args:
        seed: Of all networks.
        widths: Units of each hidden layer.
        depths: Numbers of hidden layers.
        data: As in :func:`measure`.
        sizes: ``examples, epochs, batch_size, drops`` as in :func:`measure`; by default ``SIZES``.

    Returns:
        One row for ``networks`` all, without decay and with decay: correlations of log |J|^2 with the log of the
        K-FAC norm, ``with_kfac_norm``, and with test loss less training loss, ``with_gap``.
    """
    shared = {"batch_norm": False, "bias": False, "seed": seed} | SIZES | sizes
    points = {}
    for name, kind in {"without decay": ("none", 0.0), "with decay": ("decoupled", 0.1)}.items():
        rows = [
            measure(data, "SGD", 0.03, *kind, hidden=(width,) * depth, **shared)
            for width, depth in product(widths, depths)
        ]
        logs = np.log([[row["jacobian"], row["kfac_norm"]] for row in rows])  # (networks, 2)
        points[name] = np.c_[logs, [row["test_loss"] - row["train_loss"] for row in rows]]
    points = {"all": np.concatenate(list(points.values()))} | points
    found = {name: np.corrcoef(values.T)[0] for name, values in points.items()}
    return [{"networks": name, "with_kfac_norm": float(r[1]), "with_gap": float(r[2])} for name, r in found.items()]

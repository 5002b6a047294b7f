"""One training run with all that the chapter measures: norms of the weights, of the Jacobian, and of the curvature.

``train`` adds learning-rate drops and the norm transfer to :func:`nnlib.training.fit`; ``measure`` is the function that
the recorded sweeps call.
Paper: arXiv 1810.12281, section 4. Chapter: ``book/weight_decay.ipynb``.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.curvature import NonFiniteGradient, NotPositiveDefinite, jacobian_norm, kfac_norm
from nnlib.models import MLP, SmallCNN
from nnlib.modes import NonFiniteLoss
from nnlib.training import Dataset, History, Split, evaluate, fit
from nnlib.weight_decay.invariance import set_norms_, weight_norms
from nnlib.weight_decay.optimizers import FISHER, decayed_layers, make_optimizer
from tenpapers.data import load

DIVERGED = (NonFiniteLoss, NonFiniteGradient, NotPositiveDefinite)
OFTEN = {"update_factors_every": 10, "update_inverses_every": 20}  # the paper's 100 is a third of our runs


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
        look: Epochs after which to look, 0 being before the first; by default all. Drops and norms add theirs.
        seed: Of the order of the examples.
        device: Where to train; by default where the model is.
        checkpoint: File to go on from, as in :func:`nnlib.training.fit`.
        checkpoint_every: Steps between two saves.

    Returns:
        The history; its frame has the columns of ``watch`` and ``epoch`` and ``lr`` beside those of ``fit``.

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
    looked = set(range(epochs + 1)) if look is None or norms is not None else {*look, *drops}

    def after_epoch(rows: list[dict[str, Any]]) -> bool:
        epoch = rows[0]["step"] // per_epoch
        seen = {"epoch": epoch, "lr": optimizer.param_groups[0]["lr"]} | watch(model)
        for row in rows:  # the history's own rows: so what is seen is in its frame and in the checkpoint
            row.update(seen)
        if epoch in drops:
            for group in optimizer.param_groups:
                group["lr"] /= 10
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
        stop=after_epoch,
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
    width: int = 4,
    bias: bool = True,
    examples: int | None = None,
    epochs: int = 15,
    batch_size: int = 100,
    drops: Sequence[int] = (8, 12),
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> dict[str, Any]:
    """Train one small network and return what it is like in the end, for :func:`tenpapers.runs.sweep`.

    Args:
        data: Name for :func:`tenpapers.data.load`; MNIST and Fashion-MNIST are the small files of the package.
        method: As in :func:`make_optimizer`, and so are ``lr``, ``decay``, ``weight_decay``, ``where``, ``options``.
        lr: Learning rate at the start.
        decay: Kind of decay.
        weight_decay: Its coefficient.
        where: Which layers decay.
        batch_norm: Whether hidden layers are followed by BatchNorm, without scale and shift.
        hidden: Units of the hidden layers of an MLP; by default a small CNN.
        width: Of the CNN.
        bias: Whether an MLP has biases.
        examples: Number of training images; by default all.
        epochs: Passes over them.
        batch_size: Images a step.
        drops: Epochs after which the learning rate is divided by 10.
        seed: Of initialisation, order and drawn targets.
        dtype: Of parameters and data.
        options: For the optimiser.

    Returns:
        ``train_loss, train_accuracy, validation_accuracy, test_loss, test_accuracy``; ``norm`` |W| of all hidden
        layers together, ``last_norm`` of the output layer, ``jacobian`` mean |df/dx|_F^2 and ``kfac_norm``, both on
        the first 200 test images; ``diverged``, and then the rest is NaN.

    Chapter: ``book/weight_decay.ipynb``.

    >>> row = measure("digits", "SGD", 0.1, hidden=[16], epochs=2, drops=[])
    >>> row["test_accuracy"] > 0.5, row["diverged"]
    (True, False)
    """
    images = prepared(data, examples, dtype)
    model = build(images, batch_norm, hidden, width, bias, seed, dtype)
    if method in FISHER:
        options = OFTEN | {"seed": seed} | options
    optimizer = make_optimizer(model, method, lr, decay=decay, weight_decay=weight_decay, where=where, **options)
    try:
        settings = {"epochs": epochs, "batch_size": batch_size, "drops": drops, "seed": seed}
        train(model, images, optimizer, splits=["validation"], look=[], **settings)
    except DIVERGED:
        return {name: float("nan") for name in MEASURED} | {"diverged": True}
    return final(model, images) | {"diverged": False}


MEASURED = ("train_loss", "train_accuracy", "validation_accuracy", "test_loss", "test_accuracy", "norm", "last_norm")
MEASURED += ("jacobian", "kfac_norm")


def final(model: nn.Module, data: Dataset, count: int = 200) -> dict[str, float]:
    """All of ``MEASURED`` for a trained model, in evaluation mode; norms of the function on ``count`` test images."""
    model.eval()
    train, validation, test = (evaluate(model, split) for split in (data.train, data.validation, data.test))
    norms, last = weight_norms(model), decayed_layers(model, "last")[0]
    hidden = sum(norm**2 for name, norm in norms.items() if name != last) ** 0.5
    x = data.test.x[:count]
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


def build(
    data: Dataset, batch_norm: bool, hidden: Sequence[int] | None, width: int, bias: bool, seed: int, dtype: torch.dtype
) -> nn.Module:
    """The network of :func:`measure` for these images."""
    shape, classes = data.info["shape"], len(data.info["classes"])
    where = {"batch_norm": batch_norm, "seed": seed, "dtype": dtype}
    if hidden is None:
        return SmallCNN(shape[0], shape[1], classes, width=width, **where)
    return MLP([torch.Size(shape).numel(), *hidden, classes], bias=bias, **where)


@lru_cache(maxsize=4)
def prepared(name: str, examples: int | None = None, dtype: torch.dtype = torch.float32) -> Dataset:
    """The first ``examples`` training images of a set, all splits standardised by channel."""
    data = load(name, **({"vendored": True} if name in ("mnist", "fashion_mnist") else {}))
    n = len(data.train.y)
    if examples is not None:
        if not 1 <= examples <= n:
            raise ValueError(f"examples must be from 1 to {n}, as many as {name} has: got {examples}")
        data = replace(data, train=Split(data.train.x[:examples], data.train.y[:examples]))
        data = replace(data, source=f"{data.source}; trained on the first {examples:,}")
    return standardise(data.to(dtype=dtype))


def standardise(data: Dataset) -> Dataset:
    """Each channel minus its mean over its standard deviation, both over all pixels of the training images."""
    deviation, mean = torch.std_mean(data.train.x, dim=(0, 2, 3), keepdim=True)  # (1, channels, 1, 1)

    def scaled(split: Split) -> Split:
        return Split((split.x - mean) / deviation, split.y)

    parts: dict[str, Split | Tensor] = {name: scaled(getattr(data, name)) for name in ("train", "validation", "test")}
    return replace(data, **parts, info={**data.info, "scaling": "mean 0 and variance 1 in each channel"})

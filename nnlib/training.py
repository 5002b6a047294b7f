"""How is a network trained, the same way in every chapter? Seeded, resumable, on any device.

``fit`` runs minibatch training on a :class:`Dataset` and returns a :class:`History`; ``evaluate`` measures a
:class:`Split`; ``device`` picks one.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nnlib.arguments import function, one_of, seeded, typed, whole, within
from nnlib.descent import Checkpoint, descend, one_number
from nnlib.modes import evaluating

Loss = Callable[[Tensor, Tensor], Tensor]
SPLITS = ("train", "validation", "test")


class Split(NamedTuple):
    """Inputs ``x``, shape (n, ...), and targets ``y``, shape (n, ...), of one part of a data set."""

    x: Tensor
    y: Tensor

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Split":
        """Move both tensors to ``device``; ``dtype`` changes those that hold real numbers, never class labels."""
        return Split(*(t.to(device, dtype if t.is_floating_point() else None) for t in self))


@typed
@dataclass(frozen=True)
class Dataset:
    """A data set cut in three.

    Args:
        train: What a model is fitted to.
        validation: What hyperparameters and stopping are chosen on.
        test: What a final number is measured on, once.
        info: ``classes`` (names, in the order of the labels), ``shape`` of one input, ``scaling`` in words.
        source: What was really loaded, in words; every experiment prints it.
        licence: The terms of the data.

    Raises:
        ValueError: where a split has not as many inputs as targets.
    """

    train: Split
    validation: Split
    test: Split
    info: Mapping[str, Any]
    source: str
    licence: str

    def __post_init__(self):
        for name in SPLITS:
            split = getattr(self, name)
            if len(split.x) != len(split.y):
                raise ValueError(f"{name} must have as many inputs as targets: got {len(split.x)} and {len(split.y)}")

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Dataset":
        """The same data with all splits on ``device`` and real numbers in ``dtype``.

        >>> part = Split(torch.ones(2, 3), torch.tensor([0, 1]))
        >>> Dataset(part, part, part, {}, "ones", "none").to(dtype=torch.float64).train.x.dtype
        torch.float64
        """
        moved = {name: getattr(self, name).to(device, dtype) for name in SPLITS}
        return replace(self, **moved)


@typed
@dataclass(frozen=True)
class History:
    """What :func:`fit` leaves behind.

    Args:
        rows: One for each evaluation, averaging decay and split: ``step, decay, split, loss, accuracy``.
            ``decay`` 0 is the raw iterate; ``accuracy`` is there for classifiers only.
        steps: Number of optimiser steps taken.
        averages: The averaged network for each decay.
        best_step: With ``keep_best``, the evaluation whose weights the model was given at the end.
    """

    rows: list[dict[str, Any]]
    steps: int
    averages: dict[float, nn.Module]
    best_step: int | None = None


@typed
def device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto`` is CUDA where there is one, then Apple's MPS, then the CPU.

    Raises:
        ValueError: torch knows no such device.

    >>> device("cpu")
    device(type='cpu')
    """
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError:
            raise ValueError(f"name must be auto or a device of torch, as cpu or cuda:0: got {name!r}") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@typed
@torch.no_grad()
def evaluate(model: nn.Module, split: Split, loss: Loss = nn.functional.cross_entropy) -> dict[str, float]:
    """Mean loss over a whole split and, for a classifier, the accuracy; in evaluation mode.

    Args:
        model: Maps x, shape (n, ...), to outputs, shape (n, classes, ...) or as ``loss`` wants them.
        split: Inputs and targets, at least one, on the model's device.
        loss: Mean loss of a batch: ``loss(outputs, targets)``.

    Returns:
        ``{"loss": ..., "accuracy": ...}``; the accuracy, the share of labels with the largest output, only for whole
        targets, shape (n, ...), whose outputs have one axis more of two classes or more, shape (n, classes, ...).

    Raises:
        TypeError: the loss is no function, or does not return a tensor of one number.
        ValueError: the split is empty, or has not as many inputs as targets.
    """
    function(loss=loss)
    n = len(split.y)
    if n == 0 or len(split.x) != n:
        raise ValueError(f"a split has as many inputs as targets, at least one: got {len(split.x)} and {n}")
    total, correct, labels = 0.0, 0, 0
    with evaluating(model):
        for x, y in zip(split.x.split(10_000), split.y.split(10_000), strict=True):  # bounds the memory, not the result
            outputs = model(x)
            total += one_number(loss(outputs, y)).item() * len(y)
            if _of_classes(outputs, y):
                correct += (outputs.argmax(1) == y).sum().item()
                labels += y.numel()
    return {"loss": total / n} | ({"accuracy": correct / labels} if labels else {})


def _of_classes(outputs: Any, y: Tensor) -> bool:
    """Whether these are scores of two classes or more, (n, classes, ...), for whole labels (n, ...)."""
    if not isinstance(outputs, Tensor) or outputs.dim() < 2 or outputs.shape[1] < 2 or y.is_floating_point():
        return False
    return outputs.shape[:1] + outputs.shape[2:] == y.shape


@typed
def fit(
    model: nn.Module,
    data: Dataset,
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    steps: int | None = None,
    epochs: int | None = None,
    loss: Loss = nn.functional.cross_entropy,
    seed: int = 0,
    device: torch.device | str | None = None,
    decays: Sequence[float] = (),
    splits: Sequence[str] = ("train", "validation"),
    evaluate_at: Iterable[int] | None = None,
    stop: Callable[[list[dict[str, Any]]], bool | None] | None = None,
    schedule: LRScheduler | None = None,
    keep_best: bool = False,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 1000,
    progress: bool | None = None,
) -> History:
    """Train a model in place on minibatches drawn without replacement, and measure it along the way.

    Each epoch is a fresh permutation of the training set, drawn on the CPU from ``seed`` (so it is the same on every
    device) and cut into batches of exactly ``batch_size``; a remainder is left out until the next permutation.
    Averaged iterates follow xbar_0 = theta_0, xbar_{t+1} = decay * xbar_t + (1 - decay) * theta_{t+1}.

    Args:
        model: Trained in place; floating-point inputs are cast to the dtype of its parameters.
        data: Train on ``data.train``; other splits are only measured.
        optimizer: Any torch optimiser over the model's parameters.
        batch_size: B, from 1 to the number of training examples.
        steps: Total number of optimiser steps; give this or ``epochs``.
        epochs: Total number of passes.
        loss: Mean loss of a batch.
        seed: Of the permutations.
        device: Where to train; by default where the model is.
        decays: For each, an exponential moving average of the iterates is kept and measured; each in (0, 1).
        splits: Which splits to measure; an empty one is left out.
        evaluate_at: Steps to measure at, 0 being before the first; by default the end of each epoch and of training.
        stop: Called with the rows of each evaluation, to which it may add columns, with the model in the mode it trains
            in; training ends where it returns True.
        schedule: A learning-rate schedule of the optimiser, in steps.
        keep_best: Give the model, at the end, its weights at the evaluation of lowest validation loss.
        checkpoint: File to save to, and to go on from where it exists: the result equals that of an unbroken run.
        checkpoint_every: Number of steps between two saves; one more is made at the end.
        progress: Show a bar; by default on a terminal and not in a notebook.

    Returns:
        A :class:`History`.

    Raises:
        NonFiniteLoss: at the first step whose loss is infinite or not a number, naming it.
        TypeError: for a loss that is no function, or that does not return a tensor of one number.
        ValueError: for arguments out of range, or a checkpoint that was made with others, is longer or is broken.

    Chapter: ``book/nqm.ipynb``.

    >>> from nnlib.models import MLP
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> part = Split(x, (x[:, 0] > x[:, 1]).long())
    >>> data, model = Dataset(part, part, part, {}, "two half planes", "none"), MLP([2, 16, 2], seed=0)
    >>> history = fit(model, data, torch.optim.SGD(model.parameters(), lr=0.5), epochs=5, batch_size=50)
    >>> history.steps, history.rows[-1]["accuracy"] > 0.9
    (20, True)
    """
    function(loss=loss, stop=stop)
    n = len(data.train.y)
    if n == 0:
        raise ValueError("data must have training examples: got none")
    whole(1, n, batch_size=batch_size)
    if (steps is None) == (epochs is None):
        raise ValueError(f"give either steps or epochs: got steps={steps}, epochs={epochs}")
    whole(0, **{"epochs": epochs} if steps is None else {"steps": steps})
    for decay in decays:
        within("(0, 1)", decays=decay)
    for name in splits:
        one_of(SPLITS, splits=name)
    asked_at = None if evaluate_at is None else list(evaluate_at)
    for step in asked_at or ():
        whole(0, evaluate_at=step)
    splits = [name for name in splits if len(getattr(data, name).y)]
    if keep_best and "validation" not in splits:
        raise ValueError(f"keep_best needs a validation split that is measured and not empty: measured are {splits}")
    per_epoch = n // batch_size
    total = steps if steps is not None else (epochs or 0) * per_epoch

    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError(f"model must have parameters to train: got {type(model).__name__}")
    where = torch.device(device) if device is not None else parameter.device
    model.to(where)
    data = data.to(where, parameter.dtype)
    ends = range(per_epoch, total + 1, per_epoch)
    measured_at = {*ends, total} if asked_at is None else set(asked_at)

    run = _Run(model, decays, seed, where)
    saved = None
    if checkpoint is not None:
        asked = {"batch_size": batch_size, "seed": seed, "decays": list(decays), "examples": n}
        asked["optimizer"] = [type(optimizer).__name__, *map(_settings, optimizer.param_groups)]
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "generator": run.generator, "run": run}
        parts |= {} if schedule is None else {"schedule": schedule}
        saved = Checkpoint(checkpoint, every=checkpoint_every, asked=asked, **parts)

    def measure(step: int) -> bool:
        """Add the rows of this step; True where training should end."""
        rows = [
            {"step": step, "decay": decay, "split": name, **evaluate(network, getattr(data, name), loss)}
            for decay, network in {0.0: model, **run.averages}.items()
            for name in splits
        ]
        run.rows += rows
        if keep_best:
            value = next(r["loss"] for r in rows if r["decay"] == 0 and r["split"] == "validation")
            if run.best is None or value < run.best["loss"]:
                weights = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}
                run.best = {"loss": value, "step": step, "weights": weights}
        return stop is not None and bool(stop(rows))

    def minibatch_loss() -> Tensor:
        position = run.step % per_epoch
        if position == 0:
            run.order = torch.randperm(n, generator=run.generator, device="cpu").to(where)
        batch = run.order[position * batch_size : (position + 1) * batch_size]  # (B,)
        return loss(model(data.train.x[batch]), data.train.y[batch])

    def after(step: int, value: Tensor) -> bool:
        run.step = step
        run.average()
        return step in measured_at and measure(step)

    fresh = saved is None or not saved.path.exists()
    stopped = fresh and 0 in measured_at and measure(0)
    model.train()
    options = {"schedule": schedule, "after": after, "look_at": measured_at, "checkpoint": saved, "progress": progress}
    taken = descend(minibatch_loss, optimizer, 0 if stopped else total, **options)
    if run.best is not None:
        model.load_state_dict(run.best["weights"])
    averages = {decay: average.module for decay, average in run.averages.items()}
    return History(run.rows, taken, averages, run.best["step"] if run.best else None)


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """Learning rate, momentum and the like of a parameter group, as a checkpoint can hold them."""
    return {key: value for key, value in group.items() if isinstance(value, bool | int | float | str)}


class _Run:
    """What changes during training beside the model and its optimiser."""

    def __init__(self, model: nn.Module, decays: Sequence[float], seed: int, where: torch.device):
        self.model = model
        self.generator = seeded(seed)
        with torch.device("cpu"):  # their counters: on a GPU, reading one would wait for the device at each step
            self.averages = {d: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(d)) for d in decays}
        self.average()  # the first update copies: xbar_0 = theta_0
        self.order = torch.empty(0, dtype=torch.long, device=where)
        self.step = 0
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None

    def average(self) -> None:
        for average in self.averages.values():
            average.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        averages = {decay: average.state_dict() for decay, average in self.averages.items()}
        return {"averages": averages, **{name: getattr(self, name) for name in ("order", "step", "rows", "best")}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for decay, average in self.averages.items():
            average.load_state_dict(state["averages"][decay])
        self.order = state["order"].to(self.order.device)
        self.step, self.rows, self.best = state["step"], state["rows"], state["best"]

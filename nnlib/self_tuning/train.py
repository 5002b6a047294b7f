"""How is an ordinary network trained at given hyperparameters, constant or on a schedule?

The other half of every comparison: fixed values, noisy ones, a recorded schedule. Chapter: ``book/self_tuning.ipynb``.
"""

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from nnlib.modes import NonFiniteLoss, evaluating
from nnlib.self_tuning.setting import set_values
from nnlib.training import Split

Values = Mapping[str, float]
Evaluate = Callable[[object], dict[str, float]]
momentum_sgd = partial(SGD, momentum=0.9, fused=True)  # one call for all parameters


def batches(split: Split, batch_size: int, generator: torch.Generator) -> Iterator[Split]:
    """Batches without replacement, for ever: a fresh permutation (drawn on the CPU) whenever the data is used up.

    Raises:
        ValueError: for a batch size that is not from 1 to the number of examples.
    """
    n = len(split.y)
    if batch_size is None or not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must be from 1 to the {n} examples: got {batch_size}")
    while True:
        order = torch.randperm(n, generator=generator, device="cpu").to(split.y.device)
        for rows in order[: n - n % batch_size].split(batch_size):
            yield Split(split.x[rows], split.y[rows])


@torch.no_grad()
def mean_loss(network: nn.Module, batches: Iterable[Split], loss: Callable[[object, Tensor], Tensor]) -> float:
    """Mean of a batch-mean loss over batches, weighted by their targets, in evaluation mode."""
    total, count = 0.0, 0
    with evaluating(network):
        for x, y in batches:
            total += loss(network(x), y).item() * y.numel()
            count += y.numel()
    return total / count


def squared_norm(network: nn.Module) -> Tensor:
    """|w|² over the weights, not the biases, of the layers that a best response would answer with.

    >>> layer = nn.Linear(2, 1)
    >>> _ = nn.init.ones_(layer.weight)
    >>> squared_norm(layer).item()
    2.0
    """
    parts = []
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            parts.append(layer.weight.square().sum())
        elif isinstance(layer, nn.LSTM):
            parts += [layer.weight_ih_l0.square().sum(), layer.weight_hh_l0.square().sum()]
    return sum(parts)


def train(
    network: nn.Module,
    training_loss: Callable[..., Tensor],
    data: Split | Iterable[Split],
    schedule: Values | Callable[[int], Values],
    *,
    steps: int,
    lr: float,
    batch_size: int | None = None,
    optimizer: Callable[..., Optimizer] = momentum_sgd,
    clip: float | None = None,
    evaluate: Evaluate | None = None,
    evaluate_every: int = 100,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Train an ordinary network in place, at constant hyperparameters or at those of each step.

    Args:
        network: Its regularisers get their values here.
        training_loss: ``training_loss(outputs, targets, values)``, as for ``SelfTuner``; values are floats.
        data: A split, or an endless iterable of batches.
        schedule: Values by name, or a function of the step (from 0) that returns them.
        steps: Number of steps.
        lr: Learning rate.
        batch_size: Where the data is a split.
        optimizer: ``optimizer(parameters, lr=lr)``.
        clip: Largest norm of the gradient, or None.
        evaluate: Called with the network; what it returns by name joins the row.
        evaluate_every: Steps between two rows.
        seed: Of batches and masks.

    Returns:
        Rows with ``step``, ``train_loss``, the hyperparameters of the step, and what ``evaluate`` found.

    Raises:
        NonFiniteLoss: where the training loss is infinite or not a number.

    >>> from nnlib.self_tuning import Dropout
    >>> data = Split(torch.ones(8, 2), torch.ones(8, 1))
    >>> loss = lambda outputs, y, values: nn.functional.mse_loss(outputs, y)
    >>> network = nn.Sequential(Dropout("rate"), nn.Linear(2, 1))
    >>> history = train(network, loss, data, lambda step: {"rate": step / 400}, steps=200, lr=0.01, batch_size=4)
    >>> [(row["step"], row["rate"]) for row in history]
    [(100, 0.2475), (200, 0.4975)]
    """
    parameter = next(network.parameters())
    generator = torch.Generator(parameter.device).manual_seed(seed)
    if isinstance(data, Split):
        data = batches(data, batch_size, torch.Generator("cpu").manual_seed(seed))
    rule = optimizer(network.parameters(), lr=lr)
    rows = []
    for step, (x, y) in zip(range(steps), data, strict=False):
        values = schedule(step) if callable(schedule) else schedule
        if callable(schedule) or step == 0:
            set_values(network, values, generator)
        network.train()
        loss = training_loss(network(x), y, values)
        rule.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        rule.step()
        if (step + 1) % evaluate_every == 0 or step + 1 == steps:
            value = loss.item()
            if not math.isfinite(value):
                raise NonFiniteLoss(step + 1, value)
            row = {"step": step + 1, "train_loss": value} | {name: float(v) for name, v in values.items()}
            rows.append(row | (evaluate(network) if evaluate is not None else {}))
    return rows


def replay(history: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Callable[[int], dict]:
    """The schedule that a tuner left behind, as a function of the step, for ``train``.

    Args:
        history: The rows of ``SelfTuner.fit``, or what was read back of them.
        names: Of the hyperparameters.

    Returns:
        ``schedule(step)``: the values that the tuner used at that training step. A row holds those used up to its step;
        after the last row, its values stay.

    Raises:
        ValueError: where a row lacks one of them, or the steps do not rise.

    >>> history = [{"step": 5, "rate": 0.1}, {"step": 10, "rate": 0.2}]
    >>> schedule = replay(history, ["rate"])
    >>> [schedule(step)["rate"] for step in (0, 4, 5, 99)]
    [0.1, 0.1, 0.2, 0.2]
    """
    names = list(names)
    if missing := {name for row in history for name in ("step", *names) if name not in row}:
        raise ValueError(f"the history lacks {', '.join(sorted(missing))}")
    steps = [row["step"] for row in history]
    if not steps or steps != sorted(set(steps)):
        raise ValueError("the steps of a history must rise, and there must be at least one")
    rows = [{name: row[name] for name in names} for row in history]

    def schedule(step: int) -> dict:
        return rows[min(bisect.bisect_left(steps, step + 1), len(rows) - 1)]

    return schedule


def noisy(values: Values, std: float, seed: int, ranges: Mapping[str, tuple[float, float]]) -> Callable[[int], dict]:
    """Constant values with fresh Gaussian noise at every step, kept inside closed ranges: the paper's control.

    >>> schedule = noisy({"rate": 0.5}, 0.05, 0, {"rate": (0.0, 0.9)})
    >>> 0.3 < schedule(0)["rate"] < 0.7, schedule(0) == schedule(1)
    (True, False)
    """
    generator = torch.Generator("cpu").manual_seed(seed)

    def schedule(step: int) -> dict:
        draws = torch.randn(len(values), generator=generator, device="cpu", dtype=torch.float64).tolist()
        found = {}
        for (name, value), eps in zip(values.items(), draws, strict=True):
            low, high = ranges[name]
            found[name] = min(max(value + std * eps, low), high)
        return found

    return schedule


def sinusoid(values: Values, amplitude: float, period: int) -> Callable[[int], dict]:
    """Constant values plus a wave over the steps: the paper's other control.

    >>> round(sinusoid({"rate": 0.5}, 0.1, 40)(10)["rate"], 6)
    0.6
    """
    return lambda step: {
        name: value + amplitude * math.sin(2 * math.pi * step / period) for name, value in values.items()
    }

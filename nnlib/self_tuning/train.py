"""How is an ordinary network trained at given hyperparameters, constant or on a schedule?

The other half of every comparison: fixed values, or the schedule that a tuner recorded.
Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from nnlib.arguments import function, seeded, shown, typed, whole, within
from nnlib.descent import descend
from nnlib.self_tuning.batches import batches, following
from nnlib.self_tuning.setting import set_values
from nnlib.training import Split

Values = Mapping[str, float]
Evaluate = Callable[[Any], dict[str, float]]
momentum_sgd = partial(SGD, momentum=0.9, fused=True)  # one call for all parameters


@typed
def train(
    network: nn.Module,
    training_loss: Callable[[Any, Tensor, Any], Tensor],
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
        data: A split, or an iterable of batches, pairs (x, y), that has enough of them.
        schedule: Values by name, or a function of the step (from 0) that returns them.
        steps: Number of steps.
        lr: Learning rate.
        batch_size: Where the data is a split.
        optimizer: ``optimizer(parameters, lr=lr)``.
        clip: Largest norm of the gradient, or None.
        evaluate: Called with the network; what it returns by name joins the row, under names of its own.
        evaluate_every: Steps between two rows.
        seed: Of batches and masks.

    Returns:
        Rows with ``step``, ``train_loss``, the hyperparameters of the step, and what ``evaluate`` found.

    Raises:
        NonFiniteLoss: at the first step whose loss is infinite or not a number, naming it.
        TypeError: for an argument of another class.
        ValueError: for a number out of range, a network without parameters, batches that end before the steps do, or a
            value that a regulariser lacks or can't have.

    >>> import torch
    >>> from nnlib.self_tuning import Dropout
    >>> data = Split(torch.ones(8, 2), torch.ones(8, 1))
    >>> loss = lambda outputs, y, values: nn.functional.mse_loss(outputs, y)
    >>> network = nn.Sequential(Dropout("rate"), nn.Linear(2, 1))
    >>> history = train(network, loss, data, lambda step: {"rate": step / 400}, steps=200, lr=0.01, batch_size=4)
    >>> [(row["step"], row["rate"]) for row in history]
    [(100, 0.2475), (200, 0.4975)]
    """
    whole(1, steps=steps, evaluate_every=evaluate_every)
    within("[0, inf)", lr=lr)
    function(training_loss=training_loss, evaluate=evaluate)
    if clip is not None:
        within("(0, inf)", clip=clip)
    if not isinstance(schedule, Mapping):
        function(schedule=schedule)
    parameters = list(network.parameters())
    if not parameters:
        raise ValueError(f"network must have parameters: got {shown(network)}")
    masks, order = seeded(seed, parameters[0].device), seeded(seed)
    rule = made(optimizer, parameters, lr)
    stream = batches(data, batch_size, order) if isinstance(data, Split) else iter(data)
    values_at = schedule if callable(schedule) else None
    values: Values = {} if callable(schedule) else schedule
    step = 0
    rows: list[dict[str, Any]] = []
    if values_at is None:
        set_values(network, values, masks)

    def loss() -> Tensor:
        nonlocal values
        x, y = following(stream, step, steps, "training")
        if values_at is not None:
            values = values_at(step)
            set_values(network, values, masks)
        network.train()
        return training_loss(network(x), y, values)

    def after(done: int, value: Tensor) -> None:
        nonlocal step
        step = done
        if done % evaluate_every == 0 or done == steps:
            row = {"step": done, "train_loss": value.item()} | {name: float(v) for name, v in values.items()}
            rows.append(joined(row, evaluate(network) if evaluate is not None else {}))

    looked_at = {*range(evaluate_every, steps + 1, evaluate_every)}
    descend(loss, rule, steps, clip=clip, after=after, look_at=looked_at)
    return rows


def made(optimizer: Callable[..., Optimizer], parameters: Iterable[Tensor], lr: float) -> Optimizer:
    """The optimiser of these parameters.

    Raises:
        TypeError: where this makes none.
    """
    if isinstance(optimizer, type) and Optimizer not in optimizer.__mro__:
        raise TypeError(f"optimizer must be one of torch.optim's, or a function that makes one: got {shown(optimizer)}")
    found = optimizer(parameters, lr=lr)
    if not isinstance(found, Optimizer):
        raise TypeError(f"optimizer must return a torch.optim.Optimizer: got {shown(found)}")
    return found


def joined(row: dict[str, Any], found: Mapping[str, float], free: Iterable[str] = ()) -> dict[str, Any]:
    """A row with what an evaluation found, which must not take the place of anything but of ``free`` names.

    Raises:
        ValueError: where it would.
    """
    if taken := (set(row) - set(free)) & set(found):
        raise ValueError(f"evaluate must return names of its own: {', '.join(sorted(taken))} are taken")
    return {**row, **found}

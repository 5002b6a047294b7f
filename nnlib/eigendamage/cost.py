"""What does a network cost? Parameters, operations, activations by counting, and time by the clock.

Chapter: ``book/eigendamage.ipynb``.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnlib.arguments import examples, passing, shown, typed, whole, within
from nnlib.eigendamage.moves import moves_of
from nnlib.eigendamage.trace import tensors_of
from nnlib.modes import evaluating


class Cost(NamedTuple):
    """What one network costs for one example.

    Args:
        parameters: Trainable numbers.
        flops: Floating-point operations of all convolutions and linear layers in a forward pass, a multiplication and
            an addition counting as two. Normalisation, activations and pooling are not counted.
        activations: Numbers in the outputs of all layers, which training keeps for the backward pass.
    """

    parameters: int
    flops: int
    activations: int


@typed
def cost(model: nn.Module, x: Tensor) -> Cost:
    """Count what a model costs for an example like ``x[0]``.

    Args:
        model: In any mode; it runs once in evaluation mode.
        x: Inputs, (B, ...); only the first is used.

    Raises:
        TypeError: for what is no model, or no tensor.
        ValueError: for inputs without an example, or that the model does not take.

    Source: the counting is ``torch.utils.flop_counter``. Chapter: ``book/eigendamage.ipynb``.

    >>> cost(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU()), torch.zeros(1, 3, 5, 5))
    Cost(parameters=216, flops=3888, activations=144)
    """
    examples(x)
    numbers = 0

    def count(layer: nn.Module, args: tuple, output: Any) -> None:
        nonlocal numbers
        numbers += sum(tensor.numel() for tensor in tensors_of(output))

    leaves = [layer for layer in model.modules() if not list(layer.children())]
    leaves += [step for layer in model.modules() for step in moves_of(layer)]
    handles = [leaf.register_forward_hook(count, prepend=True) for leaf in leaves]
    try:
        with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter, passing(x=x):
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, counter.get_total_flops(), numbers)


@typed
@torch.no_grad()
def seconds(models: Sequence[nn.Module], x: Tensor, repeats: int = 5) -> list[float]:
    """The smallest time of a forward pass of each model over ``x`` in evaluation mode, in seconds.

    The models are measured in turns, so that what else the machine does meets all of them, after one pass of each
    that warms up.

    Args:
        models: On the device of ``x``.
        x: A batch, (B, ...).
        repeats: Number of turns, at least 1.

    Raises:
        TypeError: for what is no list of models, or no tensor.
        ValueError: for a number that is not positive, or inputs that a model does not take.

    Chapter: ``book/eigendamage.ipynb``.
    """
    examples(x)
    whole(1, repeats=repeats)
    for model in models:
        if not isinstance(model, nn.Module):
            raise TypeError(f"models must be a list of torch.nn.Module: got {shown(model)} in it")
    best = [math.inf] * len(models)
    for turn in range(repeats + 1):
        for i, model in enumerate(models):
            with evaluating(model), passing(x=x):
                start = time.perf_counter()
                model(x)
                if x.device.type == "cuda":
                    torch.cuda.synchronize(x.device)
                if turn:
                    best[i] = min(best[i], time.perf_counter() - start)
    return best


@typed
def bottleneck_parameters(c_in: int, c_out: int, k: int, columns: float, rows: float) -> float:
    """Weights of a layer's bottleneck, c_in -> columns -> rows -> c_out with k x k in the middle, without the bias.

    Raises:
        ValueError: for sizes that are not positive; ``columns`` and ``rows`` may be 0, or between whole numbers.

    Source: arXiv 1905.05934, section 4. Chapter: ``book/eigendamage.ipynb``.

    >>> bottleneck_parameters(512, 512, 3, 32, 32) / (9 * 512 * 512)
    0.017795138888888888
    """
    whole(1, c_in=c_in, c_out=c_out, k=k)
    within("[0, inf)", columns=columns, rows=rows)
    return c_in * columns + k * k * columns * rows + rows * c_out


@typed
def break_even(k: int) -> float:
    """The share of rows and columns below which a bottleneck of a layer with as many inputs as outputs saves weights.

    With n inputs and outputs and r = s n of both kept, 2 s + k^2 s^2 = k^2: s = (sqrt(1 + k^4) - 1) / k^2.

    Args:
        k: Kernel size; 1 for a linear layer.

    Chapter: ``book/eigendamage.ipynb``.

    >>> round(break_even(1), 3), round(break_even(3), 3)
    (0.414, 0.895)
    """
    whole(1, k=k)
    return ((1 + k**4) ** 0.5 - 1) / k**2

"""Mechanism 1: what do a layer's weights mean if the function ignores their length?

Where BatchNorm follows a layer, f(c W) = f(W) for every c > 0. Then the length |W| only sets the learning rate that
the direction W/|W| sees, and decay acts through it.
Paper: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from nnlib.arguments import one_of, real, typed, within
from nnlib.curvature import blocks
from nnlib.curvature.layers import Layer

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)
POWERS = {"SGD": 2, "Adam": 1, "K-FAC-G": 0, "K-FAC-F": 0}  # of the length, in the lr that keeps the functions
Length = TypeVar("Length", float, Tensor)


@typed
def invariant_layers(model: nn.Module) -> list[str]:
    """Names of the linear and convolutional layers directly followed by BatchNorm: their scale changes no output.

    Exactly so where BatchNorm's ``eps`` is 0, and in training mode.

    Args:
        model: Its modules come in the order in which they are applied, as in ``nn.Sequential``.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.

    >>> from nnlib.models import MLP
    >>> invariant_layers(MLP([4, 8, 8, 3], batch_norm=True)), invariant_layers(MLP([4, 8, 3]))
    (['layers.1', 'layers.4'], [])
    """
    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    layers = blocks(model)
    return [name for (name, _), (_, after) in pairwise(leaves) if name in layers and isinstance(after, NORMALISATIONS)]


@typed
def weight_norms(model: nn.Module, layers: Collection[str] | None = None) -> dict[str, float]:
    """|W|_F of each layer, biases left out.

    Args:
        model: Any.
        layers: Names; by default all linear and convolutional layers.

    Raises:
        ValueError: for a name that is no such layer.

    >>> weight_norms(nn.Sequential(nn.Linear(2, 2)))["0"] > 0
    True
    """
    found = blocks(model) if layers is None else known_layers(model, layers=layers)
    return {name: float(layer.weight.detach().norm()) for name, layer in found.items()}


def known_layers(model: nn.Module, /, **named: Iterable[str]) -> dict[str, Layer]:
    """The layers of these names, which the argument of that name gave, or an error where the model has not all."""
    ((argument, names),) = named.items()
    found, names = blocks(model), list(names)
    for name in names:
        if not isinstance(name, str) or name not in found:
            raise ValueError(f"{argument} must be among the model's layers, {', '.join(found) or 'none'}: got {name!r}")
    return {name: found[name] for name in names}


@typed
@torch.no_grad()
def set_norms_(model: nn.Module, norms: Mapping[str, float]) -> None:
    """Rescale the weights of the named layers to these lengths |W|_F; their directions stay.

    The paper's transfer experiment gives a run without decay the norms of a run with decay, after each epoch.

    Args:
        model: Changed in place, unless something is refused.
        norms: Positive length for each layer's name.

    Raises:
        ValueError: for a length that is not positive, an unknown layer, or weights that are all zero.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.

    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> set_norms_(model, {"0": 3.0})
    >>> round(weight_norms(model)["0"], 5)
    3.0
    """
    for norm in norms.values():
        within("(0, inf)", norms=norm)
    weights = {name: layer.weight for name, layer in known_layers(model, norms=norms).items()}
    lengths = {name: weight.norm() for name, weight in weights.items()}
    for name, old in lengths.items():
        if not 0 < old < math.inf:
            raise ValueError(f"norms must be of weights with a direction: layer {name!r} has the length {float(old):g}")
    for name, weight in weights.items():
        old, norm = lengths[name], norms[name]
        weight.mul_(norm / old)


@typed
@torch.no_grad()
def rescale_(model: nn.Module, c: float) -> None:
    """Multiply the weights of every layer of :func:`invariant_layers` by c > 0: the function stays the same.

    Raises:
        ValueError: for c that is not positive, or a model without such a layer.

    Chapter: ``book/weight_decay.ipynb``.
    """
    layers = invariant_layers(model)
    within("(0, inf)", c=c)
    if not layers:
        raise ValueError("model must have a linear or convolutional layer directly followed by BatchNorm: got none")
    found = blocks(model)
    for name in layers:
        found[name].weight.mul_(c)


@typed
def matched_lr(method: str, lr: float, c: float) -> float:
    """The learning rate with which training from c theta visits the same functions as training from theta with ``lr``.

    c^2 lr for SGD, with momentum or without; c lr for Adam with ``eps=0``; lr for K-FAC, whose damping must be
    divided by c^2. All without decay and for scale-invariant weights only.

    Args:
        method: ``SGD``, ``Adam``, ``K-FAC-G`` or ``K-FAC-F``.
        lr: Learning rate, positive.
        c: Positive.

    Raises:
        ValueError: for another method, or a number that is not positive.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.

    >>> [matched_lr(method, 0.1, 2.0) for method in ("SGD", "Adam", "K-FAC-G")]
    [0.4, 0.2, 0.1]
    """
    within("(0, inf)", lr=lr, c=c)
    one_of(POWERS, method=method)
    for _ in range(POWERS[method]):
        lr = lr * c  # not c**2, which overflows before
    return lr


@typed
def effective_lr(method: str, lr: float, norm: Length) -> Length:
    """The learning rate that the direction W/|W| sees: lr/|W|^2 for SGD, lr/|W| for Adam, lr for undamped K-FAC.

    Args:
        method: ``SGD``, ``Adam``, ``K-FAC-G`` or ``K-FAC-F``.
        lr: Learning rate, positive.
        norm: |W|, a number or a tensor of any shape, positive.

    Raises:
        ValueError: for another method, or a number that is not positive.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.
    """
    within("(0, inf)", lr=lr)
    one_of(POWERS, method=method)
    check_length("(0, inf)", norm)
    found = lr * (norm / norm)  # in the form of norm
    for _ in range(POWERS[method]):
        found = found / norm
    return found


def check_length(interval: str, norm: float | Tensor) -> None:
    """Refuse what is no length of weights, or has one that lies outside of the interval."""
    if isinstance(norm, Tensor):
        real("...", norm=norm)
    within(interval, norm=norm.min() if isinstance(norm, Tensor) else norm)


@typed
def equilibrium_turn(lr: float, weight_decay: float) -> float:
    """The angle by which a step turns weights whose length is at rest: sqrt(2 lr wd) radians, whatever the optimiser.

    A step U orthogonal to W keeps the length where lr^2 |U|^2 = (1 - (1 - lr wd)^2) |W|^2, and turns W by the angle
    whose tangent is lr |U|/((1 - lr wd) |W|): so its cosine is 1 - lr wd. For small lr wd that is sqrt(2 lr wd). Under
    K-FAC without damping the length does not come to rest.

    Args:
        lr: Learning rate, positive.
        weight_decay: Positive, with lr * weight_decay < 1.

    Raises:
        ValueError: for a number out of range.

    Source: follows from arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.

    >>> round(equilibrium_turn(lr=0.1, weight_decay=0.05), 2)
    0.1
    """
    _decaying(lr, weight_decay, 1)
    return 2 * math.asin(math.sqrt(lr * weight_decay / 2))  # acos(1 - lr wd), which loses digits where lr wd is small


@typed
def equilibrium_norm(lr: float, weight_decay: float, gradient_norm: float) -> float:
    """|W| at which what SGD adds to the length is what decay takes away.

    A step of SGD with decoupled decay is W' = (1 - lr wd) W - lr g_hat/|W|, and g_hat is orthogonal to W, so
    |W'|^2 = (1 - lr wd)^2 |W|^2 + lr^2 |g_hat|^2/|W|^2. It is |W|^2 again where |W|^4 = lr |g_hat|^2/(wd (2 - lr wd));
    the paper has the limit for small lr wd, lr |g_hat|^2/(2 wd).

    Args:
        lr: Learning rate, positive.
        weight_decay: Positive, with lr * weight_decay < 2.
        gradient_norm: |g_hat|, of the gradient at W/|W|; a root of its mean square, where it is random.

    Raises:
        ValueError: for a number out of range.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.

    >>> round(equilibrium_norm(lr=0.1, weight_decay=0.05, gradient_norm=1.0), 3)
    1.001
    """
    within("[0, inf)", gradient_norm=gradient_norm)
    _decaying(lr, weight_decay, 2)
    # |W|^4 by roots of its factors, none of which overflows
    ratio = math.sqrt(lr) / math.sqrt(weight_decay) / math.sqrt(2 - lr * weight_decay)  # of |W|^2 to |g_hat|
    return math.sqrt(ratio) * math.sqrt(gradient_norm)


def _decaying(lr: float, weight_decay: float, most: int) -> None:
    """Refuse what does not leave weights at rest: the product must be below ``most``."""
    within("(0, inf)", lr=lr, weight_decay=weight_decay)
    if lr * weight_decay >= most:
        raise ValueError(f"lr * weight_decay must be below {most}: got lr = {lr:g} and weight_decay = {weight_decay:g}")

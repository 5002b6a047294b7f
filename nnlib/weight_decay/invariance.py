"""Mechanism 1: what do a layer's weights mean if the function ignores their length?

Where BatchNorm follows a layer, f(c W) = f(W) for every c > 0. Then the length |W| only sets the learning rate that
the direction W/|W| sees, and decay acts through it.
Paper: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from nnlib.arguments import within
from nnlib.curvature import blocks

NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d)
Length = TypeVar("Length", float, Tensor)


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


def weight_norms(model: nn.Module, layers: list[str] | None = None) -> dict[str, float]:
    """|W|_F of each layer, biases left out.

    Args:
        model: Any.
        layers: Names; by default all linear and convolutional layers.

    Raises:
        ValueError: for a name that is no such layer.

    >>> weight_norms(nn.Sequential(nn.Linear(2, 2)))["0"] > 0
    True
    """
    found = blocks(model)
    if unknown := sorted(set(layers or ()) - set(found)):
        raise ValueError(f"the model has no layer {unknown[0]!r}: it has {', '.join(found)}")
    return {name: float(_weight(found[name]).detach().norm()) for name in (found if layers is None else layers)}


@torch.no_grad()
def set_norms_(model: nn.Module, norms: Mapping[str, float]) -> None:
    """Rescale the weights of the named layers to these lengths |W|_F; their directions stay.

    The paper's transfer experiment gives a run without decay the norms of a run with decay, after each epoch.

    Args:
        model: Changed in place.
        norms: Positive length for each layer's name.

    Raises:
        ValueError: for a length that is not positive, an unknown layer, or weights that are all zero.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.

    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> set_norms_(model, {"0": 3.0})
    >>> round(weight_norms(model)["0"], 5)
    3.0
    """
    layers = blocks(model)
    for name, norm in norms.items():
        if name not in layers:
            raise ValueError(f"the model has no layer {name!r}: it has {', '.join(layers)}")
        weight = _weight(layers[name])
        old = weight.norm()
        if not (0 < norm < math.inf and old > 0):
            raise ValueError(f"norms must be positive: layer {name!r} has {float(old):g} and should get {norm:g}")
        weight.mul_(norm / old)


@torch.no_grad()
def rescale_(model: nn.Module, c: float) -> None:
    """Multiply the weights of every layer of :func:`invariant_layers` by c > 0: the function stays the same.

    Raises:
        ValueError: for c that is not positive, or a model without such a layer.

    Chapter: ``book/weight_decay.ipynb``.
    """
    layers = invariant_layers(model)
    if not (0 < c < math.inf and layers):
        raise ValueError(f"c must be positive and a layer followed by BatchNorm: got c={c} and {len(layers)} layers")
    for name in layers:
        _weight(model.get_submodule(name)).mul_(c)


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
    return lr * c ** _power(method)


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
    check_length(norm)
    return lr * (1 / norm) ** _power(method)


def check_length(norm: Length, least: float = float("-inf")) -> None:
    """Refuse what is no length of weights: positive and finite, or ``least`` itself."""
    value = torch.as_tensor(norm)
    if not bool((((value > 0) | (value == least)) & value.isfinite()).all()):
        raise ValueError(
            f"norm must be a length, {'not negative' if least == 0 else 'positive'} and finite: got {norm}"
        )


def _power(method: str) -> int:
    """Of the length, in the learning rate that leaves the functions as they are."""
    powers = {"SGD": 2, "Adam": 1, "K-FAC-G": 0, "K-FAC-F": 0}
    if method not in powers:
        raise ValueError(f"method must be one of {', '.join(powers)}: got {method!r}")
    return powers[method]


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
    if not (lr > 0 and weight_decay > 0 and lr * weight_decay < 1):
        raise ValueError(f"lr and weight_decay must be positive with a product below 1: got {lr} and {weight_decay}")
    return math.acos(1 - lr * weight_decay)


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
    if not (lr > 0 and weight_decay > 0 and 0 <= gradient_norm < math.inf and lr * weight_decay < 2):
        raise ValueError(
            "lr and weight_decay must be positive with a product below 2, and gradient_norm not negative: "
            f"got {lr}, {weight_decay} and {gradient_norm}"
        )
    return (lr * gradient_norm**2 / (weight_decay * (2 - lr * weight_decay))) ** 0.25


def _weight(layer: nn.Module) -> Tensor:
    return cast("Tensor", layer.weight)

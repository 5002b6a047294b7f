"""Where does a step go? Gradients that must be finite, preconditioned layer by layer and shortened to the KL clip.

Papers: arXiv 1503.05671, 1810.12281. Chapter: ``book/curvature.ipynb``.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nnlib.curvature.layers import Layer
from nnlib.curvature.outputs import wide
from nnlib.curvature.running import RunningCurvature


class NonFiniteGradient(ArithmeticError):
    """The gradient of a parameter is infinite or not a number; the message names it."""


def refuse_non_finite(
    gradients: Mapping[Tensor, Tensor], named: Callable[[], Iterable[tuple[str, Tensor]]], step: int
) -> None:
    """Look at all gradients; the names are asked for where one is bad.

    Raises:
        NonFiniteGradient: naming the parameter.
        ValueError: for a sparse gradient, likewise.
    """
    grads = [*gradients.values()]
    if not any(grad.is_sparse for grad in grads):
        norms = torch._foreach_norm(grads)  # pyright: ignore[reportPrivateImportUsage]
        if math.isfinite(torch.stack(norms).sum().item()):  # one look, so one wait on a GPU
            return
    for name, parameter in named():
        grad = gradients.get(parameter)
        if grad is not None and grad.is_sparse:
            raise ValueError(f"the gradient of {name} is sparse, which K-FAC does not take: make it dense")
        if grad is not None and not grad.isfinite().all():
            raise NonFiniteGradient(
                f"the gradient of {name} is not finite at step {step}: lower the learning rate or raise the damping"
            )


def precondition(
    gradients: dict[Tensor, Tensor],
    layers: Mapping[str, Layer],
    curvature: Mapping[str, RunningCurvature],
    groups: Mapping[Tensor, dict[str, Any]],
    kl_clip: float | None,
) -> dict[str, str]:
    """Replace the gradients of the layers with factors by nu U, in single precision at least.

    Args:
        gradients: By parameter; changed here.
        layers: Of the model, by name.
        curvature: Of each layer.
        groups: Settings of each parameter that has a gradient.
        kl_clip: nu = min(1, sqrt(kl_clip / (lr^2 sum_l <U_l, grad_l>))); None: nu = 1.

    Returns:
        Layers that keep their gradients, which is SGD, with the reason.
    """
    moved: list[Tensor] = []
    products: dict[float, list[Tensor]] = {}  # <U, grad> by learning rate
    kept = {}
    for name, layer in layers.items():
        weight, bias, mine = layer.weight, layer.bias, curvature[name]
        dW, db = gradients.get(weight), None if bias is None else gradients.get(bias)
        if dW is None and db is None:
            continue
        if mine.inverse is None:
            kept[name] = "no pass has brought statistics of it (not called, or behind a re-entrant checkpoint)"
        elif dW is None or (bias is not None and db is None):
            kept[name] = "only a part of its parameters has a gradient"
        else:
            grad = wide(dW if dW.ndim == 2 else dW.flatten(1))  # (out, in)
            if db is not None:
                grad = torch.cat([grad, wide(db)[:, None]], 1)  # (out, in + 1)
            U = mine.solve(grad, groups[weight]["damping"])
            if kl_clip is not None:
                products.setdefault(groups[weight]["lr"], []).append((U * grad).sum())
            if bias is not None:
                gradients[bias], U = U[:, -1], U[:, :-1]
                moved.append(bias)
            gradients[weight] = U if dW.ndim == 2 else U.reshape(dW.shape)
            moved.append(weight)
    if kl_clip is not None and moved:
        squared = torch.stack([lr**2 * torch.stack(found).sum() for lr, found in products.items()]).sum()
        nu = (kl_clip / squared).sqrt().clamp(max=1)
        for parameter in moved:
            gradients[parameter] = gradients[parameter] * nu
    return kept

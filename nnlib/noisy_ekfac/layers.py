"""Which layers can be noisy, and how are weights and bias of one of them seen as a single matrix?

Chapter: ``book/noisy_ekfac.ipynb``.
"""

import torch
from torch import Tensor, nn

from nnlib.curvature import blocks
from nnlib.curvature.layers import shared, unfit

Layer = nn.Linear | nn.Conv2d


def noisy_layers(model: nn.Module) -> dict[str, Layer]:
    """All layers with a Kronecker block, by name.

    Raises:
        ValueError: where a trainable parameter lies elsewhere, such a layer is frozen or shares its weights, or there
            is none.
    """
    layers = blocks(model)
    inside = {p for layer in layers.values() for p in layer.parameters(recurse=False)}
    outside = [name for name, p in model.named_parameters() if p.requires_grad and p not in inside]
    if outside or not layers:
        raise ValueError(
            "every trainable parameter must belong to an nn.Linear or ungrouped nn.Conv2d: "
            f"{', '.join(outside) or 'the model has no such layer'}; BatchNorm's scale and shift can be frozen by "
            "requires_grad_(False)"
        )
    tied = shared(dict(model.named_modules()))
    reasons = {name: unfit(layer, tied.get(name)) for name, layer in layers.items()}
    if bad := [f"{name!r}: {reason}" for name, reason in reasons.items() if reason is not None]:
        raise ValueError(f"every layer needs a weight and bias of its own that are trained; {'; '.join(bad)}")
    return layers


@torch.no_grad()
def put(layer: Layer, W: Tensor) -> None:
    """Copy a joint weight, (out, in) or (out, in + 1), into the layer."""
    weight = W if layer.bias is None else W[:, :-1]
    layer.weight.copy_(weight.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(W[:, -1])


def forget_gradient(layer: Layer) -> None:
    """Set the gradients of weight and bias to None."""
    layer.weight.grad = None
    if layer.bias is not None:
        layer.bias.grad = None


def joint_gradient(layer: Layer) -> Tensor | None:
    """Gradient of the joint weight, (out, in) or (out, in + 1), as a copy; None where there is none."""
    if layer.weight.grad is None:
        return None
    grad = layer.weight.grad.flatten(1)
    if layer.bias is None:
        return grad.clone()
    assert layer.bias.grad is not None
    return torch.cat([grad, layer.bias.grad[:, None]], 1)

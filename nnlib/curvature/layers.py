"""Which layers of a network have a Kronecker block?

Those that compute s = W x for certain: ``nn.Linear`` and ``nn.Conv2d`` without groups, and subclasses that have not
replaced the computation. Chapter: ``book/curvature.ipynb``.
"""

from collections.abc import Iterable, Mapping
from typing import TypeGuard

from torch import nn
from torch.nn.parameter import is_lazy

from nnlib.arguments import shown, typed

Layer = nn.Linear | nn.Conv2d  # with a Kronecker block
COMPUTING = ("forward", "_conv_forward", "__call__")


@typed
def blocks(model: nn.Module) -> dict[str, Layer]:
    """The layers that have a Kronecker block, by name: ``nn.Linear`` and ``nn.Conv2d`` without groups.

    Chapter: ``book/curvature.ipynb``.

    >>> list(blocks(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))))
    ['0', '2']
    """
    return _with_block(dict(model.named_modules()))


def chosen(modules: Mapping[str, nn.Module], names: Iterable[str] | None) -> dict[str, Layer]:
    """All layers with a Kronecker block, or those of these names.

    Args:
        modules: All of a model, by name.
        names: None for all.

    Raises:
        ValueError: for a name that the model does not have, a layer without a Kronecker block, or no name at all.
    """
    if names is None:
        found = _with_block(modules)
        if not found:
            raise ValueError("the model has no layer with a Kronecker block: nn.Linear or nn.Conv2d without groups")
        return found
    found = {}
    for name in listed("layers", names):
        if name not in modules:
            known = ", ".join(_with_block(modules))
            raise ValueError(f"the model has no layer {name!r}; the names of those with a Kronecker block are {known}")
        layer = modules[name]
        if not _has_block(layer):
            known = ", ".join(_with_block(modules))
            why = f"{_refusal(layer)}; the names of those that have one are {known}"
            raise ValueError(f"layer {name!r} has no Kronecker block: {why}")
        found[name] = layer
    if not found:
        raise ValueError("layers must name at least one layer: got none")
    return found


def listed(argument: str, names: Iterable[str]) -> list[str]:
    """The names; a single string would be taken letter by letter.

    Raises:
        ValueError: for a string, or what is no list.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        kind = "the string " if isinstance(names, str) else ""
        raise ValueError(f"{argument} must be a list of names: got {kind}{shown(names)}")
    return list(names)


def shared(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """For each module with a parameter that another one has too (tied weights), the name of one such other."""
    every = [p for module in modules.values() for p in {*module._parameters.values()} if p is not None]
    if len(every) == len(set(every)):
        return {}
    owners: dict[nn.Parameter, list[str]] = {}
    for name, module in modules.items():
        for parameter in {parameter for parameter in module._parameters.values() if parameter is not None}:
            owners.setdefault(parameter, []).append(name)
    return {name: names[names[0] == name] for names in owners.values() if len(names) > 1 for name in names}


def unfit(layer: Layer, tied: str | None) -> str | None:
    """Why a layer's weight can't be moved by its own block, if it can't; ``tied`` is what :func:`shared` has of it."""
    own = dict(layer.named_parameters(recurse=False))
    if own.get("weight") is not layer.weight or own.get("bias") is not layer.bias:
        return "its weight or bias is made from other parameters"
    if tied is not None:
        return f"it shares parameters with {tied!r}"
    if not all(parameter.requires_grad for parameter in own.values()):
        return "it is frozen, at least in part"
    return None


def _with_block(modules: Mapping[str, nn.Module]) -> dict[str, Layer]:
    return {name: layer for name, layer in modules.items() if _has_block(layer)}


def _has_block(layer: nn.Module) -> TypeGuard[Layer]:
    return isinstance(layer, (nn.Linear, nn.Conv2d)) and _refusal(layer) is None


def _refusal(layer: nn.Module) -> str | None:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"{type(layer).__name__} is neither nn.Linear nor nn.Conv2d"
    kind = nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d
    own = type(layer) is not kind and any(
        getattr(type(layer), method, None) is not getattr(kind, method, None) for method in COMPUTING
    )
    if own or not vars(layer).keys().isdisjoint(COMPUTING):
        return f"{type(layer).__name__} computes its output in its own way"
    if is_lazy(layer.weight):
        return "its sizes are not known before it has run once"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"its {layer.groups} groups see different inputs, so one factor does not describe them"
    return None

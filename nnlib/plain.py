"""Does a layer compute what its class says? Only then may its weights be cut, rotated, or read as a matrix.

A subclass, a parametrisation, a hook or a forward of the instance's own may compute anything. Shared by methods that
cut or replace layers: ``eigendamage`` and ``self_tuning``.
"""

from collections import Counter

from torch import Tensor, nn

from nnlib.arguments import typed

Layer = nn.Linear | nn.Conv2d
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


@typed
def layer_of(model: nn.Module, name: str) -> Layer:
    """The layer with weights of this name.

    Raises:
        ValueError: for no such layer, or one that isn't exactly ``nn.Linear`` or ``nn.Conv2d``.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    layer = modules.get(name)
    if layer is None:
        known = ", ".join(name for name, module in modules.items() if isinstance(module, Layer))
        raise ValueError(f"the model has no layer with the name {name!r}: its layers are {known}")
    if not isinstance(layer, Layer):
        raise ValueError(f"the name {name!r} must be that of an nn.Linear or nn.Conv2d: got {type(layer).__name__}")
    if why := why_not_plain(layer):
        raise ValueError(f"layer {name!r} can't be pruned: {why}; leave it out of `layers`")
    return layer


@typed
def why_not_plain(layer: nn.Module, known: tuple[type[nn.Module], ...] = ()) -> str | None:
    """What makes a layer of torch, or of a ``known`` class, another function than its class's own, or None.

    >>> why_not_plain(nn.Linear(2, 2))
    >>> why_not_plain(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))[:59]
    'its class is torch.nn.utils.parametrize.ParametrizedLinear,'
    """
    kind = type(layer)
    if not kind.__module__.startswith("torch.nn.modules.") and kind not in known:
        above = next((base for base in kind.__mro__ if base.__module__.startswith("torch.nn.modules.")), nn.Module)
        name = f"{kind.__module__}.{kind.__name__}"
        return f"its class is {name}, of which nothing is known but that {above.__name__} is above it"
    if "forward" in vars(layer):
        return f"this {kind.__name__} has a forward of its own"
    for where in HOOKS:
        if names := [_name(hook) for hook in getattr(layer, where).values() if not _ours(hook)]:
            return f"this {kind.__name__} carries the hook {names[0]}"
    if isinstance(layer, Layer) and set(layer._parameters) | set(layer._buffers) != {"weight", "bias"}:
        found = ", ".join([*layer._parameters, *layer._buffers])
        return f"this {kind.__name__} holds {found} in the place of a weight and a bias"
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return f"the {name} of this {kind.__name__} carries a hook"
    return None


@typed
def tied(model: nn.Module) -> dict[str, str]:
    """By parameter, another module's name for it: the two modules share one tensor.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> net[1].weight = net[0].weight
    >>> tied(net)
    {'0.weight': '1.weight', '1.weight': '0.weight'}
    """
    owned: list[tuple[str, Tensor]] = [
        (f"{name}.{key}".lstrip("."), parameter)
        for name, module in model.named_modules()  # a module with two names counts once
        for key, parameter in module._parameters.items()
        if parameter is not None
    ]
    count = Counter(id(parameter) for _, parameter in owned)
    return {
        name: next(other for other, p in owned if p is parameter and other != name)
        for name, parameter in owned
        if count[id(parameter)] > 1
    }


def _ours(hook: object) -> bool:
    """Hooks of this package note what passes, or put channels in their places."""
    return str(getattr(hook, "__module__", type(hook).__module__)).startswith("nnlib.")


def _name(hook: object) -> str:
    return str(getattr(hook, "__qualname__", type(hook).__qualname__))

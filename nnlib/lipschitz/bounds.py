"""By how much can one layer stretch, and may it be believed? Exact types are measured, promises are checked.

A module's class says little: a subclass may compute something else, a hook may change the output, an attribute may hide
a method. What isn't known to be what it seems is refused by name. Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from nnlib.arguments import typed
from nnlib.lipschitz.layers import Constrained, Norms
from nnlib.lipschitz.norms import conv_norm, conv_norm_bound, dense_norm, known_norm, pair, with_rounding

Size = Sequence[int] | None

# Gains of torch's own layers without weights, in every norm. In evaluation mode dropout is the identity.
KNOWN: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.Identity: lambda layer: 1.0,
    nn.Flatten: lambda layer: 1.0,
    nn.Unflatten: lambda layer: 1.0,
    nn.PixelUnshuffle: lambda layer: 1.0,
    nn.PixelShuffle: lambda layer: 1.0,
    nn.ReLU: lambda layer: 1.0,
    nn.Tanh: lambda layer: 1.0,
    nn.Sigmoid: lambda layer: 0.25,
    nn.LeakyReLU: lambda layer: max(1.0, abs(layer.negative_slope)),
}
DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@typed
def layer_bound(layer: nn.Module, norms: Norms = None, size: Size = None) -> tuple[float, float, Norms]:
    """Bound, residual and norms of a layer: from itself, or for torch's own layers from what they are.

    torch's dense layers and convolutions make no promise, so their residual is 0: the bound is the true norm of the
    weight, for convolutions a proven bound on it. Dropout counts in evaluation mode only. A parametrized layer
    of torch is measured on the weight that its parametrization gives.

    Args:
        layer: One module without Lipschitz parts of its own.
        norms: For torch's own linear layers: from which norm to which; by default (2, 2).
        size: H and W of a convolution's images, where they are known; else the bound holds for all that it takes.

    Raises:
        ValueError: naming the layer, where no bound is known, it isn't finite, or the layer may compute something else;
            norms that aren't two of 1, 2 and inf, a size that isn't two whole numbers.

    Chapter: book/groupsort.ipynb

    >>> layer_bound(nn.ReLU())
    (1.0, 0.0, None)
    """
    if norms is not None:
        if len(norms) != 2:
            raise ValueError(f"norms must be two of 1, 2 and inf: got {norms}")
        for p in norms:
            known_norm(norms=p)
    if size is not None:
        pair(size=size)
    check_unchanged(layer)
    if promises(layer):
        (bound, residual), norms = _promise(layer), layer.norms  # pyright: ignore
    else:
        bound, residual, norms = _measure(layer, norms or (2, 2), size), 0.0, norms or (2, 2)
        if not hasattr(layer, "weight"):
            norms = None
    if not (0 <= bound < math.inf and 0 <= residual < math.inf):  # NaN fails too
        raise ValueError(f"{_named(layer)} has the bound {bound} and is {residual} from its constraint: no promise")
    return bound, residual, norms


def promises(module: nn.Module) -> bool:
    """Whether a module's class answers ``lipschitz_bound()``.

    >>> promises(nn.ReLU())
    False
    """
    return hasattr(type(module), "lipschitz_bound")


def own_type(module: nn.Module) -> type[nn.Module]:
    """Its class, below a parametrization: torch replaces the class by one that computes the parameter.

    >>> own_type(torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))).__name__
    'Linear'
    """
    return type(module).__mro__[1] if is_parametrized(module) else type(module)


def check_unchanged(module: nn.Module) -> None:
    """Refuse a module that carries hooks, or attributes of its own that hide its class's methods.

    Old-style ``weight_norm``, ``spectral_norm`` and ``prune`` are hooks.

    Raises:
        ValueError: naming what it carries.

    >>> layer = nn.ReLU()
    >>> _ = layer.register_forward_hook(lambda *_: None)
    >>> check_unchanged(layer)
    Traceback (most recent call last):
    ValueError: ReLU() carries a hook, which may change what it computes: no bound is known. Remove it first
    """
    if any(getattr(module, name, None) for name in HOOKS):
        raise ValueError(
            f"{_named(module)} carries a hook, which may change what it computes: no bound is known. Remove it first"
        )
    for name, value in vars(module).items():
        measured = name == "compute_weight" and isinstance(module, Constrained)  # the bound is that of what it gives
        if callable(value) and callable(getattr(type(module), name, None)) and not measured:
            raise ValueError(f"{_named(module)} has a {name} of its own in place of its class's: no bound is known")


def conv2d_bound(
    weight: Tensor, stride: Sequence[int] = (1, 1), dilation: Sequence[int] = (1, 1), groups: int = 1
) -> float:
    """A proven bound on a convolution with any number of zeros around, for images of every size.

    Groups are blocks of one operator, so that the largest counts. A dilated kernel has the same frequencies, passed
    several times. A stride leaves out outputs, unless the kernel is cut into its phases, which is sharper.

    Args:
        weight: Shape (c_out, c_in / groups, k_h, k_w).
        stride: Along both axes.
        dilation: Along both axes.
        groups: Of channels.

    >>> round(conv2d_bound(torch.full((1, 1, 2, 2), 0.25), stride=(2, 2)), 4)
    0.5
    """
    bounds = []
    for part in weight.detach().chunk(groups):
        bound = conv_norm_bound(part)
        if stride[0] == stride[1] > 1 and tuple(dilation) == (1, 1):
            bound = torch.minimum(bound, conv_norm_bound(part, stride=stride[0]))
        bounds.append(with_rounding(bound, part))
    return max(bounds)


def repeats(layer: nn.Conv2d, size: Size = None) -> int:
    """How often an output may occur because circular padding goes round more than once; 1 for other padding.

    >>> repeats(nn.Conv2d(1, 1, 1, padding=3, padding_mode="circular"), (4, 4))
    9
    """
    if layer.padding_mode != "circular":
        return 1
    times, sides = 1, layer._reversed_padding_repeated_twice  # left, right, above, below
    for axis in (0, 1):
        before, after = sides[2 - 2 * axis], sides[3 - 2 * axis]
        n = max(before, after, 1) if size is None else size[axis]  # a smaller image is refused by torch
        span = n + before + after - layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        times *= max(1, math.ceil(span / n))
    return times


def _measure(layer: nn.Module, norms: tuple[float, float], size: Size) -> float:
    layer_: Any = layer
    kind = own_type(layer)
    if kind in KNOWN and not is_parametrized(layer):
        return KNOWN[kind](layer)
    if kind in DROPOUT and not layer.training:
        return 1.0
    if kind is nn.Linear:
        _check_settled(layer)
        return with_rounding(dense_norm(layer_.weight, norms), layer_.weight)
    if kind is nn.Conv2d and norms == (2, 2) and layer_.padding_mode in ("zeros", "circular"):
        _check_settled(layer)
        return (
            _circular(layer_, size)
            if _wraps(layer_)
            else conv2d_bound(layer_.weight, layer_.stride, layer_.dilation, layer_.groups)
        )
    raise ValueError(
        f"no Lipschitz bound is known for {_named(layer)}: give its class a method lipschitz_bound() -> "
        "(bound, residual) and an attribute norms, or leave it out"
    )


def _wraps(layer: nn.Conv2d) -> bool:
    return layer.padding_mode == "circular" and any(layer._reversed_padding_repeated_twice)


def _circular(layer: nn.Conv2d, size: Size) -> float:
    """Every output is one of the circular convolution of stride 1, and occurs at most ``repeats`` times."""
    weight, times = layer.weight.detach(), repeats(layer, size)
    bound = conv2d_bound(weight, groups=layer.groups)
    s = layer.stride[0]
    if size is not None and layer.dilation == (1, 1):
        whole = layer.stride[1] == s and not any(n % s for n in size)
        # Outputs that occur once are a part of those of the stride, if it divides the image.
        stride = s if whole and times == 1 else 1
        parts = [with_rounding(conv_norm(part, size, stride=stride), part) for part in weight.chunk(layer.groups)]
        bound = min(bound, max(parts))
    return math.sqrt(times) * bound


def check_forward(layer: nn.Module, method: str) -> None:
    """Refuse a class with a forward that is newer than the method that speaks of it.

    Raises:
        ValueError: naming the layer.

    >>> check_forward(nn.ReLU(), "extra_repr")
    """
    classes = type(layer).__mro__
    asked, runs = (next(i for i, c in enumerate(classes) if name in vars(c)) for name in (method, "forward"))
    called = next(c for c in classes if "__call__" in vars(c))
    if asked > runs or called is not nn.Module:
        raise ValueError(
            f"{_named(layer)} has a forward of its own, and its {method} speaks of {classes[asked].__name__}'s: "
            "no bound is known"
        )


def _promise(layer: Any) -> tuple[float, float]:
    check_forward(layer, "lipschitz_bound")
    if isinstance(layer, Constrained):
        _check_settled(layer)
    return layer.lipschitz_bound()


@torch.no_grad()
def _check_settled(layer: Any) -> None:
    """A parametrization, or a subclass's weight, may draw or count: then what is measured isn't what is used."""
    known = type(layer).__module__.startswith(("nnlib.", "torch.")) and "compute_weight" not in vars(layer)
    if is_parametrized(layer) or not known:
        kept = isinstance(layer, Constrained) and type(layer).weight is Constrained.weight  # from the last time
        compute = layer.compute_weight if kept else lambda: layer.weight
        first = compute().clone()
        if first.isfinite().all() and not torch.equal(first, compute()):
            raise ValueError(f"{_named(layer)} has another weight each time it is asked for: no bound is known")


def _named(layer: nn.Module) -> str:
    return f"{type(layer).__name__}({layer.extra_repr()})"

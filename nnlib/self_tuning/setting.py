"""What do the layers of a network know of the hyperparameters? One object that they all share.

Chapter: ``book/self_tuning.ipynb``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from nnlib.arguments import shown, typed, within


@typed
class Setting:
    """The hyperparameters of one forward pass.

    Args:
        values: By name, each () or one for each example, (B,).
        response: Input of the best response, (B, n), or None for none: then all layers are ordinary.
        generator: Of masks and noise, on the device of the data; None is torch's own.
        linear: Whether layers answer by derivatives, in forward mode: the network that is linear in its response.

    Attributes:
        text: Whether the present input is token ids (T, B), whose second axis counts the examples.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor] | None = None,
        response: Tensor | None = None,
        generator: torch.Generator | None = None,
        linear: bool = False,
    ):
        for name, value in (values or {}).items():
            if not isinstance(value, Tensor):
                raise TypeError(f"values must be tensors, by name: got {shown(value)} for {name!r}")
        self.values = dict(values or {})
        self.response = response
        self.linear = linear
        self.generator = generator
        self.text = False

    def value(self, name: str, like: Tensor) -> Tensor:
        """A hyperparameter, () or (B,), on the device and in the dtype of ``like``.

        Raises:
            ValueError: if the network was given no value of that name.
        """
        if name not in self.values:
            raise ValueError(
                f"no value for {name!r}: have one in the schedule, or call set_values(network, values) before training"
            )
        return self.values[name].to(like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draws from [0, 1) of a shape, on the device and in the dtype of ``like``."""
        return torch.rand(shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Setting":
        memo[id(self)] = copy = Setting(self.values)  # a copied network draws by itself: generators can't be shared
        return copy


RATE = (0.0, 1.0)
STRENGTH = (0.0, math.inf)


class Regularizer(nn.Module):
    """A layer that is random in training and the identity in evaluation mode; it knows its hyperparameters by name.

    Args:
        names: Of the hyperparameters that it asks for.
        limits: The smallest and the largest value that any of them may have.
    """

    setting: Setting

    def __init__(self, *names: str, limits: tuple[float, float] = STRENGTH):
        super().__init__()
        self.names = names
        self.limits = dict.fromkeys(names, limits)
        self.setting = Setting()

    def value(self, name: str, like: Tensor, batch_dim: int | None = None) -> Tensor:
        """A hyperparameter, shaped so that it broadcasts over ``like`` along its batch.

        Raises:
            ValueError: if the network was given no value of that name.
        """
        value = self.setting.value(name, like)
        if value.ndim == 0 or batch_dim is None:
            return value
        if like.ndim <= batch_dim or like.shape[batch_dim] not in (len(value), 1):
            raise ValueError(
                f"x must have the {len(value)} examples of the values along axis {batch_dim}: got shape "
                f"{tuple(like.shape)}"
            )
        return value.view([-1 if d == batch_dim else 1 for d in range(like.ndim)])

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draws from [0, 1) of a shape, on the device and in the dtype of ``like``."""
        return self.setting.uniform(shape, like)


@typed
def set_values(network: nn.Module, values: Mapping[str, float], generator: torch.Generator | None = None) -> None:
    """Give all regularisers of an ordinary network their hyperparameters.

    Raises:
        TypeError: for a value that is no number.
        ValueError: for one that is not finite, or that a regulariser can't have, such as a dropout rate above 1.

    Args:
        network: Has regularisers of this package; changed in place.
        values: By name; those that no layer asks for are ignored (a loss may use them). Whole numbers for discrete
            ones.
        generator: Of the masks and noise from here on.

    >>> from nnlib.self_tuning import Dropout
    >>> network = nn.Sequential(Dropout("rate"))
    >>> set_values(network, {"rate": 0.5}, torch.Generator().manual_seed(0))
    >>> sorted(set(network(torch.ones(4, 10)).flatten().tolist()))
    [0.0, 2.0]
    """
    within("(-inf, inf)", **{f"the value {name!r}": value for name, value in values.items()})
    held = {name: torch.as_tensor(value, dtype=torch.float64, device="cpu") for name, value in values.items()}
    for name, (low, high) in limits_of(network).items():
        if name in held and not low <= held[name] <= high:
            raise ValueError(f"{name!r} must be from {low:g} to {high:g}: got {values[name]}")
    share(network, Setting(held, generator=generator))


def limits_of(network: nn.Module) -> dict[str, tuple[float, float]]:
    """The smallest and the largest value, by name, that the network's regularisers can have."""
    found: dict[str, tuple[float, float]] = {}
    for module in network.modules():
        limits = getattr(module, "limits", None)
        for name, (low, high) in limits.items() if isinstance(limits, dict) else ():
            before = found.get(name, (-math.inf, math.inf))
            found[name] = max(low, before[0]), min(high, before[1])
    return found


def kept(rate: Tensor, uniform: Tensor) -> Tensor:
    """Inverted dropout's factor: 1 / (1 - rate) with probability 1 - rate, else 0; at rate 1 always 0, as torch's."""
    keep = 1 - rate
    return (uniform < keep) / keep.clamp(min=torch.finfo(uniform.dtype).tiny)


def scale(x: Tensor, factor: Tensor) -> Tensor:
    """x times a constant; of a pair (x, dx) of forward mode both parts, which is faster than torch's product rule."""
    value, slope = forward_ad.unpack_dual(x)
    return value * factor if slope is None else forward_ad.make_dual(value * factor, slope * factor)


def share(network: nn.Module, setting: Setting) -> None:
    """Give every layer that asks for a setting this one."""
    for module in network.modules():
        if isinstance(getattr(module, "setting", None), Setting):
            setattr(module, "setting", setting)  # noqa: B010 - torch's stubs know parameters and modules only

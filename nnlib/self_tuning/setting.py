"""What do the layers of a network know of the hyperparameters? One object that they all share.

Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad


class Setting:
    """The hyperparameters of one forward pass.

    Args:
        values: By name, each () or one for each example, (B,).
        response: Input of the best response, (B, n), or None for none: then all layers are ordinary.
        generator: Of masks and noise, on the device of the data; None is torch's own.
        linear: Whether layers answer by derivatives, in forward mode: the network that is linear in its response.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor] | None = None,
        response: Tensor | None = None,
        generator: torch.Generator | None = None,
        linear: bool = False,
    ):
        self.values = dict(values or {})
        self.response = response
        self.linear = linear
        self.generator = generator

    def value(self, name: str, like: Tensor) -> Tensor:
        """A hyperparameter, () or (B,), on the device and in the dtype of ``like``.

        Raises:
            ValueError: if the network was given no value of that name.
        """
        if name not in self.values:
            raise ValueError(f"no value for {name!r}: call set_values(network, values) before training")
        return self.values[name].to(like)

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draws from [0, 1) of a shape, on the device and in the dtype of ``like``."""
        return torch.rand(shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Setting":
        memo[id(self)] = copy = Setting(self.values)  # a copied network draws by itself: generators can't be shared
        return copy


class Regularizer(nn.Module):
    """A layer that is random in training and the identity in evaluation mode; it knows its hyperparameters by name.

    Args:
        names: Of the hyperparameters that it asks for.
    """

    setting: Setting

    def __init__(self, *names: str):
        super().__init__()
        self.names = names
        self.setting = Setting()

    def value(self, name: str, like: Tensor, batch_dim: int | None = None) -> Tensor:
        """A hyperparameter, shaped so that it broadcasts over ``like`` along its batch.

        Raises:
            ValueError: if the network was given no value of that name.
        """
        value = self.setting.value(name, like)
        if value.ndim == 0 or batch_dim is None:
            return value
        return value.view([-1 if d == batch_dim else 1 for d in range(like.ndim)])

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Draws from [0, 1) of a shape, on the device and in the dtype of ``like``."""
        return self.setting.uniform(shape, like)


def set_values(network: nn.Module, values: Mapping[str, float], generator: torch.Generator | None = None) -> None:
    """Give all regularisers of an ordinary network their hyperparameters.

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
    held = {name: torch.as_tensor(value, dtype=torch.float64, device="cpu") for name, value in values.items()}
    share(network, Setting(held, generator=generator))


def scale(x: Tensor, factor: Tensor) -> Tensor:
    """x times a constant; of a pair (x, dx) of forward mode both parts, which is faster than torch's product rule."""
    value, slope = forward_ad.unpack_dual(x)
    return value * factor if slope is None else forward_ad.make_dual(value * factor, slope * factor)


def share(network: nn.Module, setting: Setting) -> None:
    """Give every layer that asks for a setting this one."""
    for module in network.modules():
        if isinstance(getattr(module, "setting", None), Setting):
            setattr(module, "setting", setting)  # noqa: B010 - torch's stubs know parameters and modules only

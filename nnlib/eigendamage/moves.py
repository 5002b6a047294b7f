"""Where in memory are the channels that are left? A sum needs zeros for what one of its operands lacks.

Hooks do it, so that a pruned model keeps its own class, code and names of layers. Chapter: ``book/eigendamage.ipynb``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import typed
from nnlib.eigendamage.weights import booleans


@typed
class Fill(nn.Module):
    """Puts channels in their places among zeros: (B, kept, ...) -> (B, channels, ...).

    Args:
        present: Which of the channels the input has, booleans (channels,).

    Chapter: ``book/eigendamage.ipynb``.

    >>> Fill(torch.tensor([True, False, True]))(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 0., 2.]])
    """

    places: Tensor

    def __init__(self, present: Tensor):
        booleans(present.numel(), present=present)
        super().__init__()
        self.channels = len(present)
        self.register_buffer("places", present.nonzero()[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.channels, *x.shape[2:]).index_copy(1, self.places.to(x.device), x)


class Take(nn.Module):
    """Takes some of the channels: (B, channels, ...) -> (B, kept, ...).

    Args:
        kept: Which, booleans (channels,).

    Chapter: ``book/eigendamage.ipynb``.

    >>> Take(torch.tensor([True, False, True]))(torch.tensor([[1.0, 0.0, 2.0]]))
    tensor([[1., 2.]])
    """

    places: Tensor

    def __init__(self, kept: Tensor):
        super().__init__()
        self.register_buffer("places", kept.nonzero()[:, 0])

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.places.to(x.device))


class Moved:
    """A hook that puts the channels of a module's input or output where the rest of the network has them.

    Args:
        source: Which channels come, booleans (channels,).
        target: Which are wanted; those that do not come are zero.
        key: Position or keyword of the argument, or None for the output.
    """

    def __init__(self, source: Tensor, target: Tensor, key: int | str | None):
        both = source & target
        self.steps = [Take(both[source])] if not torch.equal(both, source) else []
        self.steps += [Fill(both[target])] if not torch.equal(both, target) else []
        self.key = key

    def move(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def __call__(self, module: nn.Module, args: Any, other: Any) -> Any:
        if self.key is None:
            return self.move(other)
        if isinstance(self.key, str):
            return args, other | {self.key: self.move(other[self.key])}
        return (*args[: self.key], self.move(args[self.key]), *args[self.key + 1 :]), other


def moves_of(module: nn.Module) -> list[nn.Module]:
    """What hooks of this kind do to a module's input and output."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return [step for hook in hooks if isinstance(hook, Moved) for step in hook.steps]

"""Which activations keep the norm of a gradient? Those that only change the order or the sign of their inputs.

Sorting has a permutation as its Jacobian wherever no two entries of a group are equal. ReLU and Maxout throw entries
away. Paper: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb.
"""

import torch
from torch import Tensor, nn

from nnlib.arguments import one_of, typed, whole


@typed
class GroupSort(nn.Module):
    """Sort each group of neighbouring features in ascending order, along axis 1: features, or channels of images.

    Args:
        group_size: g; it must divide the number of features. None: all of them (FullSort).

    Raises:
        ValueError: a group of fewer than two; in forward, where the groups do not fit.

    Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb

    >>> GroupSort(2)(torch.tensor([[3.0, 1.0, 2.0, 5.0]])).tolist()
    [[1.0, 3.0, 2.0, 5.0]]
    """

    norms = None  # 1-Lipschitz from every p-norm to the same

    def __init__(self, group_size: int | None = 2):
        super().__init__()
        if group_size is not None:
            whole(2, group_size=group_size)
        self.group_size = group_size

    def forward(self, x: Tensor) -> Tensor:  # (n, features, ...) -> the same shape
        groups = _groups(x, self.group_size)  # (n, features / g, g, ...)
        if groups.shape[2] == 2:  # an extremum of two is faster than a sort, and splits the gradient at a tie
            first, second = groups.unbind(2)
            return torch.stack((torch.minimum(first, second), torch.maximum(first, second)), 2).flatten(1, 2)
        return groups.sort(dim=2, stable=True).values.flatten(1, 2)

    def lipschitz_bound(self) -> tuple[float, float]:
        """The bound 1 and the residual 0: nothing here is approximate."""
        return 1.0, 0.0

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}"


class MaxMin(GroupSort):
    """GroupSort with groups of two: (a, b) -> (min, max). The order and the pairing are absorbed by the next layer.

    Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb
    """

    def __init__(self):
        super().__init__(2)


class FullSort(GroupSort):
    """GroupSort with a single group. Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb"""

    def __init__(self):
        super().__init__(None)


class Maxout(GroupSort):
    """Only the largest entry of each group: 1-Lipschitz, but the gradient of the other entries is lost.

    Args:
        group_size: g; the output has features / g entries.

    Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb

    >>> Maxout(2)(torch.tensor([[3.0, 1.0, 2.0, 5.0]])).tolist()
    [[3.0, 5.0]]
    """

    def forward(self, x: Tensor) -> Tensor:  # (n, features, ...) -> (n, features / g, ...)
        return _groups(x, self.group_size).amax(2)

    def lipschitz_bound(self) -> tuple[float, float]:
        """The bound 1 and the residual 0: a part of the sorted entries."""
        return 1.0, 0.0


class Abs(nn.Module):
    """Entrywise |x|. In the 2-norm as expressive as MaxMin, of which it is a rotation.

    Source: arXiv 1811.05381, appendix. Chapter: book/groupsort.ipynb
    """

    norms = None

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()

    def lipschitz_bound(self) -> tuple[float, float]:
        """The bound 1 and the residual 0."""
        return 1.0, 0.0


ACTIVATIONS = {
    "MaxMin": MaxMin,
    "GroupSort4": lambda: GroupSort(4),
    "FullSort": FullSort,
    "Maxout": lambda: Maxout(2),
    "Abs": Abs,
    "ReLU": nn.ReLU,
    "tanh": nn.Tanh,
}


@typed
def activation(name: str) -> nn.Module:
    """A new activation by its name: a key of ``ACTIVATIONS``.

    Raises:
        ValueError: another name.

    >>> activation("GroupSort4")
    GroupSort(group_size=4)
    """
    one_of(ACTIVATIONS, name=name)
    return ACTIVATIONS[name]()


def check_groups(layer: nn.Module, **named: int) -> None:
    """Refuse a number of features that the groups of an activation don't fill.

    >>> check_groups(MaxMin(), width=3)
    Traceback (most recent call last):
    ValueError: width must make groups of 2 for MaxMin(group_size=2): got 3 features
    """
    size = getattr(layer, "group_size", None) or 1
    for name, features in named.items():
        if features % size:
            raise ValueError(f"{name} must make groups of {size} for {layer}: got {features} features")


def _groups(x: Tensor, group_size: int | None) -> Tensor:
    if x.ndim < 2 or not x.shape[1]:
        raise ValueError(f"x must have shape (n, features, ...): got {tuple(x.shape)}")
    size = group_size or x.shape[1]
    if x.shape[1] % size:
        raise ValueError(f"group_size must divide the number of features in x: got {size} and {x.shape[1]}")
    return x.unflatten(1, (-1, size))

"""What does a layer promise, and does it keep it? The contract of Lipschitz layers, and those both papers use.

A Lipschitz layer answers ``lipschitz_bound() -> (bound, residual)``: a proven bound on its gain, measured on the weight
that it really uses, and how far that weight is from its constraint. ``norms`` says from which norm to which.
Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn.functional import interpolate, linear

from nnlib.arguments import seeded, shown, typed, whole, within
from nnlib.lipschitz.bjorck import bjorck, residual
from nnlib.lipschitz.norms import dense_norm, with_rounding
from nnlib.lipschitz.values import plain

Norms = tuple[float, float] | None
TRAINING_TOLERANCE = 1e-6  # a gradient is not worth more; what is evaluated and certified goes to machine precision


class Constrained(nn.Module):
    """A layer whose weight is computed from its parameters, by ``compute_weight``.

    It is computed afresh wherever a gradient may be asked for. In evaluation mode, where none is (under ``no_grad``, or
    with frozen parameters), the weight of the last time is used again if everything it was computed from is equal,
    value by value, to what it was: whoever changed a parameter, and however, the weight follows. Autocast does not
    reach the computation: in half precision the constraint would not hold.
    """

    norms: Norms = (2, 2)

    def __init__(self):
        super().__init__()
        self._cached: tuple[list[Tensor], dict[str, str], Tensor] | None = None

    def compute_weight(self) -> Tensor:
        """The weight that is used, from the parameters."""
        raise NotImplementedError(f"{type(self).__name__} must say how its weight is computed")

    @property
    def weight(self) -> Tensor:
        """The weight that is used, with gradients unless nothing asks for them."""
        tensors = [*self.parameters(), *self.buffers()]
        with full_precision(tensors[0].device.type if tensors else "cpu"):
            if self.training or not _constant(tensors):
                return self.compute_weight()
            own = vars(self).items()
            options = {name: repr(value) for name, value in own if isinstance(value, _PLAIN) or callable(value)}
            if self._cached is None or not _equal(self._cached[0], tensors) or self._cached[1] != options:
                # A tensor of inference mode could never be used for a gradient again.
                with torch.inference_mode(False), torch.no_grad():
                    weight = self.compute_weight()
                    self._cached = ([tensor.detach().clone() for tensor in tensors], options, weight)
            return self._cached[2]

    def train(self, mode: bool = True) -> "Constrained":
        """Training or evaluation mode; either way the cache starts empty."""
        self._cached = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cached": None}  # a copy or a saved module computes its own

    def lipschitz_bound(self) -> tuple[float, float]:
        """A proven bound on the gain, and the distance of the weight from its constraint."""
        raise NotImplementedError(f"{type(self).__name__} must answer lipschitz_bound()")

    def plain(self) -> nn.Module:
        """A layer of torch with the same weight: for :func:`nnlib.lipschitz.export`."""
        raise ValueError(f"no layer of torch stands for {type(self).__name__}")


_PLAIN = (bool, int, float, str, list)  # settings that a weight may depend on


def full_precision(device: str) -> AbstractContextManager:
    """Without autocast, on a type of device.

    >>> with torch.autocast("cpu", torch.bfloat16), full_precision("cpu"):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    on = device != "meta" and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if on else nullcontext()


def _constant(tensors: list[Tensor]) -> bool:
    """Whether these are plain numbers, of which nobody asks for a derivative, backward or forward."""
    graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if graph or not all(map(plain, tensors)):
        return False
    return not any(unpack_dual(tensor).tangent is not None for tensor in tensors)


def _equal(before: list[Tensor], now: list[Tensor]) -> bool:
    return len(before) == len(now) and all(
        (a.dtype, a.device, a.shape) == (b.dtype, b.device, b.shape) and torch.equal(a, b)
        for a, b in zip(before, now, strict=True)
    )


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient: one with respect to the input is cheaper. Afterwards all is as it was.

    >>> model = nn.Linear(2, 1)
    >>> with frozen(model):
    ...     model.weight.requires_grad
    False
    >>> model.weight.requires_grad
    True
    """
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter.is_leaf]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)


@typed
class OrthogonalLinear(Constrained):
    """A dense layer with orthonormal rows or columns, whichever are fewer, by Björck's iteration: y = gain W x + b.

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        bias: Whether there is one; it starts at zero (large biases would fix the order in all groups of a sort, and
            the network would be linear).
        gain: The layer's Lipschitz constant: K^(1/L) each for a network of L layers.
        order: As in :func:`bjorck`.
        steps: As in :func:`bjorck`; by default as many as the machine precision needs in evaluation mode, and as a
            residual of 1e-6 needs in training.
        seed: Of the orthogonal initialisation, drawn on the CPU in float64.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: a number out of its range; in forward, another number of features.

    Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb

    >>> layer = OrthogonalLinear(6, 4, seed=0)
    >>> bound, residual = layer.lipschitz_bound()
    >>> abs(bound - 1) < 1e-6, residual < 1e-5
    (True, True)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        gain: float = 1.0,
        order: int = 2,
        steps: int | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        whole(1, n_in=n_in, n_out=n_out)
        whole(1, 4, order=order)
        if steps is not None:
            whole(1, steps=steps)
        within("(0, inf)", gain=gain)
        self.gain, self.order, self.steps = gain, order, steps
        start = orthogonal_matrix(n_out, n_in, seed)
        self.raw = parameter(start, device, dtype)  # (out, in)
        self.bias = parameter(torch.zeros(n_out, device="cpu"), device, dtype) if bias else None

    def compute_weight(self) -> Tensor:
        tolerance = TRAINING_TOLERANCE if self.training else None
        return self.gain * bjorck(self.raw, self.order, tolerance=tolerance, steps=self.steps)

    def forward(self, x: Tensor) -> Tensor:  # (n, in) -> (n, out)
        check_features(x, self.raw.shape[1])
        return linear(x, self.weight, self.bias)

    def lipschitz_bound(self) -> tuple[float, float]:
        """The largest singular value, and ‖I - W Wᵀ / gain²‖_F."""
        weight = self.weight.detach()
        return with_rounding(dense_norm(weight), weight), residual(weight / self.gain).item()

    def plain(self) -> nn.Linear:
        """``nn.Linear``."""
        return plain_linear(self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.raw.shape[1]}, {self.raw.shape[0]}, bias={self.bias is not None}, gain={self.gain:g}"


def check_features(x: Tensor, count: int) -> None:
    """Refuse inputs of a dense layer with another number of features; a graph of torch.fx has no shapes to look at.

    >>> check_features(torch.ones(5, 2), 3)
    Traceback (most recent call last):
    ValueError: x must have shape (..., 3): got (5, 2)
    """
    if isinstance(x, Tensor) and x.shape[-1:] != (count,):
        raise ValueError(f"x must have shape (..., {count}): got {tuple(x.shape)}")


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """``nn.Linear`` with copies of a weight, (out, in), and a bias.

    >>> plain_linear(torch.eye(2), None)
    Linear(in_features=2, out_features=2, bias=False)
    """
    out, size = weight.shape
    layer = nn.Linear(size, out, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    return filled(layer, weight, bias)


def filled(layer: Any, weight: Tensor, bias: Tensor | None) -> Any:
    """A layer with copies of these values in it.

    >>> filled(nn.Linear(1, 1, bias=False), torch.ones(1, 1), None).weight.item()
    1.0
    """
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def parameter(start: Tensor, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Parameter:
    """A parameter with these values, on the default device and in the default dtype where none are given.

    >>> parameter(torch.ones(2, dtype=torch.float64), None, None).dtype
    torch.float32
    """
    where = torch.get_default_device() if device is None else device
    return nn.Parameter(start.to(where, dtype or torch.get_default_dtype()))


@typed
def orthogonal_matrix(rows: int, columns: int, seed: int) -> Tensor:
    """A random matrix with orthonormal rows or columns, float64, the same on every device.

    Raises:
        ValueError: a size below 1, or another seed.

    >>> orthogonal_matrix(2, 3, seed=0).shape
    torch.Size([2, 3])
    """
    whole(1, rows=rows, columns=columns)
    with torch.device("cpu"):
        return nn.init.orthogonal_(torch.empty(rows, columns, dtype=torch.float64), generator=seeded(seed))


@typed
class Normalize(nn.Module):
    """(x - mean) / std for each channel: subtracting is free, dividing costs a factor 1 / min(std) in every norm.

    Args:
        mean: One number, or one a channel (axis 1), finite.
        std: Likewise, > 0.

    Raises:
        TypeError: no numbers.
        ValueError: other numbers; in forward, another number of channels.

    Chapter: book/groupsort.ipynb

    >>> round(Normalize([0.5, 0.4], [0.25, 0.2]).lipschitz_bound()[0], 3)
    5.0
    """

    norms: Norms = None
    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float] | Tensor, std: float | Sequence[float] | Tensor):
        super().__init__()
        # In float64, so that a later cast rounds once.
        self.register_buffer("mean", finite_numbers("cpu", mean=mean).cpu().flatten())
        self.register_buffer("std", finite_numbers("cpu", std=std).cpu().flatten())
        if not (self.std > 0).all():
            raise ValueError(f"std must be positive: got {self.std.tolist()}")
        if 1 != self.mean.numel() != self.std.numel() != 1:
            raise ValueError(f"mean and std must be one number or as many: got {len(self.mean)} and {len(self.std)}")

    def forward(self, x: Tensor) -> Tensor:
        channels = max(self.mean.numel(), self.std.numel())
        # One channel would be repeated for each of several numbers, which lengthens it.
        if x.ndim < 2 or channels not in (1, x.shape[1]):
            raise ValueError(f"x must have shape (n, {channels}, ...): got {tuple(x.shape)}")
        shape = (-1, *[1] * (x.ndim - 2))
        return (x - self.mean.to(x).view(shape)) / self.std.to(x).view(shape)

    def lipschitz_bound(self) -> tuple[float, float]:
        """1 / min(std)."""
        return 1 / self.std.min().item(), 0.0


def finite_numbers(device: torch.device | str | None = None, **named: float | Sequence | Tensor) -> Tensor:
    """A copy in float64 of a number, or of numbers as lists, an array or a tensor hold them: finite, at least one.

    Where a tensor is, there it stays; other numbers come to ``device``.

    Raises:
        TypeError: no numbers.
        ValueError: none, or one that is complex or not finite.

    >>> finite_numbers(weight=[[1, 2]])
    tensor([[1., 2.]], dtype=torch.float64)
    >>> finite_numbers(mean=[0.5, None])
    Traceback (most recent call last):
    TypeError: mean must be finite numbers, at least one: got [0.5, None]
    """
    ((name, value),) = named.items()
    told = f"{name} must be finite numbers, at least one: got {shown(value)}"
    try:
        dtype = None if isinstance(value, np.ndarray) else torch.float64  # a cast would hide complex numbers
        numbers = value if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(told) from error
    if numbers.is_complex() or not numbers.numel() or not numbers.isfinite().all():
        raise ValueError(told)
    return numbers.detach().to(torch.float64, copy=True)


@typed
class Upsample(nn.Module):
    """Every pixel becomes a block of ``factor`` x ``factor``: the 2-norm is multiplied by ``factor``.

    Args:
        factor: Whole number >= 1.

    Raises:
        ValueError: another factor; in forward, inputs that are not (n, c, h, w).

    Chapter: book/bcop.ipynb

    >>> Upsample(2).lipschitz_bound()
    (2.0, 0.0)
    """

    norms: Norms = (2, 2)

    def __init__(self, factor: int):
        super().__init__()
        whole(1, factor=factor)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:  # (n, c, h, w) -> (n, c, h factor, w factor)
        if x.ndim != 4:
            raise ValueError(f"x must have shape (n, c, h, w): got {tuple(x.shape)}")
        return interpolate(x, scale_factor=self.factor, mode="nearest")

    def lipschitz_bound(self) -> tuple[float, float]:
        """The factor: each value is repeated factor² times."""
        return float(self.factor), 0.0

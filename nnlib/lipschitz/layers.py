"""What does a layer promise, and does it keep it? The contract of Lipschitz layers, and those both papers use.

A Lipschitz layer answers ``lipschitz_bound() -> (bound, residual)``: a proven bound on its gain, measured on the weight
that it really uses, and how far that weight is from its constraint. ``norms`` says from which norm to which.
Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear

from nnlib.lipschitz.bjorck import bjorck, residual
from nnlib.lipschitz.norms import conv_norm_bound, dense_norm

Norms = tuple[float, float] | None
TRAINING_TOLERANCE = 1e-6  # a gradient is not worth more; what is evaluated and certified goes to machine precision


class Constrained(nn.Module):
    """A layer whose weight is computed from its parameters, by ``compute_weight``.

    In training mode ``weight`` is computed afresh, with gradients; in evaluation mode once, without, and again as soon
    as a parameter is changed in place, loaded, moved or cast.
    """

    norms: Norms = (2, 2)

    def __init__(self):
        super().__init__()
        self._cached: tuple[tuple, Tensor] | None = None

    def compute_weight(self) -> Tensor:
        """The weight that is used, from the parameters."""
        raise NotImplementedError(f"{type(self).__name__} must say how its weight is computed")

    @property
    def weight(self) -> Tensor:
        """The weight that is used: with gradients in training mode, cached in evaluation mode."""
        if self.training:
            return self.compute_weight()
        state = tuple((p._version, p.data_ptr(), p.dtype, p.device) for p in (*self.parameters(), *self.buffers()))
        if self._cached is None or self._cached[0] != state:
            with torch.no_grad():
                self._cached = (state, self.compute_weight())
        return self._cached[1]

    def train(self, mode: bool = True) -> "Constrained":
        """Training or evaluation mode; either way the cache starts empty."""
        self._cached = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cached": None}  # a copy or a saved module computes its own

    def lipschitz_bound(self) -> tuple[float, float]:
        """A proven bound on the gain, and the distance of the weight from its constraint."""
        raise NotImplementedError(f"{type(self).__name__} must answer lipschitz_bound()")


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
        if not gain > 0:
            raise ValueError(f"gain must be positive: got {gain}")
        self.gain, self.order, self.steps = gain, order, steps
        start = orthogonal_matrix(n_out, n_in, seed)
        self.raw = parameter(start, device, dtype)  # (out, in)
        self.bias = parameter(torch.zeros(n_out, device="cpu"), device, dtype) if bias else None

    def compute_weight(self) -> Tensor:
        tolerance = TRAINING_TOLERANCE if self.training else None
        return self.gain * bjorck(self.raw, self.order, tolerance=tolerance, steps=self.steps)

    def forward(self, x: Tensor) -> Tensor:  # (n, in) -> (n, out)
        return linear(x, self.weight, self.bias)

    def lipschitz_bound(self) -> tuple[float, float]:
        """The largest singular value, and ‖I - W Wᵀ / gain²‖_F."""
        weight = self.weight.detach()
        return _with_rounding(dense_norm(weight), weight), residual(weight / self.gain).item()

    def extra_repr(self) -> str:
        return f"{self.raw.shape[1]}, {self.raw.shape[0]}, bias={self.bias is not None}, gain={self.gain:g}"


def parameter(start: Tensor, device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Parameter:
    """A parameter with these values, on the default device and in the default dtype where none are given.

    >>> parameter(torch.ones(2, dtype=torch.float64), None, None).dtype
    torch.float32
    """
    where = torch.get_default_device() if device is None else device
    return nn.Parameter(start.to(where, dtype or torch.get_default_dtype()))


def orthogonal_matrix(rows: int, columns: int, seed: int) -> Tensor:
    """A random matrix with orthonormal rows or columns, float64, the same on every device.

    >>> orthogonal_matrix(2, 3, seed=0).shape
    torch.Size([2, 3])
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    with torch.device("cpu"):
        return nn.init.orthogonal_(torch.empty(rows, columns, dtype=torch.float64), generator=generator)


class Normalize(nn.Module):
    """(x - mean) / std for each channel: subtracting is free, dividing costs a factor 1 / min(std) in every norm.

    Args:
        mean: One number, or one a channel (axis 1).
        std: Likewise, > 0.

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
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64, device="cpu").reshape(-1))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float64, device="cpu").reshape(-1))
        if not (self.std > 0).all():
            raise ValueError(f"std must be positive: got {self.std.tolist()}")

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return (x - self.mean.to(x).view(shape)) / self.std.to(x).view(shape)

    def lipschitz_bound(self) -> tuple[float, float]:
        """1 / min(std)."""
        return 1 / self.std.min().item(), 0.0


class Upsample(nn.Module):
    """Every pixel becomes a block of ``factor`` x ``factor``: the 2-norm is multiplied by ``factor``.

    Args:
        factor: Whole number >= 1.

    Chapter: book/bcop.ipynb

    >>> Upsample(2).lipschitz_bound()
    (2.0, 0.0)
    """

    norms: Norms = (2, 2)

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:  # (n, c, h, w) -> (n, c, h factor, w factor)
        return interpolate(x, scale_factor=self.factor, mode="nearest")

    def lipschitz_bound(self) -> tuple[float, float]:
        """The factor: each value is repeated factor² times."""
        return float(self.factor), 0.0


def layer_bound(layer: nn.Module, norms: Norms = None) -> tuple[float, float, Norms]:
    """Bound, residual and norms of a layer: from itself, or for torch's own layers from what they are.

    torch's dense layers and convolutions make no promise, so their residual is 0: the bound is the true norm of the
    weight (for convolutions over all image sizes). Dropout counts in evaluation mode only.

    Args:
        layer: One module without Lipschitz parts of its own.
        norms: For torch's own linear layers: from which norm to which; by default (2, 2).

    Raises:
        ValueError: naming the layer, where no bound is known.

    Chapter: book/groupsort.ipynb

    >>> layer_bound(nn.ReLU())
    (1.0, 0.0, None)
    """
    own: Any = layer
    if hasattr(own, "lipschitz_bound"):
        return *own.lipschitz_bound(), own.norms
    for kind, bound in _KNOWN.items():
        if isinstance(layer, kind):
            return bound(layer), 0.0, None
    if isinstance(layer, nn.Dropout) and not layer.training:
        return 1.0, 0.0, None
    norms = norms or (2, 2)
    if isinstance(layer, nn.Linear):
        return _with_rounding(dense_norm(layer.weight, norms), layer.weight), 0.0, norms
    if isinstance(layer, nn.Conv2d) and norms == (2, 2) and _plain(layer):
        return _with_rounding(conv_norm_bound(layer.weight, stride=layer.stride[0]), layer.weight), 0.0, norms
    raise ValueError(
        f"no Lipschitz bound is known for {layer}: give it a method lipschitz_bound() -> (bound, residual) "
        "and an attribute norms, or leave it out"
    )


_KNOWN: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.Identity: lambda layer: 1.0,
    nn.Flatten: lambda layer: 1.0,
    nn.ReLU: lambda layer: 1.0,
    nn.Tanh: lambda layer: 1.0,
    nn.Sigmoid: lambda layer: 0.25,
    nn.LeakyReLU: lambda layer: max(1.0, abs(layer.negative_slope)),
    nn.PixelUnshuffle: lambda layer: 1.0,
}


def _plain(layer: nn.Conv2d) -> bool:
    same = layer.stride[0] == layer.stride[1] and layer.dilation == (1, 1)
    return same and layer.groups == 1 and layer.padding_mode in ("zeros", "circular")


def _with_rounding(norm: Tensor, weight: Tensor) -> float:
    """A norm computed in float64, raised by what rounding may have hidden."""
    return norm.item() * (1 + 4 * math.prod(weight.shape[1:]) * torch.finfo(torch.float64).eps)

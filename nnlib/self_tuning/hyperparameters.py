"""What is tuned? Named, bounded values that a tuner moves freely along the real line.

Paper: arXiv 1903.03088, section 3.3. Chapter: ``book/self_tuning.ipynb``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from nnlib.arguments import real, shown, typed, within


def inverse_softplus(value: float) -> float:
    """The u with softplus(u) = ln(1 + e^u) = value, for a positive value; stable for large and small ones.

    >>> round(inverse_softplus(math.log(2)), 12)
    0.0
    """
    return value + math.log(-math.expm1(-value))


def floored(value: Tensor, span: float = 0.0) -> Tensor:
    """The whole number below; a value that only rounding keeps below one counts as it.

    Args:
        value: Any shape.
        span: Width of the range that it was computed from, whose rounding it has.

    >>> floored(torch.tensor([1.9999999, 2.0, 2.99]))
    tensor([2., 2., 2.])
    """
    rounding = 16 * torch.finfo(value.dtype).eps * (1 + value.abs() + span)
    return (value + rounding.clamp(max=0.01)).floor()


@typed
@dataclass(frozen=True)
class Hyperparameter:
    """A value of a range, and its coordinate u on the real line.

    ``(a, b)``: a + (b - a) sigmoid(u); ``(a, None)``: a + softplus(u); ``(None, b)``: b - softplus(u);
    ``(None, None)``: u itself. A *discrete* one is rounded down wherever training uses it, and so are the values of a
    history; the best response sees the continuous u. Far out on the real line rounding may put a value on an end.

    Args:
        name: By which losses, regularisers and histories know it.
        range: Lower and upper end, both excluded; None where there is none.
        init: Start, inside the range.
        discrete: Whether training uses the whole number below.
        shared: Whether all examples of a batch get one perturbation: for what acts on the weights, not on an example.

    Raises:
        ValueError: for an empty range, or a start outside of it.

    Source: arXiv 1903.03088, section 3.3 and the authors' published code. Chapter: ``book/self_tuning.ipynb``.

    >>> rate = Hyperparameter("dropout", (0, 0.9), init=0.05)
    >>> u = rate.unconstrained(0.45)
    >>> round(float(u), 6), round(float(rate.value(torch.tensor(u))), 6)
    (0.0, 0.45)
    """

    name: str
    range: tuple[float | None, float | None]
    init: float
    discrete: bool = False
    shared: bool = False

    def __post_init__(self):
        if len(self.range) != 2:
            raise ValueError(f"range must be a pair (low, high), for {self.name!r}: got {shown(self.range)}")
        for end in self.range:
            if end is not None:
                within("(-inf, inf)", **{f"each end of the range of {self.name!r}": end})
        low, high = self.range
        if low is not None and high is not None and not (low < high and math.isfinite(high - low)):
            raise ValueError(f"the range of {self.name!r} must go from low to high: got {self.range}")
        self._refuse_outside(init=self.init)

    def value(self, u: Tensor) -> Tensor:
        """The value at coordinate u, of any shape; continuous also where it is discrete."""
        low, high = self.range
        if low is not None and high is not None:
            return low + (high - low) * u.sigmoid()
        if low is not None:
            return low + softplus(u)
        return u if high is None else high - softplus(u)

    def used(self, value: Tensor) -> Tensor:
        """What training uses at a value of any shape: of a discrete one the whole number below, inside the range."""
        if not self.discrete:
            return value
        low, high = self.range
        span = high - low if low is not None and high is not None else 0.0
        first, last = -math.inf if low is None else math.floor(low), math.inf if high is None else math.ceil(high) - 1
        return floored(value, span).clamp(first, last)

    def unconstrained(self, value: float) -> float:
        """The coordinate of a value.

        Raises:
            ValueError: for a value outside the range or at its end.
        """
        self._refuse_outside(value=value)
        low, high = self.range
        above, below = (math.inf if low is None else value - low), (math.inf if high is None else high - value)
        if math.isfinite(above) and math.isfinite(below):
            return math.log(above / below)
        if low is None and high is None:
            return float(value)
        return inverse_softplus(min(above, below))

    def _refuse_outside(self, **named: float) -> None:
        low, high = (sign * math.inf if end is None else end for end, sign in zip(self.range, (-1, 1), strict=True))
        for name, value in named.items():
            within("(-inf, inf)", **{f"the {name} of {self.name!r}": value})
            if not low < value < high:
                raise ValueError(f"the {name} of {self.name!r} must lie inside {self.range}: got {value}")


@typed
class Space:
    """Several hyperparameters, in a fixed order.

    Args:
        hypers: What is tuned.
        fixed: Values, by name, of what training uses beside them and nobody tunes.

    Raises:
        TypeError: for what is no hyperparameter, or no number.
        ValueError: for none, two of one name, or a fixed value that is not finite.

    >>> space = Space([Hyperparameter("dropout", (0, 1), 0.5), Hyperparameter("holes", (0, 4), 2, discrete=True)])
    >>> {name: float(value) for name, value in space.used(torch.tensor([0.0, 0.3])).items()}
    {'dropout': 0.5, 'holes': 2.0}
    """

    def __init__(self, hypers: Sequence[Hyperparameter], fixed: Mapping[str, float] | None = None):
        for hyper in hypers:
            if not isinstance(hyper, Hyperparameter):
                raise TypeError(f"hypers must be a list of Hyperparameter: got {shown(hyper)} in it")
        within("(-inf, inf)", **{f"the fixed {name!r}": value for name, value in (fixed or {}).items()})
        self.hypers, self.fixed = list(hypers), dict(fixed or {})
        self.names = [hyper.name for hyper in self.hypers]
        every = [*self.names, *self.fixed]
        if not self.hypers or len(set(every)) < len(every):
            raise ValueError(f"hypers and fixed must have different names, at least one: got {every}")

    def __len__(self) -> int:
        return len(self.hypers)

    @typed
    def unconstrained(self, values: Mapping[str, float], **where) -> Tensor:
        """Coordinates (n,) of values by name; ``where`` are ``device`` and ``dtype``.

        Raises:
            ValueError: if a name is missing or unknown, or a value is out of its range or too large for the dtype.
        """
        if set(values) != set(self.names):
            raise ValueError(f"values are needed for {self.names}: got {sorted(map(str, values))}")
        u = torch.tensor([hyper.unconstrained(values[hyper.name]) for hyper in self.hypers], **where)
        if not bool(u.isfinite().all()):
            raise ValueError(f"the values of {self.names} must be numbers of {u.dtype}: got {dict(values)}")
        return u

    @typed
    def inside(self, values: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
        """Values inside their ranges, by single precision's rounding, and the names of those that were on an end."""
        moved = dict(values)
        for hyper in self.hypers:
            for end, sign in zip(hyper.range, (1, -1), strict=True):
                if end is not None and values.get(hyper.name) == end:
                    other = hyper.range[0] if sign < 0 else hyper.range[1]
                    span = 1.0 if other is None else abs(other - end)
                    moved[hyper.name] = end + sign * span * 2.0**-24
        return moved, [name for name in moved if moved[name] != values[name]]

    def values(self, u: Tensor) -> dict[str, float]:
        """Values by name at the coordinates u (n,), continuous also of discrete ones."""
        real("n", {"n": len(self)}, u=u)
        return {hyper.name: float(hyper.value(x)) for hyper, x in zip(self.hypers, u.detach(), strict=True)}

    def used(self, u: Tensor) -> dict[str, Tensor]:
        """What training uses at coordinates u (n,) or (B, n), without a gradient: () or (B,); shared and fixed: ()."""
        found = {name: u.new_tensor(value) for name, value in self.fixed.items()}
        for hyper, x in zip(self.hypers, u.detach().unbind(-1), strict=True):
            found[hyper.name] = hyper.used(hyper.value(x[0] if hyper.shared and x.ndim else x))
        return found

    def noise(self, batch_size: int, generator: torch.Generator, like: Tensor) -> Tensor:
        """Standard normal draws (B, n); one for all examples where a hyperparameter is shared."""
        eps = torch.randn(batch_size, len(self), generator=generator, device=like.device, dtype=like.dtype)
        shared = torch.tensor([hyper.shared for hyper in self.hypers], device=like.device)
        return torch.where(shared, eps[:1], eps)

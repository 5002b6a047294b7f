"""Is a number what a formula needs? Refused at the boundary by name, before it is squared or its sign is lost.

Chapters: ``book/noisy_ekfac.ipynb``, ``book/functional_bnn.ipynb``.
"""

import math
from numbers import Integral, Real
from typing import Any

from torch import Tensor


def positive(**numbers: Any) -> None:
    """Raise ValueError for the first of these numbers that is not positive and finite.

    >>> positive(noise_sd=-0.3)
    Traceback (most recent call last):
    ...
    ValueError: noise_sd must be positive and finite: got -0.3
    """
    for name, value in numbers.items():
        if not 0 < _number(name, value) < math.inf:
            raise ValueError(f"{name} must be positive and finite: got {_number(name, value)}")


def not_negative(**numbers: Any) -> None:
    """Raise ValueError for the first of these numbers that is negative or not finite."""
    for name, value in numbers.items():
        if not 0 <= _number(name, value) < math.inf:
            raise ValueError(f"{name} must be finite and not negative: got {_number(name, value)}")


def fraction(**numbers: Any) -> None:
    """Raise ValueError for the first of these numbers that is not in [0, 1)."""
    for name, value in numbers.items():
        if not 0 <= _number(name, value) < 1:
            raise ValueError(f"{name} must be in [0, 1): got {_number(name, value)}")


def whole(least: int = 1, **numbers: Any) -> None:
    """Raise ValueError for the first of these that is not a whole number of at least ``least``."""
    for name, value in numbers.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}: got {value!r}")


def finite(**tensors: Tensor) -> None:
    """Raise ValueError for the first of these tensors that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(f"{name} must be finite: {bad} of {tensor.numel()} numbers are not")


def _number(name: str, value: Any) -> float:
    """As a float; a scalar tensor may have a gradient."""
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.detach())
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{name} must be a number: got {value!r}")

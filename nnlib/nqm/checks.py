"""What may an argument be? What `nnlib.arguments` doesn't know of: numpy's arrays, batch sizes, targets.

Chapter: book/nqm.ipynb.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nnlib.arguments import shown, within

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as Numbers

    from nnlib.nqm.problem import NoisyQuadratic
else:
    Numbers = Any  # no class tells whether numpy can read it: `numbers` tries

MOST = 2**53  # of whole numbers: up to here float64 has each one
LEAST_TARGET, NEAREST_TARGET = 1e-20, 1e-6  # as shares of the risk at the start


def numbers(**named: Numbers) -> NDArray[np.float64]:
    """One argument, given by its name, as an array of its own.

    Raises:
        TypeError: it holds anything but real numbers.

    >>> numbers(h=["one"])
    Traceback (most recent call last):
    TypeError: h must be a real number or an array of them: got ['one']
    """
    ((name, value),) = named.items()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # rows of different lengths, or a tensor that numpy can't read
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be a real number or an array of them: got {shown(value)}")
    return array.astype(np.float64)


def check_batch_size(batch_size: float) -> None:
    """Refuse what is no positive number; math.inf is one.

    Raises:
        TypeError, ValueError: it is none.
    """
    if not (isinstance(batch_size, float) and batch_size == math.inf):
        within("(0, inf)", batch_size=batch_size)


def check_target(problem: "NoisyQuadratic", target: float) -> None:
    """Refuse a risk that is met at the start, or so near to it or to 0 that rounding decides.

    Raises:
        TypeError, ValueError: it is none, or one of those.
    """
    within("(0, inf)", target=target)
    start = problem.initial_risk
    if not LEAST_TARGET * start <= target <= (1 - NEAREST_TARGET) * start:
        raise ValueError(
            f"target must lie between 0 and the initial risk {start:.6g}, "
            f"and {LEAST_TARGET:g} and {NEAREST_TARGET:g} of that away from them: got {target}"
        )

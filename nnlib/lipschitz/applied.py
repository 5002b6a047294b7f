"""What does a model make of points? A row for each, or an error that names them. Chapter: book/groupsort.ipynb."""

from collections.abc import Callable

import torch
from torch import Tensor

from nnlib.arguments import shown


def applied(model: Callable[[Tensor], Tensor], **named: Tensor) -> Tensor:
    """The model's output for points, which the error names as the caller does: ``applied(model, x=x)``.

    Raises:
        ValueError: points that the model can't take, with what torch says of them; an output that has no row for each.

    >>> applied(torch.nn.Linear(3, 1), x=torch.ones(5, 2))
    Traceback (most recent call last):
    ValueError: x must be what the model takes: mat1 and mat2 shapes cannot be multiplied (5x2 and 3x1), got a tensor...
    """
    ((name, points),) = named.items()
    try:
        out = model(points)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:  # a wrong shape, dtype or device, in torch's words or ours
        raise ValueError(f"{name} must be what the model takes: {error}, got {shown(points)}") from error
    if not isinstance(out, Tensor) or out.ndim == 0 or len(out) != len(points):
        got = tuple(out.shape) if isinstance(out, Tensor) else shown(out)
        raise ValueError(f"model must give a row for each of the {len(points)} points of {name}: got {got}")
    return out

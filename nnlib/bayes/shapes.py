"""Do targets belong to outputs? What a head and a metric refuse, before anything is broadcast.

Chapter: ``book/noisy_ekfac.ipynb``.
"""

from typing import Any

from torch import Tensor

from nnlib.arguments import labels, real


def same_shape(outputs: Tensor, y: Tensor, copies: int = 0) -> None:
    """Refuse targets (n,) beside outputs (n, 1), whose difference would silently be (n, n); only shapes are looked at.

    Args:
        outputs: (..., n, C).
        y: (n, C), with so many leading dimensions more as there are copies.
        copies: See above.
    """
    real("...", finite=False, outputs=outputs, y=y)
    if outputs.ndim < 2 + copies:
        raise ValueError(f"outputs must have shape (..., n, C), {2 + copies} axes or more: got {tuple(outputs.shape)}")
    expected = outputs.shape[-2 - copies :]
    if expected != y.shape:
        raise ValueError(f"y must have the shape of the outputs, {tuple(expected)}: got {tuple(y.shape)}")


def check_classes(outputs: Tensor, y: Tensor, name: str = "outputs", *, finite: bool = True) -> None:
    """Refuse what are no scores (..., n, C) with a class from 0 to C - 1 for each row, (n,).

    Args:
        outputs: The scores.
        y: The classes.
        name: What the caller calls the scores.
        finite: Whether scores that are not finite are refused.
    """
    scores: dict[str, Any] = {name: outputs}
    real("...", finite=finite, **scores)
    if outputs.ndim < 2 or y.shape != outputs.shape[-2:-1]:
        wanted, found = "must have shapes (..., n, C) and (n,)", f"{tuple(outputs.shape)} and {tuple(y.shape)}"
        raise ValueError(f"{name} and y {wanted}: got {found}")
    labels(outputs.shape[-1], "n", y=y)

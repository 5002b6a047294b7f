"""Does a changed network say what it should? It is asked about two examples before anybody gets it.

Chapter: ``book/eigendamage.ipynb``.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nnlib.eigendamage.trace import alone, copied, tensors_of, two_of


def outputs(model: nn.Module, x: Tensor, training: bool = False, seed: int = 0) -> Any:
    """What a copy of the model says about two examples."""
    model = copied(model)
    with alone(model, training, seed):
        return model(two_of(x))


def verify(changed: nn.Module, model: nn.Module, x: Tensor, expected: list[Any]) -> None:
    """Refuse a changed model that does not run where the original does, or in evaluation mode says other than expected.

    The tolerance is eps^(1/4) of the largest number: far above rounding and far below what a wrong channel does. A
    model that says something else at every call, such as one with dropout in evaluation mode, can't be compared.

    Args:
        changed: The changed model.
        model: The original.
        x: Inputs.
        expected: What should come, in two draws.

    Raises:
        ValueError: saying what went wrong.
    """
    name = type(model).__name__
    for training in (False, True):
        try:
            found = outputs(changed, x, training)
        except Exception as error:
            if training and _fails(model, x):
                return
            mode = "training" if training else "evaluation"
            raise ValueError(
                f"{name} can't be changed: its own code does not run with the changed layers in {mode} mode ({error})"
            ) from error
        if training and _shapes(found) != _shapes(outputs(model, x, training)):
            raise ValueError(f"{name} can't be changed: in training mode its outputs would have other shapes")
        if training or not _same(*expected, exact=True):
            continue
        if not _same(found, expected[0], exact=False):
            raise ValueError(
                f"{name} can't be changed: its own code uses the weights or the size of a changed layer in another way "
                "than by calling that layer"
            )


def _fails(model: nn.Module, x: Tensor) -> bool:
    try:
        outputs(model, x, training=True)
    except Exception:
        return True
    return False


def _shapes(output: Any) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors_of(output)]


def _same(found: Any, expected: Any, exact: bool) -> bool:
    ours, theirs = tensors_of(found), tensors_of(expected)
    if _shapes(found) != _shapes(expected):
        return False
    for one, other in zip(ours, theirs, strict=True):
        if not other.is_floating_point():
            continue  # a class may change where two are nearly equal
        scale = other.abs().nan_to_num(0, 0, 0).amax().item() if other.numel() else 0.0
        tolerance = 0.0 if exact else torch.finfo(other.dtype).eps ** 0.25 * scale
        if not torch.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True):
            return False
    return True

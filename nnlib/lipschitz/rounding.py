"""By how much may rounding move a network's output? A bound carried along with the values, for a whole ball of inputs.

Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.5. Chapter: book/groupsort.ipynb.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.linalg import vector_norm

from nnlib.lipschitz.operations import Step


class NotCertifiable(ValueError):
    """A layer's weight is too far from its constraint, or rounding too large, for a certificate to mean anything."""


def unit_roundoff(x: Tensor) -> float:
    """u: half the distance from 1 to the next number, in the precision that products of this tensor are taken in.

    On request, and in convolutions on a GPU unless asked not to, torch takes products of float32 in fewer digits.

    >>> unit_roundoff(torch.ones(1, dtype=torch.float64)) == 2**-53
    True
    """
    digits = -math.log2(torch.finfo(x.dtype).eps) + 1
    if x.dtype == torch.float32:
        asked = torch.get_float32_matmul_precision()
        if asked == "medium":
            digits = 8  # bfloat16
        elif asked == "high" or (x.is_cuda and torch.backends.cudnn.allow_tf32):
            digits = 11  # TF32
    return 2.0**-digits


def worst_error(step: Step, out: Tensor, norm: float, reach: Tensor, unit: float) -> Tensor:
    """The largest rounding error of a step's result, in its norm, for all inputs of the network within ``reach`` of x.

    A sum of n products is off by at most n u / (1 - n u) times the sum of their absolute values, so a linear layer adds
    n u ‖|W|‖ ‖a‖ to what it makes of the error that comes in. A number too small for the dtype is lost whole.

    Args:
        step: With the values that it takes, and their errors.
        out: Its result at the points, shape (n, ...).
        norm: Of the result.
        reach: Shape (n), in the norm of the network's input.
        unit: u; 0 gives 0.

    Returns:
        Shape (n), float64.

    Raises:
        NotCertifiable: where n u is not below 1, so that the error may be as large as the sum.
    """
    if not unit:
        return torch.zeros_like(reach)
    came, size = [], torch.zeros_like(reach)
    for factor, value in zip(step.factors, step.inputs, strict=True):
        assert value.tensor is not None and value.error is not None
        came.append(factor * value.error)
        reached = vector_norm(value.tensor.flatten(1).double(), value.norm, dim=1) + value.gain * reach + value.error
        size = size + (reached if step.products else factor * reached)
    if step.products is None:  # a few operations an entry
        count, bias = 4.0, None
        fresh = count * unit * (size + vector_norm(out.flatten(1).double(), norm, dim=1))
    else:
        terms, absolute, bias = step.products
        count = terms + 2.0
        if not count * unit < 1:
            raise NotCertifiable(
                f"sums of {terms} products can't be bounded in {out.dtype}: their error may be as large as they are"
            )
        added = 0.0
        if bias is not None:
            spread = bias.detach().double().view(-1, 1, 1) if out.ndim == 4 else bias.detach().double()
            added = vector_norm(spread.expand(out.shape[1:]).flatten(), norm)
        fresh = count * unit / (1 - count * unit) * (absolute * size + added)
    lost = count * torch.finfo(out.dtype).tiny * out[0].numel() ** (0 if norm == math.inf else 1 / norm)
    return together(step, came) + fresh + lost


def together(step: Step, parts: Sequence):
    """The parts of a step as one: their sum, or for branches side by side their norm. Numbers, or tensors.

    >>> together(Step([], [], sums=True), [3.0, 4.0])
    7.0
    """
    norm = 1 if step.sums else step.inputs[0].norm
    if len(parts) == 1 or norm == 1:
        return sum(parts[1:], start=parts[0])
    if norm == math.inf:
        return max(parts) if isinstance(parts[0], float) else torch.stack(list(parts)).amax(0)
    return sum(part**2 for part in parts) ** 0.5

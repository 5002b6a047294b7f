"""Is a matrix positive definite in the arithmetic at hand, and what is its root? Shared by methods that need one."""

import torch
from torch import Tensor

from nnlib.arguments import real, typed


class NotPositiveDefinite(ValueError):
    """A matrix has no Cholesky factor."""


@typed
def cholesky(M: Tensor, otherwise: str) -> Tensor:
    """L with L L' = M, or an error where M is singular up to rounding.

    LAPACK refuses a pivot that is not positive, and whether the last pivot of a singular matrix is 0, or rounding above
    or below it, depends on the processor. So a pivot counts as positive only above d * eps times the entry of M that it
    is left of: in whichever unit each coordinate is measured, the same matrices have a root.

    Args:
        M: Symmetric, (d, d); what is above the diagonal is not looked at.
        otherwise: What the error says.

    Returns:
        Lower triangular, (d, d).

    Raises:
        TypeError: M is no tensor of floating-point numbers.
        NotPositiveDefinite: a ValueError; M is not finite or not positive definite, or so up to rounding.
        ValueError: M is not square.

    >>> L = cholesky(torch.tensor([[4.0, 2.0], [2.0, 5.0]]), "")
    >>> torch.allclose(L, torch.tensor([[2.0, 0.0], [1.0, 2.0]]))
    True
    """
    real("d d", finite=False, M=M)
    L, info = torch.linalg.cholesky_ex(M)
    pivots = L.diagonal() ** 2  # (d,)
    rounding = len(M) * torch.finfo(M.dtype).eps * M.diagonal()  # (d,)
    if info.item() != 0 or not bool((pivots > rounding).all()):
        raise NotPositiveDefinite(otherwise)
    return L

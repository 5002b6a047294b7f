"""May Python look at a tensor's values, and is the tensor more than these? It depends on what surrounds the call.

Chapter: book/groupsort.ipynb.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

_functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]


def readable(tensor: Tensor) -> bool:
    """Whether Python may decide by this tensor's values: not while a graph is recorded, nor inside ``vmap``.

    >>> readable(torch.ones(2))
    True
    """
    while not plain(tensor):
        if _recording() or _functorch.is_batchedtensor(tensor) or _functorch.is_legacy_batchedtensor(tensor):
            return False
        tensor = _functorch.get_unwrapped(tensor)
    return True


def plain(tensor: Tensor) -> bool:
    """Whether a tensor is numbers and nothing else: no graph is recorded, and no transform stands around it.

    >>> plain(torch.ones(2))
    True
    """
    if _recording() or _functorch.is_functorch_wrapped_tensor(tensor):
        return False
    return not _functorch.is_legacy_batchedtensor(tensor)  # of ``is_grads_batched``


def asks_backward(tensor: Tensor) -> bool:
    """Whether a plain tensor asks for a derivative, of the kind that ``backward`` gives and of no other.

    >>> asks_backward(torch.ones(2)), asks_backward(torch.ones(2, requires_grad=True))
    (False, True)
    """
    if not (torch.is_grad_enabled() and tensor.requires_grad and plain(tensor)):
        return False
    return not torch._C._are_functorch_transforms_active() and unpack_dual(tensor).tangent is None


def _recording() -> bool:
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None

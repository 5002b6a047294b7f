"""What does a network say that is linear in its response? f(x; w_0) + J_f Theta r, by one pass in forward mode.

Each layer passes on a pair: its output at w_0, and the derivative of that output along the response (``layers.py`` has
the product rule). No Jacobian is formed, and only the derivatives are part of the graph: w_0 is held.

Paper: Bae and Grosse, arXiv 2010.13514, section 3. Chapter: ``book/self_tuning.ipynb``.
"""

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._pytree import tree_map

from nnlib.arguments import shown
from nnlib.self_tuning.response import BestResponse


def linearised(model: BestResponse, x: Tensor) -> Any:
    """f(x; w_0) + J_f Theta r, at the response input r that the network has been given by ``place``.

    Returns:
        As the network's own outputs: a tensor, or tuples, lists and dicts of them; the linear terms have a gradient to
        Theta alone.

    Raises:
        TypeError: for outputs of another class, in which tensors may be hidden.

    >>> from torch import nn
    >>> from nnlib.self_tuning import Hyperparameter, respond
    >>> model = respond(nn.Linear(3, 1), [Hyperparameter("decay", (0, None), 0.1)], gate_std=1.0)
    >>> u, x = torch.tensor([[0.5], [1.0]]), torch.ones(2, 3)
    >>> _ = model.place(u, u - model.centre)
    >>> torch.allclose(linearised(model, x), model(x))  # one layer is linear in its response
    True
    """
    _load_forward_rules()
    try:
        with forward_ad.dual_level():
            model.setting.linear = True
            return tree_map(_sum, model(x))
    finally:
        model.setting.linear = False  # a penalty on the weights sees them at r


def _sum(pair: Any) -> Any:
    if pair is None or isinstance(pair, bool | int | float | str):
        return pair
    if not isinstance(pair, Tensor):
        raise TypeError(
            f"outputs must be tensors, or tuples, lists and dicts of them, for Delta-STN: got {shown(pair)}"
        )
    value, slope = forward_ad.unpack_dual(pair)
    return value if slope is None else value + slope


@cache
def _load_forward_rules() -> None:
    """Let torch load its rules of forward differentiation, once: it uses a call that it has itself deprecated."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.zeros(1, device="cpu"), torch.zeros(1, device="cpu"))

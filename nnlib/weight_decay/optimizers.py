"""Where does the decay enter? Four optimisers, each with L2 regularisation or decoupled weight decay.

L2:         W' = W - lr * step(grad + weight_decay W)      the decay passes through momentum and preconditioner
decoupled:  W' = W - lr * (step(grad) + weight_decay W)    it does not
Paper: arXiv 1810.12281, section 2. Chapter: ``book/weight_decay.ipynb``.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import one_of, shown, typed, within
from nnlib.curvature import KFAC

METHODS = ("SGD", "Adam", "K-FAC-G", "K-FAC-F")
DECAYS = ("none", "l2", "decoupled")
WHERE = ("all", "hidden", "last")
DECAYING = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
FISHER = {"K-FAC-G": "gauss_newton", "K-FAC-F": "sampled"}


class DecoupledSGD(torch.optim.SGD):
    """SGD with momentum whose decay stays out of the momentum buffer: W' = W - lr (v + weight_decay W).

    The same place of the decay as in ``torch.optim.AdamW``; torch's own SGD has L2 only.

    Args:
        params: Parameters or groups of them, as for ``torch.optim.SGD``.
        lr: Learning rate, positive.
        momentum: In [0, 1).
        weight_decay: Not negative; may differ between groups.

    Raises:
        TypeError: for what is no number or no collection of parameters.
        ValueError: for a number out of its range, in any group, or no parameters.

    Source: arXiv 1810.12281, section 2. Chapter: ``book/weight_decay.ipynb``.

    >>> w = nn.Parameter(torch.tensor([2.0]))
    >>> w.grad = torch.tensor([0.0])
    >>> DecoupledSGD([w], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    >>> w.detach()
    tensor([1.9000])
    """

    @typed
    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9, weight_decay: float = 0.0):
        _within_ranges(lr, momentum, weight_decay)
        params = params if isinstance(params, Tensor) else list(params)  # a tensor torch refuses
        if not len(params):
            raise ValueError("params must hold at least one parameter or group: got none")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay)

    @typed
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Also called for each group of the constructor."""
        if "params" not in param_group:
            raise ValueError(f"param_group must have params: got {shown(param_group)}")
        asked = self.defaults | param_group
        _within_ranges(asked["lr"], asked["momentum"], asked["weight_decay"])
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; returns the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        decays = [group["weight_decay"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.mul_(1 - group["lr"] * group["weight_decay"])
                group["weight_decay"] = 0.0  # or torch's step would add it to the gradient too
            super().step()
        finally:
            for group, decay in zip(self.param_groups, decays, strict=True):
                group["weight_decay"] = decay
        return loss


def _within_ranges(lr: float, momentum: float, weight_decay: float) -> None:
    within("(0, inf)", lr=lr)
    within("[0, 1)", momentum=momentum)
    within("[0, inf)", weight_decay=weight_decay)


@typed
def decayed_layers(model: nn.Module, where: str = "all") -> list[str]:
    """Names of the linear and convolutional layers that decay: grouped ones and those of any dimension too.

    Embeddings, recurrent layers and normalisations are none of them, and do not decay.

    Args:
        model: Its last such layer, in the order of its modules, is taken for the output layer.
        where: ``all``; ``hidden``: all but the last (in the paper's networks, the convolutions); or ``last``.

    Raises:
        ValueError: for another ``where``.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.

    >>> from nnlib.models import MLP
    >>> decayed_layers(MLP([4, 8, 3]), "last")
    ['layers.3']
    """
    one_of(WHERE, where=where)
    names = [name for name, module in model.named_modules() if isinstance(module, DECAYING)]
    return {"all": names, "hidden": names[:-1], "last": names[-1:]}[where]


@typed
def make_optimizer(
    model: nn.Module,
    method: str,
    lr: float,
    *,
    decay: str = "none",
    weight_decay: float = 0.0,
    where: str = "all",
    momentum: float = 0.9,
    **options: Any,
) -> torch.optim.Optimizer:
    """One of the paper's optimisers over the parameters of a model.

    ========  ============================  ====================================
    method    ``l2``                        ``decoupled``
    ========  ============================  ====================================
    SGD       ``torch.optim.SGD``           :class:`DecoupledSGD`
    Adam      ``torch.optim.Adam``          ``torch.optim.AdamW``
    K-FAC-G   ``KFAC``, Gauss-Newton        the same with ``decay="decoupled"``
    K-FAC-F   ``KFAC``, Fisher, sampled     the same
    ========  ============================  ====================================

    Args:
        model: Maps a batch to logits.
        method: One of ``METHODS``.
        lr: Learning rate, positive.
        decay: One of ``DECAYS``.
        weight_decay: Coefficient, not negative; a step of decoupled decay multiplies by 1 - lr * weight_decay.
        where: Which layers decay, biases with their weights; see :func:`decayed_layers`.
        momentum: Of SGD and K-FAC, in [0, 1); beta_1 of Adam.
        options: For :class:`nnlib.curvature.KFAC` or, with Adam, ``eps`` and the like.

    Raises:
        ValueError: for an unknown name, a number out of range, a coefficient without a kind of decay, or a decay that
            no layer has.
        TypeError: for an option that the method does not have.

    Source: arXiv 1810.12281, section 2. Chapter: ``book/weight_decay.ipynb``.

    >>> from nnlib.models import MLP
    >>> type(make_optimizer(MLP([4, 8, 3]), "Adam", 1e-3, decay="decoupled", weight_decay=0.1)).__name__
    'AdamW'
    """
    one_of(METHODS, method=method)
    one_of(DECAYS, decay=decay)
    _within_ranges(lr, momentum, weight_decay)
    if (decay == "none") != (weight_decay == 0):
        raise ValueError(f"weight_decay must be 0 exactly where decay is 'none': got {weight_decay} and {decay!r}")
    layers = decayed_layers(model, where)
    if decay != "none" and not layers:
        raise ValueError(f"no layer decays: the model has no linear or convolutional layer of where={where!r}")
    if method in FISHER:
        kind = None if decay == "none" else decay
        options = {"fisher": FISHER[method], "decay": kind, "decay_layers": layers} | options
        return KFAC(model, lr, momentum=momentum, weight_decay=weight_decay, **options)
    modules = dict(model.named_modules())
    decaying = {parameter for name in layers for parameter in modules[name].parameters(recurse=False)}
    groups = [
        {"params": [p for p in model.parameters() if p in decaying], "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if p not in decaying], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if method == "SGD":
        kind = DecoupledSGD if decay == "decoupled" else torch.optim.SGD
        return kind(groups, lr=lr, momentum=momentum, **options)
    kind = torch.optim.AdamW if decay == "decoupled" else torch.optim.Adam
    return kind(groups, lr=lr, betas=(momentum, 0.999), **options)

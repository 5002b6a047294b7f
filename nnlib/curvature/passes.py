"""Whose pass through a network is it? Hooks that stay with their model, and passes that are only measurements.

Chapter: ``book/curvature.ipynb``.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn


class Hook:
    """A hook that stays with its model: copied or pickled along with the module, it is one that does nothing.

    What stands in for it is of the standard library, so that a saved model needs nothing of this package.

    Args:
        call: What it does; never a part of a compiled graph.
        switch: Something with ``on``, without which nothing is done; a graph compiled meanwhile goes through.
    """

    def __init__(self, call: Callable[..., None], switch: Any = None):
        self.call, self.switch = call, switch

    def __call__(self, *args: Any) -> None:
        if self.switch is None or self.switch.on:
            self._outside(*args)

    @torch._disable_dynamo  # pyright: ignore[reportPrivateImportUsage]
    def _outside(self, *args: Any) -> None:
        self.call(*args)

    def __reduce__(self):
        return getattr, (nullcontext(), "__exit__")  # takes any arguments and gives None


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """In here a pass is a measurement: K-FAC optimisers of the model take no statistics, compiled code stands aside.

    Raises:
        ValueError: for a model that stands for another on several processes.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ValueError("model is wrapped by DistributedDataParallel: give model.module, which is measured here alone")
    token = _quiet.set(True)
    try:
        # Graphs compiled before our hooks were set would not call them.
        compiled = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext(), torch.inference_mode(False):
            yield
    finally:
        _quiet.reset(token)


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """Outside autocast, which would multiply in half precision. Where it is not on, nothing is done: that is faster."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def ordinary(x: Tensor) -> Tensor:
    """x as a tensor that gradients can be taken of: one made in inference mode is copied."""
    return x.clone() if x.is_inference() else x


def watchable() -> bool:
    """Whether the present pass is one of ordinary training: with a graph, of no measurement, transform or export."""
    transformed = torch._C._are_functorch_transforms_active()  # in vmap or jacrev there is no graph of that kind
    traced = torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()
    return torch.is_grad_enabled() and not (_quiet.get() or transformed or traced)

"""How does a constraint hold that no forward pass restores? By putting the stored weights back after a step.

A layer of this kind has a method ``project_()``. Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

from typing import Any

from torch import nn
from torch.optim import Optimizer

from nnlib.arguments import typed, whole


@typed
def project_(model: nn.Module) -> None:
    """Let every layer that projects its stored weight do so.

    Chapter: book/groupsort.ipynb, book/bcop.ipynb

    >>> import torch
    >>> class Clipped(nn.Linear):
    ...     def project_(self):
    ...         self.weight.data.clamp_(-1, 1)
    >>> layer = Clipped(2, 1)
    >>> _ = layer.weight.data.fill_(3.0)
    >>> project_(nn.Sequential(layer, nn.ReLU()))
    >>> layer.weight.tolist()
    [[1.0, 1.0]]
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "project_"):
            module.project_()


@typed
def project_every(optimizer: Optimizer, model: nn.Module, every: int = 1) -> Optimizer:
    """The same optimiser, after each ``every`` steps of which the model is projected: for :func:`nnlib.training.fit`.

    Args:
        optimizer: Any torch optimiser over the model's parameters. Its own memory (momentum) is left as it is.
        model: Whose layers to project.
        every: Steps between two projections, at least 1. With more, project once more after training.

    Source: arXiv 1811.05381, section 4; arXiv 1911.00937, appendix. Chapter: book/groupsort.ipynb, book/bcop.ipynb

    >>> import torch
    >>> class Clipped(nn.Linear):
    ...     def project_(self):
    ...         self.weight.data.clamp_(-1, 1)
    >>> layer = Clipped(2, 1)
    >>> optimizer = project_every(torch.optim.SGD(layer.parameters(), lr=10.0), layer)
    >>> layer(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    >>> layer.weight.tolist()
    [[-1.0, -1.0]]
    """
    whole(1, every=every)
    taken = 0

    def after(*_: Any) -> None:
        nonlocal taken
        taken += 1
        if taken % every == 0:
            project_(model)

    optimizer.register_step_post_hook(after)
    return optimizer

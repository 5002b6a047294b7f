"""Which ReLU units never switch off? Those that a norm constraint keeps on, so that they pass the gradient.

Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

import torch
from torch import Tensor, nn


def undead_share(model: nn.Sequential, x: Tensor, thresholds: Tensor) -> Tensor:
    """Share of ReLU units that are positive on at least a share t of the inputs, for each threshold t.

    A unit that is positive everywhere is linear. In norm-constrained ReLU networks many are: switching off would lose
    gradient.

    Args:
        model: A network with ``nn.ReLU`` layers.
        x: Inputs, shape (n, ...).
        thresholds: Shape (k), in [0, 1].

    Returns:
        Shape (k).

    Raises:
        ValueError: where there is no ReLU.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> undead_share(nn.Sequential(nn.ReLU()), torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([0.5, 1.0]))
    tensor([1.0000, 0.5000])
    """
    shares = []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                shares.append((x > 0).to(thresholds.dtype).mean(0).flatten())
    if not shares:
        raise ValueError("the model has no ReLU layer")
    return (torch.cat(shares) >= thresholds[:, None]).to(thresholds.dtype).mean(1)

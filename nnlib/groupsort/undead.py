"""Which ReLU units never switch off? Those that a norm constraint keeps on, so that they pass the gradient.

Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

import torch
from torch import Tensor, nn

from nnlib.arguments import real, shown, typed
from nnlib.lipschitz.applied import applied


@typed
def undead_share(model: nn.Sequential, x: Tensor, thresholds: Tensor) -> Tensor:
    """Share of ReLU units that are positive on at least a share t of the inputs, for each threshold t.

    A unit that is positive everywhere is linear. In norm-constrained ReLU networks many are: switching off would lose
    gradient.

    Args:
        model: A network with ``nn.ReLU`` layers.
        x: Inputs, shape (n, ...), finite.
        thresholds: Shape (k), in [0, 1].

    Returns:
        Shape (k).

    Raises:
        TypeError: inputs or thresholds that are no tensors of floating-point numbers.
        ValueError: where there is no ReLU; inputs that are not finite or not what the model takes, thresholds outside
            [0, 1].

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> undead_share(nn.Sequential(nn.ReLU()), torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([0.5, 1.0]))
    tensor([1.0000, 0.5000])
    """
    real("n ...", x=x)
    real("k", thresholds=thresholds)
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise ValueError(f"thresholds must be from 0 to 1: got {shown(thresholds.tolist())}")
    shares, x = [], x.clone()  # a layer may work in place
    with torch.no_grad():
        for layer in model:
            x = applied(layer, x=x)
            if isinstance(layer, nn.ReLU):
                shares.append((x > 0).to(thresholds.dtype).mean(0).flatten())
    if not shares:
        raise ValueError("the model has no ReLU layer")
    return (torch.cat(shares) >= thresholds[:, None]).to(thresholds.dtype).mean(1)

"""How does a Lipschitz network leave the laboratory? As plain layers with the weights that it uses.

Chapters: book/groupsort.ipynb, book/bcop.ipynb.
"""

import copy

import torch
from torch import nn

from nnlib.arguments import typed
from nnlib.lipschitz.bounds import check_forward, check_unchanged
from nnlib.lipschitz.layers import Constrained


@typed
def export(model: nn.Module) -> nn.Module:
    """A copy of a network whose constrained layers are ``nn.Linear`` and ``nn.Conv2d``, with the same certificate.

    Weights are those of evaluation mode, computed once. A stride that rearranges pixels becomes ``nn.PixelUnshuffle``
    before a convolution. A certificate reads off the plain weights what the constrained layers promised; their norms
    must be given where they aren't 2 (``certify(export(model), split, p=math.inf)``). Nothing keeps the constraint
    any more if the copy is trained.

    Args:
        model: Any module with layers of this package in it; it stays as it is.

    Returns:
        Of the same kind, in evaluation mode. A layer that is used twice stays one layer.

    Raises:
        ValueError: naming a layer that no plain layer can stand for, or that carries hooks.

    Chapter: book/groupsort.ipynb

    >>> from nnlib.lipschitz import MaxMin, OrthogonalLinear
    >>> export(nn.Sequential(OrthogonalLinear(4, 8), MaxMin()))
    Sequential(
      (0): Linear(in_features=4, out_features=8, bias=True)
      (1): MaxMin(group_size=2)
    )
    """
    twin = copy.deepcopy(model).eval()
    plain: dict[nn.Module, nn.Module] = {}
    names = {module: name or "model" for name, module in twin.named_modules()}
    for module, name in names.items():
        try:
            check_unchanged(module)
            if isinstance(module, Constrained):
                check_forward(module, "plain")
                with torch.no_grad():
                    plain[module] = module.plain().eval()
        except ValueError as error:
            raise ValueError(f"layer {name}: {error}") from error
    for module in names:
        for name, child in module._modules.items():
            if child in plain:
                module._modules[name] = plain[child]
    return plain.get(twin, twin)

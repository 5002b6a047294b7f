"""What becomes of a gradient on its way through a network at the start of training? The spectrum of its Jacobian.

Paper: arXiv 1811.05381, section 5 (dynamical isometry). Chapter: book/groupsort.ipynb.
"""

import torch
from torch import Tensor, nn

from nnlib.groupsort.layers import SpectralLinear
from nnlib.lipschitz import OrthogonalLinear, activations, dense_norm, jacobians

WEIGHTS = ("orthogonal", "spectral norm")


def jacobian_spectrum(
    activation: str, depth: int, width: int = 64, weights: str = "orthogonal", *, seed: int = 0
) -> Tensor:
    """Singular values of the Jacobian of a random network without biases, at one random input.

    Args:
        activation: A name for :func:`nnlib.lipschitz.activation`, with as many outputs as inputs.
        depth: Number of square matrices, with the activation between each two.
        width: Number of features.
        weights: "orthogonal", or "spectral norm" (Gaussian matrices, divided by their largest singular value).
        seed: Of weights and input.

    Returns:
        Shape (width), descending, float64.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> values = jacobian_spectrum("MaxMin", depth=10)
    >>> bool(torch.allclose(values, torch.ones(64, dtype=torch.float64)))
    True
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}: got {weights!r}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1: got {depth}")
    generator = torch.Generator("cpu").manual_seed(seed)
    options = {"bias": False, "dtype": torch.float64, "device": "cpu"}
    layers: list[nn.Module] = []
    for index in range(depth):
        layer: nn.Module
        if weights == "orthogonal":
            layer = OrthogonalLinear(width, width, seed=1000 * seed + index, **options)
        else:
            layer = SpectralLinear(width, width, seed=1000 * seed + index, **options)
            with torch.no_grad():
                layer.raw.normal_(generator=generator)
                layer.raw.div_(dense_norm(layer.raw))
            layer.settle_()
        layers += [layer, activations.activation(activation)]
    x = torch.randn(1, width, generator=generator, dtype=torch.float64, device="cpu")
    return torch.linalg.svdvals(jacobians(nn.Sequential(*layers[:-1]).eval(), x)[0])


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

"""What is left of a gradient after fifty layers? Its norm on the way back, layer by layer, and through training.

Paper: Li et al., arXiv 1911.00937, sections 1 and 3. Chapter: book/bcop.ipynb.
"""

import torch
from torch import Tensor, nn

from nnlib.bcop.networks import conv_layer
from nnlib.lipschitz import activation as make_activation


def gradient_norms(
    method: str,
    *,
    depth: int = 30,
    channels: int = 8,
    size: int = 8,
    kernel_size: int = 3,
    activation: str = "MaxMin",
    vectors: int = 20,
    seed: int = 0,
) -> Tensor:
    """Norms of unit gradients that travel back through a stack of convolutions at the start of training, float64.

    Args:
        method: A key of ``METHODS``.
        depth: Convolutions, each followed by an activation.
        channels: Of every layer.
        size: Of the images.
        kernel_size: Of every layer.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        vectors: Random inputs, and random gradients of their outputs.
        seed: Of weights, inputs and gradients.

    Returns:
        Shape (vectors, depth + 1): 1 at the output, then after each layer on the way back.

    Source: arXiv 1911.00937, section 3. Chapter: book/bcop.ipynb

    >>> gradient_norms("BCOP", depth=3, vectors=2).round(decimals=6).tolist()
    [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    options = {"size": size, "dtype": torch.float64, "device": "cpu"}
    layers = [
        nn.Sequential(
            conv_layer(method, channels, channels, kernel_size, seed=1000 * seed + i, **options),
            make_activation(activation),
        )
        for i in range(depth)
    ]
    generator = torch.Generator("cpu").manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    states = [torch.randn(vectors, channels, size, size, **draw).requires_grad_()]
    with torch.enable_grad():
        for layer in layers:
            states.append(layer.eval()(states[-1]))
        start = nn.functional.normalize(torch.randn(states[-1].flatten(1).shape, **draw), dim=1).view_as(states[-1])
        gradients = torch.autograd.grad(states[-1], states[:-1], start)
    norms = [start, *reversed(gradients)]
    return torch.stack([g.flatten(1).norm(dim=1) for g in norms], 1)

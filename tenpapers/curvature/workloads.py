"""The networks of the primer, all so small that their whole curvature matrix can be written down.

Chapter: ``book/curvature.ipynb``.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from nnlib.curvature import KFAC
from nnlib.descent import descend
from nnlib.models import MLP
from tenpapers.data import load, remember

LAYERS = {"layers.1": "first layer", "layers.3": "second layer", "layers.5": "last layer"}  # of ``network``


@remember()
def network(steps: int = 20, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """An MLP 9-6-6-4 in float64 after some steps of K-FAC, with the 256 digits (zero to three) that it was trained on.

    The nine inputs are averages over blocks of the image, standardised.

    Args:
        steps: Of training on all 256 examples at once.
        seed: Of the initialisation.

    Returns:
        The model, x (256, 9) and y (256,).
    """
    train = load("digits").train
    few = train.y < 4
    x = nn.functional.adaptive_avg_pool2d(train.x[few].double(), 3).flatten(1)[:256]
    x, y = (x - x.mean(0)) / x.std(0), train.y[few][:256]
    model = MLP([9, 6, 6, 4], seed=seed, dtype=torch.float64)
    optimizer = KFAC(
        model, lr=0.1, damping=0.03, momentum=0.0, fisher="exact", update_factors_every=1, update_inverses_every=1
    )
    descend(lambda: nn.functional.cross_entropy(model(x), y), optimizer, steps)
    model.requires_grad_(True).zero_grad()
    return model, x, y


@lru_cache
def softmax_regression(confidence: float, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Three classes from two inputs by one linear layer, its weights multiplied by ``confidence``: model and x.

    With confidence 0 every class has probability 1/3 whatever the input. The larger it is, the smaller the gradients
    of examples far from the class borders: gradient and input depend on each other.
    """
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(400, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 3.0])
    x = torch.stack([z[:, 0] + z[:, 1], z[:, 1] - z[:, 0]], 1) / 2**0.5  # turned by 45 degrees
    model = nn.Linear(2, 3, dtype=torch.float64, device="cpu")
    with torch.no_grad():
        model.weight.copy_(confidence * torch.tensor([[1, 0.5], [-1, 0.2], [0, -0.7]]))
        model.bias.copy_(confidence * torch.tensor([0.3, -0.3, 0]))
    return nn.Sequential(model), x


def small_cnn(seed: int = 0) -> nn.Sequential:
    """A 3 x 3 convolution from one channel to three and a linear layer, for 8 x 8 images; all weights N(0, 0.04)."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_layer(n_in: int, n_out: int, seed: int) -> nn.Linear:
    """A linear layer, all of it standard normal."""
    layer = nn.Linear(n_in, n_out, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(drawn(n_out, n_in, seed=seed))
        layer.bias.copy_(drawn(n_out, seed=seed + 50))
    return layer

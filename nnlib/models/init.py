"""How are weights drawn, so that the same seed gives the same network on every device and in every dtype?"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from nnlib.arguments import seeded, shown, within


def he_(model: nn.Module, seed: int) -> nn.Module:
    """Draw all weights of linear and convolutional layers as He initialisation does, in place; set biases to zero.

    A weight with fan-in n is drawn from N(0, 2/n), which keeps the size of the signal through ReLU layers. The draw
    is made on the CPU in float64 and then copied, so that device and dtype change rounding and nothing else.

    Args:
        model: Any module; layers other than ``nn.Linear`` and ``nn.Conv2d`` are left alone.
        seed: Of the generator that draws all the layers, in order.

    Returns:
        ``model``.

    Source: He et al., arXiv 1502.01852, section 2.2. Chapter: ``book/nqm.ipynb``.
    """
    return _draw_(model, seed, partial(nn.init.kaiming_normal_, nonlinearity="relu"))


def glorot_(model: nn.Module, seed: int) -> nn.Module:
    """Draw all weights of linear and convolutional layers as Glorot initialisation does, in place; biases are zero.

    A weight with fan-in n and fan-out m is uniform with variance 2/(n + m). Drawn as in :func:`he_`.

    Args:
        model: Any module; layers other than ``nn.Linear`` and ``nn.Conv2d`` are left alone.
        seed: Of the generator that draws all the layers, in order.

    Returns:
        ``model``.

    Source: Glorot and Bengio, AISTATS 2010, eq. 16. Chapter: ``book/weight_decay.ipynb``.
    """
    return _draw_(model, seed, nn.init.xavier_uniform_)


def normal_(model: nn.Module, std: float, seed: int) -> nn.Module:
    """Draw all weights of linear, convolutional and transposed convolutional layers from N(0, std^2); biases are zero.

    Drawn as in :func:`he_`.

    Args:
        model: Any module; other layers are left alone.
        std: Standard deviation, not negative.
        seed: Of the generator that draws all the layers, in order.

    Returns:
        ``model``.

    Chapter: ``book/groupsort.ipynb``.
    """
    within("[0, inf)", std=std)
    return _draw_(model, seed, partial(nn.init.normal_, std=std), (nn.Linear, nn.Conv2d, nn.ConvTranspose2d))


@torch.no_grad()
def _draw_(
    model: nn.Module, seed: int, draw: Callable[..., Tensor], kinds: tuple = (nn.Linear, nn.Conv2d)
) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module: got {shown(model)}")
    generator = seeded(seed)
    for layer in model.modules():
        if isinstance(layer, kinds):
            assert isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)
            weight = torch.empty(layer.weight.shape, dtype=torch.float64, device="cpu")
            layer.weight.copy_(draw(weight, generator=generator))
            if layer.bias is not None:
                layer.bias.zero_()
    return model

"""What is measured without training a network, on several draws of its weights or of the gradient's noise.

Chapter: ``book/weight_decay.ipynb``.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nnlib.curvature import factors, kfac_norm
from nnlib.models import MLP
from nnlib.weight_decay.invariance import equilibrium_norm, rescale_
from tenpapers.data import load
from tenpapers.weight_decay.sphere import Sphere, angle, walk

LENGTHS = {"degrees_short": 0.1, "degrees": 1.0, "degrees_long": 1000.0}  # of the weights, times what they start with


def one_draw(seed: int, steps: int = 4000) -> dict[str, float]:
    """All three, on one draw.

    Returns:
        ``rest``, the length of the weights at rest over the predicted one; ``relu``, the K-FAC norm of a ReLU network
        over E|f|^2; and for weights of three lengths (``LENGTHS``) the degrees between K-FAC's step and the gradient.
    """
    angles = {name: degrees(seed, c) for name, c in LENGTHS.items()}
    return {"rest": rest(seed, steps), "relu": relu_norm(seed), **angles}


def rest(seed: int, steps: int = 4000, lr: float = 0.1, weight_decay: float = 0.03) -> float:
    """A walk of SGD on the sphere: |theta| in its second half over that at which growth and decay cancel.

    Source: arXiv 1810.12281, section 4.1.
    """
    H = torch.diag(torch.linspace(1, 4, 24, dtype=torch.float64, device="cpu"))
    theta = torch.ones(24, dtype=torch.float64, device="cpu")
    path = walk(Sphere(H, noise=1.0), theta, "SGD", lr, steps, weight_decay=weight_decay, seed=seed)
    late = slice(steps // 2, None)
    gradient = float(path.gradient[late].square().mean().sqrt())
    return float(path.norm[late].pow(4).mean() ** 0.25) / equilibrium_norm(lr, weight_decay, gradient)


def relu_norm(seed: int) -> float:
    """K-FAC norm over E|f|^2 of a ReLU network with four weight matrices and no biases, on whitened digits.

    It is 4 in a linear network. Source: arXiv 1810.12281, section 4.2.
    """
    x = whitened(_digits()[0])
    model = MLP([x.shape[1], 48, 48, 48, 10], bias=False, seed=seed, dtype=torch.float64)
    return float(kfac_norm(model, x) / (model(x).detach().square().sum() / len(x)))


def whitened(x: Tensor) -> Tensor:
    """Images as vectors of mean 0 and covariance I, without the pixels that are nearly always black: (n, d)."""
    x = x.flatten(1)
    x = x[:, x.std(0) > 0.1]
    return torch.linalg.svd(x - x.mean(0), full_matrices=False).U * len(x) ** 0.5


def degrees(seed: int, c: float, damping: float = 1e-3) -> float:
    """Angle between the damped K-FAC step and the gradient of a first layer under BatchNorm, at c times its weights.

    Source: arXiv 1810.12281, section 4.3.
    """
    model = MLP([64, 16, 10], batch_norm=True, seed=seed, dtype=torch.float64)
    layer, norm = model.layers[1], model.layers[2]
    assert isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
    norm.eps = 1e-30  # BatchNorm's own, which breaks the invariance
    rescale_(model, c)
    x, y = _digits()
    cross_entropy(model(x), y).backward()
    assert layer.weight.grad is not None and layer.bias.grad is not None
    g = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)  # (out, in + 1)
    block = factors(model, x, fisher="gauss_newton_exact", layers=["layers.1"])["layers.1"]
    U = block.eigen().solve(g, damping)[:, :-1]
    return math.degrees(angle(U.flatten(), g[:, :-1].flatten()))


def _digits() -> tuple[Tensor, Tensor]:
    """The first 200 training images and their labels."""
    data = load("digits").to(dtype=torch.float64).train
    return data.x[:200], data.y[:200]

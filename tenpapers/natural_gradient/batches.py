"""What is left of the theorem with mini-batches, at infinite width and on a deep network? One run a row.

Paper: arXiv 1905.10961, whose theorems are about all examples at once. Chapter: ``book/natural_gradient.ipynb``.
"""

from math import inf, nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nnlib.curvature import KFAC, NonFiniteGradient, NotPositiveDefinite
from nnlib.models import MLP
from nnlib.natural_gradient import infinite_gram, natural_gradient
from tenpapers.data import remember
from tenpapers.natural_gradient.workloads import Problem, pair, sphere

LEFT = 0.01  # of |u - y|: then a run at infinite width is over
TRIALS: dict[str, list[tuple[float, float]]] = {  # (lr, damping), as many for each method
    "SGD": [
        *((lr, 0.0) for lr in (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)),
        *((lr, 0.0) for lr in (0.12, 0.17, 0.25)),
    ],
    "Momentum": [
        *((lr, 0.0) for lr in (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)),
        *((lr, 0.0) for lr in (0.015, 0.04, 0.12)),
    ],
    "Natural gradient": [
        *((lr, damping) for lr in (0.1, 0.2, 0.4, 0.8) for damping in (0.1, 1.0, 10.0)),
        *((0.8, 30.0), (1.6, 10.0), (1.6, 30.0)),
    ],
    "K-FAC": [
        *((lr, damping) for lr in (0.1, 0.2, 0.4, 0.8) for damping in (0.03, 0.1, 0.3)),
        *((0.1, 0.01), (0.2, 0.01), (0.3, 0.03)),
    ],
}


def measure_epochs(
    gap: float, batch_size: int, n: int = 24, d: int = 10, most: int = 20000, seed: int = 0
) -> dict[str, float]:
    """At infinite width with lr 1, how many passes over all examples bring |u - y| down to ``LEFT`` of its start?

    Args:
        gap: Angle of two of the points, with opposite labels, as in :func:`sphere`.
        batch_size: Examples in a step; each pass has them in a new random order.
        n: Points on the sphere, with outputs 0 at the start.
        d: Their dimension.
        most: Passes after which the answer is nan.
        seed: Of points and order.

    Returns:
        ``epochs``; ``limit``, lambda_0.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, *_ = sphere(n, d, seed, gap)
    G, r = infinite_gram(x), -y
    generator = torch.Generator().manual_seed(seed)
    start, limit = r.norm(), float(torch.linalg.eigvalsh(G)[0])
    for epoch in range(1, most + 1):
        for b in torch.randperm(n, generator=generator).split(batch_size):
            r = batch_step(G, r, b)
        if r.norm() < LEFT * start:
            return {"epochs": epoch, "limit": limit}
    return {"epochs": nan, "limit": limit}


def batch_step(G: Tensor, r: Tensor, b: Tensor, lr: float = 1.0) -> Tensor:
    """All residuals after a natural-gradient step on the examples b, if the Jacobian is constant: (n,).

    The step is J_b' (J_b J_b')^-1 r_b, and moves the outputs by J times it: r - lr G[:, b] G[b, b]^-1 r_b.
    """
    return r - lr * G[:, b] @ torch.linalg.solve(G[b][:, b], r[b])


def measure_deep(
    method: str, lr: float, damping: float, epochs: int = 5, batch_size: int = 50, width: int = 64, seed: int = 0
) -> dict[str, float]:
    """Train a network with four hidden layers by mini-batches, to tell fours from nines.

    Args:
        method: One of ``TRIALS``.
        lr: Learning rate, of the mean over the batch of (u - y)^2 / 2; momentum is 0.9 for "Momentum" and 0 otherwise.
        damping: Of the natural gradient added to the batch's Gram matrix, of K-FAC to its blocks.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        width: Units in each hidden layer.
        seed: Of the network, of the choice of images and of their order.

    Returns:
        ``loss``, of the training images at the end, and its logarithm to base 10, ``log_loss``; ``validation``, the
        loss of the images held out; ``error``, of the test images. All nan where training did not end.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    (x, y), held_out, (x_test, y_test) = deep_problem(seed)
    net = MLP([x.shape[1], *4 * [width], 1], seed=seed, dtype=x.dtype)
    optimizer = None
    if method == "K-FAC":
        plain: dict[str, Any] = {
            "momentum": 0.0,
            "likelihood": "gaussian",
            "update_factors_every": 1,
            "update_inverses_every": 1,
        }
        optimizer = KFAC(net, lr, damping, seed=seed, **plain)
    elif method != "Natural gradient":
        optimizer = torch.optim.SGD(net.parameters(), lr, momentum=0.9 if method == "Momentum" else 0.0)
    generator = torch.Generator().manual_seed(seed)
    try:
        for _ in range(epochs):
            for b in torch.randperm(len(x), generator=generator).split(batch_size):
                if optimizer is None:
                    _natural_step(net, x[b], y[b], lr, damping)
                else:
                    optimizer.zero_grad()
                    half_square(net, x[b], y[b]).backward()
                    optimizer.step()
        with torch.no_grad():
            loss, validation = (float(half_square(net, *split)) for split in ((x, y), held_out))
            error = float((net(x_test)[:, 0] * y_test <= 0).double().mean())
    except (NonFiniteGradient, NotPositiveDefinite, ValueError, torch.linalg.LinAlgError):  # pyright: ignore[reportPrivateImportUsage]
        loss = validation = inf
    if not loss < inf:
        return {"loss": nan, "log_loss": nan, "validation": nan, "error": nan}
    return {"loss": loss, "log_loss": float(torch.tensor(loss).log10()), "validation": validation, "error": error}


def half_square(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean of (u - y)^2 / 2."""
    return 0.5 * (net(x)[:, 0] - y).square().mean()


def _natural_step(net: nn.Module, x: Tensor, y: Tensor, lr: float, damping: float) -> None:
    with torch.no_grad():
        residual = net(x) - y[:, None]  # (B, 1)
    step = natural_gradient(net, x, residual, damping=damping)  # (P,)
    vector_to_parameters(parameters_to_vector(net.parameters()).detach() - lr * step, net.parameters())


@remember(maxsize=4)
def deep_problem(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Fours against nines of MNIST on 14 x 14 pixels: 1,200 images for training, 300 for tuning, and those of the test.

    Returns:
        For each, x (n, 196) with rows of length one, and targets of +1 and -1, (n,).
    """
    images: Problem = pair("mnist", 4, 9, 1500, seed, vendored=True)
    x, x_test = (_halved(part) for part in (images.x, images.x_test))
    y, y_test = images.y, images.y_test
    return (x[:1200], y[:1200]), (x[1200:], y[1200:]), (x_test, y_test)


def _halved(x: Tensor) -> Tensor:
    """Images (n, 784) as means over 2 x 2 pixels, again of length one: (n, 196)."""
    x = nn.functional.avg_pool2d(x.view(-1, 1, 28, 28), 2).flatten(1)
    return x / x.norm(dim=1, keepdim=True)

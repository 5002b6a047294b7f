"""The chapter's measurements as rows of a table: one network, one method, one row.

All in float64: the last steps of a run with lr = 1 lie below what float32 can show. Chapter:
``book/natural_gradient.ipynb``.
"""

from functools import lru_cache

import torch
from torch import Tensor

from nnlib.natural_gradient.generalisation import complexity, flip_labels, interpolate, loss_bound
from nnlib.natural_gradient.train import stable_lr, train
from nnlib.natural_gradient.two_layer import TwoLayer, infinite_gram
from tenpapers.natural_gradient.problems import Problem, pair, sphere

PROBLEMS = {  # name: how to make it, given n and a seed
    "sphere": lambda n, seed: sphere(n, d=10, seed=seed),
    "digits": lambda n, seed: pair("digits", 4, 9, n, seed),
    "mnist": lambda n, seed: pair("mnist", 4, 9, n, seed, vendored=True),
}
FITTED = 1e-6  # of the residual at the start: below, a ratio of two residuals is soon a ratio of rounding errors


@lru_cache(maxsize=8)
def problem(name: str, n: int, seed: int) -> Problem:
    """A problem by its name in ``PROBLEMS``.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PROBLEMS:
        raise ValueError(f"data must be one of {', '.join(PROBLEMS)}: got {name!r}")
    return PROBLEMS[name](n, seed)


def measure_run(
    data: str, n: int, method: str, width: int, lr: float, steps: int, seed: int = 0, device: str = "cpu"
) -> dict[str, float]:
    """Train once with the squared error; what the theorem speaks of, as one row.

    GD's lr is a share of 1 / lambda_max(G(0)).

    Returns:
        ``first``: |u - y| after the first step over that before; ``slowest``: the largest such ratio of a step, while
        more than 10^-6 of the start is left. ``kept``: |u - y|^2 at the end over the start. ``within``: whether
        |u(k) - y|^2 <= (1 - lr)^k |u(0) - y|^2 in all steps, but for rounding. ``movement``: |W - W(0)| / |W(0)|.
        ``limit``: lambda_0; ``drift``: |lambda_min(G(0)) / lambda_0 - 1|. ``constant``: largest C along the run.
        ``detour``: path of the outputs over distance.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, *_ = problem(data, n, seed).to(device)
    net = TwoLayer(x.shape[1], width, seed=seed, device=device, dtype=torch.float64)
    rate = lr * stable_lr(net, x) if method == "GD" else lr
    run = train(net, x, y, method, rate, steps)
    left = run.distance(y) / run.distance(y)[0]  # (T+1,)
    ratios = (left[1:] / left[:-1])[left[:-1] > FITTED]
    bound = (1 - lr) ** torch.arange(steps + 1, device=left.device, dtype=left.dtype)
    limit = float(torch.linalg.eigvalsh(infinite_gram(x))[0])
    return {
        "first": float(ratios[0]),
        "slowest": float(ratios.max()),
        "kept": float(left[-1] ** 2),
        "within": bool((left**2 <= bound + FITTED**2).all()),
        "movement": float(run.movement[-1]),
        "limit": limit,
        "drift": abs(float(run.smallest[0]) / limit - 1),
        "constant": float(run.constant.max()),
        "detour": run.detour(),
    }


def measure_conditioning(
    gap: float, method: str, width: int, lr: float, steps: int, seed: int = 0, device: str = "cpu"
) -> dict[str, float]:
    """Two points at the angle ``gap`` with opposite labels among 24 on the sphere: how fast does the pair part?

    Returns:
        ``limit`` (lambda_0), ``kept``: |u - y| at the end over the start; ``pair``: |(u - y)_1 - (u - y)_2| likewise.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, *_ = sphere(24, 10, seed, gap).to(device)
    net = TwoLayer(10, width, seed=seed, device=device, dtype=torch.float64)
    rate = lr * stable_lr(net, x) if method == "GD" else lr
    run = train(net, x, y, method, rate, steps, watch=False)
    r = run.outputs - y  # (T+1, n)
    apart = (r[:, 0] - r[:, 1]).abs()
    return {
        "limit": float(torch.linalg.eigvalsh(infinite_gram(x))[0]),
        "kept": float(r[-1].norm() / r[0].norm()),
        "pair": float(apart[-1] / apart[0]),
    }


def measure_noise(
    data: str, n: int, share: float, width: int, steps: int = 15, seed: int = 0, device: str = "cpu"
) -> dict[str, float]:
    """Labels with a share of them flipped: the bound's quantity, and test errors of a network and its infinite limit.

    The test labels stay as they are.

    Returns:
        ``complexity``: sqrt(y' G_inf^-1 y / n). ``network_error`` and ``kernel_error``: share of test images on the
        wrong side of 0, of the network trained by the natural gradient with lr 1/2, and of the infinite one. ``left``:
        |u - y| / sqrt(n) at the end; small if the labels, flipped ones too, are fitted.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, x_test, y_test, _ = problem(data, n, seed).to(device)
    y = flip_labels(y, share, seed)
    net = TwoLayer(x.shape[1], width, seed=seed, device=device, dtype=torch.float64)
    run = train(net, x, y, "Natural gradient", lr=0.5, steps=steps, watch=False)
    with torch.no_grad():
        outputs = net(x_test)[:, 0]
    return {
        "complexity": complexity(infinite_gram(x), y),
        "network_error": error_rate(outputs, y_test),
        "kernel_error": error_rate(interpolate(x, y, x_test), y_test),
        "left": float(run.distance(y)[-1] / n**0.5),
    }


def measure_pair(
    data: str, first: int, second: int, n: int, seed: int = 0, device: str = "cpu", vendored: bool = True
) -> dict[str, float]:
    """Two classes of images for the infinitely wide network: how hard are they, and what does the bound promise?

    Returns:
        ``complexity``; ``bound``: :func:`loss_bound` of the trained network; ``kernel_error`` on the test images.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    options = {} if data == "digits" else {"vendored": vendored}
    x, y, x_test, y_test, _ = pair(data, first, second, n, seed, **options).to(device)
    G = infinite_gram(x)
    hard = complexity(G, y)
    return {
        "complexity": hard,
        "bound": loss_bound(hard * n**0.5, float(G.trace()), n),
        "kernel_error": error_rate(interpolate(x, y, x_test), y_test),
    }


def error_rate(outputs: Tensor, y: Tensor) -> float:
    """Share of outputs on the wrong side of 0, for targets +-1.

    >>> error_rate(torch.tensor([2.0, 0.1]), torch.tensor([1.0, -1.0]))
    0.5
    """
    return float((outputs * y <= 0).double().mean())

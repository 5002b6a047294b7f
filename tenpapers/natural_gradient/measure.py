"""The chapter's measurements as rows of a table: one network, one method, one row.

All in float64: the last steps of a run with lr = 1 lie below what float32 can show. Chapter:
``book/natural_gradient.ipynb``.
"""

import math
from itertools import combinations

import torch
from scipy.stats import spearmanr
from torch import Tensor

from nnlib import training
from nnlib.natural_gradient.conditions import certified_radius, radius
from nnlib.natural_gradient.generalisation import complexity, interpolate, loss_bound
from nnlib.natural_gradient.kfac import leverage_scores
from nnlib.natural_gradient.losses import logistic
from nnlib.natural_gradient.train import stable_lr, train
from nnlib.natural_gradient.two_layer import TwoLayer, infinite_gram
from tenpapers.natural_gradient.workloads import flip_labels, pair, problem, sphere

FITTED = 1e-6  # of the residual at the start: below, a ratio of two residuals is soon a ratio of rounding errors


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
    where = training.device(device)
    x, y, *_ = problem(data, n, seed).to(where)
    net = TwoLayer(x.shape[1], width, seed=seed, device=where, dtype=torch.float64)
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
    where = training.device(device)
    x, y, *_ = sphere(24, 10, seed, gap).to(where)
    net = TwoLayer(10, width, seed=seed, device=where, dtype=torch.float64)
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
    where = training.device(device)
    x, y, x_test, y_test, _ = problem(data, n, seed).to(where)
    y = flip_labels(y, share, seed)
    net = TwoLayer(x.shape[1], width, seed=seed, device=where, dtype=torch.float64)
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
    x, y, x_test, y_test, _ = pair(data, first, second, n, seed, **options).to(training.device(device))
    G = infinite_gram(x)
    hard = complexity(G, y)
    return {
        "complexity": hard,
        "bound": loss_bound(hard * n**0.5, float(G.trace()), n),
        "kernel_error": error_rate(interpolate(x, y, x_test), y_test),
    }


def measure_order(data: str, n: int, seed: int = 0, classes: int = 10, device: str = "cpu") -> dict[str, float]:
    """Does the bound's quantity order all pairs of classes by how well they are learned?

    Returns:
        ``pairs``, their number, and ``rank``, Spearman's correlation of ``complexity`` and ``kernel_error`` over them.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    rows = [measure_pair(data, a, b, n, seed, device) for a, b in combinations(range(classes), 2)]
    hard, wrong = ([row[key] for row in rows] for key in ("complexity", "kernel_error"))
    return {"pairs": len(rows), "rank": float(spearmanr(hard, wrong).statistic)}


def measure_leverage(width: int, lr: float, steps: int, n: int = 24, d: int = 10, seed: int = 0) -> dict[str, float]:
    """Under K-FAC, does each residual shrink at its own rate 1 - lr l_i, l_i its leverage score?

    Returns:
        ``deviation``: the largest relative deviation of a residual's mean rate from it.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, *_ = sphere(n, d, seed)
    net = TwoLayer(d, width, seed=seed, dtype=torch.float64)
    residual = train(net, x, y, "K-FAC", lr, steps, watch=False).outputs - y  # (T+1, n)
    rate = (residual[-1] / residual[0]).abs() ** (1 / steps)
    return {"deviation": float((rate / (1 - lr * leverage_scores(x)) - 1).abs().max())}


def measure_loss(mu: float, share: float, width: int, steps: int, seed: int = 0) -> dict[str, float]:
    """The natural gradient on the logistic loss with an L2 term: what is promised of |u - u*|^2, and what happens.

    Args:
        mu: Strong convexity.
        share: The learning rate's, of the largest for which something is promised, 2 / (mu + L).
        width: Of the network, on 24 points of the sphere.
        steps: Number of steps.
        seed: Of points and network.

    Returns:
        ``lr``; ``promised``, the factor; ``largest``, that of the steps; ``left``, of the start after all steps.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, *_ = sphere(24, 10, seed)
    loss = logistic(mu)
    lr = share * 2 / (loss.mu + loss.smoothness)
    net = TwoLayer(10, width, seed=seed, dtype=torch.float64)
    run = train(net, x, y, "Natural gradient", lr, steps, loss=loss, watch=False)
    kept = run.distance(loss.minimiser(y)).square()
    largest, left = float((kept[1:] / kept[:-1]).max()), float(kept[-1] / kept[0])
    return {"lr": lr, "promised": loss.contraction(lr), "largest": largest, "left": left}


def measure_ball(width: int, n: int = 24, d: int = 10, C: float = 0.25, seed: int = 0) -> dict[str, float]:
    """How wide is wide enough for condition 2 in its whole ball, and how wide is not?

    By the large-width formulas nu beta^3 sqrt(pi m / 6) / n of a radius in which the Jacobian changes by at most beta,
    whatever the weights, and beta^3 sqrt(pi m / 6) of the distance at which one example's ReLUs change it by that much.

    Args:
        width: At which the formulas are checked.
        n: Points on the sphere.
        d: Their dimension.
        C: Of condition 2, for ``sufficient``; ``necessary`` is where 1/2, the end of the theorem, is broken.
        seed: Of points and network.

    Returns:
        ``certified``: the certified radius over its formula. ``broken``: the distance over its formula. ``sufficient``
        and ``necessary``: log10 of the widths at which the radius, and the distance, are that of the ball.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    x, y, *_ = sphere(n, d, seed)
    net = TwoLayer(d, width, seed=seed, dtype=torch.float64)
    smallest = float(torch.linalg.eigvalsh(infinite_gram(x))[0])
    allowed, half = C / 3 * math.sqrt(smallest), math.sqrt(smallest) / 6  # beta = (C / 3) sigma, for C and for 1/2
    with torch.no_grad():
        ball = radius(float((net(x)[:, 0] - y).norm()), smallest)
        product = (net.weight @ x[0]).abs().sort().values  # (m,): what turning a ReLU of the first example over costs
    turned = math.floor(width * half**2) + 1  # then |J - J(0)|_2 is half, or just more
    root = math.sqrt(math.pi * width / 6)
    return {
        "certified": certified_radius(net, x, change=0.3) / (0.3**3 * root / n),
        "broken": float(product[:turned].norm()) / (half**3 * root),
        "sufficient": math.log10(6 / math.pi * (n * ball / allowed**3) ** 2),
        "necessary": math.log10(6 / math.pi * (ball / half**3) ** 2),
    }


def error_rate(outputs: Tensor, y: Tensor) -> float:
    """Share of outputs on the wrong side of 0, for targets +-1.

    >>> error_rate(torch.tensor([2.0, 0.1]), torch.tensor([1.0, -1.0]))
    0.5
    """
    return float((outputs * y <= 0).double().mean())

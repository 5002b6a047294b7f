"""Do samples agree with the closed forms? Monte Carlo of the noisy quadratic model, batched, on any device.

Chapter: book/nqm.ipynb.
"""

import numpy as np
import torch
from torch import Tensor

from nnlib.arguments import seeded, typed, whole
from nnlib.nqm.checks import Numbers, check_batch_size
from nnlib.nqm.methods import HeavyBall, IterateAverage, Method, Schedule, check_stable
from nnlib.nqm.problem import NoisyQuadratic
from nnlib.nqm.risk import check_steps


@typed
def simulate(
    problem: NoisyQuadratic,
    method: Method,
    batch_size: float,
    steps: Numbers,
    runs: int,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Losses of independent runs of `method`, sampled step by step.

    theta(0) ~ N(0, s0);  g = h theta + xi, xi ~ N(0, c/B);  the method's own update;  L = 1/2 sum_i h_i theta_i².

    Args:
        problem: NoisyQuadratic with at most 16,384 eigenvalues, or from a spectrum.
        method: SGD, HeavyBall, IterateAverage (its loss is that of the average) or Schedule.
        batch_size: B > 0; math.inf for no noise.
        steps: whole numbers >= 0, scalar or array: when to look.
        runs: number of runs, at least 1.
        seed: seeds a generator of its own.
        device: where to compute.
        dtype: in which precision.

    Returns:
        Losses on `device`, ``(*steps.shape, runs)``: their mean over the last axis estimates
        `expected_risk(problem, method, steps).at(batch_size)`.

    Raises:
        ValueError: an argument out of range.

    Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import NoisyQuadratic, SGD
    >>> simulate(NoisyQuadratic(dim=4), SGD(lr=0.5), 8, steps=[0, 10], runs=3, seed=0).shape
    torch.Size([2, 3])
    """
    steps = check_steps(method, steps)
    check_stable(problem, method)
    check_batch_size(batch_size)
    whole(1, runs=runs)
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating type: got {dtype}")
    if problem.h.size != problem.dim:
        raise ValueError(f"simulate needs every eigenvalue, dim at most 16384: got dim = {problem.dim}")
    h, c, s0 = (torch.as_tensor(v.copy(), device=device, dtype=dtype) for v in (problem.h, problem.c, problem.s0))
    if not all(bool((v.isfinite() & (v > 0)).all()) for v in (h, c, s0)):
        raise ValueError(f"dtype must hold all entries of h, c and s0: got {dtype}, in which some are 0 or infinite")
    generator = seeded(seed, device)

    def normal() -> Tensor:
        return torch.randn(runs, problem.dim, generator=generator, device=device, dtype=dtype)

    preconditioner, noise_scale = h**-method.power, (c / batch_size) ** 0.5
    theta = s0**0.5 * normal()  # (runs, dim)
    momentum, m = getattr(method, "momentum", 0.0), torch.zeros_like(theta)
    mean = theta.clone()
    flat = steps.reshape(-1)
    losses = torch.empty(flat.size, runs, device=device, dtype=dtype)
    for t in range(int(flat.max(initial=0)) + 1):
        if (here := np.flatnonzero(flat == t)).size:
            judged = mean if isinstance(method, IterateAverage) else theta
            losses[here.tolist()] = 0.5 * (judged**2) @ h
        if t == flat.max(initial=0):
            break
        lr = method.lrs[t // method.steps_per_piece] if isinstance(method, Schedule) else method.lr
        gradient = preconditioner * (h * theta + noise_scale * normal())
        m = momentum * m + gradient if isinstance(method, HeavyBall) else gradient
        theta = theta - lr * m
        if isinstance(method, IterateAverage):
            mean = method.decay * mean + (1 - method.decay) * theta
    if not bool(losses.isfinite().all()):
        raise ValueError(f"batch_size must keep the losses within {dtype}: got {batch_size}, and infinite losses")
    return losses.reshape(*steps.shape, runs)

"""Hamiltonian Monte Carlo: draws from a density known up to a factor, for a posterior that no formula gives.

It is here to be compared with, so it is plain: a fixed metric, a fixed trajectory, several chains side by side.
Source: Neal, MCMC using Hamiltonian dynamics (2011), arXiv 1206.1901. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def hamiltonian(
    log_density: Callable[[Tensor], Tensor],
    start: Tensor,
    scale: Tensor,
    *,
    samples: int,
    warm_up: int,
    generator: torch.Generator,
    step: float = 0.2,
    leaps: int = 8,
) -> Tensor:
    """Draws from exp(log_density), in coordinates z with w = start + scale z.

    Each move draws a velocity, follows ``leaps`` steps of the leapfrog rule, of a length within a fifth of ``step``,
    and is accepted with probability min(1, exp(-change of energy)). For a Gaussian whose covariance is scale scale',
    8 steps of 0.2 are a quarter of a turn, after which a draw hardly depends on the last.

    Args:
        log_density: From (chains, d) to (chains,).
        start: (chains, d).
        scale: (d, d), a root of what the covariance is guessed to be.
        samples: Draws of each chain that are kept.
        warm_up: Draws before them that are not.
        generator: Of all that is drawn.
        step: Mean length of a step of the leapfrog rule.
        leaps: Steps of a move.

    Returns:
        (samples, chains, d).
    """

    def energy_and_slope(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_()
        energy = -log_density(start + z @ scale.T)
        return energy.detach(), torch.autograd.grad(energy.sum(), z)[0]

    def normal() -> Tensor:
        return torch.randn(start.shape, generator=generator, dtype=start.dtype, device=start.device)

    def uniform() -> Tensor:
        return torch.rand(len(start), generator=generator, dtype=start.dtype, device=start.device)

    z, kept = torch.zeros_like(start), []
    energy, slope = energy_and_slope(z)
    for move in range(warm_up + samples):
        v, length = normal(), (step * (0.8 + 0.4 * uniform()))[:, None]
        before = energy + v.square().sum(1) / 2
        new, new_energy, new_slope = z, energy, slope
        for _ in range(leaps):
            v = v - length / 2 * new_slope
            new = new + length * v
            new_energy, new_slope = energy_and_slope(new)
            v = v - length / 2 * new_slope
        taken = uniform().log() < before - new_energy - v.square().sum(1) / 2
        z, slope = torch.where(taken[:, None], new, z), torch.where(taken[:, None], new_slope, slope)
        energy = torch.where(taken, new_energy, energy)
        if move >= warm_up:
            kept.append(start + z @ scale.T)
    return torch.stack(kept)


def disagreement(draws: Tensor) -> Tensor:
    """R-hat of each coordinate: deviation of all half chains together over that within one; 1 where they agree.

    Args:
        draws: (samples, chains, d).

    Source: Gelman et al., Bayesian Data Analysis (2013), section 11.4.
    """
    half = len(draws) // 2
    halves = torch.cat([draws[:half], draws[half : 2 * half]], 1)  # (half, 2 chains, d)
    within = halves.var(0).mean(0)
    return ((half - 1) / half + halves.mean(0).var(0) / within).sqrt()

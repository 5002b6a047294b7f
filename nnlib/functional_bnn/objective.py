"""How far is the network's process from the prior's? The gradient of the KL between them on a finite set of inputs.

Paper: arXiv 1903.05779, sections 3 and 4. Chapter: book/functional_bnn.ipynb.
"""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nnlib.arguments import whole, within
from nnlib.functional_bnn.network import StochasticMLP
from nnlib.functional_bnn.score import SpectralStein

STRATEGIES = ("training", "random", "mixed")


class Prior(Protocol):
    """What a prior must do: be sampled. Where it also has a ``log_density``, only q's score is estimated."""

    def sample(self, x: Tensor, samples: int, generator: torch.Generator) -> Tensor: ...


@runtime_checkable
class Density(Protocol):
    """What a prior may have: the log density of its noisy values, (S, n) at (n, d) -> (S,)."""

    def log_density(self, f: Tensor, x: Tensor, injected_noise: float) -> Tensor: ...


def kl_surrogate(
    f: Tensor,
    x: Tensor,
    prior: Prior,
    *,
    injected_noise: float = 0.01,
    eigenfunctions: int | float = 0.99,
    generator: torch.Generator,
) -> Tensor:
    """A scalar whose *gradient* is an estimate of that of KL[q(f_x) ‖ p(f_x)]; its value is not the KL.

    With reparametrised f the term E_q[∇_φ log q] vanishes, and

        ∇_φ KL = E[ (∇_φ f)ᵀ (∇_f log q(f) − ∇_f log p(f)) ].

    The score of q is estimated from the samples themselves, and held fixed. A prior with a density is differentiated;
    the score of any other is estimated from as many samples of it, and evaluated at f by the Nyström extension. Both
    processes get the same injected noise γ ε: a network of few weights fills only a thin subset of the space of
    function values, and without noise the KL is infinite.

    Args:
        f: (S, n), samples of q at x, with a graph to the parameters.
        x: (n, d), the measurement set.
        prior: A prior over functions.
        injected_noise: γ, not negative.
        eigenfunctions: Of the estimators: a number or a share of the eigenvalues, see ``SpectralStein``.
        generator: Of the noise and the prior's samples.

    Raises:
        ValueError: where f and x do not fit, f is not finite, or the noise is negative.

    Source: arXiv 1903.05779, section 3.1. Chapter: book/functional_bnn.ipynb.
    """
    if f.ndim != 2 or f.shape[1] != len(x):
        raise ValueError(f"f must hold one column for each of the {len(x)} inputs: got shape {tuple(f.shape)}")
    within("[0, inf)", injected_noise=injected_noise)
    noisy = f + injected_noise * _normal_like(f, generator)
    score = SpectralStein(noisy, eigenfunctions).score()
    if isinstance(prior, Density):
        return (score * noisy).sum(1).mean() - prior.log_density(noisy, x, injected_noise).mean()
    drawn = prior.sample(x, len(f), generator)
    drawn = drawn + injected_noise * _normal_like(drawn, generator)
    prior_score = SpectralStein(drawn, eigenfunctions, queries=noisy).score(noisy)
    return ((score - prior_score) * noisy).sum(1).mean()


def _normal_like(f: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(f.shape, generator=generator, dtype=f.dtype, device="cpu").to(f.device)


def uniform_points(low: Tensor, high: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n points, uniform in the box between low and high, each (d,) -> (n, d)."""
    whole(0, n=n)
    unit = torch.rand(n, len(low), generator=generator, dtype=low.dtype, device="cpu").to(low.device)
    return low + (high - low) * unit


def measurement_set(x: Tensor, random: Tensor, strategy: str = "mixed") -> Tensor:
    """The inputs at which the two processes are compared: training inputs, random ones, or both.

    Only a set that holds all training inputs makes the objective a lower bound of the log evidence; only random points
    tell the network anything about where there is no data.

    Args:
        x: (n, d), training inputs of the batch; they come first.
        random: (m, d).
        strategy: ``training``, ``random`` or ``mixed``.

    Raises:
        ValueError: for another strategy, points of different dimensions, or where the set is empty.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}: got {strategy!r}")
    if x.ndim != 2 or random.shape[1:] != x.shape[1:]:
        raise ValueError(f"x and random must be (n, d) and (m, d): got {tuple(x.shape)} and {tuple(random.shape)}")
    points = {"training": x, "random": random, "mixed": torch.cat([x, random])}[strategy]
    if not len(points):
        raise ValueError(f"the measurement set is empty: {len(x)} training and {len(random)} random points, {strategy}")
    return points


def adversarial_points(
    network: StochasticMLP,
    prior: Prior,
    x: Tensor,
    start: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    steps: int = 5,
    lr: float = 0.1,
    samples: int = 100,
    injected_noise: float = 0.01,
    eigenfunctions: int | float = 0.99,
    generator: torch.Generator,
) -> Tensor:
    """Move points inside a box to where network and prior differ most: the paper's other choice, as gradient ascent.

    The gradient of the KL in the points is that of ``kl_surrogate``, for the same reason: E_q[∇_x log q] = 0 as well.

    Args:
        network: q.
        prior: With a density, since a sampled prior has no gradient in x.
        x: (n, d), points of the set that stay.
        start: (m, d), points that move.
        low: (d,), of the box.
        high: (d,).
        steps: Of normalised gradient ascent.
        lr: Length of a step, as a share of the box.
        samples: Functions a step.
        injected_noise: γ.
        eigenfunctions: Of the estimator.
        generator: Of all draws.

    Returns:
        (m, d), inside the box.

    Raises:
        ValueError: for a prior without a density, or a number out of its range.

    Source: arXiv 1903.05779, section 3.2 (functional VI as a minimax game). Chapter: book/functional_bnn.ipynb.
    """
    if not isinstance(prior, Density):
        raise ValueError("adversarial points need a prior with a density: that of a sampled one has no gradient in x")
    whole(0, steps=steps)
    within("(0, inf)", lr=lr)
    moving = start.detach().clone()
    for _ in range(steps):
        moving.requires_grad_(True)
        points = torch.cat([x, moving])
        values = network.draw(samples, generator)(points)
        kl = kl_surrogate(
            values,
            points,
            prior,
            injected_noise=injected_noise,
            eigenfunctions=eigenfunctions,
            generator=generator,
        )
        (gradient,) = torch.autograd.grad(kl, moving)
        scale = gradient.abs().amax(0).clamp_min(torch.finfo(gradient.dtype).tiny)
        moving = torch.clamp(moving.detach() + lr * (high - low) * gradient / scale, low, high)
    return moving

"""How far is the network's process from the prior's? The gradient of the KL between them on a finite set of inputs.

Paper: arXiv 1903.05779, sections 3 and 4. Chapter: book/functional_bnn.ipynb.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nnlib.arguments import one_of, real, typed, whole, within
from nnlib.functional_bnn.gp import NOT_NEGATIVE, values_at
from nnlib.functional_bnn.score import SpectralStein

STRATEGIES = ("training", "random", "mixed")


@runtime_checkable
class Prior(Protocol):
    """What a prior must do: be sampled. Where it also has a ``log_density``, only q's score is estimated."""

    def sample(self, x: Tensor, samples: int, generator: torch.Generator) -> Tensor: ...


@runtime_checkable
class Density(Protocol):
    """What a prior may have: the log density of its noisy values, (S, n) at (n, d) -> (S,)."""

    def log_density(self, f: Tensor, x: Tensor, injected_noise: float) -> Tensor: ...


@runtime_checkable
class Process(Protocol):
    """What q must do: draw whole functions, (n, d) -> (samples, n)."""

    def draw(self, samples: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]: ...


@typed
def kl_surrogate(
    f: Tensor,
    x: Tensor,
    prior: Prior | Density,
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
        f: (S, n), at least two samples of q at x, with a graph to the parameters.
        x: (n, d), the measurement set.
        prior: A prior over functions.
        injected_noise: γ, not negative.
        eigenfunctions: Of the estimators: a number or a share of the eigenvalues, see ``SpectralStein``.
        generator: Of the noise and the prior's samples.

    Raises:
        TypeError: for what is no tensor, prior, number or generator.
        ValueError: where f and x do not fit, or are not finite, the noise is negative, or there is one sample alone.

    Source: arXiv 1903.05779, section 3.1. Chapter: book/functional_bnn.ipynb.
    """
    values_at(f, x)
    if len(f) < 2:
        raise ValueError("f must hold two samples or more: got 1")
    within(NOT_NEGATIVE, injected_noise=injected_noise)
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


def check_box(low: Tensor, high: Tensor) -> None:
    """Refuse what is no box with an inside."""
    real("...", low=low, high=high)
    if low.ndim != 1 or low.shape != high.shape or not bool((low < high).all()):
        found = f"{tuple(low.shape)} and {tuple(high.shape)}"
        raise ValueError(f"low and high must be (d,) each, with low < high in every dimension: got shapes {found}")


@typed
def uniform_points(low: Tensor, high: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """n points, uniform in the box between low and high, each (d,) -> (n, d).

    Raises:
        TypeError: for what is no tensor, number or generator.
        ValueError: for a box without inside, or a negative number of points.
    """
    check_box(low, high)
    whole(0, n=n)
    unit = torch.rand(n, len(low), generator=generator, dtype=low.dtype, device="cpu").to(low.device)
    return low + (high - low) * unit


@typed
def measurement_set(x: Tensor, random: Tensor, strategy: str = "mixed") -> Tensor:
    """The inputs at which the two processes are compared: training inputs, random ones, or both.

    Only a set that holds all training inputs makes the objective a lower bound of the log evidence; only random points
    tell the network anything about where there is no data.

    Args:
        x: (n, d), training inputs of the batch; they come first.
        random: (m, d).
        strategy: ``training``, ``random`` or ``mixed``.

    Raises:
        TypeError: for what is no tensor or text.
        ValueError: for another strategy, points of different dimensions, or where the set is empty.
    """
    one_of(STRATEGIES, strategy=strategy)
    if x.ndim != 2 or random.shape[1:] != x.shape[1:]:
        raise ValueError(f"x and random must be (n, d) and (m, d): got {tuple(x.shape)} and {tuple(random.shape)}")
    points = {"training": x, "random": random, "mixed": torch.cat([x, random])}[strategy]
    if not len(points):
        raise ValueError(f"the measurement set is empty: {len(x)} training and {len(random)} random points, {strategy}")
    return points


@typed
def adversarial_points(
    network: Process,
    prior: Prior | Density,
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
        lr: Length of a step, as a share of the box, positive.
        samples: Functions a step, at least 2.
        injected_noise: γ.
        eigenfunctions: Of the estimator.
        generator: Of all draws.

    Returns:
        (m, d), inside the box.

    Raises:
        TypeError: for what is no random function, prior, tensor, number or generator.
        ValueError: for a prior without a density, points of other dimensions or not finite, a box without inside, or a
            number out of its range.

    Source: arXiv 1903.05779, section 3.2 (functional VI as a minimax game). Chapter: book/functional_bnn.ipynb.
    """
    if not isinstance(prior, Density):
        raise ValueError("adversarial points need a prior with a density: that of a sampled one has no gradient in x")
    check_box(low, high)
    real("n d", x=x)
    real("m d", start=start)
    if not x.shape[1] == start.shape[1] == len(low):
        found = f"{tuple(x.shape)}, {tuple(start.shape)} and {tuple(low.shape)}"
        raise ValueError(f"x (n, d), start (m, d), and low and high (d,) must have one d: got {found}")
    whole(0, steps=steps)
    whole(2, samples=samples)
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

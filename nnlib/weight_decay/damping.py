"""Mechanism 3: how much damping does the direction of the weights see?

For scale-invariant weights C(theta) = C(theta_hat)/|theta|^2 and grad(theta) = grad(theta_hat)/|theta|, so a damped
step is the step at theta_hat with damping |theta|^2 lambda, times |theta|. Long weights turn K-FAC into SGD.
Paper: arXiv 1810.12281, section 4.3. Chapter: ``book/weight_decay.ipynb``.
"""

from typing import cast

import torch
from torch import Tensor, nn

from nnlib.arguments import examples, one_of, real, typed, whole, within
from nnlib.cholesky import cholesky
from nnlib.curvature import factors
from nnlib.curvature.outputs import FISHERS
from nnlib.weight_decay.invariance import Length, check_length, known_layers


@typed
def effective_damping(damping: float, norm: Length) -> Length:
    """|theta|^2 damping: what is added to the curvature of the direction theta/|theta|.

    Args:
        damping: lambda, as the optimiser has it, not negative.
        norm: |theta|, a number or tensor of any shape, not negative.

    Raises:
        TypeError: norm is no number and no tensor of floating-point numbers.
        ValueError: for a negative damping or length.

    Source: arXiv 1810.12281, section 4.3. Chapter: ``book/weight_decay.ipynb``.

    >>> effective_damping(1e-3, 10.0)
    0.1
    """
    within("[0, inf)", damping=damping)
    check_length("[0, inf)", norm)
    return damping * norm * norm


@typed
def damped_direction(curvature: Tensor, gradient: Tensor, damping: float) -> Tensor:
    """(C + damping I)^-1 g as a unit vector: from the natural gradient (damping 0) to the plain one (infinite).

    Args:
        curvature: C, symmetric and positive semi-definite, (d, d).
        gradient: g, (d,), not zero.
        damping: Not negative; with a singular C, positive.

    Returns:
        Shape (d,).

    Raises:
        TypeError: one of them holds no floating-point numbers.
        ValueError: where the damped matrix is not symmetric and positive definite, the gradient is zero, or shapes do
            not fit.

    Source: arXiv 1810.12281, section 4.3. Chapter: ``book/weight_decay.ipynb``.

    >>> damped_direction(torch.diag(torch.tensor([1.0, 3.0])), torch.tensor([1.0, 3.0]), 0.0)
    tensor([0.7071, 0.7071])
    """
    within("[0, inf)", damping=damping)
    real("d", real("d d", curvature=curvature), gradient=gradient)
    largest = gradient.abs().max()
    if not largest > 0:
        raise ValueError("gradient must not be zero, which has no direction")
    if not torch.allclose(curvature, curvature.mT, rtol=1e-4, atol=float(1e-6 * curvature.abs().max())):
        gap = (curvature - curvature.mT).max()
        raise ValueError(f"curvature must be symmetric: its entries differ from their mirror images by {gap:g}")
    damped = curvature + damping * torch.eye(len(gradient), dtype=gradient.dtype, device=gradient.device)
    L = cholesky(damped, f"curvature must be positive definite with damping {damping}: raise it")
    step = torch.cholesky_solve((gradient / largest)[:, None], L)[:, 0]
    step = step / step.abs().max()  # or its square may be 0 or infinite
    return step / step.norm()


@typed
def normalised_curvature(model: nn.Module, x: Tensor, layer: str, fisher: str = "exact", seed: int = 0) -> float:
    """|W|^2 tr(S (x) A), the trace of a layer's K-FAC block at the normalised weights W/|W|.

    The factors are those of the statistics of the batch x where the model is in training mode. With ``fisher="exact"``
    it is the Fisher matrix, which vanishes as predictions become certain; with ``gauss_newton_exact`` it is J'J, which
    does not.

    Args:
        model: Maps (B, ...) to logits (B, C).
        x: Shape (B, ...).
        layer: Name of a layer with a Kronecker block.
        fisher: As in :func:`nnlib.curvature.factors`, but for ``empirical``.
        seed: Of sampled targets.

    Raises:
        ValueError: for an unknown layer or fisher, or where :func:`nnlib.curvature.factors` raises one.

    Source: arXiv 1810.12281, section 4.3, the figure on the Fisher and Gauss-Newton norms.
    Chapter: ``book/weight_decay.ipynb``.
    """
    examples(x)
    known_layers(model, layer=[layer])
    one_of([kind for kind in FISHERS if kind != "empirical"], fisher=fisher)  # which asks for targets
    whole(0, 2**63 - 1, seed=seed)
    block = factors(model, x, fisher=fisher, seed=seed, layers=[layer])[layer]
    scale = cast("Tensor", model.get_submodule(layer).weight).detach().square().sum()
    return float(scale * block.A.trace() * block.S.trace())

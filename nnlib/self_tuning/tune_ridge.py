"""What do the tuners do when nothing is drawn at random? Ridge regression, the perturbations averaged exactly.

Beside them, descent along hypergradients: by implicit differentiation and by unrolling.
Papers: arXiv 1903.03088, section 3; arXiv 2010.13514, section 3. Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam

from nnlib.arguments import one_of, typed, whole, within
from nnlib.self_tuning.ridge import Ridge, eye_like, joint_hessian

VARIANTS = ("delta", "stn")
FAR = 1e6  # beyond, a run has diverged: the standardised problem's weights are of size 1


class RidgeRun(NamedTuple):
    """What :func:`tune` leaves behind.

    Args:
        rows: A dict for each step of lambda: ``step``, ``lam``, ``response_error`` |v - dw*/dlambda| / |dw*/dlambda|.
        diverged: The weights left the problem's scale; the rows end there.
    """

    rows: list[dict[str, Any]]
    diverged: bool


@typed
def tune(
    problem: Ridge,
    variant: str,
    start: float,
    *,
    sigma: float = 0.5,
    lr: float = 0.05,
    hyper_lr: float = 0.02,
    train_steps: int = 5,
    steps: int = 600,
) -> RidgeRun:
    """Gradient descent on the expected training loss of w_0 + v r, in turn with Adam's steps on lambda.

    The response input r is eps for ``delta`` and lambda + eps for ``stn``, eps ~ N(0, sigma²). ``stn`` descends in
    (w_0, v) at once; ``delta`` in w_0 at the unperturbed lambda, then in v. Hypergradient: v'∇L_V(w) at eps = 0.

    Args:
        problem: Ridge regression.
        variant: ``delta`` or ``stn``.
        start: Of lambda.
        sigma: Scale of the perturbations, fixed.
        lr: Of gradient descent on the weights.
        hyper_lr: Of Adam.
        train_steps: Steps on the weights before each step of lambda.
        steps: Steps of lambda.

    Returns:
        A :class:`RidgeRun`.

    Raises:
        ValueError: for another variant, or a scale or number that is not positive.

    Chapter: ``book/self_tuning.ipynb``.

    >>> from nnlib.training import Split
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    >>> y = x[:, 0] + torch.randn(60, generator=generator, dtype=torch.float64)
    >>> problem = Ridge(Split(x[:20], y[:20]), Split(x[20:], y[20:]))
    >>> [tune(problem, variant, -6.0, steps=60).diverged for variant in ("delta", "stn")]
    [False, True]
    """
    one_of(VARIANTS, variant=variant)
    within("(-inf, inf)", start=start)
    within("(0, inf)", sigma=sigma, lr=lr, hyper_lr=hyper_lr)
    whole(1, train_steps=train_steps, steps=steps)
    m, (x, y), d = problem.moment, problem.validation, len(problem.moment)
    lam = m.new_tensor([start], requires_grad=True)
    adam = Adam([lam], lr=hyper_lr)
    both, rows, diverged = torch.zeros_like(m).repeat(2), [], False
    for step in range(1, steps + 1):
        at = lam.item()
        turn, shift = _descent(problem, variant, at, sigma, lr)
        for _ in range(train_steps):
            both = torch.addmv(shift, turn, both)
        if not both.abs().max() < FAR:
            diverged = True
            break
        w_0, v = both[:d], both[d:]
        w = w_0 if variant == "delta" else w_0 + at * v
        lam.grad = (v @ (x.T @ (x @ w - y)) / len(y)).view(1)
        adam.step()
        exact = problem.jacobian(at)
        found = {"step": step, "lam": at, "response_error": float((v - exact).norm() / exact.norm())}
        rows.append(found)
    return RidgeRun(rows, diverged)


def _descent(problem: Ridge, variant: str, lam: float, sigma: float, lr: float) -> tuple[Tensor, Tensor]:
    """One step on (w_0, v) as a map: (w_0, v) -> turn (w_0, v) + shift."""
    m, d = problem.moment, len(problem.moment)
    hessian = joint_hessian(problem, lam, sigma, centred=variant == "delta")
    eye = eye_like(hessian)
    if variant == "stn":
        return eye - lr * hessian, lr * torch.cat([m, lam * m])
    plain, respond = eye.clone(), eye.clone()
    plain[:d, :d] -= lr * problem.regularised(lam)  # w_0 at the unperturbed lambda
    respond[d:] -= lr * hessian[d:]  # then v, with the new w_0
    shift = lr * torch.cat([m, torch.zeros_like(m)])
    return respond @ plain, respond @ shift


@typed
def descend(hypergradient: Callable[[float], float], start: float, *, lr: float = 0.05, steps: int = 300) -> float:
    """Where Adam ends along a hypergradient: the baseline of tuners that do not learn a response.

    Args:
        hypergradient: Of lambda, as ``problem.hypergradient``, or unrolled.
        start: Of lambda.
        lr: Of Adam.
        steps: Number of steps; each costs a solve, or an unrolled training.

    >>> from nnlib.training import Split
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    >>> y = x[:, 0] + torch.randn(60, generator=generator, dtype=torch.float64)
    >>> problem = Ridge(Split(x[:20], y[:20]), Split(x[20:], y[20:]))
    >>> abs(descend(problem.hypergradient, -1.0) - problem.optimum()) < 0.02
    True
    """
    whole(1, steps=steps)
    within("[0, inf)", lr=lr)
    lam = torch.tensor([float(start)], dtype=torch.float64, device="cpu", requires_grad=True)
    adam = Adam([lam], lr=lr)
    for _ in range(steps):
        lam.grad = lam.new_tensor([hypergradient(lam.item())])
        adam.step()
    return lam.item()

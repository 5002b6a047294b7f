"""Which vectors at a network's outputs make the curvature of the loss there, and what counts as its outputs?

A likelihood says how targets are drawn from the outputs f; sum_k v_k v_k' over the vectors v_k is then the Fisher or
Gauss-Newton matrix of the loss with respect to f. Chapter: ``book/curvature.ipynb``.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from nnlib.arguments import shown

FISHERS = ("sampled", "exact", "empirical", "gauss_newton", "gauss_newton_exact")
LIKELIHOODS = ("categorical", "bernoulli", "gaussian")
Output = Callable[[Any], Tensor]


def predictions(returned: Any, output: Output | None) -> Tensor:
    """The outputs f in what a model returns: a tensor (B, C), or (B, ..., C) where ``output`` says how to get there.

    Raises:
        ValueError: for anything else, with its shape or kind.
    """
    found = returned if output is None else output(returned)
    if isinstance(found, Tensor) and found.is_floating_point() and found.ndim >= 2 and min(found.shape[:1]) > 0:
        if found.ndim == 2 or output is not None:
            return found
    raise ValueError(
        f"the network's output must have shape (batch, outputs): got {_described(found)}; for other outputs say by "
        "output= how to get from what the model returns to a tensor (batch, ..., classes), such as "
        "lambda returned: returned['logits'] or, for images, lambda f: f.movedim(1, -1)"
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)}" + ("" if value.is_floating_point() else f" of {value.dtype}")
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(repr, value))}"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")


def wide(tensor: Tensor) -> Tensor:
    """Half-precision numbers in single precision: their squares would overflow, their sums lose the small ones."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def finite(tensor: Tensor) -> bool:
    """Whether all numbers are. A finite sum says so in a tenth of the time; one that is not may have overflowed."""
    tensor = tensor.detach()
    return math.isfinite(tensor.sum().item()) or bool(tensor.isfinite().all())


def fit_targets(x: Tensor, y: Tensor) -> None:
    """Refuse targets that are not one for each example, (B, ...)."""
    if not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1]:
        raise ValueError(f"y must have one target for each of the {len(x)} examples of x: got {shown(y)}")


def output_vectors(
    outputs: Tensor, fisher: str, likelihood: str, y: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    """The vectors v_k at the outputs f for which sum_k v_k v_k' is, in expectation, the curvature of the loss there.

    ======================  ============================  ==============================  ==========================
    fisher                  categorical, p = softmax(f)   bernoulli, p = sigmoid(f)       gaussian, |f - y|^2 / 2
    ======================  ============================  ==============================  ==========================
    ``sampled``             p - e_c, c drawn from p       p - y, every y_c drawn          one draw from N(0, I)
    ``exact``               sqrt(p_c) (p - e_c), every c  sqrt(p_c (1 - p_c)) e_c         e_c for every output c
    ``empirical``           p - e_y, the true class y     p - y                           f - y
    ``gauss_newton``        one draw from N(0, I)         one draw from N(0, I)           one draw from N(0, I)
    ``gauss_newton_exact``  e_c for every output c        e_c for every output c          e_c for every output c
    ======================  ============================  ==============================  ==========================

    An example with T predictions, f of shape (B, T, C), has the mean of their losses: every vector of a prediction
    stands alone and is divided by sqrt(T). Half precision is widened, also where targets are drawn: in bfloat16 a
    distribution function of many classes has too few values.

    Args:
        outputs: f, shape (B, C) or (B, ..., C).
        fisher: One of ``FISHERS``.
        likelihood: One of ``LIKELIHOODS``.
        y: True targets, for ``empirical`` alone: classes, of the shape of f without its last axis, or of f's shape.
        generator: On the device of ``outputs``; for ``sampled`` and ``gauss_newton``.

    Returns:
        Shape (K, *f.shape), K = 1, or T C for the exact kinds.
    """
    f = wide(outputs.detach())
    _check(f, fisher, likelihood, y)
    f = f.reshape(len(f), -1, f.shape[-1])  # (B, T, C)
    if y is not None:
        y = y.reshape(f.shape[:2] if likelihood == "categorical" else f.shape)
    exact = fisher in ("exact", "gauss_newton_exact")
    vectors = _every(f, fisher, likelihood) if exact else _one(f, fisher, likelihood, y, generator)
    T = f.shape[1]
    if T > 1 and exact:
        spread = vectors.new_zeros(T, *vectors.shape)
        for t in range(T):
            spread[t, :, :, t] = vectors[:, :, t]
        vectors = spread.flatten(0, 1)  # (T C, B, T, C)
    return (vectors / T**0.5 if T > 1 else vectors).reshape(-1, *outputs.shape)


def _every(f: Tensor, fisher: str, likelihood: str) -> Tensor:
    """The vectors of every single prediction for the exact kinds, (C, B, T, C)."""
    e = torch.eye(f.shape[2], dtype=f.dtype, device=f.device)[:, None, None]  # (C, 1, 1, C)
    if fisher == "gauss_newton_exact" or likelihood == "gaussian":
        return e.expand(-1, *f.shape[:2], -1)
    if likelihood == "bernoulli":
        p = f.sigmoid()
        return (p * (1 - p)).sqrt() * e
    p = _softmax(f)
    return p.movedim(2, 0).sqrt()[..., None] * (p - e)


def _one(f: Tensor, fisher: str, likelihood: str, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
    """The vector of every single prediction for the other kinds, (B, T, C); for ``sampled``, y is drawn here."""
    if fisher == "gauss_newton" or (fisher, likelihood) == ("sampled", "gaussian"):
        return torch.randn(f.shape, generator=generator, dtype=f.dtype, device=f.device)
    u = lambda *shape: torch.rand(shape, generator=generator, dtype=f.dtype, device=f.device)  # noqa: E731
    if likelihood == "bernoulli":
        p = f.sigmoid()
        return p - (u(*p.shape) < p if y is None else y).to(p.dtype)
    if likelihood == "categorical":
        p = _softmax(f)
        if y is None:  # the inverse of the distribution function; in rounding the sum of p may end below u
            c = torch.searchsorted(p.cumsum(2), u(*p.shape[:2], 1)).clamp_(max=p.shape[2] - 1)
        else:
            c = y[..., None]  # (B, T, 1)
        return p.scatter(2, c, p.gather(2, c) - 1)  # p - e_c
    assert y is not None  # checked above
    return f - y


def _softmax(f: Tensor) -> Tensor:
    """Over the last axis; torch's own takes six times as long on a CPU where classes are few."""
    e = (f - f.amax(-1, keepdim=True)).exp_()
    return e.div_(e.sum(-1, keepdim=True))


def _check(f: Tensor, fisher: str, likelihood: str, y: Tensor | None) -> None:
    for name, value, known in (("fisher", fisher, FISHERS), ("likelihood", likelihood, LIKELIHOODS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}: got {value!r}")
    if f.ndim < 2:
        raise ValueError(f"the network's output must have shape (batch, outputs): got {tuple(f.shape)}")
    if likelihood == "categorical" and f.shape[-1] == 1 and not fisher.startswith("gauss_newton"):
        raise ValueError(
            f"likelihood 'categorical' needs two classes or more: got outputs of shape {tuple(f.shape)}, and the "
            "softmax of one logit is always 1; for one logit take likelihood='bernoulli'"
        )
    if (fisher == "empirical") != (y is not None):
        raise ValueError(f"the true targets y are for fisher='empirical' alone, which needs them: got {fisher!r}")
    if y is not None:
        wanted = f.shape[:-1] if likelihood == "categorical" else f.shape
        if y.shape != wanted:
            raise ValueError(f"y must have shape {tuple(wanted)} for {likelihood} targets: got {tuple(y.shape)}")
        if y.is_complex() or (y.dtype == torch.bool and likelihood != "bernoulli"):
            raise ValueError(f"y must be real numbers for {likelihood} targets: got {shown(y)}")
        if likelihood == "gaussian" and not finite(y):
            raise ValueError(f"y must be finite: got {y[~y.isfinite()][0].item()}")
        if likelihood == "categorical" and (
            y.is_floating_point() or not 0 <= int(y.min()) <= int(y.max()) < f.shape[-1]
        ):
            raise ValueError(f"y must be classes from 0 to {f.shape[-1] - 1}: got {y.dtype}, {y.min()} to {y.max()}")
        if likelihood == "bernoulli" and not ((y >= 0) & (y <= 1)).all():
            raise ValueError(f"y must lie in [0, 1] for bernoulli targets: got {y.min()} to {y.max()}")

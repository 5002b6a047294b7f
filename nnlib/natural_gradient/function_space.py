"""The exact natural gradient of any small module, computed in the space of its outputs.

Parameters are one vector of length P, in the order of ``model.parameters()``; the outputs on n inputs are one vector u
of length N = n C. With N < P it is the N x N Gram matrix G = J J' that has to be inverted, not the P x P Fisher matrix.
Paper: arXiv 1905.10961, natural gradient descent. Chapter: ``book/natural_gradient.ipynb``.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp

from nnlib.arguments import passing, real, typed, whole, within
from nnlib.cholesky import cholesky
from nnlib.curvature import jacobian
from nnlib.curvature.dense import one_by_one
from nnlib.curvature.outputs import predictions
from nnlib.curvature.passes import measuring

MAX_BYTES = 2**28


@typed
def natural_gradient(
    model: nn.Module,
    x: Tensor,
    slope: Tensor,
    *,
    damping: float = 0.0,
    curvature: Tensor | None = None,
    max_bytes: int = MAX_BYTES,
) -> Tensor:
    """The direction (J' H J + damping I)^+ J' slope, by way of the outputs.

    For H = I it is J' (J J' + damping I)^-1 slope; with damping 0 the pseudo-inverse takes the place of the inverse,
    and eigenvalues of J J' that are below N eps times the largest count as 0.
    Subtract lr times the result from the parameters.

    Args:
        model: Maps (n, ...) to (n, C) and treats examples one by one (BatchNorm in evaluation mode).
        x: Shape (n, ...).
        slope: Derivative of the summed loss by the outputs, for 1/2 |u - y|^2 the residual u - y, shape (n, C).
        damping: At least 0.
        curvature: Diagonal of H, the loss's second derivatives by each output, > 0, shape (n, C). With None, H = I.
        max_bytes: As in :func:`gram`.

    Returns:
        Shape (P,).

    Raises:
        TypeError: slope or curvature holds no floating-point numbers.
        ValueError: negative damping, a shape or sign that does not fit, numbers that are not finite, or a damping that
            is lost in rounding beside a singular J J'.

    Source: arXiv 1905.10961, natural gradient descent. Chapter: ``book/natural_gradient.ipynb``.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> natural_gradient(nn.Linear(2, 1, bias=False), x, torch.tensor([[1.0], [1.0]]))
    tensor([1.0000, 0.5000])
    """
    within("[0, inf)", damping=damping)
    G = gram(model, x, max_bytes)
    outputs = {"n": len(x), "C": len(G) // len(x)}
    real("n C", outputs, slope=slope)
    g, root = slope.flatten(), None
    if curvature is not None:
        real("n C", outputs, curvature=curvature)
        if not (curvature > 0).all():
            raise ValueError(f"curvature must be positive: got {float(curvature.min()):g}")
        root = curvature.flatten().sqrt()  # A = H^1/2 J, (A'A + damping)^+ A' = A' (A A' + damping)^+
        G, g = root[:, None] * G * root, g / root
    if not bool(G.isfinite().all()):
        raise ValueError("x, or curvature, is too large: the Gram matrix of the Jacobian at x is not finite")
    weights = solve(G, g, damping)
    return pull_back(model, x, weights if root is None else root * weights)


def solve(G: Tensor, g: Tensor, damping: float = 0.0) -> Tensor:
    """(G + damping I)^-1 g by Cholesky; with damping 0, G^+ g, which also holds where G is singular.

    >>> solve(torch.diag(torch.tensor([2.0, 0.0])), torch.tensor([2.0, 1.0]))
    tensor([1., 0.])
    """
    if damping == 0:
        return torch.linalg.pinv(G, hermitian=True) @ g
    eye = torch.eye(len(G), dtype=G.dtype, device=G.device)
    lost = f"damping must be larger: {damping} is lost in rounding beside the Gram matrix at x, weighted by curvature"
    L = cholesky(G + damping * eye, lost)
    return torch.cholesky_solve(g[:, None], L)[:, 0]


@typed
def pull_back(model: nn.Module, x: Tensor, v: Tensor) -> Tensor:
    """J' v by one backward pass: from the outputs' space (N numbers) to the parameters', shape (P,).

    Args:
        model: As in :func:`natural_gradient`.
        x: Shape (n, ...).
        v: N numbers in any shape, the outputs' order.

    Raises:
        TypeError: x or v holds no floating-point numbers.
        ValueError: v has not a number for each output, x is not what the model takes, or one is not finite.

    >>> pull_back(nn.Linear(2, 1), torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]))
    tensor([3., 6., 3.])
    """
    real("n ...", x=x)
    real("...", v=v)
    one_by_one(model)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    with measuring(model), passing(x=x):
        u, back, *_ = vjp(lambda p: predictions(functional_call(model, p, (x,)), None), parameters)  # u: (n, C)
    if v.numel() != u.numel():
        raise ValueError(f"v must have a number for each of the {u.numel()} outputs at x: got shape {tuple(v.shape)}")
    (found,) = back(v.reshape(u.shape))
    return torch.cat([part.flatten() for part in found.values()])


@typed
def gram(model: nn.Module, x: Tensor, max_bytes: int = MAX_BYTES) -> Tensor:
    """G = J J', shape (N, N), from blocks of rows of J where the whole J would be larger than ``max_bytes``.

    The blocks are computed again for each pair, so that two of them are held at most: time for memory.

    Args:
        model: As in :func:`natural_gradient`.
        x: Shape (n, ...).
        max_bytes: Of the rows of J that are held at once. The rows of two examples are the least that is possible.

    Raises:
        TypeError: x holds no floating-point numbers.
        ValueError: max_bytes is not positive, or x is not finite or not what the model takes.

    Chapter: ``book/natural_gradient.ipynb``.
    """
    return _gram(lambda part: jacobian(model, part).flatten(0, 1), model, x, max_bytes)


@typed
def jacobian_change(model: nn.Module, reference: nn.Module, x: Tensor, max_bytes: int = MAX_BYTES) -> Tensor:
    """|J - J_0|_2, the largest singular value of the change of the Jacobian from ``reference`` to ``model``: scalar.

    Args:
        model: As in :func:`natural_gradient`.
        reference: A model with parameters of the same shapes.
        x: Shape (n, ...).
        max_bytes: As in :func:`gram`.

    Raises:
        TypeError: x holds no floating-point numbers.
        ValueError: the models differ in shape, max_bytes is not positive, or x is not finite, too large or not what
            the models take.

    Source: arXiv 1905.10961, condition 2. Chapter: ``book/natural_gradient.ipynb``.
    """
    sizes, others = ([tuple(p.shape) for p in m.parameters()] for m in (model, reference))
    if sizes != others:
        raise ValueError(f"reference must have the parameters of model, {sizes}: got {others}")

    def difference(part: Tensor) -> Tensor:
        J, J_0 = jacobian(model, part), jacobian(reference, part)
        if J.shape != J_0.shape:
            raise ValueError(f"reference must have the {J.shape[1]} outputs of model: got {J_0.shape[1]}")
        return (J - J_0).flatten(0, 1)

    D = _gram(difference, model, x, max_bytes)
    if not bool(D.isfinite().all()):
        raise ValueError("x is too large: the Gram matrix of the Jacobian's change at x is not finite")
    return spectral_norm(D)


def spectral_norm(D: Tensor) -> Tensor:
    """The largest singular value of M from D = M M'."""
    return torch.linalg.eigvalsh(D)[-1].clamp(min=0).sqrt()


def _gram(rows: Callable[[Tensor], Tensor], model: nn.Module, x: Tensor, max_bytes: int) -> Tensor:
    """M M' of a matrix whose rows (b C, P) for b examples ``rows`` computes."""
    whole(1, max_bytes=max_bytes)
    real("n ...", x=x)
    one_by_one(model)
    with torch.no_grad(), measuring(model), passing(x=x):
        outputs = predictions(model(x[:1]), None).numel()
    each = outputs * sum(p.numel() * p.element_size() for p in model.parameters())
    if each == 0:
        raise ValueError("model must have parameters: its Jacobian has no column")
    if len(x) * each <= max_bytes:
        M = rows(x)
        return M @ M.T
    parts = x.split(max(1, max_bytes // (2 * each)))
    blocks = []
    for i, part in enumerate(parts):
        M = rows(part)
        blocks.append([M @ rows(other).T for other in parts[:i]] + [M @ M.T])
    lower = [torch.cat([*row, *(blocks[j][i].T for j in range(i + 1, len(parts)))], 1) for i, row in enumerate(blocks)]
    return torch.cat(lower)

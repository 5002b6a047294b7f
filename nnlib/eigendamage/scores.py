"""How much does the loss rise when a whole filter goes, and how should the other filters move?

A layer is its joint weight W (out, in), a filter is a row of it, bias included; its curvature is S (x) A. Every score
is an estimate of the rise in loss, but for magnitude, so that layers can be compared. All refuse by a ValueError what
has another shape or dtype, is not finite, or, where a factor is inverted, not positive definite.
Paper: arXiv 1905.05934, section 3. Chapter: ``book/eigendamage.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.arguments import real, shown, typed
from nnlib.curvature import Eigenbasis, Kronecker
from nnlib.eigendamage.weights import booleans, compensation


@typed
def magnitude(W: Tensor) -> Tensor:
    """The mean absolute value of each filter's weights: no curvature, and no dependence on how many weights it has.

    Source: Li et al., arXiv 1608.08710, with the mean in place of the sum, so that layers of different fan-in can be
    ranked together. Chapter: ``book/eigendamage.ipynb``.
    """
    real("out in", W=W)
    return W.abs().mean(1)


@typed
def c_obd(W: Tensor, diagonal: Tensor) -> Tensor:
    """Sum of a filter's weights' OBD scores: sum_j F_ij W_ij^2 / 2.

    Args:
        W: (out, in).
        diagonal: Diagonal of the exact Fisher matrix, (out, in): mean squared derivative by each weight.

    Source: arXiv 1905.05934, section 3. Chapter: ``book/eigendamage.ipynb``.

    >>> c_obd(torch.ones(2, 3), torch.tensor([[1.0, 1.0, 2.0], [0.0, 0.0, 2.0]]))
    tensor([2., 1.])
    """
    real("out in", W=W)
    real("out in", diagonal=diagonal)
    if W.shape != diagonal.shape:
        raise ValueError(f"W and diagonal must have one shape: got {tuple(W.shape)} and {tuple(diagonal.shape)}")
    return (diagonal * W.square()).sum(1) / 2


@typed
def c_obs(W: Tensor, block: Kronecker) -> Tensor:
    """Sum of a filter's weights' OBS scores: sum_j W_ij^2 / (2 [S^-1]_ii [A^-1]_jj).

    Args:
        W: (out, in).
        block: S (x) A, positive definite (damped).

    Source: arXiv 1905.05934, section 3. Chapter: ``book/eigendamage.ipynb``.
    """
    _fit(W, block)
    inverse = block.cholesky().inverse()
    return (W.square() / inverse.A.diagonal()).sum(1) / (2 * inverse.S.diagonal())


@typed
def c_obs_update(W: Tensor, block: Kronecker, pruned: Tensor) -> Tensor:
    """The sum of the single-weight OBS changes of all weights of the pruned filters, -S^-1 C A^-1.

    C_ij = W_ij / ([S^-1]_ii [A^-1]_jj) in pruned rows, else 0. What each change does to the other pruned weights is
    not undone, so the pruned rows do not become zero by themselves: here they are set to zero.

    Args:
        W: (out, in).
        block: S (x) A, positive definite (damped).
        pruned: Booleans (out,).

    Returns:
        Change of W, (out, in), -W in pruned rows.

    Source: arXiv 1905.05934, section 3. Chapter: ``book/eigendamage.ipynb``.
    """
    _fit(W, block)
    booleans(len(W), pruned=pruned)
    inverse = block.cholesky().inverse()
    C = W / torch.outer(inverse.S.diagonal(), inverse.A.diagonal()) * pruned[:, None]
    return torch.where(pruned[:, None], -W, -inverse.matvec(C))


@typed
def kron_obd(W: Tensor, block: Kronecker) -> Tensor:
    """The cost of deleting each filter while the others stay: S_ii W_i A W_i' / 2.

    Args:
        W: (out, in).
        block: S (x) A.

    Source: arXiv 1905.05934, section 3. Chapter: ``book/eigendamage.ipynb``.

    >>> kron_obd(torch.ones(2, 2), Kronecker(A=torch.tensor([[2.0, -1.0], [-1.0, 2.0]]), S=torch.eye(2)))
    tensor([1., 1.])
    """
    _fit(W, block)
    return block.S.diagonal() * _row_forms(W, block.A) / 2


@typed
def kron_obs(W: Tensor, block: Kronecker) -> Tensor:
    """The cost of deleting each filter when all others move to make up for it: W_i A W_i' / (2 [S^-1]_ii).

    Args:
        W: (out, in).
        block: S (x) A, positive definite (damped).

    Source: arXiv 1905.05934, section 3. Chapter: ``book/eigendamage.ipynb``.
    """
    _fit(W, block)
    inverse = torch.cholesky_inverse(block.cholesky().L_S)
    return _row_forms(W, block.A) / (2 * inverse.diagonal())


@typed
def kron_obs_update(W: Tensor, block: Kronecker, pruned: Tensor) -> Tensor:
    """The change V of least cost vec(V)'(S (x) A)vec(V) / 2 that makes the pruned rows of W + V zero, all together.

    V_P = -W_P and V_K = S_KK^-1 S_KP W_P: A does not enter, for every column is solved alike.

    Args:
        W: (out, in).
        block: S (x) A, with S positive definite on the kept filters.
        pruned: Booleans (out,).

    Returns:
        V, (out, in).

    Source: arXiv 1905.05934, section 3, for one filter; for several the same minimisation, not the sum of single
    changes. Chapter: ``book/eigendamage.ipynb``.
    """
    _fit(W, block)
    booleans(len(W), pruned=pruned)
    V = -W.clone()
    V[~pruned] = compensation(block.S, pruned, W[pruned], "the S of block")
    return V


@typed
def importance(W: Tensor, basis: Eigenbasis) -> Tensor:
    """What each entry of the rotated weights W' = Q_S' W Q_A costs: values * W'^2 / 2, summed over kernel offsets.

    In the Kronecker-factored eigenbasis the curvature is diagonal, so that deleting several entries costs the sum of
    their scores: row sums are the scores of outputs, column sums those of inputs.

    Args:
        W: Weights of a linear layer, (out, in), or a convolution, (out, in, k, k), without the bias.
        basis: Q_A (in, in) and Q_S (out, out); values (out, in), or (out, in, k k) where they differ by offset.

    Returns:
        Theta, (out, in).

    Source: arXiv 1905.05934, section 4, algorithm 1. Chapter: ``book/eigendamage.ipynb``.

    >>> I = torch.eye(2)
    >>> importance(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), Eigenbasis(I, I, torch.ones(2, 2)))
    tensor([[0.5000, 2.0000],
            [4.5000, 8.0000]])
    """
    _fit_basis(W, basis)
    taps = rotate(W.flatten(2) if W.ndim > 2 else W[:, :, None], basis.Q_S, basis.Q_A)  # (out, in, k k)
    values = basis.values if basis.values.ndim == 3 else basis.values[:, :, None]
    return (values * taps.square()).sum(2) / 2


@typed
def rotate(W: Tensor, Q_S: Tensor, Q_A: Tensor) -> Tensor:
    """Q_S' W Q_A at every kernel offset: (out, in, ...), (out, r), (in, c) -> (r, c, ...)."""
    _rotates(W, Q_S, Q_A)
    return torch.einsum("or,oi...,ic->rc...", Q_S, W, Q_A)


def _rotates(W: Tensor, Q_S: Tensor, Q_A: Tensor) -> None:
    real("out in ...", W=W)
    real("out r", Q_S=Q_S)
    real("in c", Q_A=Q_A)
    if W.shape[:2] != (len(Q_S), len(Q_A)) or not W.dtype == Q_S.dtype == Q_A.dtype:
        got = ", ".join(map(shown, (W, Q_S, Q_A)))
        raise ValueError(f"W (out, in, ...), Q_S (out, r) and Q_A (in, c) must fit, in one dtype: got {got}")


def _fit_basis(W: Tensor, basis: Eigenbasis) -> None:
    _rotates(W, basis.Q_S, basis.Q_A)
    sizes, taps = W.shape[:2], W.flatten(2).shape[2] if W.ndim > 2 else 1
    if basis.values.shape not in (sizes, (*sizes, taps)) or basis.values.dtype != W.dtype:
        allowed = f"{tuple(sizes)} or {(*sizes, taps)}"
        raise ValueError(f"the values of basis must have shape {allowed}, in the dtype of W: got {shown(basis.values)}")


def _fit(W: Tensor, block: Kronecker) -> None:
    real("out in", W=W)
    real("in in", **{"the A of block": block.A}, finite=True)
    real("out out", **{"the S of block": block.S}, finite=True)
    if W.shape != block.shape or not W.dtype == block.A.dtype == block.S.dtype:
        got = ", ".join(map(shown, (W, block.S, block.A)))
        raise ValueError(f"W (out, in) and its block, S (out, out) and A (in, in), must fit, in one dtype: got {got}")


def _row_forms(W: Tensor, A: Tensor) -> Tensor:
    """W_i A W_i' for every row, (out,)."""
    return ((W @ A) * W).sum(1)

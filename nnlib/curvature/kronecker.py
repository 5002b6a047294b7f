"""What can be done with a Kronecker product S (x) A without forming it? Multiply, damp, solve, rotate, sample.

V stands for a matrix (out, in) in the place of vec(V), row-major: (S (x) A) vec(V) = vec(S V A).
Papers: arXiv 1503.05671, 1806.03884. Chapter: ``book/curvature.ipynb``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib.arguments import shown
from nnlib.curvature.outputs import finite


class NotPositiveDefinite(ValueError):
    """A factor or an eigenvalue that must be positive is not."""


@dataclass(frozen=True)
class Kronecker:
    """The matrix S (x) A, symmetric and positive semi-definite.

    Args:
        A: Second moment of the layer's inputs, (in, in), with a last row and column for the bias where there is one.
        S: Second moment of the gradients at its outputs, (out, out).

    Source: arXiv 1503.05671, section 3. Chapter: ``book/curvature.ipynb``.

    >>> block = Kronecker(A=2 * torch.eye(3), S=3 * torch.eye(2))
    >>> block.matvec(torch.ones(2, 3))
    tensor([[6., 6., 6.],
            [6., 6., 6.]])
    """

    A: Tensor
    S: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in), the shape of the matrices it acts on."""
        return self.S.shape[0], self.A.shape[0]

    def dense(self) -> Tensor:
        """The matrix itself, (out in, out in)."""
        return torch.kron(self.S, self.A)

    def matvec(self, V: Tensor) -> Tensor:
        """S V A for V of shape (out, in)."""
        return self.S @ V @ self.A

    def quadratic(self, V: Tensor) -> Tensor:
        """vec(V)' (S (x) A) vec(V) = tr(V' S V A), a scalar."""
        return (V * self.matvec(V)).sum()

    def damped(self, damping: float) -> "Kronecker":
        """(S + sqrt(damping)/pi I) (x) (A + pi sqrt(damping) I), pi^2 = (tr A / dim A) / (tr S / dim S).

        The product is S (x) A + damping I plus two cross terms; this pi minimises the sum of their trace norms. Where
        a factor has trace zero, pi = 1.

        Raises:
            TypeError: for damping that is no number.
            ValueError: for damping that is negative or not finite.

        Source: arXiv 1503.05671, section 6.3.
        """
        _not_negative(damping)
        out, width = self.shape
        mean_A, mean_S = self.A.trace().item() / width, self.S.trace().item() / out
        pi = (mean_A / mean_S) ** 0.5 if mean_A > 0 and mean_S > 0 else 1.0
        return Kronecker(_shifted(self.A, pi * damping**0.5), _shifted(self.S, damping**0.5 / pi))

    def cholesky(self) -> "Cholesky":
        """Triangular factors of both, to solve with.

        Raises:
            ValueError: where one is no square matrix of real numbers.
            NotPositiveDefinite: where one of them is not positive definite.
        """
        return Cholesky(_cholesky(self.A, "A"), _cholesky(self.S, "S"))

    def eigen(self) -> "Eigenbasis":
        """Eigenvectors of both factors and the products of their eigenvalues; those below zero by rounding become zero.

        Raises:
            ValueError: where a factor is no square matrix of real numbers.
            NotPositiveDefinite: where an eigenvalue is negative beyond rounding.
        """
        (values_A, Q_A), (values_S, Q_S) = _eigen(self.A, "A"), _eigen(self.S, "S")
        return Eigenbasis(Q_A, Q_S, torch.outer(values_S, values_A))


@dataclass(frozen=True)
class Cholesky:
    """S (x) A = (L_S (x) L_A)(L_S (x) L_A)', positive definite; made by :meth:`Kronecker.cholesky`.

    Args:
        L_A: Lower triangular, (in, in).
        L_S: Lower triangular, (out, out).
    """

    L_A: Tensor
    L_S: Tensor

    def solve(self, V: Tensor) -> Tensor:
        """S^-1 V A^-1 for V of shape (out, in)."""
        return torch.cholesky_solve(torch.cholesky_solve(V, self.L_S).mT, self.L_A).mT

    def inverse(self) -> Kronecker:
        """S^-1 (x) A^-1: to multiply by many times costs less than to solve."""
        return Kronecker(torch.cholesky_inverse(self.L_A), torch.cholesky_inverse(self.L_S))

    def logdet(self) -> Tensor:
        """log det(S (x) A) = in log det S + out log det A, a scalar."""
        log_A, log_S = (2 * L.diagonal().log().sum() for L in (self.L_A, self.L_S))
        return len(self.L_A) * log_S + len(self.L_S) * log_A

    def sample(self, generator: torch.Generator) -> Tensor:
        """A draw of vec(V) from N(0, (S (x) A)^-1), as V of shape (out, in): L_S^-T Z L_A^-1, Z standard normal.

        Args:
            generator: On the device of the factors.
        """
        Z = _normal(self.L_A, (len(self.L_S), len(self.L_A)), generator)
        left = torch.linalg.solve_triangular(self.L_S.mT, Z, upper=True)
        return torch.linalg.solve_triangular(self.L_A, left, upper=False, left=False)


@dataclass(frozen=True)
class Eigenbasis:
    """(Q_S (x) Q_A) diag(values) (Q_S (x) Q_A)': the Kronecker-factored eigenbasis with eigenvalues of its own.

    With products of the factors' eigenvalues it is K-FAC; with those of :func:`nnlib.curvature.rescale`, EKFAC.

    Args:
        Q_A: Orthogonal, (in, in).
        Q_S: Orthogonal, (out, out).
        values: Not negative, (out, in).

    Source: arXiv 1806.03884, section 3. Chapter: ``book/curvature.ipynb``.
    """

    Q_A: Tensor
    Q_S: Tensor
    values: Tensor

    def rotate(self, V: Tensor) -> Tensor:
        """Q_S' V Q_A: coordinates of V, (out, in), in the basis."""
        return self.Q_S.mT @ V @ self.Q_A

    def rotate_back(self, V: Tensor) -> Tensor:
        """Q_S V Q_A', the inverse of :meth:`rotate`."""
        return self.Q_S @ V @ self.Q_A.mT

    def dense(self) -> Tensor:
        """The matrix itself, (out in, out in)."""
        Q = torch.kron(self.Q_S, self.Q_A)
        return Q * self.values.flatten() @ Q.mT

    def matvec(self, V: Tensor) -> Tensor:
        """The matrix times vec(V), as (out, in)."""
        return self.rotate_back(self.values * self.rotate(V))

    def solve(self, V: Tensor, damping: float | Tensor = 0.0) -> Tensor:
        """(matrix + damping I)^-1 vec(V), as (out, in).

        Raises:
            TypeError: for damping that is no number.
            ValueError: for damping that is negative or not finite.
            NotPositiveDefinite: where the damped matrix is singular.
        """
        return self.rotate_back(self.rotate(V) / self._damped(damping))

    def logdet(self, damping: float | Tensor = 0.0) -> Tensor:
        """log det(matrix + damping I), a scalar."""
        return self._damped(damping).log().sum()

    def sample(self, generator: torch.Generator, damping: float | Tensor = 0.0) -> Tensor:
        """A draw of vec(V) from N(0, (matrix + damping I)^-1), as V of shape (out, in).

        Args:
            generator: On the device of the basis.
            damping: Not negative.
        """
        Z = _normal(self.values, self.values.shape, generator)
        return self.rotate_back(Z / self._damped(damping).sqrt())

    def _damped(self, damping: float | Tensor) -> Tensor:
        _not_negative(damping)
        values = self.values + damping
        smallest = values.min().item()  # NaN where one is
        if not smallest > 0:
            raise NotPositiveDefinite(f"the smallest eigenvalue is {smallest:g}: raise the damping")
        return values


def _not_negative(damping: float | Tensor) -> None:
    try:
        right = bool(0 <= damping < math.inf)
    except TypeError:
        raise TypeError(f"damping must be a number: got {shown(damping)}") from None
    if not right:
        raise ValueError(f"damping must be finite and not negative: got {shown(damping)}")


def _no_square(M: Tensor, name: str, error: Exception) -> Exception:
    """What to raise where torch can't decompose a matrix: its own error where that is about something else."""
    if isinstance(M, Tensor) and M.is_floating_point() and M.ndim == 2 and M.shape[0] == M.shape[1]:
        return error
    return ValueError(f"the factor {name} must be a square matrix of real numbers: got {shown(M)}")


def _shifted(M: Tensor, shift: float) -> Tensor:
    shifted = M.clone()
    shifted.diagonal().add_(shift)
    return shifted


def _normal(like: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


def _cholesky(M: Tensor, name: str) -> Tensor:
    try:
        L, info = torch.linalg.cholesky_ex(M)
    except (RuntimeError, TypeError) as error:
        raise _no_square(M, name, error) from error
    if info.item() != 0 or not math.isfinite(L.trace().item()):
        raise NotPositiveDefinite(
            f"the factor {name}, {len(M)} x {len(M)}, is not positive definite: raise the damping"
        )
    return L


def _eigen(M: Tensor, name: str) -> tuple[Tensor, Tensor]:
    try:
        if not finite(M):
            raise NotPositiveDefinite(f"the factor {name}, {len(M)} x {len(M)}, has entries that are not finite")
        values, Q = torch.linalg.eigh(M)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise _no_square(M, name, error) from error
    rounding = len(M) * torch.finfo(M.dtype).eps * values.abs().max()
    if values.min() < -10 * rounding:
        raise NotPositiveDefinite(f"the factor {name} has the negative eigenvalue {values.min().item():g}")
    return values.clamp(min=0), Q

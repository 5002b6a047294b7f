"""Noisy K-FAC: a Fisher matrix that is a Kronecker product, with damping split between its factors or exact.

Paper: arXiv 1712.02390. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass

from torch import Tensor

from nnlib.arguments import one_of, typed
from nnlib.curvature import Eigenbasis
from nnlib.noisy_ekfac.kronecker import KroneckerPosterior

DAMPINGS = ("factored", "exact")


@typed
@dataclass
class MatrixVariate(KroneckerPosterior):
    """Noisy K-FAC's (MVG): F = S (x) A; other arguments as in ``KroneckerPosterior``.

    Args:
        damping_kind: ``factored``: (S + sqrt(d)/pi I) (x) (A + pi sqrt(d) I), as the paper has it;
            ``exact``: S (x) A + d I.

    Source: arXiv 1712.02390, algorithm 2. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    damping_kind: str = "factored"

    def start(self) -> None:
        one_of(DAMPINGS, damping_kind=self.damping_kind)
        super().start()

    def damped(self, damping: float) -> tuple[Eigenbasis, Tensor]:
        if self.damping_kind == "exact":
            return self.basis, self.products() + damping
        return self.basis, split_damping(self.a, self.s, damping)


def split_damping(a: Tensor, s: Tensor, damping: float) -> Tensor:
    """(s + sqrt(d)/pi) (a + pi sqrt(d)), the eigenvalues of a Kronecker product whose factors are damped.

    Multiplied out it is s a + d + sqrt(d) (a/pi + pi s): more than exact damping, s a + d, gives. pi^2 is the mean
    eigenvalue of A over that of S, so the larger factor gets the larger damping; it makes the sum of the excess least.

    Args:
        a: Eigenvalues of A, (..., in), not negative.
        s: Eigenvalues of S, (..., out), not negative.
        damping: d, not negative.

    Returns:
        (..., out, in).

    Source: arXiv 1712.02390, section 3.3; Martens and Grosse, arXiv 1503.05671, section 6.3.

    >>> import torch
    >>> split_damping(torch.tensor([4.0, 0.0]), torch.tensor([1.0]), 1.0)  # pi is sqrt(2)
    tensor([[9.2426, 2.4142]])
    """
    pi = ((a.mean(-1) + 1e-8) / (s.mean(-1) + 1e-8)).sqrt()[..., None]
    return (s + damping**0.5 / pi)[..., :, None] * (a + pi * damping**0.5)[..., None, :]

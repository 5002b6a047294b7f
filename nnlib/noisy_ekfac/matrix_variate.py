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
        # pi^2 = mean eigenvalue of A over that of S: the larger factor gets the larger damping.
        pi = ((self.a.mean(-1) + 1e-8) / (self.s.mean(-1) + 1e-8)).sqrt()[..., None]
        a, s = self.a + pi * damping**0.5, self.s + damping**0.5 / pi
        return self.basis, s[..., :, None] * a[..., None, :]

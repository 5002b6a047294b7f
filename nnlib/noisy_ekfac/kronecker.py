"""What noisy K-FAC and noisy EK-FAC share: running averages of the two Kronecker factors, and their eigenvectors.

A = E[x x'] of a layer's inputs, S = E[ds ds'] of the gradients at its outputs; F is taken for S (x) A, whose
eigenvectors are the Kronecker products of those of S and A. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib.arguments import whole
from nnlib.curvature import Eigenbasis
from nnlib.noisy_ekfac.natural import FisherPosterior
from nnlib.noisy_ekfac.statistics import Statistics


@dataclass
class KroneckerPosterior(FisherPosterior):
    """A posterior in the Kronecker-factored eigenbasis; other arguments as in ``Posterior``.

    Args:
        update_basis_every: Observations between two eigendecompositions.

    Chapter: ``book/noisy_ekfac.ipynb``.
    """

    update_basis_every: int = 1

    def start(self) -> None:
        whole(1, update_basis_every=self.update_basis_every)
        *lead, n_out, n_in = self.mean.shape
        like = {"dtype": self.mean.dtype, "device": self.mean.device}
        self.A, self.S = (torch.eye(n, **like).expand(*lead, n, n).clone() for n in (n_in, n_out))
        self.count = 0
        self.decompose()

    def decompose(self) -> None:
        """Eigenvectors of both factors, and their eigenvalues, (..., in) and (..., out)."""
        (self.a, Q_A), (self.s, Q_S) = torch.linalg.eigh(self.A), torch.linalg.eigh(self.S)
        self.a, self.s = self.a.clamp(min=0), self.s.clamp(min=0)  # negative by rounding alone
        self.basis = Eigenbasis(Q_A, Q_S, self.products())

    def products(self) -> Tensor:
        """Eigenvalues of S (x) A, (..., out, in)."""
        return self.s[..., :, None] * self.a[..., None, :]

    def observe(self, statistics: Statistics) -> None:
        super().observe(statistics)
        A, S = statistics.factors()
        self.A, self.S = A.lerp(self.A, self.decay), S.lerp(self.S, self.decay)
        self.count += 1
        if self.count % self.update_basis_every == 0:
            self.decompose()

"""Noisy EK-FAC: in the Kronecker-factored eigenbasis, the diagonal of the true Fisher matrix in place of products.

Paper: arXiv 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib.arguments import one_of, typed, within
from nnlib.curvature import Eigenbasis
from nnlib.noisy_ekfac.kronecker import KroneckerPosterior
from nnlib.noisy_ekfac.statistics import Statistics

ON_BASIS_CHANGE = ("project", "reset", "keep")


@typed
@dataclass
class EigenvalueCorrected(KroneckerPosterior):
    """Noisy EK-FAC's (EMVG): F = (Q_S (x) Q_A) diag(R) (Q_S (x) Q_A)', damped exactly: R + d.

    R is a running average of E[(Q_S' G Q_A)^2] over the gradients G of examples. Other arguments as in
    ``KroneckerPosterior``.

    Args:
        on_basis_change: What becomes of R in a new basis. ``project``: the diagonal of the old matrix in it;
            ``reset``: K-FAC's products of eigenvalues; ``keep``: the old numbers, whatever they now belong to.
        scale_decay: Of the running average R, in [0, 1): the paper's 1 - omega. ``decay`` is that of the factors, and
            of R too where this is None.

    Raises:
        ValueError: for another ``on_basis_change``, or a decay out of range.

    Source: arXiv 1811.12565, section 4, algorithm 1. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    on_basis_change: str = "project"
    scale_decay: float | None = None

    def start(self) -> None:
        one_of(ON_BASIS_CHANGE, on_basis_change=self.on_basis_change)
        if self.scale_decay is not None:
            within("[0, 1)", scale_decay=self.scale_decay)
        self.R = torch.ones_like(self.mean)
        super().start()

    def observe(self, statistics: Statistics) -> None:
        super().observe(statistics)
        decay = self.decay if self.scale_decay is None else self.scale_decay
        self.R = statistics.squares(self.basis).lerp(self.R, decay)

    def damped(self, damping: float) -> tuple[Eigenbasis, Tensor]:
        return self.basis, self.R + damping

    def decompose(self) -> None:
        old = getattr(self, "basis", None)
        super().decompose()
        if old is None or self.on_basis_change == "keep":
            return
        self.R = self.products() if self.on_basis_change == "reset" else projected(self.R, old, self.basis)


def projected(R: Tensor, old: Eigenbasis, new: Eigenbasis) -> Tensor:
    """The diagonal, in a new Kronecker basis, of the matrix that is diag(R) in an old one, (..., out, in).

    diag(T diag(R) T') = (T o T) R for T = (Q_S' Q_S_old) (x) (Q_A' Q_A_old), which is a Kronecker product too.
    """
    T_S, T_A = new.Q_S.mT @ old.Q_S, new.Q_A.mT @ old.Q_A
    return T_S.square() @ R @ T_A.square().mT

"""What does a batch say of a layer's Fisher matrix? Its Kronecker factors, and squares of gradients in any basis.

Paper: arXiv 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nnlib.curvature import Eigenbasis
from nnlib.curvature.factors import eigenvalues, second_moments


class Statistics(Protocol):
    """What a batch says of a layer's Fisher matrix."""

    def factors(self) -> tuple[Tensor, Tensor]:
        """A = E[x x'], (..., in, in), and S = E[ds ds'], (..., out, out)."""
        ...

    def squares(self, basis: Eigenbasis | None) -> Tensor:
        """E[(Q_S' G Q_A)^2] over per-example gradients G = ds x', entry by entry, (..., out, in); Q = I for None."""
        ...


@dataclass(frozen=True)
class Rows:
    """Examples with one location each: inputs x, (..., B, in), and gradients ds, (..., B, out)."""

    x: Tensor
    ds: Tensor

    def factors(self) -> tuple[Tensor, Tensor]:
        n = self.x.shape[-2]
        return self.x.mT @ self.x / n, self.ds.mT @ self.ds / n

    def squares(self, basis: Eigenbasis | None) -> Tensor:
        x, ds = (self.x, self.ds) if basis is None else (self.x @ basis.Q_A, self.ds @ basis.Q_S)
        return ds.square().mT @ x.square() / x.shape[-2]


@dataclass(frozen=True)
class Locations:
    """Examples with T locations (convolutions, sequences): x, (B, T, in), and ds, (K, B, T, out); or without T."""

    x: Tensor
    ds: Tensor

    def factors(self) -> tuple[Tensor, Tensor]:
        return second_moments(self.x, self.ds)

    def squares(self, basis: Eigenbasis | None) -> Tensor:
        if basis is None:
            I_A, I_S = (torch.eye(t.shape[-1], dtype=t.dtype, device=t.device) for t in (self.x, self.ds))
            basis = Eigenbasis(I_A, I_S, self.x.new_zeros(()))
        return eigenvalues(self.x, self.ds, basis)

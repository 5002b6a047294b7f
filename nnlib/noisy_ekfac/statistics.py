"""What does a batch say of a layer's Fisher matrix? Its Kronecker factors, and squares of gradients in any basis.

Paper: arXiv 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nnlib.arguments import shown, typed
from nnlib.curvature import Eigenbasis
from nnlib.curvature.factors import eigenvalues, second_moments


@runtime_checkable
class Statistics(Protocol):
    """What a batch says of a layer's Fisher matrix."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights that it is about, (..., out, in)."""
        ...

    def factors(self) -> tuple[Tensor, Tensor]:
        """A = E[x x'], (..., in, in), and S = E[ds ds'], (..., out, out)."""
        ...

    def squares(self, basis: Eigenbasis | None) -> Tensor:
        """E[(Q_S' G Q_A)^2] over per-example gradients G = ds x', entry by entry, (..., out, in); Q = I for None."""
        ...


@typed
@dataclass(frozen=True)
class Rows:
    """Examples with one location each: inputs x, (..., B, in), and gradients ds, (..., B, out).

    Raises:
        TypeError: for what is no tensor.
        ValueError: for other shapes, no examples, or what are no floating-point numbers.
    """

    x: Tensor
    ds: Tensor

    def __post_init__(self):
        x, ds = self.x, self.ds
        refuse_unless(x.ndim > 1 and ds.shape[:-1] == x.shape[:-1], x, ds, "(..., B, in) and (..., B, out)")

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.x.shape[:-2], self.ds.shape[-1], self.x.shape[-1])

    def factors(self) -> tuple[Tensor, Tensor]:
        n = self.x.shape[-2]
        return self.x.mT @ self.x / n, self.ds.mT @ self.ds / n

    def squares(self, basis: Eigenbasis | None) -> Tensor:
        x, ds = (self.x, self.ds) if basis is None else (self.x @ basis.Q_A, self.ds @ basis.Q_S)
        return ds.square().mT @ x.square() / x.shape[-2]


@typed
@dataclass(frozen=True)
class Locations:
    """Examples with T locations (convolutions, sequences): x, (B, T, in), and ds, (K, B, T, out); or without T.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for other shapes, no examples, or what are no floating-point numbers.
    """

    x: Tensor
    ds: Tensor

    def __post_init__(self):
        x, ds = self.x, self.ds
        fits = x.ndim in (2, 3) and ds.ndim == x.ndim + 1 and ds.shape[1:-1] == x.shape[:-1]
        refuse_unless(fits, x, ds, "(B, T, in) and (K, B, T, out), or be without T")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ds.shape[-1], self.x.shape[-1]

    def factors(self) -> tuple[Tensor, Tensor]:
        return second_moments(self.x, self.ds)

    def squares(self, basis: Eigenbasis | None) -> Tensor:
        if basis is None:
            I_A, I_S = (torch.eye(t.shape[-1], dtype=t.dtype, device=t.device) for t in (self.x, self.ds))
            basis = Eigenbasis(I_A, I_S, self.x.new_zeros(()))
        return eigenvalues(self.x, self.ds, basis)


def refuse_unless(fits: bool, x: Tensor, ds: Tensor, shapes: str) -> None:
    """Shapes and type alone are looked at: a pass of the network makes statistics of every layer."""
    if not (fits and x.numel() and ds.numel() and x.is_floating_point() and ds.is_floating_point()):
        wanted = f"real numbers of shapes {shapes}, no axis empty"
        raise ValueError(f"x and ds must be {wanted}: got {shown(x)} and {shown(ds)}")

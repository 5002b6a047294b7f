"""What does K-FAC remember of a layer? Averages of its factors, and an inverse or eigenbasis that is some steps old.

Papers: arXiv 1503.05671, section 5; 1806.03884, section 4. Chapter: ``book/curvature.ipynb``.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnlib.curvature.kronecker import Eigenbasis, Kronecker


@dataclass
class RunningCurvature:
    """What is known of one layer during training.

    Args:
        factors: Averages of the statistics; None before the first.
        inverse: S_d^-1 (x) A_d^-1, or the eigenbasis, as of the last inversion.
        count: Updates of the factors.
        rescaled: Updates of EKFAC's eigenvalues since the basis was last changed.
    """

    factors: Kronecker | None = None
    inverse: Kronecker | Eigenbasis | None = None
    count: int = 0
    rescaled: int = 0

    def update(self, block: Kronecker, decay: float) -> None:
        """Average in new factors: there is no bias towards a starting value, for the first counts in full."""
        self.count += 1
        e = min(1 - 1 / self.count, decay)
        old = self.factors
        if old is None or e == 0:
            self.factors = block
        else:  # the model may have been moved since
            self.factors = Kronecker(block.A.lerp(old.A.to(block.A), e), block.S.lerp(old.S.to(block.S), e))

    def rescale(self, values: Tensor, decay: float) -> None:
        """Average in EKFAC's eigenvalues in the present basis, (out, in)."""
        self.rescaled += 1
        e = min(1 - 1 / self.rescaled, decay)
        assert isinstance(self.inverse, Eigenbasis)
        self.inverse = Eigenbasis(self.inverse.Q_A, self.inverse.Q_S, values.lerp(self.inverse.values, e))

    def invert(self, inverse: str, damping: float) -> None:
        """Make the inverse or the eigenbasis anew.

        Raises:
            NotPositiveDefinite: where a factor is not.
        """
        assert self.factors is not None
        if inverse == "factored":
            self.inverse = self.factors.damped(damping).cholesky().inverse()
        else:
            self.inverse, self.rescaled = self.factors.eigen(), 0

    def solve(self, grad: Tensor, damping: float) -> Tensor:
        """The preconditioned gradient, (out, in), in the precision of the inverse."""
        if isinstance(self.inverse, Kronecker):
            return self.inverse.matvec(grad.to(self.inverse.A.dtype))
        assert self.inverse is not None
        return self.inverse.solve(grad.to(self.inverse.values.dtype), damping)

    def state(self) -> dict[str, Any]:
        """As nested dicts of tensors and numbers."""
        parts = {"factors": self.factors, "inverse": self.inverse}
        tensors = {name: None if part is None else vars(part) for name, part in parts.items()}
        return tensors | {"count": self.count, "rescaled": self.rescaled}

    def load(self, state: dict[str, Any], inverse: str, device: torch.device) -> None:
        """Take over what :meth:`state` gave.

        Raises:
            ValueError: if that was made with another kind of inverse.
        """
        kind = Kronecker if inverse == "factored" else Eigenbasis
        for name, made_of in (("factors", Kronecker), ("inverse", kind)):
            tensors = state[name]
            if tensors is not None and set(tensors) != set(made_of.__dataclass_fields__):
                raise ValueError(f"the state was made with another kind of inverse than {inverse!r}")
            found = None if tensors is None else made_of(**{key: value.to(device) for key, value in tensors.items()})
            setattr(self, name, found)
        self.count, self.rescaled = state["count"], state["rescaled"]

"""What the released regression code of noisy EK-FAC computes, by our reading: a posterior for the tables, no method.

Its step counter stays at zero, so "every so many steps" is true at every step: the axes are renewed each time, and then
R is overwritten by the products of the *damped* eigenvalues of the factors, before it moves a little towards the
squares of the batch. The damping is added once more in the end. Read in github.com/pomonam/NoisyNaturalGradient, not
run, and written anew. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass

from nnlib.noisy_ekfac import METHODS, EigenvalueCorrected
from nnlib.noisy_ekfac.matrix_variate import split_damping


@dataclass
class AsReleased(EigenvalueCorrected):
    """Noisy EK-FAC whose R is K-FAC's damped eigenvalues again after each change of the axes; arguments as there."""

    def decompose(self) -> None:
        super().decompose()
        self.R = split_damping(self.a, self.s, self.damping_in)


POSTERIORS = METHODS | {"Noisy EK-FAC, as released": AsReleased}

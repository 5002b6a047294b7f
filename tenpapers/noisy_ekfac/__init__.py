"""The chapter's laboratory: what its experiments train, measure, claim and draw. Chapter: book/noisy_ekfac.ipynb."""

from tenpapers.noisy_ekfac.classification import classify
from tenpapers.noisy_ekfac.compare import paired, verdict
from tenpapers.noisy_ekfac.regression import fit_regression

__all__ = [
    "classify",
    "fit_regression",
    "paired",
    "verdict",
]

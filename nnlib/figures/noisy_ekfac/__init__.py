"""Pictures of the chapter on noisy natural gradient: ``book/noisy_ekfac.ipynb``.

* ``ellipses``: four posteriors of a regression with two weights, beside the exact one.
* ``cooling``: what factored damping does to the variances.
"""

from nnlib.figures.noisy_ekfac.cooling import cooling
from nnlib.figures.noisy_ekfac.ellipses import ellipses

__all__ = ["cooling", "ellipses"]

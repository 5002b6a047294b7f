"""Pictures of the chapter on noisy natural gradient: ``book/noisy_ekfac.ipynb``.

* ``ellipses``: four posteriors of a regression with two weights, beside the exact one.
* ``cooling``: what factored damping does to the variances.
"""

from tenpapers.noisy_ekfac.figures.cooling import cooling
from tenpapers.noisy_ekfac.figures.ellipses import ellipses

__all__ = ["cooling", "ellipses"]

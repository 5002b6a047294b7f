"""Pictures of the chapter on noisy natural gradient: ``book/noisy_ekfac.ipynb``.

* ``ellipses``: four posteriors of a regression with two weights, beside the exact one.
* ``fishers``: a layer's Fisher matrix and what three methods keep of it.
* ``cooling``: what factored damping does to the variances.
* ``marginals``: the deviations of a small network's weights beside Hamiltonian Monte Carlo's.
* ``over_kl``: predictions over the KL divergence to the prior, a curve for each method.
"""

from tenpapers.noisy_ekfac.figures.cooling import cooling
from tenpapers.noisy_ekfac.figures.ellipses import ellipses
from tenpapers.noisy_ekfac.figures.fishers import fishers
from tenpapers.noisy_ekfac.figures.marginals import marginals
from tenpapers.noisy_ekfac.figures.over_kl import over_kl

__all__ = ["cooling", "ellipses", "fishers", "marginals", "over_kl"]

"""What four papers say of curvature, and what decides it here: all claims, in the order of the page.

Identities are computed here and now on random networks; what is drawn or trained is judged over seeds.
Papers: arXiv 1503.05671, 1602.01407, 1806.03884, 1905.12558. Chapter: ``book/curvature.ipynb``.
"""

from tenpapers.curvature import claims_fisher, claims_kfac, claims_layers, claims_steps

fisher_gauss_newton = claims_fisher.fisher_gauss_newton
fisher_divergence = claims_fisher.fisher_divergence
natural_gradient_linear = claims_fisher.natural_gradient_linear
empirical_fisher = claims_fisher.empirical_fisher
empirical_fisher_steps = claims_fisher.empirical_fisher_steps
kronecker_error = claims_kfac.kronecker_error
exact_linear = claims_kfac.exact_linear
exact_one_example = claims_kfac.exact_one_example
invariance = claims_kfac.invariance
dependence = claims_kfac.dependence
ekfac_repairs = claims_kfac.ekfac_repairs
ekfac_projection = claims_kfac.ekfac_projection
direction = claims_layers.direction
farther_than_zero = claims_layers.farther_than_zero
kfc = claims_layers.kfc
kfc_one_location = claims_layers.kfc_one_location
pi = claims_layers.pi
tridiagonal_inverse = claims_steps.tridiagonal_inverse
tridiagonal = claims_steps.tridiagonal
rescaling = claims_steps.rescaling
quadratic_momentum = claims_steps.quadratic_momentum
kl_clip = claims_steps.kl_clip
digits_steps = claims_steps.digits_steps
digits_batch = claims_steps.digits_batch
autoencoders = claims_steps.autoencoders
kfc_networks = claims_steps.kfc_networks

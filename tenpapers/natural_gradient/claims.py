"""What the paper says of the natural gradient, and what decides it here: all claims, in the order of the page.

The two-layer network and unit inputs are the paper's mathematical object; the sizes of its figures are not known here.
Paper: arXiv 1905.10961. Chapter: ``book/natural_gradient.ipynb``.
"""

from tenpapers.natural_gradient import claims_beyond, claims_promises, claims_rates, claims_widths

theorem = claims_widths.theorem
condition_1 = claims_widths.condition_1
condition_2 = claims_widths.condition_2
linearised_rate = claims_widths.linearised_rate
one_step = claims_widths.one_step
movement = claims_widths.movement
rate = claims_widths.rate
straight = claims_widths.straight
detour = claims_widths.detour
conditioning = claims_rates.conditioning
conditioning_width = claims_rates.conditioning_width
kfac_operator = claims_rates.kfac_operator
kfac_rates = claims_rates.kfac_rates
kfac_bound = claims_rates.kfac_bound
reparametrisation = claims_beyond.reparametrisation
units = claims_beyond.units
units_training = claims_beyond.units_training
units_kfac = claims_beyond.units_kfac
other_losses = claims_rates.other_losses
generalisation_bound = claims_promises.generalisation_bound
generalisation_order = claims_promises.generalisation_order
generalisation_noise = claims_promises.generalisation_noise
minibatch_conditioning = claims_beyond.minibatch_conditioning
minibatch_progress = claims_beyond.minibatch_progress
minibatch_error = claims_beyond.minibatch_error
width = claims_promises.width

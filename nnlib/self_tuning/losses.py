"""What do the steps of a tuner descend on? Four losses; each function is one of the papers' lines.

With hyperparameters at coordinates u, eps ~ N(0, diag sigma²) drawn for each example, and the best response
w(u) = w_0 + Theta (u - centre), whose centre is 0 for STN and the present u for Delta-STN::

    STN, in w_0 and Theta    L_T(f(x; w(u + eps)), values(u + eps))
    Delta-STN, in w_0        L_T(f(x; w_0), values(u))
    Delta-STN, in Theta      L_T(f(x; w_0) + J_f Theta eps, values(u + eps))
    both, in u and sigma     L_V(f(x; w(u + eps))) - tau sum_i ln sigma_i

The values reach L_T as numbers: it is never differentiated by a hyperparameter.

STN: arXiv 1903.03088, section 3 and algorithm 1. Delta-STN: arXiv 2010.13514, section 3 and algorithm 1.
Chapter: ``book/self_tuning.ipynb``.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from nnlib.self_tuning.linearised import linearised
from nnlib.self_tuning.response import BestResponse
from nnlib.training import Split

TrainingLoss = Callable[[Any, Tensor, Any], Tensor]  # (outputs, targets, values by name)
ValidationLoss = Callable[[Any, Tensor], Tensor]  # (outputs, targets)


def perturbed(model: BestResponse, loss: TrainingLoss, batch: Split, u: Tensor) -> Tensor:
    """L_T(f(x; w(u)), values(u)), each example at its own u (B, n): STN trains all weights on it."""
    values = model.place(u, u - model.centre)
    return loss(model(batch.x), batch.y, values)


def unperturbed(model: BestResponse, loss: TrainingLoss, batch: Split, u: Tensor) -> Tensor:
    """L_T(f(x; w_0), values(u)), all examples at the present u (n,): Delta-STN trains w_0 on it."""
    values = model.place(u, None)
    return loss(model(batch.x), batch.y, values)


def linear(model: BestResponse, loss: TrainingLoss, batch: Split, u: Tensor) -> Tensor:
    """L_T(f(x; w_0) + J_f Theta (u - centre), values(u)), each example at its own u (B, n): Delta-STN's for Theta."""
    values = model.place(u, u - model.centre)
    return loss(linearised(model, batch.x), batch.y, values)


def validation(model: BestResponse, loss: ValidationLoss, batch: Split, u: Tensor) -> Tensor:
    """L_V(f(x; w(u))), each example at its own u (B, n), which has a gradient: through the response, by nothing else.

    In evaluation mode no regulariser acts, and L_V knows no values.
    """
    model.place(u, u - model.centre)
    return loss(model(batch.x), batch.y)


def entropy(sigma: Tensor) -> Tensor:
    """sum_i ln sigma_i, the entropy of the perturbations but for a constant: it holds their scale up."""
    return sigma.log().sum()

"""When does the theorem apply? Its two conditions and its step size, as numbers to monitor and to certify.

Condition 1: J(0) has full row rank, lambda_min(G(0)) > 0. Condition 2: there is a C < 1/2 such that
|J(theta) - J(0)|_2 <= (C/3) sqrt(lambda_min(G(0))) for all theta within ``radius`` of the start.
Paper: arXiv 1905.10961, natural gradient descent. Chapter: ``book/natural_gradient.ipynb``.
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from nnlib.arguments import real, typed, within
from nnlib.natural_gradient.two_layer import TwoLayer, lengths


@typed
def stability_constant(change: float, smallest: float) -> float:
    """The C of condition 2 that a change of the Jacobian asks for: 3 |J - J(0)|_2 / sqrt(lambda_min(G(0))).

    Measured along a run it is a lower bound of the theorem's C, which has to hold in a whole ball.

    Args:
        change: |J - J(0)|_2, at least 0.
        smallest: lambda_min(G(0)), > 0: condition 1.

    Raises:
        ValueError: condition 1 does not hold, or the change is negative.

    Source: arXiv 1905.10961, condition 2. Chapter: ``book/natural_gradient.ipynb``.

    >>> round(stability_constant(change=0.1, smallest=0.25), 3)
    0.6
    """
    _positive(smallest)
    within("[0, inf)", change=change)
    return 3 * change / math.sqrt(smallest)


@typed
def radius(residual: float, smallest: float) -> float:
    """How far from the start condition 2 has to hold: 3 |y - u(0)| / sqrt(lambda_min(G(0))).

    Args:
        residual: |y - u(0)|_2, at least 0.
        smallest: lambda_min(G(0)), > 0.

    Raises:
        ValueError: condition 1 does not hold, or the residual is negative.

    Source: arXiv 1905.10961, condition 2. Chapter: ``book/natural_gradient.ipynb``.

    >>> radius(residual=1.0, smallest=0.25)
    6.0
    """
    _positive(smallest)
    within("[0, inf)", residual=residual)
    return 3 * residual / math.sqrt(smallest)


@typed
def largest_lr(constant: float) -> float:
    """The largest learning rate for which the chapter proves |u(k) - y|^2 <= (1 - lr)^k |u(0) - y|^2.

    It is (1 - 2C) / (1 - C)^2, and 0 from C = 1/2 on, where the theorem is silent.

    Args:
        constant: C of condition 2, at least 0.

    Raises:
        ValueError: C is negative.

    Source: arXiv 1905.10961, theorem on the rate; the constant is the one of the chapter's proof.
    Chapter: ``book/natural_gradient.ipynb``.

    >>> [round(largest_lr(c), 3) for c in (0.0, 0.25, 0.6)]
    [1.0, 0.889, 0.0]
    """
    within("[0, inf)", constant=constant)
    return 0.0 if constant >= 0.5 else (1 - 2 * constant) / (1 - constant) ** 2


@typed
def certified_radius(net: TwoLayer, x: Tensor, change: float) -> float:
    """A radius R with |J(W) - J(W_0)|_2 <= change for *every* W with |W - W_0|_F <= R, of the two-layer ReLU network.

    To turn example i's ReLU of neuron r over, w_r has to move by c_ri = |w_r' x_i| / |x_i| at least; |J - J_0|_F^2 then
    grows by |x_i|^2 / m. With the examples of each neuron sorted by c, so that c_r(k) is the price of the first k, and
    v_r(k) the sum of their |x_i|^2, every mu > 0 bounds what R^2 can buy (weak duality of a knapsack):

        m |J - J_0|_F^2 <= mu R^2 + h(mu),   h(mu) = sum_r max_k (v_r(k) - mu c_r(k)^2)^+

    Args:
        net: The network at its start W_0.
        x: Shape (n, d), no row zero.
        change: Allowed change of the Jacobian, > 0; (C/3) sqrt(lambda_min(G(0))) for condition 2.

    Returns:
        The largest such R that these inequalities give; inf for a change of |X|_F, which no W exceeds. For unit inputs
        and m change^2 >> 1 it is about nu change^3 sqrt(pi m / 6) / n, nu being the standard deviation of the weights.

    Raises:
        ValueError: change is not positive, x has a row of zeros, or is no finite (n, d).

    Chapter: ``book/natural_gradient.ipynb`` (the certificate is the book's own).

    >>> certified_radius(TwoLayer(2, width=1024), torch.eye(2), change=0.1) > 0
    True
    """
    within("(0, inf)", change=change)
    real("n d", {"d": net.weight.shape[1]}, x=x)
    length = lengths(x=x)
    unit = float(length.max())  # R does not depend on it, and no square overflows
    directions, length, change = x / length, length / unit, change / unit
    if change >= float(length.norm()):
        return math.inf
    with torch.no_grad():
        price, order = (directions @ net.weight.T).square().sort(dim=0)  # c_r(k)^2: (n, m)
    value = length[:, 0].square()[order].cumsum(0)  # v_r(k): (n, m)
    allowed = len(net.sign) * change**2

    def squared_radius(log_mu: float) -> float:
        mu = math.exp(log_mu)
        h = (value - mu * price).amax(0).clamp(min=0).sum()
        return (allowed - float(h)) / mu

    tiny = torch.finfo(price.dtype).tiny
    low, high = (float(value[0].min() / (price[-1].max() + tiny)), float(value[-1].max() / (price[0].min() + tiny)))
    best = minimize_scalar(lambda s: -squared_radius(s), bounds=(math.log(low), math.log(high)), method="bounded")
    return math.sqrt(max(0.0, squared_radius(best.x)))


def _positive(smallest: float) -> None:
    try:
        within("(0, inf)", smallest=smallest)
    except ValueError as found:
        raise ValueError(f"condition 1 asks for a positive eigenvalue of the Gram matrix: {found}") from None

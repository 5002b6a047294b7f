"""How few examples can any method do with, and what does SGD pay per example when batches are small?

Paper: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb.
"""

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from nnlib.arguments import one_of, typed, within
from nnlib.nqm.checks import check_target
from nnlib.nqm.problem import NoisyQuadratic, Spectrum


@typed
def examples_lower_bound(problem: NoisyQuadratic, target: float, prior: str = "bayes") -> float:
    """Examples that no method can do without; or, by name, those that the maximum-likelihood estimator needs.

    Each example's gradient measures h_i theta_i with variance c_i. After N of them the best estimator's risk is the
    target where

    prior="bayes":               1/2 sum_i h_i / (1/s0_i + N h_i²/c_i) = target   (knows the initial variance)
    prior="maximum_likelihood":  1/2 sum_i c_i / (N h_i) = target                 (d / (2 target) when c = h)

    The first, divided by the batch size, bounds the steps of every method of the chapter from below. The second is no
    bound: it is what the best estimator that knows nothing of the start needs, and every method of the chapter begins
    at the start. At a target of 0.5 it is 10,000, and an average of iterates needs 6,982 examples at batch size 1; the
    two forms agree where the target is small.

    Args:
        problem: NoisyQuadratic.
        target: risk to reach, in (0, problem.initial_risk).
        prior: "bayes" or "maximum_likelihood".

    Returns:
        Number of examples, a float.

    Raises:
        ValueError: an argument out of range.

    Source: arXiv 1907.04164, section 3 (the maximum-likelihood line). Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import NoisyQuadratic
    >>> round(examples_lower_bound(NoisyQuadratic(), target=0.01))
    495016
    """
    check_target(problem, target)
    one_of(("bayes", "maximum_likelihood"), prior=prior)
    likelihood = float((problem.weight * problem.c / problem.h).sum() / (2 * target))
    if prior == "maximum_likelihood":
        return likelihood

    def excess(log_examples: float) -> float:
        examples = np.exp(log_examples)
        left = problem.weight * problem.h / (1 / problem.s0 + examples * problem.h**2 / problem.c)
        return np.log(left.sum() / (2 * target))

    high = np.log(likelihood)
    low = high - 1
    while excess(low) < 0:  # the target is near the start, which few examples reach
        low -= high - low
    return float(np.exp(brentq(excess, low, high + 1e-9, xtol=1e-14, rtol=1e-15)))


@typed
def perfect_scaling(problem: NoisyQuadratic, target: float, power: float = 0.0) -> float:
    """Examples that SGD with its best learning rate needs in the limit of small batches: T B -> this.

    For a small lr only tau = lr T matters, and

    T B = min over tau of tau v(tau) / (target - b(tau)),
    b = sum_i h s0/2 exp(-2 h^(1-p) tau),  v = sum_i c h^(-p) (1 - exp(-2 h^(1-p) tau)) / 4.

    Args:
        problem: NoisyQuadratic.
        target: risk to reach, in (0, problem.initial_risk).
        power: power p of the preconditioner, in [0, 1].

    Returns:
        Number of examples, a float: T = perfect_scaling / B is the line of perfect scaling.

    Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import NoisyQuadratic
    >>> round(perfect_scaling(NoisyQuadratic(), target=0.01) / examples_lower_bound(NoisyQuadratic(), 0.01), 2)
    12.17
    """
    check_target(problem, target)
    within("[0, 1]", power=power)
    return small_batch_examples(problem.spectrum, target, power)


def small_batch_examples(spectrum: Spectrum, target: float, power: float) -> float:
    """The minimum over tau in `perfect_scaling`, on any spectrum."""
    rate = 2 * spectrum.h ** (1 - power)
    noise = spectrum.noise * spectrum.h**-power / 2

    def bias(log_tau: float) -> float:
        return (spectrum.initial * np.exp(-rate * np.exp(log_tau))).sum()

    def log_examples(log_tau: float) -> float:
        room = target - bias(log_tau)
        if room <= 0:
            return np.inf
        return log_tau + np.log((noise * -np.expm1(-rate * np.exp(log_tau))).sum() / room)

    # The bias reaches the target at tau0, between the values for the fastest and the slowest mode alone.
    ratio = np.log(spectrum.initial.sum() / target)
    low, high = np.log(ratio / rate.max()) - 1e-6, np.log(ratio / rate.min()) + 1e-6
    tau0 = brentq(lambda log_tau: bias(log_tau) - target, low, high, xtol=1e-12)
    grid = tau0 + np.geomspace(1e-3, 20, 40)
    best = int(np.argmin([log_examples(log_tau) for log_tau in grid]))
    bracket = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    return float(np.exp(minimize_scalar(log_examples, bounds=bracket, method="bounded", options={"xatol": 1e-9}).fun))

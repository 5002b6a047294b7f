"""Which learning rates are best when the length of the run is given? The inner problem of `optimal_schedule`.

Paper: arXiv 1907.04164, section 3 (piecewise constant schedules). Chapter: book/nqm.ipynb.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from nnlib.nqm.problem import Array, Spectrum
from nnlib.nqm.risk import log_kept_by_sgd
from nnlib.nqm.search.landscape import LEAST_RISK

HELD = 1e-6  # of a log learning rate below the limit: held there
LOWEST = -70.0  # of a log learning rate, below the limit: so small a rate does nothing in 10^13 steps
DOWN = 2.0  # of a log learning rate in one search


class Best(NamedTuple):
    """The lowest log R with k steps a piece, its slope in log k, and the learning rates' logarithms, (P,)."""

    value: float
    slope: float
    log_lrs: Array


class BestRates:
    """The best learning rates for k steps a piece; each answer is where the search for the next one starts.

    Args:
        spectrum: Spectrum with n modes.
        batch_size: > 0.
        power: of the preconditioner.
        log_cap: the largest log learning rate.
        starts: logarithms of rates to start with, (P,) each.
        work: of all searches together at most, in evaluations x pieces x modes. Where it is done, rates are no longer
            tuned, only stretched.
    """

    def __init__(
        self, spectrum: Spectrum, batch_size: float, power: float, log_cap: float, starts: Sequence[Array], work: int
    ):
        self.asked, self.log_cap, self.starts = (spectrum, batch_size, power), log_cap, starts
        self.work, self.size = work, starts[0].size * spectrum.h.size
        self.solved: dict[float, Best] = {}

    def __call__(self, k: float) -> Best:
        """For k steps a piece, > 0; not whole while a search is coarse."""
        if k not in self.solved:
            starts = self.starts
            if self.solved:
                nearest = min(self.solved, key=lambda other: abs(math.log(other / k)))
                starts = [self.stretched(nearest, k)]
            self.solved[k] = min((self._tuned(k, start) for start in starts), key=lambda best: best.value)
        return self.solved[k]

    def _tuned(self, k: float, start: Array) -> Best:
        log_lrs, evaluations = best_lrs(*self.asked, k, self.log_cap, start, max(0, self.work // self.size))
        self.work -= evaluations * self.size
        value, _, slope = log_risk(*self.asked, k, log_lrs)
        return Best(value, slope, log_lrs)

    def stretched(self, k: float, longer: float) -> Array:
        """The best rates for k as those of a longer run: the same lr k, but for what is held at the limit, (P,)."""
        log_lrs = self(k).log_lrs
        return np.where(log_lrs < self.log_cap - HELD, log_lrs + math.log(k / longer), log_lrs)


def finer(log_lrs: Array, pieces: int) -> Array:
    """Log learning rates of more pieces, between those of fewer: (P,) -> (pieces,)."""
    new, old = ((np.arange(n) + 0.5) / n for n in (pieces, log_lrs.size))  # middles of the pieces
    return np.interp(new, old, log_lrs)


def best_lrs(
    spectrum: Spectrum, batch_size: float, power: float, k: float, log_cap: float, start: Array, most: int
) -> tuple[Array, int]:
    """Minimise log R(P k) over P log learning rates from a start, (P,): found, and after how many evaluations.

    A rate of almost 0 has no gradient to come back by: no rate falls further than by exp(-2) before the search begins
    anew from there.
    """

    def value_and_gradient(log_lrs: Array) -> tuple[float, Array]:
        return log_risk(spectrum, batch_size, power, k, log_lrs)[:2]

    lowest = log_cap + LOWEST
    log_lrs, done, at_end = np.clip(start, lowest, log_cap), 0, True
    while at_end and done < most:
        low = np.maximum(log_lrs - DOWN, lowest)
        found = minimize(
            value_and_gradient, log_lrs, jac=True, method="L-BFGS-B", bounds=[(bound, log_cap) for bound in low],
            options={"maxiter": most - done, "maxfun": most - done, "ftol": 1e-11, "gtol": 1e-7, "maxcor": 20},
        )  # fmt: skip
        log_lrs, done = found.x, done + found.nfev
        at_end = bool(((log_lrs <= low) & (low > lowest)).any())
    return log_lrs, done


def log_risk(
    spectrum: Spectrum, batch_size: float, power: float, k: float, log_lrs: Array
) -> tuple[float, Array, float]:
    """log R(P k), its gradient in the log learning rates, (P,), and its slope in log k, by one sweep back: O(P n).

    Piece j leaves, of the risk s_j of a mode, s_{j+1} = steady_j + left_j (s_j - steady_j), left = (1 - x)^2k.
    """
    rates = spectrum.h ** (1 - power)
    noise = spectrum.noise * spectrum.h**-power / batch_size
    lrs = np.exp(log_lrs)[:, None]
    x = lrs * rates  # (P, n)
    log_left = k * log_kept_by_sgd(x)
    left = np.exp(log_left)
    steady = lrs * noise / (2 - x)
    s = np.empty((len(lrs) + 1, rates.size))
    s[0] = spectrum.initial
    for j in range(len(lrs)):
        s[j + 1] = steady[j] + left[j] * (s[j] - steady[j])
    after = np.cumprod(left[::-1], axis=0)[::-1]  # how much of s_j is left at the end
    adjoint = np.append(after[1:], np.ones((1, rates.size)), axis=0)  # dR / ds_{j+1}
    risk = max(s[-1].sum(), LEAST_RISK)
    safe = np.where(np.abs(1 - x) < 1e-150, 1e-150, 1 - x)
    change_left = -2 * k * x * left / safe  # d left / d log lr
    change_steady = 2 * steady / (2 - x)  # d steady / d log lr
    gap = s[:-1] - steady
    gradient = (adjoint * ((1 - left) * change_steady + gap * change_left)).sum(axis=1)
    slope = (adjoint * gap * log_left * left).sum() / risk
    return math.log(risk), gradient / risk, slope

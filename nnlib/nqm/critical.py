"""Up to which batch size does a larger batch pay? Four definitions of the critical batch size.

Three read a curve of steps over batch sizes; the fourth, the gradient noise scale, looks at gradients along one run.
Sources: arXiv 1907.04164, section 3 (the question); arXiv 1812.06162 (hyperbola and gradient noise scale).
Chapter: book/nqm.ipynb.
"""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import least_squares

from nnlib.arguments import one_of, typed
from nnlib.nqm.bounds import perfect_scaling
from nnlib.nqm.checks import Numbers, check_batch_size, numbers
from nnlib.nqm.methods import Method
from nnlib.nqm.problem import Array, NoisyQuadratic
from nnlib.nqm.risk import risk_per_eigenvalue
from nnlib.nqm.steps import StepsCurve, steps_to_target

FAR_BELOW = 1e-4  # a share of the critical batch size at which steps are those of perfect scaling, to as much
STILL_HALVES = 1.8  # doubling the batch must save this factor of steps; 2 would be perfect


class Hyperbola(NamedTuple):
    """T(B) = floor (1 + critical / B), fitted to a curve of steps.

    ``floor`` are the steps for an infinite batch, ``critical`` the batch size at which they are twice as many, and
    ``misfit`` the root mean square of log(T / fit) over the curve.
    """

    floor: float
    critical: float
    misfit: float

    def steps(self, batch_sizes: Numbers) -> Array:
        """T(B) at batch sizes (...), > 0.

        Raises:
            TypeError, ValueError: they are no positive numbers.
        """
        sizes = numbers(batch_sizes=batch_sizes)
        if not (sizes > 0).all():
            raise ValueError(f"batch_sizes must be positive: got {batch_sizes}")
        return self.floor * (1 + self.critical / sizes)


class NoiseScale(NamedTuple):
    """Gradient noise over gradient signal, as batch sizes; both of the shape of `steps`.

    ``simple`` is tr C / E|grad L|², and ``curvature`` tr(H C) / E[grad L' H grad L].
    """

    simple: Array
    curvature: Array


@typed
def critical_batch_size(curve: StepsCurve, definition: str = "asymptotes") -> float:
    """The batch size where larger batches stop paying, by one of three definitions.

    - "asymptotes": where the line of perfect scaling meets the floor, lim_{B->0} T B / lim_{B->inf} T; both limits
      are computed for the curve's problem, method and target, whatever batch sizes the curve has.
    - "doubling": the largest B in the curve's range with T(B/2) / T(B) >= 1.8.
    - "hyperbola": B_c of the best fit T = T_min (1 + B_c / B) in log T.

    They agree on an exact hyperbola up to a constant; the model's curves bend more sharply, so that they differ.

    Args:
        curve: StepsCurve. "doubling" and "hyperbola" need four batch sizes or more, "doubling" from one to twice it.
        definition: "asymptotes", "doubling" or "hyperbola".

    Returns:
        Batch size, a float. "doubling" gives nan where no doubling in the range saves so much, and the largest
        batch size of the curve where every doubling does.

    Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import SGD, NoisyQuadratic
    >>> curve = steps_to_target(NoisyQuadratic(), SGD, [4, 64, 1024, 16384], target=0.01)
    >>> round(critical_batch_size(curve))
    903
    """
    one_of(("asymptotes", "doubling", "hyperbola"), definition=definition)
    if definition == "asymptotes":
        small, large = _limits(curve)
        return small / large
    if definition == "hyperbola":
        return fit_hyperbola(curve).critical
    log_b, log_t = _log_curve(curve)
    if log_b[-1] < log_b[0] + np.log(2):
        raise ValueError(f"the curve must hold batch sizes from one to twice it: got {np.exp(log_b).tolist()}")
    steps = PchipInterpolator(log_b, log_t)
    b = np.linspace(log_b[0] + np.log(2), log_b[-1], 4096)
    saves = steps(b - np.log(2)) - steps(b) >= np.log(STILL_HALVES)
    return float(np.exp(b[saves][-1])) if saves.any() else float("nan")


@typed
def fit_hyperbola(curve: StepsCurve) -> Hyperbola:
    """The least-squares fit of log T(B) by log of T_min (1 + B_c / B).

    Args:
        curve: StepsCurve with at least four finite batch sizes.

    Returns:
        Hyperbola, with its misfit.

    Source: arXiv 1812.06162, eq. 2.11 in other letters. Chapter: book/nqm.ipynb
    """
    log_b, log_t = _log_curve(curve)
    start = [log_t.min(), (log_t + log_b).min() - log_t.min()]
    fit = least_squares(lambda p: p[0] + np.logaddexp(0, p[1] - log_b) - log_t, start, xtol=1e-12, ftol=1e-12)
    floor, critical = np.exp(fit.x)
    return Hyperbola(float(floor), float(critical), float(np.sqrt(np.mean(fit.fun**2))))


@typed
def gradient_noise_scale(problem: NoisyQuadratic, method: Method, batch_size: float, steps: Numbers) -> NoiseScale:
    """Batch sizes at which noise and signal of one gradient balance, along a run.

    simple = sum_i c_i / sum_i h_i² E theta_i²,   curvature = sum_i h_i c_i / sum_i h_i³ E theta_i²

    The plain gradient is meant, whatever the method's preconditioner. Both grow as the gradient shrinks: the noise
    scale is a curve, not a number.

    Args:
        problem: NoisyQuadratic.
        method: SGD, HeavyBall, IterateAverage or Schedule.
        batch_size: of the run, > 0.
        steps: as in `expected_risk`.

    Returns:
        NoiseScale with entries of the shape of `steps`.

    Source: arXiv 1812.06162, section 2.2. Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import SGD, NoisyQuadratic
    >>> scale = gradient_noise_scale(NoisyQuadratic(), SGD(lr=0.1), batch_size=64, steps=0)
    >>> round(float(scale.simple), 2), round(float(scale.curvature), 3)
    (5.95, 1.368)
    """
    check_batch_size(batch_size)
    h, c, weight = problem.h, problem.c, problem.weight
    risk = risk_per_eigenvalue(problem, method, steps).at(batch_size)  # (..., n): weight 1/2 h E theta²
    with np.errstate(divide="ignore"):  # infinite where nothing is left of the gradient
        simple, curvature = (
            (weight * c).sum() / (2 * h * risk).sum(-1),
            (weight * h * c).sum() / (2 * h**2 * risk).sum(-1),
        )
    return NoiseScale(simple=simple, curvature=curvature)


def _limits(curve: StepsCurve) -> tuple[float, float]:
    """Examples as B -> 0, at B far below SGD's knee, which no other method's lies far below; and steps as B -> inf."""

    def tuned(batch_size: float) -> StepsCurve:
        return steps_to_target(curve.problem, curve.method_class, [batch_size], curve.target, curve.power)

    floor = float(tuned(np.inf).steps[0])
    far_below = perfect_scaling(curve.problem, curve.target, curve.power) / floor * FAR_BELOW
    return float(tuned(far_below).examples[0]), floor


def _log_curve(curve: StepsCurve) -> tuple[Array, Array]:
    finite = np.isfinite(curve.batch_sizes)
    order = np.argsort(curve.batch_sizes[finite])
    b, t = curve.batch_sizes[finite][order], curve.steps[finite][order]
    if np.unique(b).size < 4 or np.unique(b).size != b.size:
        raise ValueError(f"the curve must hold at least four different finite batch sizes: got {b.tolist()}")
    return np.log(b), np.log(t)

"""What is the expected risk after t steps, exactly and without simulating?

For any fixed hyperparameters the risk is R(t) = bias(t) + variance(t) / B: what is left of the start, and what the
gradient noise put in. Both are closed forms per eigenvalue. They are float64 numpy on the CPU by design: a curve
costs milliseconds, less than a transfer. Paper: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb.
"""

from typing import NamedTuple

import numpy as np

from nnlib.arguments import typed
from nnlib.nqm.checks import MOST, Numbers, numbers
from nnlib.nqm.methods import SGD, HeavyBall, IterateAverage, Method, Schedule, Tunable, check_stable
from nnlib.nqm.problem import Array, NoisyQuadratic, Spectrum

BELOW_ONE = 1 - 2**-53
CACHED = 2**14  # float64 numbers in each array that is worked on at once


class Risk(NamedTuple):
    """Expected risk, split as R = bias + variance / batch_size.

    ``bias`` is what is left of the initial error, (...), and ``variance`` the noise's share at batch size 1, (...).
    """

    bias: Array
    variance: Array

    def at(self, batch_size: Numbers) -> Array:
        """R = bias + variance / batch_size; an infinite batch size leaves the bias.

        Raises:
            ValueError: a batch size is not positive, or they are of a shape that does not go with that of the risk.
            TypeError: they are no real numbers.
        """
        batch = numbers(batch_size=batch_size)
        if not np.all(batch > 0):
            raise ValueError(f"batch_size must be positive: got {batch_size}")
        try:
            np.broadcast_shapes(batch.shape, np.shape(self.bias))
        except ValueError:
            shapes = f"{np.shape(self.bias)}: got {batch.shape}"
            raise ValueError(f"batch_size must have a shape that goes with that of the risk, {shapes}") from None
        with np.errstate(over="ignore"):  # infinite where it is more than a number can be
            return self.bias + self.variance / batch


@typed
def expected_risk(problem: NoisyQuadratic, method: Method, steps: Numbers) -> Risk:
    """The expected risk of `method` on `problem` after `steps` steps.

    R(t) = 1/2 sum_i h_i E theta_i(t)² = bias(t) + variance(t) / B, where per eigenvalue, with x = lr h^(1-power),

    SGD:    bias = (1-x)^2t h s0/2,   variance = lr c h^(-power) (1 - (1-x)^2t) / (2 (2-x)),

    and for the heavy ball and the average of iterates the same with the two roots of ``second_order``.

    Args:
        problem: NoisyQuadratic.
        method: SGD, HeavyBall, IterateAverage or Schedule.
        steps: whole numbers from 0 to 2^53, scalar or array of any shape. At most `method.steps` for a Schedule.

    Returns:
        Risk with bias and variance of the shape of `steps`.

    Raises:
        ValueError: an unstable learning rate, or steps that are negative, not whole, or beyond a schedule's end.
        TypeError: another class of argument.

    Source: arXiv 1907.04164, section 3, theorems 1 and 2. Chapter: book/nqm.ipynb

    >>> from nnlib.nqm import NoisyQuadratic
    >>> risk = expected_risk(NoisyQuadratic(), SGD(lr=1.0), steps=[0, 100])
    >>> risk.at(batch_size=64).round(4).tolist()
    [4.8938, 1.7067]
    """
    steps = check_steps(method, steps)
    check_stable(problem, method)
    if isinstance(method, Schedule):
        modes = _schedule_modes(problem.spectrum, method, steps.ravel())
        bias, variance = (mode.sum(-1).reshape(steps.shape)[()] for mode in (modes.bias, modes.variance))
        return Risk(bias, variance)
    return Risk(*total_risk(problem.spectrum, type(method), method.lr, _extra(method), method.power, steps))


@typed
def risk_per_eigenvalue(problem: NoisyQuadratic, method: Method, steps: Numbers) -> Risk:
    """The terms of :func:`expected_risk`, one for each eigenvalue.

    Args:
        problem: NoisyQuadratic.
        method: SGD, HeavyBall, IterateAverage or Schedule.
        steps: as in `expected_risk`.

    Returns:
        Risk with bias and variance of shape ``(*steps.shape, n)``, in the order of `problem.h`, weights included:
        their sum over the last axis is the expected risk.

    Source: arXiv 1907.04164, section 3. Chapter: book/nqm.ipynb
    """
    steps = check_steps(method, steps)
    check_stable(problem, method)
    modes = _modes(problem.spectrum, method, steps.reshape(-1))
    shape = (*steps.shape, problem.h.size)
    return Risk(modes.bias.reshape(shape), modes.variance.reshape(shape))


@typed
def theorem_bound(problem: NoisyQuadratic, method: Method, steps: Numbers) -> Risk:
    """The paper's upper bound: the exact bias, and the variance replaced by its limit for many steps.

    Heavy ball:       variance <= sum_i (1+b) lr c h^(-power) / (2 (1-b) (2(1+b) - x))             (theorem 1)
    Iterate average:  variance <= sum_i lr c h^(-power) / (2 (2-x)) (1-g)(1+ag) / ((1+g)(1-ag))    (theorem 2)

    with b = momentum, g = decay, x = lr h^(1-power), a = 1 - x. Noise only adds up, so the limit is never passed.
    The paper leaves out b = (1 - sqrt x)², where its formula for the bias is 0/0; ours has a value there.

    Args:
        problem: NoisyQuadratic.
        method: SGD, HeavyBall or IterateAverage; a Schedule has no limit.
        steps: as in `expected_risk`.

    Returns:
        Risk; its variance is the same at every step.

    Source: arXiv 1907.04164, theorems 1 and 2. Chapter: book/nqm.ipynb
    """
    if isinstance(method, Schedule):
        raise ValueError("method must be SGD, HeavyBall or IterateAverage, which run for ever: got a Schedule")
    bias = expected_risk(problem, method, steps).bias
    h, noise = problem.h, problem.spectrum.noise
    x = method.lr * h ** (1 - method.power)
    limit = method.lr * h**-method.power * noise / (2 - x)
    if isinstance(method, HeavyBall):
        b = method.momentum
        limit = (1 + b) * method.lr * h**-method.power * noise / ((1 - b) * (2 * (1 + b) - x))
    if isinstance(method, IterateAverage):
        g, a = method.decay, 1 - x
        limit = limit * (1 - g) * (1 + a * g) / ((1 + g) * (1 - a * g))
    return Risk(bias, np.full_like(bias, limit.sum())[()])


def sgd(x: Array, t: Array) -> tuple[Array, Array]:
    """What SGD keeps of the start and collects of the noise in a mode, with x = lr h.

    Returns:
        (kept, noise): E theta(t)² = kept theta_0² + lr c/(B h) noise, where
        kept = (1-x)^2t and noise = (1 - (1-x)^2t) / (2-x).
    """
    log_kept = t * log_kept_by_sgd(x)
    return np.exp(log_kept), -np.expm1(log_kept) / (2 - x)


def log_kept_by_sgd(x: Array) -> Array:
    """log (1-x)², of what one step keeps."""
    small = np.log1p(-np.minimum(x, 0.5))  # log(1-x) without rounding 1-x first
    return 2 * np.where(x < 0.5, small, np.log(np.maximum(np.abs(1 - x), 1e-300)))  # the floor: x = 1 forgets at once


def heavy_ball(x: Array, momentum: Array, t: Array, blur: float = 0.0) -> tuple[Array, Array]:
    """The same two numbers for the heavy ball: roots of r² - (1 + momentum - x) r + momentum."""
    q = np.sqrt(momentum)
    gap = (1 - momentum) / (1 + q)  # 1 - sqrt(momentum), exact near 1
    discriminant = (gap**2 - x) * ((1 + q) ** 2 - x) / 4  # of the halved equation, zero at critical damping
    return second_order(momentum, 1 - momentum, x, 2 * (1 + momentum) - x, discriminant, t, blur)


def iterate_average(x: Array, decay: Array, t: Array) -> tuple[Array, Array]:
    """The same two numbers for the average of iterates: roots 1 - x and decay.

    It follows mean(t+1) = mean(t) - lr (1-decay) g + decay (1-x) (mean(t) - mean(t-1)): a heavy ball with a smaller
    learning rate and a momentum of its own in each mode.
    """
    apart = 1 - decay - x  # the difference of the roots; 1 - x first would lose a small x
    kept, noise = second_order(
        decay * (1 - x), 1 - decay + decay * x, x * (1 - decay), (2 - x) * (1 + decay), apart**2 / 4, t
    )
    return kept, (1 - decay) * noise


def second_order(
    product: Array,
    one_minus_product: Array,
    at_one: Array,
    at_minus_one: Array,
    discriminant: Array,
    t: Array,
    blur: float = 0.0,
) -> tuple[Array, Array]:
    """Kept start and collected noise of theta(t+1) = P theta(t) - Q theta(t-1) - lr xi, for any two roots.

    With the roots r1, r2, P = r1 + r2, Q = r1 r2 and U_t = (r1^t - r2^t) / (r1 - r2):

    A_t = U_{t+1} - Q U_t = (r1^t + r2^t)/2 + (1 - Q - (1-r1)(1-r2)) U_t / 2         the share of the start that is left
    S_t = sum_{k=1..t} U_k² = [1 + 2Q (1-Q^t)/(1-Q) - A_t² - 2Q A_t U_t] / ((1-r1)(1-r2)(1+r1)(1+r2))

    The sum has no difference of roots below the line (square U_{k+1} + Q U_{k-1} = P U_k and use
    U_{k+1} U_{k-1} = U_k² - Q^{k-1}), so that nothing happens where the roots meet. U_t itself is written so that
    its limit t r^{t-1} is reached smoothly: r1^{t-1} (1 - rho^t)/(1 - rho) with rho = r2/r1, or, for complex roots,
    |r|^{t-1} sin(t phi)/sin(phi).

    Args (all broadcast against each other):
        product, one_minus_product: Q and 1 - Q, in (-1, 1) and (0, 2).
        at_one, at_minus_one: (1-r1)(1-r2) > 0 and (1+r1)(1+r2) > 0: stability.
        discriminant: (P/2)² - Q; negative for complex roots.
        t: steps, >= 0; values that are not whole interpolate.
        blur: relative spread over which to average the phase of complex roots; 0 is exact. A search over
            hyperparameters uses it to see the valley before the ripples in it.

    Returns:
        (A_t², at_one S_t).
    """
    arrays = np.broadcast_arrays(product, one_minus_product, at_one, at_minus_one, discriminant, t)
    shape, real = arrays[0].shape, (arrays[4] >= 0).ravel()
    kept, noise = np.empty(real.size), np.empty(real.size)
    for part, cases in ((real, _real_roots), (~real, _complex_roots)):
        if not part.any():
            continue
        Q, one_minus_Q, at_1, at_minus_1, disc, steps = (a.ravel()[part] for a in arrays)
        a2, au, Q_t = cases(Q, one_minus_Q, at_1, at_minus_1, disc, steps, blur)
        collected = 1 + 2 * Q * (1 - Q_t) / one_minus_Q - a2 - 2 * Q * au
        kept[part] = a2
        noise[part] = np.maximum(collected, 0) / at_minus_1  # rounding may leave -1e-16 at t = 0
    return kept.reshape(shape), noise.reshape(shape)


def _real_roots(
    Q: Array, one_minus_Q: Array, at_one: Array, at_minus_one: Array, discriminant: Array, t: Array, blur: float
) -> tuple[Array, Array, Array]:
    """A_t², A_t U_t and Q^t for real roots, r1 the larger in absolute value."""
    half_P = (1 + Q - at_one) / 2
    sign = np.where(half_P < 0, -1.0, 1.0)  # of r1
    delta = np.sqrt(discriminant)
    nearest = np.where(half_P < 0, at_minus_one, at_one)  # (1 - |r1|)(1 - sign r2)
    from_one = np.minimum(nearest / ((one_minus_Q + nearest) / 2 + delta), BELOW_ONE)  # 1 - |r1|
    r1_t = np.exp(t * np.log1p(-from_one))
    gap = 2 * delta / np.maximum(np.abs(half_P) + delta, 1e-300)  # 1 - rho, in [0, 2]
    opposite = gap > 1  # r2 has the other sign
    log_rho = np.log1p(-np.minimum(np.where(opposite, 2 - gap, gap), BELOW_ONE))
    one_minus_rho_t = -np.expm1(t * log_rho)
    if opposite.any():
        parity = 2 * np.abs(1 - t[opposite] % 2) - 1  # (-1)^t for whole t
        one_minus_rho_t[opposite] = 1 - parity * (1 - one_minus_rho_t[opposite])
    ratio = np.where(gap > 0, one_minus_rho_t / np.where(gap > 0, gap, 1), t)  # (1 - rho^t)/(1 - rho)
    u = r1_t / (1 - from_one) * ratio  # |U_t|
    a = r1_t * (1 - one_minus_rho_t / 2) + sign * (one_minus_Q - at_one) / 2 * u
    return a**2, sign * a * u, r1_t**2 * (1 - one_minus_rho_t)


def _complex_roots(
    Q: Array, one_minus_Q: Array, at_one: Array, at_minus_one: Array, discriminant: Array, t: Array, blur: float
) -> tuple[Array, Array, Array]:
    """The same for r = |r| e^{±i phi}; `blur` averages them over a relative error of the phase t phi."""
    imaginary = np.sqrt(-discriminant)
    phase = t * np.arctan2(imaginary, (1 + Q - at_one) / 2)
    r_t = np.exp(t * np.log1p(-one_minus_Q) / 2)
    half = np.tan(phase / 2)  # one slow function in place of two
    cos, sin = (1 - half**2) / (1 + half**2), 2 * half / (1 + half**2)
    tilt = (one_minus_Q - at_one) / 2 / imaginary
    a, u = r_t * (cos + tilt * sin), r_t * sin / imaginary
    a2, au, Q_t = a**2, a * u, r_t**2
    if blur:
        cos2, sin2 = 1 - 2 * sin**2, 2 * sin * cos
        lost = np.expm1(-2 * (blur * phase) ** 2) * Q_t / 2  # E cos(2 phase (1 + blur N(0, 1))) / cos(2 phase) - 1
        a2 = a2 + lost * ((1 - tilt**2) * cos2 + 2 * tilt * sin2)
        au = au + lost * (sin2 - tilt * cos2) / imaginary
    return a2, au, Q_t


def total_risk(
    spectrum: Spectrum,
    kind: Tunable,
    lr: Numbers,
    extra: Numbers | None,
    power: float,
    t: Numbers,
    blur: float = 0.0,
) -> tuple[Array, Array]:
    """`mode_risk` summed over the modes, in pieces that stay in the processor's cache: bias, variance, (...)."""
    extra = 0.0 if extra is None else extra
    lr, extra, t = np.broadcast_arrays(lr, extra, t)
    shape, (lr, extra, t) = lr.shape, (a.ravel() for a in (lr, extra, t))
    bias, variance = np.empty(lr.size), np.empty(lr.size)
    rows = max(1, CACHED // spectrum.h.size)
    for start in range(0, lr.size, rows):
        part = slice(start, start + rows)
        modes = mode_risk(spectrum, kind, lr[part], extra[part], power, t[part], blur)
        bias[part], variance[part] = modes.bias.sum(-1), modes.variance.sum(-1)
    return bias.reshape(shape)[()], variance.reshape(shape)[()]


def mode_risk(
    spectrum: Spectrum, kind: Tunable, lr: Numbers, extra: Numbers, power: float, t: Numbers, blur: float = 0.0
) -> Risk:
    """Bias and variance of the risk for every mode; the engine of the searches.

    Args (lr, extra, t broadcast; the last axis is added for the modes):
        spectrum: Spectrum with n modes.
        kind: SGD, HeavyBall or IterateAverage.
        lr, extra: learning rates and momentum or decay (unused for SGD), (...).
        t: steps, (...).
        blur: as in `second_order`.

    Returns:
        Risk with bias and variance of shape (..., n).
    """
    lr, t = np.asarray(lr)[..., None], np.asarray(t)[..., None]
    x = lr * spectrum.h ** (1 - power)
    if kind is SGD:
        kept, noise = sgd(x, t)
    elif kind is HeavyBall:
        kept, noise = heavy_ball(x, np.asarray(extra)[..., None], t, blur)
    else:
        kept, noise = iterate_average(x, np.asarray(extra)[..., None], t)
    return Risk(spectrum.initial * kept, lr * (spectrum.noise * spectrum.h**-power) * noise)


def _modes(spectrum: Spectrum, method: Method, steps: Array) -> Risk:
    if isinstance(method, Schedule):
        return _schedule_modes(spectrum, method, steps)
    return mode_risk(spectrum, type(method), method.lr, _extra(method), method.power, steps)


def _extra(method: Method) -> float:
    return getattr(method, "momentum", getattr(method, "decay", 0.0))


def _schedule_modes(spectrum: Spectrum, method: Schedule, steps: Array) -> Risk:
    """Each piece is SGD that starts from what the piece before left."""
    bias, variance = (np.empty((steps.size, spectrum.h.size)) for _ in range(2))
    left, collected = spectrum.initial, np.zeros_like(spectrum.noise)
    piece = np.minimum(steps // method.steps_per_piece, len(method.lrs) - 1)  # the one in which a step count ends
    for j, lr in enumerate(method.lrs):
        x = lr * spectrum.h ** (1 - method.power)
        added = lr * spectrum.noise * spectrum.h**-method.power
        inside = piece == j
        t = np.append(steps[inside] - j * method.steps_per_piece, method.steps_per_piece)[:, None]
        kept, noise = sgd(x, t)
        bias[inside] = left * kept[:-1]
        variance[inside] = collected * kept[:-1] + added * noise[:-1]
        left, collected = left * kept[-1], collected * kept[-1] + added * noise[-1]
    return Risk(bias, variance)


def check_steps(method: Method, steps: Numbers) -> Array:
    """Steps as an array; refused where they are not whole, negative, too many or beyond a schedule's end."""
    steps = numbers(steps=steps)
    fine = (steps >= 0) & (steps <= MOST) & (steps == np.floor(steps))  # NaN is none of it
    if not fine.all():
        raise ValueError(f"steps must be whole numbers, not negative and at most 2^53: got {steps[~fine].flat[0]:g}")
    if isinstance(method, Schedule) and steps.size and steps.max() > method.steps:
        raise ValueError(f"steps must not pass the end of the schedule, {method.steps}: got {steps.max():g}")
    return steps

"""The noisy quadratic model, slowly and obviously: one step after another, or with sixty digits."""

import mpmath
import numpy as np

from nnlib.nqm import HeavyBall, IterateAverage, Schedule


def moment_recursion(problem, method, batch_size, steps):
    """R(t) by stepping the second moments of every mode, straight from the update rules.

    theta_j = A theta_{j-1} + b xi in the state (theta, m) or (theta, mean); covariance' = A covariance A' + b b' c/B.
    """
    h, precondition = problem.h, problem.h**-method.power
    n = problem.c / batch_size
    first = second = both = np.zeros_like(h)  # E u², E v², E u v
    first = problem.s0.copy()
    if isinstance(method, IterateAverage):
        second, both = first.copy(), first.copy()  # the average starts at theta_0
    risks, last = {}, int(np.max(steps))
    for t in range(last + 1):
        judged = second if isinstance(method, IterateAverage) else first
        risks[t] = 0.5 * (problem.weight * h * judged).sum()
        lr = (
            method.lrs[min(t // method.steps_per_piece, len(method.lrs) - 1)]
            if isinstance(method, Schedule)
            else method.lr
        )
        x = lr * precondition * h
        if isinstance(method, HeavyBall):
            beta, g = method.momentum, precondition * h  # m' = beta m + g theta + P xi;  theta' = theta - lr m'
            mm = beta**2 * second + g**2 * first + 2 * beta * g * both + precondition**2 * n
            tm = beta * both + g * first  # E theta m'
            first, second, both = first - 2 * lr * tm + lr**2 * mm, mm, tm - lr * mm
        else:
            a, noise = 1 - x, (lr * precondition) ** 2 * n
            new = a**2 * first + noise
            if isinstance(method, IterateAverage):
                gamma = method.decay
                cross = a * both  # E theta' mean
                second = gamma**2 * second + 2 * gamma * (1 - gamma) * cross + (1 - gamma) ** 2 * new
                both = gamma * cross + (1 - gamma) * new
            first = new
    return np.array([risks[int(t)] for t in np.atleast_1d(steps)])


def exact_mode(kind, x, b, t, digits=80):
    """(kept, noise) of `heavy_ball` or `iterate_average` for one mode, from the roots, with `digits` digits."""
    with mpmath.workdps(digits):
        x, b = mpmath.mpf(float(x)), mpmath.mpf(float(b))
        if kind is HeavyBall:
            half, product = (1 + b - x) / 2, b
            root = mpmath.sqrt(mpmath.mpc(half**2 - product))
            r1, r2, scale = half + root, half - root, x
        else:
            r1, r2, scale = mpmath.mpc(1 - x), mpmath.mpc(b), x * (1 - b) ** 2
            product = r1 * r2
        if r1 == r2:  # the limit, from a neighbour so near that it cannot be told in float64
            r1, r2 = r1 * (1 + mpmath.mpf(10) ** (-digits // 4)), r2 / (1 + mpmath.mpf(10) ** (-digits // 4))

        def u(k):
            return (r1**k - r2**k) / (r1 - r2)

        def geometric(z):
            return z * (1 - z**t) / (1 - z)

        kept = mpmath.re(u(t + 1) - product * u(t)) ** 2
        total = (geometric(r1**2) + geometric(r2**2) - 2 * geometric(r1 * r2)) / (r1 - r2) ** 2
        return float(kept), float(mpmath.re(scale * total))


def tune_by_brute_force(problem, method_class, batch_size, target, power, lrs, extras=(None,), last=400):
    """Fewest steps over a grid of hyperparameters, each run step by step with the recursion."""
    best = last + 1
    for lr in lrs:
        for extra in extras:
            name = {"HeavyBall": "momentum", "IterateAverage": "decay"}.get(method_class.__name__)
            method = method_class(lr=lr, power=power, **({name: extra} if name else {}))
            risks = moment_recursion(problem, method, batch_size, np.arange(best))
            below = np.flatnonzero(risks < target)
            if below.size:
                best = min(best, int(below[0]))
    return best

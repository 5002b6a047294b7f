"""What do the closed forms and the search of nnlib.nqm save? Ratios within one run, one thread.

    OMP_NUM_THREADS=1 python benchmarks/nqm.py

Naive simulation is extrapolated from measured steps: it would take hours.
"""

import math
import platform
import time

import numpy as np
import pandas as pd
import torch

from nnlib.nqm import (
    SGD,
    HeavyBall,
    IterateAverage,
    NoisyQuadratic,
    expected_risk,
    optimal_schedule,
    simulate,
    steps_to_target,
)

TARGET = 0.01
RATES = 64  # learning rates a naive search would try at each batch size


def seconds(function, repeats=5):
    """The median time of a call, after one that fills caches."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def stepwise_seconds(problem):
    """One step of the exact recursion for the second moments of SGD, every eigenvalue."""
    x, noise, s = 0.1 * problem.h, 0.01 * problem.c, problem.s0.copy()

    def run(steps=200):
        moments = s
        for _ in range(steps):
            moments = (1 - x) ** 2 * moments + noise
            0.5 * (problem.h * moments).sum()

    return seconds(run) / 200


def dense_curve(problem, batch_sizes):
    """SGD by closed forms on all eigenvalues: RATES learning rates, bisection on t; steps for each batch size."""
    lrs, steps = 2 / (1 + np.exp(-np.linspace(-9, 6, RATES))), []
    for batch_size in batch_sizes:
        best = math.inf
        for lr in lrs:
            low, high = 0, 10**8
            if expected_risk(problem, SGD(lr), high).at(batch_size) >= TARGET:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                below = expected_risk(problem, SGD(lr), middle).at(batch_size) < TARGET
                low, high = (low, middle) if below else (middle, high)
            best = min(best, high)
        steps.append(best)
    return np.array(steps)


def main():
    """Print the tables."""
    torch.set_num_threads(1)
    problem = NoisyQuadratic()
    sgd_batches, batches = 2.0 ** np.arange(22), 2.0 ** np.arange(2, 22)
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, one thread\n")

    rows = []
    for power in (0.0, 0.25, 0.5, 0.75):
        for kind, sizes, limit in ((SGD, sgd_batches, 0.05), (HeavyBall, batches, 1.0), (IterateAverage, batches, 1.0)):
            took = seconds(lambda k=kind, s=sizes, p=power: steps_to_target(problem, k, s, TARGET, p))
            rows.append((f"{kind.__name__}, {sizes.size} batch sizes", power, took, limit, took / limit))
        took = seconds(lambda p=power: optimal_schedule(problem, 256, TARGET, pieces=50, power=p))
        rows.append(("50-piece schedule, batch size 256", power, took, 0.5, took / 0.5))
    print(
        pd.DataFrame(rows, columns=["what", "power", "seconds", "limit", "share of limit"])
        .round(4)
        .to_string(index=False)
    )

    ours = seconds(lambda: steps_to_target(problem, SGD, sgd_batches, TARGET))
    curve = steps_to_target(problem, SGD, sgd_batches, TARGET)
    step = stepwise_seconds(problem)
    monte_carlo = seconds(lambda: simulate(problem, SGD(0.1), 16, 20, runs=100, seed=0), repeats=3) / 20
    start = time.perf_counter()
    dense = dense_curve(problem, sgd_batches[[4, 12, 20]])
    dense_seconds = (time.perf_counter() - start) / 3 * 22
    rows = [
        ("nnlib.nqm", ours, "measured"),
        ("closed forms on 10,000 eigenvalues, 64 rates", dense_seconds, "from 3 of 22 batch sizes"),
        ("moment recursion, best rates known", step * curve.steps.sum(), f"{step * 1e6:.0f} us a step"),
        ("moment recursion, 64 rates", step * curve.steps.sum() * RATES, "the same"),
        (
            "100 sampled runs, best rates known",
            monte_carlo * curve.steps.sum(),
            f"from {monte_carlo * 1e3:.1f} ms a step",
        ),
    ]
    rows = [(what, took, took / ours, how) for what, took, how in rows]
    show(rows, ["SGD curve, 22 batch sizes", "seconds", "times nnlib.nqm", "how"])
    print(f"steps of the dense grid over ours, B = 16, 4096, 2^20: {(dense / curve.steps[[4, 12, 20]]).round(4)}\n")

    rows = []
    for dim in (10**2, 10**4, 10**6, 10**9):
        large = NoisyQuadratic(dim)
        target = 0.002 * large.initial_risk
        took = seconds(lambda p=large, t=target: steps_to_target(p, SGD, sgd_batches, t), repeats=3)
        rows.append((dim, large.h.size, took))
    show(rows, ["SGD curve, dim", "eigenvalues stored", "seconds"])


def show(rows, columns):
    """A table."""
    print(pd.DataFrame(rows, columns=columns).to_string(index=False, float_format=lambda v: f"{v:,.4g}") + "\n")


if __name__ == "__main__":
    main()

"""How long is a step of the functional ELBO, and which part is the score? One run, one thread, float64.

    OMP_NUM_THREADS=1 python benchmarks/functional_bnn.py

Times are given over that of one step of weight-space VI with the same network, points and samples; the estimator also
in milliseconds, at 100 samples of 100 points, and beside the direct evaluation of its definition.
"""

import platform
import time

import numpy as np
import pandas as pd
import torch

from nnlib.bayes import Gaussian
from nnlib.functional_bnn import (
    FunctionSpace,
    GaussianProcess,
    SpectralStein,
    WeightSpace,
)
from tenpapers.functional_bnn.measure import extrapolate
from tenpapers.functional_bnn.workloads import sine, toy_network, toy_prior

ROUNDS = 15


def seconds(function) -> float:
    """Median of some rounds."""
    function()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def steps() -> pd.DataFrame:
    """One step, forward and backward, for several numbers of random points."""
    problem, evidence, network = sine(), toy_prior("sine", "periodic + RBF"), toy_network()
    likelihood = Gaussian(problem.noise_sd**2, dtype=torch.float64)
    low, high = problem.grid.min(0).values, problem.grid.max(0).values

    def step(penalty):
        generator = torch.Generator().manual_seed(0)
        penalty.loss(network, problem.x, problem.y, likelihood, 20, 50, generator).backward()

    unit = seconds(lambda: step(WeightSpace()))
    rows = [{"penalty": "weights", "random points": 0, "time": 1.0}]
    prior = GaussianProcess(evidence.kernel)
    for strategy, n in (("mixed", 5), ("mixed", 30), ("mixed", 100), ("adversarial", 30)):
        penalty = FunctionSpace(prior, low, high, n, strategy)
        rows.append({"penalty": strategy, "random points": n, "time": seconds(lambda p=penalty: step(p)) / unit})
    return pd.DataFrame(rows)


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread, float64")
    print(steps().to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    f = torch.randn(100, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    print(f"score, 100 samples at 100 points: {1000 * seconds(lambda: SpectralStein(f).score()):.1f} ms (limit 10)")
    start = time.perf_counter()
    extrapolate()
    print(f"sine toy, 600 steps: {time.perf_counter() - start:.0f} s (limit 30)")


if __name__ == "__main__":
    main()

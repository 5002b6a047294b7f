"""What does an orthonormal weight cost, and how orthonormal is it? Ratios in one run, one thread, float32.

    OMP_NUM_THREADS=1 python benchmarks/lipschitz.py

Dense part: the processor's time for the weight with its gradient, over that of two products of that size (forward and
backward pass of one Björck step of order 1 cost six), the largest distance of a singular value from 1, and the relative
error of the gradient against that of the polar factor, by SVD in float64. The weight is an orthogonal matrix that has
been moved by a third of its size, as in training. deel-torchlip detaches W Wᵀ W in all but its first four iterations:
each of the others multiplies the gradient by 1.5, and an error of 1.25 is a gradient 1.5² times too long. The matrix
exponential is another map, with another derivative.
"""

import platform
import time
import warnings

import numpy as np
import pandas as pd
import torch

from nnlib.lipschitz import bjorck, orthogonal_matrix

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from deel.torchlip.normalizers import bjorck_normalization, spectral_normalization
    from orthogonium.reparametrizers import BatchedBjorckOrthogonalization, BatchedPowerIteration
    from torch.nn.utils.parametrizations import orthogonal

ROUNDS = 15
SHAPES = [(64, 64), (256, 256), (10, 256), (512, 512)]


def moved(shape: tuple[int, int]) -> torch.Tensor:
    """An orthogonal matrix after some training."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return orthogonal_matrix(*shape, seed=0).float() + 0.3 * noise / max(shape) ** 0.5


def methods(weight: torch.Tensor) -> dict:
    """By name: weight -> orthonormal weight, with gradients."""
    shape = tuple(weight.shape)
    found = {f"nnlib, order {p}": lambda w, p=p: bjorck(w, p) for p in (1, 2, 4)}
    found["nnlib, to 1e-6"] = lambda w: bjorck(w, tolerance=1e-6)
    found["published: order 1, 20 steps"] = lambda w: bjorck(w, 1, steps=20, scale=(shape[0] * shape[1]) ** 0.5)
    u = torch.ones(1, shape[1])
    found["deel-torchlip"] = lambda w: bjorck_normalization(spectral_normalization(w, u, 1e-3)[0])
    power, iterate = BatchedPowerIteration(shape), BatchedBjorckOrthogonalization(shape)
    found["orthogonium"] = lambda w: iterate(power(w))
    layer = orthogonal(torch.nn.Linear(shape[1], shape[0], bias=False), use_trivialization=False)
    parametrisation = layer.parametrizations.weight[0]
    if shape[0] == shape[1]:
        found["torch, matrix exponential"] = parametrisation
    return found


def gradient(function, weight: torch.Tensor) -> torch.Tensor:
    """Of the inner product of the orthonormal weight with a fixed direction."""
    weight = weight.clone().requires_grad_()
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).to(weight)
    (found,) = torch.autograd.grad((function(weight) * direction).sum(), weight)
    return found


def polar(weight: torch.Tensor) -> torch.Tensor:
    """U Vᵀ of W = U S Vᵀ."""
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    return u @ vh


def seconds(function, *args) -> float:
    """Of the processor, which other processes on the machine hardly change."""
    start = time.process_time()
    function(*args)
    return time.process_time() - start


def two_products(weight: torch.Tensor) -> torch.Tensor:
    """The unit."""
    return weight @ weight.mT @ weight


def dense(shape: tuple[int, int]) -> pd.DataFrame:
    """Ratios of one shape."""
    weight = moved(shape)
    named = methods(weight)
    times = {name: [] for name in named}
    unit = []
    for _ in range(ROUNDS):  # in turns, so that a busy machine is busy for all
        unit.append(seconds(two_products, weight))
        for name, function in named.items():
            times[name].append(seconds(gradient, function, weight))
    exact = gradient(polar, weight.double())
    rows = []
    for name, function in named.items():
        with torch.no_grad():
            values = torch.linalg.svdvals(function(weight).double())
        rows.append(
            {
                "shape": f"{shape[0]} x {shape[1]}",
                "method": name,
                "time": np.median(times[name]) / np.median(unit),
                "furthest singular value from 1": (values - 1).abs().max().item(),
                "error of the gradient": ((gradient(function, weight) - exact).norm() / exact.norm()).item(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread, float32")
    print(pd.concat([dense(shape) for shape in SHAPES]).to_string(index=False, float_format=lambda v: f"{v:.3g}"))


if __name__ == "__main__":
    main()

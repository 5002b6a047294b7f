"""What does an orthogonal convolution cost? Times as ratios to a plain circular convolution, in one run, one thread.

    OMP_NUM_THREADS=1 python benchmarks/lipschitz_conv.py

Beside ours: orthogonium's AOC and deel-torchlip's SpectralConv2d (see requirements-peers.txt). The layers take turns,
so that a busy machine slows all of them alike.
"""

import math
import platform
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from deel import torchlip
from orthogonium.layers.conv.AOC import AdaptiveOrthoConv2d
from torch import Tensor, nn

from nnlib.bcop import BCOPConv, L2NEConv, OSSNConv, RKOConv, gains, orthogonality_residual
from nnlib.lipschitz import conv_singular_values

TARGETS = {"step over AOC": 1.3, "step over plain": 2.0}  # at 64 channels and batch 64


def layers(channels: int, size: int) -> dict[str, nn.Module]:
    """One of each, 3 x 3, circular."""
    torch.manual_seed(0)
    options = {"padding": 1, "padding_mode": "circular", "bias": True}
    return {
        "plain circular": nn.Conv2d(channels, channels, 3, **options),
        "BCOP": BCOPConv(channels, channels, 3, size=size),
        "RKO": RKOConv(channels, channels, 3, size=size),
        "OSSN": OSSNConv(channels, channels, 3, size=size),
        "RK-L2NE": L2NEConv(channels, channels, 3, size=size),
        "orthogonium AOC": AdaptiveOrthoConv2d(channels, channels, 3, **options),
        "torchlip SpectralConv2d": torchlip.SpectralConv2d(channels, channels, 3, **options),
    }


def training_step(layer: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Forward, backward and an update: what one minibatch costs."""
    target = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def step() -> None:
        optimizer.zero_grad()
        (layer(x) - target).square().mean().backward()
        optimizer.step()

    return step


def evaluation(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward without gradients, as often as a test set is split."""

    def evaluate() -> None:
        with torch.no_grad():
            layer(x)

    return evaluate


def alternating(calls: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, all of them once a round, after one round that fills caches."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: float(np.median(spent)) for name, spent in times.items()}


def distance(layer: nn.Module, size: int) -> tuple[float, float]:
    """Largest |s - 1| over the singular values, and their root mean square."""
    values = conv_singular_values(layer.weight.detach(), size)
    return (values - 1).abs().max().item(), values.square().mean().sqrt().item()


def compare(channels: int, batch: int, size: int, rounds: int) -> dict[str, float]:
    """Print one table; return the training step's ratios."""
    found = layers(channels, size)
    x = torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))
    optimizers = {name: torch.optim.Adam(layer.parameters(), lr=1e-3) for name, layer in found.items()}
    steps = alternating({name: training_step(found[name], x, optimizers[name]) for name in found}, rounds)
    for layer in found.values():
        layer.eval()
    evaluations = alternating({name: evaluation(layer, x) for name, layer in found.items()}, rounds)
    print(f"{channels} channels, {size} x {size}, batch {batch}: plain step {1e3 * steps['plain circular']:.0f} ms")
    print(f"  {'':24}{'step':>8}{'eval':>8}{'params':>9}{'max |s-1|':>11}{'rms s':>8}")
    for name, layer in found.items():
        off, rms = distance(layer, size)
        trained = sum(p.numel() for p in layer.parameters() if p.requires_grad)
        step, evaluated = (times[name] / times["plain circular"] for times in (steps, evaluations))
        print(f"  {name:24}{step:7.2f}x{evaluated:7.2f}x{trained:9,}{off:11.1e}{rms:8.3f}")
    ratios = {
        "step over AOC": steps["BCOP"] / steps["orthogonium AOC"],
        "step over plain": steps["BCOP"] / steps["plain circular"],
    }
    print("  BCOP:", ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()), "\n")
    return ratios


def kernel_alone(channels: int) -> None:
    """What is independent of images and batch: building the kernel, with its gradient."""
    layer = BCOPConv(channels, channels, 3)
    layer.weight.sum().backward()
    spent = alternating({"kernel": lambda: layer.weight.square().sum().backward()}, 15)["kernel"]
    off = orthogonality_residual(layer.eval().weight)
    print(f"  {channels:4} channels: {1e3 * spent:6.1f} ms, residual {off:.1e}, {gains(layer, 8)}")


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, one thread\n")
    compare(32, 64, 16, rounds=7)
    ratios = compare(64, 64, 16, rounds=7)
    compare(128, 16, 16, rounds=5)
    print("the kernel and its gradient, independent of images and batch")
    for channels in (32, 64, 128):
        kernel_alone(channels)
    for name, most in TARGETS.items():
        print(f"target: {name} at most {most}: {ratios[name]:.2f} {'met' if ratios[name] <= most else 'MISSED'}")
    assert all(math.isfinite(ratio) for ratio in ratios.values())


if __name__ == "__main__":
    main()

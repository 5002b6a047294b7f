"""What do schedules do that look for nothing? Noise and a wave about a constant: the controls of the paper's study.

Source: arXiv 1903.03088, section 4.2. Chapter: ``book/self_tuning.ipynb``.
"""

import math
from collections.abc import Callable, Mapping

import torch

Schedule = Callable[[int], dict[str, float]]


def noisy(values: Mapping[str, float], std: float, seed: int, ranges: Mapping[str, tuple[float, float]]) -> Schedule:
    """Constant values with fresh Gaussian noise at every step, kept inside closed ranges.

    >>> schedule = noisy({"rate": 0.5}, 0.05, 0, {"rate": (0.0, 0.9)})
    >>> 0.3 < schedule(0)["rate"] < 0.7, schedule(0) == schedule(1)
    (True, False)
    """
    generator = torch.Generator("cpu").manual_seed(seed)

    def schedule(step: int) -> dict[str, float]:
        draws = torch.randn(len(values), generator=generator, device="cpu", dtype=torch.float64).tolist()
        found = {}
        for (name, value), eps in zip(values.items(), draws, strict=True):
            low, high = ranges[name]
            found[name] = min(max(value + std * eps, low), high)
        return found

    return schedule


def sinusoid(values: Mapping[str, float], amplitude: float, period: int) -> Schedule:
    """Constant values plus a wave over the steps.

    >>> round(sinusoid({"rate": 0.5}, 0.1, 40)(10)["rate"], 6)
    0.6
    """
    return lambda step: {
        name: value + amplitude * math.sin(2 * math.pi * step / period) for name, value in values.items()
    }

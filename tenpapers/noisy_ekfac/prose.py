"""The numbers that the chapter's sentences say, each read from a record."""

import math

from tenpapers.noisy_ekfac import comparisons, runs
from tenpapers.noisy_ekfac.comparisons import EKFAC, KFAC

RELEASED = f"{EKFAC}, as released"


def off(name: str, reference: str = "hmc") -> float:
    """By how many percent the standard deviations of a posterior are off, root mean square of the logarithm."""
    return 100 * math.expm1(comparisons.deviation_error(name, reference).mean)


def won() -> float:
    """What share of noisy K-FAC's error in standard deviations, in percent, noisy EK-FAC takes away."""
    ours, other = (comparisons.deviation_error(name, "hmc").mean for name in (EKFAC, KFAC))
    return 100 * (1 - ours / other)


def mistakes(method: str, workload: str = "VGG, Fashion-MNIST") -> float:
    """Share of test images that a method gets wrong."""
    return 1 - runs.images.read(workload=workload, method=method, kl_weight=0.1).accuracy.mean()


def miscalibration(method: str, workload: str = "VGG, Fashion-MNIST") -> float:
    """Calibration error of a method."""
    return runs.images.read(workload=workload, method=method, kl_weight=0.1).calibration_error.mean()


def right(method: str, workload: str = "VGG, Fashion-MNIST") -> float:
    """Percent of test images that a method gets right."""
    return 100 - 100 * mistakes(method, workload)


def noise(data: str, variant: str, scale: float) -> float:
    """Learnt noise on a set, mean over splits, in units of the targets' standard deviation."""
    frame = comparisons.regression()
    return frame[(frame.data == data) & (frame.variant == variant)].noise.mean() / scale


def decided(column: str, ours: str, other: str, sign: int) -> int:
    """On how many sets a difference in a column has this sign beyond two errors."""
    found = comparisons.differences(comparisons.regression(), column, ours, other)
    return sum(sign * gain.mean > 2 * gain.error for gain in found.values())


def times_as_long(other: str = KFAC, ours: str = EKFAC) -> float:
    """Seconds of one variant over those of another, mean over sets."""
    seconds = comparisons.regression().groupby(["data", "variant"]).cpu_seconds.mean().unstack("variant")
    return (seconds[ours] / seconds[other]).mean()


def long(column: str, data: str, ours: str, other: str) -> float:
    """Mean difference in a column between two variants by the paper's protocol."""
    return comparisons.differences(comparisons.long_runs(), column, ours, other)[data].mean


def long_noise(data: str, variant: str, scale: float) -> float:
    """The same by the paper's protocol."""
    frame = comparisons.long_runs()
    return frame[(frame.data == data) & (frame.variant == variant)].noise.mean() / scale


def long_kl(data: str, variant: str) -> float:
    """KL divergence to the prior by the paper's protocol, in nats."""
    frame = comparisons.long_runs()
    return frame[(frame.data == data) & (frame.variant == variant)].kl.mean()


def sets() -> int:
    """How many sets there are short runs of both methods on."""
    return len(comparisons.differences(comparisons.regression(), "rmse", EKFAC, KFAC))


def arms() -> int:
    """How many methods the protocol compares."""
    return len(runs.PROTOCOL)

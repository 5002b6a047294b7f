"""What the chapter's figures share: the problem, the batch sizes, and each tuned curve, computed once."""

from functools import lru_cache

import numpy as np

from nnlib.nqm import SGD, HeavyBall, IterateAverage, NoisyQuadratic, StepsCurve, steps_to_target

METHODS = {"SGD": SGD, "Momentum": HeavyBall, "EMA": IterateAverage}
BATCH_SIZES = 2 ** np.arange(2, 21)  # 4 ... 1,048,576
PROBLEM = NoisyQuadratic()

_EXPONENTS = range(2, 21, 3)
BATCH_AXIS = {
    "type": "log",
    "tickvals": [2**k for k in _EXPONENTS],
    "ticktext": [f"2<sup>{k}</sup>" for k in _EXPONENTS],
    "range": [np.log10(3), np.log10(1.4 * 2**20)],
}


@lru_cache(maxsize=256)
def curve(method: str, power: float = 0.0, target: float = 0.01) -> StepsCurve:
    """The tuned curve of one method over ``BATCH_SIZES``."""
    return steps_to_target(PROBLEM, METHODS[method], BATCH_SIZES, target, power)

"""What is lost if a network is run backwards in floating point? The error of the states over the steps undone.

Chapter: ``book/reversible_rnn.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.reversible_rnn import GRU, RevGRU

UNITS, INPUTS, BATCH = 64, 16, 8


def reversal(bits: int, dtype: str, steps: int = 60) -> list[dict[str, float]]:
    """Largest error of a state after 1, 2, ... steps back in floating point: h' = (h - u) / z with the gates at hand.

    Args:
        bits: The most bits that a unit forgets in a step.
        dtype: In which all is computed, ``float32`` or ``float64``.
        steps: T, steps forward and then back.

    Returns:
        T rows: ``step``, from 1, and ``error``, the largest over units and examples. It is rounding, multiplied by 1/z
        at each step: another processor, which adds up products in another order, has the same curve but other digits.

    Chapter: ``book/reversible_rnn.ipynb``.

    >>> [row["error"] < 1e-14 for row in reversal(1, "float64", steps=2)]
    [True, True]
    """
    kind = getattr(torch, dtype)
    rnn = RevGRU(INPUTS, UNITS, bits=bits, seed=0, dtype=kind)
    generator = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(steps, BATCH, INPUTS, generator=generator, dtype=torch.float64, device="cpu").to(kind)
    weights = [list(rnn.weights[4 * i : 4 * i + 4]) for i in (0, 1)]
    with torch.no_grad():
        h = [x.new_zeros(BATCH, UNITS // 2) for _ in range(2)]
        past = [list(h)]
        for step in x:
            for i in (0, 1):
                z, u, _ = GRU.updates[i].gates(bits, step, h[1 - i], *weights[i])
                h[i] = z * h[i] + u
            past.append(list(h))
        rows = []
        for undone, (step, wanted) in enumerate(zip(x.flip(0), past[-2::-1], strict=True), start=1):
            for i in (1, 0):
                z, u, _ = GRU.updates[i].gates(bits, step, h[1 - i], *weights[i])
                h[i] = (h[i] - u) / z
            rows.append({"step": undone, "error": _largest(h, wanted)})
    return rows


def _largest(found: list[Tensor], wanted: list[Tensor]) -> float:
    return max((a - b).abs().max().item() for a, b in zip(found, wanted, strict=True))

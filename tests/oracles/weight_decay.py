"""Slow, obvious versions of what nnlib.weight_decay does."""

import torch
from torch import Tensor


def sgd(w: Tensor, gradients: list[Tensor], lr: float, momentum: float, decay: str, weight_decay: float) -> Tensor:
    """Weights after SGD met these gradients, the decay in the gradient (l2) or in the step (decoupled)."""
    v = torch.zeros_like(w)
    for g in gradients:
        if decay == "l2":
            g = g + weight_decay * w
        v = momentum * v + g
        step = v + weight_decay * w if decay == "decoupled" else v
        w = w - lr * step
    return w


def adam(w: Tensor, gradients: list[Tensor], lr: float, decay: str, weight_decay: float, eps: float = 1e-8) -> Tensor:
    """The same for Adam with beta_1 = 0.9 and beta_2 = 0.999."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        if decay == "l2":
            g = g + weight_decay * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + eps)
        w = w - lr * (step + weight_decay * w if decay == "decoupled" else step)
    return w


def shifted_and_mirrored(image: Tensor, pad: int, top: int, left: int, mirrored: bool) -> Tensor:
    """One image (c, s, s), pixel by pixel: zero where the shift leaves the image."""
    result = torch.zeros_like(image)
    size = image.shape[-1]
    for row in range(size):
        for column in range(size):
            from_row = row + top - pad
            from_column = (size - 1 - column if mirrored else column) + left - pad
            if 0 <= from_row < size and 0 <= from_column < size:
                result[:, row, column] = image[:, from_row, from_column]
    return result

"""Slow, obvious versions: kernels block by block, a winding number by counting roots."""

import itertools

import numpy as np
import torch
from torch import Tensor


def block_convolution(x: Tensor, y: Tensor) -> Tensor:
    """sum X(i', j') Y(i - i', j - j'), one pair of blocks after another."""
    shape = (x.shape[0], y.shape[1], x.shape[2] + y.shape[2] - 1, x.shape[3] + y.shape[3] - 1)
    out = torch.zeros(shape, dtype=x.dtype)
    for a, b, c, d in itertools.product(*(range(n) for n in (*x.shape[2:], *y.shape[2:]))):
        out[:, :, a + c, b + d] += x[:, :, a, b] @ y[:, :, c, d]
    return out


def bcop_kernel(h: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The paper's 2 x 2 blocks PQ, P(I - Q), (I - P)Q, (I - P)(I - Q), one after the other on H; c_in <= c_out."""
    kernel = h[:, :, None, None]
    identity = torch.eye(len(h), dtype=h.dtype)
    for r, s in zip(rows, columns, strict=True):
        p, q = r @ r.T, s @ s.T
        top = torch.stack([p @ q, p @ (identity - q)], -1)
        bottom = torch.stack([(identity - p) @ q, (identity - p) @ (identity - q)], -1)
        kernel = block_convolution(torch.stack([top, bottom], -2), kernel)
    return kernel


def winding_by_roots(kernel: Tensor) -> int:
    """det What is a polynomial in z = exp(-i theta); it winds round 0 as often as it has roots within the circle."""
    n, degree = len(kernel), len(kernel) * (kernel.shape[-1] - 1)
    z = np.exp(-2j * np.pi * np.arange(degree + 1) / (degree + 1))
    taps = kernel[:, :, 0].numpy()
    values = [np.linalg.det(sum(taps[..., a] * w**a for a in range(taps.shape[-1]))) for w in z]
    coefficients = np.fft.ifft(values)  # values at exp(-2 pi i j / N) are the transform of the coefficients
    coefficients[np.abs(coefficients) < 1e-10] = 0
    assert n == kernel.shape[1]
    return int((np.abs(np.roots(coefficients[::-1])) < 1).sum())

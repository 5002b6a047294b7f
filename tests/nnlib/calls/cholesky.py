"""Calls of ``nnlib.cholesky``."""

import torch

CALLS = {
    "cholesky": lambda: {"M": torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64), "otherwise": "M must be so"}
}
ELSEWHERE: dict[str, str] = {}

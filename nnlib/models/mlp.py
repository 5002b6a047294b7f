"""The multilayer perceptron: alternating linear maps and ReLU. Chapter: ``book/nqm.ipynb``."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlib.arguments import shown, whole
from nnlib.models.init import he_


class MLP(nn.Module):
    """A ReLU network f(x) = W_L relu(... relu(W_1 x + b_1) ...) + b_L; inputs of any shape are flattened first.

    Args:
        sizes: Number of inputs, of units in each hidden layer, and of outputs: at least two positive integers.
        bias: Whether the linear maps have biases.
        batch_norm: Whether each hidden layer is followed by batch normalisation without scale and shift, before its
            ReLU.
        seed: Of the He initialisation.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        ValueError: if ``sizes`` are fewer than two or not positive.

    Chapter: ``book/nqm.ipynb``.

    >>> model = MLP([64, 32, 10], seed=0)
    >>> tuple(model(torch.zeros(5, 1, 8, 8)).shape)
    (5, 10)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        bias: bool = True,
        batch_norm: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if not isinstance(sizes, Sequence) or isinstance(sizes, str) or len(sizes) < 2:
            raise ValueError(f"sizes must be two or more whole numbers, inputs to outputs: got {shown(sizes)}")
        for size in sizes:
            whole(1, sizes=size)
        super().__init__()
        where = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise(sizes[:-1]):
            layers.append(nn.Linear(n_in, n_out, bias=bias, **where))
            if batch_norm:
                layers.append(nn.BatchNorm1d(n_out, affine=False, **where))
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers, nn.Linear(*sizes[-2:], bias=bias, **where))
        he_(self, seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (n, ...) -> (n, sizes[-1])

"""How are constrained layers put together? K-Lipschitz dense networks, for every activation and constraint.

Paper: arXiv 1811.05381, sections 4 and 5. Chapter: book/groupsort.ipynb.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import one_of, real, shown, typed, whole, within
from nnlib.groupsort.layers import ParsevalLinear, RowLinear, SpectralLinear
from nnlib.lipschitz import OrthogonalLinear
from nnlib.lipschitz import activation as make_activation
from nnlib.lipschitz.activations import ACTIVATIONS, check_groups
from nnlib.models import MLP

Layer = Callable[..., nn.Module]
# How the first and the later linear layers are constrained. The names of the 2-norm come first.
CONSTRAINTS: dict[str, tuple[Layer, Layer]] = {
    "Björck": (OrthogonalLinear, OrthogonalLinear),
    "spectral norm": (SpectralLinear, SpectralLinear),
    "Parseval": (ParsevalLinear, ParsevalLinear),
    "rows": (partial(RowLinear, p=math.inf), partial(RowLinear, p=math.inf)),
    "rows after step": (partial(RowLinear, p=math.inf, when="step"), partial(RowLinear, p=math.inf, when="step")),
    "mixed": (partial(RowLinear, p=2), partial(RowLinear, p=math.inf)),
    "mixed, p = 1": (partial(RowLinear, p=1), partial(RowLinear, p=math.inf)),
}


@typed
class LipschitzMLP(nn.Sequential):
    """A dense network whose Lipschitz constant is K by construction; inputs of any shape are flattened first.

    Each of its L linear layers has the gain K^(1/L). "Björck", "spectral norm" and "Parseval" bound it in the 2-norm,
    "rows" in the inf-norm, and the mixed ones from the 2-norm or 1-norm of the input to the inf-norm of the logits.

    Args:
        sizes: Numbers of inputs, of units in each hidden layer before the activation, and of outputs.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        constraint: A key of ``CONSTRAINTS``.
        constant: K > 0.
        seed: Of the initial weights.
        options: For the layers: ``device``, ``dtype``, ``onto``, ``steps``, ...

    Raises:
        ValueError: for fewer than two sizes, one below 1, or one of a hidden layer that the activation's groups do not
            divide; names that are not known, another constant or seed.

    Source: arXiv 1811.05381, section 4. Chapter: book/groupsort.ipynb

    >>> from nnlib.lipschitz import lipschitz_constant
    >>> model = LipschitzMLP([64, 32, 32, 10], "MaxMin", constant=5.0)
    >>> round(lipschitz_constant(model), 4)
    5.0
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "MaxMin",
        constraint: str = "Björck",
        *,
        constant: float = 1.0,
        seed: int = 0,
        **options: Any,
    ):
        if len(sizes) < 2:
            raise ValueError(f"sizes must be two or more whole numbers, inputs to outputs: got {shown(sizes)}")
        for size in sizes:
            whole(1, sizes=size)
        one_of(ACTIVATIONS, activation=activation)
        one_of(CONSTRAINTS, constraint=constraint)
        within("(0, inf)", constant=constant)
        whole(0, seed=seed)
        first, later = CONSTRAINTS[constraint]
        depth = len(sizes) - 1
        layers: list[nn.Module] = [nn.Flatten()]
        n_in = sizes[0]
        for index, n_out in enumerate(sizes[1:]):
            kind = first if index == 0 else later
            gain, own_seed = constant ** (1 / depth), 1000 * seed + index
            layers.append(kind(n_in, n_out, gain=gain, seed=own_seed, **options))
            if index < depth - 1:
                layers.append(make_activation(activation))
                check_groups(layers[-1], sizes=n_out)
                n_in = n_out // 2 if activation == "Maxout" else n_out
        super().__init__(*layers)


@typed
def plain_mlp(
    sizes: Sequence[int], activation: str = "ReLU", *, dropout: bool = False, seed: int = 0, **where: Any
) -> nn.Sequential:
    """The same shape without a constraint: He initialisation; dropout 0.2 on inputs and 0.5 on hidden units if asked.

    Args:
        sizes: As for :class:`LipschitzMLP`.
        activation: A name for :func:`nnlib.lipschitz.activation`; not Maxout, which would change the sizes.
        dropout: Whether to use it.
        seed: Of the initialisation.
        where: ``device`` and ``dtype``.

    Returns:
        ``nn.Sequential``.

    Raises:
        ValueError: as :class:`LipschitzMLP` does.

    Source: baselines of arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> plain_mlp([4, 3, 2])(torch.zeros(1, 4)).shape
    torch.Size([1, 2])
    """
    one_of([name for name in ACTIVATIONS if name != "Maxout"], activation=activation)
    layers: list[nn.Module] = []
    for layer in MLP(sizes, seed=seed, **where).layers:
        if isinstance(layer, nn.Linear) and dropout:
            layers.append(nn.Dropout(0.5 if any(isinstance(other, nn.Linear) for other in layers) else 0.2))
        layers.append(make_activation(activation) if isinstance(layer, nn.ReLU) else layer)
    for size in sizes[1:-1]:
        check_groups(make_activation(activation), sizes=size)
    return nn.Sequential(*layers)


@typed
class JacobianPenalty(nn.Module):
    """A network whose loss is raised by weight * sigma_max(J), J the Jacobian of its outputs, averaged over a batch.

    sigma_max comes from one power iteration a batch, J v as the derivative of u -> Jᵀ u, with v kept between batches.
    Used as ``fit(penalised, ..., loss=penalised.loss(cross_entropy))``.

    Args:
        model: Maps (n, ...) to (n, outputs).
        weight: Of the penalty, >= 0.

    Raises:
        ValueError: a weight below 0; in training, a batch without examples.

    Source: baseline of arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> linear = nn.Linear(3, 2, bias=False)
    >>> linear.weight.data = torch.tensor([[3.0, 0.0, 4.0], [0.0, 1.0, 0.0]])
    >>> penalised = JacobianPenalty(linear, weight=1.0)
    >>> for _ in range(30):
    ...     _ = penalised(torch.ones(4, 3))
    >>> round(penalised.penalty.item(), 4)
    5.0
    """

    def __init__(self, model: nn.Module, weight: float = 0.05):
        super().__init__()
        within("[0, inf)", weight=weight)
        self.model, self.weight = model, weight
        self.direction: Tensor | None = None  # v, shape of one input
        self.penalty: Tensor | float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            self.penalty = 0.0
            return self.model(x)
        real("n ...", finite=False, x=x)
        x = x.detach().requires_grad_()
        out = self.model(x)
        mean = out.mean(0)  # (outputs); its derivative by all inputs together, times n, is the average Jacobian
        v, one = self.direction, x[0]
        if v is None or (v.shape, v.device) != (one.shape, one.device):
            self.direction = torch.ones_like(one) / math.sqrt(one.numel())
        u = torch.zeros_like(mean, requires_grad=True)
        (back,) = torch.autograd.grad(mean, x, u, create_graph=True)  # Jᵀ u, linear in u
        back = back.sum(0)  # (...): the same direction for each example
        (forth,) = torch.autograd.grad(back, u, self.direction, create_graph=True)  # J v
        sigma = forth.norm()
        (gradient,) = torch.autograd.grad(mean, x, (forth / sigma.clamp(min=1e-12)).detach(), retain_graph=True)
        v = gradient.sum(0)
        self.direction = (v / v.norm().clamp(min=1e-12)).detach()
        self.penalty = self.weight * sigma
        return out

    @typed
    def loss(self, base: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        """``base`` plus the penalty of the batch that was last put through."""
        return lambda outputs, y: base(outputs, y) + self.penalty

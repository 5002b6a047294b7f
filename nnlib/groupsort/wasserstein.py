"""How far apart are two distributions? A 1-Lipschitz critic gives a bound from below, an assignment the exact value.

    W_1(P, Q) = sup over 1-Lipschitz f of E_P f - E_Q f        (Kantorovich and Rubinstein)

Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.groupsort.networks import LipschitzMLP
from nnlib.lipschitz import dual_value, exact_distance, lipschitz_constant, project_
from nnlib.modes import evaluating

Sampler = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]  # (n, generator) -> points of P and of Q


@dataclass(frozen=True)
class Cones:
    """Point masses P and the unit spheres Q around them, for which W_1 = 1 and the best critic is a row of cones.

    f(x) = -(distance to the nearest centre) is 1-Lipschitz and E_P f - E_Q f = 0 - (-1) = 1; no plan costs less than 1
    either, if no sphere comes closer than 1 to another centre. In one dimension with one centre, f = -|x|.

    Args:
        dim: Dimension.
        centres: Positions on the first axis.
        dtype: Of the points.
        device: Of the points.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> p, q = Cones(2, (-2.0, 0.0, 2.0))(6, torch.Generator().manual_seed(0))
    >>> p[:, 0].tolist(), round(exact_distance(p, q), 6)
    ([-2.0, 0.0, 2.0, -2.0, 0.0, 2.0], 1.0)
    """

    dim: int
    centres: Sequence[float] = (0.0,)
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    def __call__(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n points of each, the centres in turn: (n, dim) and (n, dim)."""
        options = {"generator": generator, "dtype": torch.float64, "device": generator.device}
        if self.dim == 1:
            direction = torch.randint(2, (n, 1), **options) * 2 - 1
        else:
            direction = nn.functional.normalize(torch.randn(n, self.dim, **options), dim=1)
        centres = torch.tensor(self.centres, dtype=torch.float64, device=generator.device)
        p = torch.zeros_like(direction)
        p[:, 0] = centres[torch.arange(n, device=generator.device) % len(centres)]
        return p.to(self.device, self.dtype), (p + direction).to(self.device, self.dtype)


def train_critic(
    critic: nn.Module,
    sample: Sampler,
    *,
    steps: int,
    batch_size: int,
    lr: float = 5e-3,
    seed: int = 0,
    clip: float | None = None,
    watch: Sequence[int] = (),
    watched: Callable[[nn.Module], dict] | None = None,
) -> list[dict[str, Any]]:
    """Maximise E_P f - E_Q f by Adam, with a learning rate that falls to zero along a cosine.

    Args:
        critic: Trained in place; layers that project their stored weight do so after each step.
        sample: Draws a batch; a new one each step.
        steps: Number of steps.
        batch_size: Points of P, and of Q, in each.
        lr: At the start.
        seed: Of the batches.
        clip: Largest norm of the gradient, or None.
        watch: Steps at which to call ``watched``.
        watched: Returns columns for the frame, from the critic in evaluation mode.

    Returns:
        One row a step: ``step, estimate`` on that step's batch, and what was watched.

    Raises:
        ArithmeticError: at the first step whose estimate is not finite.

    Source: arXiv 1811.05381, section 5 (there with AggMo in place of Adam). Chapter: book/groupsort.ipynb

    >>> from nnlib.groupsort import LipschitzMLP
    >>> critic = LipschitzMLP([1, 8, 1], "MaxMin", seed=0)
    >>> history = train_critic(critic, Cones(1), steps=100, batch_size=16, lr=0.02)
    >>> bool(0.9 < history.estimate.iloc[-1] < 1.1)
    True
    """
    device = next(critic.parameters()).device
    generator = torch.Generator("cpu").manual_seed(seed)
    optimizer = torch.optim.Adam(critic.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows = []
    critic.train()
    for step in range(1, steps + 1):
        p, q = (points.to(device) for points in sample(batch_size, generator))
        estimate = dual_value(critic, p, q)
        if not estimate.isfinite():
            raise ArithmeticError(f"the estimate is {estimate.item()} at step {step}: lower the learning rate")
        optimizer.zero_grad()
        (-estimate).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(critic.parameters(), clip)
        optimizer.step()
        schedule.step()
        project_(critic)
        rows.append({"step": step, "estimate": estimate.item()})
        if step in watch and watched is not None:
            with evaluating(critic), torch.no_grad():
                rows[-1] |= watched(critic)
    critic.eval()
    return rows


def cone_run(
    dim: int,
    activation: str,
    *,
    centres: Sequence[float] = (0.0,),
    width: int = 64,
    hidden: int = 3,
    constraint: str = "Björck",
    steps: int = 400,
    batch_size: int = 64,
    lr: float = 5e-3,
    seed: int = 0,
    n_test: int = 300,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Train one critic on :class:`Cones` and measure it on fresh points, beside the exact distance of the same points.

    Args:
        dim: Dimension.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        centres: As for :class:`Cones`.
        width: Units of a hidden layer.
        hidden: Number of hidden layers.
        constraint: A key of ``nnlib.groupsort.networks.CONSTRAINTS``.
        steps: As for :func:`train_critic`.
        batch_size: As for :func:`train_critic`.
        lr: As for :func:`train_critic`.
        seed: Of weights and batches.
        n_test: Points of the final measurement, a multiple of the number of centres.
        dtype: Of everything.
        device: Of everything.

    Returns:
        ``estimate, exact, constant``: the critic's value, the assignment's, and the critic's proven constant.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> found = cone_run(1, "MaxMin", width=8, hidden=1, steps=100)
    >>> found["estimate"] <= found["exact"] * found["constant"] + 1e-6
    True
    """
    sizes = [dim, *[width] * hidden, 1]
    critic = LipschitzMLP(sizes, activation, constraint, seed=seed, dtype=dtype, device=device)
    sample = Cones(dim, tuple(centres), dtype)
    train_critic(critic, sample, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    p, q = (points.to(device) for points in sample(n_test, torch.Generator("cpu").manual_seed(10_000 + seed)))
    with torch.no_grad():
        estimate = dual_value(critic, p, q).item()
    return {"estimate": estimate, "exact": exact_distance(p, q), "constant": lipschitz_constant(critic)}


def absolute_value_critic(
    activation: str, hidden: int = 1, *, width: int = 12, steps: int = 400, lr: float = 1e-2, seed: int = 0, **options
) -> nn.Module:
    """The critic for P = the point 0, Q = the points -1 and 1, without sampling: W_1 = 1, reached by -|x| alone.

    Args:
        activation: A name for :func:`nnlib.lipschitz.activation`.
        hidden: Number of hidden layers.
        width: Units of each.
        steps: Of Adam on the three points.
        lr: At the start.
        seed: Of the weights.
        options: For :class:`nnlib.groupsort.LipschitzMLP`.

    Returns:
        The trained critic, in evaluation mode.

    Source: arXiv 1811.05381, section 5 (absolute value). Chapter: book/groupsort.ipynb
    """
    critic = LipschitzMLP([1, *[width] * hidden, 1], activation, seed=seed, **options)
    generator = torch.Generator("cpu").manual_seed(seed)
    with torch.no_grad():  # small biases, so that not all pairs have the same order at all three points
        for layer in critic:
            if getattr(layer, "bias", None) is not None:
                noise = torch.empty(layer.bias.shape, dtype=torch.float64, device="cpu")
                layer.bias.copy_(noise.uniform_(-0.1, 0.1, generator=generator))
    p, q = _three_points(critic)
    train_critic(critic, lambda n, generator: (p, q), steps=steps, batch_size=1, lr=lr, seed=seed)
    return critic


def absolute_value_run(activation: str, hidden: int = 1, **options) -> dict[str, float]:
    """The estimate of the trained critic, out of 1: :func:`absolute_value_critic` as a sweep wants it.

    Args:
        activation: As for :func:`absolute_value_critic`.
        hidden: As for :func:`absolute_value_critic`.
        options: As for :func:`absolute_value_critic`.

    Returns:
        ``estimate``.

    Chapter: book/groupsort.ipynb

    >>> round(absolute_value_run("MaxMin", width=4)["estimate"], 2)
    1.0
    """
    critic = absolute_value_critic(activation, hidden, **options)
    with torch.no_grad():
        return {"estimate": dual_value(critic, *_three_points(critic)).item()}


def _three_points(critic: nn.Module) -> tuple[Tensor, Tensor]:
    parameter = next(critic.parameters())
    where = {"dtype": parameter.dtype, "device": parameter.device}
    return torch.tensor([[0.0]], **where), torch.tensor([[-1.0], [1.0]], **where)

"""How far apart are two distributions? A 1-Lipschitz critic gives a bound from below.

    W_1(P, Q) = sup over 1-Lipschitz f of E_P f - E_Q f        (Kantorovich and Rubinstein)

The exact value for two samples is ``nnlib.lipschitz.exact_distance``.

Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

from collections.abc import Callable, Container, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import seeded, shown, typed, whole, within
from nnlib.descent import descend
from nnlib.lipschitz import dual_value, project_every
from nnlib.modes import evaluating

Sampler = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]  # (n, generator) -> points of P and of Q


@typed
def train_critic(
    critic: nn.Module,
    sample: Sampler,
    *,
    steps: int,
    batch_size: int,
    lr: float = 5e-3,
    seed: int = 0,
    clip: float | None = None,
    watch: Container[int] = (),
    watched: Callable[[nn.Module], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Maximise E_P f - E_Q f by Adam, with a learning rate that falls to zero along a cosine.

    Args:
        critic: Trained in place; layers that project their stored weight do so after each step.
        sample: Draws a batch, two tensors; a new one each step.
        steps: Number of steps, at least 1.
        batch_size: Points of P, and of Q, in each, at least 1.
        lr: At the start, > 0.
        seed: Of the batches.
        clip: Largest norm of the gradient, > 0, or None.
        watch: Steps at which to call ``watched``.
        watched: Returns columns for the row of that step, from the critic in evaluation mode.

    Returns:
        One row a step: ``step, estimate`` on that step's batch, and what was watched.

    Raises:
        TypeError: a sample that is not two tensors.
        ValueError: a critic without parameters, or that can't take the sample; numbers out of range.
        NonFiniteLoss: at the first step whose estimate is not finite.

    Source: arXiv 1811.05381, section 5 (there with AggMo in place of Adam). Chapter: book/groupsort.ipynb

    >>> from nnlib.groupsort import LipschitzMLP
    >>> critic, ends = LipschitzMLP([1, 8, 1], "MaxMin", seed=0), torch.tensor([[-1.0], [1.0]])
    >>> sample = lambda n, generator: (torch.zeros(2, 1), ends)  # at distance 1
    >>> history = train_critic(critic, sample, steps=100, batch_size=2, lr=0.02)
    >>> 0.9 < history[-1]["estimate"] <= 1 + 1e-5
    True
    """
    whole(1, steps=steps, batch_size=batch_size)
    within("(0, inf)", lr=lr)
    if clip is not None:
        within("(0, inf)", clip=clip)
    generator = seeded(seed)
    parameter = next(critic.parameters(), None)
    if parameter is None:
        raise ValueError(f"critic must have parameters to train: {type(critic).__name__} has none")
    optimizer = project_every(torch.optim.Adam(critic.parameters(), lr=lr), critic)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows: list[dict[str, Any]] = []

    def loss() -> Tensor:
        drawn = sample(batch_size, generator)
        if not isinstance(drawn, Sequence) or [isinstance(points, Tensor) for points in drawn] != [True, True]:
            raise TypeError(f"sample must return two tensors, points of P and of Q: got {shown(drawn)}")
        p, q = (points.to(parameter.device) for points in drawn)
        return -dual_value(critic, p, q)

    def after(step: int, value: Tensor) -> None:
        rows.append({"step": step, "estimate": -value.item()})
        if step in watch and watched is not None:
            with evaluating(critic), torch.no_grad():
                rows[-1] |= watched(critic)

    critic.train()
    descend(loss, optimizer, steps, clip=clip, schedule=schedule, after=after)
    critic.eval()
    return rows

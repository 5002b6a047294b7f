"""What the chapter trains: data, distributions at a known distance, critics of one variable, classifiers.

The generators and critics of its GANs are in ``gan.py``.
Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nnlib.groupsort import CONSTRAINTS, JacobianPenalty, LipschitzMLP, plain_mlp, train_critic
from nnlib.lipschitz import hinge_loss, project_every
from nnlib.training import Dataset, fit
from tenpapers.data import load, remember

# The attack of the recorded tables: one random start, on the margin.
ONE_START: dict[str, Any] = {"from_x": False, "restarts": 1, "losses": ("margin",)}
UNCONSTRAINED = ("none", "dropout", "Jacobian penalty")


@remember(maxsize=2)
def images(dataset: str) -> Dataset:
    """A data set of the tables.

    Args:
        dataset: "digits", "mnist" (the package's small file) or "mnist full" (from ``$NNLIB_DATA`` or fetched).
    """
    if dataset == "mnist full":
        return load("mnist", download=True)
    return load(dataset, **({"vendored": True} if dataset == "mnist" else {}))


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

    >>> from nnlib.lipschitz import exact_distance
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
        options: dict[str, Any] = {"generator": generator, "dtype": torch.float64, "device": generator.device}
        if self.dim == 1:
            direction = torch.randint(2, (n, 1), **options) * 2 - 1
        else:
            direction = nn.functional.normalize(torch.randn(n, self.dim, **options), dim=1)
        centres = torch.tensor(self.centres, dtype=torch.float64, device=generator.device)
        p = torch.zeros_like(direction)
        p[:, 0] = centres[torch.arange(n, device=generator.device) % len(centres)]
        return p.to(self.device, self.dtype), (p + direction).to(self.device, self.dtype)


def three_points(critic: nn.Module) -> tuple[Tensor, Tensor]:
    """P = the point 0, Q = the points -1 and 1, where the critic is: at distance 1, which -|x| alone attains.

    >>> [tuple(points.shape) for points in three_points(nn.Linear(1, 1))]
    [(1, 1), (2, 1)]
    """
    weight = next(critic.parameters())
    where: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
    return torch.tensor([[0.0]], **where), torch.tensor([[-1.0], [1.0]], **where)


def absolute_value_critic(
    activation: str,
    hidden: int = 1,
    *,
    width: int = 12,
    steps: int = 400,
    lr: float = 1e-2,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """The critic for :func:`three_points`, without sampling.

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
            if isinstance(bias := getattr(layer, "bias", None), Tensor):
                noise = torch.empty(bias.shape, dtype=torch.float64, device="cpu")
                bias.copy_(noise.uniform_(-0.1, 0.1, generator=generator))
    points = three_points(critic)
    train_critic(critic, lambda n, generator: points, steps=steps, batch_size=1, lr=lr, seed=seed)
    return critic


def margin(constraint: str, epsilon: float, constant: float = 1.0) -> float:
    """The margin between logits that certifies a radius epsilon: sqrt(2) epsilon K in the 2-norm, else 2 epsilon K.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> round(margin("Björck", 0.5), 3), margin("rows", 0.1, constant=1000)
    (0.707, 200.0)
    """
    return (math.sqrt(2) if constraint in ("Björck", "spectral norm", "Parseval") else 2) * epsilon * constant


def train_classifier(
    data: Dataset,
    activation: str = "MaxMin",
    constraint: str = "Björck",
    *,
    hidden: Sequence[int] = (128, 128),
    epsilon: float | None = 0.5,
    constant: float = 1.0,
    epochs: int = 15,
    batch_size: int = 100,
    lr: float = 1e-2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    **options: Any,
) -> nn.Sequential:
    """Train a dense classifier, constrained or not.

    Args:
        data: Images and labels.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        constraint: A key of ``CONSTRAINTS``, or "none", "dropout", "Jacobian penalty".
        hidden: Units of the hidden layers.
        epsilon: Radius that the hinge loss asks for; None: cross-entropy.
        constant: K.
        epochs: Passes over the training split.
        batch_size: Of Adam.
        lr: Of Adam; it is divided by ten for the last quarter of the epochs.
        seed: Of weights and batches.
        dtype: Of the training.
        device: Where to train.
        options: For the layers.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: a constraint that is not known, or a margin asked of an unconstrained network.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> from nnlib.lipschitz import certify
    >>> data = load("digits")
    >>> model = train_classifier(data, hidden=(32,), epochs=2)
    >>> bool(certify(model, data.test).clean > 0.7)
    True
    """
    if constraint not in (*CONSTRAINTS, *UNCONSTRAINED):
        raise ValueError(f"constraint must be one of {', '.join((*CONSTRAINTS, *UNCONSTRAINED))}: got {constraint!r}")
    if constraint in UNCONSTRAINED and epsilon is not None:
        raise ValueError(f"epsilon asks for a margin, which means nothing without a constant: {constraint!r}")
    sizes = [data.train.x[0].numel(), *hidden, len(data.info["classes"])]
    where: dict[str, Any] = {"dtype": dtype, "device": device}
    if constraint in UNCONSTRAINED:
        model = plain_mlp(sizes, activation, dropout=constraint == "dropout", seed=seed, **where)
    else:
        model = LipschitzMLP(sizes, activation, constraint, constant=constant, seed=seed, **where, **options)
    loss = cross_entropy if epsilon is None else hinge_loss(margin(constraint, epsilon, constant))
    trained: nn.Module = model
    if constraint == "Jacobian penalty":
        trained = JacobianPenalty(model)
        loss = trained.loss(loss)
    optimizer = project_every(torch.optim.Adam(trained.parameters(), lr=lr), model)
    steps = epochs * (len(data.train.y) // batch_size)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3 * steps // 4])
    settings: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "loss": loss, "schedule": schedule}
    where_on = torch.device(device)
    with torch.random.fork_rng(devices=[where_on] if where_on.type == "cuda" else []):
        torch.manual_seed(seed)  # of dropout, which draws from torch's own generator
        fit(trained, data, optimizer, seed=seed, evaluate_at=(), progress=False, **settings)
    return model.eval()

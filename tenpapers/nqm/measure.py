"""Does the noisy quadratic model predict real networks? Steps to a target, tuned for each optimiser and batch size.

``measure_steps`` trains one network once; ``grid`` lists the runs of an experiment; ``tune`` picks, from the frame of
all runs, the best hyperparameters for each optimiser and batch size. Another optimiser joins with one line in
``OPTIMIZERS`` and one in the workload's ``lr``.

Paper: arXiv 1907.04164. Chapter: ``book/nqm.ipynb``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from nnlib.curvature import KFAC, NonFiniteGradient, NotPositiveDefinite
from nnlib.models import MLP, SmallCNN
from nnlib.modes import NonFiniteLoss
from nnlib.training import Dataset, fit
from tenpapers.data import load

Factory = Callable[[nn.Module, float, float], torch.optim.Optimizer]  # (model, lr, momentum)


def _sgd(model: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def _adam(model: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr, betas=(momentum, 0.999))


def _kfac(model: nn.Module, lr: float, momentum: float) -> torch.optim.Optimizer:
    often = {"update_factors_every": 1, "update_inverses_every": 5}  # runs are a few dozen steps at large batches
    return KFAC(model, lr, damping=0.03, momentum=momentum, **often)


OPTIMIZERS: dict[str, Factory] = {"SGD": _sgd, "Momentum": _sgd, "Adam": _adam, "K-FAC": _kfac}
MOMENTA = {"SGD": (0.0,), "Momentum": (0.8, 0.95), "Adam": (0.9,), "K-FAC": (0.0, 0.8)}
DECAYS = (0.8, 0.95, 0.98, 0.995)


@dataclass(frozen=True)
class Workload:
    """A network, its data, and the loss that counts as reached.

    Args:
        data: Name for :func:`tenpapers.data.load`.
        model: ``model(seed=..., dtype=..., device=...)`` builds the network.
        split: Where the target is measured: ``train`` (all of it) or ``validation``.
        target: Mean cross-entropy to reach: loss <= target.
        batch_sizes: Those of the experiment.
        lr: For each optimiser the middle of its grid, min(a * B^q, cap) as (a, q, cap). For all but Adam it is the
            effective learning rate lr / (1 - momentum). A guess from trial runs; the grid around it is wide.
        floor_steps: A run may take ``floor_steps + examples / B`` steps, then it counts as not having reached.
        examples: See ``floor_steps``.
        options: For :func:`tenpapers.data.load`.
        dtype: Of parameters and data.
    """

    data: str
    model: Callable[..., nn.Module]
    split: str
    target: float
    batch_sizes: tuple[int, ...]
    lr: dict[str, tuple[float, float, float]]
    floor_steps: int
    examples: int
    options: dict[str, bool] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    def max_steps(self, batch_size: int) -> int:
        """The number of steps after which a run counts as not having reached the target."""
        return self.floor_steps + self.examples // batch_size


CNN_LR = {"SGD": (0.004, 1, 0.5), "Momentum": (0.004, 1, 2), "Adam": (0.0003, 0.5, 0.01), "K-FAC": (0.001, 0.75, 0.4)}
WORKLOADS = {
    "digits": Workload(
        data="digits",
        model=partial(MLP, [64, 64, 64, 10]),
        split="train",
        target=0.05,
        batch_sizes=(8, 32, 128, 512, 1400),
        lr={
            "SGD": (0.03, 1, 0.6),
            "Momentum": (0.025, 1, 2.2),
            "Adam": (0.0022, 0.6, 0.03),
            "K-FAC": (0.0065, 0.75, 0.7),
        },
        floor_steps=200,
        examples=8_000,
        dtype=torch.float64,
    ),
    "mnist": Workload(
        data="mnist",
        model=partial(MLP, [784, 64, 10]),
        split="validation",
        target=0.25,
        batch_sizes=(32, 128, 512, 2048),
        lr={
            "SGD": (0.011, 1, 0.7),
            "Momentum": (0.013, 1, 3.5),
            "Adam": (0.003, 0.28, 0.016),
            "K-FAC": (0.0045, 0.75, 0.4),
        },
        floor_steps=200,
        examples=20_000,
        options={"vendored": True},
    ),
    # The paper's size: a small CNN on the full sets, from $NNLIB_DATA or fetched. Learning rates are guesses to widen.
    "mnist_cnn": Workload(
        data="mnist",
        model=SmallCNN,
        split="validation",
        target=0.04,
        batch_sizes=tuple(2**k for k in range(4, 15)),
        lr=CNN_LR,
        floor_steps=500,
        examples=1_200_000,
        options={"download": True},
    ),
    "fashion_mnist_cnn": Workload(
        data="fashion_mnist",
        model=SmallCNN,
        split="validation",
        target=0.25,
        batch_sizes=tuple(2**k for k in range(4, 15)),
        lr=CNN_LR,
        floor_steps=1000,
        examples=2_400_000,
        options={"download": True},
    ),
}


def source(workload: str) -> str:
    """Where a workload's data come from, in words; of data that would have to be fetched, only the name."""
    work = WORKLOADS[workload]
    return f"{work.data}, all of it" if work.options.get("download") else _data(workload).source


def measure_steps(
    workload: str,
    optimizer: str,
    batch_size: int,
    lr: float,
    momentum: float = 0.0,
    seed: int = 0,
    decays: Sequence[float] = DECAYS,
    max_steps: int | None = None,
    device: torch.device | str = "cpu",
) -> list[dict[str, Any]]:
    """Train once at constant learning rate; return the first step at which the target is reached.

    One run answers for the raw iterate and for every moving average of the iterates, xbar' = decay * xbar +
    (1 - decay) * theta', since averaging does not change the iterates. It ends when the raw iterate reaches the
    target (an average that is slower than that is of no use), or after ``max_steps``. The loss is measured at
    :func:`evaluation_steps`, so a result is at most 4 % above the true first passage.

    Args:
        workload: A key of ``WORKLOADS``.
        optimizer: A key of ``OPTIMIZERS``.
        batch_size: B, from 1 to the number of training examples.
        lr: Learning rate as torch has it (not the effective one), positive.
        momentum: Of SGD and Momentum; beta_1 of Adam; in [0, 1).
        seed: Of the initialisation and of the order of the examples.
        decays: Decays of the averages, each in (0, 1).
        max_steps: By default the workload's.
        device: Where to train.

    Returns:
        One row for the raw iterate (``decay`` 0) and one for each average: ``decay``, ``steps`` (NaN where the target
        was not reached) and ``diverged`` (the loss became infinite or not a number).

    Raises:
        ValueError: for an unknown name or a hyperparameter out of range.

    Source: arXiv 1907.04164. Chapter: ``book/nqm.ipynb``.

    >>> rows = measure_steps("digits", "Adam", batch_size=256, lr=0.02, momentum=0.9, decays=[0.8])
    >>> [(row["decay"], row["steps"] < 100, row["diverged"]) for row in rows]
    [(0.0, True, False), (0.8, True, False)]
    """
    for name, value, known in (("workload", workload, WORKLOADS), ("optimizer", optimizer, OPTIMIZERS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}: got {value!r}")
    if not (lr > 0 and 0 <= momentum < 1):
        raise ValueError(f"lr must be positive and momentum in [0, 1): got lr={lr}, momentum={momentum}")
    work = WORKLOADS[workload]
    limit = work.max_steps(batch_size) if max_steps is None else max_steps
    model = work.model(seed=seed, dtype=work.dtype, device=device)
    first: dict[float, int] = {}  # decay -> step

    def note(rows: list[dict[str, Any]]) -> bool:
        for row in rows:
            if row["loss"] <= work.target:
                first.setdefault(row["decay"], row["step"])
        return 0.0 in first

    diverged = False
    try:
        fit(
            model,
            _data(workload),
            OPTIMIZERS[optimizer](model, lr, momentum),
            batch_size=batch_size,
            steps=limit,
            seed=seed,
            decays=decays,
            splits=[work.split],
            evaluate_at=evaluation_steps(limit),
            stop=note,
            progress=False,
        )
    except (NonFiniteLoss, NonFiniteGradient, NotPositiveDefinite):
        diverged = True  # an average may have reached the target before
    return [{"decay": d, "steps": float(first.get(d, np.nan)), "diverged": diverged} for d in (0.0, *decays)]


@lru_cache(maxsize=4)
def _data(workload: str) -> Dataset:
    work = WORKLOADS[workload]
    return load(work.data, **work.options)


def evaluation_steps(max_steps: int, resolution: float = 0.04) -> list[int]:
    """Steps 1, 2, 3, ... with gaps that grow to ``resolution`` times the step, up to ``max_steps``.

    >>> evaluation_steps(10, resolution=0.5)
    [1, 2, 3, 4, 6, 9, 10]
    """
    steps = [1]
    while steps[-1] < max_steps:
        steps.append(min(max_steps, max(steps[-1] + 1, int(steps[-1] * (1 + resolution)))))
    return steps


def grid(
    workload: str, seeds: Sequence[int], spacing: float = 2**0.5, halfwidth: int = 2, device: str = "cpu"
) -> list[dict[str, Any]]:
    """The runs of an experiment, as cells for :func:`tenpapers.runs.sweep` over :func:`measure_steps`.

    For every optimiser, batch size, momentum and seed, ``2 * halfwidth + 1`` learning rates: the workload's middle
    times spacing^k, k = -halfwidth..halfwidth.

    Args:
        workload: A key of ``WORKLOADS``.
        seeds: One run for each.
        spacing: Ratio of neighbouring learning rates, above 1.
        halfwidth: Learning rates on each side of the middle.
        device: Where to train.

    Returns:
        Dicts of keywords for :func:`measure_steps`.
    """
    work = WORKLOADS[workload]
    return [
        {
            "workload": workload,
            "optimizer": optimizer,
            "batch_size": batch_size,
            "lr": _middle(work, optimizer, batch_size, momentum) * spacing**k,
            "momentum": momentum,
            "seed": seed,
            "device": device,
        }
        for optimizer in work.lr
        for batch_size in work.batch_sizes
        for momentum in MOMENTA[optimizer]
        for k in range(-halfwidth, halfwidth + 1)
        for seed in seeds
    ]


def _middle(work: Workload, optimizer: str, batch_size: int, momentum: float) -> float:
    a, q, cap = work.lr[optimizer]
    effective = min(a * batch_size**q, cap)
    return effective if optimizer == "Adam" else effective * (1 - momentum)


def tune(frame: pd.DataFrame) -> pd.DataFrame:
    """The best hyperparameters for each workload, optimiser and batch size, without and with averaging.

    The best have the smallest median of ``steps`` over seeds, where a run that did not reach the target counts as
    infinitely long; of equals, the smallest learning rate. With averaging (``average`` True) the decay is tuned too,
    and decay 0 is among the choices, so averaging never does worse.

    Args:
        frame: Rows of :func:`measure_steps` beside the cells of :func:`grid`, as ``sweep`` returns them. Rows with an
            ``error`` are left out.

    Returns:
        One row for each case: ``workload, optimizer, average, batch_size, lr, momentum, decay``; ``steps`` (median),
        ``low`` and ``high`` (over seeds), ``seeds`` (their number), and ``edge``: which of lr, momentum, decay is the
        smallest or largest that was tried and could have been exceeded, as text, empty where none is.
        A case that no hyperparameters solve has ``steps`` infinite.

    Raises:
        ValueError: where no run succeeded, with the first error.
    """
    runs = frame[frame["error"].isna()] if "error" in frame else frame
    if runs.empty:
        raise ValueError(f"no run to choose from: {'the frame is empty' if frame.empty else frame['error'].iloc[0]}")
    runs = runs.assign(steps=runs["steps"].fillna(np.inf))
    case, chosen = ["workload", "optimizer", "batch_size"], ["momentum", "lr", "decay"]
    summary = runs.groupby([*case, *chosen])["steps"].agg(steps="median", low="min", high="max", seeds="count")
    summary = summary.reset_index()
    rows = []
    for _, tried in summary.groupby(case, sort=False):
        for average in (False, True):
            choices = tried if average else tried[tried["decay"] == 0]
            best = choices.sort_values(["steps", "lr", "decay", "momentum"], kind="stable").iloc[0]
            rows.append(
                {
                    **best[case],
                    "average": average,
                    **best[chosen],
                    **best.drop([*case, *chosen]),
                    "edge": _edge(best, choices),
                }
            )
    return pd.DataFrame(rows).sort_values(["workload", "optimizer", "average", "batch_size"], ignore_index=True)


def _edge(best: pd.Series, tried: pd.DataFrame) -> str:
    """Which hyperparameters of the best lie at the end of what was tried.

    Below the smallest momentum or decay lies none at all, which is measured beside it: that end does not count.
    """
    at_momentum = tried[tried["momentum"] == best["momentum"]]
    ends = {"lr": (at_momentum["lr"].min(), at_momentum["lr"].max())}
    for name in ("momentum", "decay"):
        if tried[name].nunique() > 1:
            ends[name] = (None, tried[name].max())
    return ", ".join(name for name, (low, high) in ends.items() if best[name] in (low, high))

"""Does the noisy quadratic model predict real networks? Steps to a target, tuned for each optimiser and batch size.

``measure_steps`` trains one network once. ``tuned`` does so over a grid and several seeds and keeps the best settings,
``repeated`` runs such settings again from seeds that had no part in choosing them, ``best_rates`` looks for the best
learning rate of each seed alone. Paper: arXiv 1907.04164, section 4. Chapter: ``book/nqm.ipynb``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from nnlib import training
from nnlib.curvature import NonFiniteGradient, NotPositiveDefinite
from nnlib.modes import NonFiniteLoss
from nnlib.training import fit
from tenpapers.nqm.workloads import DECAYS, MOMENTA, OPTIMIZERS, data_of, workload_of

Row = dict[str, Any]
SPACING = 2**0.5  # ratio of neighbouring learning rates
PATIENCE = 4  # a run whose settings are given may take so many times as long as one of a search


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
    until: float = 0.0,
) -> list[Row]:
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
        until: The run ends when this one reaches the target: 0 for the raw iterate, or one of ``decays``.

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
    work = workload_of(workload)
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}: got {optimizer!r}")
    if not (lr > 0 and 0 <= momentum < 1):
        raise ValueError(f"lr must be positive and momentum in [0, 1): got lr={lr}, momentum={momentum}")
    if until not in (0.0, *decays):
        raise ValueError(f"until must be 0 or one of the decays {list(decays)}: got {until}")
    limit = work.max_steps(batch_size) if max_steps is None else max_steps
    model = work.model(seed=seed, dtype=work.dtype, device=training.device(str(device)))
    first: dict[float, int] = {}  # decay -> step

    def note(rows: list[Row]) -> bool:
        for row in rows:
            if row["loss"] <= work.target:
                first.setdefault(row["decay"], row["step"])
        return until in first

    diverged = False
    try:
        fit(
            model,
            data_of(workload),
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


def evaluation_steps(max_steps: int, resolution: float = 0.04) -> list[int]:
    """Steps 1, 2, 3, ... with gaps that grow to ``resolution`` times the step, up to ``max_steps``.

    >>> evaluation_steps(10, resolution=0.5)
    [1, 2, 3, 4, 6, 9, 10]
    """
    steps = [1]
    while steps[-1] < max_steps:
        steps.append(min(max_steps, max(steps[-1] + 1, int(steps[-1] * (1 + resolution)))))
    return steps


def tuned(workload: str, optimizer: str, batch_size: int, seeds: int = 3, device: str = "cpu") -> list[Row]:
    """The best settings of an optimiser at one batch size, without and with averaging, over a grid.

    Args:
        workload: A key of ``WORKLOADS``.
        optimizer: A key of ``OPTIMIZERS``.
        batch_size: As in :func:`measure_steps`.
        seeds: Number of runs of each setting, from seeds 0, 1, ...
        device: Where to train.

    Returns:
        Two rows, those of :func:`tune`.
    """
    frame = tune(_searched(workload, optimizer, batch_size, range(seeds), 2, device))
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def repeated(
    workload: str,
    optimizer: str,
    batch_size: int,
    lr: float,
    momentum: float,
    decay: float,
    seeds: Sequence[int],
    device: str = "cpu",
) -> list[Row]:
    """Steps to the target of given settings, one run a seed; each may take longer than a run of a search.

    Args:
        workload: A key of ``WORKLOADS``.
        optimizer: A key of ``OPTIMIZERS``.
        batch_size: As in :func:`measure_steps`.
        lr: As in :func:`measure_steps`.
        momentum: As in :func:`measure_steps`.
        decay: Of the average whose steps are asked for; 0 for the raw iterate.
        seeds: At best none of those that the settings were chosen by.
        device: Where to train.

    Returns:
        One row a seed: ``seed`` and ``steps`` (NaN where the target was not reached).
    """
    limit, decays = PATIENCE * workload_of(workload).max_steps(batch_size), [decay] if decay else []
    options = {"decays": decays, "max_steps": limit, "device": device, "until": decay}
    runs = [measure_steps(workload, optimizer, batch_size, lr, momentum, seed, **options) for seed in seeds]
    return [{"seed": seed, "steps": run[-1]["steps"]} for seed, run in zip(seeds, runs, strict=True)]


def best_rates(workload: str, batch_size: int, seeds: Sequence[int], device: str = "cpu") -> list[Row]:
    """SGD's best learning rate for each seed alone: how sure is the best learning rate?

    The grid is wider than that of :func:`tuned`, since the best of one run scatters more than that of a median.

    Args:
        workload: A key of ``WORKLOADS``.
        batch_size: As in :func:`measure_steps`.
        seeds: One search each.
        device: Where to train.

    Returns:
        One row a seed: ``seed``, ``lr``, ``steps``, and ``edge`` as in :func:`tune`.
    """
    frame = _searched(workload, "SGD", batch_size, seeds, 3, device, decays=())
    best = {seed: tune(part).iloc[0] for seed, part in frame.groupby("seed", sort=False)}
    return [{"seed": seed} | {name: row[name] for name in ("lr", "steps", "edge")} for seed, row in best.items()]


def settings(workload: str, optimizer: str, batch_size: int, halfwidth: int = 2) -> list[tuple[float, float]]:
    """What a search tries, as (lr, momentum): for each momentum the middle rate times SPACING^k, |k| <= halfwidth."""
    work = workload_of(workload)
    return [
        (work.middle(optimizer, batch_size, momentum) * SPACING**k, momentum)
        for momentum in MOMENTA[optimizer]
        for k in range(-halfwidth, halfwidth + 1)
    ]


def _searched(
    workload: str,
    optimizer: str,
    batch_size: int,
    seeds: Sequence[int],
    halfwidth: int,
    device: str,
    decays: Sequence[float] = DECAYS,
) -> pd.DataFrame:
    """All runs of a search: rows of :func:`measure_steps` with the settings and the seed of each."""
    case = {"workload": workload, "optimizer": optimizer, "batch_size": batch_size}
    return pd.DataFrame(
        case | {"lr": lr, "momentum": momentum, "seed": seed} | row
        for lr, momentum in settings(workload, optimizer, batch_size, halfwidth)
        for seed in seeds
        for row in measure_steps(**case, lr=lr, momentum=momentum, seed=seed, decays=decays, device=device)
    )


def tune(frame: pd.DataFrame) -> pd.DataFrame:
    """The best hyperparameters for each workload, optimiser and batch size, without and with averaging.

    The best have the smallest median of ``steps`` over seeds, where a run that did not reach the target counts as
    infinitely long; of equals, the smallest learning rate. With averaging (``average`` True) the decay is tuned too,
    and decay 0 is among the choices, so averaging never does worse.

    Args:
        frame: Rows of :func:`measure_steps`, each with its ``workload, optimizer, batch_size, lr, momentum, seed``.

    Returns:
        One row for each case: ``workload, optimizer, average, batch_size, lr, momentum, decay``; ``steps`` (median),
        ``low`` and ``high`` (over seeds), ``seeds`` (their number), and ``edge``: which of lr, momentum, decay is the
        smallest or largest that was tried and could have been exceeded, as text, empty where none is.
        A case that no hyperparameters solve has ``steps`` infinite.

    Raises:
        ValueError: for an empty frame.
    """
    if frame.empty:
        raise ValueError("no run to choose from: the frame is empty")
    runs = frame.assign(steps=frame["steps"].fillna(np.inf))
    case, chosen = ["workload", "optimizer", "batch_size"], ["momentum", "lr", "decay"]
    summary = runs.groupby([*case, *chosen])["steps"].agg(steps="median", low="min", high="max", seeds="count")
    summary = summary.reset_index()
    rows = []
    for _, tried in summary.groupby(case, sort=False):
        for average in (False, True):
            choices = tried if average else tried[tried["decay"] == 0]
            best = choices.sort_values(["steps", "lr", "decay", "momentum"], kind="stable").iloc[0]
            rows.append(best.to_dict() | {"average": average, "edge": _edge(best, choices)})
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

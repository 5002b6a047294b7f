"""What does a provable bound cost in accuracy, and what does it buy? One classifier, clean, attacked, certified.

Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.groupsort.networks import CONSTRAINTS, JacobianPenalty, LipschitzMLP, plain_mlp
from nnlib.lipschitz import Certificate, accuracies, certify, hinge_loss, project_every
from nnlib.training import Dataset, evaluate, fit
from tenpapers.data import load

UNCONSTRAINED = ("none", "dropout", "Jacobian penalty")


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
    **options,
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

    >>> from tenpapers.data import load
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
    where = {"dtype": dtype, "device": device}
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
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    fit(trained, data, optimizer, loss=loss, steps=steps, batch_size=batch_size, seed=seed, progress=False)
    return model.eval()


def classify(
    data: Dataset, *, radii: Sequence[float] = (), attacks: Sequence[float] = (), attack_steps: int = 40, **options
) -> dict[str, float]:
    """Train one classifier and measure it on the test split, in float64.

    Args:
        data: Images and labels.
        radii: Radii of certified accuracy.
        attacks: Those of them to attack too, by PGD in the same norm.
        attack_steps: Of PGD.
        options: For :func:`train_classifier`.

    Returns:
        ``clean``, ``train`` (accuracy on the training split), ``proven`` (the constant), ``residual``, ``radius``
        (mean), and for each radius ``certified e`` and ``attacked e``.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> from tenpapers.data import load
    >>> found = classify(load("digits"), hidden=(32,), epochs=2, radii=[0.1], attacks=[0.1], attack_steps=5)
    >>> found["clean"] >= found["attacked 0.1"] >= found["certified 0.1"]
    True
    """
    model = train_classifier(data, **options).double()
    data = data.to(next(model.parameters()).device, torch.float64)
    # The spectral norm's residual is its excess over the gain; whatever it is, the measured bound is what counts here.
    certificate = certify(model, data.test, max_residual=math.inf)
    row = {"clean": certificate.clean, "train": evaluate(model, data.train)["accuracy"], "proven": certificate.constant}
    row |= {"residual": certificate.residual, "radius": certificate.radius.mean().item()}
    row |= {f"certified {epsilon:g}": certificate.accuracy(epsilon) for epsilon in radii}
    if attacks:
        row |= _attacked(model, data.test, certificate, attacks, attack_steps)
    return row


def classify_run(dataset: str, **options) -> dict[str, float]:
    """:func:`classify` on a data set by name, as a sweep wants it.

    Args:
        dataset: "digits", "mnist" (the package's small file) or "mnist full" (from ``$NNLIB_DATA`` or fetched).
        options: For :func:`classify`.

    Chapter: book/groupsort.ipynb
    """
    return classify(_data(dataset), **options)


@lru_cache(maxsize=2)
def _data(dataset: str) -> Dataset:
    if dataset == "mnist full":
        return load("mnist", download=True)
    return load(dataset, **({"vendored": True} if dataset == "mnist" else {}))


def _attacked(model, split, certificate: Certificate, attacks: Sequence[float], steps: int) -> dict[str, float]:
    frame = pd.DataFrame(accuracies(model, split, certificate, attacks, steps=steps))
    return {f"attacked {row.epsilon:g}": row.attacked for row in frame.itertuples()}

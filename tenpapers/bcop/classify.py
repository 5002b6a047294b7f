"""Which convolution certifies the most? One network, one method, one seed: clean, attacked and certified accuracy.

Paper: arXiv 1911.00937, section 6 and tables 1 and 2. Chapter: book/bcop.ipynb.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch

from nnlib.bcop.networks import LipschitzCNN
from nnlib.lipschitz import accuracies, certify, hinge_loss, layer_bounds, project_, project_every
from nnlib.training import Dataset, Split, fit
from tenpapers.data import load


def train_classifier(
    data: Dataset,
    method: str = "BCOP",
    *,
    architecture: str = "small",
    activation: str = "MaxMin",
    width: float = 1.0,
    epsilon: float = 0.5,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    project: int = 100,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LipschitzCNN:
    """Train a classifier with the multi-class hinge loss, whose margin is sqrt(2) epsilon.

    Args:
        data: Images and labels.
        method: A key of ``METHODS``.
        architecture: A key of ``ARCHITECTURES``.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        width: Multiplies the hidden layers' widths.
        epsilon: The radius that the margin asks for.
        epochs: Passes over the training split; give this or ``steps``.
        steps: Number of steps.
        batch_size: Of Adam.
        lr: Of Adam; it falls to a tenth, exponentially, by the end (in the paper every 60 of 200 epochs).
        project: Steps between two projections of SVCM.
        seed: Of weights and batches.
        dtype: Of the training.
        device: Where to train.

    Returns:
        The network, in evaluation mode.

    Source: arXiv 1911.00937, appendix. Chapter: book/bcop.ipynb

    >>> from tenpapers.data import load
    >>> model = train_classifier(load("digits"), architecture="mini", steps=3)
    >>> model.training
    False
    """
    classes, shape = len(data.info["classes"]), tuple(data.info["shape"])
    placed = {"seed": seed, "dtype": dtype, "device": device}
    model = LipschitzCNN(shape, classes, architecture, method, activation=activation, width=width, **placed)
    if steps is None:
        steps = (epochs or 0) * (len(data.train.y) // batch_size)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 10 ** (-step / max(1, steps)))
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    project_every(optimizer, model, project)
    loss = hinge_loss(math.sqrt(2) * epsilon)
    fit(
        model, data, optimizer, loss=loss, steps=steps, batch_size=batch_size, seed=seed, evaluate_at=(), progress=False
    )
    project_(model)
    return model.eval()


def measure(
    model: LipschitzCNN, split: Split, epsilons: Sequence[float], *, attacked: int = 200, attack_steps: int = 40
) -> dict[str, float]:
    """Clean and certified accuracy on a split, attacked accuracy on its first points, in float64.

    The constant is the product of the layers' measured norms: a layer that broke its constraint lowers its own radii.

    Args:
        model: A trained classifier; it is cast to float64.
        split: Points and labels.
        epsilons: Radii in the 2-norm.
        attacked: How many of the points to attack; clean, attacked and certified accuracy are also given on these.
        attack_steps: Of PGD.

    Returns:
        ``clean, radius`` (mean certified radius), ``constant, certified e`` on all points, and on the attacked ones
        ``few clean e, few attacked e, few certified e``.

    Raises:
        CertificateBroken: where an attack succeeds on a certified point.

    Chapter: book/bcop.ipynb
    """
    model = model.double().eval()
    parameter = next(model.parameters())
    x, y = split.x.to(parameter), split.y.to(parameter.device)
    certificate = certify(model, (x, y), max_residual=math.inf)
    row = {"clean": certificate.clean, "radius": certificate.radius.mean().item(), "constant": certificate.constant}
    row |= {f"certified {e:g}": certificate.accuracy(e) for e in epsilons}
    if attacked:
        few = Split(x[:attacked], y[:attacked])
        of_few = replace(certificate, radius=certificate.radius[:attacked], correct=certificate.correct[:attacked])
        frame = pd.DataFrame(accuracies(model, few, of_few, epsilons, steps=attack_steps))
        for found in frame.itertuples():
            for name in ("clean", "attacked", "certified"):
                row[f"few {name} {found.epsilon:g}"] = getattr(found, name)
    return row


def run(
    data: str,
    method: str,
    seed: int,
    *,
    epsilons: Sequence[float] = (0.25, 0.5),
    attacked: int = 200,
    attack_steps: int = 40,
    dtype: str = "float32",
    **options,
) -> dict[str, float]:
    """Train one classifier and measure it on the test split: a cell of the table, for a sweep.

    Args:
        data: Name of a data set.
        method: A key of ``METHODS``.
        seed: Of weights and batches.
        epsilons: As for :func:`measure`; so are ``attacked`` and ``attack_steps``.
        attacked: Points to attack.
        attack_steps: Of PGD.
        dtype: "float32" or "float64".
        options: For :func:`train_classifier`.

    Returns:
        As :func:`measure`, and ``worst`` (largest norm of a layer).

    Source: arXiv 1911.00937, table 1. Chapter: book/bcop.ipynb

    >>> found = run("digits", "BCOP", 0, architecture="mini", steps=20, attacked=20, attack_steps=5)
    >>> found["clean"] >= found["certified 0.25"] >= found["certified 0.5"]
    True
    """
    loaded = load(data)
    model = train_classifier(loaded, method, seed=seed, dtype=getattr(torch, dtype), **options)
    row = measure(model, loaded.test, epsilons, attacked=attacked, attack_steps=attack_steps)
    return row | {"worst": max(layer.bound for layer in layer_bounds(model))}

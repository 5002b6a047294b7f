"""What does one run measure? A classifier's accuracies, a critic's bound, what is left of a gradient.

``classifier`` trains and certifies, ``critic`` bounds a Wasserstein distance, ``attenuation`` and ``gradient_norms``
send gradients back through a stack of layers.
Paper: Li et al., arXiv 1911.00937, sections 1, 3 and 6. Chapter: book/bcop.ipynb.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nnlib import training
from nnlib.bcop import LipschitzCNN, conv_layer
from nnlib.descent import descend
from nnlib.lipschitz import (
    accuracies,
    certify,
    dual_value,
    exact_distance,
    layer_bounds,
    lipschitz_constant,
    project_,
    project_every,
)
from nnlib.lipschitz import activation as make_activation
from nnlib.modes import NonFiniteLoss, evaluating
from nnlib.training import Split
from tenpapers.bcop.workloads import ONE_START, gaussian_images, images, to_a_tenth, train_classifier


def classifier(
    data: str,
    net: str,
    method: str,
    seed: int,
    *,
    radii: Sequence[float],
    attacked: int = 200,
    attack_steps: int = 40,
    dtype: str = "float32",
    device: str = "cpu",
    full: bool = False,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train one classifier and measure it on the test split.

    Args:
        data: Name of a data set.
        net: A key of ``ARCHITECTURES``, and behind it the activation where it is not MaxMin: "mini ReLU".
        method: A key of ``METHODS``.
        seed: Of weights and batches.
        radii: As for :func:`certified`; so are ``attacked`` and ``attack_steps``.
        attacked: Points to attack.
        attack_steps: Of PGD.
        dtype: "float32" or "float64", of the training.
        device: Where to train.
        full: All of the data set.
        options: For :func:`tenpapers.bcop.workloads.train_classifier`.

    Returns:
        The rows of :func:`certified`, and in each ``worst``, the largest norm of a layer.

    Source: arXiv 1911.00937, table 1. Chapter: book/bcop.ipynb

    >>> (row,) = classifier("digits", "mini", "BCOP", 0, radii=[0.25], steps=20, attacked=20, attack_steps=5)
    >>> row["clean"] >= row["certified"]
    True
    """
    loaded = images(data, full)
    architecture, _, activation = net.partition(" ")
    options |= {"architecture": architecture, "activation": activation or "MaxMin", "seed": seed}
    where = training.device(device)
    model = train_classifier(loaded, method, dtype=getattr(torch, dtype), device=where, **options)
    rows = certified(model, loaded.test, radii, attacked=attacked, attack_steps=attack_steps)
    worst = max(layer.bound for layer in layer_bounds(model))
    return [row | {"worst": worst} for row in rows]


def certified(
    model: LipschitzCNN, split: Split, radii: Sequence[float], *, attacked: int = 200, attack_steps: int = 40
) -> list[dict[str, Any]]:
    """Clean and certified accuracy on a split, attacked accuracy on its first points, in float64.

    The constant is the product of the layers' measured norms: a layer that broke its constraint lowers its own radii.

    Args:
        model: A trained classifier; it is cast to float64.
        split: Points and labels.
        radii: In the 2-norm.
        attacked: How many of the points to attack; clean, attacked and certified accuracy are also given on these.
        attack_steps: Of PGD.

    Returns:
        One row a radius: ``epsilon, clean, certified, radius`` (mean certified radius), ``constant`` on all points, and
        on the attacked ones ``clean_few, attacked_few, certified_few``.

    Raises:
        CertificateBroken: where an attack succeeds on a certified point.

    Chapter: book/bcop.ipynb
    """
    model.double().eval()
    parameter = next(model.parameters())
    x, y = split.x.to(parameter), split.y.to(parameter.device)
    certificate = certify(model, (x, y), max_residual=math.inf)
    whole = {"clean": certificate.clean, "radius": certificate.radius.mean().item(), "constant": certificate.constant}
    of_few = replace(certificate, radius=certificate.radius[:attacked], correct=certificate.correct[:attacked])
    attack: dict[str, Any] = {"steps": attack_steps, "step_size": 2.5 / attack_steps} | ONE_START
    few = accuracies(model, Split(x[:attacked], y[:attacked]), of_few, radii, **attack)
    return [
        {"epsilon": epsilon, "certified": certificate.accuracy(epsilon), **whole}
        | {f"{name}_few": found[name] for name in ("clean", "attacked", "certified")}
        for epsilon, found in zip(radii, few, strict=True)
    ]


def critic(
    data: str,
    method: str,
    seed: int,
    *,
    activation: str = "MaxMin",
    architecture: str = "mini critic",
    width: float = 1.0,
    upsample: int = 1,
    n: int = 256,
    batch_size: int = 64,
    steps: int = 200,
    lr: float = 1e-3,
    project: int = 100,
    dtype: str = "float32",
    device: str = "cpu",
    full: bool = False,
) -> dict[str, float | None]:
    """How far are generated images from real ones? One critic's bound on W_1, beside the exact value.

        W_1(P, Q) = sup over 1-Lipschitz f of E_P f - E_Q f        (Kantorovich and Rubinstein)

    P are n images of :func:`tenpapers.bcop.workloads.gaussian_images`, Q as many real ones. A critic that is not
    1-Lipschitz bounds nothing, however large its estimate.

    Args:
        data: Name of a data set.
        method: A key of ``METHODS``.
        seed: Of weights and batches; the images are the same for all seeds.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        architecture: A key of ``ARCHITECTURES``.
        width: As for :class:`nnlib.bcop.LipschitzCNN`.
        upsample: As for :class:`nnlib.bcop.LipschitzCNN`. The estimate is then that of the larger images; the exact
            distance is too, ``upsample`` times that of the images as they are.
        n: Images of each kind.
        batch_size: Of each kind in a step.
        steps: Of RMSprop, with a learning rate that falls to a tenth.
        lr: At the start.
        project: Steps between two projections of SVCM.
        dtype: "float32" or "float64".
        device: Where to train.
        full: All of the data set.

    Returns:
        ``estimate`` on all n images; ``constant``, the product of the critic's measured norms on these images;
        ``bound`` = estimate / constant, which is a lower bound whatever the constraint did; ``exact``. A run whose
        estimate is no longer finite ends there, with None for all but ``exact``.

    Source: arXiv 1911.00937, section 6 and appendix. Chapter: book/bcop.ipynb

    >>> found = critic("digits", "BCOP", 0, n=32, batch_size=32, steps=5)
    >>> found["bound"] <= found["exact"]
    True
    """
    loaded, where = images(data, full), training.device(device)
    channels, height, wide = loaded.info["shape"]
    placed = {"dtype": getattr(torch, dtype), "device": where}
    q = loaded.train.x[:n].to(**placed)
    p = gaussian_images(loaded.train.x, n).to(**placed)
    exact = upsample * exact_distance(p, q)
    options = {"activation": activation, "width": width, "upsample": upsample, "seed": seed}
    f = LipschitzCNN((channels, height, wide), 1, architecture, method, **options, **placed)
    optimizer = torch.optim.RMSprop([w for w in f.parameters() if w.requires_grad], lr=lr)
    project_every(optimizer, f, project)
    generator = torch.Generator("cpu").manual_seed(seed)

    def draw() -> Tensor:
        return torch.randperm(n, generator=generator, device="cpu")[:batch_size].to(where)

    f.train()
    try:
        descend(lambda: -dual_value(f, p[draw()], q[draw()]), optimizer, steps, schedule=to_a_tenth(optimizer, steps))
    except NonFiniteLoss:
        return {"estimate": None, "constant": None, "bound": None, "exact": exact}
    project_(f)
    with evaluating(f), torch.no_grad():
        value = dual_value(f, p, q).item()
        # The images as they are go in; Upsample multiplies the constant, and the exact distance has that factor too.
        constant = lipschitz_constant(f) / upsample
    return {"estimate": value, "constant": constant, "bound": value / constant, "exact": exact}


def attenuation(method: str, seed: int, *, depth: int = 20, channels: int = 6, size: int = 6) -> dict[str, float]:
    """By which factor the norm of a gradient changes in a layer: the geometric mean over layers and gradients.

    Args:
        method: A key of ``METHODS``.
        seed: As for :func:`gradient_norms`; so are depth, channels and size.
        depth: Convolutions.
        channels: Of every layer.
        size: Of the images.

    Returns:
        ``factor``.

    >>> round(attenuation("BCOP", 0, depth=2)["factor"], 9)
    1.0
    """
    left = gradient_norms(method, depth=depth, channels=channels, size=size, seed=seed)[:, -1]
    return {"factor": (left.log().mean() / depth).exp().item()}


def gradient_norms(
    method: str,
    *,
    depth: int = 30,
    channels: int = 8,
    size: int = 8,
    kernel_size: int = 3,
    activation: str = "MaxMin",
    vectors: int = 20,
    seed: int = 0,
) -> Tensor:
    """Norms of unit gradients that travel back through a stack of convolutions at the start of training, float64.

    Args:
        method: A key of ``METHODS``.
        depth: Convolutions, each followed by an activation.
        channels: Of every layer.
        size: Of the images.
        kernel_size: Of every layer.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        vectors: Random inputs, and random gradients of their outputs.
        seed: Of weights, inputs and gradients.

    Returns:
        Shape (vectors, depth + 1): 1 at the output, then after each layer on the way back.

    Source: arXiv 1911.00937, section 3. Chapter: book/bcop.ipynb

    >>> gradient_norms("BCOP", depth=3, vectors=2).round(decimals=6).tolist()
    [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    options = {"size": size, "dtype": torch.float64, "device": "cpu"}
    layers = [
        nn.Sequential(
            conv_layer(method, channels, channels, kernel_size, seed=1000 * seed + i, **options),
            make_activation(activation),
        )
        for i in range(depth)
    ]
    generator = torch.Generator("cpu").manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
    states = [torch.randn(vectors, channels, size, size, **draw).requires_grad_()]
    with torch.enable_grad():
        for layer in layers:
            states.append(layer.eval()(states[-1]))
        start = nn.functional.normalize(torch.randn(states[-1].flatten(1).shape, **draw), dim=1).view_as(states[-1])
        gradients = torch.autograd.grad(states[-1], states[:-1], start)
    norms = [start, *reversed(gradients)]
    return torch.stack([g.flatten(1).norm(dim=1) for g in norms], 1)

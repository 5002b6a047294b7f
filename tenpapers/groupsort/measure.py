"""What one run of the chapter is, and what it measures: spectra, critics beside exact distances, certified classifiers.

``*_run`` are the rows of the tables in ``runs.py``.
Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.groupsort import LipschitzMLP, SpectralLinear, train_critic, undead_share
from nnlib.lipschitz import (
    OrthogonalLinear,
    accuracies,
    activations,
    certify,
    dense_norm,
    dual_value,
    exact_distance,
    jacobians,
    lipschitz_constant,
)
from nnlib.training import Dataset, evaluate
from nnlib.training import device as device_of
from tenpapers.data import remember
from tenpapers.groupsort.gan import generator_network, latent, train_gan
from tenpapers.groupsort.workloads import (
    ONE_START,
    Cones,
    absolute_value_critic,
    images,
    three_points,
    train_classifier,
)

WEIGHTS = ("orthogonal", "spectral norm")
ROBUST = ("certified 0.3", "certified 1.58", "attacked 1.58", "certified 0.05", "certified 0.1", "attacked 0.1")


def jacobian_spectrum(
    activation: str, depth: int, width: int = 64, weights: str = "orthogonal", *, seed: int = 0
) -> Tensor:
    """Singular values of the Jacobian of a random network without biases, at one random input.

    Args:
        activation: A name for :func:`nnlib.lipschitz.activation`, with as many outputs as inputs.
        depth: Number of square matrices, with the activation between each two.
        width: Number of features.
        weights: "orthogonal", or "spectral norm" (Gaussian matrices, divided by their largest singular value).
        seed: Of weights and input.

    Returns:
        Shape (width), descending, float64.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> values = jacobian_spectrum("MaxMin", depth=10)
    >>> bool(torch.allclose(values, torch.ones(64, dtype=torch.float64)))
    True
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}: got {weights!r}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1: got {depth}")
    generator = torch.Generator("cpu").manual_seed(seed)
    options: dict[str, Any] = {"bias": False, "dtype": torch.float64, "device": "cpu"}
    layers: list[nn.Module] = []
    for index in range(depth):
        if weights == "orthogonal":
            layer = OrthogonalLinear(width, width, seed=1000 * seed + index, **options)
        else:
            layer = SpectralLinear(width, width, seed=1000 * seed + index, **options)
            with torch.no_grad():
                layer.raw.normal_(generator=generator)
                layer.raw.div_(dense_norm(layer.raw))
            layer.settle_()
        layers += [layer, activations.activation(activation)]
    x = torch.randn(1, width, generator=generator, dtype=torch.float64, device="cpu")
    return torch.linalg.svdvals(jacobians(nn.Sequential(*layers[:-1]).eval(), x)[0])


def spectrum_run(activation: str, weights: str, depth: int = 10, width: int = 64, seed: int = 0) -> dict[str, float]:
    """The mean, the largest and the smallest of :func:`jacobian_spectrum`.

    Args:
        activation: As there.
        weights: As there.
        depth: As there.
        width: As there.
        seed: As there.
    """
    values = jacobian_spectrum(activation, depth, width, weights, seed=seed)
    return {"mean": values.mean().item(), "largest": values[0].item(), "smallest": values[-1].item()}


def absolute_value_run(
    activation: str, hidden: int = 1, *, dtype: str = "float32", device: str = "cpu", **options: Any
) -> dict[str, float]:
    """The estimate of the trained :func:`tenpapers.groupsort.workloads.absolute_value_critic`, out of 1.

    Args:
        activation: As there.
        hidden: As there.
        dtype: "float32" or "float64".
        device: Where to train.
        options: As there.

    Returns:
        ``estimate``.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> round(absolute_value_run("MaxMin", width=4)["estimate"], 2)
    1.0
    """
    where: dict[str, Any] = {"dtype": getattr(torch, dtype), "device": device_of(device)}
    critic = absolute_value_critic(activation, hidden, **where, **options)
    with torch.no_grad():
        return {"estimate": dual_value(critic, *three_points(critic)).item()}


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
    dtype: str = "float32",
    device: str = "cpu",
) -> dict[str, float]:
    """Train one critic on ``Cones`` and measure it on fresh points, beside the exact distance of the same points.

    Args:
        dim: Dimension.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        centres: As for :class:`tenpapers.groupsort.workloads.Cones`.
        width: Units of a hidden layer.
        hidden: Number of hidden layers.
        constraint: A key of ``nnlib.groupsort.CONSTRAINTS``.
        steps: As for :func:`nnlib.groupsort.train_critic`.
        batch_size: Likewise.
        lr: Likewise.
        seed: Of weights and batches.
        n_test: Points of the final measurement, a multiple of the number of centres.
        dtype: "float32" or "float64".
        device: Where to train.

    Returns:
        ``estimate, exact, constant``: the critic's value, the assignment's, and the critic's proven constant.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> found = cone_run(1, "MaxMin", width=8, hidden=1, steps=100)
    >>> found["estimate"] <= found["exact"] * found["constant"] + 1e-6
    True
    """
    where: dict[str, Any] = {"dtype": getattr(torch, dtype), "device": device_of(device)}
    critic = LipschitzMLP([dim, *[width] * hidden, 1], activation, constraint, seed=seed, **where)
    sample = Cones(dim, tuple(centres), where["dtype"])
    train_critic(critic, sample, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    drawn = sample(n_test, torch.Generator("cpu").manual_seed(10_000 + seed))
    p, q = (points.to(where["device"]) for points in drawn)
    with torch.no_grad():
        estimate = dual_value(critic, p, q).item()
    return {"estimate": estimate, "exact": exact_distance(p, q), "constant": lipschitz_constant(critic)}


def gan_distance(
    x: Tensor,
    generator: nn.Module,
    activation: str,
    *,
    hidden: Sequence[int] = (720, 720),
    steps: int = 512 * 32,
    batch_size: int = 64,
    lr: float = 1e-3,
    n_test: int = 512,
    seed: int = 0,
    make: Callable[..., nn.Module] = LipschitzMLP,
) -> dict[str, float]:
    """A critic's bound on the distance between data and a generator, beside the exact one of the same images.

    Args:
        x: Images, shape (n, channels, size, size); the last ``n_test`` are kept for the measurement.
        generator: From :func:`tenpapers.groupsort.gan.train_gan`.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        hidden: Units of the critic's hidden layers; 720 as in the paper.
        steps: Of the critic.
        batch_size: Of the critic.
        lr: Of the critic.
        n_test: Images to measure on.
        seed: Of the critic and the batches.
        make: ``make(sizes, activation, seed=..., dtype=..., device=...)`` builds the critic.

    Returns:
        ``estimate``, ``exact``, ``constant``, and ``trained``: the estimate on the last training batches.

    Source: arXiv 1811.05381, section 5 (GAN distance). Chapter: book/groupsort.ipynb
    """
    train, test = x[:-n_test], x[-n_test:]

    def sample(n: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(train), (n,), generator=source, device="cpu").to(x.device)
        with torch.no_grad():
            return train[chosen], generator(latent(n, source).to(x))

    where = {"dtype": x.dtype, "device": x.device}
    critic = make([x[0].numel(), *hidden, 1], activation, seed=seed, **where)
    history = train_critic(critic, sample, steps=steps, batch_size=batch_size, lr=lr, seed=seed, clip=0.1)
    fake = _generated(generator, n_test, seed, x)
    with torch.no_grad():
        estimate = dual_value(critic, test, fake).item()
    last = [row["estimate"] for row in history[-max(1, steps // 20) :]]
    found = {"estimate": estimate, "exact": exact_distance(test, fake), "constant": lipschitz_constant(critic)}
    return found | {"trained": sum(last) / len(last)}


def gan_run(
    dataset: str,
    activation: str,
    *,
    gan_steps: int,
    n_images: int | None = 1400,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    **options: Any,
) -> dict[str, float]:
    """:func:`gan_distance` between a data set and a WGAN that is trained on it.

    Args:
        dataset: As for :func:`tenpapers.groupsort.workloads.images`.
        activation: Of the critic.
        gan_steps: Of the generator.
        n_images: How many images of the training split to use; None: all.
        seed: Of everything.
        dtype: "float32" or "float64".
        device: Where to train.
        options: For :func:`gan_distance`.

    Chapter: book/groupsort.ipynb
    """
    x = images(dataset).to(device_of(device), getattr(torch, dtype)).train.x[:n_images]
    return gan_distance(
        x, _generator(dataset, gan_steps, n_images, seed, dtype, device), activation, seed=seed, **options
    )


@remember(maxsize=2)
def _generator(dataset: str, steps: int, n_images: int | None, seed: int, dtype: str, device: str) -> nn.Module:
    x = images(dataset).to(device_of(device), getattr(torch, dtype)).train.x[:n_images]
    return train_gan(x, steps=steps, seed=seed)


def lwgan_run(
    dataset: str,
    critic: str,
    gan_steps: int,
    *,
    n_images: int | None = 1400,
    n_test: int = 300,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    **options: Any,
) -> dict[str, float]:
    """Does a generator come closer to its data? Exact distances to images that were kept out, before and after.

    Args:
        dataset: As for :func:`tenpapers.groupsort.workloads.images`.
        critic: "Lipschitz", or "clipped".
        gan_steps: Of the generator.
        n_images: How many images of the training split to use; None: all.
        n_test: The last of them, which are kept for the measurement.
        seed: Of everything.
        dtype: "float32" or "float64".
        device: Where to train.
        options: For :func:`tenpapers.groupsort.gan.train_gan`.

    Returns:
        ``before`` and ``after`` training.

    Source: arXiv 1811.05381, section 5 (LWGAN). Chapter: book/groupsort.ipynb
    """
    x = images(dataset).to(device_of(device), getattr(torch, dtype)).train.x[:n_images]
    train, test = x[:-n_test], x[-n_test:]
    start = generator_network(x.shape[1], x.shape[2], seed=seed, dtype=x.dtype, device=x.device)
    trained = train_gan(train, lipschitz=critic == "Lipschitz", steps=gan_steps, seed=seed, **options)
    before, after = (exact_distance(test, _generated(made.eval(), n_test, seed, x)) for made in (start, trained))
    return {"before": before, "after": after}


def _generated(generator: nn.Module, n: int, seed: int, like: Tensor) -> Tensor:
    with torch.no_grad():
        return generator(latent(n, torch.Generator("cpu").manual_seed(10_000 + seed)).to(like))


def classify(
    data: Dataset, *, radii: Sequence[float] = (), attacks: Sequence[float] = (), attack_steps: int = 40, **options: Any
) -> dict[str, float]:
    """Train one classifier and measure it on the test split, in float64.

    Args:
        data: Images and labels.
        radii: Radii of certified accuracy.
        attacks: Those of them to attack too, by PGD in the same norm.
        attack_steps: Of PGD.
        options: For :func:`tenpapers.groupsort.workloads.train_classifier`.

    Returns:
        ``clean``, ``train`` (accuracy on the training split), ``proven`` (the constant), ``residual``, ``radius``
        (mean), and for each radius ``certified e`` and ``attacked e``.

    Raises:
        CertificateBroken: where an attack succeeds within a certified radius.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> found = classify(images("digits"), hidden=(32,), epochs=2, radii=[0.1], attacks=[0.1], attack_steps=5)
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
    attack: dict[str, Any] = {"steps": attack_steps, "step_size": 2.5 / attack_steps} | ONE_START
    for found in accuracies(model, data.test, certificate, attacks, **attack):
        row[f"attacked {found['epsilon']:g}"] = found["attacked"]
    return row


def classify_run(
    dataset: str,
    *,
    constant: float | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    **options: Any,
) -> dict[str, Any]:
    """:func:`classify` on a data set by name.

    Args:
        dataset: As for :func:`tenpapers.groupsort.workloads.images`.
        constant: K; by default that of :func:`classify`.
        dtype: "float32" or "float64", of the training.
        device: Where to train.
        options: For :func:`classify`.

    Chapter: book/groupsort.ipynb
    """
    where: dict[str, Any] = {"dtype": getattr(torch, dtype), "device": device_of(device)}
    given = {} if constant is None else {"constant": constant}
    return {"constant": constant} | classify(images(dataset), **where, **given, **options)


def robust_run(dataset: str, **options: Any) -> dict[str, Any]:
    """:func:`classify_run` for a table of two norms, which has the radii of both: None are those that were not asked.

    Args:
        dataset: As for :func:`classify_run`.
        options: Likewise.

    Chapter: book/groupsort.ipynb
    """
    return dict.fromkeys(ROBUST) | classify_run(dataset, **options)


def undead_run(
    dataset: str,
    constraint: str,
    *,
    level: float = 0.95,
    constant: float | None = None,
    dtype: str = "float64",
    device: str = "cpu",
    **options: Any,
) -> dict[str, float | None]:
    """The share of a trained ReLU classifier's units that are on for nearly all test images.

    Args:
        dataset: As for :func:`tenpapers.groupsort.workloads.images`.
        constraint: As for :func:`tenpapers.groupsort.workloads.train_classifier`.
        level: What share of the images is nearly all.
        constant: K; None for a free network.
        dtype: "float32" or "float64".
        device: Where to train.
        options: For :func:`tenpapers.groupsort.workloads.train_classifier`.

    Returns:
        ``undead``, ``clean`` (test accuracy) and ``constant``.

    Source: arXiv 1811.05381, section 5 (undead units). Chapter: book/groupsort.ipynb
    """
    where: dict[str, Any] = {"dtype": getattr(torch, dtype), "device": device_of(device)}
    given = {} if constant is None else {"constant": constant}
    data = images(dataset).to(where["device"], where["dtype"])
    model = train_classifier(data, "ReLU", constraint, **where, **given, **options)
    share = undead_share(model, data.test.x, torch.tensor([level]).to(data.test.x))
    return {"undead": share.item(), "clean": evaluate(model, data.test)["accuracy"], "constant": constant}

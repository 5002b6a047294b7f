"""How far is a generator from its data, and can the critic that measures it also train it? WGAN, LWGAN, GAN distance.

Paper: arXiv 1811.05381, section 5. Images have values in [0, 1] here: in [-1, 1] all distances double.
Chapter: book/groupsort.ipynb, profile "paper" (small ones run everywhere).
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from nnlib.groupsort.networks import LipschitzMLP
from nnlib.groupsort.wasserstein import train_critic
from nnlib.lipschitz import (
    Constrained,
    MaxMin,
    OrthogonalLinear,
    bjorck,
    dual_value,
    exact_distance,
    lipschitz_constant,
    orthogonal_matrix,
    residual,
)
from nnlib.lipschitz.layers import parameter
from nnlib.models import normal_
from tenpapers.data import load

LATENT = 62


class ReshapedConv(Constrained):
    """A convolution whose reshaped kernel (c_out, c_in k²) is orthonormal, divided by ceil(k / stride).

    Cutting an image into overlapping patches repeats each pixel up to ceil(k / stride)² times; without that division
    the layer is not 1-Lipschitz, as the published critic's is not. It is a bound and no isometry: see book/bcop.ipynb.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: k.
        stride: Of the patches; padding is (k - stride) / 2 zeros at each side.
        seed: Of the weights.
        device: Of the parameters.
        dtype: Of the parameters.

    Source: arXiv 1811.05381, section 4 and its code. Chapter: book/groupsort.ipynb

    >>> bound, residual = ReshapedConv(1, 4, 4, 2).lipschitz_bound()
    >>> abs(bound - 1) < 1e-5, residual < 1e-5
    (True, True)
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int, *, seed=0, device=None, dtype=None):
        super().__init__()
        self.stride, self.overlap = stride, math.ceil(kernel_size / stride)
        self.padding = (kernel_size - stride) // 2
        start = orthogonal_matrix(c_out, c_in * kernel_size**2, seed).view(c_out, c_in, kernel_size, kernel_size)
        self.raw = parameter(start, device, dtype)
        self.bias = parameter(torch.zeros(c_out, device="cpu"), device, dtype)

    def compute_weight(self) -> Tensor:
        return bjorck(self.raw.flatten(1)).view_as(self.raw) / self.overlap  # (c_out, c_in, k, k)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride, self.padding)

    def lipschitz_bound(self) -> tuple[float, float]:
        """sqrt(1 + residual), since cutting into patches costs no more than the division gives; the residual."""
        away = residual(self.weight.detach().flatten(1) * self.overlap).item()
        return math.sqrt(1 + away), away


def generator_network(channels: int, size: int, *, seed: int = 0, **where) -> nn.Sequential:
    """From z, shape (n, 62), to images (n, channels, size, size) in [0, 1]: two dense, two transposed convolutions.

    Args:
        channels: Of the images.
        size: A multiple of 4.
        seed: Weights are drawn from N(0, 0.02²).
        where: ``device`` and ``dtype``.

    Source: arXiv 1811.05381, appendix (InfoGAN's generator). Chapter: book/groupsort.ipynb

    >>> generator_network(1, 8)(torch.zeros(2, 62)).shape
    torch.Size([2, 1, 8, 8])
    """
    if size % 4:
        raise ValueError(f"size must be a multiple of 4: got {size}")
    side = size // 4
    layers = nn.Sequential(
        nn.Linear(LATENT, 1024, **where),
        nn.BatchNorm1d(1024, **where),
        nn.ReLU(),
        nn.Linear(1024, 128 * side**2, **where),
        nn.BatchNorm1d(128 * side**2, **where),
        nn.ReLU(),
        nn.Unflatten(1, (128, side, side)),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, **where),
        nn.BatchNorm2d(64, **where),
        nn.ReLU(),
        nn.ConvTranspose2d(64, channels, 4, 2, 1, **where),
        nn.Sigmoid(),  # tanh on [-1, 1], moved to [0, 1]
    )
    return normal_(layers, 0.02, seed)


def clipped_critic(channels: int, size: int, *, seed: int = 0, **where) -> nn.Sequential:
    """The critic of a WGAN, to be clipped: two convolutions and two dense layers with leaky ReLU.

    Source: arXiv 1701.07875; arXiv 1811.05381, appendix. Chapter: book/groupsort.ipynb
    """
    layers = nn.Sequential(
        nn.Conv2d(channels, 64, 4, 2, 1, **where),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1, **where),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(128 * (size // 4) ** 2, 1024, **where),
        nn.LeakyReLU(0.2),
        nn.Linear(1024, 1, **where),
    )
    return normal_(layers, 0.02, seed)


def lipschitz_critic(channels: int, size: int, *, seed: int = 0, **where) -> nn.Sequential:
    """The critic of the LWGAN: the same shape, constrained layers and MaxMin; it needs no clipping.

    Source: arXiv 1811.05381, section 5 (LWGAN). Chapter: book/groupsort.ipynb

    >>> round(lipschitz_constant(lipschitz_critic(1, 8)), 1)
    1.0
    """
    return nn.Sequential(
        ReshapedConv(channels, 64, 4, 2, seed=seed, **where),
        MaxMin(),
        ReshapedConv(64, 128, 4, 2, seed=seed + 1, **where),
        MaxMin(),
        nn.Flatten(),
        OrthogonalLinear(128 * (size // 4) ** 2, 1024, seed=seed + 2, **where),
        MaxMin(),
        OrthogonalLinear(1024, 1, seed=seed + 3, **where),
    )


def train_gan(
    images: Tensor,
    *,
    lipschitz: bool = False,
    steps: int = 500,
    batch_size: int = 64,
    n_critic: int = 5,
    clip: float = 0.01,
    lr: tuple[float, float] | None = None,
    seed: int = 0,
) -> nn.Module:
    """Train a generator against a clipped critic (WGAN) or a Lipschitz one (LWGAN).

    Args:
        images: Shape (n, channels, size, size), in [0, 1].
        lipschitz: Which critic.
        steps: Of the generator.
        batch_size: Of both.
        n_critic: Steps of the critic for each of the generator's.
        clip: Largest weight of the clipped critic.
        lr: Of generator and critic; by default (2e-4, 2e-4), for the LWGAN (2e-4, 2e-3). Adam with betas (0.5, 0.999).
        seed: Of weights, batches and z.

    Returns:
        The generator, in evaluation mode.

    Source: arXiv 1811.05381, section 5 and its code. Chapter: book/groupsort.ipynb
    """
    where = {"device": images.device, "dtype": images.dtype}
    channels, size = images.shape[1], images.shape[2]
    maker = lipschitz_critic if lipschitz else clipped_critic
    generator, critic = generator_network(channels, size, seed=seed, **where), maker(channels, size, seed=seed, **where)
    lr_generator, lr_critic = lr or (2e-4, 2e-3 if lipschitz else 2e-4)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999))
        for network, rate in ((generator, lr_generator), (critic, lr_critic))
    ]
    source = torch.Generator("cpu").manual_seed(seed)
    for _ in range(steps):
        for _ in range(n_critic):
            chosen = torch.randint(len(images), (batch_size,), generator=source, device="cpu").to(images.device)
            fake = generator(latent(batch_size, source).to(images)).detach()
            optimizers[1].zero_grad()
            (-dual_value(critic, images[chosen], fake)).backward()
            optimizers[1].step()
            if not lipschitz:
                with torch.no_grad():
                    for parameter in critic.parameters():
                        parameter.clamp_(-clip, clip)
        optimizers[0].zero_grad()
        (-critic(generator(latent(batch_size, source).to(images))).mean()).backward()
        optimizers[0].step()
    return generator.eval()


def latent(n: int, generator: torch.Generator) -> Tensor:
    """z, uniform in [-1, 1]: (n, 62), float64 on the CPU.

    >>> latent(3, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 62])
    """
    return torch.rand(n, LATENT, generator=generator, dtype=torch.float64, device="cpu") * 2 - 1


def gan_distance(
    images: Tensor,
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
        images: Shape (n, channels, size, size); the last ``n_test`` are kept for the measurement.
        generator: From :func:`train_gan`.
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
    train, test = images[:-n_test], images[-n_test:]

    def sample(n: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(train), (n,), generator=source, device="cpu").to(images.device)
        with torch.no_grad():
            return train[chosen], generator(latent(n, source).to(images))

    where = {"dtype": images.dtype, "device": images.device}
    critic = make([images[0].numel(), *hidden, 1], activation, seed=seed, **where)
    history = pd.DataFrame(train_critic(critic, sample, steps=steps, batch_size=batch_size, lr=lr, seed=seed, clip=0.1))
    with torch.no_grad():
        fake = generator(latent(n_test, torch.Generator("cpu").manual_seed(10_000 + seed)).to(images))
        estimate = dual_value(critic, test, fake).item()
    trained = history.estimate.tail(max(1, steps // 20)).mean()
    exact, constant = exact_distance(test, fake), lipschitz_constant(critic)
    return {"estimate": estimate, "exact": exact, "constant": constant, "trained": float(trained)}


def gan_run(
    dataset: str, activation: str, *, gan_steps: int, images: int = 1400, seed: int = 0, **options
) -> dict[str, float]:
    """:func:`gan_distance` between a data set, by name, and a WGAN trained on it, as a sweep wants it.

    Args:
        dataset: "digits", or another name for :func:`tenpapers.data.load`.
        activation: Of the critic.
        gan_steps: Of the generator.
        images: How many images of the training split to use.
        seed: Of everything.
        options: For :func:`gan_distance`.

    Chapter: book/groupsort.ipynb
    """
    x = load(dataset).train.x[:images]
    return gan_distance(x, _generator(dataset, gan_steps, images, seed), activation, seed=seed, **options)


@lru_cache(maxsize=2)
def _generator(dataset: str, steps: int, images: int, seed: int) -> nn.Module:
    return train_gan(load(dataset).train.x[:images], steps=steps, seed=seed)

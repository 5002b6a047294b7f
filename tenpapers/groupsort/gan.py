"""Can a critic that is Lipschitz by construction train a generator? WGAN and LWGAN.

Paper: arXiv 1811.05381, section 5. Images have values in [0, 1] here: in [-1, 1] all distances double.
Chapter: book/groupsort.ipynb.
"""

from typing import Any

import torch
from torch import Tensor, nn

from nnlib.descent import descend
from nnlib.groupsort import ReshapedConv
from nnlib.lipschitz import MaxMin, OrthogonalLinear, dual_value
from nnlib.models import normal_

LATENT = 62


def generator_network(channels: int, size: int, *, seed: int = 0, **where: Any) -> nn.Sequential:
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
    normal_(layers, 0.02, seed)
    return layers


def clipped_critic(channels: int, size: int, *, seed: int = 0, **where: Any) -> nn.Sequential:
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
    normal_(layers, 0.02, seed)
    return layers


def lipschitz_critic(channels: int, size: int, *, seed: int = 0, **where: Any) -> nn.Sequential:
    """The critic of the LWGAN: the same shape, constrained layers and MaxMin; it needs no clipping.

    Source: arXiv 1811.05381, section 5 (LWGAN). Chapter: book/groupsort.ipynb

    >>> from nnlib.lipschitz import lipschitz_constant
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
    where: dict[str, Any] = {"device": images.device, "dtype": images.dtype}
    channels, size = images.shape[1], images.shape[2]
    maker = lipschitz_critic if lipschitz else clipped_critic
    generator, critic = generator_network(channels, size, seed=seed, **where), maker(channels, size, seed=seed, **where)
    lr_generator, lr_critic = lr or (2e-4, 2e-3 if lipschitz else 2e-4)
    generator_optimizer, critic_optimizer = (
        torch.optim.Adam(network.parameters(), lr=rate, betas=(0.5, 0.999))
        for network, rate in ((generator, lr_generator), (critic, lr_critic))
    )
    source = torch.Generator("cpu").manual_seed(seed)

    def made() -> Tensor:
        return generator(latent(batch_size, source).to(images))

    def critic_loss() -> Tensor:
        chosen = torch.randint(len(images), (batch_size,), generator=source, device="cpu").to(images.device)
        return -dual_value(critic, images[chosen], made().detach())

    @torch.no_grad()
    def clipped(step: int, value: Tensor) -> None:
        if not lipschitz:
            for weight in critic.parameters():
                weight.clamp_(-clip, clip)

    def generator_loss() -> Tensor:
        descend(critic_loss, critic_optimizer, n_critic, after=clipped)
        return -critic(made()).mean()

    descend(generator_loss, generator_optimizer, steps)
    return generator.eval()


def latent(n: int, generator: torch.Generator) -> Tensor:
    """z, uniform in [-1, 1]: (n, 62), float64 on the CPU.

    >>> latent(3, torch.Generator().manual_seed(0)).shape
    torch.Size([3, 62])
    """
    return torch.rand(n, LATENT, generator=generator, dtype=torch.float64, device="cpu") * 2 - 1

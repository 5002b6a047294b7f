"""How far are generated images from real ones? A 1-Lipschitz critic's bound, beside the exact distance.

    W_1(P, Q) = sup over 1-Lipschitz f of E_P f - E_Q f        (Kantorovich and Rubinstein)

A critic that is not 1-Lipschitz bounds nothing, however large its estimate.

Paper: arXiv 1911.00937, section 6, Wasserstein distance estimation. Chapter: book/bcop.ipynb.
"""

import torch
from torch import Tensor

from nnlib.bcop.networks import LipschitzCNN
from nnlib.lipschitz import dual_value, exact_distance, lipschitz_constant, project_, project_every
from nnlib.modes import evaluating
from tenpapers.data import load


def gaussian_images(x: Tensor, n: int, seed: int = 0) -> Tensor:
    """A simple generator: a Gaussian with the mean and covariance of the images, cut to [0, 1].

    Args:
        x: Real images, shape (m, c, H, W).
        n: How many to draw.
        seed: Of the draws.

    Returns:
        Shape (n, c, H, W), float64.

    Chapter: book/bcop.ipynb

    >>> gaussian_images(torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(0)), 3).shape
    torch.Size([3, 1, 2, 2])
    """
    flat = x.flatten(1).double().cpu()
    values, vectors = torch.linalg.eigh(torch.cov(flat.mT))
    generator = torch.Generator("cpu").manual_seed(seed)
    z = torch.randn(n, flat.shape[1], generator=generator, dtype=torch.float64, device="cpu")
    drawn = flat.mean(0) + (z * values.clamp(min=0).sqrt()) @ vectors.mT
    return drawn.clamp(0, 1).view(n, *x.shape[1:])


def run_critic(
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
) -> dict[str, float]:
    """Estimate W_1 between n real images and n from :func:`gaussian_images` with one critic, for a sweep.

    Args:
        data: Name of a data set.
        method: A key of ``METHODS``.
        seed: Of weights and batches; the images are the same for all seeds.
        activation: A name for :func:`nnlib.lipschitz.activation`.
        architecture: A key of ``ARCHITECTURES``.
        width: As for :class:`LipschitzCNN`.
        upsample: As for :class:`LipschitzCNN`. The estimate is then that of the larger images; the exact distance is
            too, ``upsample`` times that of the images as they are.
        n: Images of each kind.
        batch_size: Of each kind in a step.
        steps: Of RMSprop, with a learning rate that falls to a tenth.
        lr: At the start.
        project: Steps between two projections of SVCM.
        dtype: "float32" or "float64".
        device: Where to train.

    Returns:
        ``estimate`` on all n images; ``constant``, the product of the critic's measured norms on these images;
        ``bound`` = estimate / constant, which is a lower bound whatever the constraint did; ``exact``. A run whose
        estimate is no longer finite ends there, with None for all but ``exact``.

    Source: arXiv 1911.00937, section 6 and appendix. Chapter: book/bcop.ipynb

    >>> found = run_critic("digits", "BCOP", 0, n=32, batch_size=32, steps=5)
    >>> found["bound"] <= found["exact"]
    True
    """
    real = load(data).train.x[:n]
    where = {"dtype": getattr(torch, dtype), "device": device}
    q = real.to(**where)
    p = gaussian_images(load(data).train.x, n).to(**where)
    exact = upsample * exact_distance(p, q)
    options = {"activation": activation, "width": width, "upsample": upsample, "seed": seed}
    critic = LipschitzCNN(tuple(real.shape[1:]), 1, architecture, method, **options, **where)
    optimizer = torch.optim.RMSprop([w for w in critic.parameters() if w.requires_grad], lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 10 ** (-step / steps))
    project_every(optimizer, critic, project)
    generator = torch.Generator("cpu").manual_seed(seed)
    critic.train()
    for _ in range(steps):
        batch = [torch.randperm(n, generator=generator, device="cpu")[:batch_size].to(device) for _ in range(2)]
        estimate = dual_value(critic, p[batch[0]], q[batch[1]])
        if not estimate.isfinite():
            return {"estimate": None, "constant": None, "bound": None, "exact": exact}
        optimizer.zero_grad()
        (-estimate).backward()
        optimizer.step()
        schedule.step()
    project_(critic)
    with evaluating(critic), torch.no_grad():
        value = dual_value(critic, p, q).item()
        # The images as they are go in; Upsample multiplies the constant, and the exact distance has that factor too.
        constant = lipschitz_constant(critic) / upsample
    return {"estimate": value, "constant": constant, "bound": value / constant, "exact": exact}

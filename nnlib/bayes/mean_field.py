"""Networks whose weights are independent Gaussians: Bayes by backprop, and random functions f(x) = g(x, noise).

One draw of the weights serves *all* inputs of a forward pass, so that a sample is one coherent function.
Papers: Blundell et al., arXiv 1505.05424; arXiv 1903.05779, section 3. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from nnlib.arguments import function, real, seeded, typed, whole, within
from nnlib.bayes.likelihoods import Device

# Of a logarithm of a standard deviation: e^80, its square, is still a number in single precision.
LOG_SD = "[-40, 40]"


@typed
class MeanFieldLinear(nn.Module):
    """S linear maps at once, W_s = mean + exp(rho) * noise_s, the bias as last column.

    Args:
        in_features: Inputs.
        out_features: Outputs.
        rho: Logarithm of the standard deviations at the start, in [-40, 40].
        seed: Of the means, which are Glorot's uniform ones; those of the biases are zero.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        TypeError: for what is no number.
        ValueError: for arguments out of range, and from a forward pass for inputs of another shape.

    Source: arXiv 1505.05424, section 3.2. Chapter: ``book/noisy_ekfac.ipynb``.

    >>> layer = MeanFieldLinear(3, 2)
    >>> layer(torch.zeros(5, 3), samples=4, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([4, 5, 2])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rho: float = -3.0,
        seed: int = 0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        whole(1, in_features=in_features, out_features=out_features)
        within(LOG_SD, rho=rho)
        bound = (6 / (in_features + out_features)) ** 0.5
        generator = seeded(seed)
        # Drawn on the CPU in double precision: the same seed is the same network on every device and in every dtype.
        W = torch.rand(out_features, in_features, generator=generator, dtype=torch.float64, device="cpu")
        mean = torch.cat([bound * (2 * W - 1), torch.zeros(out_features, 1, dtype=W.dtype, device="cpu")], 1)
        mean = mean.to(device or torch.get_default_device(), dtype or torch.get_default_dtype())
        self.mean = nn.Parameter(mean)  # (out, in + 1)
        self.rho = nn.Parameter(torch.full_like(mean, rho))

    @typed
    def forward(self, x: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """(n, in) or (S, n, in) -> (S, n, out); sample s has the same weights for all n inputs."""
        whole(1, samples=samples)
        *lead, n_in = x.shape or (0,)
        if n_in != self.mean.shape[1] - 1 or len(lead) not in (1, 2) or lead[:-1] not in ([], [samples]):
            wanted = f"(n, {self.mean.shape[1] - 1}), or so for each of {samples} samples"
            raise ValueError(f"x must have shape {wanted}: got {tuple(x.shape)}")
        shape = (samples, *self.mean.shape)
        noise = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        W = self.mean + self.rho.exp() * noise  # (S, out, in + 1)
        return x @ W[..., :-1].mT + W[..., None, :, -1]

    def kl(self, prior_variance: float = 1.0) -> Tensor:
        """KL[q || N(0, prior_variance I)], the exact sum over all weights, a scalar."""
        within("(0, inf)", prior_variance=prior_variance)
        return weights_kl(self.mean, (2 * self.rho).exp(), prior_variance)


@typed
class MeanFieldMLP(nn.Module):
    """A multilayer perceptron of :class:`MeanFieldLinear` layers.

    Args:
        sizes: Inputs, hidden units, outputs: at least two positive integers.
        activation: Between the layers.
        rho: Logarithm of the standard deviations at the start, in [-40, 40].
        seed: Of the means.
        device: Where the parameters live.
        dtype: Of the parameters.

    Raises:
        TypeError: for what is no number, no sequence of them, or no function.
        ValueError: for sizes that are fewer than two or not positive, or another number out of its range.

    Chapter: ``book/noisy_ekfac.ipynb``.

    >>> network = MeanFieldMLP([1, 20, 1])
    >>> f = network(torch.zeros(7, 1), samples=3, generator=torch.Generator().manual_seed(0))
    >>> f.shape, bool((f[:, :1] == f).all())  # equal inputs, equal outputs: each sample is one function
    (torch.Size([3, 7, 1]), True)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        rho: float = -3.0,
        seed: int = 0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        layer_sizes(sizes)
        function(activation=activation)
        whole(0, seed=seed)
        self.activation = activation
        self.layers = nn.ModuleList(
            MeanFieldLinear(n_in, n_out, rho=rho, seed=1000 * seed + i, device=device, dtype=dtype)
            for i, (n_in, n_out) in enumerate(pairwise(sizes))
        )

    def forward(self, x: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """(n, in) or (S, n, in) -> (S, n, out)."""
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else self.activation(x), samples, generator)
        return x

    def kl(self, prior_variance: float = 1.0) -> Tensor:
        """The sum of the layers' divergences, a scalar."""
        layers = cast("list[MeanFieldLinear]", list(self.layers))
        return torch.stack([layer.kl(prior_variance) for layer in layers]).sum()


@typed
def mean_field_kl(mean: Tensor, variance: Tensor, prior_variance: float) -> Tensor:
    """sum 1/2 (variance / v + mean^2 / v - 1 - log(variance / v)), v = prior_variance: KL to N(0, v I), a scalar.

    The sum over *all* weights, not their mean: a loss per example adds ``kl / n_data``.

    Args:
        mean: (...).
        variance: (...), not negative: where one is 0 the KL is infinite.
        prior_variance: v, positive.

    Raises:
        TypeError: for what is no tensor of floating-point numbers, or no number.
        ValueError: for two shapes, numbers that are not finite or out of range.

    >>> float(mean_field_kl(torch.zeros(4), torch.ones(4), 1.0))
    0.0
    """
    real("...", mean=mean, variance=variance)
    if mean.shape != variance.shape:
        raise ValueError(f"mean and variance must have one shape: got {tuple(mean.shape)} and {tuple(variance.shape)}")
    if variance.min() < 0:
        raise ValueError(f"variance must not be negative: got {variance.min().item():g}")
    within("(0, inf)", prior_variance=prior_variance)
    return weights_kl(mean, variance, prior_variance)


def weights_kl(mean: Tensor, variance: Tensor, prior_variance: float) -> Tensor:
    """The same within a loss: what a layer holds is not looked at."""
    ratio = variance / prior_variance
    return 0.5 * (ratio + mean.square() / prior_variance - 1 - ratio.log()).sum()


def layer_sizes(sizes: Sequence[int]) -> None:
    """Refuse what are not two or more positive whole numbers."""
    if len(sizes) < 2:
        raise ValueError(f"sizes must be at least two positive integers, inputs to outputs: got {list(sizes)}")
    for size in sizes:
        whole(1, sizes=size)

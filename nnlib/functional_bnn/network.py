"""How is a network a random function? Gaussian weights, drawn once for a whole function.

Paper: arXiv 1903.05779, section 4. Chapter: book/functional_bnn.ipynb.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnlib.arguments import one_of, seeded, shown, typed, whole, within
from nnlib.bayes.mean_field import LOG_SD, layer_sizes, weights_kl

SQUARED = "[1e-18, 1e18]"  # the square is a positive number in single precision
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


@typed
class StochasticMLP(nn.Module):
    """A random function f(x) = g(x, ξ): a perceptron whose weights are w = μ + σ ⊙ ε, with one ε for each function.

    All inputs of a function share its ε. Noise drawn anew for each input (local reparametrisation, dropout) would give
    the right marginals and the wrong joint distribution, and the KL between processes is about the joint one.

    Args:
        sizes: Number of inputs, units of each hidden layer, and outputs.
        activation: ``tanh`` or ``relu``.
        log_sd: Initial log σ of every weight, in [-40, 40].
        frequencies: Number of random Fourier features sin(ω x + φ) that are put beside the inputs, with ω uniform in
            ``frequency_range``; 0 for none. A plain network does not learn a function of many periods.
        frequency_range: Smallest and largest ω.
        seed: Of the initial means (Glorot, uniform) and the frequencies.
        dtype: Of the parameters.
        device: Where they live.

    Raises:
        TypeError: for what is no number, text, or sequence of numbers.
        ValueError: for fewer than two sizes, an unknown activation, or a number out of its range; and, from the network
            and its draws, for inputs that are not (n, d).

    Source: arXiv 1903.05779, section 4, Bayes-by-backprop networks. Chapter: book/functional_bnn.ipynb.

    >>> network = StochasticMLP([1, 10, 1], seed=0, dtype=torch.float64)
    >>> f = network.draw(3, torch.Generator().manual_seed(0))  # three functions
    >>> x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    >>> f(x).shape, bool((f(x)[:, :2] == f(x[:2])).all())
    (torch.Size([3, 5]), True)
    """

    omega: Tensor  # (d, frequencies)
    phase: Tensor  # (frequencies,)

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "tanh",
        *,
        log_sd: float = -3.0,
        frequencies: int = 0,
        frequency_range: Sequence[float] = (0.5, 6.0),
        seed: int = 0,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        layer_sizes(sizes)
        one_of(ACTIVATIONS, activation=activation)
        within(LOG_SD, log_sd=log_sd)
        whole(0, frequencies=frequencies)
        for omega in frequency_range:
            within("(-inf, inf)", frequency_range=omega)
        if len(frequency_range) != 2 or frequency_range[0] > frequency_range[1]:
            raise ValueError(f"frequency_range must be the smallest and the largest: got {shown(frequency_range)}")
        super().__init__()
        self.activation = activation
        generator = seeded(seed)
        where = {"dtype": dtype or torch.get_default_dtype(), "device": device or "cpu"}

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(shape, generator=generator, dtype=where["dtype"], device="cpu")

        omega = uniform(frequency_range[0], frequency_range[1], sizes[0], frequencies)
        self.register_buffer("omega", omega.to(**where))
        self.register_buffer("phase", uniform(0, 2 * math.pi, frequencies).to(**where))
        self.means, self.log_sds = nn.ParameterList(), nn.ParameterList()
        for n_in, n_out in pairwise([sizes[0] + frequencies, *sizes[1:]]):
            bound = (6 / (n_in + n_out)) ** 0.5
            weight = torch.cat([uniform(-bound, bound, n_in, n_out), torch.zeros(1, n_out, device="cpu")])
            self.means.append(nn.Parameter(weight.to(**where)))  # (n_in + 1, n_out), the bias last
            self.log_sds.append(nn.Parameter(torch.full_like(self.means[-1], log_sd)))

    @typed
    def draw(self, samples: int, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
        """Draw whole functions: a callable (n, d) -> (samples, n), or (samples, n, outputs) if there are several."""
        whole(1, samples=samples)
        weights = []
        for mean, log_sd in zip(self.means, self.log_sds, strict=True):
            noise = torch.randn(samples, *mean.shape, generator=generator, dtype=mean.dtype, device="cpu")
            weights.append(mean + log_sd.exp() * noise.to(mean.device))  # (S, n_in + 1, n_out)
        return lambda x: self._run(weights, x)

    def forward(self, x: Tensor) -> Tensor:
        """The function of the mean weights, (n, d) -> (n,) or (n, outputs)."""
        return self._run([mean[None] for mean in self.means], x)[0]

    def _run(self, weights: list[Tensor], x: Tensor) -> Tensor:
        d = len(self.omega)
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must be a tensor of shape (n, {d}): got {shown(x)}")
        if self.phase.numel():
            x = torch.cat([x, torch.sin(x @ self.omega + self.phase)], 1)
        h = x.expand(len(weights[0]), *x.shape)  # (S, n, n_in)
        for layer, weight in enumerate(weights):
            h = torch.baddbmm(weight[:, -1:], h, weight[:, :-1])
            if layer < len(weights) - 1:
                h = ACTIVATIONS[self.activation](h)
        return h.squeeze(-1)

    def weight_kl(self, prior_sd: float = 1.0) -> Tensor:
        """KL[q(w) ‖ N(0, prior_sd² I)], exact, summed over all weights: what weight-space VI penalises."""
        within(SQUARED, prior_sd=prior_sd)
        pairs = zip(self.means, self.log_sds, strict=True)
        return torch.stack([weights_kl(mean, (2 * log_sd).exp(), prior_sd**2) for mean, log_sd in pairs]).sum()

"""How is the functional ELBO maximised, and what is its counterpart in weight space? One loop, two penalties.

Paper: arXiv 1903.05779, section 3.2 and algorithm 1. Chapter: book/functional_bnn.ipynb.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from nnlib.arguments import function, one_of, real, seeded, typed, whole, within
from nnlib.bayes import Gaussian
from nnlib.descent import descend
from nnlib.functional_bnn.gp import NOT_NEGATIVE, regression_data
from nnlib.functional_bnn.network import SQUARED, StochasticMLP
from nnlib.functional_bnn.objective import (
    STRATEGIES,
    Density,
    Prior,
    Process,
    adversarial_points,
    check_box,
    kl_surrogate,
    measurement_set,
    uniform_points,
)
from nnlib.functional_bnn.score import check_eigenfunctions

KL_SCALES = ("batch", "data")
PENALTY_STRATEGIES = (*STRATEGIES, "adversarial")


@runtime_checkable
class Network(Process, Protocol):
    """What can be trained: a random function of parameters."""

    def parameters(self) -> Iterable[nn.Parameter]: ...


@runtime_checkable
class Penalty(Protocol):
    """What is minimised: a scalar, of a batch x, (B, d), with targets y, (B,)."""

    def loss(
        self,
        network: Any,
        x: Tensor,
        y: Tensor,
        likelihood: Gaussian,
        n_data: int,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor: ...


@typed
@dataclass(frozen=True)
class FunctionSpace:
    """The penalty of the functional ELBO: KL between processes at a measurement set.

    Args:
        prior: A prior over functions.
        low: (d,) of the box from which random points are drawn.
        high: (d,).
        n_random: Random points a step; at least 1 that are adversarial.
        strategy: ``mixed`` (training and random), ``training``, ``random``, or ``adversarial``, which is *mixed* with
            the random points moved uphill on the KL.
        injected_noise: γ, on both processes, not negative.
        eigenfunctions: Of the Stein estimator, a number or a share.
        kl_scale: ``batch`` divides the KL by the batch size, as published; ``data`` by the number of training points.
            They differ where there are mini-batches.

    Raises:
        TypeError: for what is no prior, tensor, number or text.
        ValueError: for an unknown strategy or scale, a box without inside, negative noise, random points below 0, or
            adversarial points with a prior that can only be sampled.
    """

    prior: Prior
    low: Tensor
    high: Tensor
    n_random: int = 20
    strategy: str = "mixed"
    injected_noise: float = 0.01
    eigenfunctions: int | float = 0.99
    kl_scale: str = "batch"

    def __post_init__(self):
        one_of(KL_SCALES, kl_scale=self.kl_scale)
        one_of(PENALTY_STRATEGIES, strategy=self.strategy)
        check_box(self.low, self.high)
        check_eigenfunctions(self.eigenfunctions)
        if self.strategy == "adversarial" and not isinstance(self.prior, Density):
            raise ValueError("adversarial points need a prior with a density: that of a sampled one has no gradient")
        within(NOT_NEGATIVE, injected_noise=self.injected_noise)
        whole(int(self.strategy == "adversarial"), n_random=self.n_random)

    def loss(
        self,
        network: Process,
        x: Tensor,
        y: Tensor,
        likelihood: Gaussian,
        n_data: int,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Mean negative log likelihood of the batch plus the scaled KL surrogate."""
        random = uniform_points(self.low, self.high, self.n_random, generator)
        options = {"injected_noise": self.injected_noise, "eigenfunctions": self.eigenfunctions, "generator": generator}
        strategy = self.strategy
        if strategy == "adversarial":
            random = adversarial_points(network, self.prior, x, random, self.low, self.high, samples=samples, **options)
            strategy = "mixed"
        points = measurement_set(x, random, strategy)
        draw = network.draw(samples, generator)
        if strategy == "mixed":
            f = draw(points)  # the training inputs come first: one pass gives likelihood and KL
            at_data = f[:, : len(x)]
        else:
            f, at_data = draw(points), draw(x)  # the same functions at other inputs
        nll = likelihood.loss(one_output(at_data, x)[..., None], y[:, None])
        if not bool(nll.isfinite()):
            return nll  # of functions that are not finite there is no score; who descends says at which step
        kl = kl_surrogate(f, points, self.prior, **options)
        return nll + kl / (len(x) if self.kl_scale == "batch" else n_data)


@typed
@dataclass(frozen=True)
class WeightSpace:
    """The penalty of Bayes by backprop: KL[q(w) ‖ N(0, s² I)] over the number of training points, exact.

    Args:
        prior_sd: s, from 1e-18 to 1e18.

    Raises:
        ValueError: for another standard deviation.
    """

    prior_sd: float = 1.0

    def __post_init__(self):
        within(SQUARED, prior_sd=self.prior_sd)

    def loss(
        self,
        network: StochasticMLP,
        x: Tensor,
        y: Tensor,
        likelihood: Gaussian,
        n_data: int,
        samples: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Mean negative log likelihood of the batch plus the KL between weights."""
        f = one_output(network.draw(samples, generator)(x), x)
        return likelihood.loss(f[..., None], y[:, None]) + network.weight_kl(self.prior_sd) / n_data


def one_output(f: Tensor, x: Tensor) -> Tensor:
    """Function values (S, n) at x; several outputs (S, n, C) are refused, which would be taken for points."""
    if f.ndim != 2 or f.shape[1] != len(x):
        raise ValueError(f"the network must have one output, values (S, {len(x)}) at x: got shape {tuple(f.shape)}")
    return f


@dataclass
class Fit:
    """What training leaves beside the trained network: what was looked at on the way."""

    snapshots: dict[int, Any] = field(default_factory=dict)


@typed
def fit(
    network: Network,
    x: Tensor,
    y: Tensor,
    penalty: Penalty,
    likelihood: Gaussian,
    *,
    steps: int,
    lr: float = 1e-3,
    samples: int = 100,
    batch_size: int | None = None,
    seed: int = 0,
    look: Callable[[Any], Any] | None = None,
    look_at: Sequence[int] = (),
) -> Fit:
    """Minimise the negative ELBO by Adam, in place.

    Args:
        network: A random function with one output: ``StochasticMLP``, or what else has ``draw`` and ``parameters``.
        x: (n, d), with the network's dtype.
        y: (n,), the same.
        penalty: ``FunctionSpace`` or ``WeightSpace``, or what else has such a ``loss``.
        likelihood: Of the targets given a function; its noise is trained where it is learnt.
        steps: Of Adam, not negative.
        lr: Its learning rate, positive; it falls to a tenth over the last quarter of the steps.
        samples: Functions a step, at least 1; the KL between processes needs 2.
        batch_size: From 1 to n, by default n.
        seed: Of all draws.
        look: Called on the network at the steps ``look_at``; what it returns is kept.
        look_at: Steps, 0 for the start.

    Returns:
        The :class:`Fit`.

    Raises:
        TypeError: for what is no network, tensor, penalty, likelihood, number or function.
        ValueError: for other shapes, data that are not finite or of another dtype, a network of several outputs, or a
            number out of range.
        nnlib.modes.NonFiniteLoss: at the first loss that is not finite, by its step.

    Source: arXiv 1903.05779, algorithm 1. Chapter: book/functional_bnn.ipynb.
    """
    regression_data(x, y)
    if x.dtype not in {p.dtype for p in network.parameters()}:
        raise ValueError(f"x must be of the type of the network's parameters: got {x.dtype}")
    function(look=look)
    whole(0, steps=steps)
    whole(2 if isinstance(penalty, FunctionSpace) else 1, samples=samples)
    within("(0, inf)", lr=lr)
    batch_size = len(x) if batch_size is None else batch_size
    whole(1, len(x), batch_size=batch_size)
    generator = seeded(seed)
    parameters = [p for p in (*network.parameters(), *likelihood.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr)
    schedule = LambdaLR(optimizer, lambda step: min(1.0, 0.1 + 0.9 * 4 * (steps - step) / max(steps, 1)))
    order = torch.empty(0, dtype=torch.long, device="cpu")
    done = Fit()

    def loss() -> Tensor:
        nonlocal order
        if len(order) < batch_size:  # a new pass; what is left of the last one is dropped
            order = torch.randperm(len(x), generator=generator, device="cpu")
        batch, order = order[:batch_size].to(x.device), order[batch_size:]
        rows = slice(None) if batch_size == len(x) else batch
        return penalty.loss(network, x[rows], y[rows], likelihood, len(x), samples, generator)

    @torch.no_grad()
    def look_now(step: int, *_: Tensor) -> None:
        if look is not None and step in look_at:
            done.snapshots[step] = look(network)

    look_now(0)
    descend(loss, optimizer, steps, schedule=schedule, after=look_now, look_at=look_at)
    return done


@typed
@torch.no_grad()
def predict(network: Process, x: Tensor, samples: int = 200, seed: int = 1) -> Tensor:
    """Function values at x of so many functions, (n, d) -> (samples, n).

    Raises:
        TypeError: for what is no network, tensor or number.
        ValueError: for x of another shape or not finite, fewer than one function, or another seed.
    """
    real("n d", x=x)
    return network.draw(samples, seeded(seed))(x)

"""A Gaussian over a layer's weights, independent along the axes of a basis: draw from it, measure it, save it.

q = N(mean, Sigma) with Sigma = Q diag(variance) Q', Q = Q_S (x) Q_A. All weights are (..., out, in), the bias as last
column; leading dimensions are independent copies, updated together.
Papers: arXiv 1712.02390, 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from nnlib.arguments import real, typed, whole, within
from nnlib.curvature import Eigenbasis
from nnlib.noisy_ekfac.statistics import Locations, Rows, Statistics


@dataclass
class Posterior:
    """What the posteriors of the four methods share.

    Args:
        mean: (..., out, in).
        n_data: Number of training examples, positive.
        prior_variance: Of the prior N(0, prior_variance I), positive.
        kl_weight: Factor on the KL divergence in the objective, positive: 1 is the posterior, below 1 a colder one.
        decay: Of the running averages of Fisher statistics, in [0, 1).

    Raises:
        TypeError: for what is no tensor of floating-point numbers, or no number.
        ValueError: for arguments out of range, or a mean that is not finite or not (..., out, in).

    Source: arXiv 1811.12565, sections 2 and 3. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    mean: Tensor
    n_data: int
    prior_variance: float = 1.0
    kl_weight: float = 1.0
    decay: float = 0.99

    def __post_init__(self):
        whole(1, n_data=self.n_data)
        within("(0, inf)", prior_variance=self.prior_variance, kl_weight=self.kl_weight)
        within("[0, 1)", decay=self.decay)
        real("...", mean=self.mean)
        if self.mean.ndim < 2:
            raise ValueError(f"mean must have shape (..., out, in): got {tuple(self.mean.shape)}")
        self.average, self.moves = torch.zeros_like(self.mean), 0  # of directions, for momentum
        self.start()

    @property
    def damping_in(self) -> float:
        """The intrinsic damping kl_weight / (n_data prior_variance): the prior's share of the precision."""
        return self.kl_weight / (self.n_data * self.prior_variance)

    def start(self) -> None:
        """Make what the posterior keeps beside its mean."""
        raise NotImplementedError

    @typed
    def observe(self, statistics: Rows | Locations | Statistics) -> None:
        """Average in the Fisher statistics of a batch; here: refuse those of other weights, which would be broadcast.

        Raises:
            TypeError: for what is no :class:`Rows` or :class:`Locations`, nor like them.
            ValueError: for statistics of weights of another shape.
        """
        if statistics.shape != self.mean.shape:
            found = f"{tuple(statistics.shape)}, not of {tuple(self.mean.shape)}"
            raise ValueError(f"statistics must be about these weights, (..., out, in): got some of {found}")

    def variance(self) -> tuple[Eigenbasis | None, Tensor]:
        """The basis (None: the axes) and the variances along it, (..., out, in)."""
        raise NotImplementedError

    def propose(
        self, gradient: Tensor, weights: Tensor, noise: Tensor, *, lr: float, damping_ex: float, momentum: float
    ) -> tuple[Tensor, Tensor]:
        """The move of the mean and its squared length, without making it.

        Args:
            gradient: Of the mean of -log p over the batch at each particle, (P, ..., out, in).
            weights: The particles, (P, ..., out, in).
            noise: That they were made from, (P, ..., out, in).
            lr: Learning rate.
            damping_ex: Extrinsic damping.
            momentum: In [0, 1): of a running average of directions, with bias correction.

        Returns:
            The move, (..., out, in), and its squared length in the metric of the method, (...).
        """
        raise NotImplementedError

    def accept(self, move: Tensor, nu: float = 1.0) -> None:
        """Make nu times the move that was proposed."""
        self.mean = self.mean + nu * move

    @typed
    def sample(self, noise: Tensor) -> Tensor:
        """mean + Q_S (noise * deviation) Q_A': standard normal noise (P, ..., out, in) becomes P draws.

        Raises:
            ValueError: for noise of another shape.
        """
        self.check_particles(noise=noise)
        basis, variance = self.variance()
        scaled = noise * variance.sqrt()
        if basis is None:
            return self.mean + scaled
        # rotate_back, with all particles as columns of one product: broadcast over them, it would copy Q_S for each
        return self.mean + torch.einsum("...or,p...ri->p...oi", basis.Q_S, scaled @ basis.Q_A.mT)

    def check_particles(self, **named: Tensor) -> None:
        """Refuse what has not the shape (P, ..., out, in), one P of at least 1 for all; values are not looked at."""
        expected = (len(next(iter(named.values()))), *self.mean.shape)
        if any(value.shape != expected for value in named.values()) or not expected[0]:
            wanted = f"(P, {', '.join(map(str, self.mean.shape))}), P particles, at least 1"
            found = ", ".join(f"{name} {tuple(value.shape)}" for name, value in named.items())
            raise ValueError(f"{' and '.join(named)} must have shape {wanted}: got {found}")

    def kl(self) -> Tensor:
        """KL[q || N(0, prior_variance I)] = 1/2 sum (v + mean^2) / eta - 1 + log eta - log v, (...); eta the prior's.

        The trace does not depend on the basis, so variances v along any are enough.
        """
        v, eta = self.variance()[1], self.prior_variance
        parts = v / eta + self.mean.square() / eta - 1 + math.log(eta) - v.log()
        return 0.5 * parts.sum((-2, -1))

    def logdet(self) -> Tensor:
        """log det Sigma, (...)."""
        return self.variance()[1].log().sum((-2, -1))

    def covariance(self) -> Tensor:
        """Sigma itself for a single layer, (out in, out in), row-major: for tests and pictures."""
        basis, variance = self.variance()
        if basis is None:
            return variance.flatten().diag()
        return Eigenbasis(basis.Q_A, basis.Q_S, variance).dense()

    def settings(self) -> dict[str, Any]:
        """What it was asked for, by name: everything but the mean."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "mean"}

    def state(self) -> dict[str, Any]:
        """What changes while it learns, tensors and numbers by name: what :meth:`load` takes."""
        asked, kept = self.settings(), {}
        for name, value in vars(self).items():
            if name not in asked:
                kept |= {f"{name}.{part}": t for part, t in vars(value).items()} if name == "basis" else {name: value}
        return kept

    def differs(self, state: dict[str, Any]) -> str | None:
        """Why :meth:`load` could not take this, in words; None where it can."""
        own = self.state()
        if not isinstance(state, dict) or set(state) != set(own):
            return f"it holds {sorted(state)}, not {sorted(own)}"
        for name, value in own.items():
            if isinstance(value, Tensor) != isinstance(state[name], Tensor):
                return f"{name} is a {type(state[name]).__name__}"
            if isinstance(value, Tensor) and state[name].shape != value.shape:
                return f"{name} has the shape {tuple(state[name].shape)}, not {tuple(value.shape)}"
        return None

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave, in this posterior's type and on its device.

        Raises:
            ValueError: where it is of another kind of posterior or of weights of another shape.
        """
        if (why := self.differs(state)) is not None:
            raise ValueError(f"this is no state of {type(self).__name__}: {why}")
        found = {name: v.to(self.mean) if isinstance(v, Tensor) else v for name, v in state.items()}
        basis = {name.partition(".")[2]: v for name, v in found.items() if "." in name}
        vars(self).update({name: v for name, v in found.items() if "." not in name})
        if basis:
            self.basis = Eigenbasis(**basis)

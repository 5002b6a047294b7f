"""Which Gaussians over a layer's weights does each method keep, and how does natural gradient move them?

A posterior is N(mean, Sigma) with Sigma = (kl_weight / n_data) (F + damping_in I)^-1: its precision *is* a running
average of the layer's Fisher matrix F. The methods differ in how F is written. All weights are (..., out, in), the bias
as last column; leading dimensions are independent copies, updated together.
Papers: arXiv 1712.02390 (noisy Adam, noisy K-FAC), 1811.12565 (corrected eigenvalues).
Chapter: ``book/noisy_ekfac.ipynb``.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnlib.curvature import Eigenbasis
from nnlib.noisy_ekfac.statistics import Statistics

ON_BASIS_CHANGE = ("project", "reset", "keep")
DAMPINGS = ("factored", "exact")


@dataclass
class Posterior:
    """A Gaussian over a layer's weights whose precision is n_data / kl_weight times a damped Fisher matrix.

    Args:
        mean: (..., out, in).
        n_data: Number of training examples, positive.
        prior_variance: Of the prior N(0, prior_variance I), positive.
        kl_weight: Factor on the KL divergence in the objective, positive: 1 is the posterior, below 1 a colder one.
        decay: Of the running averages, in [0, 1). They start as those of F = I and have no bias correction.

    Raises:
        ValueError: for arguments out of range.

    Source: arXiv 1811.12565, sections 2 and 3. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    mean: Tensor
    n_data: int
    prior_variance: float = 1.0
    kl_weight: float = 1.0
    decay: float = 0.99

    def __post_init__(self):
        if not (self.n_data > 0 and self.prior_variance > 0 and self.kl_weight > 0 and 0 <= self.decay < 1):
            raise ValueError(
                "n_data, prior_variance and kl_weight must be positive and decay in [0, 1): "
                f"got {self.n_data}, {self.prior_variance}, {self.kl_weight} and {self.decay}"
            )
        self.average, self.moves = torch.zeros_like(self.mean), 0
        self.start()

    @property
    def damping_in(self) -> float:
        """The intrinsic damping kl_weight / (n_data prior_variance): the prior's share of the precision."""
        return self.kl_weight / (self.n_data * self.prior_variance)

    def start(self) -> None:
        """F = I, so that the first samples stay close to the mean."""
        raise NotImplementedError

    def observe(self, statistics: Statistics) -> None:
        """Average in the Fisher statistics of a batch."""
        raise NotImplementedError

    def damped(self, damping: float) -> tuple[Eigenbasis | None, Tensor]:
        """The basis (None: the axes) and the eigenvalues, (..., out, in), of the damped Fisher matrix."""
        raise NotImplementedError

    def variance(self) -> tuple[Eigenbasis | None, Tensor]:
        """The basis and the variances along it: (kl_weight / n_data) / eigenvalues, (..., out, in)."""
        basis, values = self.damped(self.damping_in)
        return basis, self.kl_weight / self.n_data / values

    def sample(self, noise: Tensor) -> Tensor:
        """mean + Q_S (noise * deviation) Q_A': standard normal noise (P, ..., out, in) becomes P draws."""
        basis, variance = self.variance()
        scaled = noise * variance.sqrt()
        if basis is None:
            return self.mean + scaled
        # rotate_back, with all particles as columns of one product: broadcast over them, it would copy Q_S for each
        return self.mean + torch.einsum("...or,p...ri->p...oi", basis.Q_S, scaled @ basis.Q_A.mT)

    def step(self, direction: Tensor, lr: float, damping_ex: float = 0.0) -> Tensor:
        """lr (F + (damping_in + damping_ex) I)^-1 direction, the move of the mean, (..., out, in).

        Args:
            direction: Gradient of E_q[log p per example] - damping_in W, (..., out, in).
            lr: Learning rate.
            damping_ex: Extrinsic damping, not negative: of the step alone, no part of the posterior.
        """
        if not damping_ex >= 0:
            raise ValueError(f"damping_ex must not be negative: got {damping_ex}")
        basis, values = self.damped(self.damping_in + damping_ex)
        if basis is None:
            return lr * direction / values
        return lr * basis.rotate_back(basis.rotate(direction) / values)

    def propose(
        self, gradient: Tensor, weights: Tensor, noise: Tensor, *, lr: float, damping_ex: float, momentum: float
    ) -> tuple[Tensor, Tensor]:
        """The natural-gradient move of the mean and its squared length in the metric of F, without making it.

        Args:
            gradient: Of the mean of -log p over the batch at each particle, (P, ..., out, in).
            weights: The particles, (P, ..., out, in); the prior's gradient is taken at them, not at the mean.
            noise: That they were made from; not used here.
            lr: Learning rate.
            damping_ex: Extrinsic damping.
            momentum: In [0, 1): of a running average of directions, with bias correction.

        Returns:
            The move, (..., out, in), and lr^2 v' (F + d)^-1 v, (...).
        """
        direction = -(gradient + self.damping_in * weights).mean(0)
        self.moves += 1
        self.average = direction.lerp(self.average, momentum)
        average = self.average / (1 - momentum**self.moves)
        move = self.step(average, lr, damping_ex)
        return move, lr * (move * average).sum((-2, -1))

    def kl(self) -> Tensor:
        """KL[q || N(0, prior_variance I)], (...): the trace does not depend on the basis, so variances are enough."""
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

    def state(self) -> dict[str, Any]:
        """What :meth:`load` takes: tensors and numbers by name."""
        kept = {name: value for name, value in vars(self).items() if isinstance(value, Tensor | int | float)}
        basis = getattr(self, "basis", None)
        return kept | ({} if basis is None else {"basis": dict(vars(basis))})

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` gave."""
        for name, value in state.items():
            setattr(self, name, Eigenbasis(**value) if name == "basis" else value)


@dataclass
class Diagonal(Posterior):
    """Noisy Adam's: Sigma is diagonal, f = E[squared gradient of an example].

    Source: arXiv 1712.02390, algorithm 1.

    >>> from nnlib.noisy_ekfac import Rows
    >>> q = Diagonal(torch.zeros(1, 2), n_data=9, decay=0.0)
    >>> q.observe(Rows(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0]])))
    >>> q.variance()[1] * 9  # 1 / (f + 1/9)
    tensor([[0.2432, 9.0000]])
    """

    def start(self) -> None:
        self.f = torch.ones_like(self.mean)

    def observe(self, statistics: Statistics) -> None:
        self.f = statistics.squares(None).lerp(self.f, self.decay)

    def damped(self, damping: float) -> tuple[None, Tensor]:
        return None, self.f + damping


@dataclass
class MatrixVariate(Posterior):
    """Noisy K-FAC's: F = S (x) A.

    Args:
        damping_kind: ``factored``: (S + sqrt(d)/pi I) (x) (A + pi sqrt(d) I), as the paper has it;
            ``exact``: S (x) A + d I.
        update_basis_every: Observations between two eigendecompositions.

    Source: arXiv 1712.02390, algorithm 2. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    damping_kind: str = "factored"
    update_basis_every: int = 1

    def start(self) -> None:
        if self.damping_kind not in DAMPINGS or self.update_basis_every < 1:
            raise ValueError(
                f"damping must be one of {', '.join(DAMPINGS)} and update_basis_every at least 1: "
                f"got {self.damping_kind!r} and {self.update_basis_every}"
            )
        *lead, n_out, n_in = self.mean.shape
        like = {"dtype": self.mean.dtype, "device": self.mean.device}
        self.A, self.S = (torch.eye(n, **like).expand(*lead, n, n).clone() for n in (n_in, n_out))
        self.count = 0
        self.decompose()

    def decompose(self) -> None:
        """Eigenvectors of both factors, and their eigenvalues, (..., in) and (..., out)."""
        (self.a, Q_A), (self.s, Q_S) = torch.linalg.eigh(self.A), torch.linalg.eigh(self.S)
        self.a, self.s = self.a.clamp(min=0), self.s.clamp(min=0)  # negative by rounding alone
        self.basis = Eigenbasis(Q_A, Q_S, self.products())

    def products(self) -> Tensor:
        """Eigenvalues of S (x) A, (..., out, in)."""
        return self.s[..., :, None] * self.a[..., None, :]

    def observe(self, statistics: Statistics) -> None:
        A, S = statistics.factors()
        self.A, self.S = A.lerp(self.A, self.decay), S.lerp(self.S, self.decay)
        self.count += 1
        if self.count % self.update_basis_every == 0:
            self.decompose()

    def damped(self, damping: float) -> tuple[Eigenbasis, Tensor]:
        if self.damping_kind == "exact":
            return self.basis, self.products() + damping
        # pi^2 = mean eigenvalue of A over that of S: the larger factor gets the larger damping.
        pi = ((self.a.mean(-1) + 1e-8) / (self.s.mean(-1) + 1e-8)).sqrt()[..., None]
        a, s = self.a + pi * damping**0.5, self.s + damping**0.5 / pi
        return self.basis, s[..., :, None] * a[..., None, :]


@dataclass
class EigenvalueCorrected(MatrixVariate):
    """Noisy EK-FAC's (EMVG): F = (Q_S (x) Q_A) diag(R) (Q_S (x) Q_A)', R a running average in the Kronecker basis.

    Args:
        damping_kind: Always exact, R + d.
        update_basis_every: Observations between two eigendecompositions.
        on_basis_change: What becomes of R in a new basis. ``project``: the diagonal of the old matrix in it;
            ``reset``: K-FAC's products of eigenvalues; ``keep``: the old numbers, whatever they now belong to.

    Source: arXiv 1811.12565, section 4, algorithm 1. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    damping_kind: str = "exact"
    on_basis_change: str = "project"

    def start(self) -> None:
        if self.on_basis_change not in ON_BASIS_CHANGE:
            raise ValueError(
                f"on_basis_change must be one of {', '.join(ON_BASIS_CHANGE)}: got {self.on_basis_change!r}"
            )
        self.R = torch.ones_like(self.mean)
        super().start()

    def decompose(self) -> None:
        old = getattr(self, "basis", None)
        super().decompose()
        if old is not None and self.on_basis_change == "project":
            # diag(T D T') = (T o T) diag(D) for T = (Q_S' Q_S_old) (x) (Q_A' Q_A_old), which is a Kronecker product too
            T_S, T_A = self.basis.Q_S.mT @ old.Q_S, self.basis.Q_A.mT @ old.Q_A
            self.R = T_S.square() @ self.R @ T_A.square().mT
        elif old is not None and self.on_basis_change == "reset":
            self.R = self.products()

    def observe(self, statistics: Statistics) -> None:
        super().observe(statistics)
        self.R = statistics.squares(self.basis).lerp(self.R, self.decay)

    def damped(self, damping: float) -> tuple[Eigenbasis, Tensor]:
        return self.basis, self.R + damping


@dataclass
class MeanField(Posterior):
    """Bayes by backprop's: Sigma = diag(exp(2 rho)), mean and rho moved by Adam on the objective itself.

    Per example the objective is E_q[-log p] + kl_weight / n_data * KL. No Fisher matrix is kept.

    Args:
        rho_start: Logarithm of the standard deviations at the start.

    Source: Blundell et al., arXiv 1505.05424, section 3.2. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    rho_start: float = -3.0

    def start(self) -> None:
        self.rho = torch.full_like(self.mean, self.rho_start)
        self.square, self.rho_average = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.rho_square = torch.zeros_like(self.mean)

    def observe(self, statistics: Statistics) -> None:
        """No Fisher matrix is kept."""

    def variance(self) -> tuple[None, Tensor]:
        return None, (2 * self.rho).exp()

    def propose(
        self, gradient: Tensor, weights: Tensor, noise: Tensor, *, lr: float, damping_ex: float, momentum: float
    ) -> tuple[Tensor, Tensor]:
        """Adam's move of the mean; that of rho is made at once. Arguments as in ``Posterior.propose``."""
        deviation, scale = self.rho.exp(), self.kl_weight / self.n_data
        slope = gradient.mean(0) + self.damping_in * self.mean
        rho_slope = (gradient * noise).mean(0) * deviation + scale * (deviation.square() / self.prior_variance - 1)
        self.moves += 1
        first, second = 1 - momentum**self.moves, 1 - 0.999**self.moves
        self.average, self.square = slope.lerp(self.average, momentum), slope.square().lerp(self.square, 0.999)
        self.rho_average = rho_slope.lerp(self.rho_average, momentum)
        self.rho_square = rho_slope.square().lerp(self.rho_square, 0.999)
        self.rho = self.rho - lr * (self.rho_average / first) / ((self.rho_square / second).sqrt() + 1e-8)
        move = -lr * (self.average / first) / ((self.square / second).sqrt() + 1e-8)
        return move, -(move * slope).sum((-2, -1)) * lr


METHODS = {
    "Bayes by backprop": MeanField,
    "Noisy Adam": Diagonal,
    "Noisy K-FAC": MatrixVariate,
    "Noisy EK-FAC": EigenvalueCorrected,
}

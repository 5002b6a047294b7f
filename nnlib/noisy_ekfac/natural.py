"""Noisy natural gradient: the posterior's precision *is* a running average of the layer's Fisher matrix F.

    Sigma = (kl_weight / n_data) (F + damping_in I)^-1,     damping_in = kl_weight / (n_data prior_variance)
    move  = lr (F + (damping_in + damping_ex) I)^-1 E_q[grad log p(y | x, W) - damping_in W]

The intrinsic damping is the prior and belongs to the posterior; the extrinsic one is a tool of the step alone. The
methods differ in how F is written: see ``diagonal``, ``matrix_variate`` and ``corrected``.
Papers: arXiv 1712.02390, 1811.12565. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass

from torch import Tensor

from nnlib.arguments import typed, within
from nnlib.curvature import Eigenbasis
from nnlib.noisy_ekfac.posterior import Posterior


@dataclass
class FisherPosterior(Posterior):
    """A posterior whose precision is n_data / kl_weight times a damped Fisher matrix; arguments as in ``Posterior``.

    The running averages start as those of F = I, so that the first samples stay close to the mean, and have no bias
    correction.

    Source: arXiv 1811.12565, sections 2 and 3, algorithm 1. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    def damped(self, damping: float) -> tuple[Eigenbasis | None, Tensor]:
        """The basis (None: the axes) and the eigenvalues, (..., out, in), of the damped Fisher matrix."""
        raise NotImplementedError

    def variance(self) -> tuple[Eigenbasis | None, Tensor]:
        """The basis and the variances along it: (kl_weight / n_data) / eigenvalues, (..., out, in)."""
        basis, values = self.damped(self.damping_in)
        return basis, self.kl_weight / self.n_data / values

    @typed
    def step(self, direction: Tensor, lr: float, damping_ex: float = 0.0) -> Tensor:
        """lr (F + (damping_in + damping_ex) I)^-1 direction, the move of the mean, (..., out, in).

        Args:
            direction: Gradient of E_q[log p per example] - damping_in W, (..., out, in).
            lr: Learning rate.
            damping_ex: Extrinsic damping, not negative: of the step alone, no part of the posterior.

        Raises:
            ValueError: for a direction of another shape, or numbers out of range.
        """
        if direction.shape != self.mean.shape:
            raise ValueError(f"direction must have shape {tuple(self.mean.shape)}: got {tuple(direction.shape)}")
        within("[0, inf)", lr=lr, damping_ex=damping_ex)
        basis, values = self.damped(self.damping_in + damping_ex)
        if basis is None:
            return lr * direction / values
        return lr * basis.rotate_back(basis.rotate(direction) / values)

    @typed
    def propose(
        self, gradient: Tensor, weights: Tensor, noise: Tensor, *, lr: float, damping_ex: float, momentum: float
    ) -> tuple[Tensor, Tensor]:
        """The natural-gradient move of the mean, and lr^2 v' (F + d)^-1 v, its squared length in the metric of F.

        The prior's gradient is taken at the particles ``weights``, not at the mean; ``noise`` is not used. Other
        arguments as in ``Posterior.propose``.
        """
        self.check_particles(gradient=gradient, weights=weights, noise=noise)
        within("[0, 1)", momentum=momentum)
        direction = -(gradient + self.damping_in * weights).mean(0)
        self.moves += 1
        self.average = direction.lerp(self.average, momentum)
        average = self.average / (1 - momentum**self.moves)
        move = self.step(average, lr, damping_ex)
        return move, lr * (move * average).sum((-2, -1))

"""Bayes by backprop: independent weights whose deviations are parameters too, moved by Adam. No Fisher matrix is kept.

Paper: Blundell et al., arXiv 1505.05424. Chapter: ``book/noisy_ekfac.ipynb``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlib.arguments import typed, within
from nnlib.bayes.mean_field import LOG_SD
from nnlib.noisy_ekfac.posterior import Posterior
from nnlib.noisy_ekfac.statistics import Statistics

SECOND = 0.999  # Adam's decay of squares


@typed
@dataclass
class MeanField(Posterior):
    """Bayes by backprop's: Sigma = diag(exp(2 rho)), mean and rho moved by Adam on the objective itself.

    Per example the objective is E_q[-log p] + kl_weight / n_data * KL. Other arguments as in ``Posterior``; ``decay``
    is not used.

    Args:
        rho_start: Logarithm of the standard deviations at the start, in [-40, 40].

    Source: arXiv 1505.05424, section 3.2. Chapter: ``book/noisy_ekfac.ipynb``.
    """

    rho_start: float = -3.0

    def start(self) -> None:
        within(LOG_SD, rho_start=self.rho_start)
        self.rho = torch.full_like(self.mean, self.rho_start)
        self.square, self.rho_average = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        self.rho_square, self.rho_move = torch.zeros_like(self.mean), torch.zeros_like(self.mean)

    def observe(self, statistics: Statistics) -> None:
        """Nothing to average."""
        super().observe(statistics)

    def variance(self) -> tuple[None, Tensor]:
        return None, (2 * self.rho).exp()

    @typed
    def propose(
        self, gradient: Tensor, weights: Tensor, noise: Tensor, *, lr: float, damping_ex: float, momentum: float
    ) -> tuple[Tensor, Tensor]:
        """Adam's move of the mean, and lr times how much it and that of rho lower the objective; rho moves at once.

        Arguments as in ``Posterior.propose``; ``weights`` and ``damping_ex`` are not used.
        """
        self.check_particles(gradient=gradient, weights=weights, noise=noise)
        within("[0, inf)", lr=lr, damping_ex=damping_ex)
        within("[0, 1)", momentum=momentum)
        deviation, scale = self.rho.exp(), self.kl_weight / self.n_data
        slope = gradient.mean(0) + self.damping_in * self.mean
        rho_slope = (gradient * noise).mean(0) * deviation + scale * (deviation.square() / self.prior_variance - 1)
        self.moves += 1
        self.average, self.square = slope.lerp(self.average, momentum), slope.square().lerp(self.square, SECOND)
        self.rho_average = rho_slope.lerp(self.rho_average, momentum)
        self.rho_square = rho_slope.square().lerp(self.rho_square, SECOND)
        self.rho_move = self._adam(self.rho_average, self.rho_square, lr, momentum)
        self.rho = self.rho + self.rho_move
        move = self._adam(self.average, self.square, lr, momentum)
        return move, -(move * slope + self.rho_move * rho_slope).sum((-2, -1)) * lr

    def accept(self, move: Tensor, nu: float = 1.0) -> None:
        """Make nu times the moves of the mean and of rho."""
        super().accept(move, nu)
        self.rho = self.rho - (1 - nu) * self.rho_move

    def _adam(self, average: Tensor, square: Tensor, lr: float, momentum: float) -> Tensor:
        first, second = 1 - momentum**self.moves, 1 - SECOND**self.moves  # of the averages' start at zero
        return -lr * (average / first) / ((square / second).sqrt() + 1e-8)

"""Linear-Gaussian models have an exact posterior: who finds it?"""

import pytest
import torch
from torch import nn

from nnlib.bayes import Gaussian, LinearGaussian
from nnlib.noisy_ekfac import OPTIMIZERS

S2 = 0.3


def problem(seed=0, n=200, d=4):
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=g, dtype=torch.float64) @ torch.randn(d, d, generator=g, dtype=torch.float64)
    w = torch.randn(d + 1, generator=g, dtype=torch.float64)
    ones = torch.ones(n, 1, dtype=torch.float64)
    X1 = torch.cat([X, ones], 1)
    return X, LinearGaussian(X1, X1 @ w + S2**0.5 * torch.randn(n, generator=g, dtype=torch.float64), S2, 1.0)


def run(method, seed=0, steps=3000, **options):
    """Relative error of the covariance, and nats to the log evidence, after a long run with a falling rate."""
    X, exact = problem(seed)
    model = nn.Linear(4, 1, dtype=torch.float64)
    head = Gaussian(S2, dtype=torch.float64)
    optimizer = OPTIMIZERS[method](model, len(X), 0.05, likelihood=head, decay=0.995, seed=seed, **options)
    for step in range(steps):
        optimizer.lr = 0.05 if step < steps / 2 else 0.003
        with optimizer.sample():
            head.loss(model(X), exact.y[:, None]).backward()
        optimizer.step()
    (q,) = optimizer.posteriors.values()
    error = float((q.covariance() - exact.covariance).norm() / exact.covariance.norm())
    gap = float(exact.log_evidence() - exact.elbo(q.mean.flatten(), q.covariance()))
    return error, gap


@pytest.mark.parametrize("seed", [0, 1])
def test_corrected_eigenvalues_with_exact_damping_recover_the_posterior(seed):
    """Within the error of averaging sampled targets over some hundred steps of 200."""
    error, gap = run("Noisy EK-FAC", seed)
    assert error < 0.05 and gap < 0.05


def test_factored_damping_and_diagonals_do_not_recover_it():
    kfac, diagonal = run("Noisy K-FAC"), run("Noisy Adam")
    assert kfac[0] > 0.1 and diagonal[0] > 0.5 and diagonal[1] > kfac[1] > 0.01


def test_matrix_variate_with_exact_damping_recovers_it_too():
    """With one noise level the Fisher matrix is a Kronecker product: it is the damping that separates the methods."""
    error, gap = run("Noisy K-FAC", factored_damping=False)
    assert error < 0.05 and gap < 0.05

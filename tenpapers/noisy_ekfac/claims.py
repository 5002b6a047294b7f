"""What the paper says of noisy natural gradient with corrected eigenvalues, and what decides it here.

Paper: arXiv 1811.12565.
"""

import pandas as pd
import torch
from torch import Tensor

from nnlib.bayes import LinearGaussian
from nnlib.noisy_ekfac import EigenvalueCorrected, Rows
from tenpapers.claims import Claim, Direction, Evidence, Exact, Sample, Threshold, held_equal, learned, paired
from tenpapers.noisy_ekfac import runs
from tenpapers.noisy_ekfac.measure import FISHERS, covariances, gap
from tenpapers.noisy_ekfac.workloads import KRONECKER

OVERLAP = 1 / 9  # of the standard splits: test over training examples
BOTH = ("laptop", "paper")
TESTS = "tests/nnlib/noisy_ekfac/"


def regression(profile: str = "laptop") -> pd.DataFrame:
    """The runs on regression sets at the Bayesian temperature; ``variant`` tells noisy K-FAC's two dampings apart."""
    frame = runs.uci.read(profile, kl_weight=1.0)
    frame = frame[frame.on_basis_change.isna()]
    exact = (frame.method == "Noisy K-FAC") & (frame.damping_kind == "exact")
    return frame.assign(variant=frame.method.mask(exact, "Noisy K-FAC, exact damping"))


def differences(frame: pd.DataFrame, column: str, ours: str, other: str) -> dict[str, Sample]:
    """For each set, a column of one variant less that of another, split by split."""
    return {
        str(name): paired(part, column, "variant", ours, other, unit="split", overlap=OVERLAP)
        for name, part in frame.groupby("data")
    }


def gains(column: str, profile: str = "laptop", workloads: tuple[str, ...] = tuple(runs.SEEDS)) -> dict[str, Sample]:
    """For each network, a column of noisy EK-FAC less that of noisy K-FAC, seed by seed."""
    frame = runs.images.read(profile, workload=workloads, kl_weight=0.1)
    return {
        str(name): paired(part, column, "method", "Noisy EK-FAC", "Noisy K-FAC")
        for name, part in frame.groupby("workload")
    }


def layer(seed: int, n: int = 300) -> tuple[Tensor, Tensor]:
    """Inputs, (n, 4), and gradients, (n, 3), of a layer, whose sizes depend on each other: no Kronecker product."""
    draw = torch.Generator().manual_seed(seed)
    x, ds = (torch.randn(n, k, generator=draw, dtype=torch.float64) for k in (4, 3))
    return x, ds * (0.2 + x[:, :1].abs())


def _fisher_error(profile: str) -> Evidence:
    found: dict[str, float | bool] = {}
    for seed in range(5):
        x, ds = layer(seed)
        G = torch.einsum("bo,bi->boi", ds, x).flatten(1)
        F = G.T @ G / len(x)
        q = EigenvalueCorrected(torch.zeros(3, 4, dtype=F.dtype), len(x), decay=0.0)
        q.observe(Rows(x, ds))
        Q = torch.kron(q.basis.Q_S, q.basis.Q_A)
        corrected, products = (Q * values.flatten() @ Q.T for values in (q.R, q.products()))
        # Pythagoras: what the products lose beside the corrected eigenvalues is the distance between the two.
        squares = [(a - b).square().sum() for a, b in ((F, products), (F, corrected), (products, corrected))]
        found[f"layer {seed}"] = ((squares[0] - squares[1] - squares[2]) / F.square().sum()).item()
        found[f"layer {seed}: nearer"] = bool(squares[1] < squares[0])
    return Evidence(found)


fisher_error = Claim(
    "noisy_ekfac",
    "fisher_error",
    "In the Kronecker eigenbasis corrected eigenvalues are nearer to the Fisher matrix than products of eigenvalues "
    "(relative Frobenius error)",
    "the eigenvalue correction",
    Exact(1e-9),
    _fisher_error,
    same=BOTH,
    test=TESTS + "test_posteriors.py::test_the_fisher_error_falls_from_kfac_to_ekfac",
)


def _gaps(*names: str) -> Evidence:
    found = covariances(0.9, 20, 1.0, 1.0)
    return Evidence({name: gap(found[name], found["Exact"]) for name in names})


linear_exact = Claim(
    "noisy_ekfac",
    "linear_exact",
    "In a linear-Gaussian model noisy EK-FAC's covariance is the exact one",
    "the posterior",
    Exact(1e-9),
    lambda profile: _gaps("Noisy EK-FAC"),
    same=BOTH,
    test=TESTS + "test_linear.py::test_corrected_eigenvalues_with_exact_damping_recover_the_posterior",
)
linear_inexact = Claim(
    "noisy_ekfac",
    "linear_inexact",
    "In a linear-Gaussian model matrix-variate (factored damping) and diagonal covariances are not the exact one "
    "(KL to the exact posterior, two weights, nats)",
    "the posterior",
    Threshold(above=1e-6),
    lambda profile: _gaps("Noisy Adam", "Noisy K-FAC"),
    same=BOTH,
    test=TESTS + "test_linear.py::test_factored_damping_and_diagonals_do_not_recover_it",
)


def _noisy_step(profile: str) -> Evidence:
    draw = torch.Generator().manual_seed(0)
    X, y, start, noise = (
        torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((30, 4), (30,), (1, 4), (1, 1, 4))
    )
    exact, noise, found = LinearGaussian(X, y, 0.5, 2.0), torch.cat([noise, -noise]), {}
    for name, kind in FISHERS.items():
        q = kind(start, 30, prior_variance=2.0, decay=0.0)
        q.observe(Rows(X, torch.full_like(y[:, None], exact.noise_variance**-0.5)))
        weights = q.sample(noise)  # a draw and its mirror image: their mean gradient is that of the expected loss
        gradient = (weights @ X.T - y) @ X / (30 * exact.noise_variance)  # (2, 1, 4)
        move, _ = q.propose(gradient, weights, noise, lr=0.1, damping_ex=0.0, momentum=0.0)
        mean, covariance = start[0].clone().requires_grad_(), q.covariance()
        (slope,) = torch.autograd.grad(exact.elbo(mean, covariance), mean)
        found[name] = (move[0] - 0.1 * covariance @ slope).abs().max().item()
    return Evidence(found)


noisy_step = Claim(
    "noisy_ekfac",
    "noisy_step",
    "Adding weight noise to natural gradient is variational inference: in a linear-Gaussian model the step of each "
    "posterior, at a draw and its mirror image, is the natural gradient of the evidence lower bound",
    "abstract; noisy natural gradient",
    Exact(1e-9),
    _noisy_step,
    same=BOTH,
    test=TESTS + "test_posteriors.py::test_the_move_is_the_natural_gradient_of_the_evidence_lower_bound",
)


def _uci(profile: str) -> Evidence:
    frame = regression(profile)
    if profile == "paper":
        frame = frame[frame.data != "diabetes"]  # is not among the paper's sets
    shown = differences(frame, "rmse", "Noisy EK-FAC", "Noisy K-FAC")
    for name, part in frame.groupby("data"):
        epochs = part.groupby("variant").epochs.mean()
        held_equal(f"epochs on {name}", {str(variant): float(n) for variant, n in epochs.items()}, ours=shown)
    return Evidence(shown, differences(frame, "rmse", "Noisy K-FAC", "Noisy EK-FAC"))


uci_rmse = Claim(
    "noisy_ekfac",
    "uci_rmse",
    "Noisy EK-FAC consistently predicts better than noisy K-FAC on regression sets "
    "(difference in test RMSE, negative where it does)",
    "abstract; regression",
    Direction(),
    _uci,
    equal="splits, first weights, epochs, batches, learning rate, particles, temperature; damping is each method's own",
    test="tests/tenpapers/noisy_ekfac/test_measure.py::test_splits_trained_together_learn",
)


def _classifies_better(profile: str, *workloads: str) -> Evidence:
    found = gains("accuracy", profile, workloads)
    frame = runs.images.read(profile, workload=workloads, kl_weight=0.1, method=list(KRONECKER))
    for (workload, method), part in frame.groupby(["workload", "method"]):
        learned(f"{method}, {workload}", part.accuracy.mean(), chance=0.1, ours=found)
    return Evidence(found)


images = Claim(
    "noisy_ekfac",
    "images",
    "Noisy EK-FAC classifies better than noisy K-FAC (difference in test accuracy)",
    "abstract; classification",
    Direction(),
    lambda profile: _classifies_better(profile, *runs.SEEDS),
    equal="first weights, epochs, batches, learning rate, temperature, extrinsic damping, particles",
    test=TESTS + "test_optimizer.py::test_a_classifier_learns_the_digits",
)
cifar = Claim(
    "noisy_ekfac",
    "cifar",
    "On CIFAR-10 with a VGG16, noisy EK-FAC classifies better than noisy K-FAC",
    "classification",
    Direction(),
    lambda profile: _classifies_better(profile, "VGG16, CIFAR-10"),
    equal="first weights, epochs, batches, learning rate, temperature, extrinsic damping, particles",
    test=TESTS + "test_optimizer.py::test_a_classifier_learns_the_digits",
)

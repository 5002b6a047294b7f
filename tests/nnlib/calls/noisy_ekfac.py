"""Calls of ``nnlib.noisy_ekfac``. Steps and draws let NaN through to the optimiser, which names the layer:
``test_state`` has bad batches, ``test_posteriors`` shapes."""

from nnlib.bayes import Gaussian
from nnlib.models import MLP
from nnlib.noisy_ekfac import Diagonal, EigenvalueCorrected, MatrixVariate, MeanField, Rows
from tests.nnlib.calls.bayes import numbers


def optimizer(**options):
    return {
        "model": MLP([3, 2]), "n_data": 9, "lr": 0.1, "likelihood": Gaussian(), "prior_variance": 2.0,
        "kl_weight": 0.5, "momentum": 0.5, "kl_clip": 0.1, "seed": 0,
    } | options  # fmt: skip


def natural(**options):
    return optimizer(damping=0.1, decay=0.9, update_statistics_every=2, **options)


def posterior(**options):
    return {"mean": numbers(2, 3), "n_data": 9, "prior_variance": 2.0, "kl_weight": 0.5, "decay": 0.9} | options


def rows():
    return {"x": numbers(5, 3), "ds": numbers(5, 2, seed=1)}


def observing(kind):
    return lambda: {"self": kind(numbers(2, 3), 9), "statistics": Rows(**rows())}


CALLS = {
    "BayesByBackprop": lambda: optimizer(rho_start=-2.0),
    "Diagonal": posterior,
    "Diagonal.observe": observing(Diagonal),
    "EigenvalueCorrected": lambda: posterior(update_basis_every=2, on_basis_change="reset"),
    "EigenvalueCorrected.observe": observing(EigenvalueCorrected),
    "Locations": lambda: {"x": numbers(5, 4, 3), "ds": numbers(1, 5, 4, 2)},
    "MatrixVariate": lambda: posterior(update_basis_every=2, damping_kind="exact"),
    "MatrixVariate.observe": observing(MatrixVariate),
    "MeanField": lambda: posterior(rho_start=-2.0),
    "MeanField.observe": observing(MeanField),
    "NoisyAdam": natural,
    "NoisyEKFAC": lambda: natural(update_basis_every=2, on_basis_change="keep"),
    "NoisyKFAC": lambda: natural(update_basis_every=2, factored_damping=False),
    "Rows": rows,
}
ELSEWHERE: dict[str, str] = {}

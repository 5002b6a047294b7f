"""What is the Fisher matrix, and why not the empirical one? Claims of arXiv 1905.12558 and Amari 1998.

Chapter: ``book/curvature.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.curvature import dense_fisher, dense_hessian, jacobian
from nnlib.models import MLP
from tenpapers.claims import Claim, Evidence, Exact, Threshold
from tenpapers.claims import sample as sample_of
from tenpapers.curvature import runs
from tenpapers.curvature.measure import fields, relative_error
from tenpapers.curvature.workloads import drawn

DENSE = "tests/nnlib/curvature/test_dense.py::"
MEASURES = "tests/tenpapers/curvature/test_measure.py::"
BOTH = ("laptop", "paper")


def _fisher_gauss_newton(profile: str) -> Evidence:
    model, x = MLP([4, 5, 3], seed=0, dtype=torch.float64), drawn(6, 4)
    J, p = jacobian(model, x), model(x).detach().softmax(1)  # (B, C, P), (B, C)
    at_outputs = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # of cross-entropy; of the squared loss I
    matrices = {
        "softmax": (torch.einsum("bcp,bcd,bdq->pq", J, at_outputs, J) / 6, dense_fisher(model, x)),
        "squared loss": (torch.einsum("bcp,bcq->pq", J, J) / 6, dense_fisher(model, x, "gaussian")),
    }
    return Evidence({name: relative_error(ours, fisher) for name, (ours, fisher) in matrices.items()})


fisher_gauss_newton = Claim(
    "curvature",
    "fisher_gauss_newton",
    "For softmax with cross-entropy and for squared loss the Fisher matrix is the generalised Gauss-Newton matrix",
    "1905.12558, section 2; used throughout 1503.05671",
    Exact(1e-12),
    _fisher_gauss_newton,
    same=BOTH,
    test=DENSE + "test_fisher_is_the_gauss_newton_matrix_of_the_loss",
)


def _fisher_divergence(profile: str) -> Evidence:
    model, x = MLP([4, 5, 3], seed=0, dtype=torch.float64), drawn(6, 4)
    before = model(x).detach().log_softmax(1)

    def divergence(outputs: Tensor, _: Tensor) -> Tensor:
        return (before.exp() * (before - outputs.log_softmax(1))).sum(1).mean()

    hessian = dense_hessian(model, x, torch.zeros(6), divergence)
    return Evidence({"relative error": relative_error(hessian, dense_fisher(model, x))})


fisher_divergence = Claim(
    "curvature",
    "fisher_divergence",
    "The Fisher matrix is the Hessian of the Kullback-Leibler divergence between the predictions before and after a "
    "step",
    "Amari 1998; 1503.05671, section 2",
    Exact(1e-12),
    _fisher_divergence,
    same=BOTH,
    test=MEASURES + "test_fisher_matrix_is_the_hessian_of_the_divergence_between_old_and_new_predictions",
)


def _natural_gradient_linear(profile: str) -> Evidence:
    found = fields()
    return Evidence(
        {"distance from the optimum": abs(found["theta"] + found["natural gradient"] - found["optimum"]).max().item()}
    )


natural_gradient_linear = Claim(
    "curvature",
    "natural_gradient_linear",
    "On a linear least-squares fit one natural-gradient step lands on the optimum from anywhere",
    "Amari 1998; 1905.12558, section 4",
    Exact(1e-9),
    _natural_gradient_linear,
    same=BOTH,
    test=MEASURES
    + "test_natural_gradient_points_at_the_optimum_of_a_linear_fit_and_the_empirical_fisher_matrix_does_not",
)


def _empirical_fisher(profile: str) -> Evidence:
    frame = runs.fields.read(profile, direction="empirical Fisher")
    shown = {"mean angle": sample_of(frame, "mean_angle"), "largest angle": sample_of(frame, "largest_angle")}
    return Evidence(shown, {"largest angle": shown["largest angle"]})


empirical_fisher = Claim(
    "curvature",
    "empirical_fisher",
    "The empirical Fisher matrix is not a curvature: on a linear least-squares fit its direction misses the optimum "
    "by a wide angle (somewhere by more than 60°)",
    "1905.12558, sections 3 and 4",
    Threshold(above=60.0),
    _empirical_fisher,
    same=(),
    test=MEASURES
    + "test_natural_gradient_points_at_the_optimum_of_a_linear_fit_and_the_empirical_fisher_matrix_does_not",
)
empirical_fisher_steps = Claim(
    "curvature",
    "empirical_fisher_steps",
    "On the same fit the steps of the empirical Fisher matrix are shortest where the fit is worst (rank correlation of "
    "the loss with the length of the step over the distance)",
    "1905.12558, sections 3 and 4",
    Threshold(below=0.0),
    lambda profile: Evidence(
        {"rank correlation": sample_of(runs.fields.read(profile, direction="empirical Fisher"), "order")}
    ),
    same=(),
    test=MEASURES + "test_steps_of_the_empirical_fisher_matrix_are_shortest_where_the_fit_is_worst",
)

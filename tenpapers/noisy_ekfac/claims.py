"""What the paper says of noisy natural gradient with corrected eigenvalues, and what decides it here.

Exact evidence is in ``identities.py``, that of recorded runs in ``comparisons.py``. Paper: arXiv 1811.12565.
"""

from tenpapers.claims import Claim, Direction, Equal, Exact, Figure, Threshold
from tenpapers.noisy_ekfac import comparisons, identities
from tenpapers.noisy_ekfac.comparisons import ADAM, EKFAC, EXACT, KFAC

BOTH = ("laptop", "paper")
CHAPTER = "noisy_ekfac"
POSTERIORS, LINEAR, OPTIMIZER = (
    f"tests/nnlib/noisy_ekfac/test_{name}.py::" for name in ("posteriors", "linear", "optimizer")
)
LABORATORY = "tests/tenpapers/noisy_ekfac/test_"
TRAINED = "splits, first weights, epochs, batches, learning rate, particles"
OWN_DAMPING = f"{TRAINED}, temperature; damping is each method's own"
ON_IMAGES = "first weights, epochs, batches, learning rate, temperature, extrinsic damping, particles"

noisy_step = Claim(
    CHAPTER,
    "noisy_step",
    "Adding weight noise to natural gradient is variational inference: in a linear-Gaussian model the step of each "
    "posterior, at a draw and its mirror image, is the natural gradient of the evidence lower bound in the mean",
    "abstract; noisy natural gradient",
    Exact(1e-9),
    identities.noisy_step,
    same=BOTH,
    test=POSTERIORS + "test_the_move_is_the_natural_gradient_of_the_evidence_lower_bound",
)
precision_step = Claim(
    CHAPTER,
    "precision_step",
    "The running average of the Fisher matrix is a natural gradient step too: in a linear-Gaussian model it moves the "
    "precision of noisy EK-FAC by the natural gradient of the evidence lower bound",
    "abstract; noisy natural gradient",
    Exact(1e-9),
    identities.precision_step,
    same=BOTH,
    test=POSTERIORS + "test_the_running_average_is_the_natural_gradient_in_the_precision",
)
fisher_error = Claim(
    CHAPTER,
    "fisher_error",
    "In the Kronecker eigenbasis corrected eigenvalues are nearer to the Fisher matrix than products of eigenvalues "
    "(relative Frobenius error)",
    "the eigenvalue correction",
    Exact(1e-9),
    identities.fisher_error,
    same=BOTH,
    test=POSTERIORS + "test_the_fisher_error_falls_from_kfac_to_ekfac",
)
linear_exact = Claim(
    CHAPTER,
    "linear_exact",
    "In a linear-Gaussian model noisy EK-FAC's covariance is the exact one",
    "the posterior",
    Exact(1e-9),
    lambda profile: identities.gaps("Noisy EK-FAC"),
    same=BOTH,
    test=LINEAR + "test_corrected_eigenvalues_with_exact_damping_recover_the_posterior",
)
linear_inexact = Claim(
    CHAPTER,
    "linear_inexact",
    "In a linear-Gaussian model matrix-variate (factored damping) and diagonal covariances are not the exact one "
    "(KL to the exact posterior, two weights, nats)",
    "the posterior",
    Threshold(above=1e-6),
    lambda profile: identities.gaps("Noisy Adam", "Noisy K-FAC"),
    same=BOTH,
    test=LINEAR + "test_factored_damping_and_diagonals_do_not_recover_it",
)
cooling = Claim(
    CHAPTER,
    "cooling",
    "Factored damping multiplies each variance by (1 + uv) / ((1 + u)(1 + v)), at most (1 + p) / (1 + √p)² for p = uv; "
    "where the data say nothing it goes below the prior's variance, which no temperature does",
    "ours, of noisy K-FAC's damping",
    Exact(1e-9),
    identities.cooling,
    same=BOTH,
    test=POSTERIORS + "test_factored_damping_never_gives_a_larger_variance_than_exact",
)
marginals = Claim(
    CHAPTER,
    "marginals",
    "A matrix-variate Gaussian does not capture an accurate diagonal variance; with corrected eigenvalues it is nearer "
    "(error of 61 marginal standard deviations, root mean square of the log; what noisy EK-FAC gains)",
    "abstract",
    Direction(),
    lambda profile: comparisons.deviations(profile, EKFAC, KFAC),
    equal="weights, Fisher statistics, prior; damping is each method's own",
    test=LABORATORY + "marginals.py::test_the_references_agree_where_the_mode_is_sharp",
)
marginals_eigenvalues = Claim(
    CHAPTER,
    "marginals_eigenvalues",
    "It is the corrected eigenvalues that make the marginal variances more accurate "
    "(what noisy EK-FAC gains on noisy K-FAC with exact damping)",
    "abstract",
    Direction(),
    lambda profile: comparisons.deviations(profile, EKFAC, EXACT),
    equal="weights, Fisher statistics, prior, damping",
    test=LABORATORY + "marginals.py::test_the_references_agree_where_the_mode_is_sharp",
)
bound = Claim(
    CHAPTER,
    "bound",
    "The more flexible posterior has the better evidence lower bound in training "
    "(noisy EK-FAC less noisy K-FAC, nats an example)",
    "the posterior",
    Direction(),
    lambda profile: comparisons.bound(profile, EKFAC, KFAC),
    equal=OWN_DAMPING,
    test=LABORATORY + "regression.py::test_the_bound_is_the_evidence_where_there_is_nothing_to_learn_but_the_noise",
)
bound_diagonal = Claim(
    CHAPTER,
    "bound_diagonal",
    "The matrix-variate posterior has a better evidence lower bound in training than the diagonal one "
    "(noisy K-FAC less noisy Adam, nats an example)",
    "the posterior",
    Direction(),
    lambda profile: comparisons.bound(profile, KFAC, ADAM),
    equal=OWN_DAMPING,
    test=LABORATORY + "regression.py::test_the_bound_is_the_evidence_where_there_is_nothing_to_learn_but_the_noise",
)
uci_rmse = Claim(
    CHAPTER,
    "uci_rmse",
    "Noisy EK-FAC consistently predicts better than noisy K-FAC on regression sets, after short runs "
    "(difference in test RMSE, negative where it does)",
    "abstract; regression",
    Direction(),
    comparisons.short_runs,
    equal=OWN_DAMPING,
    test=LABORATORY + "regression.py::test_splits_trained_together_learn",
)
equal_kl = Claim(
    CHAPTER,
    "equal_kl",
    "At no larger KL to the prior, noisy EK-FAC predicts better than noisy K-FAC at the Bayesian temperature "
    "(what it gains)",
    "abstract; regression",
    Direction(),
    comparisons.at_equal_kl,
    equal=f"{TRAINED}; noisy EK-FAC's KL to the prior is not the larger",
    test=LABORATORY + "regression.py::test_splits_trained_together_learn",
)
chosen_temperature = Claim(
    CHAPTER,
    "chosen_temperature",
    "Each at the temperature that held-out examples choose, noisy EK-FAC predicts better than noisy K-FAC "
    "(what it gains)",
    "abstract; regression",
    Direction(),
    comparisons.at_chosen_temperature,
    equal=f"{TRAINED}, the temperatures to choose from and how; damping is each method's own",
    test=LABORATORY + "regression.py::test_what_is_held_out_is_not_trained_on_and_decides_the_validation",
)
protocol_rmse = Claim(
    CHAPTER,
    "protocol_rmse",
    "By the paper's protocol noisy EK-FAC consistently has a smaller test error than noisy K-FAC (RMSE, what it gains)",
    "abstract; regression",
    Direction(),
    lambda profile: comparisons.by_protocol(profile, "error"),
    equal=OWN_DAMPING,
    same=BOTH,
    test=LABORATORY + "regression.py::test_with_the_papers_schedule_the_statistics_slow_down_at_half",
)
protocol_likelihood = Claim(
    CHAPTER,
    "protocol_likelihood",
    "By the paper's protocol noisy EK-FAC consistently has a better test log likelihood than noisy K-FAC "
    "(what it gains)",
    "abstract; regression",
    Direction(),
    lambda profile: comparisons.by_protocol(profile, "log likelihood"),
    equal=OWN_DAMPING,
    same=BOTH,
    test=LABORATORY + "regression.py::test_with_the_papers_schedule_the_statistics_slow_down_at_half",
)
protocol_eigenvalues = Claim(
    CHAPTER,
    "protocol_eigenvalues",
    "By the paper's protocol and at equal damping, corrected eigenvalues have a better test log likelihood "
    "than products (what noisy EK-FAC gains on noisy K-FAC with exact damping)",
    "ours, of the eigenvalue correction",
    Direction(),
    lambda profile: comparisons.by_protocol(profile, "log likelihood", EXACT),
    equal=f"{TRAINED}, temperature, damping",
    same=BOTH,
    test=POSTERIORS + "test_noisy_ekfac_has_the_diagonal_of_the_fisher_matrix_in_its_basis",
)
kfac_figures = Claim(
    CHAPTER,
    "kfac_figures",
    "By the paper's protocol noisy K-FAC has the published test error (RMSE) and log likelihood, on the sets run",
    "regression",
    Figure(margin=0.3, reading=0.0005),
    comparisons.noisy_kfac,
    paper={
        **{"boston, error": 2.742, "concrete, error": 5.019, "energy, error": 0.485, "wine, error": 0.637},
        **{"yacht, error": 0.979, "boston, log likelihood": -2.446, "concrete, log likelihood": -3.039},
        **{"energy, log likelihood": -1.421, "wine, log likelihood": -0.969, "yacht, log likelihood": -2.316},
    },
    certainty="quoted by 1903.05779, from the paper of noisy K-FAC",
    same=BOTH,
    test=LABORATORY + "regression.py::test_splits_trained_together_learn",
)
released = Claim(
    CHAPTER,
    "released",
    "What the released regression code computes predicts as noisy K-FAC does (difference in test log likelihood)",
    "ours, of the released code",
    Equal(0.02),
    comparisons.released,
    equal=OWN_DAMPING,
    same=BOTH,
    test=LABORATORY + "regression.py::test_what_was_released_starts_each_step_from_the_damped_products",
)
basis_change = Claim(
    CHAPTER,
    "basis_change",
    "What becomes of the eigenvalues when the axes change does not matter in training, however often they do "
    "(test log likelihood, less that with projection)",
    "ours, of algorithm 1",
    Equal(0.02),
    comparisons.basis_change,
    equal=f"{TRAINED}, temperature, how often the axes change",
    test=POSTERIORS + "test_a_new_basis_keeps_the_old_diagonal_by_projection_only",
)
cost = Claim(
    CHAPTER,
    "cost",
    "Corrected eigenvalues cost little: noisy EK-FAC takes at most half as long again as noisy K-FAC (seconds of CPU)",
    "the posterior",
    Threshold(below=1.5),
    lambda profile: comparisons.cost(profile, KFAC),
    equal=TRAINED,
    test=POSTERIORS + "test_the_correction_costs_two_rotations_and_one_product_of_matrices",
)
images = Claim(
    CHAPTER,
    "images",
    "Noisy EK-FAC classifies better than noisy K-FAC (difference in test accuracy)",
    "abstract; classification",
    Direction(),
    comparisons.classifies_better,
    equal=ON_IMAGES,
    test=OPTIMIZER + "test_a_classifier_learns_the_digits",
)
cifar = Claim(
    CHAPTER,
    "cifar",
    "On CIFAR-10, with and without batch normalisation and augmentation, noisy EK-FAC classifies better than noisy "
    "K-FAC (difference in test accuracy; laptop: a narrow VGG11 and a sixth of the images)",
    "classification",
    Direction(),
    comparisons.on_cifar,
    equal=ON_IMAGES,
    test=OPTIMIZER + "test_a_classifier_learns_the_digits",
)

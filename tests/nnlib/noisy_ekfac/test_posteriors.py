"""Claims about the four posteriors, against dense matrices."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nnlib.bayes import LinearGaussian, mean_field_kl
from nnlib.noisy_ekfac import METHODS, Diagonal, EigenvalueCorrected, Locations, MatrixVariate, MeanField, Rows
from nnlib.noisy_ekfac.matrix_variate import split_damping
from tests.oracles import noisy_ekfac as oracle

N, ETA, TAU = 50, 0.7, 0.5
NATURAL = ["Noisy Adam", "Noisy K-FAC", "Noisy EK-FAC"]
STEP = {"lr": 0.1, "damping_ex": 0.0, "momentum": 0.0}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(n=200):
    """Inputs and gradients that depend on each other, so that no Kronecker product is their Fisher matrix."""
    x = draw(n, 4) @ draw(4, 4, seed=1)
    return x, draw(n, 3, seed=2) * (0.2 + x[:, :1].abs())


def made(kind, decay=0.0, **options):
    q = kind(draw(3, 4, seed=5), n_data=N, prior_variance=ETA, kl_weight=TAU, decay=decay, **options)
    q.observe(Rows(*correlated()))
    return q


@pytest.mark.parametrize("method", METHODS)
def test_kl_and_logdet_are_those_of_the_dense_gaussian(method):
    q = made(METHODS[method])
    dense = q.covariance()
    torch.testing.assert_close(q.kl(), oracle.dense_kl(q.mean.flatten(), dense, ETA))
    torch.testing.assert_close(q.logdet(), torch.linalg.slogdet(dense).logabsdet)


@pytest.mark.parametrize("method", METHODS)
def test_samples_have_the_covariance_exactly(method):
    """The map from noise to weights, column by column, is a square root of the covariance: no statistics needed."""
    q = made(METHODS[method])
    columns = q.sample(torch.eye(12, dtype=torch.float64).view(12, 3, 4)) - q.mean
    L = columns.flatten(1).T
    torch.testing.assert_close(L @ L.T, q.covariance())


def test_noisy_adam_keeps_the_diagonal_of_the_fisher_matrix():
    F = oracle.fisher(*correlated())
    expected = TAU / N / (F.diagonal() + TAU / (N * ETA))
    torch.testing.assert_close(made(Diagonal).covariance().diagonal(), expected)


def test_noisy_kfac_has_the_factored_covariance_of_the_paper():
    x, ds = correlated()
    expected = oracle.factored_covariance(x.T @ x / len(x), ds.T @ ds / len(x), N, ETA, TAU)
    torch.testing.assert_close(made(MatrixVariate).covariance(), expected, rtol=1e-6, atol=1e-10)


def test_noisy_ekfac_has_the_diagonal_of_the_fisher_matrix_in_its_basis():
    q, F = made(EigenvalueCorrected), oracle.fisher(*correlated())
    Q = torch.kron(q.basis.Q_S, q.basis.Q_A)
    torch.testing.assert_close(q.R.flatten(), (Q.T @ F @ Q).diagonal())
    torch.testing.assert_close(q.R.sum(), F.trace())


def test_the_fisher_error_falls_from_kfac_to_ekfac():
    """Ekfac is the best there is in that basis, so never worse; here the products are far off."""
    F = oracle.fisher(*correlated())
    error = {}
    for name, kind, options in (
        ("kfac", MatrixVariate, {"damping_kind": "exact"}),
        ("ekfac", EigenvalueCorrected, {}),
        ("diagonal", Diagonal, {}),
    ):
        basis, values = made(kind, **options).damped(0.0)
        Q = torch.eye(12, dtype=F.dtype) if basis is None else torch.kron(basis.Q_S, basis.Q_A)
        error[name] = float((F - Q * values.flatten() @ Q.T).norm() / F.norm())
    assert error["ekfac"] < 0.8 * error["kfac"] and error["ekfac"] < error["diagonal"]


def test_factored_damping_never_gives_a_larger_variance_than_exact():
    factored, exact = (made(MatrixVariate, damping_kind=kind).variance()[1] for kind in ("factored", "exact"))
    assert (factored <= exact * (1 + 1e-12)).all() and factored.sum() < 0.9 * exact.sum()


@pytest.mark.parametrize("method", NATURAL)
def test_no_variance_exceeds_the_prior(method):
    assert made(METHODS[method]).variance()[1].max() <= ETA * (1 + 1e-12)


def test_extrinsic_damping_changes_the_step_and_not_the_posterior():
    q = made(EigenvalueCorrected)
    before, V = q.covariance(), draw(3, 4, seed=9)
    plain, damped = q.step(V, 0.1), q.step(V, 0.1, damping_ex=1.0)
    assert damped.norm() < plain.norm() and torch.equal(q.covariance(), before)
    torch.testing.assert_close(plain.flatten(), 0.1 * N / TAU * before @ V.flatten())


@pytest.mark.parametrize("method", NATURAL)
def test_where_the_data_say_nothing_the_mean_moves_towards_the_prior(method):
    """-lr d (F + d)^-1 W at the particle W. Breaks if the prior is dropped from the step, or taken at the mean."""
    q, W = made(METHODS[method]), draw(1, 3, 4, seed=8)
    move, _ = q.propose(torch.zeros_like(W), W, W, **STEP)
    expected = -0.1 * q.damping_in * (N / TAU * q.covariance() @ W.flatten())
    assert move.norm() > 1e-4
    torch.testing.assert_close(move.flatten(), expected)


@pytest.mark.parametrize("method", NATURAL)
def test_the_move_is_the_natural_gradient_of_the_evidence_lower_bound(method):
    """In a linear-Gaussian model, where a draw and its mirror image give the gradient of the expected loss."""
    exact = LinearGaussian(draw(N, 4), draw(N, seed=1), 0.4, ETA)
    q = METHODS[method](draw(1, 4, seed=2), N, ETA, decay=0.0)
    q.observe(Rows(exact.X, torch.full((N, 1), 0.4**-0.5, dtype=torch.float64)))
    noise = draw(1, 1, 4, seed=3)
    noise = torch.cat([noise, -noise])
    W = q.sample(noise)
    move, _ = q.propose((W @ exact.X.T - exact.y) @ exact.X / (N * 0.4), W, noise, **STEP)
    mean = q.mean[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(exact.elbo(mean, q.covariance()), mean)
    torch.testing.assert_close(move[0], 0.1 * q.covariance() @ slope)


@pytest.mark.parametrize("method", NATURAL)
def test_the_squared_length_of_a_move_is_that_in_the_metric_of_the_fisher_matrix(method):
    q, W = made(METHODS[method]), draw(2, 3, 4, seed=8)
    move, length = q.propose(draw(2, 3, 4, seed=9), W, W, **STEP | {"damping_ex": 0.3})
    basis, values = q.damped(q.damping_in + 0.3)
    turned = move if basis is None else basis.rotate(move)
    torch.testing.assert_close(length, (turned.square() * values).sum())


def test_momentum_averages_directions_without_a_bias_at_the_start():
    q, W, g = made(Diagonal), draw(1, 3, 4, seed=8), draw(1, 3, 4, seed=9)
    first, second = (q.propose(g, W, W, **STEP | {"momentum": 0.9})[0] for _ in range(2))
    torch.testing.assert_close(first, second)
    third = q.propose(-g, W, W, **STEP | {"momentum": 0.9})[0]
    assert (third - second).norm() > 0.1 * second.norm()


def test_bayes_by_backprop_follows_the_slope_of_the_objective_in_mean_and_deviation():
    """E[-log p] + kl_weight / n KL by autograd. Breaks if the prior's variance is ignored in rho, or in the mean."""
    q = MeanField(draw(3, 4, seed=5), n_data=N, prior_variance=ETA, kl_weight=TAU, rho_start=-0.4)
    noise, target = draw(6, 3, 4, seed=7), draw(3, 4, seed=8)
    mean, rho = q.mean.clone().requires_grad_(), q.rho.clone().requires_grad_()
    weights = mean + rho.exp() * noise
    objective = (weights - target).pow(4).sum((1, 2)).mean() + TAU / N * mean_field_kl(mean, (2 * rho).exp(), ETA)
    slope, rho_slope = torch.autograd.grad(objective, (mean, rho))
    gradient = 4 * (q.sample(noise) - target).pow(3)
    before = q.rho
    move, length = q.propose(gradient, q.sample(noise), noise, **STEP)
    torch.testing.assert_close(q.average, slope)
    torch.testing.assert_close(q.rho_average, rho_slope)
    torch.testing.assert_close(move, -0.1 * slope.sign())  # Adam's first step
    torch.testing.assert_close(q.rho - before, -0.1 * rho_slope.sign())
    torch.testing.assert_close(length, 0.01 * (slope.abs() + rho_slope.abs()).sum())
    mean = q.mean
    q.accept(move, 0.25)
    torch.testing.assert_close(q.mean - mean, 0.25 * move)
    torch.testing.assert_close(q.rho - before, -0.025 * rho_slope.sign())


def test_a_new_basis_keeps_the_old_diagonal_by_projection_only():
    """``project`` is the diagonal of the old matrix in the new basis; ``keep`` is not."""
    x, ds = correlated()
    found = {}
    for kind in ("project", "keep", "reset"):
        q = made(EigenvalueCorrected, decay=0.5, on_basis_change=kind)
        Q = torch.kron(q.basis.Q_S, q.basis.Q_A)
        before = Q * q.R.flatten() @ Q.T
        q.A, q.S = x.T @ torch.diag(torch.linspace(0, 3, len(x), dtype=x.dtype)) @ x / len(x), torch.eye(3).double()
        q.S = q.S + 0.5 * ds.T @ ds
        q.decompose()
        Q = torch.kron(q.basis.Q_S, q.basis.Q_A)
        found[kind] = (q.R.flatten(), (Q.T @ before @ Q).diagonal(), q.products().flatten())
    torch.testing.assert_close(found["project"][0], found["project"][1])
    assert not torch.allclose(found["keep"][0], found["keep"][1])
    torch.testing.assert_close(found["reset"][0], found["reset"][2])


def test_copies_side_by_side_are_the_copies_one_by_one():
    x, ds = correlated(40)
    xs, dss = torch.stack([x, 2 * x]), torch.stack([ds, ds.flip(0)])
    noise = draw(2, 2, 3, 4, seed=7)
    for kind in METHODS.values():
        both = kind(draw(2, 3, 4, seed=5), n_data=N)
        both.observe(Rows(xs, dss))
        for r in range(2):
            one = kind(draw(2, 3, 4, seed=5)[r], n_data=N)
            one.observe(Rows(xs[r], dss[r]))
            torch.testing.assert_close(both.kl()[r], one.kl())
            torch.testing.assert_close(both.variance()[1][r], one.variance()[1])
            assert both.sample(noise).shape == (2, 2, 3, 4)


def test_locations_sum_before_they_square():
    """Two locations of an example: the gradient is their sum, so squares of single locations would be wrong."""
    x, ds = draw(5, 2, 4), draw(1, 5, 2, 3, seed=3)
    G = torch.einsum("bto,bti->boi", ds[0], x)
    torch.testing.assert_close(Locations(x, ds).squares(None), G.square().mean(0))
    assert not torch.allclose(Locations(x, ds).squares(None), Rows(x.flatten(0, 1), ds[0].flatten(0, 1)).squares(None))


@pytest.mark.parametrize("bad", [{"n_data": 0}, {"prior_variance": 0.0}, {"kl_weight": -1.0}, {"decay": 1.0}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad)) + " must be"):
        Diagonal(torch.zeros(1, 1), **{"n_data": 5} | bad)


@pytest.mark.parametrize(
    ("method", "bad"),
    [
        ("Noisy K-FAC", {"damping_kind": "none"}),
        ("Noisy K-FAC", {"update_basis_every": 0}),
        ("Noisy EK-FAC", {"on_basis_change": "forget"}),
    ],
)
def test_unknown_options_are_refused(method, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        METHODS[method](torch.zeros(1, 1), 5, **bad)


P = draw(2, 3, 4)  # two particles
MISFITS = {
    "statistics of other inputs": (
        lambda q: q.observe(Rows(draw(5, 3), draw(5, 3))),
        "statistics must be about these weights",
    ),
    "statistics of one input": (
        lambda q: q.observe(Rows(draw(5, 1), draw(5, 3))),
        "statistics must be about these weights",
    ),
    "statistics of copies": (
        lambda q: q.observe(Rows(draw(2, 5, 4), draw(2, 5, 3))),
        "got some of .2, 3, 4., not of .3, 4",
    ),
    "a batch for statistics": (lambda q: q.observe(draw(5, 4)), "statistics must be Rows or Locations or Statistics"),
    "noise of one particle": (lambda q: q.sample(draw(3, 4)), r"noise must have shape \(P, 3, 4\)"),
    "noise of one output": (lambda q: q.sample(draw(2, 1, 4)), r"noise must have shape \(P, 3, 4\)"),
    "no particle": (lambda q: q.sample(P[:0]), r"noise must have shape \(P, 3, 4\), P particles, at least 1"),
    "gradients of three": (
        lambda q: q.propose(draw(3, 3, 4), P, P, **STEP),
        "weights and noise must have .*gradient .3, 3",
    ),
    "a gradient alone": (lambda q: q.propose(draw(3, 4), P, P, **STEP), "gradient and weights and noise must"),
    "a gradient for all": (lambda q: q.propose(None, P, P, **STEP), "gradient must be Tensor"),
    "momentum 1": (lambda q: q.propose(P, P, P, **STEP | {"momentum": 1.0}), "momentum must be a number in"),
    "damping -1": (lambda q: q.propose(P, P, P, **STEP | {"damping_ex": -1.0}), "damping_ex must be a number in"),
    "lr NaN": (lambda q: q.propose(P, P, P, **STEP | {"lr": float("nan")}), "lr must be a number in"),
}


@pytest.mark.parametrize("case", MISFITS)
@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_fit_the_weights_is_refused_by_name_and_not_broadcast(method, case):
    """Values pass: the optimiser looks at them once a step, and names the layer."""
    q = made(METHODS[method])
    before = q.covariance()
    ask, message = MISFITS[case]
    with pytest.raises((ValueError, TypeError), match=message):
        ask(q)
    assert torch.equal(q.covariance(), before)
    assert q.sample(P * float("nan")).isnan().any()


@pytest.mark.parametrize("direction", [draw(4), draw(1, 4), draw(2, 3, 4)])
def test_a_step_along_another_shape_is_refused(direction):
    with pytest.raises(ValueError, match=r"direction must have shape \(3, 4\)"):
        made(Diagonal).step(direction, 0.1)


@pytest.mark.parametrize("x, ds", [((5, 4), (4, 3)), ((4,), (3,)), ((5, 4), (5, 2, 3)), ((0, 4), (0, 3))])
@pytest.mark.parametrize("kind", [Rows, Locations])
def test_inputs_and_gradients_of_other_examples_are_refused(kind, x, ds):
    """Breaks if a batch of one is broadcast against another, or the mean over no examples is taken."""
    with pytest.raises(ValueError, match="x and ds must be real numbers of shapes"):
        kind(torch.ones(x), torch.ones(ds))


@pytest.mark.parametrize(("every", "expected"), [(1, True), (3, False)])
def test_the_basis_is_renewed_when_it_is_due(every, expected):
    q = MatrixVariate(draw(3, 4, seed=5), n_data=N, decay=0.0, update_basis_every=every)
    q.observe(Rows(*correlated()))
    torch.testing.assert_close(q.basis.dense(), oracle.factors(*correlated()) if expected else torch.eye(12).double())


def test_r_forgets_at_a_rate_of_its_own_where_one_is_given():
    """Breaks if the paper's omega is not used, or moves the factors too."""
    x, ds = correlated()
    for given, expected in ((None, 0.9), (0.25, 0.25)):
        q = EigenvalueCorrected(draw(3, 4, seed=5), N, decay=0.9, scale_decay=given, update_basis_every=9)
        q.observe(Rows(x, ds))
        torch.testing.assert_close(q.R, expected + (1 - expected) * Rows(x, ds).squares(q.basis))
        torch.testing.assert_close(q.A, 0.9 * torch.eye(4).double() + 0.1 * x.T @ x / len(x))
    with pytest.raises(ValueError, match="scale_decay must be"):
        EigenvalueCorrected(draw(3, 4, seed=5), N, scale_decay=1.0)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.1, 2.0])
def test_no_other_split_of_the_damping_has_a_smaller_excess(share):
    """The sum over all directions of (s + r/p)(a + r p) - s a - r^2 at p = pi share. Breaks if pi is upside down."""
    a, s, d = torch.tensor([5.0, 1.0, 0.0]).double(), torch.tensor([0.3, 0.1]).double(), 0.04
    pi = (a.mean() / s.mean()).sqrt()
    least = (split_damping(a, s, d) - s[:, None] * a - d).sum()
    other = (s[:, None] + d**0.5 / (pi * share)) * (a + d**0.5 * pi * share) - s[:, None] * a - d
    torch.testing.assert_close(least, d**0.5 * (2 * a.sum() / pi + 3 * pi * s.sum()))
    assert least < other.sum() - 1e-4


@pytest.mark.parametrize("beta", [0.05, 1.0])
def test_the_running_average_is_the_natural_gradient_in_the_precision(beta):
    """Sigma^-1 moves by -2 beta dL/dSigma. Breaks if R or the factors move at another rate, or the prior is counted."""
    exact = LinearGaussian(draw(N, 4), draw(N, seed=1), 0.4, ETA)
    q = EigenvalueCorrected(draw(1, 4, seed=2), N, ETA, decay=1 - beta)
    before = q.covariance().requires_grad_()
    (slope,) = torch.autograd.grad(exact.elbo(q.mean[0], before), before)
    q.observe(Rows(exact.X, torch.full((N, 1), 0.4**-0.5, dtype=torch.float64)))
    expected = torch.linalg.inv(before.detach()) - beta * (slope + slope.T)
    torch.testing.assert_close(torch.linalg.inv(q.covariance()), expected)


def test_the_correction_costs_two_rotations_and_one_product_of_matrices():
    """Of B examples, 2 B (in^2 + out^2 + in out) operations. Breaks if gradients of examples are made one by one."""
    (x, ds), counted = correlated(), {}
    for kind in (MatrixVariate, EigenvalueCorrected):
        q = kind(draw(3, 4, seed=5), N, decay=0.9, update_basis_every=2)
        with FlopCounterMode(display=False) as counter:
            q.observe(Rows(x, ds))
        counted[kind] = counter.get_total_flops()
    assert counted[EigenvalueCorrected] - counted[MatrixVariate] == 2 * len(x) * (4**2 + 3**2 + 4 * 3)

"""Does every operation on a Kronecker product do what the dense matrix would do?"""

import pytest
import torch

from nnlib.curvature import Eigenbasis, Kronecker, NotPositiveDefinite

OUT, IN = 3, 4


def block(seed=0, ranks=(20, 20)):
    """A random S (x) A in float64; a rank below the size makes that factor singular."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(ranks[0], IN, dtype=torch.float64, generator=generator)
    D = 0.3 * torch.randn(ranks[1], OUT, dtype=torch.float64, generator=generator)
    return Kronecker(A=X.T @ X / ranks[0], S=D.T @ D / ranks[1])


def matrix(seed=1):
    return torch.randn(OUT, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def ekfac(seed=0):
    basis = block(seed).eigen()
    generator = torch.Generator().manual_seed(seed + 10)
    values = torch.rand(OUT, IN, dtype=torch.float64, generator=generator) + 0.1  # no product of two vectors
    return Eigenbasis(basis.Q_A, basis.Q_S, values)


def eye(n=OUT * IN):
    return torch.eye(n, dtype=torch.float64)


@pytest.mark.parametrize("made", [block, lambda: block().eigen(), ekfac], ids=["kronecker", "eigen", "ekfac"])
def test_matvec_is_the_dense_product(made):
    """Row-major vec. Breaks if S and A change places."""
    curvature, V = made(), matrix()
    dense = curvature.dense()
    torch.testing.assert_close(curvature.matvec(V).flatten(), dense @ V.flatten())
    torch.testing.assert_close(dense, dense.T)
    if isinstance(curvature, Kronecker):
        torch.testing.assert_close(curvature.quadratic(V), V.flatten() @ dense @ V.flatten())


def test_dense_is_the_mean_of_outer_products_of_flattened_gradients():
    """The convention itself: S (x) A is E[vec(G) vec(G)'] for G = ds x' with independent ds and x."""
    ds, x = matrix()[:, 0], matrix()[0]
    g = torch.outer(ds, x).flatten()
    torch.testing.assert_close(Kronecker(A=torch.outer(x, x), S=torch.outer(ds, ds)).dense(), torch.outer(g, g))


def test_eigen_is_the_same_matrix_and_rotation_there_and_back_the_identity():
    curvature, V = block(), matrix()
    basis = curvature.eigen()
    torch.testing.assert_close(basis.dense(), curvature.dense())
    torch.testing.assert_close(basis.rotate_back(basis.rotate(V)), V)
    torch.testing.assert_close(basis.rotate(V), basis.Q_S.T @ V @ basis.Q_A)
    torch.testing.assert_close(basis.rotate(V).norm(), V.norm())


@pytest.mark.parametrize("damping", [1e-3, 0.5])
def test_pi_damping_is_its_formula(damping):
    """A + pi sqrt(damping) I and S + sqrt(damping)/pi I. Breaks if traces are not divided by dimensions."""
    curvature = block()
    pi = ((curvature.A.trace() / IN) / (curvature.S.trace() / OUT)).sqrt()
    damped = curvature.damped(damping)
    torch.testing.assert_close(damped.A, curvature.A + pi * damping**0.5 * eye(IN))
    torch.testing.assert_close(damped.S, curvature.S + damping**0.5 / pi * eye(OUT))


def test_pi_damping_is_exact_damping_plus_the_smallest_cross_terms():
    """The cross terms have the least trace at this pi, and are positive: the inverse is smaller than the exact one."""
    curvature, damping = block(), 0.1
    cross = curvature.damped(damping).dense() - curvature.dense() - damping * eye()
    assert torch.linalg.eigvalsh(cross).min() > 0
    for change in (0.9, 1.1):
        pi = change * (curvature.A.diagonal().mean() / curvature.S.diagonal().mean()).sqrt()
        A = curvature.A + pi * damping**0.5 * eye(IN)
        S = curvature.S + damping**0.5 / pi * eye(OUT)
        assert (torch.kron(S, A) - curvature.dense() - damping * eye()).trace() > cross.trace()


@pytest.mark.parametrize("damping", [0.0, 1e-4, 1e-2, 1.0])
def test_factored_damping_shrinks_every_eigenvalue_of_the_inverse(damping):
    """(a + pi r)(s + r/pi) >= a s + r^2, equal without damping: element by element in the eigenbasis."""
    curvature = block()
    factored = 1 / curvature.damped(damping).eigen().values
    exact = 1 / (curvature.eigen().values + damping)
    assert (factored <= exact * (1 + 1e-12)).all()
    assert torch.allclose(factored, exact) == (damping == 0)


def test_a_factor_of_zeros_is_damped_with_pi_one():
    """A dead layer has S = 0. Breaks as 0/0."""
    damped = Kronecker(A=2 * eye(IN), S=0 * eye(OUT)).damped(0.25)
    torch.testing.assert_close(damped.S, 0.5 * eye(OUT))
    torch.testing.assert_close(damped.A, 2.5 * eye(IN))


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_cholesky_solves_inverts_and_has_the_log_determinant_of_the_dense_matrix(damping):
    """Breaks if in and out change places in log det(S (x) A) = in log det S + out log det A."""
    curvature, V = block().damped(damping), matrix()
    dense, cholesky = curvature.dense(), curvature.cholesky()
    expected = torch.linalg.solve(dense, V.flatten()).view(OUT, IN)
    torch.testing.assert_close(cholesky.solve(V), expected)
    torch.testing.assert_close(cholesky.inverse().matvec(V), expected)
    torch.testing.assert_close(cholesky.inverse().dense(), torch.linalg.inv(dense))
    torch.testing.assert_close(cholesky.logdet(), torch.linalg.slogdet(dense).logabsdet)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("made", [lambda: block().eigen(), ekfac], ids=["eigen", "ekfac"])
def test_eigen_damping_is_exact(made, damping):
    """(matrix + damping I)^-1 and its log determinant. Breaks if the damping is split between the factors."""
    basis, V = made(), matrix()
    dense = basis.dense() + damping * eye()
    torch.testing.assert_close(basis.solve(V, damping).flatten(), torch.linalg.solve(dense, V.flatten()))
    torch.testing.assert_close(basis.logdet(damping), torch.linalg.slogdet(dense).logabsdet)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["cholesky", "eigen", "ekfac"])
def test_samples_have_the_inverse_as_covariance(kind, damping):
    """The sampler is linear in its normal numbers: covariance = M M' exactly, M found by feeding it unit vectors."""
    curvature = {"cholesky": block().damped(damping), "eigen": block().eigen(), "ekfac": ekfac()}[kind]
    dense = curvature.dense() + (0 if kind == "cholesky" else damping) * eye()
    draw = curvature.cholesky().sample if kind == "cholesky" else (lambda g: curvature.sample(g, damping))
    unit = iter(eye())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", lambda shape, **options: next(unit).view(shape))
        M = torch.stack([draw(torch.Generator()).flatten() for _ in range(OUT * IN)], 1)
    torch.testing.assert_close(M @ M.T, torch.linalg.inv(dense))


@pytest.mark.parametrize("kind", ["cholesky", "ekfac"])
def test_samples_follow_their_generator_and_spread_as_they_should(kind):
    """z' F z summed over n draws is chi-squared with n out in degrees of freedom."""
    curvature, n = {"cholesky": block(), "ekfac": ekfac()}[kind], 2000
    source = curvature.cholesky() if kind == "cholesky" else curvature
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([source.sample(generator).flatten() for _ in range(n)])
    assert torch.equal(source.sample(torch.Generator().manual_seed(0)).flatten(), draws[0])
    chi = ((draws @ curvature.dense()) * draws).sum() / (n * OUT * IN)
    assert abs(chi - 1) < 4 * (2 / (n * OUT * IN)) ** 0.5
    assert (draws.mean(0) / draws.std(0)).abs().max() < 4 / n**0.5


def test_singular_factors_are_refused_and_damping_cures_them():
    """A class of zero-probability outputs or fewer examples than inputs makes a factor singular."""
    curvature = Kronecker(A=torch.diag(torch.tensor([1.0, 1.0, 0.0])), S=torch.eye(2))
    with pytest.raises(NotPositiveDefinite, match=r"factor A, 3 x 3, is not positive definite"):
        curvature.cholesky()
    with pytest.raises(NotPositiveDefinite, match="smallest eigenvalue is 0: raise the damping"):
        curvature.eigen().solve(torch.ones(2, 3))
    with pytest.raises(NotPositiveDefinite):
        curvature.eigen().logdet()
    with pytest.raises(NotPositiveDefinite):
        curvature.eigen().sample(torch.Generator())
    assert curvature.damped(1e-2).cholesky().solve(torch.ones(2, 3)).isfinite().all()
    assert curvature.eigen().solve(torch.ones(2, 3), damping=1e-2).isfinite().all()


def test_rounding_below_zero_is_zero_and_more_is_refused():
    """A factor of rank 2 has eigenvalues of -1e-17: they count as zero, and no further."""
    assert block(ranks=(2, 20)).eigen().values.min() >= 0
    indefinite = Kronecker(A=torch.diag(torch.tensor([1.0, -0.01])), S=torch.eye(2))
    with pytest.raises(NotPositiveDefinite, match=r"factor A has the negative eigenvalue -0.01"):
        indefinite.eigen()
    with pytest.raises(NotPositiveDefinite, match="factor A, 2 x 2"):
        indefinite.cholesky()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_factors_that_are_not_finite_are_refused(bad):
    broken = Kronecker(A=torch.eye(2), S=torch.diag(torch.tensor([1.0, bad])))
    for method in (broken.cholesky, broken.eigen):
        with pytest.raises(NotPositiveDefinite, match="factor S"):
            method()


def test_negative_damping_is_refused():
    with pytest.raises(ValueError, match=r"damping must be finite and not negative: got -0\.1"):
        block().damped(-0.1)
    with pytest.raises(ValueError, match="negative"):
        ekfac().solve(matrix(), damping=-1e-3)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (
            lambda: Kronecker(torch.ones(2, 3), torch.eye(2)).cholesky(),
            ValueError,
            r"factor A must be a square .*\(2, 3\)",
        ),
        (lambda: Kronecker(torch.eye(2), torch.ones(2)).cholesky(), ValueError, r"factor S must be a square .*\(2,\)"),
        (lambda: Kronecker(torch.eye(2).long(), torch.eye(2)).eigen(), ValueError, "factor A must be .*int64"),
        (lambda: Kronecker(torch.ones(2, 3), torch.eye(2)).eigen(), ValueError, "factor A must be a square matrix"),
        (lambda: Kronecker([[1.0]], torch.eye(1)).eigen(), ValueError, r"factor A must be .*got \[\[1\.0\]\]"),
        (lambda: Kronecker(None, torch.eye(1)).cholesky(), ValueError, "factor A must be a square matrix"),
        (lambda: Kronecker(torch.eye(2) * float("nan"), torch.eye(2)).cholesky(), NotPositiveDefinite, "factor A"),
        (lambda: Kronecker(torch.eye(2) * float("nan"), torch.eye(2)).eigen(), NotPositiveDefinite, "factor A"),
        (lambda: block().damped("a"), TypeError, "damping must be a number: got 'a'"),
        (lambda: block().damped(float("nan")), ValueError, "damping must be finite and not negative: got nan"),
        (lambda: ekfac().solve(matrix(), None), TypeError, "damping must be a number: got None"),
    ],
)
def test_what_is_no_pair_of_square_matrices_is_told_where_it_is_decomposed(bad, error, message):
    """Breaks if torch's own error, which does not name the factor, comes through."""
    with pytest.raises(error, match=message):
        bad()

"""Claims about ``nnlib.natural_gradient.kfac``: leverage scores, the operator on the outputs, and the step itself."""

import pytest
import torch
from torch import nn

from nnlib import curvature
from nnlib.natural_gradient import TwoLayer, kfac_operator, leverage_scores, stable_lr, train
from tenpapers.natural_gradient.workloads import sphere
from tests.oracles import natural_gradient as oracle

assert_close = torch.testing.assert_close
PROBLEM = sphere(n=12, d=4)
X, Y = PROBLEM.x, PROBLEM.y


def net(width=64, d=4, seed=0):
    return TwoLayer(d, width, seed=seed, dtype=torch.float64)


def test_leverage_scores_are_the_diagonal_of_the_hat_matrix():
    """From the definition, and as how much a fitted value follows its own target."""
    hat = X @ torch.linalg.inv(X.T @ X) @ X.T
    assert_close(leverage_scores(X), hat.diagonal())
    moved = torch.eye(12, dtype=torch.float64)
    fitted = X @ torch.linalg.lstsq(X, moved).solution
    assert_close(leverage_scores(X), fitted.diagonal())


def test_leverage_scores_lie_between_the_inverse_eigenvalues_and_sum_to_the_rank():
    """1 / lambda_max(X'X) <= l_i <= min(1, 1 / lambda_min(X'X)) for unit inputs."""
    scores, eigenvalues = leverage_scores(X), torch.linalg.eigvalsh(X.T @ X)
    assert_close(scores.sum(), torch.tensor(4.0, dtype=torch.float64))
    assert scores.min() >= 1 / eigenvalues[-1] and scores.max() <= min(1.0, 1 / eigenvalues[0])


def test_leverage_scores_do_not_depend_on_the_coordinates():
    A = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 2 * torch.eye(4)
    assert_close(leverage_scores(X @ A), leverage_scores(X))


def test_leverage_scores_are_one_where_inputs_are_independent_and_shared_among_copies():
    assert_close(leverage_scores(X[:3]), torch.ones(3, dtype=torch.float64))
    assert_close(leverage_scores(X[:1].repeat(5, 1)), torch.full((5,), 0.2, dtype=torch.float64))
    flat = torch.cat([X, 0 * X], 1)  # of rank 4 in 8 dimensions
    assert_close(leverage_scores(flat), leverage_scores(X))


@pytest.mark.parametrize("width", [5, 64])  # S of full row rank or not
def test_operator_is_j_times_the_inverse_kronecker_product_times_j_transposed(width):
    """Breaks if a factor's pseudo-inverse is applied on the wrong side."""
    model = net(width)
    S = model.features(X)
    J = (S[:, :, None] * X[:, None]).flatten(1)
    F = torch.kron(S.T @ S, X.T @ X)
    expected = J @ torch.linalg.pinv(F, hermitian=True, rtol=1e-10) @ J.T
    assert_close(kfac_operator(X, S), expected, rtol=1e-8, atol=1e-10)


def test_operator_is_the_diagonal_of_leverage_scores_where_the_features_have_full_row_rank():
    """The paper's central identity for K-FAC. Not so for a narrow network: the negative control."""
    wide, narrow = net(256).features(X), net(5).features(X)
    assert torch.linalg.matrix_rank(wide) == 12 > torch.linalg.matrix_rank(narrow)
    assert_close(kfac_operator(X, wide), torch.diag(leverage_scores(X)), rtol=0, atol=1e-12)
    assert (kfac_operator(X, narrow) - torch.diag(leverage_scores(X))).abs().max() > 0.1


@pytest.mark.parametrize("width", [5, 64])
@pytest.mark.parametrize("n", [3, 12])  # fewer inputs than dimensions, and more
def test_step_is_that_of_the_kronecker_product_written_out(width, n):
    """Breaks if X^+ is transposed wrongly, or S^+ is not a pseudo-inverse where S is rank-deficient."""
    model, x, y = net(width), X[:n], Y[:n]
    with torch.no_grad():
        expected = model.weight - 0.3 * oracle.kfac_step(model, x, model(x)[:, 0] - y)
    train(model, x, y, "K-FAC", lr=0.3, steps=1)
    assert_close(model.weight.detach(), expected.detach(), rtol=1e-7, atol=1e-9)


def test_factors_are_those_of_the_book_s_kfac():
    """n^2 S (x) A of nnlib.curvature for the first layer is the paper's (S'S) (x) (X'X)."""
    ours = net(8)
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(ours.weight)
        model[2].weight.copy_(ours.sign[None] / 8**0.5)
    block = curvature.factors(model, X, likelihood="gaussian", fisher="exact")["0"]
    S = ours.features(X)
    assert_close(12 * block.A, X.T @ X)
    assert_close(12 * block.S, S.T @ S)


def test_each_residual_shrinks_at_its_own_rate_in_a_wide_network():
    """(1 - lr l_i)^k within 2 %: the paper's per-example rates. Breaks if all shrink at one rate."""
    model = net(2**17)
    r = train(model, X, Y, "K-FAC", lr=0.5, steps=6, watch=False).outputs - Y
    rate = (r[-1] / r[0]).abs() ** (1 / 6)
    assert_close(rate, 1 - 0.5 * leverage_scores(X), rtol=0.02, atol=0)
    assert leverage_scores(X).max() > 1.5 * leverage_scores(X).min()


def test_no_step_is_slower_than_the_papers_bound_in_a_wide_network():
    """1 - lr / lambda_max(X'X) for |u - y|; without the K-FAC of the inputs, by gradient descent, it is exceeded."""
    bound = 1 - 1 / float(torch.linalg.eigvalsh(X.T @ X)[-1])
    for method in ("K-FAC", "GD"):
        model = net(2**12)
        left = train(model, X, Y, method, 1.0 if method == "K-FAC" else stable_lr(model, X), steps=8).distance(Y)
        assert ((left[1:] / left[:-1]).max() < bound) == (method == "K-FAC")


def test_kfac_is_the_natural_gradient_in_function_space_where_inputs_are_independent():
    """n <= d: all leverage scores are 1, whatever the inputs' conditioning. The weights move differently."""
    model, other = net(2**14), net(2**14)
    x, y = X[:4], Y[:4]
    kfac = train(model, x, y, "K-FAC", lr=0.5, steps=4)
    natural = train(other, x, y, "Natural gradient", lr=0.5, steps=4)
    assert_close(kfac.distance(y) / kfac.distance(y)[0], 0.5 ** torch.arange(5.0).double(), rtol=0.05, atol=0.003)
    assert_close(natural.distance(y), kfac.distance(y), rtol=0.05, atol=0.003)
    assert kfac.movement[-1] > 1.05 * natural.movement[-1]


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="x must be a matrix"):
        leverage_scores(torch.ones(3))
    with pytest.raises(ValueError, match="a row for each example: got 12 and 3"):
        kfac_operator(X, torch.ones(3, 2))


def two_rows_at(angle, n, d, dtype):
    """n independent unit rows of which two lie at this angle."""
    x = torch.linalg.qr(torch.randn(d, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q.mT
    x = x.clone()
    x[1] = x[0] * torch.cos(torch.tensor(angle)) + x[1] * torch.sin(torch.tensor(angle))
    return x.to(dtype)


@pytest.mark.parametrize(
    ("dtype", "angle"),
    [
        (torch.float32, 1e-1),
        (torch.float32, 1e-3),
        (torch.float64, 1e-6),
        (torch.float64, 1e-12),
    ],
)
@pytest.mark.parametrize(("n", "d"), [(8, 10), (10, 10), (8, 1000)])
def test_leverage_scores_of_independent_rows_are_one_however_near_two_are(n, d, angle, dtype):
    """Breaks by way of X X': at an angle of 1e-3 it is singular in float32, and the two get a half each."""
    x = two_rows_at(angle, n, d, dtype)
    torch.testing.assert_close(leverage_scores(x), torch.ones(n, dtype=dtype), rtol=0, atol=1e-5)
    torch.testing.assert_close(kfac_operator(x, x), torch.eye(n, dtype=dtype), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("power", [1.0, 1e-4, 1e-6])
def test_leverage_scores_of_a_tall_matrix_depend_on_no_scale_and_on_no_column_s(power, scale):
    """Columns times anything: the column space is the same. Breaks where a square under- or overflows."""
    columns = scale * power ** torch.arange(4, dtype=torch.float64) ** 0.5
    torch.testing.assert_close(leverage_scores(X * columns), leverage_scores(X), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (torch.zeros(3, 2), [0.0, 0.0, 0.0]),
        (torch.zeros(0, 2), []),
        (torch.zeros(2, 0), [0.0, 0.0]),
        (torch.tensor([[1.0, 1.0], [2.0, 2.0]]), [0.2, 0.8]),
        (torch.tensor([[1.0, 0.0, 0.0]]), [1.0]),
    ],
)
def test_leverage_scores_at_the_ends(x, expected):
    torch.testing.assert_close(leverage_scores(x), torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("x", [torch.full((3, 2), float("nan")), torch.ones(3, 2) / 0, torch.ones(3, 2).long()])
def test_no_leverage_of_what_is_not_finite_or_no_number(x):
    with pytest.raises(ValueError, match=r"x must (be a matrix of real|hold finite) numbers"):
        leverage_scores(x)

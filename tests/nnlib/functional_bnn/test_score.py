"""The spectral Stein estimator against its definition, known scores, and its limits."""

import math

import pytest
import torch

from nnlib.functional_bnn import SpectralStein, median_widths
from tests.oracles import functional_bnn as oracle


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(x):
    return x.square().mean().sqrt().item()


@pytest.mark.parametrize(("n", "d", "count"), [(8, 1, 3), (10, 2, 4), (7, 3, 2)])
def test_estimate_is_that_of_the_definition_at_new_points(n, d, count):
    """Breaks with a sign, an index of the derivative, a factor of M, or the Nyström extension."""
    x, y = normal(n, d), normal(5, d, seed=1)
    width = torch.linspace(0.7, 1.5, d, dtype=torch.float64)
    found = SpectralStein(x, count, width).score(y)
    torch.testing.assert_close(found, oracle.stein_score(x, y, width, count))


def test_with_all_eigenfunctions_it_is_the_stein_gradient_estimator():
    x = normal(6, 2)
    width = torch.tensor([0.6, 0.8], dtype=torch.float64)
    expected = oracle.stein_gradient_with_all_eigenfunctions(x, width)
    torch.testing.assert_close(SpectralStein(x, 6, width).score(), expected, rtol=1e-7, atol=1e-7)


def test_eigenfunctions_are_orthonormal_on_the_samples():
    estimator = SpectralStein(normal(40, 3), 10)
    psi = estimator.eigenfunctions(estimator.samples)
    torch.testing.assert_close(psi.mT @ psi / 40, torch.eye(10, dtype=torch.float64))


def test_coefficients_satisfy_steins_identity_on_the_samples():
    """β_j = −(1/M) Σ ∇ψ_j(x_m), with the gradient of the Nyström extension by autograd."""
    estimator = SpectralStein(normal(30, 2), 5)
    x = estimator.samples.clone().requires_grad_()
    for j in range(5):
        (gradient,) = torch.autograd.grad(estimator.eigenfunctions(x)[:, j].sum(), x, retain_graph=True)
        torch.testing.assert_close(estimator.coefficients[j], -gradient.mean(0))


@pytest.mark.parametrize(("n", "low", "high"), [(100, 0.25, 0.75), (400, 0.15, 0.4), (1000, 0.08, 0.3)])
def test_error_on_a_standard_normal_falls_with_the_number_of_samples(n, low, high):
    grid = torch.linspace(-2, 2, 81, dtype=torch.float64)[:, None]
    errors = [rms(SpectralStein(normal(n, 1, seed=s), 6, "scalar").score(grid) + grid) for s in range(15)]
    assert low < sorted(errors)[7] < high


def test_few_eigenfunctions_leave_bias_and_many_leave_variance():
    """The error is smallest in the middle: 3 are too few for any number of samples, 12 too many for 100."""
    grid = torch.linspace(-2, 2, 81, dtype=torch.float64)[:, None]

    def error(n, count):
        return sorted(rms(SpectralStein(normal(n, 1, seed=s), count, "scalar").score(grid) + grid) for s in range(9))[4]

    assert error(1000, 3) > 1.5 * error(1000, 6)
    assert error(100, 12) > 3 * error(100, 6)


def test_score_of_a_mixture_changes_its_sign_three_times():
    """∇ log of ½N(−1.2, 0.6²) + ½N(1.2, 0.6²): zero at both modes and between them."""
    x = 0.6 * normal(800, 1) + 1.2 * torch.where(torch.arange(800) % 2 == 0, 1.0, -1.0)[:, None]
    grid = torch.linspace(-2.2, 2.2, 89, dtype=torch.float64)[:, None]
    parts = torch.stack([-0.5 * ((grid - c) / 0.6) ** 2 for c in (-1.2, 1.2)])
    weight = parts.softmax(0)
    true = sum(w * -(grid - c) / 0.36 for w, c in zip(weight, (-1.2, 1.2), strict=True))
    found = SpectralStein(x, 10, 0.8).score(grid)
    assert rms(found - true) < 0.35 * rms(true)
    assert ((found[1:] * found[:-1]) < 0).sum() == 3


def test_gaussian_in_several_dimensions_with_its_own_width_in_each():
    """Features of scales 1 and 100: one width for both would blur the first."""
    scale = torch.tensor([1.0, 100.0], dtype=torch.float64)
    x = normal(600, 2) * scale
    true = -x / scale**2
    own, one = (rms((SpectralStein(x, 0.95, width).score() - true) * scale) for width in ("dimension", "scalar"))
    assert own < 0.45
    assert one > 1.5 * own


def test_scalar_width_turns_with_the_samples_and_widths_per_dimension_do_not():
    x = normal(50, 2) * torch.tensor([1.0, 3.0], dtype=torch.float64)
    angle = torch.tensor(0.7, dtype=torch.float64)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    for width, turns in (("scalar", True), ("dimension", False)):
        before, after = SpectralStein(x, 6, width).score(), SpectralStein(x @ turn, 6, width).score()
        assert torch.allclose(before @ turn, after, atol=1e-8) == turns


def test_there_is_always_an_eigenfunction_even_where_the_samples_coincide():
    """Strictly below the share, the published count is 0 here, and everything is then divided by rounding noise."""
    x = normal(20, 3) * 1e-9
    estimator = SpectralStein(x, 0.9)
    assert estimator.count == 1
    assert estimator.score().isfinite().all()


def test_eigenvalues_that_are_rounding_noise_are_never_divided_by():
    x = normal(60, 1)
    estimator = SpectralStein(x, 60, 3.0)
    assert estimator.count < 60
    assert estimator.eigenvalues[estimator.count - 1] > 1e-15 * estimator.eigenvalues[0]


def test_widths_are_the_medians_over_all_pairs():
    x = normal(20, 3)
    pairs = torch.stack([x[a] - x[b] for a in range(20) for b in range(20) if a != b])
    torch.testing.assert_close(median_widths(x), pairs.abs().median(0).values * math.sqrt(3))
    torch.testing.assert_close(median_widths(x, False), pairs.norm(dim=1).median().expand(3))


def test_queries_count_for_the_median_rule():
    x, y = normal(20, 2), 5 * normal(30, 2, seed=1)
    estimator = SpectralStein(x, 5, queries=y)
    torch.testing.assert_close(estimator.width, median_widths(torch.cat([x, y])))
    assert bool((estimator.width > 1.5 * SpectralStein(x, 5).width).all())


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_as_many_eigenfunctions_are_kept_as_hold_less_than_the_share(share):
    """One more would reach it: published as strictly below."""
    estimator = SpectralStein(normal(60, 3), share)
    held = estimator.eigenvalues.cumsum(0) / estimator.eigenvalues.sum()
    assert held[estimator.count - 1] < share <= held[estimator.count]
    assert estimator.coefficients.shape == (estimator.count, 3)


def test_no_gradient_flows_through_an_estimated_score():
    x = normal(20, 2).requires_grad_()
    assert not SpectralStein(x).score().requires_grad


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        (torch.zeros(1, 2), {}, "M ≥ 2"),
        (torch.full((4, 2), float("nan")), {}, "finite"),
        (torch.randn(4, 2), {"eigenfunctions": 5}, "eigenfunctions must be a whole number from 1 to 4: got 5"),
        (torch.randn(4, 2), {"eigenfunctions": 1.0}, "got 1.0"),
        (torch.randn(4, 2), {"eigenfunctions": 0}, "got 0"),
        (torch.randn(4, 2), {"width": "wide"}, "width must be one of dimension, scalar: got 'wide'"),
        (torch.randn(4, 2), {"width": -1.0}, r"width must be a number in \(0, inf\)"),
    ],
)
def test_bad_input_is_refused(samples, options, message):
    with pytest.raises(ValueError, match=message):
        SpectralStein(samples, **options)


# --- the situations in which samples come: far from the origin, in any order, in any floating type ----------------


@pytest.mark.parametrize("width", ["dimension", "scalar", 0.7])
@pytest.mark.parametrize(("shift", "tolerance"), [(-1.0, 1e-12), (1e3, 1e-10), (1e6, 1e-8), (1e8, 1e-6)])
def test_score_does_not_depend_on_the_origin(width, shift, tolerance):
    """Breaks where squares are taken before the origin is: at 1e8 the score is then off by 1.4. Queries move along."""
    x, y = normal(300, 2), normal(20, 2, seed=1)
    near, far = SpectralStein(x, 10, width), SpectralStein(x + shift, 10, width)
    assert (near.score() - far.score()).abs().max() < tolerance
    assert (near.score(y) - far.score(y + shift)).abs().max() < tolerance
    assert (near.eigenfunctions(y) - far.eigenfunctions(y + shift)).abs().max() < 10 * tolerance


def test_one_far_sample_does_not_take_the_digits_of_the_others():
    """Breaks if the mean is taken for the origin: one sample at 1e12 would move it away from all others."""
    x = torch.cat([normal(100, 1), torch.full((1, 1), 1e12, dtype=torch.float64)])
    found, without = SpectralStein(x, 6, 1.0).score(x[:100]), SpectralStein(x[:100], 6, 1.0).score()
    assert rms(found - without) < 0.5 * rms(without)
    shifted = SpectralStein(x - 5, 6, 1.0).score(x[:100] - 5)
    assert (found - shifted).abs().max() < 1e-9


ORDERS = {
    "sorted": lambda x: x[:, 0].argsort(),
    "backwards": lambda x: torch.arange(len(x)).flip(0),
    "shuffled": lambda x: torch.randperm(len(x), generator=torch.Generator().manual_seed(3)),
    "in blocks": lambda x: (x[:, 0] > 0).long().argsort(stable=True),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("width", ["dimension", "scalar"])
@pytest.mark.parametrize(("n", "d"), [(20, 2), (46, 1), (47, 1), (200, 3), (1001, 1), (1100, 2)])
def test_score_does_not_depend_on_the_order_of_the_samples(n, d, width, order):
    """Breaks with any subset of pairs by position: of neighbours, sorted samples have a width of nearly 0."""
    x = normal(n, d)
    index = ORDERS[order](x)
    torch.testing.assert_close(
        median_widths(x[index], width == "dimension"), median_widths(x, width == "dimension"), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(SpectralStein(x[index], 6, width).score(), SpectralStein(x, 6, width).score()[index])


def chain(n):
    """A Markov chain that hardly moves in a step: an autoregression with .99 and the variance 1."""
    x, noise = [normal(1)], normal(n, seed=5)
    for e in noise:
        x.append(0.99 * x[-1] + (1 - 0.99**2) ** 0.5 * e)
    return torch.stack(x[1:])


@pytest.mark.parametrize(
    "x",
    [
        normal(200, 1), normal(1000, 1), normal(1000, 1).sort(0).values, torch.linspace(-3, 3, 1000).double()[:, None],
        chain(1000), normal(1000, 1).exp(), normal(700, 1) / normal(700, 1, seed=1), normal(3000, 1),
    ],
    ids=["200", "1,000", "sorted", "grid", "chain", "lognormal", "Cauchy", "3,000"],
)  # fmt: skip
def test_width_of_many_samples_is_near_the_median_over_all_pairs(x):
    """Within 3 %. Breaks with neighbours, with one set of quantiles for both ends, or with quantiles of one half."""
    assert median_widths(x).item() == pytest.approx(torch.pdist(x).median().item(), rel=0.03)


def test_distances_of_very_many_samples_are_near_the_median_over_all_pairs():
    x = normal(3000, 3)
    assert median_widths(x, False)[0].item() == pytest.approx(torch.pdist(x).median().item(), rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_narrow_types_lose_the_rounding_of_the_samples_alone(dtype, shift):
    """Breaks if anything is computed in the samples' own type: half precision has not even eigenvectors."""
    x = (normal(300, 2) + shift).to(dtype)
    if dtype != torch.float32 and shift:
        x = 4 * x.round()  # what these types hold there: few different numbers
    found = SpectralStein(x, 5, "scalar").score()
    assert found.dtype == dtype
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), SpectralStein(x.double(), 5, "scalar").score(), rtol=eps, atol=eps)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.score(torch.zeros(5, 1).double()), r"y must be a finite \(M, 2\) matrix: got .* \(5, 1\)"),
        (lambda s: s.score(torch.zeros(2).double()), r"y must be a finite \(M, 2\) matrix"),
        (lambda s: s.score(torch.full((5, 2), float("nan"))), "y must be a finite"),
        (lambda s: s.eigenfunctions(torch.zeros(5, 3).double()), "y must be a finite"),
        (lambda s: SpectralStein(s.samples, queries=torch.zeros(5, 1).double()), "queries must be a finite"),
        (lambda s: SpectralStein(s.samples, width=1.0, queries=s.samples), "queries count for the median rules alone"),
        (lambda s: SpectralStein(s.samples, width=float("inf")), r"width must be a number in \(0, inf\)"),
        (lambda s: SpectralStein(s.samples, width=1e-300), "samples over width must have squares in float64"),
        (lambda s: SpectralStein(s.samples, width=torch.ones(3)), "one number or 2"),
        (lambda s: SpectralStein(s.samples.long()), "samples must be a finite"),
        (lambda s: SpectralStein(s.samples[:, :0]), "samples must be a finite"),
        (lambda s: median_widths(s.samples[:1]), "M ≥ 2"),
        (lambda s: median_widths(s.samples[0]), "samples must be a finite"),
    ],
)
def test_points_of_another_shape_are_refused(ask, message):
    """One column of queries would be broadcast against two of samples."""
    with pytest.raises(ValueError, match=message):
        ask(SpectralStein(normal(10, 2)))

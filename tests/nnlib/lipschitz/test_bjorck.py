"""Björck's iteration finds the polar factor, of every shape, from every scale, in as few products as it needs."""

import math

import pytest
import torch

from nnlib.lipschitz import BASIN, COEFFICIENTS, bjorck, norm_bound, residual
from tests.oracles.lipschitz import polar

SHAPES = [(1, 1), (1, 7), (5, 5), (8, 3), (3, 8), (4, 6, 6), (2, 3, 9, 4)]


def draw(shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scalar_step(s, order):
    """One step on a singular value."""
    return s * sum(a * (1 - s**2) ** i for i, a in enumerate(COEFFICIENTS[: order + 1]))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_result_is_the_polar_factor(shape, order):
    weight = draw(shape)
    torch.testing.assert_close(bjorck(weight, order), polar(weight), rtol=0, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e8])
def test_the_scale_of_the_weight_does_not_matter(order, factor):
    weight = draw((6, 9))
    torch.testing.assert_close(bjorck(factor * weight, order), bjorck(weight, order), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("factor", [1e-15, 1e-9, 1e-4, 1e4, 1e9, 1e15])
def test_nor_does_it_in_float32(order, factor):
    """Breaks if a square of W Wᵀ, of which scales are made, is 0 or infinite."""
    weight = draw((6, 9), torch.float32)
    found = bjorck(factor * weight, order)
    torch.testing.assert_close(found, bjorck(weight, order), rtol=0, atol=1e-5)


def spread(m, sigma):
    """Singular values 1, and one ``sigma``, whose vectors are spread over all entries."""
    u, _, vh = torch.linalg.svd(draw((m, m)))
    s = torch.ones(m, dtype=torch.float64)
    s[-1] = sigma
    return (u * s) @ vh


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("sigma", [1.0, 1.5, 3.0, 10.0, 100.0])
def test_one_large_singular_value_is_brought_down_too(order, sigma):
    """Breaks if the first scale only fits most singular values."""
    for m in (2, 30, 200):
        weight = spread(m, sigma)
        torch.testing.assert_close(bjorck(weight, order), polar(weight), rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("batch", [False, True])
def test_a_scale_that_leaves_the_basin_is_taken_back(order, batch):
    """The sum of this weight's rows hides its largest singular value: breaks without the second start."""
    m = 400
    u = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(m // 2) / math.sqrt(m)
    weight = torch.eye(m, dtype=torch.float64) + 3 * torch.outer(u, u)
    if batch:
        weight = torch.stack([polar(draw((m, m))), weight])
    assert not torch.allclose(bjorck(weight, order, steps=9, scale=1.3), polar(weight))
    torch.testing.assert_close(bjorck(weight, order), polar(weight), rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 3])
def test_odd_orders_never_start_outside_the_basin(order):
    """Where they may change a sign and still converge, to a matrix that is not the nearest."""
    m = 400
    u = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(m // 2) / math.sqrt(m)
    for sigma in torch.linspace(1.6, 2.2, 7).tolist():
        weight = torch.eye(m, dtype=torch.float64) + (sigma - 1) * torch.outer(u, u)
        torch.testing.assert_close(bjorck(weight, order), torch.eye(m, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [2, 4])
def test_even_polynomials_are_positive(order):
    """So whatever they converge to is the polar factor, from any scale."""
    q = 1 - torch.logspace(-6, 6, 10001, dtype=torch.float64)
    assert (sum(a * q**i for i, a in enumerate(COEFFICIENTS[: order + 1])) > 0).all()


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_step_acts_on_singular_values_by_the_published_polynomials(order):
    published = {
        1: {1: 3 / 2, 3: -1 / 2},
        2: {1: 15 / 8, 3: -5 / 4, 5: 3 / 8},
        3: {1: 35 / 16, 3: -35 / 16, 5: 21 / 16, 7: -5 / 16},
        4: {1: 315 / 128, 3: -105 / 32, 5: 189 / 64, 7: -45 / 32, 9: 35 / 128},
    }[order]
    s = torch.linspace(0.05, 1.3, 9, dtype=torch.float64)
    found = bjorck(torch.diag(s), order, steps=1, scale=1.0).diagonal()
    torch.testing.assert_close(found, sum(c * s**power for power, c in published.items()))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_basin_ends_where_it_is_said_to_end(order):
    def limit(s):
        for _ in range(200):
            s = scalar_step(s, order)
            if not abs(s) < 10:
                return math.inf
        return s

    for s in torch.linspace(0.01, BASIN[order] - 1e-3, 300).tolist():
        assert abs(limit(s) - 1) < 1e-9, s
    assert abs(limit(BASIN[order] + 1e-3) - 1) > 0.5


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_step_raises_the_residual_to_its_order_plus_one(order):
    q = torch.linspace(0, 1, 101, dtype=torch.float64)
    after = 1 - scalar_step((1 - q).sqrt(), order) ** 2
    assert (after <= q ** (order + 1) + 1e-12).all()
    assert (after >= -1e-12).all()
    # also from above 1, where q is negative
    above = 1 - scalar_step((1 + q).sqrt(), order) ** 2
    assert (above.abs() <= q ** (order + 1) + 1e-12).all()


@pytest.mark.parametrize(("width", "dtype"), [(16, torch.float64), (128, torch.float64), (1024, torch.float32)])
def test_singular_values_are_one_at_every_width(width, dtype):
    start = torch.nn.init.orthogonal_(
        torch.empty(width, width, dtype=dtype), gain=width**-0.5, generator=torch.Generator().manual_seed(0)
    )
    weight = start + 0.3 / width * draw((width, width), dtype, seed=1)  # as after some training
    away = (torch.linalg.svdvals(bjorck(weight).double()) - 1).abs().max()
    assert away < (1e-5 if dtype == torch.float32 else 1e-13)


def test_the_official_scaling_and_count_attenuate_at_width_1024():
    # sqrt(rows x columns) and 20 steps of order 1 on an orthogonal start with gain 1/sqrt(width); published code
    found = []
    for width in (128, 256, 512, 1024):
        s = width**-0.5 / width
        for _ in range(20):
            s = scalar_step(s, 1)
        found.append(s)
    torch.testing.assert_close(torch.tensor(found), torch.tensor([0.995, 0.690, 0.281, 0.101]), rtol=0, atol=5e-4)
    weight = 128**-0.5 * polar(draw((128, 128)))
    official = bjorck(weight, 1, steps=20, scale=128.0)
    torch.testing.assert_close(torch.linalg.svdvals(official), torch.full((128,), found[0], dtype=torch.float64))


def count_products(monkeypatch, function):
    count = 0
    original = torch.Tensor.__matmul__

    def counting(a, b):
        nonlocal count
        count += b.shape[-1] > 1  # a product with a vector costs next to nothing
        return original(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", counting)
    function()
    monkeypatch.setattr(torch.Tensor, "__matmul__", original)
    return count


@pytest.mark.parametrize(("order", "products"), [(1, 2), (2, 3), (3, 4), (4, 4)])
def test_an_orthonormal_weight_costs_one_step(monkeypatch, order, products):
    weight = polar(draw((20, 20)))
    assert count_products(monkeypatch, lambda: bjorck(weight, order)) == products


def test_a_looser_tolerance_costs_fewer_products_and_is_kept(monkeypatch):
    weight = draw((20, 30))
    counts = {}
    for tolerance in (1e-2, 1e-6, 1e-13):
        counts[tolerance] = count_products(monkeypatch, lambda t=tolerance: bjorck(weight, tolerance=t))
        assert residual(bjorck(weight, tolerance=tolerance)) <= tolerance
    assert counts[1e-2] < counts[1e-6] < counts[1e-13]


def test_the_first_scale_saves_a_step_after_training(monkeypatch):
    """Against the bound on the largest singular value, which is right for all weights, and too large for most."""
    weight = polar(draw((200, 200))) + 0.3 / math.sqrt(200) * draw((200, 200), seed=1)
    bound = norm_bound(weight)
    from_bound = count_products(monkeypatch, lambda: bjorck(weight, tolerance=1e-6, scale=bound))
    assert count_products(monkeypatch, lambda: bjorck(weight, tolerance=1e-6)) <= from_bound - 3
    outlier = spread(200, 4.0)
    from_bound = count_products(monkeypatch, lambda: bjorck(outlier, scale=norm_bound(outlier)))
    assert count_products(monkeypatch, lambda: bjorck(outlier)) <= from_bound


@pytest.mark.parametrize("shape", [(1, 4), (3, 5), (5, 3), (2, 4, 4)])
@pytest.mark.parametrize("order", [1, 4])
def test_gradients_are_those_of_the_polar_factor(shape, order):
    weight = draw(shape).requires_grad_()
    direction = draw(shape, seed=1)
    (ours,) = torch.autograd.grad((bjorck(weight, order) * direction).sum(), weight)
    (exact,) = torch.autograd.grad((polar(weight) * direction).sum(), weight)
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-8)


def test_each_matrix_of_a_batch_has_a_scale_of_its_own():
    weight = draw((3, 4, 4))
    scaled = weight * torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(bjorck(scaled), bjorck(weight), rtol=0, atol=1e-11)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_norm_bound_is_never_below_the_largest_singular_value(shape):
    for seed in range(20):
        weight = draw(shape, seed=seed)
        largest = torch.linalg.svdvals(weight)[..., :1, None]
        assert (norm_bound(weight) >= largest).all()
    orthonormal = 3 * polar(draw(shape))
    torch.testing.assert_close(norm_bound(orthonormal), torch.full_like(norm_bound(weight), 3.0))


def test_a_singular_value_zero_stays_zero_and_the_residual_tells():
    weight = draw((4, 1)) @ draw((1, 4), seed=1)  # rank 1
    found = bjorck(weight)
    torch.testing.assert_close(torch.linalg.svdvals(found)[0].item(), 1.0)
    assert residual(found) > 1


@pytest.mark.parametrize(
    ("weight", "options", "message"),
    [
        (torch.ones(2, 2, dtype=torch.float16), {}, "float32 or float64"),
        (torch.ones(3), {}, "must have shape"),
        (torch.ones(0, 2, 2), {}, "must have shape"),
        (torch.eye(2), {"order": 5}, "order must be a whole number from 1 to 4: got 5"),
        (torch.eye(2), {"steps": 0}, "steps must be a whole number of at least 1: got 0"),
        (torch.eye(2), {"steps": 3, "scale": -1.0}, "scale must be positive and finite"),
        (
            torch.ones(3, 2, 2),
            {"scale": torch.ones(3)},
            r"scale must be a number or have shape \(..., 1, 1\): got \(3,\)",
        ),
        (torch.eye(2), {"scale": 0.5, "order": 1}, "steps of order 1 converge: it is 2"),
        (torch.eye(2), {"scale": 1e13}, "between 1e-12 and 1.528"),
        (torch.zeros(2, 2), {}, "zero or not finite"),
        (torch.full((2, 2), math.nan), {}, "zero or not finite"),
        (torch.stack([torch.eye(2), torch.zeros(2, 2)]), {}, "zero or not finite"),
    ],
)
def test_bad_input_is_refused(weight, options, message):
    with pytest.raises(ValueError, match=message):
        bjorck(weight, **options)

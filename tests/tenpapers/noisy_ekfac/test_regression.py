"""What a run on all splits of a regression set trains and measures."""

import math

import pytest
import torch

from nnlib.bayes import GammaGaussian
from nnlib.noisy_ekfac import METHODS
from nnlib.noisy_ekfac.matrix_variate import split_damping
from tenpapers.data import load
from tenpapers.noisy_ekfac import copies, regression
from tenpapers.noisy_ekfac.regression import regress
from tenpapers.noisy_ekfac.released import AsReleased


@pytest.mark.parametrize("method", METHODS)
def test_splits_trained_together_learn(method):
    """Breaks if targets of one split meet inputs of another: the error would be that of the mean, about 77."""
    rows = regress("diabetes", method, [0, 1, 2], epochs=20, batch_size=20, particles=4)
    assert len(rows) == 3 and all(row["rmse"] < 68 and 0.7 < row["coverage"] <= 1 for row in rows)


def test_noise_of_a_row_is_that_of_the_gamma_posterior():
    """With all data in a batch and weights that hardly move. Breaks if it counts the examples twice, or the batch."""
    options = {"lr": 1e-9, "kl_weight": 1e-12, "decay": 0.0, "epochs": 2, "batch_size": 398, "particles": 2}
    (row,) = regress("diabetes", "Bayes by backprop", [3], dtype="float64", rho_start=-20.0, **options)
    data = load("diabetes", split=3).to(dtype=torch.float64)
    layers = [q.mean[None] for q in copies.start("Noisy Adam", [10, 50, 1], 1, 0, data.train.x, n_data=398)]
    error = copies.forward(data.train.x[None], layers)[0][0, 0] - data.train.y
    variance = (6 + error.square().sum() / 2) / (6 + 398 / 2)
    assert row["noise"] == pytest.approx(data.info["y_scale"] * variance.sqrt().item(), rel=1e-6)


def test_a_row_says_which_damping_it_had():
    options = {"epochs": 2, "batch_size": 199, "particles": 1, "test_particles": 1}
    kinds = {method: regress("diabetes", method, **options)[0]["damping_kind"] for method in METHODS}
    assert list(kinds.values()) == [None, None, "factored", "exact"]
    (row,) = regress("diabetes", "Noisy K-FAC", damping_kind="exact", update_basis_every=3, **options)
    assert (row["damping_kind"], row["update_basis_every"], row["on_basis_change"]) == ("exact", 3, None)


@pytest.mark.parametrize("bad", [{"held_out": 1.0}, {"held_out": -0.1}])
def test_a_share_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="held_out must be"):
        regress("diabetes", "Noisy Adam", **bad)


def test_what_is_held_out_is_not_trained_on_and_decides_the_validation():
    """Breaks if a held-out row is also a training row, or rows and targets part."""
    x = torch.arange(20.0).view(2, 10, 1)
    (kept, y), (out, z) = regression.divided(x, 3 * x, 0.2, seed=1)
    assert out.shape == (2, 2, 1) and torch.equal(3 * kept, y) and torch.equal(3 * out, z)
    assert torch.equal(torch.cat([kept, out], 1).sort(1).values, x)
    options = {"epochs": 8, "batch_size": 50, "particles": 2}
    with_, without = (regress("diabetes", "Noisy Adam", held_out=share, **options)[0] for share in (0.1, 0.0))
    assert with_["validation"] < 0 and without["validation"] is None and with_["rmse"] != without["rmse"]


def test_the_bound_is_the_evidence_where_there_is_nothing_to_learn_but_the_noise():
    """Weights are pinned at zero by a narrow prior that is also q: log p(y) is that of the Gamma noise, in closed form.

    Breaks if a KL term is dropped, counted twice or not divided by n, or if E log p is taken for log E p.
    """
    n, a0, b0 = 40, 6.0, 6.0
    y = torch.randn(1, n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    like = torch.zeros(1, n, 2, dtype=torch.float64)
    layers = copies.start("Noisy Adam", [2, 3, 1], 1, 0, like, n_data=n, prior_variance=1e-16)
    for q in layers:
        q.mean, q.f = torch.zeros_like(q.mean), torch.zeros_like(q.f)
    head = GammaGaussian(n, copies=(1,), decay=0.0, dtype=torch.float64)
    head.observe(like[..., :1], y)
    bound = regression._Predictions(layers, head, 3, seed=0).elbo((like, y))
    a, b = a0 + n / 2, b0 + float(y.square().sum()) / 2
    evidence = math.lgamma(a) - math.lgamma(a0) + a0 * math.log(b0) - a * math.log(b) - n / 2 * math.log(2 * math.pi)
    assert float(bound) == pytest.approx(evidence / n, rel=1e-6)


def test_what_was_released_starts_each_step_from_the_damped_products():
    """Breaks if R keeps a memory of its own, or the products are not damped."""
    options = {"n_data": 30, "decay": 0.9}
    (q,) = copies.start("Noisy EK-FAC, as released", [2, 1], 2, 0, torch.zeros(1).double(), **options)
    assert isinstance(q, AsReleased)
    g = torch.Generator().manual_seed(0)
    for _ in range(3):
        x, ds = (torch.randn(2, 8, k, generator=g, dtype=torch.float64) for k in (3, 1))
        q.observe(copies.Rows(x, ds))
    start = split_damping(q.a, q.s, q.damping_in)
    torch.testing.assert_close(q.R, 0.9 * start + 0.1 * copies.Rows(x, ds).squares(q.basis))


def test_with_the_papers_schedule_the_statistics_slow_down_at_half(monkeypatch):
    seen = []

    class Spy(METHODS["Noisy EK-FAC"]):
        def observe(self, statistics):
            seen.append((self.decay, self.scale_decay))
            super().observe(statistics)

    monkeypatch.setitem(copies.POSTERIORS, "Noisy EK-FAC", Spy)
    x = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
    options = {"epochs": 4, "batch_size": 4, "particles": 1, "decay": 0.9, "scale_decay": 0.5}
    copies.train(x, x[..., :1], "Noisy EK-FAC", decays_fall=True, **options)
    assert [pair for pair in seen[::2]] == [(0.9, 0.5)] * 2 + [pytest.approx((0.99, 0.95))] * 2


@pytest.mark.parametrize("bad", [{"epochs": 1}, {"particles": 0}, {"batch_size": 399}, {"splits": ()}])
def test_regression_without_enough_of_anything_is_refused(bad):
    with pytest.raises(ValueError, match=r"at least|at most"):
        regress("diabetes", "Noisy Adam", **bad)

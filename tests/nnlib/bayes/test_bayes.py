"""Heads, metrics, mean-field layers and the exact linear posterior, against closed forms and torch.distributions."""

import math

import pytest
import torch
from torch.distributions import Gamma, MultivariateNormal, Normal

from nnlib import bayes
from nnlib.bayes.likelihoods import gamma_quantile


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_loss_is_the_density_of_torch():
    f, y = draw(3, 5, 2), draw(5, 2, seed=1)
    expected = Normal(f, 0.7).log_prob(y).sum(-1)
    torch.testing.assert_close(bayes.Gaussian(0.49, dtype=torch.float64).log_prob(f, y), expected)


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="shape of the outputs"):
        bayes.Gaussian().loss(torch.zeros(4, 1), torch.zeros(4))


def test_learnt_noise_finds_the_variance_and_stops_at_its_floor():
    y = draw(400, 1)
    for scale, floor, expected in ((0.5, 0.0, 0.5 * float(y.square().mean().sqrt())), (1e-3, 0.05, 0.05)):
        head = bayes.Gaussian(1.0, learnt=True, floor=floor, dtype=torch.float64)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            head.loss(torch.zeros_like(y), scale * y).backward()
            optimizer.step()
        assert float(head.precision.detach() ** -0.5) == pytest.approx(expected, rel=1e-2)


def test_gamma_noise_minimises_its_objective():
    """N times the loss plus the KL is stationary at the conjugate posterior, in the rate and in the shape."""
    y, n = draw(60, 1), 60
    head = bayes.GammaGaussian(n, decay=0.0, dtype=torch.float64)
    head.observe(torch.zeros_like(y), y)

    def objective(shape, rate):
        head.shape, head.rate = shape, torch.tensor(rate, dtype=torch.float64)
        return float(n * head.loss(torch.zeros_like(y), y) + head.kl())

    shape, rate = head.shape, float(head.rate)
    best = objective(shape, rate)
    others = [objective(a * shape, b * rate) for a in (0.97, 1, 1.03) for b in (0.97, 1, 1.03) if (a, b) != (1, 1)]
    assert best < min(others)


@pytest.mark.parametrize("C", [1, 2])
def test_gamma_noise_has_the_conjugate_posterior(C):
    """Breaks if outputs are not counted, or the mean square is taken over them."""
    f, y = draw(3, 40, C), draw(40, C, seed=1)
    head = bayes.GammaGaussian(200, shape=2.0, rate=3.0, outputs=C, decay=0.0, dtype=torch.float64)
    assert float(head.precision) == pytest.approx(2 / 3)
    head.observe(f, y)
    mean_square = float((f - y).square().sum()) / (3 * 40)
    assert head.shape == 2 + 200 * C / 2 and float(head.rate) == pytest.approx(3 + 200 * mean_square / 2)
    slow = bayes.GammaGaussian(200, shape=2.0, rate=3.0, outputs=C, decay=0.9, dtype=torch.float64)
    start = float(slow.rate)
    slow.observe(f, y)
    assert float(slow.rate) == pytest.approx(start + 0.1 * (float(head.rate) - start))


def test_copies_of_gamma_noise_are_the_noises_one_by_one():
    """Breaks if a mean is taken over copies, or draws are dealt out among them."""
    f, y = draw(4, 2, 30, 1), draw(2, 30, 1, seed=1)
    options = {"decay": 0.3, "dtype": torch.float64}
    both = bayes.GammaGaussian(30, copies=(2,), **options)
    both.observe(f, y)
    draws = both.precisions(5, torch.Generator().manual_seed(0))
    assert draws.shape == (5, 2) and both.log_prob(f, y).shape == (4, 2, 30)
    for r in range(2):
        one = bayes.GammaGaussian(30, **options)
        one.observe(f[:, r], y[r])
        torch.testing.assert_close(both.rate[r], one.rate)
        torch.testing.assert_close(both.kl()[r], one.kl())
        torch.testing.assert_close(both.log_prob(f, y)[:, r], one.log_prob(f[:, r], y[r]))
        torch.testing.assert_close(draws[:, r], one.precisions(5, torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="shape of the outputs"):
        both.observe(f, y[0])


def test_drawn_precisions_are_of_the_gamma_posterior():
    head = bayes.GammaGaussian(10, dtype=torch.float64)
    p = head.precisions(20_000, torch.Generator().manual_seed(0))
    assert float(p.mean()) == pytest.approx(float(head.precision), rel=0.02)
    assert float(p.var()) == pytest.approx(head.shape / float(head.rate) ** 2, rel=0.05)


def test_gamma_quantiles_invert_the_distribution_function():
    u = torch.tensor([0.01, 0.3, 0.99], dtype=torch.float64)
    for shape in (2.0, 470.0):
        torch.testing.assert_close(Gamma(torch.tensor(shape).double(), 1.0).cdf(gamma_quantile(u, shape)), u)


@pytest.mark.parametrize("C", [1, 3])
def test_the_log_likelihood_changes_by_log_scale_and_the_error_by_scale(C):
    """Breaks if the density of several outputs has the constants of one."""
    f, y = draw(4, 30, C), draw(30, C, seed=1)
    log, p = bayes.log_likelihood, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    # In the data's own units: everything times 5, precisions over 25.
    torch.testing.assert_close(log(f, y, p, scale=5.0), log(5 * f, 5 * y, p / 25))
    torch.testing.assert_close(bayes.rmse(f, y, 5.0), bayes.rmse(5 * f, 5 * y))
    dense = Normal(f, (p**-0.5)[:, None, None]).log_prob(y).sum(-1).exp().mean(0).log().mean()
    torch.testing.assert_close(log(f, y, p), dense)


def test_a_calibrated_prediction_covers_what_it_says_and_a_narrow_one_does_not():
    f = draw(1, 4000, 1)
    y = f[0] + draw(4000, 1, seed=3)
    assert float(bayes.coverage(f, y, 1.0)) == pytest.approx(0.9, abs=0.02)
    assert float(bayes.calibration_error(f, y, 1.0)) < 0.02 < 0.1 < float(bayes.calibration_error(f, y, 9.0))


def test_the_calibration_error_of_classes_weighs_bins_by_their_examples():
    """By hand, in four bins. Breaks if neighbouring bins are merged: their gaps, of two signs, would cancel."""
    confidence = torch.tensor([0.95, 0.95, 0.7, 0.7, 0.55, 1.0], dtype=torch.float64)
    right = torch.tensor([True, False, True, True, False, True])
    probabilities = torch.stack([confidence, 1 - confidence], 1)
    found = bayes.expected_calibration_error(probabilities, (~right).long(), bins=4)
    last, third = abs(1 + 0 + 1 - 2 * 0.95 - 1.0), abs(1 + 1 + 0 - 2 * 0.7 - 0.55)
    assert float(found) == pytest.approx((last + third) / 6)


def test_intervals_are_central_and_of_their_level():
    y = torch.tensor([[-1.3], [-1.2], [0.0], [1.2], [1.3]], dtype=torch.float64)  # 80 %: up to 1.2816
    f = torch.zeros(1, 5, 1, dtype=torch.float64)
    assert float(bayes.coverage(f, y, 1.0, level=0.8)) == pytest.approx(0.6)
    assert float(bayes.coverage(f, 2 * y, 0.25, level=0.8)) == pytest.approx(0.6)
    torch.testing.assert_close(bayes.probability_below(f, y, 4.0), Normal(0.0, 0.5).cdf(y))


def test_classification_averages_probabilities_not_logits():
    logits = torch.tensor([[[4.0, 0.0]], [[-1.0, 0.0]]], dtype=torch.float64)
    p = torch.sigmoid(torch.tensor([4.0, -1.0], dtype=torch.float64)).mean()
    found = bayes.classification_metrics(logits, torch.tensor([0]))
    assert found["log_likelihood"] == pytest.approx(math.log(p)) and found["brier"] == pytest.approx(2 * (1 - p) ** 2)


def test_a_class_that_every_network_thinks_impossible_has_a_finite_log_likelihood():
    """Breaks if probabilities are formed first: exp(-200) is zero in single precision."""
    logits = torch.tensor([[[200.0, 0.0]], [[200.0, 0.0]]])
    assert bayes.classification_metrics(logits, torch.tensor([1]))["log_likelihood"] == -200


def test_the_linear_posterior_is_bayes_rule():
    """log p(y | w) + log p(w) - log p(w | y) is the log evidence at every w; the ELBO reaches it at the posterior."""
    model = bayes.LinearGaussian(draw(20, 3), draw(20, seed=1), 0.3, 2.0)
    eye = torch.eye(3, dtype=torch.float64)
    for w in draw(3, 3, seed=2):
        joint = Normal(model.X @ w, 0.3**0.5).log_prob(model.y).sum() + Normal(0.0, 2**0.5).log_prob(w).sum()
        found = joint - MultivariateNormal(model.mean, model.covariance).log_prob(w)
        torch.testing.assert_close(found, model.log_evidence())
    torch.testing.assert_close(model.elbo(model.mean, model.covariance), model.log_evidence())
    assert model.elbo(model.mean, model.covariance + 0.01 * eye) < model.log_evidence()


def test_a_new_target_has_the_predictive_distribution_of_bayes_rule():
    """p(y_new | y) = p(y, y_new) / p(y), and the noise is in it."""
    X, y, x = draw(20, 3), draw(20, seed=1), draw(1, 3, seed=2)
    model = bayes.LinearGaussian(X, y, 0.3, 2.0)
    mean, variance = model.predict(x)
    for new in (-1.0, 0.5):
        both = bayes.LinearGaussian(torch.cat([X, x]), torch.cat([y, torch.tensor([new]).double()]), 0.3, 2.0)
        expected = both.log_evidence() - model.log_evidence()
        torch.testing.assert_close(Normal(mean, variance.sqrt()).log_prob(torch.tensor([new]).double())[0], expected)


def test_the_divergence_of_gaussians_is_that_of_torch():
    A, B = draw(3, 3), draw(3, 3, seed=1)
    S, S0, m, m0 = A @ A.T + torch.eye(3).double(), B @ B.T + torch.eye(3).double(), draw(3, seed=2), draw(3, seed=3)
    expected = torch.distributions.kl_divergence(MultivariateNormal(m, S), MultivariateNormal(m0, S0))
    torch.testing.assert_close(bayes.gaussian_kl(m, S, m0, S0), expected)


def test_mean_field_kl_is_the_sum_that_torch_computes_and_samples_are_functions():
    network = bayes.MeanFieldMLP([2, 5, 1], dtype=torch.float64)
    expected = sum(
        torch.distributions.kl_divergence(Normal(layer.mean, layer.rho.exp()), Normal(0.0, 0.5**0.5)).sum()
        for layer in network.layers
    )
    torch.testing.assert_close(network.kl(0.5), expected)
    x, g = draw(1, 2).expand(6, 2), torch.Generator().manual_seed(0)
    f = network(x, 4, g)
    assert f.shape == (4, 6, 1) and torch.equal(f, f[:, :1].expand_as(f)) and f.std(0).min() > 0


def test_random_functions_vary_with_the_deviations_of_their_weights():
    """Var f(x) = exp(2 rho) (|x|^2 + 1), the one for the bias. Breaks if exp(rho) is taken for the variance."""
    layer = bayes.MeanFieldLinear(2, 1, rho=-1.0, dtype=torch.float64)
    x = torch.tensor([[0.0, 0.0], [1.0, -2.0]], dtype=torch.float64)
    f = layer(x, 20_000, torch.Generator().manual_seed(0)).detach()
    expected = math.exp(-2) * torch.tensor([[1.0], [6.0]], dtype=torch.float64)
    torch.testing.assert_close(f.var(0), expected, rtol=0.05, atol=0)
    torch.testing.assert_close(f.mean(0), x @ layer.mean[:, :2].T.detach(), rtol=0, atol=0.03)

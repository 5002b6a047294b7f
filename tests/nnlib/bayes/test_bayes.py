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


def test_gamma_quantiles_invert_the_distribution_function():
    u = torch.tensor([0.01, 0.3, 0.99], dtype=torch.float64)
    for shape in (2.0, 470.0):
        torch.testing.assert_close(Gamma(torch.tensor(shape).double(), 1.0).cdf(gamma_quantile(u, shape)), u)


def test_the_log_likelihood_changes_by_log_scale_and_the_error_by_scale():
    f, y = draw(4, 30, 1), draw(30, 1, seed=1)
    log, p = bayes.log_likelihood, torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    # In the data's own units: everything times 5, precisions over 25.
    torch.testing.assert_close(log(f, y, p, scale=5.0), log(5 * f, 5 * y, p / 25))
    torch.testing.assert_close(bayes.rmse(f, y, 5.0), bayes.rmse(5 * f, 5 * y))
    dense = Normal(f, (p**-0.5)[:, None, None]).log_prob(y).exp().mean(0).log().mean()
    torch.testing.assert_close(log(f, y, p), dense)


def test_a_calibrated_prediction_covers_what_it_says_and_a_narrow_one_does_not():
    f = draw(1, 4000, 1)
    y = f[0] + draw(4000, 1, seed=3)
    assert float(bayes.coverage(f, y, 1.0)) == pytest.approx(0.9, abs=0.02)
    assert float(bayes.calibration_error(f, y, 1.0)) < 0.02 < 0.1 < float(bayes.calibration_error(f, y, 9.0))


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

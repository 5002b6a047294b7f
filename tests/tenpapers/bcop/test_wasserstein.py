"""Critics: never above the exact distance once divided by their constant, whatever the constraint did."""

import pytest
import torch

from tenpapers.bcop import gaussian_images, run_critic
from tenpapers.data import load

SHORT = {"n": 64, "batch_size": 64, "steps": 15, "width": 0.5, "dtype": "float64"}


@pytest.mark.parametrize("method", ["BCOP", "RKO", "OSSN", "SVCM"])
@pytest.mark.parametrize("lr", [1e-2, 1.0])
def test_estimate_over_constant_never_exceeds_the_exact_distance(method, lr):
    found = run_critic("digits", method, 0, lr=lr, **SHORT)
    assert found["bound"] <= found["exact"]
    assert found["constant"] > 0 and found["bound"] == found["estimate"] / found["constant"]


def test_an_orthogonal_critic_needs_no_division():
    found = run_critic("digits", "BCOP", 0, lr=1e-2, **SHORT)
    assert found["constant"] == pytest.approx(1, abs=1e-9) and found["estimate"] > 0.2


def test_upsampling_multiplies_estimate_and_exact_distance_alike():
    """In the metric of the larger images both are twice as large; neither may be compared with the other metric."""
    plain = run_critic("digits", "BCOP", 0, lr=1e-2, **SHORT)
    large = run_critic("digits", "BCOP", 0, lr=1e-2, upsample=2, **SHORT)
    assert large["exact"] == pytest.approx(2 * plain["exact"])
    assert large["bound"] <= large["exact"] and large["constant"] == pytest.approx(1, abs=1e-9)


def test_gaussian_images_have_the_mean_and_covariance_of_the_real_ones():
    """On images far from the edges of [0, 1], where nothing is cut."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    x = 0.5 + 0.02 * (torch.randn(5000, 4, generator=generator, dtype=torch.float64) @ mix)
    drawn = gaussian_images(x.view(-1, 1, 2, 2), 50_000, seed=1).flatten(1)
    torch.testing.assert_close(drawn.mean(0), x.mean(0), atol=2e-3, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.mT), torch.cov(x.mT), atol=1e-4, rtol=0.05)
    real = gaussian_images(load("digits").train.x, 100)
    assert real.min() >= 0 and real.max() <= 1

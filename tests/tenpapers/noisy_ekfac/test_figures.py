"""The explorers show what the mathematics says."""

import pytest

from tenpapers.noisy_ekfac import figures
from tenpapers.noisy_ekfac.figures.cooling import variances
from tenpapers.noisy_ekfac.measure import covariances, gap


@pytest.mark.parametrize(("correlation", "n", "prior"), [(0.0, 4, 0.1), (0.95, 100, 10.0)])
def test_the_corrected_ellipse_is_the_exact_one(correlation, n, prior):
    found = covariances(correlation, n, 1.0, prior)
    gaps = {name: gap(covariance, found["Exact"]) for name, covariance in found.items()}
    assert gaps["Noisy EK-FAC"] < 1e-9 < 1e-3 < gaps["Noisy K-FAC"]
    assert (gaps["Noisy Adam"] < 1e-9) == (correlation == 0)


def test_factored_damping_cools_every_direction():
    assert (variances(2.0, 1000, "factored") < variances(2.0, 1000, "exact")).all()


@pytest.mark.parametrize("figure", [figures.ellipses, figures.cooling])
def test_figures_say_what_they_show(figure):
    assert len(figure().layout.meta["summary"]) > 40 and len(figure().layout.meta["alt"]) > 80

"""The explorers show what the mathematics says."""

import pytest

from tenpapers.noisy_ekfac import comparisons, figures
from tenpapers.noisy_ekfac.figures.cooling import variances
from tenpapers.noisy_ekfac.figures.fishers import matrices
from tenpapers.noisy_ekfac.measure import covariances, gap


@pytest.mark.parametrize(("correlation", "n", "prior"), [(0.0, 4, 0.1), (0.95, 100, 10.0)])
def test_the_corrected_ellipse_is_the_exact_one(correlation, n, prior):
    found = covariances(correlation, n, 1.0, prior)
    gaps = {name: gap(covariance, found["Exact"]) for name, covariance in found.items()}
    assert gaps["Noisy EK-FAC"] < 1e-9 < 1e-3 < gaps["Noisy K-FAC"]
    assert (gaps["Noisy Adam"] < 1e-9) == (correlation == 0)


def test_factored_damping_cools_every_direction():
    assert (variances(2.0, 1000, "factored") < variances(2.0, 1000, "exact")).all()


@pytest.mark.parametrize("dependence", [0.0, 1.0])
def test_corrected_eigenvalues_keep_the_trace_and_products_do_where_nothing_depends(dependence):
    """Breaks if a panel shows another matrix than its title says."""
    found = matrices(dependence, 0.5)
    F = found["Fisher matrix"]
    errors = {name: float((matrix - F).norm() / F.norm()) for name, matrix in found.items()}
    assert found["noisy EK-FAC"].trace().item() == pytest.approx(F.trace().item())
    assert (found["noisy Adam"].diagonal() - F.diagonal()).abs().max() < 1e-12
    assert errors["noisy EK-FAC"] < errors["noisy K-FAC"] and (errors["noisy K-FAC"] < 0.15) == (dependence == 0)


def test_a_picture_draws_the_rows_of_the_record():
    """Breaks if a curve is another method's, or of another column."""
    curves = {trace.name: trace for trace in figures.over_kl("boston", "error").data}
    mean = comparisons.cooled().query("data == 'boston'").groupby(["variant", "kl_weight"])[["kl", "rmse"]].mean()
    for name, trace in curves.items():
        assert list(trace.x) == sorted(trace.x)  # colder is farther from the prior
        assert list(trace.y) == pytest.approx(list(mean.loc[name].rmse)[::-1], abs=1e-4)
    panels = [trace for trace in figures.marginals().data if trace.mode == "markers"]
    assert len(panels) == 4 and all(len(trace.x) == 3 * 61 for trace in panels)


@pytest.mark.parametrize("figure", [figures.ellipses, figures.cooling, figures.fishers, figures.over_kl])
def test_figures_say_what_they_show(figure):
    assert len(figure().layout.meta["summary"]) > 40 and len(figure().layout.meta["alt"]) > 80

"""Small figure functions with every kind of control and of data, for the tests of the page."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.page import look as figures


def waves(frequency: float, shape: str, damped: bool) -> go.Figure:
    """A wave and its bound, with a gap in the middle; the number of curves depends on a control."""
    x = np.linspace(0, 10, 120)
    bound = np.exp(-0.2 * x) if damped else np.ones_like(x)
    wave = {"sine": np.sin, "square": lambda t: np.sign(np.sin(t))}[shape](frequency * x) * bound
    wave[60] = np.nan
    figure = go.Figure(go.Scatter(x=x, y=wave, **figures.style("SGD")))
    figure.add_scatter(x=x, y=bound, **figures.style("Bound"))
    if damped:
        figure.add_scatter(x=x, y=-bound, **figures.style("Momentum"))
    figure.update_layout(xaxis_title="time", yaxis_title="height")
    return figures.describe(
        figure,
        "demo-waves",
        alt="A wave against time; it stays within a bound that is constant, or falls when the wave is damped.",
        summary=f"{frequency * 10 / (2 * np.pi):.3g} periods fit in; the last bound is {bound[-1]:.3g}.",
    )


def panels(power: int) -> go.Figure:
    """Two panels side by side, stacked on a narrow screen; batch sizes are powers of two, values span many decades."""
    figure = make_subplots(1, 2, subplot_titles=["steps to target", "risk"])
    batch = 2 ** np.arange(15)
    for i, method in enumerate(["SGD", "Momentum", "Adam", "K-FAC"]):
        style = figures.style(method)
        figure.add_scatter(x=batch, y=1000 / (i + 1) * (1 + 200 / batch) ** (1 + power / 4), **style, row=1, col=1)
        figure.add_scatter(x=batch, y=10.0 ** (-power * np.arange(15) / 3 - i), **style, showlegend=False, row=1, col=2)
    figure.update_xaxes(**figures.LOG, title="batch size")
    figure.update_yaxes(**figures.LOG)
    return figures.describe(
        figure,
        "demo-panels",
        alt="Left: steps to a target fall with the batch size and then level off. Right: the risk falls.",
        summary=f"With power {power}, SGD needs {1000 * 201 ** (1 + power / 4):,.0f} steps at batch size 1.",
        narrow=figures.stack(figure),
    )


def plain() -> go.Figure:
    """A figure without controls."""
    figure = go.Figure(go.Bar(x=["SGD", "Adam"], y=[0.25, 1 / 3], marker_color=figures.COLORS["neutral"]))
    figure.update_layout(height=300, yaxis_title="seconds & <cost>")
    return figures.describe(figure, "demo-plain", alt='Two bars: SGD takes a "quarter" second, Adam a third </script>.')

"""When inputs and gradients depend on each other, how much is lost by S (x) A, and how much does EKFAC bring back?"""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.curvature.figures.matrices import SIGNED, signed_root
from tenpapers.curvature.measure import DAMPINGS, correlation, curvatures, relative_error, shares
from tenpapers.page.look import COLORS, LOG, describe, stack, style
from tenpapers.page.text import number

STYLES = {
    "K-FAC": style("K-FAC"),
    "EKFAC": style("K-FAC-F") | {"name": "EKFAC", "legendgroup": "EKFAC"},
    "diagonal": style("Adam") | {"name": "diagonal", "legendgroup": "diagonal"},
    "gradient": style("GD") | {"name": "gradient", "legendgroup": "gradient"},
}


def confidence(scale: float = 1.0, damping: float = 0.01) -> go.Figure:
    """Fisher matrix, K-FAC and EKFAC of a softmax regression, and how good their damped directions are.

    Args:
        scale: Of the weights, from 0 (the model knows nothing) up.
        damping: One of ``DAMPINGS``, up to rounding.
    """
    found = curvatures(scale)
    names = ["Fisher", "K-FAC", "EKFAC"]
    largest = float(found["Fisher"].abs().max())
    figure = make_subplots(1, 2, column_widths=[0.58, 0.42], subplot_titles=["matrices", "share of the best decrease"])
    colours = {"colorscale": SIGNED, "zmin": -1, "zmax": 1, "showscale": False, "hoverinfo": "skip"}
    for place, name in enumerate(names):
        figure.add_heatmap(z=signed_root(found[name], largest), x0=10 * place, **colours, row=1, col=1)
    place = int(np.abs(np.log(DAMPINGS / damping)).argmin())
    for name, got in shares(scale).items():
        figure.add_scatter(x=DAMPINGS, y=got, mode="lines", **STYLES[name], row=1, col=2)
    dotted = {"color": COLORS["neutral"], "dash": "dot", "width": 1}
    figure.add_vline(x=DAMPINGS[place], line=dotted, row=1, col=2)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(tickvals=[4, 14, 24], ticktext=names, ticks="", showgrid=False, showline=False, row=1, col=1)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, showline=False, autorange="reversed", col=1)
    figure.update_yaxes(scaleanchor="x", constrain="domain", row=1, col=1)
    figure.update_xaxes(**LOG, title="damping", row=1, col=2)
    figure.update_yaxes(range=[0.25, 1.03], row=1, col=2)
    figure.update_layout(height=360)
    errors = {name: relative_error(matrix, found["Fisher"]) for name, matrix in found.items() if name != "Fisher"}
    told = ", ".join(f"{name} {number(error if error > 1e-9 else 0.0, 2)}" for name, error in errors.items())
    here = shares(scale)
    related = correlation(scale)
    return describe(
        figure,
        "curvature-confidence",
        alt=(
            "Left: three small heat maps, the Fisher matrix of a softmax regression, its Kronecker approximation and "
            "EKFAC; with growing scale of the weights the first loses entries that the others keep. Right: over the "
            "damping, the share of the best possible decrease that each direction brings; EKFAC lies above K-FAC, the "
            "diagonal and the gradient, and with much damping all rise to one."
        ),
        summary=(
            f"Relative error: {told}. Correlation of |x|² and |ds|²: {number(related, 2)}. At this damping K-FAC "
            f"brings {here['K-FAC'][place]:.0%} of the best decrease, EKFAC {here['EKFAC'][place]:.0%}, the gradient "
            f"{here['gradient'][place]:.0%}."
        ),
        narrow=stack(figure),
    )

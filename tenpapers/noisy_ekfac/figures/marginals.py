"""The standard deviation of each weight of a small network: four posteriors over Hamiltonian Monte Carlo's."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.noisy_ekfac import runs
from tenpapers.noisy_ekfac.comparisons import EXACT
from tenpapers.page.look import COLORS, LOG, describe, stack, style

PANELS = {"Noisy Adam": "Adam", "Noisy K-FAC": "K-FAC", EXACT: "SGD", "Noisy EK-FAC": "Natural gradient"}


def marginals(seeds: tuple[int, ...] = (0, 1, 2), profile: str = "quick") -> go.Figure:
    """A panel for each posterior, a point for each weight of a few networks; on the line the deviation is right."""
    frame = runs.marginals.read(profile, seed=list(seeds))
    titles = [name.replace(", exact", ",<br>exact") for name in PANELS]
    figure = make_subplots(1, 4, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    ends = [float(frame.hmc.min()) * 0.8, float(frame.hmc.max()) * 1.2]
    for column, (name, look) in enumerate(PANELS.items(), start=1):
        marker = style(look)["marker"] | {"size": 4}
        figure.add_scatter(
            x=frame.hmc.round(4), y=frame[name].round(4), mode="markers", marker=marker, name=name, row=1, col=column
        )
        line = {"color": COLORS["neutral"], "width": 1}
        figure.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", row=1, col=column)
    figure.update_layout(showlegend=False, height=340)
    figure.update_xaxes(**LOG, title="deviation, HMC")
    figure.update_yaxes(**LOG)
    figure.update_yaxes(title="deviation, posterior", col=1)
    return describe(
        figure,
        "noisy-ekfac-marginals",
        alt=(
            f"Four panels, {len(frame)} weights each: the standard deviation of a weight by a posterior over that by "
            "Hamiltonian Monte Carlo, logarithmic axes, with the line where they agree. Nearly all points lie below, "
            "noisy Adam's lowest and noisy K-FAC's with factored damping lower than with exact; noisy K-FAC with exact "
            "damping and noisy EK-FAC look alike."
        ),
        narrow=stack(figure, 260),
    )

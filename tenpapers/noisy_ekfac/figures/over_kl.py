"""How good are predictions, by how far the posterior is from the prior? One curve a method, one point a temperature."""

import plotly.graph_objects as go

from tenpapers.noisy_ekfac.comparisons import EXACT, chosen, cooled
from tenpapers.page.look import describe, style
from tenpapers.page.text import number

LOOKS = {"Noisy Adam": "Adam", "Noisy K-FAC": "K-FAC", EXACT: "SGD", "Noisy EK-FAC": "Natural gradient"}
SHOWN = {
    "log likelihood": ("log_likelihood", "test log likelihood"),
    "error": ("rmse", "test error (RMSE)"),
    "coverage": ("coverage", "share of targets within 90 % intervals"),
    "bound": ("elbo", "evidence lower bound, nats an example"),
}


def over_kl(data: str = "boston", shown: str = "log likelihood", profile: str = "quick") -> go.Figure:
    """A mean over splits at each temperature, over the mean KL divergence to the prior.

    Args:
        data: A set of the table ``temperatures``.
        shown: A key of ``SHOWN``.
        profile: Whose runs.
    """
    column, axis = SHOWN[shown]
    frame = cooled(profile)
    frame = frame[frame.data == data]
    figure, told = go.Figure(), []
    for variant, look in LOOKS.items():
        part = frame[frame.variant == variant]
        if part.empty:
            continue
        mean = part.groupby("kl_weight")[["kl", column]].mean().sort_index(ascending=False)
        drawn = style(look) | {"name": variant, "legendgroup": variant, "mode": "lines+markers"}
        texts = [f"τ = {tau:g}" for tau in mean.index]
        figure.add_scatter(x=mean.kl.round(1), y=mean[column].round(4), text=texts, **drawn)
        picked = chosen(part)[column].mean()
        told.append(f"{variant} {number(picked)}")
    if shown == "coverage":
        figure.add_hline(y=0.9, line={"width": 1, "dash": "dot"})
    ticks = [200, 300, 500, 700, 1000, 1500, 2000]
    figure.update_xaxes(type="log", tickvals=ticks, title="KL divergence to the prior, nats")
    figure.update_yaxes(title=axis)
    return describe(
        figure,
        "noisy-ekfac-over-kl",
        alt=(
            f"{axis.capitalize()} on {data} over the KL divergence to the prior: a curve for each of {len(told)} "
            "methods, a point for each temperature from 1, on the left, down to 0.1, on the right."
        ),
        summary=f"Each at the temperature that validation chooses, split by split: {', '.join(told)}.",
    )

"""How soon is the maximum found? Regret of Bayesian optimisation, by what the search believes."""

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tenpapers.functional_bnn import runs
from tenpapers.page.look import describe, stack, style
from tenpapers.page.text import number

STYLES = {"random search": "Magnitude", "Bayes by backprop": "RKO", "fBNN": "BCOP", "exact GP": "OSSN"}


def searches(d: int = 1) -> go.Figure:
    """One panel a kernel: mean regret over functions, along the queries. From recorded runs.

    Args:
        d: Number of inputs of the functions.
    """
    frame = runs.searches.read()
    steps = [column for column in runs.searches.columns if column.startswith("after ")]
    queries = [int(column.removeprefix("after ")) for column in steps]
    shown = frame[frame.d == d]
    kernels = list(shown.kernel.unique())
    figure = make_subplots(1, len(kernels), subplot_titles=kernels, shared_yaxes=True, horizontal_spacing=0.05)
    for column, kernel in enumerate(kernels, 1):
        for method, name in STYLES.items():
            look = style(name) | {"name": method, "legendgroup": method}
            regret = shown[(shown.kernel == kernel) & (shown.method == method)][steps].mean().round(3).tolist()
            figure.add_scatter(
                x=queries, y=regret, mode="lines+markers", showlegend=column == 1, row=1, col=column, **look
            )
    figure.update_xaxes(title_text="queries")
    figure.update_yaxes(title_text="regret", rangemode="tozero", col=1)
    figure.update_layout(height=360)
    last = shown.groupby("method")[steps[-1]].mean()
    told = ", ".join(f"{method} {number(last[method], 2)}" for method in STYLES)
    return describe(
        figure,
        "fbnn-searches",
        alt=(
            f"Functions of {d} input{'s' if d > 1 else ''}: for each kernel four lines of regret that fall from "
            "query to query: chance, two networks and the exact process."
        ),
        summary=(
            f"Functions of {d} input{'s' if d > 1 else ''}, regret after {queries[-1]} queries, in standard deviations "
            f"of the prior, mean over kernels and functions: {told}."
        ),
        narrow=stack(figure, 250),
    )

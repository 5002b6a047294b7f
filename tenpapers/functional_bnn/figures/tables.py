"""How much does each agent lose? Regret as a share of that of random actions."""

import pandas as pd
import plotly.graph_objects as go

from tenpapers.page.look import COLORS, describe
from tenpapers.page.text import number

AGENTS = {
    "linear": "Maxout",
    "neural linear": "OSSN",
    "dropout": "BCOP-Fixed",
    "Bayes by backprop": "RKO",
    "fBNN": "BCOP",
}


def regret(frame: pd.DataFrame) -> go.Figure:
    """Bars: mean regret over seeds, in percent of the uniform agent's.

    Args:
        frame: Columns ``problem, agent, seed, regret``, the uniform agent among them.
    """
    mean = frame.groupby(["problem", "agent"]).regret.mean().unstack("agent")
    share = 100 * mean.div(mean["uniform"], axis=0)
    figure = go.Figure()
    for agent, color in AGENTS.items():
        figure.add_bar(x=list(share.index), y=share[agent].round(2), name=agent, marker={"color": COLORS[color]})
    figure.update_yaxes(title_text="regret, % of random actions", rangemode="tozero")
    figure.update_layout(barmode="group")
    others = share.drop(columns="uniform")
    told = "; ".join(f"{problem}: {row.idxmin()} least, {number(row.min())} %" for problem, row in others.iterrows())
    return describe(
        figure,
        "fbnn-regret",
        alt=f"For each bandit a bar an agent, its regret as a share of that of random actions. {told}.",
    )

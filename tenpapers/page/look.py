"""How figures of this book look: one plotly template, one colour per method, and words for readers who see no picture.

Importing this module makes the template and the renderer plotly's defaults: a described figure as the last line of a
cell is then shown by JupyterLab and, as static HTML (``tenpapers.page.static``), by the book. Figures of a chapter are
pure functions in ``nnlib/figures/<chapter>.py``.
"""

import re
from typing import Any

import plotly.colors
import plotly.graph_objects as go
import plotly.io as pio
from plotly.io.base_renderers import PlotlyRenderer

from tenpapers.page.static import figure_html

# After Okabe and Ito, moved into the band of luminance where one colour has a contrast of at least 3:1 both on white
# and on the book's dark background; with protanopia and deuteranopia every two stay 20 CIE Lab units apart.
COLORS = {
    "SGD": "#2E7EDF",
    "Momentum": "#B84819",
    "EMA": "#0EA45F",
    "Adam": "#B63097",
    "Adam + EMA": "#7A3DEA",
    "K-FAC": "#C48900",
    "K-FAC-G": "#C48900",
    "K-FAC-F": "#7A3DEA",
    "Natural gradient": "#0EA45F",
    "GD": "#2E7EDF",
    "Schedule": "#1E9DCF",
    "MaxMin": "#2E7EDF",
    "GroupSort4": "#0EA45F",
    "FullSort": "#7A3DEA",
    "Abs": "#C48900",
    "Maxout": "#1E9DCF",
    "ReLU": "#B84819",
    "tanh": "#B63097",
    "BCOP": "#2E7EDF",
    "RKO": "#B84819",
    "OSSN": "#0EA45F",
    "SVCM": "#B63097",
    "RK-L2NE": "#7A3DEA",
    "BCOP-Fixed": "#C48900",
    "Magnitude": "#808080",
    "NN Slimming": "#1E9DCF",
    "C-OBD": "#2E7EDF",
    "C-OBS": "#7A3DEA",
    "Kron-OBD": "#0EA45F",
    "Kron-OBS": "#B63097",
    "EigenDamage": "#B84819",
    "STN": "#C48900",
    "Δ-STN": "#B84819",
    "Grid search": "#808080",
    "Random search": "#1E9DCF",
    "Bayesian search": "#2E7EDF",
    "Median-pruned search": "#7A3DEA",
    "Start values": "#B63097",
    "Replay": "#0EA45F",
    "RevGRU": "#B84819",
    "RevLSTM": "#B63097",
    "GRU": "#1E9DCF",
    "LSTM": "#2E7EDF",
    "Checkpointing": "#0EA45F",
    "Bound": "#808080",
    "neutral": "#808080",
}

# Colour is never the only cue: each method has its own dash and its own marker too.
DASHES = {
    "SGD": "solid",
    "Momentum": "8px,3px",
    "EMA": "3px,2px",
    "Adam": "12px,3px,3px,3px",
    "Adam + EMA": "12px,3px,3px,3px,3px,3px",
    "K-FAC": "16px,4px",
    "K-FAC-G": "16px,3px,2px,3px",
    "K-FAC-F": "10px,2px,2px,2px",
    "Natural gradient": "5px,2px",
    "GD": "20px,2px",
    "Schedule": "6px,2px,2px,2px",
    "MaxMin": "24px,1px",
    "GroupSort4": "9px,2px",
    "FullSort": "14px,2px,2px,2px",
    "Abs": "7px,4px,2px,4px",
    "Maxout": "18px,3px,6px,3px",
    "ReLU": "4px,4px",
    "tanh": "11px,5px",
    "BCOP": "28px,1px",
    "RKO": "10px,4px",
    "OSSN": "5px,3px,2px,3px",
    "SVCM": "15px,3px,4px,3px",
    "RK-L2NE": "2px,4px",
    "BCOP-Fixed": "21px,4px,3px,4px",
    "Magnitude": "4px,1px",
    "NN Slimming": "13px,6px",
    "C-OBD": "17px,2px",
    "C-OBS": "6px,5px",
    "Kron-OBD": "22px,3px",
    "Kron-OBS": "9px,3px,3px,3px",
    "EigenDamage": "30px,1px",
    "STN": "26px,2px",
    "Δ-STN": "14px,3px,6px,3px",
    "Grid search": "3px,5px",
    "Random search": "12px,6px",
    "Bayesian search": "19px,3px",
    "Median-pruned search": "8px,2px,3px,2px",
    "Start values": "7px,1px,2px,1px",
    "Replay": "6px,1px",
    "RevGRU": "25px,3px",
    "RevLSTM": "11px,2px,4px,2px",
    "GRU": "20px,5px",
    "LSTM": "5px,5px",
    "Checkpointing": "23px,2px,4px,2px",
    "Bound": "1px,3px",
    "neutral": "solid",
}
MARKERS = {
    "SGD": "circle",
    "Momentum": "square",
    "EMA": "diamond",
    "Adam": "triangle-up",
    "Adam + EMA": "triangle-down",
    "K-FAC": "star",
    "K-FAC-G": "star-square",
    "K-FAC-F": "hexagram",
    "Natural gradient": "diamond-tall",
    "GD": "hexagon",
    "Schedule": "x",
    "MaxMin": "pentagon",
    "GroupSort4": "diamond-wide",
    "FullSort": "octagon",
    "Abs": "star-diamond",
    "Maxout": "cross",
    "ReLU": "triangle-left",
    "tanh": "triangle-right",
    "BCOP": "hexagon2",
    "RKO": "triangle-sw",
    "OSSN": "hourglass",
    "SVCM": "triangle-ne",
    "RK-L2NE": "bowtie",
    "BCOP-Fixed": "hexagon2-open",
    "Magnitude": "square-open",
    "NN Slimming": "diamond-open",
    "C-OBD": "triangle-nw",
    "C-OBS": "triangle-se",
    "Kron-OBD": "star-triangle-up",
    "Kron-OBS": "star-triangle-down",
    "EigenDamage": "circle-open-dot",
    "STN": "triangle-up-open",
    "Δ-STN": "triangle-down-open",
    "Grid search": "square-cross",
    "Random search": "circle-x",
    "Bayesian search": "diamond-cross",
    "Median-pruned search": "hexagram-open",
    "Start values": "square-open-dot",
    "Replay": "star-open",
    "RevGRU": "pentagon-open",
    "RevLSTM": "octagon-open",
    "GRU": "circle-cross",
    "LSTM": "square-x",
    "Checkpointing": "diamond-x",
    "Bound": "line-ew-open",
    "neutral": "circle-open",
}

MIDDLE_GREY = "#757575"  # can be read on white and on black; on a page, explorer.js puts the theme's colour there
FAINT_GREY = "rgba(128,128,128,0.25)"

# A logarithmic axis over several decades: labels at powers of ten (which plotly writes larger than other labels), ticks
# between them. ``figure.update_xaxes(**LOG)``
LOG = {"type": "log", "dtick": 1, "tickfont": {"size": 11}, "minor": {"dtick": "D1", "ticks": "outside", "ticklen": 2}}


def style(method: str) -> dict:
    """The keyword arguments of ``go.Scatter`` that draw a method as everywhere in the book: name, colour, dash, marker.

    Args:
        method: a key of ``COLORS``.

    Returns:
        ``name``, ``legendgroup``, ``line`` and ``marker``.

    Raises:
        ValueError: the method has no colour.

    >>> style("Adam")["marker"]
    {'color': '#B63097', 'symbol': 'triangle-up', 'size': 7}
    """
    if method not in COLORS:
        raise ValueError(f"no colour for the method {method!r}; known are {', '.join(COLORS)}")
    return {
        "name": method,
        "legendgroup": method,
        "line": {"color": COLORS[method], "dash": DASHES[method], "width": 2},
        "marker": {"color": COLORS[method], "symbol": MARKERS[method], "size": 7},
    }


def describe(
    figure: go.Figure, name: str, alt: str, summary: str | None = None, narrow: dict | None = None
) -> go.Figure:
    """Give a figure its name and its words, in ``figure.layout.meta``.

    Args:
        figure: the figure; it is changed in place.
        name: lower-case words joined by hyphens, ``chapter-what``; becomes the id on the page, so unique in a page.
        alt: what the figure shows, in words, for readers who don't see it: axes, curves and what they do.
        summary: the key number in a short sentence; explorers show it beneath the figure at each setting.
        narrow: layout on a screen less than 560 px wide, merged over the figure's own (see ``stack``).

    Returns:
        The same figure.

    Raises:
        ValueError: the name has other characters, or the alt text is empty.

    >>> describe(go.Figure(), "nqm-risk", alt="The risk falls.").layout.meta["name"]
    'nqm-risk'
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ValueError(f"a figure's name is lower-case words joined by hyphens, as in 'nqm-risk': got {name!r}")
    if not alt.strip():
        raise ValueError(f"the figure {name!r} needs an alt text: what it shows, in words")
    if _panel_titles(figure):  # they stand where the legend would
        figure.update_annotations(font_size=13).update_layout(legend_y=1.1, margin_t=72)
    words = {"name": name, "alt": alt, "summary": summary, "narrow": narrow}
    return figure.update_layout(meta={key: value for key, value in words.items() if value is not None})


def _panel_titles(figure: go.Figure) -> list[go.layout.Annotation]:
    """The annotations by which ``make_subplots`` writes titles above its panels."""
    layout: Any = figure.layout  # plotly makes its attributes at run time
    titles = [a for a in layout.annotations if (a.xref, a.yref, a.showarrow) == ("paper", "paper", False)]
    return [title for title in titles if title.y is not None and title.y >= 0.99]


def stack(figure: go.Figure, panel_height: int = 300) -> dict:
    """A layout with the panels of a one-row ``make_subplots`` figure below one another, for ``describe(narrow=...)``.

    Args:
        figure: panels side by side, with their titles (annotations above each panel) if they have any.
        panel_height: height of a panel with its axis labels, in pixels.

    Returns:
        The overrides: height, domain of each axis, place of each panel's title.
    """
    layout: Any = figure.layout
    numbers = sorted(int(key[5:] or 1) for key in layout.to_plotly_json() if key.startswith("xaxis"))
    panels = [(f"xaxis{n}", f"yaxis{n}") if n > 1 else ("xaxis", "yaxis") for n in numbers]
    height = panel_height * len(panels)
    gap = 96 / height  # room for tick labels, the axis title, and the next panel's title
    share = (1 - gap * (len(panels) - 1)) / len(panels)
    tops = [1 - i * (share + gap) for i in range(len(panels))]
    narrow: dict = {"height": height + 80}
    for (x, y), top in zip(panels, tops, strict=True):
        narrow[x], narrow[y] = {"domain": [0, 1]}, {"domain": [max(0.0, top - share), top]}
    centres = [sum(layout[x].domain or (0, 1)) / 2 for x, _ in panels]
    annotations = []
    for annotation in layout.annotations:
        moved = annotation.to_plotly_json()
        if annotation in _panel_titles(figure):
            nearest = min(range(len(panels)), key=lambda i: abs(centres[i] - moved["x"]))
            moved |= {"x": 0, "xanchor": "left", "y": tops[nearest], "font": {"size": 13}}
        annotations.append(moved)
    return narrow | ({"annotations": annotations} if annotations else {})


def _template() -> go.layout.Template:
    """Quiet: no background, a faint grid, thin axes, the legend above on the left."""
    axis = {
        "automargin": True,
        "exponentformat": "power",
        "gridcolor": FAINT_GREY,
        "linecolor": MIDDLE_GREY,
        "minexponent": 4,
        "showline": True,
        "tickcolor": MIDDLE_GREY,
        "ticklen": 4,
        "ticks": "outside",
        "title": {"standoff": 10, "font": {"size": 13}},
        "zeroline": False,
    }
    viridis = [[i / 9, color] for i, color in enumerate(plotly.colors.sequential.Viridis)]
    layout = {
        "coloraxis": {"colorscale": viridis},
        "colorway": list(dict.fromkeys(COLORS.values())),
        "font": {"color": MIDDLE_GREY, "family": "system-ui, sans-serif", "size": 13},
        "height": 420,
        "hoverlabel": {"align": "left"},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "itemwidth": 40},
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "title": {"x": 0, "xref": "paper", "font": {"size": 15}},
        "xaxis": axis,
        "yaxis": axis,
    }
    colored = {"colorscale": viridis, "colorbar": {"outlinewidth": 0, "thickness": 12}}
    return go.layout.Template(layout=layout, data={"heatmap": [colored], "contour": [colored]})


class BookRenderer(PlotlyRenderer):
    """Shows a figure twice: plotly's own JSON for a live front end, and our static HTML for the book."""

    def to_mimebundle(self, fig_dict):
        """The outputs by MIME type, from a figure as a dict."""
        html = figure_html(fig_dict)  # first, because plotly's renderer writes its configuration into the dict
        return {"text/html": html} | super().to_mimebundle(fig_dict)


pio.templates["nnlib"] = _template()
pio.templates.default = "nnlib"
pio.renderers["nnlib"] = BookRenderer()
pio.renderers.default = "nnlib"

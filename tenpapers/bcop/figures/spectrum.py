"""Which singular values does a convolution have, and what does its padding do to them?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from nnlib.bcop import conv_layer, operator_matrix
from tenpapers.page.look import COLORS, describe, stack
from tenpapers.page.text import number

CHANNELS = 4


@lru_cache(maxsize=64)
def kernel(method: str, kernel_size: int, size: int) -> torch.Tensor:
    """The weight at the start of training; "plain" is torch's scale, normal with variance 1 / fan-in."""
    if method == "plain":
        shape = (CHANNELS, CHANNELS, kernel_size, kernel_size)
        noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0), dtype=torch.float64, device="cpu")
        return noise / (CHANNELS * kernel_size**2) ** 0.5
    layer = conv_layer(method, CHANNELS, CHANNELS, kernel_size, size=size, dtype=torch.float64, device="cpu").eval()
    return layer.weight.detach()


def conv_spectrum(method: str = "BCOP", padding: str = "circular", kernel_size: int = 3, size: int = 6) -> go.Figure:
    """All singular values of a convolution on size x size images, and the energy it keeps of each pixel.

    Args:
        method: ``plain``, ``BCOP``, ``RKO``, ``OSSN`` or ``SVCM``.
        padding: ``circular`` or ``zeros``.
        kernel_size: k.
        size: H = W.
    """
    matrix = operator_matrix(kernel(method, kernel_size, size), (size, size), padding)
    values = torch.linalg.svdvals(matrix).numpy()
    energy = matrix.square().sum(0).view(CHANNELS, size, size).mean(0).numpy()
    rms = float(np.sqrt((values**2).mean()))
    figure = make_subplots(
        rows=1, cols=2, column_widths=[0.6, 0.4], horizontal_spacing=0.16,
        subplot_titles=("singular values, in order", "energy kept, by pixel"),
    )  # fmt: skip
    picked = np.unique(np.linspace(0, len(values) - 1, 49).round().astype(int))
    color = COLORS["neutral" if method == "plain" else method]
    figure.add_scatter(
        x=(100 * picked / (len(values) - 1)).round(1), y=values[picked], name="singular value",
        mode="lines", line={"color": color, "width": 3}, row=1, col=1,
    )  # fmt: skip
    line = {"color": COLORS["neutral"], "width": 1, "dash": "dot"}
    figure.add_hline(y=rms, line=line, row=1, col=1)  # pyright: ignore[reportArgumentType]
    figure.add_annotation(
        x=1, y=rms, text="root mean square", showarrow=False, xanchor="left", yanchor="top", row=1, col=1
    )
    pixels = list(range(1, size + 1))
    colorbar = {"thickness": 10, "len": 0.8}
    figure.add_heatmap(
        x=pixels, y=pixels, z=energy.round(3), zmin=0, zmax=1.2, colorbar=colorbar, name="energy", row=1, col=2
    )
    figure.update_xaxes(title_text="% of all", row=1, col=1)
    figure.update_yaxes(title_text="singular value", range=[0, 2.5 if method == "plain" else 1.2], row=1, col=1)
    figure.update_xaxes(title_text="column", dtick=max(1, size // 5), row=1, col=2)
    figure.update_yaxes(title_text="row", autorange="reversed", dtick=max(1, size // 5), row=1, col=2)
    figure.update_layout(showlegend=False)
    return describe(
        figure,
        "bcop-conv-spectrum",
        alt=(
            "Left: the singular values of the convolution, from the largest to the smallest. BCOP with circular "
            "padding has a level line at 1; with zero padding it falls towards the end. RKO, OSSN and SVCM start "
            "near 1 and fall. Right: a heat map of the energy that a unit of signal at a pixel keeps; with zero "
            "padding it is lower at the edge."
        ),
        summary=(
            f"{method}, {padding}, {kernel_size} × {kernel_size} on {size} × {size}: singular values from "
            f"{number(float(values[-1]))} to {number(float(values[0]))}, root mean square {number(rms)}."
        ),
        narrow=stack(figure),
    )

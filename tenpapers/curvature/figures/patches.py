"""How does a convolution become a linear layer with many examples? Its patches are the rows of a matrix."""

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from tenpapers.data import load
from tenpapers.page.look import COLORS, describe, stack


def patch_rows(image: torch.Tensor, size: int = 3) -> torch.Tensor:
    """All size x size patches of an image (h, w), flattened, with a last column of ones: (T, size^2 + 1)."""
    rows = torch.nn.functional.unfold(image[None, None], size)[0].T
    return torch.cat([rows, rows.new_ones(len(rows), 1)], 1)


def patches(example: int = 2) -> go.Figure:
    """A digit, the matrix of its patches for a 3 x 3 kernel, and the factor A of this one image.

    Args:
        example: Place of the digit in the training set.
    """
    image = load("digits").train.x[example, 0].double()  # (8, 8)
    rows = patch_rows(image)  # (36, 10)
    A = rows.T @ rows / len(rows)  # (10, 10)
    titles = ["image, 8 × 8", "patches, 36 × 10", "A, 10 × 10"]
    figure = make_subplots(1, 3, subplot_titles=titles, column_widths=[0.36, 0.24, 0.4])
    for column, matrix in enumerate((image, rows, A), 1):
        grey = {"colorscale": "Greys", "showscale": False, "hoverinfo": "z"}
        figure.add_heatmap(z=matrix.numpy(), **grey, row=1, col=column)
    for t, colour in ((8, "SGD"), (27, "Momentum")):  # rows of the patch matrix, six patches a line of the image
        top, left = divmod(t, 6)
        box = {"line": {"color": COLORS[colour], "width": 3}, "type": "rect"}
        figure.add_shape(x0=left - 0.5, x1=left + 2.5, y0=top - 0.5, y1=top + 2.5, **box, row=1, col=1)
        figure.add_shape(x0=-0.5, x1=9.5, y0=t - 0.5, y1=t + 0.5, **box, row=1, col=2)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, showticklabels=False, ticks="")
    for column in (1, 3):
        figure.update_yaxes(scaleanchor=f"x{column}", constrain="domain", showticklabels=False, ticks="", col=column)
    figure.update_xaxes(constrain="domain")
    figure.update_yaxes(title="location t", tickvals=np.arange(0, 36, 5), row=1, col=2)
    figure.update_layout(height=340)
    return describe(
        figure,
        "curvature-patches",
        alt=(
            "Left: an 8 by 8 image of a digit with two 3 by 3 squares marked. Middle: a matrix with 36 rows, one for "
            "each place of the kernel, and ten columns, nine pixels and a column of ones; the two marked squares are "
            "two of its rows. Right: the 10 by 10 second moment of the rows."
        ),
        narrow=stack(figure),
    )

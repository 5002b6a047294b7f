"""What do the scores of a layer look like, weight by weight, before and after rotation?"""

from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nnlib.curvature import Eigenbasis, factors
from nnlib.eigendamage import choose, eigenbases, importance
from nnlib.plain import layer_of
from tenpapers.eigendamage.measure import BATCH
from tenpapers.eigendamage.workloads import WORKLOADS, trained
from tenpapers.page.look import describe, stack
from tenpapers.page.text import number

LAYERS = {"second": "2", "third": "4"}  # of the CNN on digits


def scores(layer: str = "third", ratio: float = 0.5) -> go.Figure:
    """Scores of a convolution's weights by outputs and inputs, in its own coordinates and in the eigenbasis, sorted.

    Args:
        layer: ``second`` or ``third`` convolution of the CNN on digits.
        ratio: share of all rows and columns of all layers that EigenDamage removes.
    """
    own, thetas = _thetas()
    plain, rotated = (_sorted(theta) for theta in (own[LAYERS[layer]], thetas[LAYERS[layer]]))
    pooled = {}
    for name, theta in thetas.items():
        pooled[name, "rows"], pooled[name, "columns"] = theta.sum(1), theta.sum(0)
    kept = choose(pooled, ratio)
    rows, columns = (int(kept[LAYERS[layer], side].sum()) for side in ("rows", "columns"))
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.12, subplot_titles=("filters and channels", "in the eigenbasis")
    )
    top = np.log10(max(plain.max(), rotated.max()))
    for column, theta in enumerate((plain, rotated), start=1):
        z = np.log10(np.maximum(theta, 1e-12))
        figure.add_heatmap(z=np.round(z, 2), zmin=top - 6, zmax=top, showscale=column == 2, row=1, col=column)
    figure.update_traces(colorbar={"title": "log₁₀ score", "outlinewidth": 0, "thickness": 12})
    frame = {"x0": -0.5, "x1": columns - 0.5, "y0": -0.5, "y1": rows - 0.5}
    figure.add_shape(**frame, line={"color": "white", "width": 2}, row=1, col=2)
    figure.update_yaxes(autorange="reversed", title_text="outputs, by score")
    figure.update_xaxes(title_text="inputs, by score")
    figure.update_layout(height=430)
    half = {name: _share_in(theta, 0.25) for name, theta in (("own", plain), ("rotated", rotated))}
    return describe(
        figure,
        "eigendamage-scores",
        alt=(
            "Two heat maps of the logarithm of the scores, outputs by inputs, each sorted by its sums. Left, filters "
            "and channels: scores of a similar size everywhere. Right, in the eigenbasis: the scores fall by several "
            "powers of ten towards the lower right; a frame marks the rows and columns that stay."
        ),
        summary=(
            f"{layer} convolution, ratio {ratio:g}: {rows} of {len(rotated)} rows and {columns} of "
            f"{rotated.shape[1]} columns stay. A quarter of the entries holds "
            f"{number(100 * half['own'])} % of the score before and {number(100 * half['rotated'])} % after it."
        ),
        narrow=stack(figure, 340),
    )


def _sorted(theta) -> np.ndarray:
    """Rows and columns in falling order of their sums."""
    return theta[theta.sum(1).argsort(descending=True)][:, theta.sum(0).argsort(descending=True)].numpy()


def _share_in(theta: np.ndarray, share: float) -> float:
    """The part of the sum that the largest entries hold."""
    flat = np.sort(theta.ravel())[::-1]
    return flat[: round(share * len(flat))].sum() / flat.sum()


@lru_cache
def _thetas():
    """Scores of every layer's weights, in its own coordinates (the diagonal of S (x) A) and in the eigenbasis."""
    model, data = trained("CNN")
    x, names = data.train.x[: WORKLOADS["CNN"].pruned_with], ["0", "2", "4"]
    options = {"fisher": "exact", "batch_size": BATCH}
    bases = eigenbases(model, x, names, **options)
    own, rotated = {}, {}
    for name, block in factors(model, x, layers=names, channels=True, **options).items():
        W = layer_of(model, name).weight.detach()
        A = block.A[: W.shape[1], : W.shape[1]]
        wide, out = (M.new_zeros(M.shape).fill_diagonal_(1) for M in (A, block.S))
        values = block.S.diagonal()[:, None] * block.A.diagonal()[None, : W.shape[1]]
        own[name] = importance(W, Eigenbasis(wide, out, values))
        rotated[name] = importance(W, bases[name])
    return own, rotated

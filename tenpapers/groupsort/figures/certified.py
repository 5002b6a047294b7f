"""Which share of the test points is right, survives an attack, and is certified, as the radius grows?"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nnlib.lipschitz import Certificate
from tenpapers.page.look import describe, style
from tenpapers.page.text import number


def certified_curves(certificates: dict[str, Certificate], attacked: dict[str, pd.DataFrame]) -> go.Figure:
    """Certified accuracy over the radius as a curve, accuracy under attack as points.

    Args:
        certificates: By the name of the activation.
        attacked: Frames of ``nnlib.lipschitz.accuracies``, by the same names.
    """
    radii = np.linspace(0, 1.5, 76)
    figure = go.Figure()
    at_half = {}
    for name, certificate in certificates.items():
        curve = [certificate.accuracy(r) for r in radii]
        at_half[name] = certificate.accuracy(0.5)
        look = style(name)
        figure.add_scatter(x=radii.round(3), y=curve, **look | {"name": f"{name}, certified", "mode": "lines"})
        points = attacked[name]
        figure.add_scatter(
            x=points.epsilon,
            y=points.attacked,
            **look | {"name": f"{name}, attacked", "mode": "markers", "marker": look["marker"] | {"size": 10}},
        )
    figure.update_xaxes(title_text="radius ε (2-norm)")
    figure.update_yaxes(title_text="accuracy", range=[0, 1.02])
    told = ", ".join(f"{name} {number(100 * share)} %" for name, share in at_half.items())
    return describe(
        figure,
        "groupsort-certified",
        alt=(
            "Accuracy over the radius of perturbations. Certified accuracy falls from the clean accuracy on the left "
            f"to zero; points of accuracy under attack lie above the curves. Certified at radius 0.5: {told}."
        ),
    )

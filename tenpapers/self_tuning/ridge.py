"""The ridge regression of the chapter: a data set on which a tuner can be checked exactly.

Chapter: ``book/self_tuning.ipynb``.
"""

import numpy as np
import torch

from nnlib.self_tuning.ridge import Ridge
from nnlib.training import Split
from tenpapers.data import load
from tenpapers.data.uci import permutation


def diabetes() -> Ridge:
    """The diabetes set of scikit-learn, shuffled, standardised: 100 examples for training, 171 for validation.

    The other 171 stay aside. Means and scales of inputs and targets are those of the whole set.
    """
    parts = load("diabetes")
    x, y = (torch.cat([getattr(parts, name)[i] for name in ("train", "validation", "test")]) for i in (0, 1))
    x, y = x.to(torch.float64), y.to(torch.float64).flatten()
    drawn = permutation(len(y), 0)  # the loader's order, undone; then shuffled once and for all
    order = drawn.argsort()[torch.from_numpy(np.random.default_rng(0).permutation(len(y)))]
    x, y = ((t - t.mean(0)) / t.std(0, correction=0) for t in (x[order], y[order]))
    return Ridge(Split(x[:100], y[:100]), Split(x[100:271], y[100:271]))

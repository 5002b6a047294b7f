"""Which layers make training random, at rates that a tuner sets? Dropout, noise; and penalties of activations.

All take a rate for each example where the layer acts on examples, and one for the batch where it acts on weights.
Chapter: ``book/self_tuning.ipynb``.
"""

import torch
from torch import Tensor

from nnlib.arguments import one_of, real, shown, typed, whole
from nnlib.self_tuning.setting import RATE, Regularizer, kept, scale

KINDS = ("element", "channel", "variational")
AXES = {"channel": 4, "variational": 3}  # of what is dropped out; of any shape by element


@typed
class Dropout(Regularizer):
    """Inverted dropout at a rate p in [0, 1]: what is kept is divided by 1 - p; at 1 nothing is kept.

    Args:
        name: Of the hyperparameter that is p.
        kind: ``element``, each entry of (B, ...); ``channel``, whole maps of (B, C, H, W); ``variational``, each
            feature of a sequence (T, B, F) for all times at once.

    Raises:
        ValueError: for another kind.

    Source: arXiv 1903.03088, section 4. Chapter: ``book/self_tuning.ipynb``.
    """

    def __init__(self, name: str, kind: str = "element"):
        one_of(KINDS, kind=kind)
        super().__init__(name, limits=RATE)
        self.name, self.kind = name, kind

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        if x.ndim != AXES.get(self.kind, x.ndim):
            raise ValueError(
                f"x must have {AXES[self.kind]} axes for dropout by {self.kind}: got shape {tuple(x.shape)}"
            )
        rate = self.value(self.name, x, batch_dim=1 if self.kind == "variational" else 0)
        shapes = {"element": x.shape, "channel": (*x.shape[:2], 1, 1), "variational": (1, *x.shape[1:])}
        return scale(x, kept(rate, self.uniform(shapes[self.kind], x)))


@typed
class EmbeddingDropout(Regularizer):
    """Drops whole words of a vocabulary: every occurrence in the batch at once. One rate for the batch.

    Args:
        name: Of the hyperparameter that is the rate.
        vocabulary: Number of words.
    """

    def __init__(self, name: str, vocabulary: int):
        whole(1, vocabulary=vocabulary)
        super().__init__(name, limits=RATE)
        self.name, self.vocabulary = name, vocabulary

    def forward(self, ids: Tensor, embedded: Tensor) -> Tensor:
        """ids (T, B), embedded (T, B, F) -> (T, B, F)."""
        if not self.training:
            return embedded
        if ids.shape != embedded.shape[:-1] or ids.dtype not in (torch.int64, torch.int32):
            got = f"{shown(ids)}, and {shown(embedded)}"
            raise ValueError(f"ids must be whole numbers (T, B), and embedded theirs, (T, B, F): got {got}")
        rate = self.value(self.name, embedded)
        mask = kept(rate if rate.ndim == 0 else rate[0], self.uniform((self.vocabulary,), embedded))
        return scale(embedded, mask[ids, None])


@typed
class InputNoise(Regularizer):
    """Adds Gaussian noise of standard deviation s >= 0.

    Args:
        name: Of the hyperparameter that is s.
    """

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        noise = torch.randn(x.shape, generator=self.setting.generator, device=x.device, dtype=x.dtype)
        return x + self.value(self.name, x, batch_dim=0) * noise


def activation_penalty(h: Tensor) -> Tensor:
    """AR: the mean square of the (dropped-out) outputs h (T, B, H) of the last layer.

    Raises:
        ValueError: for another shape.

    >>> activation_penalty(torch.ones(3, 2, 4))
    tensor(1.)
    """
    real("T B H", finite=False, h=h)
    return h.square().mean()


def slowness_penalty(h: Tensor) -> Tensor:
    """TAR: the mean square of the change of h (T, B, H) from one time to the next; T is at least 2.

    Raises:
        ValueError: for another shape.

    >>> slowness_penalty(torch.arange(3.0)[:, None, None].expand(3, 2, 4))
    tensor(1.)
    """
    if real("T B H", finite=False, h=h)["T"] < 2:
        raise ValueError(f"h must have two times or more, (T, B, H): got {tuple(h.shape)}")
    return (h[1:] - h[:-1]).square().mean()

"""Which losses ask for a margin? Only a margin can be certified, and cross-entropy alone does not care for its size.

Paper: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy, multi_margin_loss, one_hot

from nnlib.arguments import typed, within

Loss = Callable[[Tensor, Tensor], Tensor]


@typed
def hinge_loss(margin: float) -> Loss:
    """The multi-class hinge loss, for :func:`nnlib.training.fit`.

        mean over the batch of 1/classes sum_{j != y} max(0, margin - z_y + z_j)

    It is zero once every logit stands ``margin`` behind the true one: in a K-Lipschitz network (2-norm) that is a
    certified radius of margin / (sqrt(2) K), so that a radius epsilon asks for margin sqrt(2) K epsilon.

    Args:
        margin: In units of the logits, > 0.

    Raises:
        ValueError: another margin.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> import torch
    >>> hinge_loss(1.0)(torch.tensor([[0.5, 0.0, -2.0]]), torch.tensor([0])).item()  # (1 - 0.5) / 3
    0.1666666716337204
    """
    within("(0, inf)", margin=margin)
    return lambda logits, y: multi_margin_loss(logits, y, margin=float(margin))


@typed
def margin_cross_entropy(margin: float) -> Loss:
    """Cross-entropy after the true logit has been lowered by ``margin``, for :func:`nnlib.training.fit`.

    Args:
        margin: In units of the logits, > 0.

    Raises:
        ValueError: another margin.

    Source: arXiv 1811.05381, section 5. Chapter: book/groupsort.ipynb

    >>> import torch
    >>> margin_cross_entropy(2.0)(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).item()  # log 2
    0.6931471824645996
    """
    within("(0, inf)", margin=margin)
    return lambda logits, y: cross_entropy(logits - margin * one_hot(y, logits.shape[1]), y)

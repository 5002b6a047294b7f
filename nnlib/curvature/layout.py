"""Which rows of a layer's input belong to the same example?

Where a layer's first axis counts the examples, each index along it is one. In time-first networks, sequences flattened
into one axis and the like it does not, and two axes may be equally long. Then the graph is asked: a backward pass with
the output vectors of example b multiplied by a_b gives back every gradient multiplied by the a_b of the example that
it belongs to. Chapter: ``book/curvature.ipynb``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 0.05  # wrong layouts are off by about 1, bfloat16 by about .01


@dataclass(frozen=True)
class Layout:
    """How to bring rows together: see the leading axes as ``shape``; along ``axis`` of it the examples are counted.

    Axes between these and the last one, such as the locations of a convolution, stay with their row.
    """

    shape: tuple[int, ...]
    axis: int

    def arrange(self, rows: Tensor) -> Tensor:
        """(leading axes, ..., d) -> (B, T, d)."""
        examples, d = self.shape[self.axis], rows.shape[-1]
        if self.axis > 0:
            rows = rows.reshape(*self.shape, -1, d).movedim(self.axis, 0)
        return rows.reshape(examples, -1, d)


def layouts(lead: Sequence[int], examples: int) -> list[Layout]:
    """All ways in which an input with these leading axes can belong to so many examples.

    Args:
        lead: For a linear layer all axes but the last, for a convolution the first alone.
        examples: B.

    >>> layouts((20, 8), 8)
    [Layout(shape=(20, 8), axis=1)]
    """
    lead = tuple(lead)
    if not lead or 0 in lead:
        return []
    if examples == 1:
        return [Layout((1, *lead), 0)]
    found = [Layout(lead, axis) for axis in range(len(lead)) if lead[axis] == examples]
    share = lead[0] // examples
    if share > 1 and lead[0] % examples == 0:
        found += [Layout((examples, share, *lead[1:]), 0), Layout((share, examples, *lead[1:]), 1)]
    if len(lead) > 1 and math.prod(lead) == examples:
        found.append(Layout((examples,), 0))
    return found


def weights(examples: int, like: Tensor) -> Tensor:
    """The a_b, of alternating sign and between 1/2 and 1, so that no two layouts give the same: (B,)."""
    a = torch.linspace(0.5, 1, examples, dtype=like.dtype, device=like.device)
    return a * (1 - 2 * (torch.arange(examples, device=like.device) % 2))


def choose(found: list[Layout], ds: Tensor, weighted: Tensor) -> Layout | None:
    """The first layout with which the gradients agree.

    Args:
        found: What :func:`layouts` gave.
        ds: Gradients at the layer's output, (leading axes, ..., out), not zero.
        weighted: The same with the output vectors multiplied by :func:`weights`.
    """
    for layout in found:
        rows = layout.arrange(ds)
        difference = layout.arrange(weighted) - weights(len(rows), rows)[:, None, None] * rows
        if difference.norm() <= TOLERANCE * ds.norm():
            return layout
    return None

"""How long should a step be? As long as the quadratic model with the exact Fisher matrix says, along any directions.

Paper: arXiv 1503.05671, section 6.4 (one direction) and section 7 (with the last step as a second one: momentum).
Chapter: ``book/curvature.ipynb``.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from nnlib.arguments import passing, real, typed, within
from nnlib.curvature.dense import one_by_one
from nnlib.curvature.outputs import output_vectors, predictions
from nnlib.curvature.passes import measuring, ordinary


@typed
def step_sizes(
    model: nn.Module,
    x: Tensor,
    gradient: Tensor,
    directions: Tensor,
    *,
    damping: float = 0.0,
    likelihood: str = "categorical",
) -> Tensor:
    """The multiples c of some directions d_i with which v = sum_i c_i d_i minimises g'v + v'(F + damping I)v / 2.

    F is the exact Fisher matrix on x. Each direction costs one forward pass with its derivative, F itself is never
    made. With one direction d, c = -g'd / (d'Fd + damping d'd). Where directions depend on each other, the multiples of
    smallest length are taken.

    Args:
        model: Maps (B, ...) to (B, C) and treats examples one by one: BatchNorm must be in evaluation mode.
        x: Shape (B, ...).
        gradient: g, of the loss by all parameters, in the order of ``model.parameters()``: (P,).
        directions: d_i, (k, P).
        damping: At least 0.
        likelihood: As in :func:`nnlib.curvature.factors`.

    Returns:
        c, shape (k,).

    Raises:
        ValueError: for BatchNorm or dropout in training mode, named, or a shape or number that does not fit.

    Source: arXiv 1503.05671, sections 6.4 and 7. Chapter: ``book/curvature.ipynb``.

    >>> line = nn.Linear(1, 1, bias=False)
    >>> x, step = torch.tensor([[2.0]]), torch.tensor([[-5.0]])
    >>> step_sizes(line, x, torch.tensor([8.0]), step, likelihood="gaussian")
    tensor([0.4000])
    """
    within("[0, inf)", damping=damping)
    real("batch ...", x=x)
    one_by_one(model)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    P = sum(shape.numel() for shape in shapes.values())
    real("P", {"P": P}, gradient=gradient)
    real("k P", {"P": P}, directions=directions)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def outputs(at: dict[str, Tensor]) -> Tensor:
        return predictions(functional_call(model, at, (x,)), None)

    moved = []
    with measuring(model):
        x = ordinary(x)
        for direction in directions:
            pieces = direction.split([shape.numel() for shape in shapes.values()])
            tangent = {n: piece.view(shapes[n]).to(parameters[n]) for n, piece in zip(shapes, pieces, strict=True)}
            with passing(x=x):
                f, change, *_ = jvp(outputs, (parameters,), (tangent,))  # (B, C), J d
            moved.append(change)
    vectors = output_vectors(f, "exact", likelihood, None, None)  # (K, B, C), sum_k v_k v_k' = H_f
    along = torch.einsum("kbc,dbc->dkb", vectors, torch.stack(moved).to(vectors)).flatten(1).to(directions)  # (k, K B)
    M = along @ along.T / len(x) + damping * directions @ directions.T  # D (F + damping I) D'
    return -torch.linalg.pinv(M, hermitian=True) @ (directions @ gradient.to(directions))

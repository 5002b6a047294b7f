"""The whole curvature matrix of a small network, for tests and pictures: P x P for P parameters.

Parameters are ordered as in ``model.named_parameters()``, each flattened; :func:`layer_index` finds a layer's block.
Chapter: ``book/curvature.ipynb``.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import parameters_to_vector

from nnlib.arguments import examples, function, passing, real, shown, typed
from nnlib.curvature.layers import Layer, chosen
from nnlib.curvature.outputs import finite, fit_targets, output_vectors, predictions, wide
from nnlib.curvature.passes import measuring, ordinary


@typed
def joint_weight(layer: Layer) -> Tensor:
    """A copy of the weights as a matrix (out, in), or (out, in + 1) with the bias as last column.

    A convolution's ``in`` is channels * height * width of its kernel.

    >>> joint_weight(nn.Conv2d(3, 5, 2)).shape
    torch.Size([5, 13])
    """
    weight = layer.weight.detach().flatten(1).clone()
    return weight if layer.bias is None else torch.cat([weight, layer.bias.detach()[:, None]], 1)


@typed
def layer_index(model: nn.Module, name: str) -> Tensor:
    """Places of a layer's vec(:func:`joint_weight`), row-major, in the vector of all parameters.

    Returns:
        Shape (out * in,) or (out * (in + 1),), dtype int64.

    Raises:
        ValueError: for a layer that the model does not have, or without a Kronecker block.

    >>> layer_index(nn.Sequential(nn.Linear(2, 2)), "0")
    tensor([0, 1, 4, 2, 3, 5])
    """
    layer = chosen(dict(model.named_modules()), [name])[name]
    places, start = {}, 0
    for parameter in model.parameters():
        places[parameter] = torch.arange(start, start + parameter.numel(), device=parameter.device)
        start += parameter.numel()
    index = places[layer.weight].view(len(layer.weight), -1)
    return (index if layer.bias is None else torch.cat([index, places[layer.bias][:, None]], 1)).flatten()


@typed
def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """J, the derivatives of each example's outputs by all parameters, of a model that treats examples one by one.

    Args:
        model: Maps (B, ...) to (B, C); BatchNorm and dropout must be in evaluation mode. Frozen parameters count.
        x: Shape (B, ...).

    Returns:
        Shape (B, C, P).

    Raises:
        ValueError: for other outputs, or a model whose examples see each other or stand along another axis.

    >>> jacobian(nn.Linear(2, 1), torch.tensor([[3.0, 4.0]]))
    tensor([[[3., 4., 1.]]])
    """
    together = alone_outputs(model, x)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def output(parameters: dict[str, Tensor], example: Tensor) -> tuple[Tensor, Tensor]:
        f = predictions(functional_call(model, parameters, (example[None],)), None)[0]  # (C,)
        return f, f

    with measuring(model):
        x = ordinary(x)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")  # attention goes one by one
                found, alone = vmap(jacrev(output, has_aux=True), (None, 0))(parameters, x)
        except RuntimeError:  # what vmap can't follow, such as recurrent layers
            leaves = {name: parameter.requires_grad_() for name, parameter in parameters.items()}
            found, alone = one_after_another(lambda example: output(leaves, example)[0], leaves, x)
    # The examples' own outputs must be those of the batch: otherwise x has another batch axis, or they see each other.
    if not _same(together, alone):
        raise ValueError(
            "the model does not treat the examples of x one by one along the first axis: outputs of shape "
            f"{tuple(together.shape)} for x of shape {tuple(x.shape)} are not those of each example alone"
        )
    return torch.cat([part.flatten(2) for part in found.values()], 2)


@torch.enable_grad()
def one_after_another(
    output: Callable[[Tensor], Tensor], leaves: dict[str, Tensor], x: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Derivatives (B, C, *shape) by all leaves, and outputs (B, C): example by example and output by output."""
    rows, outputs = [], []
    for example in x:
        f = output(example)  # (C,)
        parts = [torch.autograd.grad(c, list(leaves.values()), retain_graph=True, allow_unused=True) for c in f]
        zeros = [torch.zeros_like(leaf) for leaf in leaves.values()]
        rows.append([[z if g is None else g for g, z in zip(part, zeros, strict=True)] for part in parts])
        outputs.append(f.detach())
    found = {name: torch.stack([torch.stack([c[i] for c in row]) for row in rows]) for i, name in enumerate(leaves)}
    return found, torch.stack(outputs)


def _same(f: Tensor, other: Tensor) -> bool:
    """Whether outputs are equal but for rounding, measured by the largest of them."""
    if f.shape != other.shape:
        return False
    share = 1e-3 if torch.finfo(f.dtype).eps < 1e-4 else 0.1
    difference, size = (wide(t).abs().max() for t in (f - other, f))
    return not difference > share * size  # outputs that are not finite are another matter


def alone_outputs(model: nn.Module, x: Tensor) -> Tensor:
    """Outputs (B, C) of a model that treats examples one by one, on finite inputs that it takes; others are refused."""
    examples(x)
    if x.is_floating_point():
        real("B ...", x=x)
    one_by_one(model)
    with torch.no_grad(), measuring(model), passing(x=x):
        returned = model(ordinary(x))
    return predictions(returned, None)


def one_by_one(model: nn.Module) -> None:
    """Refuse BatchNorm and dropout in training mode, by name: with them an example's outputs are not its own."""
    for name, module in model.named_modules():
        random = isinstance(module, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm)
        if random and module.training:
            raise ValueError(
                f"the model must treat examples one by one: {name!r}, a {type(module).__name__}, must be in "
                "evaluation mode"
            )


@typed
def dense_fisher(model: nn.Module, x: Tensor, likelihood: str = "categorical", y: Tensor | None = None) -> Tensor:
    """F = mean over examples of E[g g'], g the gradient of -log p(y | x), y drawn from the model: (P, P).

    Args:
        model: As in :func:`jacobian`.
        x: Shape (B, ...).
        likelihood: ``categorical``, ``bernoulli`` or ``gaussian``, as in :func:`nnlib.curvature.factors`.
        y: With true targets, the empirical Fisher matrix instead.

    Raises:
        ValueError: as for :func:`jacobian`; for another likelihood, or other targets.

    Source: arXiv 1503.05671, section 2. Chapter: ``book/curvature.ipynb``.
    """
    J = jacobian(model, x)  # (B, C, P)
    if y is not None:
        fit_targets(x, y)
    with torch.no_grad():
        v = output_vectors(model(x), "exact" if y is None else "empirical", likelihood, y, None)  # (K, B, C)
    g = torch.einsum("kbc,bcp->kbp", v, J).flatten(0, 1)
    return g.T @ g / len(x)


@typed
def dense_gauss_newton(model: nn.Module, x: Tensor) -> Tensor:
    """G = mean over examples of J' J, without the curvature of the loss at the outputs: (P, P).

    Raises:
        ValueError: as for :func:`jacobian`.

    Source: arXiv 1810.12281, section 2. Chapter: ``book/weight_decay.ipynb``.
    """
    J = jacobian(model, x).flatten(0, 1)  # (B C, P)
    return J.T @ J / len(x)


@typed
def dense_hessian(model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The Hessian of ``loss(model(x), y)``, a scalar, with respect to all parameters: (P, P).

    Raises:
        ValueError: for x and y that model and loss do not take, or whose Hessian is not finite; another loss.

    >>> x, y = torch.eye(2), torch.zeros(2, 1)
    >>> dense_hessian(nn.Linear(2, 1, bias=False), x, y, lambda f, y: 0.5 * (f - y).square().sum())
    tensor([[1., 0.],
            [0., 1.]])
    """
    examples(x)
    function(loss=loss)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]

    def value(vector: Tensor) -> Tensor:
        parts = (part.view(shape) for part, shape in zip(vector.split(sizes), shapes.values(), strict=True))
        found = loss(functional_call(model, dict(zip(shapes, parts, strict=True)), (x,)), y)
        if not isinstance(found, Tensor) or found.ndim:
            raise ValueError(f"loss must return a scalar for them: got {shown(found)}")
        return found

    with measuring(model), passing(x=x, y=y):
        x, y = ordinary(x), ordinary(y)
        H = jacrev(jacrev(value))(ordinary(parameters_to_vector(model.parameters()).detach()))
    assert isinstance(H, Tensor)
    if not finite(H):
        raise ValueError("x and y must be such that the Hessian is finite: it has numbers that are not")
    return H

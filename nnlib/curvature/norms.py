"""How large is a network, measured through its function? Norms that weight decay controls under K-FAC.

Paper: arXiv 1810.12281, section 4.2. Chapter: ``book/weight_decay.ipynb``.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.autograd.functional import jvp
from torch.func import functional_call, jacrev, vmap

from nnlib.arguments import typed
from nnlib.curvature.dense import alone_outputs, joint_weight, one_after_another
from nnlib.curvature.factors import factors
from nnlib.curvature.layers import blocks
from nnlib.curvature.outputs import predictions
from nnlib.curvature.passes import measuring, ordinary


@typed
def jacobian_norm(model: nn.Module, x: Tensor) -> Tensor:
    """``mean_b |df(x_b)/dx_b|_F^2``, the squared Frobenius norm of the input-output Jacobian, a scalar.

    Args:
        model: Maps (B, ...) to (B, C) and treats examples one by one: BatchNorm must be in evaluation mode.
        x: Shape (B, ...).

    Raises:
        ValueError: for BatchNorm or dropout in training mode, named, for inputs that are no floating-point numbers
            (tokens, say), or other outputs.

    Source: arXiv 1810.12281, section 4.2.

    >>> jacobian_norm(nn.Linear(2, 1), torch.zeros(3, 2)).item() >= 0
    True
    """
    alone_outputs(model, x)
    if not x.is_floating_point():
        raise ValueError(f"x must be floating-point numbers, by which outputs can be differentiated: got {x.dtype}")
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def output(example: Tensor) -> Tensor:
        return predictions(functional_call(model, parameters, (example[None],)), None)[0]  # (C,)

    with measuring(model):
        x = ordinary(x)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")  # attention goes one by one
                return vmap(jacrev(output))(x).flatten(1).square().sum(1).mean()
        except RuntimeError:  # what vmap can't follow, such as recurrent layers
            found = [one_after_another(lambda _, e=e: output(e), {"x": e}, e[None])[0]["x"] for e in _leaves(x)]
            return torch.stack(found).flatten(1).square().sum(1).mean()


def _leaves(x: Tensor) -> list[Tensor]:
    return [example.detach().requires_grad_() for example in x]


@typed
def gauss_newton_norm(model: nn.Module, x: Tensor) -> Tensor:
    """``theta' G theta = mean_b |J_theta theta|^2``, a scalar: one product with the Jacobian, no matrix.

    Args:
        model: As in :func:`jacobian_norm`.
        x: Shape (B, ...).

    Raises:
        ValueError: as for :func:`jacobian_norm`.

    Source: arXiv 1810.12281, Lemma 2.
    """
    alone_outputs(model, x)
    names, theta = zip(*((name, parameter.detach()) for name, parameter in model.named_parameters()), strict=True)

    def output(*values: Tensor) -> Tensor:
        return predictions(functional_call(model, dict(zip(names, values, strict=True)), (x,)), None)

    with measuring(model):
        x = ordinary(x)
        _, product = jvp(output, theta, theta)
    assert isinstance(product, Tensor)
    return product.square().sum() / len(x)


@typed
def kfac_norm(model: nn.Module, x: Tensor) -> Tensor:
    """sum over layers of vec(W)' (S (x) A) vec(W), with the factors of the Gauss-Newton matrix: a scalar.

    Args:
        model: Maps (B, ...) to (B, C).
        x: Shape (B, ...).

    Raises:
        ValueError: as for :func:`nnlib.curvature.factors`.

    Source: arXiv 1810.12281, Theorem 1.
    """
    found = factors(model, x, fisher="gauss_newton_exact")
    layers = blocks(model)
    return torch.stack([block.quadratic(joint_weight(layers[name])) for name, block in found.items()]).sum()

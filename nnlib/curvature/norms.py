"""How large is a network, measured through its function? Norms that weight decay controls under K-FAC.

Paper: arXiv 1810.12281, section 4.2. Chapter: ``book/weight_decay.ipynb``.
"""

import torch
from torch import Tensor, nn
from torch.autograd.functional import jvp
from torch.func import functional_call, jacrev, vmap

from nnlib.curvature.capture import blocks
from nnlib.curvature.dense import joint_weight
from nnlib.curvature.factors import factors


def jacobian_norm(model: nn.Module, x: Tensor) -> Tensor:
    """``mean_b |df(x_b)/dx_b|_F^2``, the squared Frobenius norm of the input-output Jacobian, a scalar.

    Args:
        model: Maps (B, ...) to (B, C) and treats examples one by one: BatchNorm must be in evaluation mode.
        x: Shape (B, ...).

    Source: arXiv 1810.12281, section 4.2.

    >>> jacobian_norm(nn.Linear(2, 1), torch.zeros(3, 2)).item() >= 0
    True
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def output(example: Tensor) -> Tensor:
        return functional_call(model, parameters, (example[None],))[0]  # (C,)

    return vmap(jacrev(output))(x).flatten(1).square().sum(1).mean()


def gauss_newton_norm(model: nn.Module, x: Tensor) -> Tensor:
    """``theta' G theta = mean_b |J_theta theta|^2``, a scalar: one product with the Jacobian, no matrix.

    Args:
        model: As in :func:`jacobian_norm`.
        x: Shape (B, ...).

    Source: arXiv 1810.12281, Lemma 2.
    """
    names, theta = zip(*((name, parameter.detach()) for name, parameter in model.named_parameters()), strict=True)
    _, product = jvp(lambda *values: functional_call(model, dict(zip(names, values, strict=True)), (x,)), theta, theta)
    assert isinstance(product, Tensor)
    return product.square().sum() / len(x)


def kfac_norm(model: nn.Module, x: Tensor) -> Tensor:
    """sum over layers of vec(W)' (S (x) A) vec(W), with the factors of the Gauss-Newton matrix: a scalar.

    Args:
        model: Maps (B, ...) to (B, C).
        x: Shape (B, ...).

    Source: arXiv 1810.12281, Theorem 1.
    """
    found = factors(model, x, fisher="gauss_newton_exact")
    layers = blocks(model)
    return torch.stack([block.quadratic(joint_weight(layers[name])) for name, block in found.items()]).sum()

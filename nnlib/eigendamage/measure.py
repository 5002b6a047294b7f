"""What a method must know of a network before it prunes: scores of filters, or the eigenbasis of each layer.

Paper: arXiv 1905.05934. Chapter: ``book/eigendamage.ipynb``.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nnlib.arguments import examples, one_of, typed, within
from nnlib.curvature import Eigenbasis, Kronecker, factors, joint_weight, rescale
from nnlib.eigendamage import scores as rules
from nnlib.eigendamage.trace import norms, trace
from nnlib.modes import evaluating
from nnlib.plain import layer_of

METHODS = ("Magnitude", "NN Slimming", "C-OBD", "C-OBS", "Kron-OBD", "Kron-OBS", "EigenDamage")
DAMPING = 1e-3  # of C-OBS and Kron-OBS, relative to the mean eigenvalue of S (x) A


@typed
def filter_scores(
    model: nn.Module, x: Tensor, method: str, names: Iterable[str], *, damping: float = DAMPING, **statistics: Any
) -> dict[str, tuple[Tensor, Callable[[Tensor], Tensor] | None]]:
    """For each layer, the scores of its filters, (out,), and the change of its joint weight when some of them go.

    The change is a function of which are pruned, booleans (out,), and None for methods that leave the others alone.
    Under NN Slimming, layers without a normalisation that has a scale have no scores.

    Args:
        model: In any mode; measured in evaluation mode.
        x: Inputs, (B, ...).
        method: One of ``METHODS`` but EigenDamage.
        names: Layers.
        damping: Relative, for C-OBS and Kron-OBS.
        statistics: ``fisher``, ``likelihood``, ``y``, ``seed``, ``batch_size`` of :func:`nnlib.curvature.factors`.

    Raises:
        TypeError: for an argument of another class.
        ValueError: for another method, no layer, weights that are not finite, or what ``factors`` refuses.

    Chapter: ``book/eigendamage.ipynb``.
    """
    one_of(METHODS[:-1], method=method)
    within("[0, inf)", damping=damping)
    examples(x)
    names = list(names)
    if not names:
        raise ValueError("names must hold at least one layer: got none")
    W = {name: _wide(joint_weight(layer_of(model, name)).detach()) for name in names}
    for name, weight in W.items():
        if not weight.isfinite().all():
            raise ValueError(f"the weights of layer {name!r} are not all finite")
    if method == "Magnitude":
        return {name: (rules.magnitude(weight), None) for name, weight in W.items()}
    if method == "NN Slimming":
        return {name: (scale, None) for name, scale in _scales(model, x, W).items()}
    if method == "C-OBD":
        with evaluating(model):
            diagonal = _fisher_diagonal(model, x, W, statistics)
        return {name: (rules.c_obd(weight, diagonal[name]), None) for name, weight in W.items()}
    with evaluating(model):
        found = factors(model, x, layers=list(W), **statistics)
    if method == "Kron-OBD":
        return {name: (rules.kron_obd(weight, found[name]), None) for name, weight in W.items()}
    score, update = {
        "C-OBS": (rules.c_obs, rules.c_obs_update),
        "Kron-OBS": (rules.kron_obs, rules.kron_obs_update),
    }[method]
    result = {}
    for name, weight in W.items():
        block = found[name].damped(damping * _mean_eigenvalue(found[name]))
        change = lambda pruned, weight=weight, block=block: update(weight, block, pruned)  # noqa: E731
        result[name] = score(weight, block), change
    return result


def _wide(W: Tensor) -> Tensor:
    """Half precision in single, as the factors are."""
    return W.float() if W.dtype in (torch.float16, torch.bfloat16) else W


def _mean_eigenvalue(block: Kronecker) -> float:
    """Of S (x) A: the product of the factors' means."""
    return (block.S.diagonal().mean() * block.A.diagonal().mean()).item()


def _fisher_diagonal(model, x, W, statistics) -> dict[str, Tensor]:
    """The exact diagonal of each layer's Fisher block: EKFAC's eigenvalues where the basis is the weights' own."""
    own = {}
    for name, weight in W.items():
        out, wide = (torch.eye(n, dtype=weight.dtype, device=weight.device) for n in weight.shape)
        own[name] = Eigenbasis(wide, out, torch.zeros_like(weight))
    return {name: basis.values for name, basis in rescale(model, x, own, **statistics).items()}


def _scales(model, x, W) -> dict[str, Tensor]:
    """|gamma| of the normalisation right behind each layer that has one."""
    behind = norms(trace(model, x))
    found = {name: model.get_submodule(behind[name]) for name in W if name in behind}
    scales = {name: norm.weight.detach().abs() for name, norm in found.items() if norm.weight is not None}
    if not scales:
        raise ValueError("NN Slimming needs a batch normalisation with scale (affine=True) right behind some layer")
    return scales


@typed
def eigenbases(
    model: nn.Module, x: Tensor, names: Iterable[str], *, ekfac: bool = False, **statistics: Any
) -> dict[str, Eigenbasis]:
    """The Kronecker-factored eigenbasis of each layer's weights without bias, over channels for convolutions.

    Args:
        model: In any mode; measured in evaluation mode.
        x: Inputs, (B, ...).
        names: Layers.
        ekfac: Measure the eigenvalues in the basis, for each kernel offset: values (out, in, k k) instead of (out, in).
        statistics: ``fisher``, ``likelihood``, ``y``, ``seed``, ``batch_size`` of :func:`nnlib.curvature.factors`.

    Raises:
        TypeError: for an argument of another class.
        ValueError: for no layer, or what ``factors`` refuses.

    Source: arXiv 1905.05934, section 4; 1806.03884 for ``ekfac``. Chapter: ``book/eigendamage.ipynb``.
    """
    names = list(names)
    if not names:
        raise ValueError("names must hold at least one layer: got none")
    with evaluating(model):
        found = factors(model, x, layers=names, channels=True, **statistics)
    bases = {}
    for name, block in found.items():
        n = layer_of(model, name).weight.shape[1]
        bases[name] = _eigen(Kronecker(block.A[:n, :n], block.S))  # the bias is not rotated: it stays at the output
    if not ekfac:
        return bases
    wide = {}  # the same bases for full patches, (in k k) of them and the bias
    for name, basis in bases.items():
        layer = layer_of(model, name)
        taps = layer.weight[0, 0].numel()
        Q_A = torch.kron(basis.Q_A.contiguous(), torch.eye(taps, dtype=basis.Q_A.dtype, device=basis.Q_A.device))
        if layer.bias is not None:
            Q_A = torch.block_diag(Q_A, Q_A.new_ones(1, 1))
        wide[name] = Eigenbasis(Q_A, basis.Q_S, Q_A.new_zeros(len(basis.Q_S), len(Q_A)))
    with evaluating(model):
        measured = rescale(model, x, wide, **statistics)
    for name, basis in bases.items():
        out, n = basis.values.shape
        taps = layer_of(model, name).weight[0, 0].numel()
        bases[name] = Eigenbasis(basis.Q_A, basis.Q_S, measured[name].values[:, : n * taps].reshape(out, n, taps))
    return bases


def _eigen(block: Kronecker) -> Eigenbasis:
    """The eigenbasis, found in double precision: in single, LAPACK fails on factors of low rank from few images."""
    if not (block.A.isfinite().all() and block.S.isfinite().all()):
        raise ValueError("the curvature is not finite: are the model's weights and the inputs?")
    (values_A, Q_A), (values_S, Q_S) = (torch.linalg.eigh(M.double()) for M in (block.A, block.S))
    values = torch.outer(values_S.clamp(min=0), values_A.clamp(min=0))  # below zero is rounding
    return Eigenbasis(*(part.to(block.A.dtype) for part in (Q_A, Q_S, values)))

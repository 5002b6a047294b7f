"""Prune a network by any method of the paper: scores, choice over all layers, surgery, report.

Paper: arXiv 1905.05934. Chapter: ``book/eigendamage.ipynb``.
"""

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nnlib.arguments import examples, one_of, passing, seeded, typed, whole, within
from nnlib.curvature import blocks
from nnlib.eigendamage.bottleneck import Bottleneck, bottleneck, replace, smaller
from nnlib.eigendamage.choose import choose
from nnlib.eigendamage.measure import DAMPING, METHODS, eigenbases, filter_scores
from nnlib.eigendamage.scores import importance
from nnlib.eigendamage.surgery import remove_filters
from nnlib.eigendamage.trace import copied
from nnlib.eigendamage.verify import outputs, verify
from nnlib.modes import evaluating
from nnlib.plain import layer_of, tied


class Pruned(NamedTuple):
    """A pruned network and what happened to each layer.

    Args:
        model: An ordinary module, in the mode of the original.
        layers: A dict for each layer: ``layer``; ``outputs`` and ``outputs_kept``, its filters or its rows in the
            eigenbasis; ``inputs`` and ``inputs_kept``, its columns there, only where the method prunes them
            (EigenDamage); ``whole``, true where the layer was left as it is (by EigenDamage also where the bottleneck
            would be larger); ``parameters`` and ``parameters_kept``.
    """

    model: nn.Module
    layers: list[dict[str, Any]]


@typed
def prune(
    model: nn.Module,
    x: Tensor,
    method: str = "EigenDamage",
    ratio: float = 0.5,
    *,
    cap: float = 0.95,
    layers: Iterable[str] | None = None,
    fisher: str = "sampled",
    likelihood: str = "categorical",
    y: Tensor | None = None,
    damping: float = DAMPING,
    ekfac: bool = False,
    normalise: bool = False,
    seed: int = 0,
    batch_size: int | None = None,
) -> Pruned:
    """Remove filters, or rows and columns in the eigenbasis, from all layers of a trained network.

    Args:
        model: Left as it is. Its last layer is never pruned. Layers must be exactly ``nn.Linear`` or ``nn.Conv2d``, for
            of a subclass, a parametrised layer or one with hooks nobody knows what its weights do.
        x: Inputs on which curvature is measured, (B, ...), in evaluation mode: the training set, or much of it.
        method: One of ``METHODS``. ``Magnitude`` and ``NN Slimming`` (the scale of the normalisation behind a filter)
            use no curvature; ``C-OBD``, ``C-OBS``, ``Kron-OBD`` and ``Kron-OBS`` remove filters; ``EigenDamage``
            removes rows and columns of the rotated weights and leaves bottlenecks.
        ratio: Share of all filters, or of all rows and columns, to remove, in [0, 1). This is not the share of
            parameters: see :func:`nnlib.eigendamage.cost`.
        cap: Largest share of a layer's filters, or of its rows or columns, that may go, in [0, 1).
        layers: Which to prune; by default all with a Kronecker block but the last. For EigenDamage a
            :class:`Bottleneck` is one layer, by its own name.
        fisher: As in :func:`nnlib.curvature.factors`; the paper samples one label an example.
        likelihood: As there.
        y: True labels, for ``empirical`` alone.
        damping: For C-OBS and Kron-OBS: added to S and A each, sqrt(damping) times the mean eigenvalue.
        ekfac: EigenDamage with eigenvalues measured in the basis, offset by offset, in place of products.
        normalise: Divide each layer's scores by their sum before they are ranked together.
        seed: Of the sampled labels.
        batch_size: Examples in one pass; by default all.

    Returns:
        A :class:`Pruned` network of the same class, which runs the model's own code in both modes. It keeps all batch
        statistics of the original: see :func:`nnlib.eigendamage.reestimate_batch_norm`. What does not require a
        gradient in the model does not there; scores do not depend on it.

    Raises:
        TypeError: for an argument of another class.
        ValueError: for an unknown method; a layer that is unknown, never called, or can't be pruned; a ratio or cap out
            of range; an operation through which channels can't be followed; NN Slimming without normalisations that
            have a scale. The layer or operation is named.

    Source: arXiv 1905.05934, algorithm 1. Chapter: ``book/eigendamage.ipynb``.

    >>> from nnlib.models import VGG
    >>> model, x = VGG(11, 1, width=1 / 16, affine=True), torch.ones(8, 1, 16, 16)
    >>> pruned = prune(model, x, "Magnitude", 0.5)
    >>> sum(row["outputs_kept"] for row in pruned.layers), sum(row["outputs"] for row in pruned.layers)
    (86, 172)
    """
    one_of(METHODS, method=method)
    within("[0, 1)", ratio=ratio, cap=cap)
    within("[0, inf)", damping=damping)
    seeded(seed)
    if ekfac and method != "EigenDamage":
        raise ValueError(f"ekfac is about EigenDamage's eigenvalues: got it with {method!r}")
    examples(x)
    if batch_size is not None:
        whole(1, batch_size=batch_size)
    if method not in ("Magnitude", "NN Slimming") and torch.is_inference_mode_enabled():
        raise ValueError(f"{method} needs gradients: call prune outside of torch.inference_mode")
    names = prunable(model, x) if layers is None else list(layers)
    order = _called(model, x)
    for name in names:
        layer_of(model, _core(model, name))  # is there, and exactly what it seems
        if name not in order:
            raise ValueError(f"the model does not call {name!r}: its layers are {', '.join(order)}")
    if not names:
        raise ValueError(
            "layers must hold one to prune, and there is none: before the last, no nn.Linear or nn.Conv2d without "
            "groups is called"
        )
    statistics = {"fisher": fisher, "likelihood": likelihood, "y": y, "seed": seed, "batch_size": batch_size}
    select = {"ratio": ratio, "cap": cap, "normalise": normalise}
    if method == "EigenDamage":
        return _eigendamage(model, x, names, ekfac, statistics, select)
    return _filters(model, x, method, names, damping, statistics, select)


@typed
def prunable(model: nn.Module, x: Tensor) -> list[str]:
    """Names of the layers with a Kronecker block in the order in which they run, without the last, the classifier.

    A :class:`Bottleneck` counts as one.

    Raises:
        ValueError: one of them isn't exactly what its class says, or the model does not take x.

    Chapter: ``book/eigendamage.ipynb``.

    >>> prunable(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 3))
    ['0']
    """
    called, whole = _called(model, x), blocks(model)
    made = {name for name in called if isinstance(model.get_submodule(name), Bottleneck)}
    for name in called[:-1]:
        if name not in made:
            layer_of(model, name)  # what isn't what its class says has no block, and is refused by name
    return [name for name in called if name in whole or name in made][:-1]


def _called(model: nn.Module, x: Tensor) -> list[str]:
    """Names of all convolutions, linear layers and bottlenecks in the order in which they run."""
    examples(x)
    inside = {id(part) for layer in model.modules() if isinstance(layer, Bottleneck) for part in layer}
    kinds = nn.Linear | nn.Conv2d | Bottleneck
    layers = {n: layer for n, layer in model.named_modules() if isinstance(layer, kinds) and id(layer) not in inside}
    order: list[str] = []
    handles = [layer.register_forward_hook(lambda *_, name=name: order.append(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad(), evaluating(model), passing(x=x):
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


def _filters(model, x, method, names, damping, statistics, select) -> Pruned:
    """Remove whole filters; with the methods called OBS, the others make up for them."""
    found = filter_scores(model, x, method, names, damping=damping, **statistics)
    kept = choose({name: score for name, (score, _) in found.items()}, **select)
    changed = copied(model)
    for name, (_, update) in found.items():
        if update is not None and not kept[name].all():
            _add(layer_of(changed, name), update(~kept[name]))
    pruned = remove_filters(changed, x, kept)
    return Pruned(pruned, _report(model, pruned, {name: (mask, None) for name, mask in kept.items()}))


@torch.no_grad()
def _add(layer: nn.Linear | nn.Conv2d, change: Tensor) -> None:
    """Add a change of the joint weight, (out, in) or (out, in + 1), to a layer."""
    if layer.bias is not None:
        layer.bias.add_(change[:, -1])
        change = change[:, :-1]
    layer.weight.add_(change.view_as(layer.weight))


def _eigendamage(model, x, names, ekfac, statistics, select) -> Pruned:
    """Prune rows and columns of every layer's rotated weights."""
    cores, shared = {name: _core(model, name) for name in names}, tied(model)
    for core in cores.values():
        if other := shared.get(f"{core}.weight"):
            raise ValueError(f"{core}.weight is shared with {other}: its layer can't become a bottleneck")
    bases = eigenbases(model, x, list(cores.values()), ekfac=ekfac, **statistics)
    found = {}
    for name, core in cores.items():
        theta = importance(layer_of(model, core).weight.detach().to(bases[core].Q_A.dtype), bases[core])
        found[name, "rows"], found[name, "columns"] = theta.sum(1), theta.sum(0)
    kept = choose(found, **select)
    pruned, dense, report = copied(model), copied(model), {}
    for name, core in cores.items():
        layer, rows, columns = pruned.get_submodule(name), kept[name, "rows"], kept[name, "columns"]
        if smaller(layer, rows, columns):
            new = bottleneck(layer, bases[core].Q_A, bases[core].Q_S, rows, columns)
            replace(pruned, name, new)
            if isinstance(layer, Bottleneck):
                replace(dense, name, copy.deepcopy(new))
            else:
                layer_of(dense, name).weight.data.copy_(new.weight)
        else:
            rows, columns = torch.ones_like(rows), torch.ones_like(columns)
        report[name] = (rows, columns)
    verify(pruned, model, x, [outputs(dense, x, seed=seed) for seed in (0, 1)])
    return Pruned(pruned, _report(model, pruned, report))


def _core(model: nn.Module, name: str) -> str:
    """The layer whose weights are rotated: that of the name, or the middle of a bottleneck."""
    return f"{name}.core" if isinstance(dict(model.named_modules()).get(name), Bottleneck) else name


def _report(model: nn.Module, pruned: nn.Module, kept: dict[str, tuple[Tensor, Tensor | None]]) -> list[dict[str, Any]]:
    rows = []
    for name, (filters, columns) in kept.items():
        before, after = (sum(p.numel() for p in net.get_submodule(name).parameters()) for net in (model, pruned))
        row = {"layer": name, "outputs": len(filters), "outputs_kept": int(filters.sum())}
        if columns is not None:
            row |= {"inputs": len(columns), "inputs_kept": int(columns.sum())}
        row |= {"whole": after == before, "parameters": before, "parameters_kept": after}
        rows.append(row)
    return rows

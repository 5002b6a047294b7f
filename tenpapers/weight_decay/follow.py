"""Runs that are followed epoch by epoch: the norm transfer, and how the curvature of normalised weights changes.

Paper: arXiv 1810.12281, sections 4.1 and 4.3. Chapter: ``book/weight_decay.ipynb``.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from nnlib.training import evaluate
from nnlib.weight_decay.damping import normalised_curvature
from nnlib.weight_decay.invariance import invariant_layers, weight_norms
from nnlib.weight_decay.optimizers import make_optimizer
from tenpapers.weight_decay.measure import OFTEN, train
from tenpapers.weight_decay.workloads import build, prepared

DEFAULTS: dict[str, Any] = {"examples": None, "epochs": 15, "batch_size": 100, "drops": (8, 12), "hidden": None}


def norm_transfer(
    data: str, lr: float, weight_decay: float, *, seed: int = 0, dtype: str = "float64", **sizes: Any
) -> list[dict[str, Any]]:
    """The norm-transfer experiment with SGD: do the norms alone carry what decay does?

    Four runs from one start: without decay; with L2 on all layers; without decay, but after each epoch the layers
    under BatchNorm get the lengths they had in the run with decay; and the same with L2 on the output layer.

    Args:
        data: As in :func:`measure`.
        lr: Learning rate at the start.
        weight_decay: L2 coefficient.
        seed: Of initialisation and order.
        dtype: Of parameters and data.
        sizes: ``examples, epochs, batch_size, drops, hidden`` as in :func:`measure`.

    Returns:
        One row for each run and epoch: ``run, epoch, learning_rate``; training ``loss`` and ``accuracy``; ``norm`` of
        all layers under BatchNorm together; ``test_accuracy``, in the last epoch's row.

    Source: arXiv 1810.12281, section 4.1. Chapter: ``book/weight_decay.ipynb``.
    """
    asked: dict[str, Any] = DEFAULTS | sizes
    place = {"dtype": getattr(torch, dtype)}
    images = prepared(data, asked["examples"], **place)

    def run(name: str, where: str | None, norms: Mapping | None = None) -> list[dict[str, Any]]:
        model = build(images, hidden=asked["hidden"], seed=seed, **place)
        kind: dict[str, Any] = {"decay": "l2", "weight_decay": weight_decay, "where": where} if where else {}
        settings = {key: asked[key] for key in ("epochs", "batch_size", "drops")}
        optimizer = make_optimizer(model, "SGD", lr, **kind)
        history = train(model, images, optimizer, norms=norms, splits=("train",), seed=seed, **settings)
        layers = invariant_layers(model)
        rows = []
        for row in history.rows:
            lengths = {layer: row[layer] for layer in layers}
            norm = sum(length**2 for length in lengths.values()) ** 0.5
            found = {key: row[key] for key in ("epoch", "loss", "accuracy")} | {"norm": norm, "lengths": lengths}
            rows.append({"run": name, "learning_rate": row["lr"], "test_accuracy": None} | found)
        rows[-1]["test_accuracy"] = evaluate(model, images.test)["accuracy"]
        return rows

    decayed = run("decay", "all")
    norms = {row["epoch"]: row["lengths"] for row in decayed}
    runs = [
        run("none", None),
        decayed,
        run("norms given", None, norms),
        run("norms given, decay on last", "last", norms),
    ]
    return [{key: value for key, value in row.items() if key != "lengths"} for rows in runs for row in rows]


def follow_curvature(
    data: str,
    method: str,
    lr: float,
    decay: str = "none",
    weight_decay: float = 0.0,
    *,
    seed: int = 0,
    dtype: str = "float64",
    **sizes: Any,
) -> list[dict[str, Any]]:
    """How large are the Fisher and the Gauss-Newton matrix of the first layer at W/|W|, epoch by epoch?

    The network has BatchNorm; both traces are taken on the first 200 training images, in training mode.

    Args:
        data: As in :func:`measure`.
        method: ``K-FAC-G`` or ``K-FAC-F``.
        lr: Learning rate at the start.
        decay: Kind of decay.
        weight_decay: Its coefficient.
        seed: Of initialisation, order and drawn targets.
        dtype: Of parameters and data.
        sizes: As in :func:`norm_transfer`, and ``damping``.

    Returns:
        One row an epoch: ``epoch``, training ``loss``, ``norm`` |W| of the first layer, ``fisher`` and
        ``gauss_newton``, each |W|^2 times the trace of the layer's block, and ``effective_damping``, |W|^2 damping.

    Source: arXiv 1810.12281, section 4.3. Chapter: ``book/weight_decay.ipynb``.
    """
    asked: dict[str, Any] = DEFAULTS | {"damping": 1e-3} | sizes
    place = {"dtype": getattr(torch, dtype)}
    images = prepared(data, asked["examples"], **place)
    model = build(images, hidden=asked["hidden"], seed=seed, **place)
    layer, x = invariant_layers(model)[0], images.train.x[:200]
    options: dict[str, Any] = OFTEN | {"seed": seed, "damping": asked["damping"]}
    optimizer = make_optimizer(model, method, lr, decay=decay, weight_decay=weight_decay, **options)

    def watch(model: torch.nn.Module) -> dict[str, float]:
        alone = copy.deepcopy(model).train()  # the optimiser does not see what a copy computes
        norm = weight_norms(alone)[layer]
        found = {"norm": norm, "effective_damping": norm**2 * asked["damping"]}
        for name, fisher in (("fisher", "exact"), ("gauss_newton", "gauss_newton_exact")):
            found[name] = normalised_curvature(alone, x, layer, fisher)
        return found

    settings = {key: asked[key] for key in ("epochs", "batch_size", "drops")}
    history = train(model, images, optimizer, watch=watch, splits=("train",), seed=seed, **settings)
    shown = ("epoch", "loss", "norm", "fisher", "gauss_newton", "effective_damping")
    return [{key: row[key] for key in shown} for row in history.rows]

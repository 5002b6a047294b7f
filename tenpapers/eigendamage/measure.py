"""The experiments of the chapter: prune a trained network by every method at every ratio, fine-tune, measure.

``trade_off_of`` prunes one network by one method, ``rounds_of`` in rounds, ``rise_of_the_loss`` compares what a method
predicts with what happens, ``diagonal`` says how diagonal a layer's curvature is.
Paper: arXiv 1905.05934. Chapter: ``book/eigendamage.ipynb``.
"""

import copy
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn

from nnlib import training
from nnlib.curvature import factors, jacobian, joint_weight, layer_index
from nnlib.eigendamage.cost import cost, seconds
from nnlib.eigendamage.finetune import prune_iteratively, reestimate_batch_norm, train
from nnlib.eigendamage.measure import DAMPING, eigenbases, filter_scores
from nnlib.eigendamage.prune import prune
from nnlib.eigendamage.scores import importance, kron_obd, kron_obs, kron_obs_update, rotate
from nnlib.eigendamage.separable import separate
from nnlib.training import Dataset, Split, evaluate
from tenpapers.eigendamage.workloads import Workload, trained, workload_of

BATCH = 250  # images in one pass of the statistics
REPEATS = 10  # of a measurement of time


def trade_off_of(
    workload: str,
    method: str,
    seed: int = 0,
    ratios: Sequence[float] = (0.3, 0.5, 0.7),
    finetune: Sequence[float] = (),
    dtype: str = "float32",
    device: str = "cpu",
    epochs: int | None = None,
    timed: bool = True,
) -> list[dict[str, Any]]:
    """Prune a trained network at each ratio, each time from the same weights.

    Args:
        workload: One of ``WORKLOADS``.
        method: One of ``METHODS``.
        seed: Of the training, the sampled labels and the fine-tuning.
        ratios: To prune at, without fine-tuning.
        finetune: Those of ``ratios`` at which the network is fine-tuned too.
        dtype: ``float32`` or ``float64``.
        device: Where to do all this.
        epochs: Of the first training and of fine-tuning, in place of the workload's own.
        timed: Measure how long a forward pass takes, too.

    Returns:
        One row a ratio. ``accuracy`` on the test images right after pruning, ``accuracy_bn`` with new batch statistics,
        ``accuracy_finetuned`` after fine-tuning, and with new batch statistics if that is better on the training
        images; None where not fine-tuned. ``parameters``, ``flops``, ``activations`` and ``time``: shares of the
        original's. ``outputs_kept`` and ``inputs_kept``: numbers for each layer, separated by spaces.
    """
    w = workload_of(workload)
    model, data = trained(workload, seed, getattr(torch, dtype), str(training.device(device)), epochs)
    x, batch = data.train.x[: w.pruned_with], data.test.x[:BATCH]
    before, rows = cost(model, x), []
    for ratio in ratios:
        pruned = prune(model, x, method, ratio, seed=seed, batch_size=BATCH)
        network, after = pruned.model, cost(pruned.model, x)
        row: dict[str, Any] = {"ratio": ratio, "accuracy": evaluate(network, data.test)["accuracy"]}
        row["accuracy_bn"] = _with_new_statistics(network, data, w.batch_size)[1]
        row["accuracy_finetuned"] = None
        if ratio in finetune:
            row["accuracy_finetuned"] = _finetuned(network, data, w, seed, epochs)
        for quantity in ("parameters", "flops", "activations"):
            row[quantity] = getattr(after, quantity) / getattr(before, quantity)
        row["time"] = None
        if timed:
            whole, thin = seconds([model, network], batch, REPEATS)
            row["time"] = thin / whole
        for side in ("outputs_kept", "inputs_kept"):
            row[side] = " ".join(str(layer[side]) for layer in pruned.layers if side in layer)
        rows.append(row)
    return rows


def _with_new_statistics(network: nn.Module, data: Dataset, batch_size: int) -> tuple[float, float]:
    """Accuracies on training and test images of a copy with new batch statistics."""
    again = reestimate_batch_norm(copy.deepcopy(network), data.train.x, max(batch_size, BATCH))
    return evaluate(again, data.train)["accuracy"], evaluate(again, data.test)["accuracy"]


def _finetuned(network: nn.Module, data: Dataset, w: Workload, seed: int, epochs: int | None) -> float:
    """Test accuracy after fine-tuning, with new batch statistics where those are better on the training images."""
    options = {"lr": w.finetune_lr, "batch_size": w.batch_size, "weight_decay": w.weight_decay, "seed": seed}
    train(network, data, epochs=w.finetune_epochs if epochs is None else epochs, **options)
    network.eval()
    on_train, on_test = _with_new_statistics(network, data, w.batch_size)
    better = on_train > evaluate(network, data.train)["accuracy"]
    return on_test if better else evaluate(network, data.test)["accuracy"]


def rounds_of(
    workload: str,
    number: int = 3,
    ratio: float = 0.5,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    epochs: int | None = None,
) -> list[dict[str, Any]]:
    """EigenDamage in several rounds, each fine-tuned, and the last made depthwise separable and fine-tuned again.

    Args:
        workload: One of ``WORKLOADS``.
        number: Of rounds.
        ratio: Of each round.
        seed: Of the training, the sampled labels and the fine-tuning.
        dtype: ``float32`` or ``float64``.
        device: Where to do all this.
        epochs: Of the first training and of fine-tuning, in place of the workload's own.

    Returns:
        One row a round, and one for the separable network: ``stage``, ``accuracy`` (after fine-tuning), ``parameters``
        and ``flops`` as shares of the original's, ``layers`` (of the network).
    """
    w = workload_of(workload)
    model, data = trained(workload, seed, getattr(torch, dtype), str(training.device(device)), epochs)
    x = data.train.x[: w.pruned_with]
    before, rows = cost(model, x), []

    def note(stage: str, network: nn.Module, accuracy: float) -> None:
        after = cost(network, x)
        shares = {"parameters": after.parameters / before.parameters, "flops": after.flops / before.flops}
        count = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in network.modules())
        rows.append({"stage": stage, "accuracy": accuracy, **shares, "layers": count})

    accuracies: list[float] = []
    results = prune_iteratively(
        *(model, x, number, lambda network: accuracies.append(_finetuned(network, data, w, seed, epochs))),
        **{"ratio": ratio, "seed": seed, "batch_size": BATCH},
    )
    for i, (pruned, accuracy) in enumerate(zip(results, accuracies, strict=True), start=1):
        note(f"round {i}", pruned.model, accuracy)
    separable = separate(results[-1].model)
    note("depthwise, not fine-tuned", separable, evaluate(separable, data.test)["accuracy"])
    note("depthwise, fine-tuned", separable, _finetuned(separable, data, w, seed, epochs))
    return rows


def rise_of_the_loss(workload: str = "CNN", layer: str = "4", seed: int = 0) -> pd.DataFrame:
    """What each method predicts for every filter (EigenDamage: row) of a layer alone, and how the loss really rises.

    Returns:
        ``method``, ``predicted`` and ``measured``: rise of the mean loss on the images on which curvature is measured.
    """
    w = workload_of(workload)
    model, data = trained(workload, seed)
    part = Split(data.train.x[: w.pruned_with], data.train.y[: w.pruned_with])
    start = evaluate(model, part)["loss"]
    changed = copy.deepcopy(model)
    weights = changed.get_submodule(layer)
    original = {name: p.detach().clone() for name, p in weights.named_parameters()}
    rows = []

    def measure(method: str, predicted: torch.Tensor, change: torch.Tensor, bias: torch.Tensor | None) -> None:
        with torch.no_grad():
            weights.weight += change.view_as(weights.weight)
            if bias is not None:
                weights.bias += bias
        measured = evaluate(changed, part)["loss"] - start
        weights.load_state_dict(original)
        rows.append({"method": method, "predicted": predicted.item(), "measured": measured})

    W = joint_weight(weights)
    options = {"fisher": "exact", "batch_size": BATCH}
    for method in ("C-OBD", "C-OBS", "Kron-OBD", "Kron-OBS"):
        (score, update) = filter_scores(model, part.x, method, [layer], **options)[layer]
        for i in range(len(W)):
            gone = torch.arange(len(W), device=W.device) == i
            change = update(gone) if update else torch.where(gone[:, None], -W, 0)
            measure(method, score[i], change[:, :-1], change[:, -1])
    basis = eigenbases(model, part.x, [layer], **options)[layer]
    W, theta = original["weight"], importance(original["weight"], basis)
    for a, score in enumerate(theta.sum(1)):
        row = rotate(W, basis.Q_S, basis.Q_A) * (torch.arange(len(theta), device=W.device) == a).view(-1, 1, 1, 1)
        measure("EigenDamage", score, -rotate(row, basis.Q_S.T, basis.Q_A.T), None)
    return pd.DataFrame(rows)


def diagonal(
    workload: str = "CNN", layers: Sequence[str] = ("0", "2", "4"), examples: int = 50, seed: int = 0
) -> list[dict[str, Any]]:
    """How much of a layer's exact Fisher block lies on its diagonal, in squared entries, before and after rotation.

    With per-example gradients G by every class, weighted, F = G'G / n, so that |F|^2 = |G G'|^2 / n^2 needs no matrix
    of the size of F.

    Returns:
        ``layer``, ``weights`` (share on the diagonal in the weights' own coordinates) and ``eigenbasis``.
    """
    model, data = trained(workload, seed)
    x = data.train.x[:examples]
    p = model(x).detach().softmax(1)  # (B, C)
    eye = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
    vectors = p.sqrt()[:, :, None] * (p[:, None] - eye)  # (B, C, C): sum_c v_c v_c' = diag(p) - p p'
    J = jacobian(model, x)
    bases = eigenbases(
        model, data.train.x[: workload_of(workload).pruned_with], layers, fisher="exact", batch_size=BATCH
    )
    rows = []
    for name in layers:
        layer = model.get_submodule(name)
        index = layer_index(model, name)
        G = torch.einsum("bkc,bcp->bkp", vectors, J[..., index]).flatten(0, 1)  # (B C, P)
        G = G.view(len(G), len(layer.weight), -1)[:, :, : layer.weight[0].numel()]  # the bias is not rotated
        G = G.unflatten(2, (layer.weight.shape[1], -1))  # (B C, out, in, k k)
        rotated = torch.einsum("noit,oa,ib->nabt", G, bases[name].Q_S, bases[name].Q_A)
        total = (G.flatten(1) @ G.flatten(1).T).square().sum()
        on = {
            key: (g.square().sum(0).square().sum() / total).item() for key, g in (("weights", G), ("rotated", rotated))
        }
        rows.append({"layer": name, "weights": on["weights"], "eigenbasis": on["rotated"]})
    return rows


def additivity(workload: str, layer: str, numbers: Sequence[int], seed: int = 0) -> list[dict[str, Any]]:
    """Joint cost of the filters with the lowest scores over the sum of these scores, both under K-FAC's own model.

    Returns:
        One row a number of filters: ``filters that go``, and a ratio by method: 1 where costs add up.
    """
    model, data = trained(workload, seed)
    W = joint_weight(model.get_submodule(layer))
    x = data.train.x[: workload_of(workload).pruned_with]
    block = factors(model, x, layers=[layer], fisher="exact", batch_size=BATCH)[layer]
    mean = block.S.diagonal().mean() * block.A.diagonal().mean()
    block = block.damped(DAMPING * mean.item())
    removals = {"Kron-OBD": (kron_obd, lambda W, block, P: -W * P[:, None]), "Kron-OBS": (kron_obs, kron_obs_update)}
    basis = block.eigen()
    theta = importance(W, basis).sum(1)
    rows = []
    for n in numbers:
        row: dict[str, Any] = {"filters that go": n}
        for method, (score, update) in removals.items():
            scores = score(W, block)
            P = torch.zeros(len(W), dtype=torch.bool, device=W.device)
            P[scores.argsort()[:n]] = True
            row[method] = (block.quadratic(update(W, block, P)) / 2 / scores[P].sum()).item()
        P = torch.zeros(len(W), dtype=torch.bool, device=W.device)
        P[theta.argsort()[:n]] = True
        change = basis.rotate_back(-basis.rotate(W) * P[:, None])
        rows.append(row | {"EigenDamage": (block.quadratic(change) / 2 / theta[P].sum()).item()})
    return rows

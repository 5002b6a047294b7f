"""How long does pruning take, by phase, and how fast is what is left? Ratios within one run, one thread, float32.

    OMP_NUM_THREADS=1 python benchmarks/eigendamage.py

Times of networks are measured in turns, the smallest of several rounds; the phases of pruning once, as multiples of one
forward and backward pass over the same images. If torch-pruning is installed, its L1 pruner is measured beside ours.
"""

import importlib.util
import platform
import time

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from nnlib.eigendamage import METHODS, bottleneck, choose, cost, eigenbases, importance, prunable, prune, seconds
from nnlib.models import VGG

IMAGES = 64  # in the statistics
PIECE = 32  # in one pass
RATIO = 0.5
ROUNDS = 5


def clock(function):
    """Seconds of one call, and what it returns."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def gradient(model, x, y):
    """One forward and backward pass over all images, in pieces."""
    for part, labels in zip(x.split(PIECE), y.split(PIECE), strict=True):
        cross_entropy(model(part), labels).backward()
    model.zero_grad()


def phases(model, x, y):
    """The parts of EigenDamage as multiples of a gradient."""
    gradient(model, x[:PIECE], y[:PIECE])
    unit = min(clock(lambda: gradient(model, x, y))[0] for _ in range(2))
    names = prunable(model, x)
    both, bases = clock(lambda: eigenbases(model, x, names, batch_size=PIECE))
    values = {n: torch.arange(1.0, n + 1) for b in bases.values() for n in b.values.shape}
    matrices = [Q * values[len(Q)] @ Q.T for b in bases.values() for Q in (b.Q_A, b.Q_S)]
    alone, _ = clock(lambda: [torch.linalg.eigh(M) for M in matrices])

    def surgery():
        scores = {}
        for name in names:
            theta = importance(model.get_submodule(name).weight.detach(), bases[name])
            scores[name, "rows"], scores[name, "columns"] = theta.sum(1), theta.sum(0)
        kept = choose(scores, RATIO)
        for name in names:
            sides = kept[name, "rows"], kept[name, "columns"]
            bottleneck(model.get_submodule(name), bases[name].Q_A, bases[name].Q_S, *sides)

    last, _ = clock(surgery)
    found = {"statistics": both - alone, "eigenbases": alone, "scores and surgery": last}
    return unit, {name: value / unit for name, value in found.items()}


def peer(model, x):
    """torch-pruning's L1 filter pruning, uniform, at a ratio that leaves about as many operations."""
    import copy

    import torch_pruning

    network = copy.deepcopy(model)
    options = {"importance": torch_pruning.importance.MagnitudeImportance(p=1), "pruning_ratio": 0.4}
    options["ignored_layers"] = [network.layers[-1]]
    torch_pruning.pruner.MagnitudePruner(network, x[:1], **options).step()
    return network


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    y = torch.randint(10, (IMAGES,), generator=generator)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread")
    model = VGG(19, 3, affine=True)
    unit, parts = phases(model, x, y)
    print(f"\nVGG19, 32 x 32, {IMAGES} images; one gradient over them takes {unit:.1f} s")
    print(pd.Series(parts, name="in gradients").round(2).to_string())

    small = VGG(11, 3, width=0.5, affine=True)
    networks = {"original": small} | {method: prune(small, x[:64], method, RATIO).model for method in METHODS}
    if importlib.util.find_spec("torch_pruning"):
        networks["torch-pruning, L1"] = peer(small, x)
    best = dict(zip(networks, seconds(list(networks.values()), x[:PIECE], ROUNDS), strict=True))
    start = cost(small, x)
    rows = []
    for name, network in networks.items():
        after = cost(network, x)
        row = {"network": name, "time": best[name] / best["original"], "operations": after.flops / start.flops}
        rows.append(row | {"parameters": after.parameters / start.parameters})
    print(
        f"\nVGG11 at half width, untrained, ratio {RATIO}: a forward pass over {PIECE} images, shares of the original's"
    )
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()

"""How long does pruning take, by phase, and how fast is what is left at equal accuracy? Ratios in one run, one thread.

    OMP_NUM_THREADS=1 python benchmarks/eigendamage.py

Times of networks are measured in turns, the smallest of several rounds; the phases of pruning once, as multiples of one
forward and backward pass over the same images. torch-pruning's L1 pruner, where it is installed, stands beside ours.
"""

import copy
import importlib.util
import platform
import time

import pandas as pd
import torch
from torch.nn.functional import cross_entropy

from nnlib.eigendamage import (
    METHODS,
    bottleneck,
    choose,
    cost,
    eigenbases,
    importance,
    prunable,
    prune,
    seconds,
    train,
)
from nnlib.models import VGG
from nnlib.training import evaluate
from tenpapers.eigendamage.workloads import trained

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


def phases(model, x, y, fisher):
    """The parts of EigenDamage as multiples of a gradient."""
    gradient(model, x[:PIECE], y[:PIECE])
    unit = min(clock(lambda: gradient(model, x, y))[0] for _ in range(2))
    names = prunable(model, x)
    both, bases = clock(lambda: eigenbases(model, x, names, fisher=fisher, batch_size=PIECE))
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


def peer(model, x, ratio):
    """torch-pruning's L1 filter pruning, with one threshold for all layers, as ours."""
    import torch_pruning

    network = copy.deepcopy(model)
    options = {"importance": torch_pruning.importance.MagnitudeImportance(p=1), "pruning_ratio": ratio}
    options |= {"ignored_layers": [network.layers[-1]], "global_pruning": True, "max_pruning_ratio": 0.95}
    torch_pruning.pruner.BasePruner(network, x[:1], **options).step()
    return network


def fastest():
    """For each method the fastest of its networks that is as accurate as the original but for two points."""
    model, data = trained("VGG", dtype=torch.float32)
    x, floor = data.train.x[:1000], evaluate(model, data.test)["accuracy"] - 0.02
    start, rows = cost(model, x), []
    methods = {name: lambda ratio, name=name: prune(model, x, name, ratio, batch_size=250).model for name in METHODS}
    if importlib.util.find_spec("torch_pruning"):
        methods["torch-pruning, L1"] = lambda ratio: peer(model, x, ratio)
    for name, method in methods.items():
        found = []
        for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
            network = method(ratio)
            train(network, data, epochs=1, lr=0.01, batch_size=50, weight_decay=3e-4)
            accuracy = evaluate(network, data.test)["accuracy"]
            if accuracy >= floor:
                whole, thin = seconds([model, network], data.test.x[:250], ROUNDS)
                after = cost(network, x)
                row = {"method": name, "ratio": ratio, "accuracy": accuracy, "time": thin / whole}
                row |= {"operations": after.flops / start.flops, "parameters": after.parameters / start.parameters}
                found.append(row)
        rows.append(min(found, key=lambda row: row["time"]) if found else {"method": name})
    return pd.DataFrame(rows)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, 3, 32, 32, generator=generator)
    y = torch.randint(10, (IMAGES,), generator=generator)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread")
    model = VGG(19, 3, affine=True)
    found = {fisher: phases(model, x, y, fisher) for fisher in ("sampled", "exact")}
    unit = found["sampled"][0]
    print(f"\nVGG19, 32 x 32, {IMAGES} images; one gradient over them takes {unit:.1f} s. In gradients,")
    print("with one label drawn for each image (the paper's), and with all 10 classes in turn (ours, no label noise):")
    print(pd.DataFrame({fisher: parts for fisher, (_, parts) in found.items()}).round(2).to_string())

    print("\nThe chapter's VGG on MNIST: the fastest network of each method within 2 points of the original, after")
    print("one epoch; a forward pass, operations and parameters as shares of the original's")
    print(fastest().round(3).to_string(index=False))


if __name__ == "__main__":
    main()

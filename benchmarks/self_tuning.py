"""What does a self-tuning step cost, and how soon does a tuner have what a random search finds? One thread.

    OMP_NUM_THREADS=1 python benchmarks/self_tuning.py

Steps are timed in turns, the smallest of several rounds, as multiples of an ordinary training step of the same network.
The second part runs a tuner until its validation loss is that of the best of optuna's random trials, on the chapter's
MLP, and counts seconds of processor time.
"""

import platform
import time

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from nnlib.self_tuning import (
    Dropout,
    Hyperparameter,
    SelfTuner,
    respond,
    set_values,
    squared_norm,
)
from nnlib.self_tuning.train import momentum_sgd
from nnlib.training import Split
from tenpapers.self_tuning.measure import CHARGE, TRAIN_STEPS, compare
from tenpapers.self_tuning.networks import mlp

ROUNDS, STEPS = 8, 5
HYPERS = [Hyperparameter(name, (0, 0.9), 0.05) for name in ("input dropout", "dropout 1", "dropout 2")]
HYPERS.append(Hyperparameter("weight decay", (0, None), 1e-3, shared=True))
VALUES = {hyper.name: hyper.init for hyper in HYPERS}


def cnn():
    """Three convolutions of 16, 32 and 32 channels."""
    layers = [Dropout("input dropout"), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), Dropout("dropout 1", "channel")]
    layers += [nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), Dropout("dropout 2", "channel")]
    layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(*layers)


def timed(functions):
    """Smallest seconds of a call of each, measured in turns."""
    for function in functions.values():
        function()
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                function()
            best[name] = min(best[name], (time.perf_counter() - start) / STEPS)
    return best


def steps(network, batch):
    """Seconds of an ordinary step, and steps of both tuners as multiples of it, validation steps shared out."""
    set_values(network, VALUES, torch.Generator().manual_seed(0))
    optimizer = momentum_sgd(network.parameters(), lr=0.01)

    def plain():
        loss = cross_entropy(network(batch.x), batch.y) + VALUES["weight decay"] * squared_norm(network)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    functions = {"plain": plain}
    for variant in TRAIN_STEPS:
        model = respond(network, HYPERS, gate_std=0.01 if variant == "stn" else 0.0)

        def loss(f, y, values, model=model):
            return cross_entropy(f, y) + (values["weight decay"] * model.squared_norm()).mean()

        tuner = SelfTuner(model, loss, cross_entropy, variant=variant, lr=0.01)
        functions[f"{variant}, training step"] = lambda tuner=tuner: tuner.training_step(batch)
        functions[f"{variant}, validation step"] = lambda tuner=tuner: tuner.validation_step(batch)
    found = timed(functions)
    row = {"plain step, ms": 1e3 * found["plain"]}
    for variant, every in TRAIN_STEPS.items():
        step, check = (found[f"{variant}, {kind} step"] / found["plain"] for kind in ("training", "validation"))
        row |= {f"{variant}: training step": step, f"{variant}: with validation": step + check / every}
    return row


def catches_up(seed=0, trials=8, length=400):
    """Seconds of a random search, and of a tuner until it is as good as that search's best."""
    options = {"problem": "MLP, digits", "seed": seed, "trials": trials, "steps": length}
    search = compare(method="Random search", **options)[-1]
    rows = [{"method": "Random search", "validation loss": search["validation_loss"], "seconds": search["took"]}]
    for method in ("STN", "Δ-STN"):
        run = compare(method=method, **options)
        reached = next((row for row in run if row["validation_loss"] <= search["validation_loss"]), None)
        share = reached["cost"] / run[-1]["cost"] if reached else float("nan")
        row = {"method": method, "validation loss": run[-1]["validation_loss"], "seconds": run[-1]["took"]}
        rows.append(row | {"seconds until as good as the search": share * run[-1]["took"]})
    return pd.DataFrame(rows)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, one thread")
    print(f"charged in the chapter: {CHARGE} ordinary steps for each training step\n")
    rows = {}
    for name, network, shape in (
        ("MLP 784-500-500-10, batch 128", mlp((784, 500, 500, 10)), (128, 1, 28, 28)),
        ("MLP 64-100-100-10, batch 50", mlp((64, 100, 100, 10)), (50, 1, 8, 8)),
        ("CNN 16-32-32, 8 x 8, batch 50", cnn(), (50, 1, 8, 8)),
        ("CNN 16-32-32, 28 x 28, batch 128", cnn(), (128, 1, 28, 28)),
    ):
        x = torch.rand(shape, generator=generator)
        rows[name] = steps(network, Split(x, torch.arange(len(x)) % 10))
    print(pd.DataFrame(rows).T.round(2).to_string())
    print("\nThe chapter's MLP on digits, one seed:")
    print(catches_up().round(3).to_string(index=False))


if __name__ == "__main__":
    main()

"""The tables of the chapter: what is pruned, by which method, how far, and what is measured.

Chapter: ``book/eigendamage.ipynb``.
"""

from tenpapers.eigendamage.measure import additivity, diagonal, rounds_of, trade_off_of
from tenpapers.eigendamage.workloads import methods
from tenpapers.runs import Table

RATIOS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FEW = (0.3, 0.5, 0.7, 0.8)
LAPTOP = {  # network: seeds, ratios, those that are fine-tuned too, dtype
    "VGG": (3, FEW, (0.5, 0.8), "float32"),
    "ResNet": (3, FEW, (0.5, 0.8), "float32"),
    "VGG, CIFAR-10": (1, FEW, (0.5, 0.8), "float32"),
    "CNN": (3, RATIOS, (0.5, 0.7, 0.8), "float64"),
    "CNN by Adam": (3, RATIOS, (0.5,), "float64"),
    "MLP": (3, (0.3, 0.5, 0.6, 0.7, 0.8, 0.9), (), "float64"),
}
FULL = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LARGE = ("VGG19, CIFAR-10", "ResNet32, CIFAR-10", "PreResNet29, CIFAR-10")
PAPER = {name: (1, FULL, FULL, "float32") for name in LARGE}


def _cells(networks, device):
    return [
        {"workload": name, "method": method, "seed": seed, "ratios": list(ratios), "finetune": list(finetune)}
        | {"dtype": dtype, "device": device}
        for name, (seeds, ratios, finetune, dtype) in networks.items()
        for seed in range(seeds)
        for method in methods(name)
    ]


trade_off = Table(
    "eigendamage",
    "trade_off",
    trade_off_of,
    {"laptop": lambda: _cells(LAPTOP, "cpu"), "paper": lambda: _cells(PAPER, "auto")},
    columns=(
        *("workload", "method", "seed", "ratio", "accuracy", "accuracy_bn", "accuracy_finetuned"),
        *("parameters", "flops", "activations", "time", "outputs_kept", "inputs_kept"),
    ),
    probe={
        **{"workload": "CNN", "method": "EigenDamage", "seed": 7, "ratios": [0.5], "finetune": [0.5]},
        **{"dtype": "float64", "device": "cpu", "epochs": 2, "timed": False},
    },
    hours=0.9,
)
rounds = Table(
    "eigendamage",
    "rounds",
    rounds_of,
    {
        "laptop": lambda: [{"workload": "ResNet", "device": "cpu"}],
        "paper": lambda: [{"workload": "ResNet32, CIFAR-10", "device": "auto"}],
    },
    columns=("workload", "stage", "accuracy", "parameters", "flops", "layers"),
    probe={"workload": "CNN", "number": 2, "seed": 7, "epochs": 2, "dtype": "float64", "device": "cpu"},
)
diagonals = Table(
    "eigendamage",
    "diagonals",
    diagonal,
    {"laptop": lambda: [{"workload": "CNN", "examples": 25, "seed": seed} for seed in range(3)]},
    columns=("workload", "seed", "layer", "weights", "eigenbasis"),
    probe={"workload": "CNN", "examples": 5, "seed": 7},
)
additions = Table(
    "eigendamage",
    "additions",
    additivity,
    {"laptop": lambda: [{"workload": "CNN", "layer": "2", "numbers": [24], "seed": seed} for seed in range(3)]},
    columns=("workload", "layer", "seed", "filters that go", "Kron-OBD", "Kron-OBS", "EigenDamage"),
    probe={"workload": "CNN", "layer": "2", "numbers": [5], "seed": 7},
)

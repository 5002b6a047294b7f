"""The tables of the chapter: which networks are trained, by which methods, and what is measured.

Chapter: ``book/bcop.ipynb``.
"""

from typing import Any

from nnlib.bcop import METHODS
from tenpapers.bcop.measure import attenuation as attenuation_of
from tenpapers.bcop.measure import classifier, critic
from tenpapers.bcop.workloads import CRITIC, CRITIC_PAPER, LAPTOP, PAPER, SMALL_RADIUS
from tenpapers.runs import Table

NET = {"digits": "mini", "mnist": "small", "cifar10": "small"}
RATES = (1e-4, 1e-3, 1e-2, 1e-1)


def _laptop() -> list[dict[str, Any]]:
    """Every method on every data set; on digits also BCOP with ReLU, on MNIST a dense network of 256 units a layer."""
    found: list[dict[str, Any]] = []
    for data, seeds in {"digits": 3, "mnist": 2, "cifar10": 1}.items():
        nets = [(NET[data], method, {}) for method in METHODS]
        nets += {"digits": [("mini ReLU", "BCOP", {})], "mnist": [("fc3", "BCOP", {"width": 0.25})]}.get(data, [])
        for net, method, more in nets:
            for seed in range(seeds):
                cell = {"data": data, "net": net, "method": method, "seed": seed, **LAPTOP[data], **more}
                found.append(cell | {"device": "cpu"})
    return found


def _paper() -> list[dict[str, Any]]:
    """Tables 1, 7 and 8, and of table 2 the dense network on MNIST."""
    found: list[dict[str, Any]] = []
    for data, recipe in PAPER.items():
        twice = {"radii": (SMALL_RADIUS[data], *recipe["radii"])}
        nets = [(net, method, more) for net, more in (("small", {}), ("large", twice)) for method in METHODS]
        nets += [("fc3", "BCOP", {})] if data == "mnist" else []
        for net, method, more in nets:
            for seed in range(5):
                cell = {"data": data, "net": net, "method": method, "seed": seed, **recipe, **more}
                found.append(cell | {"device": "auto"})
    return found


def _critics(recipe: dict[str, Any], device: str) -> list[dict[str, Any]]:
    """BCOP, RKO and OSSN, MaxMin and ReLU; then, with ReLU, BCOP and OSSN over the other learning rates."""
    compared = [
        {"method": method, "seed": seed, "activation": activation, "lr": 1e-3}
        for activation in ("MaxMin", "ReLU")
        for method in ("BCOP", "RKO", "OSSN")
        for seed in (0, 1)
    ]
    rates = [
        {"method": method, "seed": seed, "activation": "ReLU", "lr": lr}
        for method in ("BCOP", "OSSN")
        for lr in RATES
        if lr != 1e-3
        for seed in range(3)
    ]
    return [cell | recipe | {"device": device} for cell in compared + rates]


networks = Table(
    "bcop",
    "networks",
    classifier,
    {"laptop": _laptop, "paper": _paper},
    columns=(
        *("data", "net", "method", "seed", "epsilon", "clean", "certified", "radius", "constant", "worst"),
        *("clean_few", "attacked_few", "certified_few"),
    ),
    probe={
        **{"data": "digits", "net": "mini", "method": "BCOP", "seed": 7, "steps": 14, "trained_for": 0.5},
        **{"radii": (0.5,), "batch_size": 100, "lr": 5e-3, "attacked": 20, "attack_steps": 5, "dtype": "float64"},
    },
    hours=0.8,
)
critics = Table(
    "bcop",
    "critics",
    critic,
    {"laptop": lambda: _critics(CRITIC, "cpu"), "paper": lambda: _critics(CRITIC_PAPER, "auto")},
    columns=("method", "activation", "seed", "lr", "estimate", "constant", "bound", "exact"),
    probe={
        **{"data": "digits", "method": "OSSN", "activation": "ReLU", "seed": 7, "lr": 1e-3},
        # Short and slow: at a rate of 0.01 twenty steps of OSSN turn the last bit into the third digit.
        **{"n": 64, "width": 0.5, "steps": 10, "dtype": "float64"},
    },
)
attenuation = Table(
    "bcop",
    "attenuation",
    attenuation_of,
    {
        "laptop": lambda: [
            {"method": method, "seed": seed} for method in ("BCOP", "RKO", "OSSN", "SVCM") for seed in range(5)
        ]
    },
    columns=("method", "seed", "factor"),
    probe={"method": "OSSN", "seed": 7, "depth": 5},
)

"""With which settings is each data set trained? One for each, the same for all methods.

PAPER holds those of arXiv 1911.00937, appendix; LAPTOP has less data, fewer epochs, and smaller networks.
Chapter: book/bcop.ipynb.
"""

from typing import Any

import pandas as pd

LAPTOP: dict[str, dict[str, Any]] = {
    "digits": {
        "architecture": "mini",
        "epsilon": 0.5,
        "epsilons": (0.25, 0.5),
        "epochs": 10,
        "batch_size": 100,
        "lr": 5e-3,
        "attacked": 100,
        "attack_steps": 20,
        "dtype": "float64",
    },
    "mnist": {
        "architecture": "small",
        "epsilon": 1.5,
        "epsilons": (1.0, 1.58),
        "epochs": 4,
        "lr": 2e-3,
        "attacked": 50,
        "attack_steps": 20,
    },
    "cifar10": {
        "architecture": "small",
        "epsilon": 0.5,
        "epsilons": (36 / 255,),
        "epochs": 4,
        "lr": 2e-3,
        "attacked": 50,
        "attack_steps": 20,
    },
}

PAPER: dict[str, dict[str, Any]] = {
    "mnist": {"architecture": "large", "epsilon": 1.5, "epsilons": (1.58,), "epochs": 200, "attack_steps": 200},
    "cifar10": {"architecture": "large", "epsilon": 0.5, "epsilons": (36 / 255,), "epochs": 200, "attack_steps": 200},
}

CRITIC: dict[str, Any] = {"width": 0.5, "steps": 150, "dtype": "float64"}  # on digits
CRITIC_PAPER: dict[str, Any] = {
    "architecture": "critic",
    "upsample": 2,
    "n": 6400,
    "batch_size": 64,
    "steps": 25_600,
}


def cells(
    recipes: dict[str, dict[str, Any]], data: list[str], methods: list[str], seeds: list[int], **more
) -> list[dict[str, Any]]:
    """One cell for each data set, method and seed, for a sweep over :func:`nnlib.bcop.run`.

    Args:
        recipes: LAPTOP or PAPER.
        data: Names of data sets in it.
        methods: Keys of ``METHODS``.
        seeds: Of weights and batches.
        more: Further options of :func:`nnlib.bcop.run`, or others than the recipe's.

    >>> len(cells(LAPTOP, ["digits", "mnist"], ["BCOP", "RKO"], [0, 1, 2]))
    12
    """
    return [
        {"data": name, "method": method, "seed": seed} | recipes[name] | more
        for name in data
        for method in methods
        for seed in seeds
    ]


def table_cells(
    recipes: dict[str, dict[str, Any]], methods: list[str], seeds: dict[str, list[int]], dense_width: float = 1.0
) -> list[dict[str, Any]]:
    """The cells of the chapter's table: every method; on digits also BCOP with ReLU, on MNIST a dense network.

    Args:
        recipes: LAPTOP or PAPER.
        methods: Keys of ``METHODS``.
        seeds: For each data set.
        dense_width: Of the dense network, as a multiple of the paper's 1024 units.

    >>> len(table_cells(LAPTOP, ["BCOP", "RKO"], {"digits": [0, 1], "mnist": [0]}))
    9
    """
    found = []
    for data, chosen in seeds.items():
        found += cells(recipes, [data], methods, chosen)
        if data == "digits":
            found += cells(recipes, [data], ["BCOP"], chosen, activation="ReLU")
        if data == "mnist":
            found += cells(recipes, [data], ["BCOP"], chosen, architecture="fc3", width=dense_width)
    return found


def tidy(runs: pd.DataFrame) -> pd.DataFrame:
    """The answers of a sweep over :func:`nnlib.bcop.run`, at the largest radius of each data set.

    Args:
        runs: From :func:`tenpapers.runs.sweep`.

    Returns:
        One row a run: ``data, net, method, seed, epsilon, clean, certified, radius, constant, worst``, and ``clean_few,
        attacked_few, certified_few`` on the attacked points. ``net`` is the architecture, and "ReLU" behind it.

    Raises:
        ValueError: where a run failed, with its error.
    """
    rows = []
    for run in runs.to_dict("records"):
        if run["error"] is not None:
            raise ValueError(f"the run of {run['method']} on {run['data']}, seed {run['seed']}, failed: {run['error']}")
        relu = run.get("activation") == "ReLU"
        radius = f"{run['epsilons'][-1]:g}"
        row = {"data": run["data"], "net": run["architecture"] + " ReLU" * relu, "method": run["method"]}
        row |= {"seed": run["seed"], "epsilon": run["epsilons"][-1], "clean": run["clean"]}
        row |= {"certified": run[f"certified {radius}"]} | {name: run[name] for name in ("radius", "constant", "worst")}
        few = ("clean", "attacked", "certified")
        rows.append(row | {f"{name}_few": run[f"few {name} {radius}"] for name in few})
    table = pd.DataFrame(rows)
    table.attrs = runs.attrs
    return table

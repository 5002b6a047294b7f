"""The tables of the chapter: which problem, method, seed or split, and what is measured.

``measurement`` is the recorded run of one seed that the page shows, ``strategies`` the same sets with other seeds.
Chapter: ``book/functional_bnn.ipynb``.
"""

from typing import Any

from tenpapers.functional_bnn import measure
from tenpapers.functional_bnn.agents import AGENTS
from tenpapers.functional_bnn.workloads import BANDITS, LARGE_METHODS, METHODS, PRIORS_ON_UNIT, SEARCH_KERNELS, SEARCHES
from tenpapers.runs import Table

Cells = list[dict[str, Any]]
CHAPTER = "functional_bnn"
SEEDS = (0, 1, 2)
OBJECTIVES = (
    ("sine", "periodic + RBF", "fBNN"),
    ("sine", "RBF", "fBNN"),
    ("sine", "periodic + RBF", "weight-space VI"),
    ("cubic", "linear + RBF", "fBNN"),
    ("cubic", "linear + RBF", "weight-space VI"),
)
SETS = (("training", 1), ("random", 30), ("mixed", 5), ("mixed", 30), ("adversarial", 30))
ON_TABLES = (("exact GP", "batch"), ("weight-space VI", "batch"), ("fBNN", "batch"), ("fBNN", "data"))
QUERIES = 10
FITTED = 1e-4  # relative, between processors: of what stands on a prior whose evidence L-BFGS climbed


def _toys(steps: int, device: str) -> Cells:
    return [
        {"toy": toy, "kernel": kernel, "method": method, "steps": steps, "seed": seed, "device": device}
        for toy, kernel, method in OBJECTIVES
        for seed in SEEDS
    ]


def _sets(steps: int, seeds: tuple[int, ...], device: str) -> Cells:
    return [
        {"strategy": name, "n_random": number, "steps": steps, "seed": seed, "device": device}
        for name, number in SETS
        for seed in seeds
    ]


def _series(device: str) -> Cells:
    return [
        {"name": name, "method": method, "steps": 1000, "every": every, "seed": seed, "device": device}
        for name, every in (("airline", 1), ("co2", 2))
        for method in METHODS
        for seed in SEEDS
    ]


def _small(epochs: int, splits: int, device: str) -> Cells:
    return [
        {"name": name, "split": split, "method": method, "kl_scale": scale, "epochs": passes, "device": device}
        for name, passes in (("yacht", epochs), ("diabetes", epochs // 5))
        for method, scale in ON_TABLES
        for split in range(splits)
    ]


def _large(steps: int, kernel_steps: int, splits: int, device: str) -> Cells:
    return [
        {"name": "protein", "split": split, "method": method, "steps": steps, "kernel_steps": kernel_steps}
        | {"device": device}
        for split in range(splits)
        for method in LARGE_METHODS
    ]


def _bandits(rounds: int, device: str) -> Cells:
    return [
        {"problem": problem, "agent": agent, "rounds": rounds, "seed": seed, "device": device}
        for problem in BANDITS
        for agent in AGENTS
        for seed in SEEDS
    ]


def _searches(steps: int, device: str) -> Cells:
    return [
        {"kernel": kernel, "d": d, "method": method, "queries": QUERIES, "steps": steps, "seed": seed, "device": device}
        for kernel in SEARCH_KERNELS
        for d in (1, 2, 3)
        for method in SEARCHES
        for seed in range(10)
    ]


toys = Table(
    CHAPTER,
    "toys",
    measure.extrapolate,
    {"laptop": lambda: _toys(600, "cpu"), "paper": lambda: _toys(9000, "auto")},
    columns=("toy", "kernel", "method", "seed", "outside", "gp outside", "to gp", "sd ratio"),
    probe={"toy": "sine", "kernel": "RBF", "method": "fBNN", "steps": 10, "samples": 20, "seed": 7},
    tolerance=FITTED,
)
measurement = Table(
    CHAPTER,
    "measurement",
    measure.extrapolate,
    {"laptop": lambda: _sets(600, (0,), "cpu"), "paper": lambda: _sets(9000, (0,), "auto")},
    columns=("strategy", "n_random", "outside", "to gp", "at data"),
    probe={"strategy": "adversarial", "n_random": 10, "kernel": "RBF", "steps": 4, "samples": 20, "seed": 7},
    tolerance=FITTED,
)
strategies = Table(
    CHAPTER,
    "strategies",
    measure.extrapolate,
    {"laptop": lambda: _sets(600, (1, 2, 3), "cpu"), "paper": lambda: _sets(9000, (1, 2, 3), "auto")},
    columns=("strategy", "n_random", "seed", "outside", "to gp", "at data"),
    probe={"strategy": "random", "n_random": 10, "kernel": "RBF", "steps": 10, "samples": 20, "seed": 7},
    tolerance=FITTED,
)
scores = Table(
    CHAPTER,
    "scores",
    measure.score_error,
    {"laptop": lambda: [{"samples": n, "seed": seed} for n in (100, 400, 1000) for seed in range(10)]},
    columns=("samples", "seed", "error"),
    probe={"samples": 50, "seed": 17},
)
posteriors = Table(
    CHAPTER,
    "posteriors",
    measure.free_gaussian,
    {"laptop": lambda: [{"seed": seed} for seed in range(5)]},
    columns=("seed", "mean error", "smallest sd", "largest sd"),
    probe={"steps": 20, "samples": 60, "seed": 7},
)
piecewise = Table(
    CHAPTER,
    "piecewise",
    measure.piecewise_run,
    {
        profile: lambda device=device: [
            {"prior": prior, "seed": seed, "device": device} for prior in PRIORS_ON_UNIT for seed in (0, 1)
        ]
        for profile, device in (("laptop", "cpu"), ("paper", "auto"))
    },
    columns=("prior", "seed", "flat", "prior flat", "sd", "at data"),
    probe={"prior": "piecewise constant", "steps_of_adam": 10, "samples": 30, "seed": 7},
)
series = Table(
    CHAPTER,
    "series",
    measure.forecast,
    {"laptop": lambda: _series("cpu"), "paper": lambda: _series("auto")},
    columns=("name", "method", "seed", "rmse", "log_likelihood", "coverage"),
    probe={"name": "airline", "method": "fBNN", "steps": 10, "samples": 20, "every": 3, "seed": 7},
    tolerance=FITTED,
)
small = Table(
    CHAPTER,
    "small",
    measure.regress,
    {"laptop": lambda: _small(300, 3, "cpu"), "paper": lambda: _small(2000, 10, "auto")},
    columns=("name", "split", "method", "kl_scale", "rmse", "log_likelihood", "coverage"),
    probe={"name": "diabetes", "split": 3, "method": "fBNN", "kl_scale": "data", "epochs": 1}
    | {"samples": 20, "prior_steps": 5},
    tolerance=FITTED,
)
large = Table(
    CHAPTER,
    "large",
    measure.regress_large,
    {"laptop": lambda: _large(400, 60, 3, "cpu"), "paper": lambda: _large(80_000, 10_000, 5, "auto")},
    columns=("split", "method", "rmse", "log_likelihood", "coverage"),
    probe={"name": "diabetes", "split": 3, "method": "fBNN", "steps": 20, "kernel_steps": 5}
    | {"batch_size": 50, "samples": 10},
)
bandits = Table(
    CHAPTER,
    "bandits",
    measure.bandit_run,
    {"laptop": lambda: _bandits(1500, "cpu"), "paper": lambda: _bandits(5000, "auto")},
    columns=("problem", "agent", "seed", "regret", "late"),
    probe={"problem": "wheel", "agent": "fBNN", "rounds": 60, "seed": 7},
)
searches = Table(
    CHAPTER,
    "searches",
    measure.search_run,
    {"laptop": lambda: _searches(80, "cpu"), "paper": lambda: _searches(1000, "auto")},
    columns=("kernel", "d", "method", "seed", *(f"after {k}" for k in range(0, QUERIES + 1, 2))),
    probe={"kernel": "arc-cosine", "d": 2, "method": "fBNN", "queries": 10, "steps": 2, "seed": 17},
)

"""The tables of the primer: what is drawn or trained in it, over ten seeds or more, so that there is a spread.

That K-FAC takes fewer steps is judged from the tables of the chapter on the noisy quadratic model.
Chapter: ``book/curvature.ipynb``.
"""

from tenpapers.curvature import measure, steps
from tenpapers.runs import Table

SEEDS = range(10)

directions = Table(
    "curvature",
    "directions",
    measure.measure_directions,
    {"laptop": lambda: [{"steps": 20, "damping": 0.03, "seed": seed} for seed in range(40)]},
    columns=("steps", "damping", "seed", "layer", "method", "error", "share"),
    probe={"steps": 5, "damping": 0.1, "seed": 77},
)
dependence = Table(
    "curvature",
    "dependence",
    measure.measure_dependence,
    {"laptop": lambda: [{"scale": scale, "seed": seed} for scale in (0.0, 0.5, 1.0, 2.0) for seed in SEEDS]},
    columns=("scale", "seed", "kfac", "ekfac", "correlation"),
    probe={"scale": 1.5, "seed": 17},
)
convolutions = Table(
    "curvature",
    "convolutions",
    measure.measure_convolution,
    {"laptop": lambda: [{"examples": 64, "seed": seed} for seed in SEEDS]},
    columns=("examples", "seed", "kfc", "corrected", "diagonal"),
    probe={"examples": 16, "seed": 17},
)
fields = Table(
    "curvature",
    "fields",
    measure.measure_fields,
    {"laptop": lambda: [{"seed": seed} for seed in SEEDS]},
    columns=("seed", "direction", "mean_angle", "largest_angle", "longest", "order"),
    probe={"seed": 17},
)
inverses = Table(
    "curvature",
    "inverses",
    steps.measure_inverses,
    {
        "laptop": lambda: [
            {"damping": damping, "steps": 20, "seed": seed} for damping in (0.003, 0.03, 0.3) for seed in range(20)
        ]
    },
    columns=("damping", "steps", "seed", "method", "error", "share"),
    probe={"damping": 0.1, "steps": 5, "seed": 77},
)
trainings = Table(
    "curvature",
    "trainings",
    steps.measure_training,
    {
        "laptop": lambda: [
            {"inverse": inverse, "length": length, "damping": damping, "adapted": adapted, "steps": 30, "seed": seed}
            for damping, adapted in ((0.03, False), (1.0, True))
            for length in steps.LENGTHS
            for inverse in steps.INVERSES
            for seed in range(20)
        ]
    },
    columns=("inverse", "length", "damping", "adapted", "steps", "seed", "loss", "log_loss", "alpha", "left"),
    probe={
        **{"inverse": steps.INVERSES[1], "length": steps.LENGTHS[2], "damping": 0.3, "adapted": True},
        **{"steps": 4, "seed": 77},
    },
)
clips = Table(
    "curvature",
    "clips",
    steps.measure_clip,
    {
        "laptop": lambda: [
            {"momentum": momentum, "steps": 60, "batch_size": 512, "seed": seed}
            for momentum in (0.0, 0.9)
            for seed in SEEDS
        ]
    },
    columns=("momentum", "steps", "batch_size", "seed", "median", "largest"),
    probe={"momentum": 0.5, "steps": 5, "batch_size": 64, "seed": 17},
)

"""The noisy quadratic model: which optimiser needs how many steps at which batch size, exactly.

Paper: Zhang et al., Which Algorithmic Choices Matter at Which Batch Sizes? (NeurIPS 2019, arXiv 1907.04164).
Chapter: book/nqm.ipynb.

problem.py   NoisyQuadratic: the spectrum, and few eigenvalues that stand for many
methods.py   SGD, HeavyBall, IterateAverage, Schedule: hyperparameters as frozen records
risk.py      expected_risk = bias + variance / B in closed form, per eigenvalue too; theorems 1 and 2
simulate.py  the same by sampling, on any device
steps.py     steps_to_target: tuned at every batch size; first_passage of one given method
search/      the search behind it, one idea a file
schedule.py  optimal_schedule: the best piecewise constant learning rate
rates.py     the learning rates in it, where the length of the run is given
checks.py    what arguments may be
bounds.py    examples that no method can do without; the line of perfect scaling
critical.py  critical_batch_size in three definitions; gradient_noise_scale
"""

from nnlib.nqm.bounds import examples_lower_bound, perfect_scaling
from nnlib.nqm.critical import (
    Hyperbola,
    NoiseScale,
    critical_batch_size,
    fit_hyperbola,
    gradient_noise_scale,
)
from nnlib.nqm.methods import SGD, HeavyBall, IterateAverage, Schedule, stability_limit
from nnlib.nqm.problem import NoisyQuadratic
from nnlib.nqm.risk import Risk, expected_risk, risk_per_eigenvalue, theorem_bound
from nnlib.nqm.schedule import optimal_schedule
from nnlib.nqm.simulate import simulate
from nnlib.nqm.steps import StepsCurve, first_passage, steps_to_target

__all__ = [
    "SGD",
    "HeavyBall",
    "Hyperbola",
    "IterateAverage",
    "NoiseScale",
    "NoisyQuadratic",
    "Risk",
    "Schedule",
    "StepsCurve",
    "critical_batch_size",
    "examples_lower_bound",
    "expected_risk",
    "first_passage",
    "fit_hyperbola",
    "gradient_noise_scale",
    "optimal_schedule",
    "perfect_scaling",
    "risk_per_eigenvalue",
    "simulate",
    "stability_limit",
    "steps_to_target",
    "theorem_bound",
]

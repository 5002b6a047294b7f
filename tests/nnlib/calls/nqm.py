"""Calls of ``nnlib.nqm``."""

import numpy as np
import torch
from scipy.optimize import bisect

from nnlib.nqm import SGD, HeavyBall, Hyperbola, NoisyQuadratic, Risk, steps_to_target
from tests.oracles.nqm import moment_recursion

PROBLEM = NoisyQuadratic(4)
CURVE = steps_to_target(PROBLEM, HeavyBall, [1, 4, 16, 64], 0.1)
SIZES = CURVE.batch_sizes
RUN = {"problem": PROBLEM, "method": HeavyBall(0.5, 0.5), "steps": torch.tensor([0, 3])}
TUNED = {"method_class": SGD, "target": 0.1, "power": 0.5}
COLUMNS = {"batch_sizes": SIZES, "steps": CURVE.steps, "lr": CURVE.lr, "momentum": CURVE.momentum, "decay": None}

CALLS = {
    "NoisyQuadratic": lambda: {
        "dim": 4, "curvature_exponent": 1.0, "noise_exponent": 0.5, "init_variance": 2.0,
    },
    "NoisyQuadratic.from_spectrum": lambda: {
        "h": torch.tensor([1.0, 0.5]), "c": torch.tensor([0.5, 0.25]), "s0": 2.0,
    },
    "SGD": lambda: {"lr": 0.1, "power": 0.5},
    "HeavyBall": lambda: {"lr": 0.1, "momentum": 0.5, "power": 0.5},
    "IterateAverage": lambda: {"lr": 0.1, "decay": 0.5, "power": 0.5},
    "Schedule": lambda: {"lrs": torch.tensor([0.2, 0.1]), "steps_per_piece": 3, "power": 0.5},
    "stability_limit": lambda: {"problem": PROBLEM, "method": SGD(0.1)},
    "expected_risk": lambda: RUN,
    "risk_per_eigenvalue": lambda: RUN,
    "theorem_bound": lambda: RUN,
    "Risk.at": lambda: {"self": Risk(np.array([1.0, 2.0]), np.array([3.0, 4.0])), "batch_size": 2.0},
    "simulate": lambda: {
        **RUN, "batch_size": 8.0, "runs": 3, "seed": 0, "device": "cpu", "dtype": torch.float64,
    },
    "steps_to_target": lambda: {"problem": PROBLEM, "batch_sizes": torch.tensor([1.0, 64.0]), **TUNED},
    "StepsCurve": lambda: {"problem": PROBLEM, **TUNED, "method_class": HeavyBall, **COLUMNS},
    "StepsCurve.method": lambda: {"self": CURVE, "index": 1},
    "first_passage": lambda: {
        "problem": PROBLEM, "method": SGD(0.5), "batch_size": 64.0, "target": 0.2, "max_steps": 1000,
    },
    "optimal_schedule": lambda: {"problem": PROBLEM, "batch_size": 4.0, "target": 0.1, "pieces": 3, "power": 0.5},
    "examples_lower_bound": lambda: {"problem": PROBLEM, "target": 0.1, "prior": "bayes"},
    "perfect_scaling": lambda: {"problem": PROBLEM, "target": 0.1, "power": 0.5},
    "critical_batch_size": lambda: {"curve": CURVE, "definition": "hyperbola"},
    "fit_hyperbola": lambda: {"curve": CURVE},
    "Hyperbola.steps": lambda: {"self": Hyperbola(2.0, 3.0, 0.0), "batch_sizes": torch.tensor([1.0, 4.0])},
    "gradient_noise_scale": lambda: {**RUN, "batch_size": 8.0},
}  # fmt: skip
ELSEWHERE: dict[str, str] = {}


def _risk(problem, method, steps):
    """Bias and variance, from the recursion at two batch sizes."""
    steps = np.asarray(steps)
    without, ones = (
        moment_recursion(problem, method, batch_size, np.append(steps, 0))[:-1] for batch_size in (np.inf, 1.0)
    )
    return Risk(*(part.reshape(steps.shape)[()] for part in (without, ones - without)))


def _passage(problem, method, batch_size, target, max_steps):
    below = np.flatnonzero(moment_recursion(problem, method, batch_size, np.arange(max_steps + 1)) < target)
    return int(below[0]) if below.size else np.inf


def _examples(problem, target, prior):
    def above(log_n):
        left = problem.h / (1 / problem.s0 + np.exp(log_n) * problem.h**2 / problem.c)
        return left.sum() / 2 - target

    return float(np.exp(bisect(above, -50, 700, xtol=1e-12)))


def _small_batches(problem, target, power):
    tau, h = np.geomspace(1e-3, 1e3, 100_000)[:, None], problem.h
    left = np.exp(-2 * h ** (1 - power) * tau)
    room = target - (h * problem.s0 / 2 * left).sum(1)
    examples = tau[:, 0] * (problem.c * h**-power * (1 - left) / 4).sum(1) / room
    return float(examples[room > 0].min())


ORACLES = {
    "expected_risk": _risk,
    "Risk.at": lambda self, batch_size: self.bias + self.variance / batch_size,
    "first_passage": _passage,
    "examples_lower_bound": _examples,
    "perfect_scaling": _small_batches,
    "Hyperbola.steps": lambda self, batch_sizes: (
        self.floor + self.floor * self.critical / np.asarray(batch_sizes, float)
    ),
}

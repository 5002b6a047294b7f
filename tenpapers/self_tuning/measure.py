"""The experiments of the chapter: tuners beside searches at one budget, schedules beside constants, several starts.

Paper: arXiv 1903.03088, section 4; arXiv 2010.13514, section 5. Chapter: ``book/self_tuning.ipynb``.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from nnlib import training
from nnlib.modes import NonFiniteLoss
from nnlib.self_tuning.batches import mean_loss
from nnlib.self_tuning.response import respond, squared_norm
from nnlib.self_tuning.schedules import replay
from nnlib.self_tuning.train import train
from nnlib.self_tuning.tuner import SelfTuner
from nnlib.training import Split
from tenpapers.self_tuning.controls import Schedule, noisy, sinusoid
from tenpapers.self_tuning.search import METHODS, Watch, search
from tenpapers.self_tuning.workloads import data_of, problem_of

Row = dict[str, Any]

# How many ordinary training steps a tuner's training step is charged, its share of the validation steps included: about
# what the benchmark measures, which depends on network and processor. The table shows the seconds beside it.
CHARGE = {"stn": 3, "delta": 4}
VARIANTS = {"STN": "stn", "Δ-STN": "delta"}
TRAIN_STEPS = {"stn": 2, "delta": 5}  # before each validation step, as the two papers have it
GATE_STD = {"stn": 0.01, "delta": 0.0}  # at the start, as the two papers have it
CONTROL = "Start values"  # one ordinary training as long as the whole budget, at the values where the tuners start
ALL = (*VARIANTS, CONTROL, *METHODS)
LOOKS = 20  # evaluations in one trial; the one run of a tuner, or of the control, has twice as many
POINTS = 10  # of a curve on record


def compare(
    problem: str,
    method: str,
    seed: int = 0,
    trials: int = 10,
    dtype: str = "float32",
    device: str = "cpu",
    steps: int | None = None,
) -> list[Row]:
    """One run of one method within a budget of ``trials`` ordinary trainings.

    A search spends it on trials; a tuner trains once, for as many steps as the budget pays at ``CHARGE``; the control
    trains an ordinary network for all of it, so that what length alone gives can be told from what tuning gives.

    Args:
        problem: One of ``PROBLEMS``.
        method: One of ``ALL``.
        seed: Of the networks' start, batches, masks, perturbations and the values tried.
        trials: Whole trainings that the budget pays for.
        dtype: ``float32`` or ``float64``.
        device: Where to do all this.
        steps: Of one ordinary training, in place of the problem's own.

    Returns:
        A row at each tenth of the budget: ``cost`` (in ordinary training steps), the best ``validation_loss`` so far
        and the ``test_loss`` of that network; in the last one, ``found`` says the values of that network in words, and
        ``took`` the seconds of processor time.
    """
    if method not in ALL:
        raise ValueError(f"method must be one of {', '.join(ALL)}: got {method!r}")
    lab = Lab(problem, seed, dtype, device)
    steps = steps or lab.problem.steps
    budget = trials * steps
    start = time.process_time()
    if method in VARIANTS:
        variant = VARIANTS[method]
        history = lab.tuned(variant, budget // CHARGE[variant], looks=2 * LOOKS)
        looks = [row | {"cost": CHARGE[variant] * row["step"]} for row in looked_at(history)]
    elif method == CONTROL:
        values = {hyper.name: hyper.init for hyper in lab.hypers}
        looks = [row | {"cost": row["step"]} for row in lab.trained(values, budget, looks=2 * LOOKS)]
    else:

        def trial(values: dict[str, float], watch: Watch) -> None:
            lab.trained(values, steps, watch=watch)

        boxes = lab.problem.boxes
        frame = search(method, boxes, trial, trials=trials, steps=steps, seed=seed)
        looks = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    took = time.process_time() - start

    rows = []
    for tenth in range(1, POINTS + 1):
        affordable = [look for look in looks if look["cost"] <= budget * tenth / POINTS]
        if not affordable:
            continue
        best, last = best_of(affordable), tenth == POINTS
        found = ", ".join(f"{hyper.name} {best[hyper.name]:.3g}" for hyper in lab.hypers)
        row = {"cost": budget * tenth // POINTS} | losses_of(best)
        rows.append(row | {"found": found if last else "", "took": took if last else None})
    return rows


def schedules(
    problem: str,
    name: str,
    values: Sequence[float],
    variant: str = "STN",
    seed: int = 0,
    steps: int | None = None,
    dtype: str = "float32",
    hyper_lr: float | None = None,
    device: str = "cpu",
) -> list[Row]:
    """One hyperparameter alone: constant, disturbed, tuned, and its recorded schedule on an ordinary network.

    Args:
        problem: One of ``PROBLEMS``; all hyperparameters but one stay at 0 (for a penalty, near it).
        name: The one.
        values: Constants to try.
        variant: ``STN`` or ``Δ-STN``.
        seed: Of everything drawn.
        steps: Training steps of each network.
        dtype: ``float32`` or ``float64``.
        hyper_lr: In place of the problem's own.
        device: Where to do all this.

    Returns:
        A row a network: ``schedule`` in words, ``value`` (where constant), the best ``validation_loss`` and the
        ``test_loss`` of that moment.
    """
    lab = Lab(problem, seed, dtype, device, only=name)
    n = steps or lab.problem.steps
    rows: list[Row] = []

    def note(schedule: str, looks: list[Row], value: float | None = None) -> None:
        rows.append({"schedule": schedule, "value": value} | losses_of(best_of(looks)))

    for value in values:
        note("constant", lab.trained({name: value}, n), value)
    best = min(rows, key=lambda row: row["validation_loss"])["value"]
    low, high, _ = lab.problem.boxes[name]
    shaken = noisy({name: best}, 0.05, seed, {name: (low, high)})
    note("constant with noise", lab.trained(shaken, n), best)
    waving = sinusoid({name: best}, min(0.1, best), max(4, n // 4))
    note("constant with a wave", lab.trained(waving, n), best)
    history = lab.tuned(VARIANTS[variant], n, LOOKS, hyper_lr)
    note(variant, looked_at(history))
    final = float(history[-1][name])
    note(f"final value of {variant}", lab.trained({name: final}, n), final)
    note(f"replay of {variant}", lab.trained(replay(history, [name]), n))
    return rows


def starts(
    problem: str,
    name: str,
    start: float,
    variant: str = "Δ-STN",
    seed: int = 0,
    steps: int | None = None,
    dtype: str = "float32",
    hyper_lr: float | None = None,
    points: int = 40,
    device: str = "cpu",
) -> list[Row]:
    """The schedule of one hyperparameter from one start, all others at 0.

    Returns:
        About ``points`` rows: ``step``, ``value``, ``sigma``; one row of None where the training diverges.
    """
    lab = Lab(problem, seed, dtype, device, only=name)
    lab.hypers = [replace(hyper, init=start) for hyper in lab.hypers]
    try:
        history = lab.tuned(VARIANTS[variant], steps or lab.problem.steps, 1, hyper_lr)
    except NonFiniteLoss:
        return [{"step": None, "value": None, "sigma": None}]
    thin = history[:: max(1, len(history) // points)]
    return [{"step": row["step"], "value": row[name], "sigma": row[f"sigma {name}"]} for row in thin]


class Lab:
    """One problem at one seed: trains ordinary networks and tuned ones from the same start.

    Args:
        problem: One of ``PROBLEMS``.
        seed: Of everything drawn.
        dtype: ``float32`` or ``float64``.
        device: Where the networks live.
        only: The one hyperparameter that is used; the others are held at 0. None for all.
    """

    def __init__(self, problem: str, seed: int, dtype: str, device: str, only: str | None = None):
        self.problem, self.seed = problem_of(problem), seed
        self.where = {"dtype": getattr(torch, dtype), "device": str(training.device(device))}
        self.data = data_of(problem, **self.where)
        hypers = self.problem.hypers
        if only is not None and only not in [hyper.name for hyper in hypers]:
            raise ValueError(f"name must be one of {', '.join(hyper.name for hyper in hypers)}: got {only!r}")
        self.hypers = [hyper for hyper in hypers if only in (None, hyper.name)]
        self.fixed = {hyper.name: 0.0 for hyper in hypers if hyper not in self.hypers}

    def network(self) -> nn.Module:
        """The network that every run starts from."""
        return self.problem.build(seed=self.seed, **self.where)

    def trained(
        self, schedule: Mapping[str, float] | Schedule, steps: int, looks: int = LOOKS, watch: Watch | None = None
    ) -> list[Row]:
        """An ordinary network at constant or scheduled values: a row for each look at its losses."""
        problem, network, every = self.problem, self.network(), max(1, steps // looks)
        seen = 0

        def evaluate(network: nn.Module) -> dict[str, float]:
            nonlocal seen
            seen += 1
            found = self._losses(lambda split: mean_loss(network, problem.whole(split), problem.validation_loss))
            if watch is not None:
                watch(min(steps, every * seen), found)
            return found

        return train(
            network,
            problem.training_loss(lambda: squared_norm(network)),
            problem.stream(self.data.train, self.seed),
            self._with_fixed(schedule),
            steps=steps,
            lr=problem.lr,
            optimizer=problem.optimizer,
            clip=problem.clip,
            evaluate=evaluate,
            evaluate_every=every,
            seed=self.seed,
        )

    def tuned(self, variant: str, steps: int, looks: int, hyper_lr: float | None = None) -> list[Row]:
        """The history of a self-tuning network: about ``looks`` of its rows hold a look at its losses."""
        problem = self.problem
        model = respond(self.network(), self.hypers, fixed=self.fixed, gate_std=GATE_STD[variant], seed=self.seed)
        tuner = SelfTuner(
            model,
            problem.training_loss(model.squared_norm),
            problem.validation_loss,
            variant=variant,
            lr=problem.lr,
            hyper_lr=hyper_lr or problem.hyper_lr,
            optimizer=problem.optimizer,
            sigma=problem.sigma,
            entropy=problem.entropy,
            train_steps=TRAIN_STEPS[variant],
            warm_up=problem.warm_up,
            clip=problem.clip,
            seed=self.seed,
        )
        every, seen = max(1, max(1, steps // TRAIN_STEPS[variant]) // looks), 0

        def evaluate(tuner: SelfTuner) -> dict[str, float]:
            nonlocal seen
            seen += 1
            return {} if seen % every else self._losses(lambda split: tuner.loss(problem.whole(split)))

        streams = [problem.stream(part, self.seed) for part in (self.data.train, self.data.validation)]
        return tuner.fit(*streams, steps=steps, evaluate=evaluate)

    def _losses(self, measure: Callable[[Split], float]) -> dict[str, float]:
        return {"validation_loss": measure(self.data.validation), "test_loss": measure(self.data.test)}

    def _with_fixed(self, schedule: Mapping[str, float] | Schedule) -> Mapping[str, float] | Schedule:
        return (lambda step: self.fixed | schedule(step)) if callable(schedule) else {**self.fixed, **schedule}


def looked_at(history: list[Row]) -> list[Row]:
    """The rows of a tuner's history that hold a look at its losses."""
    return [row for row in history if "test_loss" in row]


def best_of(looks: list[Row]) -> Row:
    """The look of lowest validation loss."""
    return min(looks, key=lambda row: math.inf if math.isnan(row["validation_loss"]) else row["validation_loss"])


def losses_of(look: Row) -> dict[str, float]:
    """Both losses of a look."""
    return {key: float(look[key]) for key in ("validation_loss", "test_loss")}

"""The experiments of the chapter: tuners beside searches at one budget, schedules beside constants, several starts.

Paper: arXiv 1903.03088, section 4; arXiv 2010.13514, section 5. Chapter: ``book/self_tuning.ipynb``.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import nn

from nnlib.self_tuning.response import respond
from nnlib.self_tuning.train import mean_loss, noisy, replay, sinusoid, squared_norm, train
from nnlib.self_tuning.tuner import SelfTuner
from tenpapers.self_tuning.search import METHODS, Watch, search
from tenpapers.self_tuning.workloads import Problem, data_of, problem_of

# How many ordinary training steps a tuner's training step is charged, its share of the validation steps included: about
# what the benchmark measures, which depends on network and processor. The table shows the seconds beside it.
CHARGE = {"stn": 3, "delta": 4}
VARIANTS = {"STN": "stn", "Δ-STN": "delta"}
TRAIN_STEPS = {"stn": 2, "delta": 5}  # before each validation step, as the two papers have it
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
) -> list[dict[str, Any]]:
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
    w, steps = problem_of(problem), steps or problem_of(problem).steps
    run = _Run(problem, seed, getattr(torch, dtype), device)
    start = time.process_time()
    if method in VARIANTS:
        variant = VARIANTS[method]
        n = trials * steps // CHARGE[variant]
        frame = run.tuned(variant, n, LOOKS * 2).assign(cost=lambda rows: rows.step * CHARGE[variant])
    elif method == CONTROL:
        start_values = {hyper.name: hyper.init for hyper in w.hypers}
        frame = run.trained(start_values, trials * steps, LOOKS * 2).assign(cost=lambda rows: rows.step)
    else:

        def trial(values: dict[str, float], watch: Watch) -> None:
            run.trained(values, steps, watch=watch)

        frame = search(method, w.boxes, trial, trials=trials, steps=steps, seed=seed)
    took = time.process_time() - start
    names, rows = [hyper.name for hyper in w.hypers], []
    for i in range(1, POINTS + 1):
        done = frame[frame.cost <= trials * steps * i / POINTS]
        if done.empty:
            continue
        best = done.loc[done.validation_loss.idxmin()]
        row = {"cost": trials * steps * i // POINTS}
        row |= {"validation_loss": float(best.validation_loss), "test_loss": float(best.test_loss)}
        last = i == POINTS
        row["found"] = ", ".join(f"{name} {best[name]:.3g}" for name in names) if last else ""
        rows.append(row | {"took": took if last else None})
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
) -> list[dict[str, Any]]:
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

    Returns:
        A row a network: ``schedule`` in words, ``value`` (where constant), the best ``validation_loss`` and the
        ``test_loss`` of that moment.
    """
    w, steps = problem_of(problem), steps or problem_of(problem).steps
    run = _Run(problem, seed, getattr(torch, dtype), "cpu", only=name)
    rows = []

    def note(schedule: str, frame: pd.DataFrame, value: float | None = None) -> None:
        best = frame.loc[frame.validation_loss.idxmin()]
        found = {"validation_loss": float(best.validation_loss), "test_loss": float(best.test_loss)}
        rows.append({"schedule": schedule, "value": value} | found)

    for value in values:
        note("constant", run.trained({name: value}, steps), value)
    best = min(rows, key=lambda row: row["validation_loss"])["value"]
    low, high, _ = w.boxes[name]
    note("constant with noise", run.trained(noisy({name: best}, 0.05, seed, {name: (low, high)}), steps), best)
    note("constant with a wave", run.trained(sinusoid({name: best}, min(0.1, best), max(4, steps // 4)), steps), best)
    tuned = run.tuned(VARIANTS[variant], steps, LOOKS, hyper_lr)
    note(variant, tuned)
    final = float(run.history[name].iloc[-1])
    note(f"final value of {variant}", run.trained({name: final}, steps), final)
    note(f"replay of {variant}", run.trained(replay(run.history.to_dict("records"), [name]), steps))
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
) -> list[dict[str, Any]]:
    """The schedule of one hyperparameter from one start, all others at 0.

    Returns:
        About ``points`` rows: ``step``, ``value``, ``sigma``.
    """
    run = _Run(problem, seed, getattr(torch, dtype), "cpu", only=name)
    run.tuned(VARIANTS[variant], steps or run.problem.steps, 1, hyper_lr, start)
    thin = run.history.iloc[:: max(1, len(run.history) // points)]
    return [{"step": int(r["step"]), "value": r[name], "sigma": r[f"sigma {name}"]} for r in thin.to_dict("records")]


class _Run:
    """One problem at one seed: trains ordinary networks and tuned ones from the same start."""

    def __init__(self, name: str, seed: int, dtype: torch.dtype, device: str, only: str | None = None):
        self.problem: Problem = problem_of(name)
        self.data, self.seed = data_of(name, dtype, device), seed
        self.where = {"dtype": dtype, "device": device}
        if only is not None and only not in self.problem.boxes:
            raise ValueError(f"name must be one of {', '.join(self.problem.boxes)}: got {only!r}")
        self.hypers = [hyper for hyper in self.problem.hypers if only in (None, hyper.name)]
        self.fixed = {hyper.name: 0.0 for hyper in self.problem.hypers if hyper not in self.hypers}

    def losses(self, measure) -> dict[str, float]:
        return {f"{part}_loss": measure(getattr(self.data, part)) for part in ("validation", "test")}

    def trained(self, schedule, steps: int, looks: int = LOOKS, watch: Watch | None = None) -> pd.DataFrame:
        """An ordinary network at constant or scheduled values."""
        w = self.problem
        network = w.build(seed=self.seed, **self.where)
        constant = schedule if callable(schedule) else lambda step: schedule
        rows: list[int] = []

        def evaluate(network: nn.Module) -> dict[str, float]:
            found = self.losses(lambda split: mean_loss(network, w.whole(split), w.validation_loss))
            rows.append(min(steps, every * (len(rows) + 1)))
            if watch is not None:
                watch(rows[-1], found)
            return found

        every = max(1, steps // looks)
        options = {"steps": steps, "lr": w.lr, "clip": w.clip, "seed": self.seed, "evaluate_every": every}
        loss = w.training_loss(lambda: squared_norm(network))
        schedule = (lambda step: self.fixed | constant(step)) if callable(schedule) else self.fixed | schedule
        stream = w.stream(self.data.train, self.seed)
        return pd.DataFrame(train(network, loss, stream, schedule, evaluate=evaluate, **options))

    def tuned(
        self, variant: str, steps: int, looks: int, hyper_lr: float | None = None, start: float | None = None
    ) -> pd.DataFrame:
        """A self-tuning network; the rows of its history that hold an evaluation. ``history`` keeps all."""
        w = self.problem
        hypers = self.hypers if start is None else [replace(self.hypers[0], init=start)]
        network = w.build(seed=self.seed, **self.where)
        model = respond(network, hypers, fixed=self.fixed, gate_std=0.01 if variant == "stn" else 0.0, seed=self.seed)
        settings = {"lr": w.lr, "hyper_lr": hyper_lr or w.hyper_lr, "clip": w.clip, "seed": self.seed}
        settings |= {"sigma": w.sigma, "entropy": w.entropy, "warm_up": w.warm_up}
        loss = w.training_loss(model.squared_norm)
        tuner = SelfTuner(model, loss, w.validation_loss, variant=variant, train_steps=TRAIN_STEPS[variant], **settings)
        rows = max(1, steps // TRAIN_STEPS[variant])
        every, seen = max(1, rows // looks), [0]

        def evaluate(tuner: SelfTuner) -> dict[str, float]:
            seen[0] += 1
            if seen[0] % every:
                return {}
            return self.losses(lambda split: tuner.loss(w.whole(split)))

        streams = [w.stream(part, self.seed) for part in (self.data.train, self.data.validation)]
        self.history = pd.DataFrame(tuner.fit(*streams, steps=steps, evaluate=evaluate))
        return self.history.dropna(subset=["validation_loss", "test_loss"])

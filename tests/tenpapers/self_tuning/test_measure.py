"""The experiments: budgets, what a row says, the same start for all, and the first steps of the paper's networks."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from nnlib.training import Dataset, Split
from tenpapers.self_tuning import measure, runs, workloads
from tenpapers.self_tuning.networks import LanguageModel, alexnet, mlp, small_cnn
from tests.devices import same_without_a_default_device


def images(shape, n=24):
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    return Split(x, torch.arange(n) % 10)


def text(vocabulary, n=120):
    ids = torch.randint(vocabulary, (n + 1,), generator=torch.Generator().manual_seed(0))
    return Split(ids[:-1], ids[1:])


@pytest.fixture
def briefly(monkeypatch):
    """Every problem on a handful of examples; the paper's two large networks are narrow."""
    shapes = {"CIFAR": (3, 32, 32), "digits": (1, 8, 8), "MNIST (paper)": (1, 28, 28), "MNIST": (1, 14, 14)}
    for name, problem in workloads.PROBLEMS.items():
        if problem.window:
            part = text(60)
        else:
            part = images(next(shape for key, shape in shapes.items() if key in name))
        data = Dataset(part, part, part, {}, "noise", "")
        short = {"data": lambda data=data: data, "batch_size": 4, "warm_up": 0, "window": min(problem.window, 5)}
        if name.startswith("AlexNet"):
            short["build"] = partial(alexnet, width=1 / 8)
        if name == "LSTM, words (paper)":
            short["build"] = partial(LanguageModel, 60, 65)
        monkeypatch.setitem(workloads.PROBLEMS, name, replace(problem, **short))
    workloads.data_of.cache_clear()
    yield
    workloads.data_of.cache_clear()


@pytest.mark.parametrize("problem", runs.PAPER)
@pytest.mark.parametrize("method", ["STN", "Δ-STN", "Random search"])
def test_the_papers_networks_go_through_the_same_code(problem, method, briefly):
    rows = measure.compare(problem, method, trials=6, steps=4)
    assert (
        rows[-1]["validation_loss"] > 0 and rows[-1]["found"].count(",") == len(workloads.PROBLEMS[problem].hypers) - 1
    )


@pytest.mark.parametrize("method", measure.ALL)
def test_a_row_holds_the_best_so_far_within_its_part_of_the_budget(method, briefly):
    rows = measure.compare("MLP, digits", method, trials=5, steps=12, dtype="float64")
    assert [row["cost"] for row in rows] == [6 * i for i in range(11 - len(rows), 11)]
    losses = [row["validation_loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert rows[-1]["took"] > 0 and all(row["took"] is None for row in rows[:-1])
    again = measure.compare("MLP, digits", method, trials=5, steps=12, dtype="float64")
    assert [row["validation_loss"] for row in again] == losses


@pytest.mark.parametrize("variant", measure.CHARGE)
def test_a_tuner_takes_as_many_steps_as_the_budget_pays(variant, briefly, monkeypatch):
    taken = []
    kept = measure.SelfTuner.fit
    monkeypatch.setattr(
        measure.SelfTuner, "fit", lambda self, *a, **k: (taken.append(k["steps"]), kept(self, *a, **k))[1]
    )
    name = {v: k for k, v in measure.VARIANTS.items()}[variant]
    measure.compare("MLP, digits", name, trials=5, steps=12)
    assert taken == [60 // measure.CHARGE[variant]]


def test_the_control_trains_one_ordinary_network_for_the_whole_budget(briefly, monkeypatch):
    taken = []
    kept = measure.train
    monkeypatch.setattr(measure, "train", lambda *a, **k: (taken.append((a[3], k["steps"])), kept(*a, **k))[1])
    rows = measure.compare("MLP, digits", measure.CONTROL, trials=5, steps=12)
    assert taken == [({hyper.name: hyper.init for hyper in workloads.OF_MLP}, 60)]
    assert rows[-1]["cost"] == 60 and "dropout 1 0.05" in rows[-1]["found"]


@pytest.mark.parametrize("method", measure.ALL)
def test_all_methods_start_from_the_same_network(method, briefly, monkeypatch):
    """Breaks if a search drew its networks' start from the values that it tries, or a tuner from its own generator."""
    made, problem = [], workloads.PROBLEMS["CNN, digits"]

    def build(**where):
        made.append(problem.build(**where))
        return made[-1]

    monkeypatch.setitem(workloads.PROBLEMS, "CNN, digits", replace(problem, build=build, lr=1e-12))
    measure.compare("CNN, digits", method, seed=3, trials=4, steps=4)
    expected = problem.build(seed=3, dtype=torch.float32, device="cpu")
    assert made
    for network in made:  # after steps that do not move it
        torch.testing.assert_close(list(network.parameters()), list(expected.parameters()), rtol=0, atol=1e-6)


def test_a_study_has_every_kind_and_replays_what_the_tuner_did(briefly, monkeypatch):
    played, histories, train, fit = [], [], measure.train, measure.SelfTuner.fit
    monkeypatch.setattr(measure, "train", lambda *a, **k: (played.append(a[3]), train(*a, **k))[1])
    monkeypatch.setattr(measure.SelfTuner, "fit", lambda *a, **k: (histories.append(fit(*a, **k)), histories[-1])[1])
    rows = measure.schedules("MLP, digits", "dropout 1", [0.0, 0.4], steps=40, dtype="float64")
    names = [row["schedule"] for row in rows]
    assert names[:2] == ["constant", "constant"] and rows[0]["value"] == 0.0
    assert names[2:] == ["constant with noise", "constant with a wave", "STN", "final value of STN", "replay of STN"]
    (history,) = histories
    final = history[-1]["dropout 1"]
    assert 0 < final < 0.9 and rows[-2]["value"] == final and played[-2]["dropout 1"] == final
    steps = [row["step"] for row in history]
    replayed = [played[-1](step - 1)["dropout 1"] for step in steps]
    assert (
        steps == list(range(2, 41, 2)) and replayed == [row["dropout 1"] for row in history] and len(set(replayed)) > 1
    )
    assert played[-1](0)["weight decay"] == 0.0


def test_only_the_named_hyperparameter_moves_and_the_others_are_at_zero(briefly):
    rows = measure.starts("MLP, digits", "dropout 1", 0.5, "STN", steps=40)
    assert rows[0]["value"] == pytest.approx(0.5) and rows[-1]["value"] != rows[0]["value"]
    lab = measure.Lab("MLP, digits", 0, "float32", "cpu", only="dropout 1")
    assert lab.fixed == {"input dropout": 0.0, "dropout 2": 0.0, "weight decay": 0.0}
    with pytest.raises(ValueError, match="name must be one of"):
        measure.starts("MLP, digits", "rate", 0.5)


def test_cells_ask_for_every_method_and_seed():
    for profile, budgets in (("laptop", runs.LAPTOP), ("paper", runs.PAPER)):
        cells = runs.budget.declared(profile)
        asked = {(cell["problem"], cell["method"], cell["seed"]) for cell in cells}
        assert asked == {(name, m, s) for name, given in budgets.items() for m in measure.ALL for s in given.seeds}
        assert all(cell["trials"] == budgets[cell["problem"]].trials for cell in cells)
        assert {cell["problem"] for cell in runs.schedules.declared(profile)} <= set(budgets)
    assert [cell["seed"] for cell in runs.schedules.declared("laptop")] == [0, 1, 2] * len(runs.STUDIES)
    assert len(runs.starts.declared("laptop")) == 2 * len(runs.STARTS)


def test_a_start_from_which_training_diverges_is_a_row_without_numbers(briefly, monkeypatch):
    problem = workloads.PROBLEMS["MLP, digits"]
    monkeypatch.setitem(workloads.PROBLEMS, "MLP, digits", replace(problem, lr=1e30))
    rows = measure.starts("MLP, digits", "dropout 1", 0.5, "STN", steps=40)
    assert rows == [{"step": None, "value": None, "sigma": None}]


def test_a_run_is_measured_on_the_part_that_it_says(briefly, monkeypatch):
    """Breaks if the validation loss, by which the best network is chosen, were reported as the test loss."""
    problem = workloads.PROBLEMS["MLP, digits"]
    network = problem.build(seed=0, dtype=torch.float64).eval()
    part = images((1, 8, 8)).x
    likely, unlikely = (Split(part, choice(network(part.double()), 1)) for choice in (torch.argmax, torch.argmin))
    data = Dataset(likely, unlikely, likely, {}, "noise", "")
    monkeypatch.setitem(workloads.PROBLEMS, "MLP, digits", replace(problem, data=lambda: data, lr=1e-12))
    expected = [cross_entropy(network(part.double()), split.y).item() for split in (unlikely, likely)]
    for method in measure.ALL:
        row = measure.compare("MLP, digits", method, trials=5, steps=12, dtype="float64")[-1]
        # STN's gates are not zero at the start
        assert [row["validation_loss"], row["test_loss"]] == pytest.approx(
            expected, rel=0.05 if method == "STN" else 1e-6
        )


def test_the_papers_language_model_is_trained_without_momentum_and_the_small_networks_with_it():
    momenta = {
        name: problem.optimizer([torch.zeros(1)], lr=1.0).defaults["momentum"]
        for name, problem in workloads.PROBLEMS.items()
    }
    assert momenta.pop("LSTM, words (paper)") == 0 and set(momenta.values()) == {0.9}


def test_an_unknown_problem_or_method_is_refused():
    with pytest.raises(ValueError, match="problem must be one of MLP, digits"):
        measure.compare("digits", "STN")
    with pytest.raises(ValueError, match="method must be one of STN"):
        measure.compare("MLP, digits", "PBT")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_are_made_where_they_are_asked_for(dtype):
    def compute():
        where = {"seed": 1, "device": "cpu", "dtype": dtype}
        made = [mlp((6, 4, 3), **where), small_cnn(**where), LanguageModel(9, 4, **where)]
        return {str(i): [p.detach() for p in network.parameters()] for i, network in enumerate(made)}

    assert all(p.dtype == dtype for found in same_without_a_default_device(compute).values() for p in found)

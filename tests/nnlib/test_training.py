"""Claims about ``nnlib.training``: the steps are those of the definition, seeded, resumable, and it fails aloud."""

import copy
import dataclasses
import math
import os

import pandas as pd
import pytest
import torch
from torch import nn

from nnlib.models import MLP
from nnlib.modes import NonFiniteLoss
from nnlib.training import Dataset, Split, device, evaluate, fit


@pytest.fixture
def data():
    """Three noisy clouds in the plane, float64; 50 examples do not divide by the batch sizes used."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(70) % 3
    x = torch.randn(70, 2, dtype=torch.float64, generator=draw) + torch.eye(3, 2, dtype=torch.float64)[y] * 2
    train, validation, test = (Split(*pair) for pair in zip(x.split((50, 10, 10)), y.split((50, 10, 10)), strict=True))
    return Dataset(train, validation, test, {}, "clouds", "none")


def network(seed=0):
    return MLP([2, 8, 3], seed=seed, dtype=torch.float64)


OPTIMIZERS = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
}


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(data, name="sgd", *, seed=0, model=None, **options):
    model = model or network()
    options = {"batch_size": 16, "steps": 20} | options
    return model, fit(model, data, OPTIMIZERS[name](model), seed=seed, progress=False, **options)


def test_sgd_steps_are_those_of_the_definition(data):
    """An oracle by hand: permutation, batches of exactly B with the remainder left out, theta - lr * gradient."""
    model, _ = train(data, steps=7)
    oracle, generator, batches = network(), torch.Generator().manual_seed(0), []
    for _ in range(3):
        order = torch.randperm(50, generator=generator)
        batches += [order[0:16], order[16:32], order[32:48]]
    for batch in batches[:7]:
        loss = nn.functional.cross_entropy(oracle(data.train.x[batch]), data.train.y[batch])
        gradients = torch.autograd.grad(loss, list(oracle.parameters()))
        with torch.no_grad():
            for p, g in zip(oracle.parameters(), gradients, strict=True):
                p -= 0.1 * g
    torch.testing.assert_close(weights(model), weights(oracle), rtol=0, atol=1e-15)


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_average_starts_at_the_first_iterate_and_takes_the_new_one_at_once(data, decay):
    """xbar_0 = theta_0, xbar' = decay xbar + (1 - decay) theta': fails for a late start or bias correction."""
    path = [weights(network())]
    for steps in range(1, 6):
        path.append(weights(train(data, steps=steps)[0]))
    expected = path[0]
    for theta in path[1:]:
        expected = decay * expected + (1 - decay) * theta
    _, history = train(data, steps=5, decays=[decay, 0.99])
    torch.testing.assert_close(weights(history.averages[decay]), expected, rtol=0, atol=1e-14)


def test_averaging_does_not_change_the_iterates(data):
    plain, averaged = train(data)[0], train(data, decays=[0.9])[0]
    assert torch.equal(weights(plain), weights(averaged))


def test_same_seed_same_run_and_another_seed_another(data):
    first, again, other = (weights(train(data, seed=s)[0]) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_run_does_not_touch_the_global_generator(data):
    model = network()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(data, model=model)
    assert torch.equal(before, torch.get_rng_state())


def test_epochs_are_whole_passes_and_measured_at_their_ends(data):
    _, history = train(data, steps=None, epochs=4)
    assert history.steps == 4 * (50 // 16)
    assert sorted(set(pd.DataFrame(history.rows).step)) == [3, 6, 9, 12]


def test_history_holds_what_evaluate_says_of_the_final_model(data):
    model, history = train(data, decays=[0.9], evaluate_at=[0, 20])
    last = pd.DataFrame(history.rows)[pd.DataFrame(history.rows).step == 20].set_index(["decay", "split"])
    assert last.loc[(0.0, "train"), "loss"] == evaluate(model, data.train)["loss"]
    assert last.loc[(0.9, "validation"), "loss"] == evaluate(history.averages[0.9], data.validation)["loss"]
    first = pd.DataFrame(history.rows)[pd.DataFrame(history.rows).step == 0].set_index(["decay", "split"])
    assert first.loc[(0.0, "train"), "loss"] == evaluate(network(), data.train)["loss"]


def test_evaluate_is_the_mean_over_the_split_whatever_the_chunks(data):
    # Weighted by chunk size: an unweighted mean over chunks of 10,000 and 5 would be off.
    x = data.train.x.repeat(201, 1)[:10_005]
    y = data.train.y.repeat(201)[:10_005]
    model = network()
    result = evaluate(model, Split(x, y))
    assert result["loss"] == pytest.approx(nn.functional.cross_entropy(model(x), y).item(), rel=1e-12)
    assert result["accuracy"] == pytest.approx((model(x).argmax(1) == y).double().mean().item(), rel=1e-12)


def test_evaluate_measures_in_evaluation_mode_and_restores_the_mode_of_every_module(data):
    """A frozen BatchNorm in a network that trains must stay frozen."""
    model = nn.Sequential(nn.BatchNorm1d(2, dtype=torch.float64).eval(), nn.Dropout(0.9), network())
    assert evaluate(model, data.train) == evaluate(model, data.train)
    assert model.training and model[1].training and not model[0].training


def test_real_targets_have_no_accuracy(data):
    regression = Split(data.train.x, data.train.x[:, :1] * 2)
    assert set(evaluate(nn.Linear(2, 1, dtype=torch.float64), regression, nn.functional.mse_loss)) == {"loss"}


def test_stop_ends_training_at_the_evaluation_that_asks_for_it(data):
    _, history = train(data, steps=500, evaluate_at=range(0, 501, 5), stop=lambda rows: rows[0]["loss"] < 0.5)
    losses = pd.DataFrame(history.rows)[pd.DataFrame(history.rows).split == "train"].set_index("step").loss
    assert 0 < history.steps < 500 and history.steps == losses.index[-1]
    assert losses.iloc[-1] < 0.5 and (losses.iloc[:-1] >= 0.5).all()


def test_model_keeps_the_weights_of_lowest_validation_loss(data):
    # A large step size makes the loss go up and down, so that the best is not the last.
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
    history = fit(model, data, optimizer, batch_size=5, steps=60, evaluate_at=range(61), keep_best=True, progress=False)
    losses = pd.DataFrame(history.rows)[pd.DataFrame(history.rows).split == "validation"].set_index("step").loss
    assert history.best_step == losses.idxmin() != 60
    assert evaluate(model, data.validation)["loss"] == losses.min()


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("cut", [1, 9, 10, 11, 12, 19])
def test_resumed_run_equals_an_unbroken_one_bit_by_bit(data, tmp_path, name, cut):
    """Cut in the middle of an epoch, at its end, on a checkpoint and between two; then go on with a fresh model."""
    options = {"decays": [0.5, 0.9], "evaluate_at": range(0, 21), "keep_best": True}
    unbroken, history = train(data, name, **options)

    def interrupt(rows):
        if rows[0]["step"] == cut:
            raise Interrupted
        return False

    saving = options | {"checkpoint": tmp_path / "run.pt", "checkpoint_every": 5}
    with pytest.raises(Interrupted):
        train(data, name, stop=interrupt, **saving)
    resumed, history_again = train(data, name, model=network(seed=99 if cut >= 5 else 0), **saving)
    assert torch.equal(weights(unbroken), weights(resumed))
    pd.testing.assert_frame_equal(pd.DataFrame(history.rows), pd.DataFrame(history_again.rows), check_exact=True)
    assert history.best_step == history_again.best_step
    for decay in (0.5, 0.9):
        assert torch.equal(weights(history.averages[decay]), weights(history_again.averages[decay]))


def test_finished_run_is_read_back_and_not_repeated(data, tmp_path):
    model, history = train(data, checkpoint=tmp_path / "run.pt")
    again = network(seed=7)
    before = os.stat(tmp_path / "run.pt").st_mtime_ns
    _, history_again = train(data, model=again, checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(model), weights(again))
    pd.testing.assert_frame_equal(pd.DataFrame(history.rows), pd.DataFrame(history_again.rows))
    assert os.stat(tmp_path / "run.pt").st_mtime_ns == before


def test_finished_run_can_be_made_longer(data, tmp_path):
    train(data, steps=20, evaluate_at=[], checkpoint=tmp_path / "run.pt")
    longer, _ = train(data, steps=33, evaluate_at=[], checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(longer), weights(train(data, steps=33, evaluate_at=[])[0]))


def test_stopped_run_stays_stopped_when_read_back(data, tmp_path):
    options = {"evaluate_at": range(21), "stop": lambda rows: rows[0]["step"] == 7, "checkpoint": tmp_path / "run.pt"}
    assert [train(data, **options)[1].steps for _ in range(2)] == [7, 7]


def scheduled(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)


def test_schedule_is_stepped_once_a_step(data):
    """Against the definition: the rates of a run are those of the schedule. Breaks if it is stepped by epochs."""
    model = network()
    optimizer, schedule = scheduled(model)
    rates = []
    optimizer.register_step_pre_hook(lambda made, *_: rates.append(made.param_groups[0]["lr"]))
    fit(model, data, optimizer, batch_size=16, steps=20, schedule=schedule, progress=False)
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 20)) for step in range(20)])


def test_resumed_run_with_a_schedule_and_dropout_equals_an_unbroken_one(data, tmp_path):
    """Cut between two saves. Breaks if the schedule's step or the state of the global generator is not kept."""

    def run(model, seed, **options):
        torch.manual_seed(seed)  # what dropout draws from
        optimizer, schedule = scheduled(model)
        return fit(model, data, optimizer, batch_size=16, steps=20, schedule=schedule, progress=False, **options)

    def with_dropout():
        return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double()

    def interrupt(rows):
        if rows[0]["step"] == 13:
            raise Interrupted

    first = with_dropout()
    start = copy.deepcopy(first)
    run(first, 3)
    saving = {"checkpoint": tmp_path / "run.pt", "checkpoint_every": 5}
    with pytest.raises(Interrupted):
        run(copy.deepcopy(start), 3, stop=interrupt, evaluate_at=range(21), **saving)
    resumed = with_dropout()
    run(resumed, 4, evaluate_at=range(21), **saving)
    assert torch.equal(weights(first), weights(resumed)) and not torch.equal(weights(first), weights(start))


def test_checkpoint_that_has_taken_more_steps_is_refused(data, tmp_path):
    """A result after 20 steps is no result after 10."""
    train(data, steps=20, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"run.pt has taken 20 steps, more than the 10 asked for"):
        train(data, steps=10, checkpoint=tmp_path / "run.pt")


@pytest.mark.parametrize("content", ["cut off", "empty", "text", "another file of torch"])
def test_file_that_is_no_checkpoint_is_named(data, tmp_path, content):
    path = tmp_path / "run.pt"
    train(data, steps=2, checkpoint=path)
    if content == "another file of torch":
        torch.save({"weights": torch.ones(2)}, path)
    else:
        path.write_bytes({"cut off": path.read_bytes()[:-100], "empty": b"", "text": b"not a file of torch"}[content])
    with pytest.raises(ValueError, match=r"run.pt is no whole checkpoint"):
        train(data, checkpoint=path)


def test_checkpoint_of_another_learning_rate_is_refused(data, tmp_path):
    train(data, "sgd", checkpoint=tmp_path / "run.pt")
    model = network()
    with pytest.raises(ValueError, match=r"'lr': 0.1.* choose another file"):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        fit(model, data, optimizer, batch_size=16, steps=20, checkpoint=tmp_path / "run.pt", progress=False)


CLASSES = torch.tensor([[2.0, -1.0], [-1.0, 2.0], [2.0, -1.0], [-1.0, 2.0]])  # (4, 2): scores of a perfect classifier


@pytest.mark.parametrize(
    ("outputs", "y", "accuracy"),
    [
        (CLASSES, torch.tensor([0, 1, 0, 1]), 1.0),
        (CLASSES, torch.tensor([[0], [1], [0], [1]]), None),  # a column: n x n comparisons if it were broadcast
        (CLASSES[:, :1], torch.tensor([0, 1, 0, 1]), None),  # one logit has no largest
        (CLASSES[:, :, None, None].expand(4, 2, 5, 5), torch.tensor([0, 1, 0, 0])[:, None, None].expand(4, 5, 5), 0.75),
        (CLASSES, torch.tensor([0.0, 1, 0, 1]), None),
    ],
)
def test_accuracy_is_a_share_of_labels_or_not_given(outputs, y, accuracy):
    """Breaks if labels are broadcast against predictions, or whole maps are counted as one label."""
    found = evaluate(nn.Identity(), Split(outputs, y), loss=lambda outputs, targets: outputs.mean())
    assert found.get("accuracy") == accuracy


def test_empty_split_is_left_out_and_never_divided_by(data):
    model, nothing = network(), Split(torch.empty(0, 2).double(), torch.empty(0, dtype=torch.long))
    without = Dataset(data.train, nothing, nothing, {}, "clouds", "none")
    _, history = train(without, model=model)
    assert {row["split"] for row in history.rows} == {"train"}
    with pytest.raises(ValueError, match="keep_best needs a validation split"):
        train(without, keep_best=True)
    with pytest.raises(ValueError, match="at least one: got 0 and 0"):
        evaluate(model, nothing)


@pytest.mark.parametrize("change", [{"batch_size": 10}, {"seed": 1}, {"decays": [0.5]}])
def test_checkpoint_of_another_run_is_refused(data, tmp_path, change):
    train(data, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"run.pt was made with .* choose another file"):
        train(data, checkpoint=tmp_path / "run.pt", **change)


def test_interruption_while_saving_leaves_the_old_checkpoint_whole(data, tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    train(data, steps=10, checkpoint=path)
    before = path.read_bytes()

    def half(state, file):
        file.write_bytes(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        train(data, steps=20, checkpoint=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("look_every", ["each step", "late"])
def test_first_non_finite_loss_is_named(data, monkeypatch, look_every):
    """The losses of a diverging run are 1 at steps 1 to 6 and infinite from 7 on, looked at early or late."""
    if look_every == "late":  # as on a GPU, where looking at each step would make the program wait
        monkeypatch.setattr("nnlib.descent.LOOK_EVERY", {"cpu": 100})
    calls = []

    def loss(outputs, targets):
        calls.append(1)
        return outputs.sum() * 0 + (float("inf") if len(calls) >= 7 else 1.0)

    with pytest.raises(NonFiniteLoss, match="inf at step 7") as caught:
        train(data, loss=loss, evaluate_at=[])
    assert caught.value.step == 7


def test_non_finite_run_does_not_overwrite_the_last_good_checkpoint(data, tmp_path):
    model = network()
    train(data, steps=5, model=model, checkpoint=tmp_path / "run.pt", evaluate_at=[])
    good = (tmp_path / "run.pt").read_bytes()
    bad = copy.deepcopy(data)
    bad.train.x.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="step 6"):
        train(bad, steps=20, model=model, checkpoint=tmp_path / "run.pt", checkpoint_every=1, evaluate_at=[])
    assert (tmp_path / "run.pt").read_bytes() == good


REFUSED = [
    ({"batch_size": 0}, "batch_size must be a whole number from 1 to 50: got 0"),
    ({"batch_size": 51}, "from 1 to 50: got 51"),
    ({"batch_size": 2.0}, "batch_size must be int: got 2.0"),
    ({"steps": None}, "either steps or epochs"),
    ({"epochs": 3}, "either steps or epochs"),
    ({"steps": -1}, "steps must be a whole number of at least 0: got -1"),
    ({"steps": None, "epochs": -1}, "epochs must be a whole number of at least 0: got -1"),
    ({"steps": math.nan}, "steps must be int or None: got nan"),
    ({"steps": True}, "steps must be a whole number"),
    ({"loss": "mse"}, "loss must be Callable: got 'mse'"),
    ({"loss": nn.CrossEntropyLoss}, "loss must be a function, not a class"),
    ({"stop": dict}, "stop must be a function, not a class"),
    ({"seed": -1}, "seed must be a whole number from 0"),
    ({"seed": "a"}, "seed must be int"),
    ({"decays": [1.0]}, r"decays must be a number in \(0, 1\): got 1.0"),
    ({"decays": [0.0]}, r"decays must be a number in \(0, 1\): got 0.0"),
    ({"decays": [math.nan]}, r"decays must be a number in \(0, 1\): got nan"),
    ({"decays": 0.9}, "decays must be Sequence: got 0.9"),
    ({"keep_best": True, "splits": ["train"]}, "keep_best needs a validation split"),
    ({"keep_best": 1}, "keep_best must be bool"),
    ({"splits": ["valid"]}, "splits must be one of train, validation, test: got 'valid'"),
    ({"splits": "train"}, "splits must be Sequence: got 'train'"),
    ({"splits": [3]}, "splits must be one of train, validation, test: got 3"),
    ({"evaluate_at": [1.5]}, "evaluate_at must be a whole number"),
    ({"evaluate_at": 3}, "evaluate_at must be Iterable or None: got 3"),
    ({"schedule": "cosine"}, "schedule must be LRScheduler or None"),
    ({"checkpoint": 3}, "checkpoint must be str or PathLike or None: got 3"),
    ({"checkpoint": "."}, "path must be that of a file: got the folder '.'"),
    ({"checkpoint": "no/such/run.pt", "checkpoint_every": 0}, "every must be a whole number of at least 1: got 0"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[str(options) for options, _ in REFUSED])
def test_arguments_out_of_range_are_refused_before_any_step(data, options, message):
    model = network()
    with pytest.raises((ValueError, TypeError), match=message):
        train(data, model=model, **options)
    assert torch.equal(weights(model), weights(network()))


NO_NUMBERS = {
    "one for each example": lambda outputs, y: nn.functional.cross_entropy(outputs, y, reduction="none"),
    "a Python number": lambda outputs, y: 1.0,
    "a pair": lambda outputs, y: (outputs.sum(), y),
    "nothing": lambda outputs, y: None,
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_a_loss_that_is_no_number_is_refused(data, case):
    """Breaks if a vector is left to ``backward``, or None to an attribute."""
    model = network()
    for ask in (lambda loss: train(data, model=model, loss=loss, evaluate_at=[]), lambda loss: evaluate(
        model, data.test, loss
    )):  # fmt: skip
        with pytest.raises(TypeError, match="loss must return a tensor of one number, as a mean over the batch: got"):
            ask(NO_NUMBERS[case])
    assert torch.equal(weights(model), weights(network()))


def test_a_split_of_more_inputs_than_targets_and_a_model_without_weights_are_refused(data):
    """Breaks if the surplus is left out in silence, or told by an index out of range in the middle of training."""
    with pytest.raises(ValueError, match="test must have as many inputs as targets: got 3 and 2"):
        dataclasses.replace(data, test=Split(torch.ones(3, 2), torch.zeros(2).long()))
    nothing = Split(data.test.x[:0], data.test.y[:0])
    with pytest.raises(ValueError, match="data must have training examples"):
        train(dataclasses.replace(data, train=nothing))
    with pytest.raises(ValueError, match="model must have parameters to train: got Identity"):
        fit(nn.Identity(), data, OPTIMIZERS["sgd"](network()), batch_size=2, steps=1)


def test_every_tensor_that_fit_makes_is_on_the_models_device(data):
    # Under a default device of "meta" a tensor made without a device cannot be mixed with the model's.
    model = network()
    with torch.device("meta"):
        history = fit(model, data, OPTIMIZERS["momentum"](model), batch_size=16, steps=5, decays=[0.9], progress=False)
    assert pd.DataFrame(history.rows).loss.notna().all()
    assert torch.equal(weights(model), weights(train(data, "momentum", steps=5)[0]))


def test_auto_device_prefers_cuda_then_mps_then_cpu(monkeypatch):
    for cuda, mps, expected in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert device("auto").type == expected


def test_training_prints_nothing_where_there_is_no_terminal(data, capfd):
    model = network()
    fit(model, data, OPTIMIZERS["sgd"](model), batch_size=16, steps=5)
    assert capfd.readouterr() == ("", "")

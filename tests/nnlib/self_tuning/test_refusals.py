"""Batches and shapes of which a layer, a regulariser or a tuner could make a wrong number are refused by name."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from nnlib.self_tuning import (
    LSTM,
    ColorJitter,
    Cutout,
    Dropout,
    EmbeddingDropout,
    Hyperparameter,
    Ridge,
    SelfTuner,
    Setting,
    activation_penalty,
    respond,
    set_values,
    slowness_penalty,
)
from nnlib.training import Split

DECAY = Hyperparameter("decay", (0, None), 0.1)


class Transformer(nn.Module):
    """Sequences (B, T, 3), with a parameter for each place."""

    def __init__(self, length=5):
        super().__init__()
        self.into, self.out = nn.Linear(3, 4), nn.Linear(4, 2)
        self.place = nn.Parameter(torch.zeros(length, 4))
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x):
        return self.out(self.encoder(self.into(x) + self.place).mean(1))


def tuner(network, variant="delta"):
    loss = lambda outputs, y, values: mse_loss(outputs, y)  # noqa: E731
    return SelfTuner(respond(network, [DECAY]), loss, mse_loss, lr=0.01, variant=variant)


@pytest.mark.parametrize("variant", ["delta", "stn"])
@pytest.mark.parametrize("examples", [8, 5])
def test_sequences_whose_examples_stand_first_are_refused_also_where_there_are_as_many_as_times(variant, examples):
    """Breaks if the answers of 5 examples are given to 5 times, or torch's own error comes through."""
    batch = Split(torch.ones(examples, 5, 3), torch.ones(examples, 2))
    with pytest.raises(
        ValueError, match=rf"layer 'into' .* {examples} examples: .*, got \({examples}, 5, 3\); let seq"
    ):
        tuner(Transformer(), variant).training_step(batch)


def test_texts_with_as_many_times_as_examples_are_none_of_these():
    """The second axis of token ids (T, B) counts examples."""

    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.lstm, self.out = nn.Embedding(7, 3), LSTM(3, 4), nn.Linear(4, 7)

        def forward(self, ids):
            return self.out(self.lstm(self.words(ids))[0])

    ids = torch.arange(25).view(5, 5) % 7
    loss = lambda outputs, y, *_: nn.functional.cross_entropy(outputs.flatten(0, 1), y.flatten())  # noqa: E731
    assert SelfTuner(respond(Text(), [DECAY]), loss, loss, lr=0.01).training_step(Split(ids, ids)) > 0


SHAPES = {  # a layer, what it is given where there are 6 examples, and what it says
    "linear": (nn.Linear(3, 2), torch.ones(5, 3), r"layer '0' .* 6 examples.* \(\.\.\., B, features\), got \(5, 3\)"),
    "linear, no axis": (nn.Linear(3, 2), torch.ones(3), r"got \(3,\)"),
    "convolution": (nn.Conv2d(3, 2, 1), torch.ones(3, 4, 4), r"\(B, channels, H, W\), got \(3, 4, 4\)"),
    "embedding": (nn.Embedding(7, 2), torch.ones(6, 5, dtype=torch.int64), r"\(\.\.\., B\), got \(6, 5\)"),
    "lstm": (LSTM(3, 2), torch.ones(6, 5, 3), r"\(T, B, features\), got \(6, 5, 3\)"),
    "lstm's features": (LSTM(3, 2), torch.ones(5, 6, 4), r"x must have shape \(T, B, 3\)"),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_layer_that_has_not_the_examples_of_its_response_is_named(kind):
    """Breaks if six answers are spread over what is no axis of examples."""
    layer, x, message = SHAPES[kind]
    model = respond(nn.Sequential(layer), [DECAY])
    model.place(torch.zeros(6, 1), torch.ones(6, 1))
    with pytest.raises(ValueError, match=message):
        model(x)


X = torch.rand(6, 3, 4, 4)
WRONG = {
    "channel dropout": (lambda: Dropout("s", "channel")(X[0]), "x must have 4 axes for dropout by channel"),
    "variational dropout": (lambda: Dropout("s", "variational")(X), "x must have 3 axes for dropout by variational"),
    "examples": (lambda: Dropout("s")(X[:5]), "x must have the 6 examples of the values along axis 0"),
    "cutout": (lambda: Cutout("s", "s")(X[0]), r"x must have shape \(B, C, H, W\)"),
    "jitter": (lambda: ColorJitter("s")(X[0]), r"x must have shape \(B, C, H, W\)"),
    "saturation": (lambda: ColorJitter(saturation="s")(X[:, :2]), "x must be images of 1 or 3 channels"),
    "hue": (lambda: ColorJitter(hue="s")(X[:, :1]), "x must be images of 3 channels"),
    "ids": (
        lambda: EmbeddingDropout("s", 9)(torch.ones(2, 5).long(), torch.ones(2, 6, 3)),
        "ids must be whole numbers",
    ),
    "no times": (lambda: activation_penalty(torch.ones(0, 2, 3)), r"h must have shape \(T, B, H\)"),
    "no batch": (lambda: activation_penalty(torch.ones(2, 3)), r"h must have shape \(T, B, H\)"),
    "one time": (lambda: slowness_penalty(torch.ones(1, 2, 3)), "h must have two times or more"),
}


@pytest.fixture
def strengths(monkeypatch):
    """Values of six examples, for every regulariser that is made."""
    monkeypatch.setattr("nnlib.self_tuning.setting.Setting.value", lambda self, name, like: torch.full((6,), 0.1))


@pytest.mark.usefixtures("strengths")
@pytest.mark.parametrize("kind", WRONG)
def test_what_a_regulariser_or_a_penalty_cannot_take_is_refused_by_name(kind):
    """Breaks if a mask of another shape is broadcast, or a mean over nothing is not a number."""
    call, message = WRONG[kind]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: set_values(Dropout("s"), {"s": "a"}), TypeError, "the value 's' must be a number"),
        (lambda: Setting({"s": 0.5}), TypeError, r"values must be tensors, by name: got 0\.5 for 's'"),
        (lambda: respond(nn.Linear(2, 1), [DECAY, "rate"]), TypeError, "hypers must be a list of Hyperparameter"),
        (lambda: respond(nn.Linear(2, 1), [DECAY], fixed={"a": None}), TypeError, "the fixed 'a' must be a number"),
        (lambda: Hyperparameter("a", (0, 1, 2), 0.5), ValueError, "range must be a pair"),
        (lambda: Hyperparameter("a", ("x", 1), 0.5), TypeError, "each end of the range of 'a' must be a number"),
        (
            lambda: Hyperparameter("a", (-1.7e308, 1.7e308), 0.5),
            ValueError,
            "the range of 'a' must go from low to high",
        ),
        (lambda: respond(nn.Linear(2, 1), [Hyperparameter("a", (0, None), 1e39)]), ValueError, "of torch.float32"),
        (lambda: tuner(nn.Linear(2, 1)).loss([]), ValueError, "batches must hold at least one pair"),
        (lambda: tuner(nn.Linear(2, 1)).training_step((torch.ones(0, 2),) * 2), ValueError, "must have an example"),
        (lambda: tuner(nn.Linear(2, 1)).load_state_dict(dict(LACKING)), ValueError, "it lacks batches, generators"),
    ],
)
def test_what_is_inside_lists_and_dicts_is_looked_at_too(call, error, message):
    with pytest.raises(error, match=message):
        call()


LACKING = {"variant": "delta", "hyperparameters": ["decay"], "kinds of optimizers": ["SGD", "SGD", "Adam"]}
ONES, ROWS = torch.ones(4, dtype=torch.float64), torch.eye(4, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("train", "validation", "error", "message"),
    [
        (Split(ROWS, ONES[:3]), Split(ROWS, ONES), ValueError, r"train\.y must have shape \(n\), where n = 4"),
        (Split(ROWS, ONES), Split(ROWS[:, :1], ONES), ValueError, r"validation\.x must have shape .* d = 2"),
        (Split(ROWS, ONES), Split(ROWS.float(), ONES.float()), TypeError, "train and validation must have one dtype"),
        (Split(ROWS / 0, ONES), Split(ROWS, ONES), ValueError, r"train\.x must hold finite numbers"),
    ],
)
def test_the_splits_of_a_ridge_regression_fit(train, validation, error, message):
    with pytest.raises(error, match=message):
        Ridge(train, validation)


def test_a_penalty_that_rounding_makes_nothing_of_is_refused_where_the_data_do_not_determine_w():
    """Breaks with a bare LinAlgError, or with weights of 1e16: two equal columns of data."""
    split = Split(torch.ones(4, 2, dtype=torch.float64), ONES)
    with pytest.raises(ValueError, match="lam must be larger"):
        Ridge(split, split).best_response(-60.0)

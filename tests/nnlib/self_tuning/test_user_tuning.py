"""What other people do with a tuner: their loops, data, networks and mistakes; right, or refused by name."""

import copy
import io
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from nnlib.modes import NonFiniteLoss
from nnlib.self_tuning import (
    LSTM,
    Cutout,
    Dropout,
    EmbeddingDropout,
    Hyperparameter,
    InputNoise,
    SelfTuner,
    replay,
    respond,
    set_values,
    train,
)
from nnlib.self_tuning.hyperparameters import Space
from nnlib.self_tuning.setting import Regularizer
from nnlib.training import Split

RATE = Hyperparameter("rate", (0, 1), 0.3)


class Watch(Regularizer):
    """Notes the values that training uses."""

    def __init__(self, name):
        super().__init__(name)
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append(self.value(self.names[0], x))
        return x


def data(n=40):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(0))
    return Split(x, (x.sum(1) > 0).long())


def parts():
    x, y = data()
    return Split(x[:20], y[:20]), Split(x[20:], y[20:])


def made(network=None, hypers=(RATE,), variant="delta", **options):
    if network is None:
        torch.manual_seed(3)
        network = nn.Sequential(Dropout("rate"), nn.Linear(6, 5), nn.Dropout(0.2), nn.ReLU(), nn.Linear(5, 2))
    model = respond(network, list(hypers), gate_std=0.1)
    options = {"lr": 0.05, "hyper_lr": 0.05, "train_steps": 2, "seed": 1} | options
    return SelfTuner(model, lambda f, y, values: cross_entropy(f, y), cross_entropy, variant=variant, **options)


# Discrete values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_whole_start_is_used_as_it_is(dtype):
    """Breaks if rounding puts a start below the whole number that it is: 873 of these 4,950 in single precision."""
    for high in range(2, 101):
        hypers = [Hyperparameter(str(k), (0, high), k, discrete=True) for k in range(1, high)]
        space = Space(hypers)
        used = space.used(space.unconstrained({h.name: h.init for h in hypers}, dtype=dtype))
        assert [used[h.name].item() for h in hypers] == [h.init for h in hypers]
    for k in (1, 7, 1000):
        for ends in ((0, None), (None, 2000), (None, None), (-1000, 1001)):
            space = Space([Hyperparameter("k", ends, k, discrete=True)])
            assert space.used(space.unconstrained({"k": k}, dtype=dtype))["k"].item() == k


def test_a_discrete_value_is_rounded_down_and_stays_inside_its_range():
    space = Space([Hyperparameter("k", (0, 24), 2, discrete=True)])
    for u, whole in ((30.0, 23), (-30.0, 0), (torch.tensor(2.9 / 21.1).log().item(), 2)):
        assert space.used(torch.tensor([u]))["k"].item() == whole


@pytest.mark.parametrize("variant", ["delta", "stn"])
def test_training_history_replay_and_a_constant_use_the_same_whole_numbers(variant):
    """Breaks if a history holds what training did not use: replay then trained at 2.5 and the tuner at 2."""
    torch.manual_seed(0)
    network = nn.Sequential(Watch("k"), nn.Linear(6, 2))
    hypers = [Hyperparameter("k", (0, 9), 4, discrete=True)]
    tuner = made(network, hypers, variant, hyper_lr=0.4, sigma=1e-6, entropy=None)
    history = tuner.fit(*parts(), steps=40, batch_size=5)
    watched = tuner.model.network[0].seen
    values = [row["k"] for row in history]
    assert all(value == int(value) for value in values) and len(set(values)) > 1
    calls = [v.flatten()[0].item() for v in watched]
    per_step = len(calls) // 40
    assert calls[:: 2 * per_step] == values
    plain = nn.Sequential(Watch("k"), nn.Linear(6, 2))
    train(plain, tuner.training_loss, data(), replay(history, ["k"]), steps=40, lr=0.1, batch_size=5)
    assert [v.item() for v in plain[0].seen][::2] == values
    assert [v.item() for v in tuner.model.ordinary({"k": 2.9})(data().x).detach()[:0]] == []
    assert tuner.model.ordinary({"k": 2.9})[0].setting.values["k"].item() == 2


@pytest.mark.parametrize(("asked", "used"), [((2.9, 1.9), (2, 1)), ((1.5, 0.5), (1, 0)), ((3.0, 2.0), (3, 2))])
def test_cutout_uses_whole_numbers_wherever_its_values_come_from(asked, used):
    """Breaks if a search trains at other squares than a tuner."""
    found = []
    for length, holes in (asked, used):
        network = nn.Sequential(Cutout("length", "holes"))
        set_values(network, {"length": length, "holes": holes}, torch.Generator().manual_seed(0))
        found.append(network(torch.ones(50, 1, 8, 8)))
    assert torch.equal(*found)


# Rates at their ends and beyond


def rated(kind):
    if kind == "lstm":
        return LSTM(3, 4, drop_connect="rate"), (torch.ones(5, 2, 3),)
    if kind == "embedding":
        return EmbeddingDropout("rate", 9), (torch.arange(6).view(3, 2), torch.ones(3, 2, 4))
    return Dropout("rate", kind), (torch.ones(3, 4, 5, 5) if kind == "channel" else torch.ones(3, 4, 5),)


@pytest.mark.parametrize("kind", ["element", "channel", "variational", "embedding", "lstm"])
def test_at_rate_one_nothing_is_kept_and_at_zero_all(kind):
    """Breaks by 0/0: torch's dropout gives zeros at 1."""
    layer, inputs = rated(kind)
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    set_values(layer, {"rate": 1.0}, torch.Generator().manual_seed(0))
    out = layer(*inputs)
    if kind == "lstm":
        alone = copy.deepcopy(layer)
        alone.weight_hh_l0.data.zero_()
        torch.testing.assert_close(out[0], alone.eval()(*inputs)[0])
        out = out[0]
    else:
        assert not out.any()
    out.sum().backward()
    assert inputs[-1].grad.isfinite().all()
    set_values(layer, {"rate": 0.0})
    out, plain = layer(*inputs), copy.deepcopy(layer).eval()(*inputs)
    torch.testing.assert_close(*((t[0] for t in (out, plain)) if kind == "lstm" else (out, plain)))


@pytest.mark.parametrize("value", [1.5, -0.5, math.nan, math.inf])
@pytest.mark.parametrize("kind", ["element", "embedding", "lstm"])
def test_a_rate_beyond_its_ends_is_refused_wherever_it_comes_from(kind, value):
    layer, _ = rated(kind)
    network = nn.Sequential(nn.Linear(6, 2), layer)
    with pytest.raises(ValueError, match=r"'rate' must be (from 0 to 1|a number in .*): got"):
        set_values(network, {"rate": value})
    with pytest.raises(ValueError, match=r"'rate' must be (from 0 to 1|a number in )"):
        respond(network, [Hyperparameter("other", (0, 1), 0.5)], fixed={"rate": value})
    with pytest.raises(ValueError, match=r"'rate' must be (from 0 to 1|a number in .*): got"):
        train(network, mse_loss, data(), {"rate": value}, steps=1, lr=0.1, batch_size=4)
    with pytest.raises(ValueError, match="'noise' must be from 0 to inf"):
        set_values(nn.Sequential(InputNoise("noise")), {"noise": -1.0})


@pytest.mark.parametrize("ends", [(0, 2), (-1, 1), (0, None), (None, None)])
def test_a_range_that_a_regulariser_cannot_have_is_refused(ends):
    with pytest.raises(ValueError, match="'rate' must be from 0 to 1 in this network"):
        made(hypers=[Hyperparameter("rate", ends, 0.5)])


@pytest.mark.parametrize("variant", ["delta", "stn"])
def test_a_rate_that_saturates_trains_on(variant):
    """Breaks by NaN where a perturbation carries a rate to 1, in 8 to 31 steps before."""
    watch = Watch("rate")
    network = nn.Sequential(watch, Dropout("rate"), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    tuner = made(network, [Hyperparameter("rate", (0, 1), 0.999)], variant, sigma=5.0, entropy=None, clip=1.0)
    history = tuner.fit(*parts(), steps=60, batch_size=10)
    assert all(math.isfinite(row["train_loss"]) for row in history)
    assert max(seen.max() for seen in tuner.model.network[0].seen) == 1
    with torch.no_grad():
        for u, end in ((40.0, 1.0), (-200.0, 0.0)):
            tuner.u.fill_(u)
            assert tuner.values["rate"] == end
            plain = tuner.model.ordinary(tuner.values).train()
            assert plain[1].setting.values["rate"] == end
            assert plain(data().x).isfinite().all()


# Numbers that are none


@pytest.mark.parametrize("variant", ["delta", "stn"])
@pytest.mark.parametrize("bad", ["train", "validation"])
def test_a_nan_is_named_by_its_data_and_nothing_has_moved(variant, bad):
    tuner = made(variant=variant)
    tuner.fit(*parts(), steps=4, batch_size=5)
    before = copy.deepcopy({"model": tuner.model.state_dict(), "u": tuner.u, "rho": tuner.rho})
    broken = Split(torch.full((5, 6), math.nan), torch.zeros(5, dtype=torch.int64))
    step = tuner.training_step if bad == "train" else tuner.validation_step
    with pytest.raises(
        NonFiniteLoss, match="the training loss is nan at step 5" if bad == "train" else "the validation"
    ):
        step(broken)
    after = {"model": tuner.model.state_dict(), "u": tuner.u, "rho": tuner.rho}
    assert all(torch.equal(after["model"][key], tensor) for key, tensor in before["model"].items())
    assert torch.equal(after["u"], before["u"]) and torch.equal(after["rho"], before["rho"])
    assert math.isfinite(tuner.training_step(Split(*(t[:5] for t in data()))))


# Resuming


def saved(tuner):
    file = io.BytesIO()
    torch.save(tuner.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("variant", ["delta", "stn"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("first", [7, 20])
def test_a_run_in_two_parts_or_from_a_file_is_the_run(variant, optimizer, first):
    """Breaks if anything that changes is left out: momenta, masks, torch's own dropout, the order of examples."""

    def tuner():
        found = made(variant=variant, optimizer=optimizer)
        torch.manual_seed(5)
        return found

    options = {"batch_size": 6}
    whole = tuner()
    rows = whole.fit(*parts(), steps=30, **options)
    split = tuner()
    again = split.fit(*parts(), steps=first, **options)
    state = saved(split)
    again += split.fit(*parts(), steps=30 - first, **options)
    assert again == rows
    other = made(variant=variant, optimizer=optimizer, seed=99)
    torch.manual_seed(77)
    other.load_state_dict(state)
    later = other.fit(*parts(), steps=30 - first, **options)
    assert later == [row for row in rows if row["step"] > first]
    for mine, theirs in zip(other.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_state_of_another_tuner_is_refused():
    state = made().state_dict()
    with pytest.raises(ValueError, match="variant delta, not stn"):
        made(variant="stn").load_state_dict(state)
    with pytest.raises(ValueError, match="hyperparameters"):
        made(hypers=[RATE, Hyperparameter("decay", (0, None), 0.1)]).load_state_dict(state)
    with pytest.raises(ValueError, match="kinds of optimizers"):
        made(optimizer=torch.optim.Adam).load_state_dict(state)
    with pytest.raises(ValueError, match="variant None"):
        made().load_state_dict({})


# Data


def loader(split, **options):
    return DataLoader(TensorDataset(*split), batch_size=5, **options)


@pytest.mark.parametrize("form", [tuple, list, lambda batch: Split(*batch)])
def test_pairs_of_any_kind_are_batches(form):
    """Breaks on what a DataLoader gives: 'list' object has no attribute 'x'."""
    train_data, validation = parts()
    forever = [map(form, itertools.chain.from_iterable(itertools.repeat(loader(d)))) for d in (train_data, validation)]
    rows = made().fit(*forever, steps=12)
    splits = [itertools.chain.from_iterable(itertools.repeat([Split(*b) for b in loader(d)])) for d in parts()]
    assert len(rows) == 6
    torch.manual_seed(3)
    assert math.isfinite(made().fit(*splits, steps=12)[-1]["train_loss"])
    assert math.isfinite(made().loss(list(loader(validation))))


def test_batches_that_end_are_named():
    train_data, validation = parts()
    with pytest.raises(ValueError, match="training batches ended after 4 of 20 steps"):
        made().fit(loader(train_data), validation, steps=20, batch_size=5)
    with pytest.raises(ValueError, match="validation batches ended after"):
        made().fit(train_data, list(loader(validation)), steps=20, batch_size=5)
    with pytest.raises(ValueError, match="training batches ended after 2 of 3 steps"):
        train(nn.Linear(6, 2), lambda f, y, v: cross_entropy(f, y), list(loader(train_data))[:2], {}, steps=3, lr=0.1)


@pytest.mark.parametrize("batch", [torch.ones(4, 6), (torch.ones(4, 6),), {"x": 1}, (1, 2, 3), "xy"])
def test_what_is_no_pair_is_named(batch):
    with pytest.raises(ValueError, match=r"training batch must be a pair \(x, y\)"):
        made().fit(iter([batch]), parts()[1], steps=1, batch_size=5)
    with pytest.raises(ValueError, match=r"validation batch must be a pair"):
        made().validation_step(batch)


def test_a_state_is_a_copy():
    """Breaks if a state changes with the tuner that it was taken from."""
    tuner = made()
    tuner.fit(*parts(), steps=4, batch_size=5)
    state = tuner.state_dict()
    expected = tuner.fit(*parts(), steps=8, batch_size=5)
    for _ in range(2):
        other = made(seed=9)
        other.load_state_dict(state)
        assert other.fit(*parts(), steps=8, batch_size=5) == expected


def test_an_end_of_the_range_is_what_training_would_use_there():
    model = made(hypers=[RATE, Hyperparameter("k", (0, 5), 2, discrete=True)]).model
    for given, used in (({"rate": 1.0, "k": 5}, (1, 4)), ({"rate": 0.0, "k": 0}, (0, 0))):
        values = model.ordinary(given)[0].setting.values
        assert (values["rate"].item(), values["k"].item()) == used
    with pytest.raises(ValueError, match="'rate' must lie inside"):
        model.ordinary({"rate": 1.1, "k": 2})


@pytest.mark.parametrize("bad", [{"train": None}, {"validation": 3}, {"steps": 2.5}, {"batch_size": 2.5}, {"steps": 0}])
def test_what_fit_cannot_use_is_named(bad):
    train_data, validation = parts()
    good = {"train": train_data, "validation": validation, "steps": 4, "batch_size": 5}
    with pytest.raises((ValueError, TypeError), match=f"{next(iter(bad))} must be"):
        made().fit(**(good | bad))


@pytest.mark.parametrize("name", ["step", "rate", "train_loss", "sigma rate"])
def test_an_evaluation_does_not_take_the_place_of_what_a_row_holds(name):
    with pytest.raises(ValueError, match=f"names of its own: {name}"):
        made().fit(*parts(), steps=2, batch_size=5, evaluate=lambda tuner: {name: 0.0})


# Networks


class Partly(nn.Module):
    """One layer is never called, and one is frozen."""

    def __init__(self):
        super().__init__()
        self.a, self.unused, self.fixed, self.head = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.fixed.requires_grad_(False)
        self.a.bias.requires_grad_(False)

    def forward(self, x):
        return self.head(self.fixed(self.a(x).tanh()).tanh())


@pytest.mark.parametrize("variant", ["delta", "stn"])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_layers_that_are_never_called_or_frozen_stay_as_they_are(variant, clip):
    """Breaks with 'differentiated Tensor at index 3', or if a frozen layer's copy is trained."""
    torch.manual_seed(0)
    network = Partly()
    before = copy.deepcopy(network.state_dict())
    tuner = made(network, variant=variant, clip=clip)
    tuner.fit(*parts(), steps=10, batch_size=5)
    plain = tuner.model.ordinary(tuner.values)
    flags = {name: p.requires_grad for name, p in network.named_parameters()}
    assert {name: p.requires_grad for name, p in plain.named_parameters()} == flags
    after = plain.state_dict()
    for name in ("fixed.weight", "fixed.bias", "a.bias"):
        if name.startswith("fixed"):
            assert torch.equal(after[name], before[name])
    assert not torch.equal(after["a.weight"], before["a.weight"])
    with pytest.raises(ValueError, match="no Linear"):
        made(Partly().requires_grad_(False))


def hooked():
    layer = nn.Linear(6, 2)
    layer.register_forward_hook(lambda module, args, output: output * 2)
    return layer


@pytest.mark.parametrize("make", [hooked, lambda: nn.utils.weight_norm(nn.Linear(6, 2))])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_layer_with_hooks_is_refused_by_name(make):
    """Breaks if the hooks are dropped in silence."""
    with pytest.raises(ValueError, match=r"layer '0' has no response: .*hook"):
        made(nn.Sequential(make()))


def test_a_network_that_calls_no_layer_is_named():
    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 2)

        def forward(self, x):
            return x[:, :2]

    with pytest.raises(ValueError, match="depends on nothing that is trained"):
        made(Nothing()).fit(*parts(), steps=2, batch_size=5)

"""Both tuners: their steps against slow ones, absent gradients, the ridge optimum, a schedule saved and replayed."""

import math

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from nnlib.models import MLP
from nnlib.modes import NonFiniteLoss
from nnlib.self_tuning import Dropout, Hyperparameter, SelfTuner, replay, respond, squared_norm, train
from nnlib.training import Split
from tenpapers.data import load
from tenpapers.self_tuning.workloads import diabetes
from tests.devices import same_without_a_default_device
from tests.oracles import self_tuning as oracle

assert_close = torch.testing.assert_close
RATE = Hyperparameter("rate", (0, 0.9), 0.1)
DECAY = Hyperparameter("decay", (0, None), 0.05)


def on_ridge(start, variant, lr, *, steps, sigma=0.5, entropy=None, hyper_lr=0.03, seed=0, optimizer=torch.optim.Adam):
    """The library's tuner on the diabetes problem, full batches; lambda is its own coordinate."""
    problem = diabetes()
    layer = nn.Linear(10, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    model = respond(
        layer, [Hyperparameter("lam", (None, None), start)], gate_std=0.1 if variant == "stn" else 0, seed=seed
    )

    def half(outputs, y):
        return mse_loss(outputs, y) / 2

    def loss(outputs, y, values):
        return half(outputs, y) + (values["lam"].exp() * model.squared_norm()).mean() / 2

    options = {"lr": lr, "hyper_lr": hyper_lr, "sigma": sigma, "entropy": entropy, "seed": seed}
    tuner = SelfTuner(model, loss, half, variant=variant, optimizer=optimizer, **options)
    # Each example 10 times, each time with its own perturbation: the response's slope is then less noisy.
    parts = [Split(part.x.repeat(10, 1), part.y.repeat(10)[:, None]) for part in (problem.train, problem.validation)]
    batches = [iter(lambda part=part: part, None) for part in parts]
    return tuner, pd.DataFrame(tuner.fit(*batches, steps=steps))


def small(variant="delta", dtype=torch.float64, device=None, **options):
    where = {"device": device, "dtype": dtype}
    network = nn.Sequential(Dropout("rate"), nn.Linear(6, 5, **where), nn.ReLU(), nn.Linear(5, 3, **where))
    model = respond(network, [RATE, DECAY], gate_std=0.3)

    def loss(outputs, y, values):
        return cross_entropy(outputs, y) + (values["decay"] * model.squared_norm()).mean()

    return SelfTuner(model, loss, cross_entropy, variant=variant, lr=0.05, **options)


def batch(dtype=torch.float64):
    x = torch.arange(48, dtype=torch.float32, device="cpu").sin().view(8, 6).to(dtype)
    return Split(x, torch.arange(8, device="cpu") % 3)


def without_dropout(variant, **options):
    """A tuner whose network draws no masks, a loss for one example, and what the tuner will draw for a batch of 8."""
    model = respond(MLP((6, 5, 3), dtype=torch.float64), [RATE, DECAY], gate_std=0.3)

    def loss(outputs, y, values):
        return cross_entropy(outputs, y) + (values["decay"] * model.squared_norm()).mean()

    def of_one(outputs, y, values, squares):
        return cross_entropy(outputs, y) + values["decay"] * squares

    options = {"lr": 0.05, "optimizer": torch.optim.SGD, "seed": 4} | options
    tuner = SelfTuner(model, loss, cross_entropy, variant=variant, **options)
    eps = torch.randn(8, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return tuner, of_one, eps


def stepped(parameters, loss):
    """These parameters after a step of gradient descent at rate 0.05."""
    gradients = torch.autograd.grad(loss, parameters)
    return [(p - 0.05 * g).detach() for p, g in zip(parameters, gradients, strict=True)]


@pytest.mark.parametrize("variant", ["delta", "stn"])
def test_a_training_step_goes_down_the_losses_of_its_paper(variant):
    """Breaks if an example were trained at another's values, or the response in another network than the linear one."""
    tuner, loss, eps = without_dropout(variant)
    model, (x, y) = tuner.model, batch()
    base, response = model.base_parameters(), model.response_parameters()
    now = tuner.u.detach().expand(8, -1)
    u = now + 0.5 * eps
    if variant == "stn":
        values = {hyper.name: hyper.value(u[:, i]) for i, hyper in enumerate(model.space.hypers)}
        expected = stepped([*base, *response], oracle.perturbed_loss(model, loss, x, y, u, values))
    else:
        values = {hyper.name: hyper.value(now[:, i]) for i, hyper in enumerate(model.space.hypers)}
        expected = stepped(base, oracle.perturbed_loss(model, loss, x, y, now, values))
        kept = [p.detach().clone() for p in base]
        for p, moved in zip(base, expected, strict=True):
            p.data.copy_(moved)
        values = {hyper.name: hyper.value(u[:, i]) for i, hyper in enumerate(model.space.hypers)}
        expected += stepped(response, oracle.linear_loss(model, loss, x, y, u, values))
        for p, start in zip(base, kept, strict=True):
            p.data.copy_(start)
    tuner.training_step(batch())
    assert_close([p.detach() for p in [*base, *response]], expected)


@pytest.mark.parametrize("variant", ["delta", "stn"])
def test_a_validation_step_has_the_gradient_of_the_perturbed_loss_less_the_entropy(variant):
    """Breaks if the sign of the entropy, its weight or a factor of sigma is wrong."""
    tuner, _, eps = without_dropout(variant, entropy=0.2)
    u, rho = (p.detach().clone().requires_grad_() for p in (tuner.u, tuner.rho))
    sigma = (1 + rho.exp()).log()
    assert_close(sigma.detach(), torch.full((2,), 0.5, dtype=torch.float64))
    perturbed = oracle.perturbed_loss(tuner.model, lambda f, y, *_: cross_entropy(f, y), *batch(), u + sigma * eps, {})
    expected = torch.autograd.grad(perturbed - 0.2 * sigma.log().sum(), (u, rho))
    loss = tuner.validation_step(batch())
    assert loss == pytest.approx(perturbed.item())
    assert_close((tuner.u.grad, tuner.rho.grad), expected)


@pytest.mark.parametrize("variant", ["delta", "stn"])
def test_the_gradient_of_all_weights_that_move_together_is_clipped_at_once(variant):
    tuner, _, _ = without_dropout(variant, clip=1e-3)
    before = [[p.detach().clone() for p in part()] for part in parts(tuner)]
    tuner.training_step(batch())
    moves = [
        torch.cat([(p - q).flatten() for p, q in zip(part(), old, strict=True)]).norm().item()
        for part, old in zip(parts(tuner), before, strict=True)
    ]
    longest = 0.05 * 1e-3
    together = [math.hypot(*moves)] if variant == "stn" else moves
    assert together == pytest.approx([longest] * len(together), rel=1e-3)


def parts(tuner):
    return tuner.model.base_parameters, tuner.model.response_parameters


@pytest.mark.parametrize("variant", ["delta", "stn"])
def test_the_training_loss_has_no_gradient_to_the_hyperparameters(variant):
    tuner = small(variant)
    u, rho = tuner.u.clone(), tuner.rho.clone()
    inner, losses = tuner.training_loss, []

    def watched(outputs, y, values):
        assert not any(value.requires_grad for value in values.values())
        losses.append(inner(outputs, y, values))
        found = torch.autograd.grad(losses[-1], (tuner.u, tuner.rho), allow_unused=True, retain_graph=True)
        assert found == (None, None)  # no path at all, not a path of gradient zero
        return losses[-1]

    tuner.training_loss = watched
    tuner.training_step(batch())
    for loss in losses:
        assert (
            torch.autograd.grad(loss, tuner.u, allow_unused=True, retain_graph=True) == (None,)
            if loss.grad_fn
            else True
        )
    assert tuner.u.grad is None and torch.equal(tuner.u, u) and torch.equal(tuner.rho, rho)


def test_the_validation_step_moves_hyperparameters_only_and_applies_no_dropout():
    tuner = small(entropy=None)
    tuner.training_step(batch())
    weights = [p.clone() for p in tuner.model.parameters()]
    u, losses = tuner.u.clone(), []
    for _ in range(2):
        tuner.hyper_optimizer.param_groups[0]["lr"] = 0.0
        losses.append(tuner.validation_step(batch()))
    assert losses[0] == losses[1]
    tuner.hyper_optimizer.param_groups[0]["lr"] = 0.1
    tuner.validation_step(batch())
    assert not torch.equal(tuner.u, u)
    assert all(torch.equal(p, q) for p, q in zip(tuner.model.parameters(), weights, strict=True))


def test_the_hypergradient_is_that_of_the_validation_loss_along_the_response():
    tuner = small(entropy=None)
    x, y = batch()

    def at(u):
        return cross_entropy(tuner.model.ordinary(tuner.space.values(u)).eval()(x), y).item()

    h, u = 1e-5, tuner.u.detach().clone()
    expected = [(at(u + h * e) - at(u - h * e)) / (2 * h) for e in torch.eye(2, dtype=u.dtype)]
    tuner.validation_step(batch())
    assert_close(tuner.u.grad, torch.tensor(expected, dtype=u.dtype), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("entropy", "rises"), [(0.0, False), (1.0, True)])
def test_entropy_holds_the_scale_up_and_without_it_the_scale_shrinks(entropy, rises):
    _, history = on_ridge(-2.7, "delta", 0.003, steps=400, sigma=1.0, entropy=entropy)
    assert (history["sigma lam"].iloc[-1] > 1.1) if rises else (history["sigma lam"].iloc[-1] < 0.9)


@pytest.mark.parametrize(("start", "steps"), [(-6.0, 1600), (2.0, 1000)])
def test_delta_stn_reaches_the_ridge_optimum_from_both_sides(start, steps):
    _, history = on_ridge(start, "delta", 0.005, steps=steps, hyper_lr=0.06)
    problem, end = diabetes(), history.lam.iloc[-60:].mean()
    optimum = problem.optimum()

    def excess(lam):
        return float(
            problem.validation_loss(problem.best_response(lam))
            - problem.validation_loss(problem.best_response(optimum))
        )

    assert abs(end - optimum) < 0.6 and excess(end) < 0.1 * excess(start)


def test_stn_diverges_from_far_away_where_delta_stn_does_not():
    options = {"lr": 0.1, "steps": 300, "optimizer": torch.optim.SGD}
    with pytest.raises(NonFiniteLoss):
        on_ridge(-60.0, "stn", **options)
    on_ridge(-60.0, "delta", **options)


def test_a_saved_schedule_comes_back_the_same_and_is_replayed_step_by_step(tmp_path):
    digits = load("digits").to(dtype=torch.float64)
    network = nn.Sequential(nn.Flatten(), Dropout("rate"), *MLP((64, 8, 10), dtype=torch.float64).layers[1:])
    model = respond(network, [RATE])
    tuner = SelfTuner(model, lambda f, y, values: cross_entropy(f, y), cross_entropy, lr=0.05, hyper_lr=0.1)
    history = pd.DataFrame(tuner.fit(digits.train, digits.validation, steps=60, batch_size=50))
    history.to_csv(tmp_path / "schedule.csv", index=False)
    again = pd.read_csv(tmp_path / "schedule.csv")
    pd.testing.assert_frame_equal(history, again)
    seen = []
    plain = model.ordinary(tuner.values)

    def loss(outputs, y, values):
        seen.append(values["rate"])
        return cross_entropy(outputs, y)

    train(plain, loss, digits.train, replay(again.to_dict("records"), ["rate"]), steps=60, lr=0.05, batch_size=50)
    assert seen == history.rate.repeat(5).tolist() and len(set(seen)) == 12


def test_a_history_that_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match="lacks rate"):
        replay([{"step": 5}], ["rate"])
    with pytest.raises(ValueError, match="rise"):
        replay([{"step": 5, "rate": 0.1}, {"step": 5, "rate": 0.2}], ["rate"])


@pytest.mark.parametrize("variant", ["delta", "stn"])
def test_a_seed_fixes_the_whole_run(variant):
    part = Split(batch().x, batch().y)
    torch.manual_seed(0)
    first = pd.DataFrame(small(variant, seed=3).fit(part, part, steps=20, batch_size=4))
    torch.manual_seed(0)
    second = pd.DataFrame(small(variant, seed=3).fit(part, part, steps=20, batch_size=4))
    pd.testing.assert_frame_equal(first, second)


def test_warm_up_keeps_the_hyperparameters_where_they_start():
    history = pd.DataFrame(small(warm_up=10).fit(batch(), batch(), steps=20, batch_size=4))
    assert history.step.tolist() == [10, 15, 20]
    assert history.rate.iloc[0] == pytest.approx(0.1)


@pytest.mark.parametrize("variant", ["delta", "stn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_device_and_dtype_come_from_the_network(variant, dtype):
    def compute():
        torch.manual_seed(0)
        tuner = small(variant, dtype, "cpu")
        tuner.fit(batch(dtype), batch(dtype), steps=10, batch_size=4)
        plain = tuner.model.ordinary(tuner.values)
        return {"u": tuner.u.detach(), "weights": [p.detach() for p in plain.parameters()], "norm": squared_norm(plain)}

    found = same_without_a_default_device(compute)
    assert all(t.dtype == dtype for t in found["weights"])


@pytest.mark.parametrize("bad", [{"variant": "x"}, {"sigma": 0.0}, {"train_steps": 0}, {"entropy": -1.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        small(**bad)


def test_a_diverging_run_is_stopped_and_names_the_step():
    tuner = small()
    with pytest.raises(NonFiniteLoss, match="step 1"):
        tuner.training_step(Split(batch().x * math.inf, batch().y))

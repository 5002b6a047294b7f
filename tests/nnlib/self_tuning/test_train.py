"""Ordinary training at given values: every step by hand, schedules, the step at which a loss is no number; batches."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from nnlib.modes import NonFiniteLoss
from nnlib.self_tuning import Dropout, set_values, train
from nnlib.self_tuning.batches import batches, mean_loss
from nnlib.training import Split


def data(n=12):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Split(x, x.sum(1, keepdim=True))


def network():
    torch.manual_seed(0)
    return nn.Sequential(Dropout("rate"), nn.Linear(3, 1, dtype=torch.float64))


def penalised(model):
    return lambda outputs, y, values: mse_loss(outputs, y) + values["decay"] * model[1].weight.square().sum()


def test_every_step_is_that_of_a_loop_by_hand():
    """Breaks if values come a step late, a mask is drawn twice, or the gradient is clipped after the step."""
    schedule = lambda step: {"rate": 0.1 + 0.01 * step, "decay": 0.1 * step}  # noqa: E731
    trained, by_hand = network(), network()
    rows = train(
        trained, penalised(trained), data(), schedule, steps=9, lr=0.1, batch_size=4, clip=0.5, evaluate_every=4, seed=3
    )

    masks = torch.Generator().manual_seed(3)
    stream = batches(data(), 4, torch.Generator().manual_seed(3))
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(9):
        x, y = next(stream)
        set_values(by_hand, schedule(step), masks)
        loss = penalised(by_hand)(by_hand(x), y, schedule(step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    for p, q in zip(trained.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert [row["step"] for row in rows] == [4, 8, 9]
    assert [row["train_loss"] for row in rows] == pytest.approx([losses[3], losses[7], losses[8]])
    assert [row["rate"] for row in rows] == pytest.approx([0.13, 0.17, 0.18])


def test_a_loss_that_is_no_number_is_named_by_its_first_step_and_not_by_the_next_look():
    model, seen = network(), []

    def loss(outputs, y, values):
        value = mse_loss(outputs, y)
        seen.append(value.item())
        return value

    with pytest.raises(NonFiniteLoss) as error:
        train(model, loss, data(), {"rate": 0.0}, steps=500, lr=1e3, batch_size=4, evaluate_every=500)
    first = 1 + next(i for i, value in enumerate(seen) if not math.isfinite(value))
    assert error.value.step == first == len(seen) < 500
    assert f"step {first}" in str(error.value)


def test_what_is_evaluated_joins_the_row_and_masks_are_drawn_on_where_training_was():
    alone, watched = network(), network()
    options = {"steps": 6, "lr": 0.1, "batch_size": 4, "evaluate_every": 2}
    train(alone, penalised(alone), data(), {"rate": 0.5, "decay": 0.0}, **options)

    def measure(model):
        return {"whole": mean_loss(model, [data()], mse_loss)}

    rows = train(watched, penalised(watched), data(), {"rate": 0.5, "decay": 0.0}, evaluate=measure, **options)
    assert torch.equal(alone[1].weight, watched[1].weight)
    assert rows[-1]["whole"] == pytest.approx(mean_loss(watched, [data()], mse_loss))


def test_batches_use_up_the_data_before_they_begin_again():
    part = Split(torch.arange(10), torch.arange(10))
    stream = batches(part, 3, torch.Generator().manual_seed(0))
    rounds = [torch.cat([next(stream).x for _ in range(3)]).tolist() for _ in range(2)]
    assert all(len(set(one)) == 9 for one in rounds) and rounds[0] != rounds[1]
    for size in (None, 0, 11):
        with pytest.raises((ValueError, TypeError), match="batch_size must be a whole number from 1 to 10"):
            next(batches(part, size, torch.Generator()))


def test_a_mean_over_unequal_batches_is_that_over_all():
    model = nn.Linear(3, 1, dtype=torch.float64)
    x, y = data()
    cut = [Split(x[:2], y[:2]), Split(x[2:], y[2:])]
    assert mean_loss(model, cut, mse_loss) == pytest.approx(mse_loss(model(x), y).item())

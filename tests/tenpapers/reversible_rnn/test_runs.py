"""Claims about the chapter's experiments and figures: they run, count what they say, and refuse other names."""

import math

import pytest
import torch

from nnlib.modes import NonFiniteLoss
from nnlib.reversible_rnn import InformationBuffer
from tenpapers.reversible_rnn import repeat, translation_runs
from tenpapers.reversible_rnn.figures import BUFFERS, GATES, STARTS, bit_by_bit, reversal_errors, words
from tenpapers.reversible_rnn.repeat import capacity, repeat_batch, repeat_task
from tests.devices import same_without_a_default_device


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("length", [10, 70, 200])
def test_words_of_the_explorer_are_those_that_a_buffer_fills(bits, length):
    """Gates at their limit, random digits to forget, two multiplications a step."""
    generator = torch.Generator().manual_seed(0)
    h, z = torch.full((500,), 987_654_321), torch.full((500,), 1024 >> bits)
    buffer = InformationBuffer(h, bits)
    for _ in range(2 * length):
        h = buffer.multiply(h, z) + torch.randint(2**22, (500,), generator=generator)
    assert 1 + len(buffer.saved) == words(bits, length)


def test_a_word_of_32_bits_holds_less_than_half_of_one_of_64():
    assert words(3, 70, word=32) == math.ceil(140 / 7) > 2 * words(3, 70)


@pytest.mark.parametrize("gate", list(GATES))
@pytest.mark.parametrize("start", STARTS)
def test_rows_of_the_bit_explorer_mirror_each_other_only_with_the_buffer(gate, start):
    """Breaks if the bits drawn are too few for the state or the buffer, or the mirror is off by a step."""
    with_buffer, without = (bit_by_bit(gate, start, buffer) for buffer in BUFFERS)
    state, words = (torch.as_tensor(trace.z) for trace in with_buffer.data)
    assert torch.equal(state, torch.cat([state[:6], state[:5].flip(0)]))
    assert torch.equal(words[:5], words[6:].flip(0)) and state.max() <= 1
    place = 2.0 ** torch.arange(23, -1, -1, dtype=torch.float64)
    assert (state[0].double() @ place).item() == round(start * 2**23) % 2**24  # two complements of a negative one
    assert torch.as_tensor(without.data[0].z).max() >= 2  # some bit is wrong
    assert "every bit is back" in with_buffer.layout.meta["summary"]


def test_errors_of_a_reversal_in_floating_point_grow_and_grow_faster_where_more_is_forgotten():
    errors = {bits: reversal_errors(bits, torch.float64) for bits in (1, 3)}
    for found in errors.values():
        assert 0 < found[0] < 1e-14 and found[-1] > 1e4 * found[0]
    assert errors[3][29] > 100 * errors[1][29]
    single = reversal_errors(1, torch.float32)
    assert single[0] > 1e5 * errors[1][0]


def test_a_state_of_whole_numbers_holds_the_logarithm_of_its_values():
    assert capacity(4, 0.5) == 4 * 23 and capacity(4, 1.0) == 4 * 24


def test_tokens_to_repeat_are_drawn_alike_on_every_device():
    found = same_without_a_default_device(
        lambda: {"tokens": repeat_batch(6, 3, torch.Generator("cpu").manual_seed(0), "cpu")}
    )
    (tokens,) = found["tokens"]
    assert tokens.shape == (7, 3) and 0 <= tokens.min() and tokens.max() < 8


def test_training_stops_at_the_first_loss_that_is_no_number(monkeypatch):
    """A step with such a loss would spoil the weights, and the run would go on."""
    monkeypatch.setattr(repeat, "cross_entropy", lambda *a, **k: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(NonFiniteLoss, match="nan at step 1"):
        repeat_task(steps=3)
    monkeypatch.setattr(translation_runs, "_loss", lambda *a, **k: torch.tensor(math.inf, requires_grad=True))
    with pytest.raises(NonFiniteLoss, match="inf at step 1"):
        translation_runs.trained("small", "GRU", "hidden")


def test_a_few_steps_of_the_repeat_task_have_its_fields():
    found = repeat_task(0, 4, steps=2, dtype="float64")
    assert found["bits asked"] == 12 < found["bits held"] and 0 <= found["last"] <= 1


@pytest.mark.parametrize("context", ["hidden", "slice + embedding"])
def test_a_translation_run_measures_quality_and_memory(context):
    """A few steps of the smallest size; with all states read, an encoder can't keep less than them."""
    found = translation_runs.translation("small", "RevGRU", context, 3, steps=2)
    assert 1 < found["perplexity"] < 1000 and 0 <= found["BLEU"] <= 100
    assert (found["encoder paper"] > 1) == (context != "hidden")
    assert found["decoder ideal"] > found["decoder paper"] > 1 and found["decoder held"] > 1


def test_the_papers_size_of_translation_trains():
    model, data = translation_runs.trained("paper", "GRU", "hidden", None, steps=1)
    assert model.encoder.hidden_size == 300 and len(data.test.x) == 500


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match="size must be one of small, laptop, paper: got 'huge'"):
        translation_runs.pairs("huge")

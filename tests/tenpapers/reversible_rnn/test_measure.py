"""Claims about the chapter's experiments and figures: they run, count what they say, and refuse other names."""

import math
from dataclasses import replace

import pytest
import torch

from nnlib.modes import NonFiniteLoss
from nnlib.reversible_rnn import KINDS, InformationBuffer, LanguageModel
from nnlib.training import Split
from tenpapers.reversible_rnn import repeat, translation
from tenpapers.reversible_rnn.evaluate import bleu, nats, train_language_model
from tenpapers.reversible_rnn.figures import BUFFERS, GATES, STARTS, bit_by_bit, words
from tenpapers.reversible_rnn.language import memory, trained
from tenpapers.reversible_rnn.repeat import capacity, repeat_batch, repeat_task
from tenpapers.reversible_rnn.reversal import reversal
from tenpapers.reversible_rnn.workloads import SIZES, pairs
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
    errors = {bits: [row["error"] for row in reversal(bits, "float64")] for bits in (1, 3)}
    for found in errors.values():
        assert 0 < found[0] < 1e-14 and found[-1] > 1e4 * found[0]
    assert errors[3][29] > 100 * errors[1][29]
    single = reversal(1, "float32")
    assert single[0]["error"] > 1e5 * errors[1][0]


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
    monkeypatch.setattr(translation, "_loss", lambda *a, **k: torch.tensor(math.inf, requires_grad=True))
    with pytest.raises(NonFiniteLoss, match="inf at step 1"):
        translation.trained("small", "GRU", "hidden")


def test_a_few_steps_of_the_repeat_task_have_its_fields():
    found = repeat_task(0, 4, steps=2, dtype="float64")
    assert found["bits asked"] == 12 < found["bits held"] and 0 <= found["last"] <= 1


@pytest.mark.parametrize("context", ["hidden", "slice + embedding"])
def test_a_translation_run_measures_quality_and_memory(context):
    """A few steps of the smallest size; with all states read, an encoder can't keep less than them."""
    found = translation.translation("small", "RevGRU", context, 3, steps=2)
    assert 1 < found["perplexity"] < 1000 and 0 <= found["BLEU"] <= 100
    assert (found["encoder paper"] > 1) == (context != "hidden")
    assert found["decoder ideal"] > found["decoder paper"] > 1 and found["decoder held"] > 1


def test_the_papers_size_of_translation_trains():
    model, data = translation.trained("paper", "GRU", "hidden", None, steps=1)
    assert model.encoder.hidden_size == 300 and len(data.test.x) == 500


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match="size must be one of small, laptop, paper: got 'huge'"):
        pairs("huge")
    with pytest.raises(ValueError, match=r"size must be one of small, .*: got 'huge'"):
        trained("huge", "GRU", None)


def test_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary():
    model = LanguageModel(7, "RevGRU", 8)
    model.weight.data.zero_()
    text = torch.arange(300) % 7
    assert math.exp(nats(model, Split(text[:-1], text[1:]))) == pytest.approx(7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_periodic_text_is_learned_with_the_state_carried_over_windows(kind):
    """Windows of 4 of a period of 6 with a repeated letter: what comes next is known only from the window before."""
    text = torch.tensor([0, 1, 2, 0, 1, 3] * 80)
    split = Split(text[:-1], text[1:])
    model = LanguageModel(4, kind, 16, 8, bits=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    history = train_language_model(model, split, optimizer, steps=150, batch_size=4, window=4)
    assert [row["step"] for row in history] == list(range(1, 151)) and history[0]["loss"] > 1
    assert nats(model, split, batch_size=4, window=4) < 0.1


def test_the_learning_rate_falls_only_after_the_held_out_text_got_worse():
    """A text to hold out that is noise gets worse as another is learned; breaks if compared with the last."""
    text = torch.tensor([0, 1, 2, 3] * 30)
    noise = torch.randint(4, (200,), generator=torch.Generator().manual_seed(0))
    rates = []
    for held_out in (None, Split(noise[:-1], noise[1:])):
        model = LanguageModel(4, "GRU", 8)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        options = {"steps": 160, "batch_size": 2, "window": 10, "decay": False, "patience": 2}
        train_language_model(model, Split(text[:-1], text[1:]), optimizer, validation=held_out, **options)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == 1.0 and rates[1] <= 1 / 4


def test_memory_of_a_model_falls_as_less_may_be_forgotten():
    x = torch.randint(9, (100, 4), generator=torch.Generator().manual_seed(0))
    found = [memory(LanguageModel(9, "RevGRU", 16, bits=bits), x) for bits in (1, 3)]
    assert found[0]["forgotten"] < found[1]["forgotten"] < 3
    assert found[0]["paper"] >= found[1]["paper"] and found[0]["ideal"] > found[0]["paper"] > 1
    assert found[0]["held"] > found[0]["with output"] > 1
    assert set(memory(LanguageModel(9, "LSTM", 16), x).values()) == {None}


def test_the_papers_sizes_run_for_a_few_steps(monkeypatch):
    """The same code and fields at a tenth of the width; breaks if SGD or its rule is not wired up."""
    small = SIZES["paper"].model | {"hidden_size": 114, "embedding_size": 64}
    monkeypatch.setitem(
        SIZES, "paper", replace(SIZES["paper"], book="pride_prejudice", vocabulary=500, model=small, window=10)
    )
    model, data = trained("paper", "RevLSTM", 3, steps=2)
    assert nats(model, Split(data.test.x[:400], data.test.y[:400])) < math.log(500) + 0.5


def test_bleu_is_100_for_the_reference_and_0_for_other_words():
    """Breaks if sacrebleu tokenises again, or references and translations change places."""
    references = ["and god said , let there be light", "in the beginning was the word"]
    assert bleu(references, references) == 100
    assert bleu(["a b c d e f g", "h i j k l m"], references) == 0
    assert 0 < bleu(["and god said , let there be", "in the beginning was a word"], references) < 100
    with pytest.raises(ValueError, match="got 1 and 2"):
        bleu(references[:1], references)


def test_without_forgetting_a_network_cannot_repeat():
    """A live run of the shortest sequences; breaks if the gate could forget where 0 bits are allowed."""
    never, learned = (repeat_task(bits, 5, seed=0)["accuracy"] for bits in (0, 3))
    assert never < 0.75 and learned > 0.95


def test_training_lowers_the_perplexity():
    """Breaks if a model is measured untrained, or on another text than that it is trained on."""
    losses = []
    for steps in (0, 30):
        model, data = trained("small", "RevGRU", 3, steps=steps, dtype="float64")
        losses.append(nats(model, data.test, window=20))
    assert losses[1] < losses[0] - 0.5 and losses[1] < math.log(75)

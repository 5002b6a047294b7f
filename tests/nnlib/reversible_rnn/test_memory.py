"""Claims about what is kept: the paper's bits against its own worst case, and bytes against tensors one can count."""

import pytest
import torch
from torch import nn

from nnlib.reversible_rnn import RevGRU, RevLSTM, held_bytes, paper_memory


@pytest.mark.parametrize(("bits", "words"), [(1, 3), (2, 6), (3, 8), (5, 13)])
def test_worst_case_of_the_paper_is_that_of_gates_at_their_limit(bits, words):
    """70 steps, every gate at its limit, one buffer for both halves: the number of words a unit, flushes and all."""
    rnn, x = RevGRU(2, 8, bits=bits), torch.zeros(70, 3, 2)
    with torch.no_grad():
        for weight in rnn.weights:
            weight.zero_()
        for i in (1, 5):  # the biases of the gates z
            rnn.weights[i][:4] = -100.0
        # A state that is never zero, so that digits are pushed that are not.
        for i in (3, 7):
            rnn.weights[i][:] = torch.tensor([0.3, -0.7, 1.1, 0.9])
    memory = paper_memory(rnn, x)
    assert memory.stored == 64 * 3 * 4 * words + 140
    assert memory.ideal == pytest.approx(bits * 140 * 3 * 4)


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_without_forgetting_nothing_is_stored_but_one_word_a_unit(kind):
    rnn, x = kind(3, 8, 2, bits=0), torch.ones(100, 4, 3)
    memory = paper_memory(rnn, x)
    parts = 2 if kind is RevLSTM else 1
    assert memory.states == 32 * 2 * 100 * 4 * 8 * parts
    assert memory.ideal == 0
    assert memory.stored == 64 * 4 * 4 + 2 * 2 * 100 * parts


def test_bytes_held_are_those_of_last_states_and_buffers():
    """Breaks if a tensor of a step is kept; the words and the first and last states can be counted by hand."""
    T, B, H = 200, 5, 16
    rnn, x = RevGRU(4, H, bits=2), torch.ones(T, B, 4)
    held = held_bytes(rnn, x)
    (buffer,) = rnn.plan.buffers.values()
    assert held.activations == 8 * B * (2 * H + H // 2 * (1 + len(buffer.saved)))
    assert held.output == 4 * T * B * H and held.inputs == 4 * T * B * 4
    assert held.with_all == held.activations + held.output + held.inputs


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_storing_every_state_holds_at_least_the_states_and_grows_with_the_length(kind):
    small, large = (held_bytes(kind(4, 16, reversible=False), torch.ones(T, 5, 4)).activations for T in (50, 100))
    assert small > 4 * 50 * 5 * 16
    assert large == pytest.approx(2 * small, rel=0.05)


def test_torch_gru_can_be_measured_too():
    held = held_bytes(nn.GRU(4, 16), torch.ones(50, 5, 4))
    assert held.activations > 0 and held.output == 4 * 50 * 5 * 16


def test_units_that_are_kept_for_attention_count_as_stored_and_as_not_forgotten():
    """32 bits for each of them at each step; breaks if a slice for attention were free."""
    rnn, x = RevGRU(3, 8, bits=3, keep=2), torch.ones(50, 4, 3)
    free, kept = paper_memory(RevGRU(3, 8, bits=3, keep=0), x), paper_memory(rnn, x)
    slices = 32 * 2 * 50 * 4
    assert kept.states == free.states and kept.stored > slices
    output, _ = rnn(x)
    assert output.shape[-1] == 2
    assert kept.ideal > slices

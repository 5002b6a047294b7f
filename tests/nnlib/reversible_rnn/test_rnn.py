"""Claims about RevGRU and RevLSTM: outputs and gradients are those of ordinary autograd on the same arithmetic."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nnlib.reversible_rnn import ReversalError, RevGRU, RevLSTM
from tests.oracles import reversible_rnn as oracle

close = torch.testing.assert_close


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gradients(outputs, leaves):
    """Of a fixed mixture of all outputs."""
    total = sum((t * draw(*t.shape, seed=i).to(t.dtype)).sum() for i, t in enumerate(outputs))
    return torch.autograd.grad(total, leaves)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bits", [0, 2, None])
def test_gru_has_the_outputs_and_gradients_of_autograd_through_the_same_fixed_point_numbers(bits, layers):
    """Breaks if a bit of the reversal is lost, or a gradient misses a path between the halves or the layers."""
    rnn = RevGRU(3, 6, layers, bits=bits, seed=1, dtype=torch.float64)
    x, h = draw(40, 2, 3).requires_grad_(), 0.5 * draw(layers, 2, 6, seed=1)
    h.requires_grad_()
    leaves = [x, h, *rnn.weights]
    ours, slow = rnn(x, h), oracle.gru(rnn, x, h)
    for a, b in zip(ours, slow, strict=True):
        close(a, b, rtol=0, atol=0)
    close(gradients(ours, leaves), gradients(slow, leaves), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bits", [2, None])
def test_lstm_has_the_outputs_and_gradients_of_autograd_through_the_same_fixed_point_numbers(bits, layers):
    rnn = RevLSTM(3, 6, layers, bits=bits, seed=1, dtype=torch.float64)
    x, h, c = draw(30, 2, 3).requires_grad_(), 0.5 * draw(layers, 2, 6, seed=1), draw(layers, 2, 6, seed=2)
    leaves = [x, h.requires_grad_(), c.requires_grad_(), *rnn.weights]
    output, last = rnn(x, (h, c))
    ours, slow = (output, *last), oracle.lstm(rnn, x, h, c)
    for a, b in zip(ours, slow, strict=True):
        close(a, b, rtol=0, atol=0)
    close(gradients(ours, leaves), gradients(slow, leaves), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_storing_every_state_gives_the_same_outputs_and_gradients(kind, dtype):
    """With all kinds of dropout; breaks if a mask is drawn anew on the way back, or its gradient is left out."""
    rnn, found = kind(4, 8, 3, bits=2, dropout=0.3, weight_drop=0.3, dtype=dtype), []
    x = draw(30, 3, 4, dtype=dtype).requires_grad_()
    for reversible in (True, False):
        rnn.reversible = reversible
        output, _ = rnn(x, generator=torch.Generator().manual_seed(5))
        found.append((output.detach(), gradients([output], [x, *rnn.weights])))
    assert torch.equal(found[0][0], found[1][0])
    close(found[0][1], found[1][1], rtol=1e-9 if dtype == torch.float64 else 1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "layers", "dtype"), [(RevGRU, 2, torch.float32), (RevGRU, 1, torch.float64), (RevLSTM, 1, torch.float32)]
)
def test_a_thousand_steps_run_backwards_to_the_first_state(kind, layers, dtype):
    """The backward pass checks its end itself; breaks if a gate is computed otherwise under autograd."""
    rnn = kind(4, 8, layers, bits=3, dropout=0.3, weight_drop=0.3, dtype=dtype)
    output, _ = rnn(draw(1000, 3, 4, dtype=dtype))
    assert all(buffer.saved for buffer in rnn.plan.buffers.values())
    output[-1].sum().backward()
    assert all(weight.grad.isfinite().all() for weight in rnn.weights)


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_packed_sequences_give_what_each_sequence_gives_alone(kind):
    """Outputs, last states and gradients; breaks if an example changes after its end, or the order is lost."""
    rnn = kind(3, 6, 2, bits=2, dtype=torch.float64)
    lengths, x = torch.tensor([4, 9, 9, 1]), draw(9, 4, 3)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    output, last = rnn(packed)
    torch.manual_seed(0)
    reference = (nn.GRU if kind is RevGRU else nn.LSTM)(3, 6, dtype=torch.float64)
    assert torch.equal(output.batch_sizes, reference(packed)[0].batch_sizes)
    padded, found = pad_packed_sequence(output)
    assert torch.equal(found, lengths)
    together = torch.autograd.grad(padded.square().sum(), list(rnn.weights))
    total = [torch.zeros_like(w) for w in rnn.weights]
    for i, n in enumerate(lengths):
        alone, state = rnn(x[:n, i : i + 1])
        close(alone[:, 0], padded[:n, i], rtol=1e-6, atol=1e-6)  # a matrix product of another size may round otherwise
        pairs = [(state, last)] if kind is RevGRU else zip(state, last, strict=True)
        for a, b in pairs:
            close(a[:, 0], b[:, i], rtol=1e-6, atol=1e-6)
        for t, g in zip(total, torch.autograd.grad(alone.square().sum(), list(rnn.weights)), strict=True):
            t += g
    close(together, tuple(total), rtol=1e-4, atol=1e-5)


def test_batch_first_is_the_transpose():
    rnn, x = RevGRU(3, 6, dtype=torch.float64), draw(5, 2, 3)
    output, last = rnn(x)
    rnn.batch_first = True
    first, again = rnn(x.transpose(0, 1))
    assert torch.equal(first.transpose(0, 1), output) and torch.equal(last, again)


def test_a_sequence_in_two_windows_is_the_sequence():
    """The state passes from one call to the next without loss."""
    rnn, x = RevGRU(3, 6, 2, bits=3), draw(20, 2, 3, dtype=torch.float32)
    whole, last = rnn(x)
    first, state = rnn(x[:12])
    second, end = rnn(x[12:], state)
    close(torch.cat([first, second]), whole, rtol=0, atol=2**-11)  # the buffer starts anew: products round otherwise
    close(end, last, rtol=0, atol=2**-11)


def test_changed_weights_between_the_passes_are_an_error_and_no_wrong_gradient():
    rnn = RevGRU(3, 6, bits=2)
    output, _ = rnn(draw(100, 2, 3, dtype=torch.float32))
    rnn.weights[0].data.add_(0.01)
    with pytest.raises(ReversalError):
        output.sum().backward()


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_check_names_the_first_step_that_is_restored_differently(kind):
    """The input of step 30 is changed between the passes: the later steps are restored, and it is named."""
    rnn = kind(3, 6, 2, bits=2, check=True)
    x = draw(100, 2, 3, dtype=torch.float32)
    output, _ = rnn(x)
    x.data[30] += 1.0
    with pytest.raises(ReversalError, match=r"undoing step 30 of 100: h2 of layer 0"):
        output.sum().backward()


def test_check_finds_nothing_where_nothing_is_wrong():
    rnn = RevGRU(3, 6, 2, bits=2, dropout=0.3, check=True)
    output, _ = rnn(draw(100, 2, 3, dtype=torch.float32))
    output.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in rnn.weights)


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
@pytest.mark.parametrize("keep", [0, 2, 4])
def test_units_that_are_shown_and_stored_have_the_gradients_of_autograd(kind, keep):
    """Breaks if a stored unit is restored from the wrong step, or its gradient does not reach h1."""
    x, found = draw(40, 3, 4).requires_grad_(), []
    for reversible in (True, False):
        rnn = kind(4, 8, 2, bits=2, keep=keep, reversible=reversible, dtype=torch.float64)
        output, last = rnn(x)
        assert output.shape == (40, 3, keep)
        outputs = [output, last] if kind is RevGRU else [output, *last]
        found.append((output.detach(), gradients(outputs, [x, *rnn.weights])))
    close(found[0][0], found[1][0], rtol=0, atol=0)
    close(found[0][1], found[1][1], rtol=1e-9, atol=1e-9)


def test_units_that_are_stored_need_no_buffer():
    """Breaks if what the output already holds were kept in the buffer a second time."""
    forgotten = []
    for keep in (None, 4):
        rnn = RevGRU(4, 8, bits=2, keep=keep)
        rnn.count = True
        rnn(draw(60, 3, 4, dtype=torch.float32))
        forgotten.append(sum(buffer.forgotten for buffer in rnn.plan.buffers.values()))
    assert 0.3 < forgotten[1] / forgotten[0] < 0.7  # h2 alone, where all of h1 is kept


def test_a_second_backward_pass_is_refused():
    rnn = RevGRU(3, 6)
    output, _ = rnn(draw(5, 2, 3, dtype=torch.float32))
    output.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backwards once"):
        output.sum().backward()


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_stored_bits_grow_with_what_may_be_forgotten_and_stay_below_the_states(bits):
    rnn, T = RevGRU(4, 16, bits=bits), 200
    rnn(draw(T, 3, 4, dtype=torch.float32))
    (buffer,) = rnn.plan.buffers.values()
    worst = 64 * 3 * 8 * (2 + 2 * T * bits // 52) + 2 * T  # two multiplications a step share the words
    assert buffer.stored_bits() <= worst < 32 * T * 3 * 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_size": 7}, "hidden_size must be even: got 7"),
        ({"bits": 11}, "bits must be a whole number from 0 to 10: got 11"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\): got 1.0"),
    ],
)
def test_sizes_and_rates_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RevGRU(**({"input_size": 3, "hidden_size": 6} | arguments))


def test_inputs_that_cannot_be_reversed_are_refused():
    rnn = RevGRU(3, 6)
    with pytest.raises(TypeError, match=r"input must be torch\.float32"):
        rnn(torch.zeros(4, 2, 3, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match="3 features"):
        rnn(torch.zeros(4, 2, 5))
    with pytest.raises(ValueError, match=r"h_0 must have shape .* \(1, 2, 6\)"):
        rnn(torch.zeros(4, 2, 3), torch.zeros(1, 3, 6))
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="autocast"):
        rnn(torch.zeros(4, 2, 3))
    with pytest.raises(ValueError, match="fixed-point format"):
        rnn(torch.zeros(4, 2, 3), torch.full((1, 2, 6), 1e9))


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_no_tensor_is_made_without_a_device(kind):
    x = draw(6, 2, 3, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.device("meta"):
        rnn = kind(3, 6, 2, bits=2, device="cpu")
        output, _ = rnn(x)
        output.sum().backward()
    assert output.device.type == "cpu" and all(w.grad.device.type == "cpu" for w in rnn.weights)


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
def test_check_mode_is_silent_on_a_whole_sequence_and_names_the_step_that_differs(kind):
    """Breaks if the comparison is with the wrong step, or compares nothing."""
    for spoiled in (None, 17):
        rnn, x = kind(3, 6, 2, bits=2, check=True), draw(40, 2, 3, dtype=torch.float32)
        output, _ = rnn(x)
        if spoiled is None:
            output.sum().backward()
            continue
        x.data[spoiled] += 1.0  # .data: autograd's own check of changed tensors does not see it
        with pytest.raises(ReversalError, match=r"undoing step 17 of 40: .* of layer 0 was restored differently"):
            output.sum().backward()


@pytest.mark.parametrize("kind", [RevGRU, RevLSTM])
@pytest.mark.parametrize("keep", [0, 2, 4])
def test_units_kept_for_attention_are_restored_from_the_output_with_the_gradients_of_autograd(kind, keep):
    """With gradients at the kept units of every step; breaks if they are restored from another step or buffered too."""
    rnn, found = kind(3, 8, 2, bits=2, keep=keep, check=True, dtype=torch.float64), []
    lengths, x = torch.tensor([30, 12]), draw(30, 2, 3)
    for reversible in (True, False):
        rnn.reversible = reversible
        output, last = rnn(pack_padded_sequence(x, lengths))
        assert output.data.shape == (42, keep)
        output = [pad_packed_sequence(output)[0]] if keep else []
        last = last if isinstance(last, tuple) else (last,)
        found.append(([*output, *last], gradients([*output, *last], list(rnn.weights))))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        assert torch.equal(a, b)
    close(found[0][1], found[1][1], rtol=1e-9, atol=1e-10)


def test_a_number_of_kept_units_out_of_range_is_refused():
    with pytest.raises(ValueError, match="keep must be a whole number from 0 to 3: got 4"):
        RevGRU(3, 6, keep=4)


def test_inputs_that_are_not_finite_are_refused():
    """Not-a-number would become some whole number and corrupt the states in silence."""
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="must be finite"):
            RevGRU(3, 6)(torch.full((4, 2, 3), bad))
